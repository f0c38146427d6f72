#!/usr/bin/env bash
# install.sh install|uninstall: gst-face for the current user.
# Installed files are listed in DATA/gst-face/installed.txt; uninstalling removes
# those and nothing else. Files are replaced by renaming, because a running
# program may have the old ones mapped.
set -euo pipefail
shopt -s nullglob

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf '%s: error: %s\n' "${action:-install}" "$*" >&2
    exit 1
}

action=${1:-}
bin=${BIN_DIR:-${CARGO_TARGET_DIR:-target}/release}
: "${HOME:?HOME must be set}"
# Relative values are to be ignored (XDG Base Directory Specification).
data=${XDG_DATA_HOME:-}
case $data in /*) ;; *) data=$HOME/.local/share ;; esac
data=${data%/}
plugins=$data/gstreamer-1.0/plugins
own=$data/gst-face
programs=$HOME/.local/bin
manifest=$own/installed.txt

sources=()
targets=()
modes=()
add() {
    [ -f "$1" ] || fail "$1 is not there; run \`make build\` first"
    sources+=("$1")
    targets+=("$2")
    modes+=("$3")
}

put() { # SOURCE TARGET MODE
    local dir=${2%/*} tmp
    mkdir -p "$dir" || fail "cannot create $dir"
    tmp=$(mktemp "$dir/.gst-face.XXXXXX") || fail "cannot write to $dir"
    if ! { cp "$1" "$tmp" && chmod "$3" "$tmp" && mv -f "$tmp" "$2"; }; then
        rm -f "$tmp"
        fail "cannot write $2"
    fi
}

# Prints the files of the manifest, one a line, only those where we install.
installed() {
    local path
    [ -f "$manifest" ] || return 0
    while IFS= read -r path; do
        case $path in
        */../* | */./*) ;;
        "$plugins"/* | "$own"/* | "$programs"/*) printf '%s\n' "$path" ;;
        esac
    done <"$manifest"
}

install_all() {
    local name file model path i new old
    for name in facedetect facetrack facerecog agegender facemeta; do
        add "$bin/libgst$name.so" "$plugins/libgst$name.so" 755
    done
    for file in runtime/libonnxruntime.so.*; do
        add "$file" "$own/lib/${file##*/}" 755
    done
    [ "${#sources[@]}" -gt 5 ] || fail 'ONNX Runtime is not there; run `make setup` first'
    add runtime/LICENSE "$own/lib/LICENSE.onnxruntime" 644
    add runtime/ThirdPartyNotices.txt "$own/lib/ThirdPartyNotices.onnxruntime.txt" 644
    for model in models/*.json; do
        add "$model" "$own/models/${model##*/}" 644
        model=${model%.json}.onnx
        add "$model" "$own/models/${model##*/}" 644
    done
    add "$bin/facepipe" "$programs/facepipe" 755

    # List old and new files first: an interrupted install can then be undone.
    new=$(printf '%s\n' "${targets[@]}")
    old=$(installed | grep -vxF -e "$new" || true)
    mkdir -p "$own" || fail "cannot create $own"
    printf '%s\n' "$new" ${old:+"$old"} >"$manifest.tmp" && mv -f "$manifest.tmp" "$manifest" ||
        fail "cannot write $manifest"
    for i in "${!targets[@]}"; do
        put "${sources[i]}" "${targets[i]}" "${modes[i]}"
        printf 'install: %s\n' "${targets[i]}"
    done
    if [ -n "$old" ]; then
        while IFS= read -r path; do
            rm -f "$path"
            printf 'install: removed %s, of an earlier version\n' "$path"
        done <<<"$old"
        printf '%s\n' "$new" >"$manifest.tmp" && mv -f "$manifest.tmp" "$manifest"
    fi

    case ":$PATH:" in
    *":$programs:"*) ;;
    *) printf 'install: note: %s is not on PATH\n' "$programs" ;;
    esac
    printf 'install: done; GStreamer finds the plugins there by itself (try: gst-inspect-1.0 facedetector)\n'
}

uninstall_all() {
    local path count=0
    if [ ! -f "$manifest" ]; then
        printf 'uninstall: nothing is installed (no %s)\n' "$manifest"
        return
    fi
    while IFS= read -r path; do
        if [ -e "$path" ]; then
            rm -f "$path"
            printf 'uninstall: removed %s\n' "$path"
            count=$((count + 1))
        fi
    done < <(installed)
    rm -f "$manifest"
    # Only our own directories, and only when nothing else was put there.
    for path in "$own/lib" "$own/models" "$own"; do
        if [ -d "$path" ]; then rmdir --ignore-fail-on-non-empty "$path"; fi
    done
    printf 'uninstall: %d files removed\n' "$count"
}

case $action in
install) install_all ;;
uninstall) uninstall_all ;;
*)
    printf 'usage: %s install|uninstall\n' "$0" >&2
    exit 2
    ;;
esac
