#!/usr/bin/env bash
# Prepares for building and running gst-face: installs Debian packages with apt-get, then fetches
# ONNX Runtime, model weights and test media with scripts/fetch.py.
# Safe to run again at any time; quick if nothing is missing.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(
    # to build
    build-essential pkg-config
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
    libgstrtspserver-1.0-dev libcairo2-dev libpango1.0-dev
    # to run
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-base-apps
    gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly
    gstreamer1.0-libav gstreamer1.0-rtsp gstreamer1.0-x fonts-dejavu-core
    # to read HEIC and AVIF, which is optional
    libheif1
    # to fetch weights, and for Python programs that read the metadata
    python3 python3-pip python3-gst-1.0
)
# The contents of the packages above, for systems with another package manager.
modules=(
    'gstreamer-1.0 >= 1.22' 'gstreamer-base-1.0 >= 1.22' 'gstreamer-app-1.0 >= 1.22'
    'gstreamer-video-1.0 >= 1.22' 'gstreamer-pbutils-1.0 >= 1.22' 'gstreamer-check-1.0 >= 1.22'
    'gstreamer-rtsp-server-1.0 >= 1.22' cairo pango pangocairo
)
programs=(cc pkg-config gst-launch-1.0 gst-discoverer-1.0 python3)

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: error: %s\n' "$1" >&2
    shift
    if [ $# -gt 0 ]; then printf '  %s\n' "$@" >&2; fi
    exit 1
}

# Sets `missing` to the packages that are not installed, with a single query.
find_missing() {
    local installed package
    # shellcheck disable=SC2016 # the ${...} are dpkg-query's own
    installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
    missing=()
    for package in "${packages[@]}"; do
        case $'\n'"$installed"$'\n' in
        *$'\n'"installed $package"$'\n'*) ;;
        *) missing+=("$package") ;;
        esac
    done
}

# Runs apt-get quietly; its output is shown only when it fails.
apt() {
    local log status=0
    log=$(mktemp)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -y -o DPkg::Lock::Timeout=120 "$@" </dev/null >"$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        printf 'setup: apt-get %s failed; it said:\n' "$1" >&2
        tail -n 15 "$log" | sed 's/^/    /' >&2
    fi
    rm -f "$log"
    return "$status"
}

debian_packages() {
    local missing
    find_missing
    if [ ${#missing[@]} -eq 0 ]; then return; fi

    say "Debian packages missing: ${missing[*]}"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            fail 'these packages are needed, and installing them requires root or sudo.' \
                'Install them, then run `make setup` again:' \
                "apt-get install ${missing[*]}"
        fi
        # Ask for the password here, if at all: apt-get runs with its output hidden.
        if ! sudo -n true 2>/dev/null && ! { [ -t 0 ] && sudo -v; }; then
            fail 'these packages are needed, but sudo does not let this user install them.' \
                'Install them, then run `make setup` again:' \
                "sudo apt-get install ${missing[*]}"
        fi
        as_root=(sudo)
    fi
    say 'updating the package lists (apt-get update)'
    apt update || say 'continuing with the current package lists'
    say "installing ${#missing[@]} package(s) with apt-get install, this can take some minutes"
    apt install --no-install-recommends "${missing[@]}" ||
        fail 'the Debian packages could not be installed.' \
            'Fix the problem that apt-get reports above (network, package sources, disk space),' \
            'then run `make setup` again. Needed:' "${missing[*]}"
    find_missing
    if [ ${#missing[@]} -gt 0 ]; then
        fail "apt-get ended without an error but these are still not installed: ${missing[*]}"
    fi
    say 'Debian packages installed'
}

other_system() {
    local lacking=() program module
    for program in "${programs[@]}"; do
        command -v "$program" >/dev/null || lacking+=("$program")
    done
    for module in "${modules[@]}"; do
        pkg-config --exists "$module" 2>/dev/null || lacking+=("${module// /}")
    done
    if [ ${#lacking[@]} -gt 0 ]; then
        fail 'this is not a Debian-like system, and some requirements were not found:' \
            "${lacking[*]}" \
            'Install the equivalents of these Debian packages, then run `make setup` again:' \
            "${packages[*]}"
    fi
    say 'note: not a Debian-like system, continuing with the GStreamer, cairo and pango found by pkg-config'
}

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    debian_packages
else
    other_system
fi

if ! command -v cargo >/dev/null; then
    if [ -x "${HOME:-}/.cargo/bin/cargo" ]; then
        say "note: cargo is not on PATH; it is in $HOME/.cargo/bin"
    else
        rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
        say "note: cargo not found; building needs Rust $rust or later with cargo on PATH"
    fi
fi

python=${PYTHON:-python3}
command -v "$python" >/dev/null || fail "$python not found; install Python 3.9 or later"
"$python" scripts/fetch.py
exec "$python" scripts/models.py --if-possible
