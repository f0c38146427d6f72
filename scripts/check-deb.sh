#!/usr/bin/env bash
# Installs the Debian package into an empty root of this Debian release and uses it there: every
# element, the program, and one picture with the package's models. Needs root, for chroot.
# Keeps the base system next to the package for the next time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

: "${BIN_DIR:?BIN_DIR must be set; run \`make deb-check\`}"
picture=media/t1.jpg
people=6

say() { printf 'deb-check: %s\n' "$*"; }
fail() {
    printf 'deb-check: error: %s\n' "$*" >&2
    exit 1
}

deb=$(echo "$BIN_DIR"/../debian/gstreamer1.0-face_*.deb)
[ -f "$deb" ] || fail 'there is no package; run `make deb` first'
[ -f "$picture" ] || fail "$picture is not there; run \`make setup\` first"
[ "$(id -u)" -eq 0 ] || fail 'only root can create an empty root; run it as root'
command -v debootstrap >/dev/null || {
    say 'installing debootstrap'
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null ||
        fail 'install debootstrap'
}

# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | awk -v suite="$suite" '$2 == suite { found = $1 } END { print found }')
[ -n "$mirror" ] || fail "apt knows no packages of $suite; run \`apt-get update\`"

root=$(mktemp -d)
cleanup() {
    umount "$root/proc" 2>/dev/null || true
    rm -rf --one-file-system "$root"
}
trap cleanup EXIT
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }

base=$BIN_DIR/../debian/base-$suite.tar
if [ ! -f "$base" ]; then
    say "making an empty root of $suite (some minutes)"
    log=$(mktemp)
    if ! debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail 'debootstrap failed'
    fi
    rm -f "$log"
    tar -C "$root" -cf "$base.tmp" . && mv "$base.tmp" "$base"
else
    tar -C "$root" -xf "$base"
fi

# Copy the settings of apt.
cp -a /etc/apt/sources.list* /etc/apt/apt.conf.d /etc/apt/trusted.gpg.d "$root/etc/apt/" 2>/dev/null || true
for file in /etc/resolv.conf /etc/hosts; do
    [ ! -e "$file" ] || cp -L "$file" "$root$file"
done
mkdir -p "$root/usr/share/keyrings"
cp -a /usr/share/keyrings/. "$root/usr/share/keyrings/"
cp "$deb" "$root/tmp/face.deb"
cp "$picture" "$root/tmp/picture.jpg"

# If mounting is not allowed, ONNX Runtime reports an unknown processor, but still runs.
mount -t proc proc "$root/proc" 2>/dev/null || true

say 'installing the package and its dependencies'
{
    inside apt-get update
    inside apt-get install -y --no-install-recommends gstreamer1.0-tools systemd-standalone-sysusers
    inside apt-get install -y --no-install-recommends /tmp/face.deb
} >"$root/tmp/apt.log" 2>&1 || {
    tail -n 30 "$root/tmp/apt.log" >&2
    fail 'the package cannot be installed'
}

# Each element has a line in this table.
elements=$(sed -n 's/^| \[\([a-z]*\)\](.*/\1/p' docs/elements.md)
[ -n "$elements" ] || fail 'docs/elements.md lists no elements'
for element in $elements; do
    inside gst-inspect-1.0 "$element" >"$root/tmp/$element.txt" 2>&1 ||
        fail "no element $element: $(tail -n 3 "$root/tmp/$element.txt")"
    grep -q '/lib/.*/gstreamer-1.0/libgst' "$root/tmp/$element.txt" ||
        fail "$element is not from the distribution's folder of plugins: $(grep Filename "$root/tmp/$element.txt")"
    say "found $element"
done

say "$(inside facepipe --version)"
inside getent passwd facepipe >/dev/null || fail 'the package made no user facepipe'

# The elements as plugins, then linked into the program. The root contains no checkout.
inside gst-launch-1.0 -q filesrc location=/tmp/picture.jpg ! decodebin ! facedetector ! facetracker \
    ! facerecognizer attach-embedding=true ! faceagegender ! facemetajson ! filesink location=/tmp/plugins.jsonl ||
    fail 'the pipeline failed'
inside facepipe run picture-to-json input=/tmp/picture.jpg >"$root/tmp/program.jsonl" || fail 'facepipe run failed'
for lines in plugins program; do
    found=$(head -n 1 "$root/tmp/$lines.jsonl" | grep -o '"box":' | wc -l)
    [ "$found" -eq "$people" ] || fail "$lines: $found faces in $picture instead of $people"
done
head -n 1 "$root/tmp/plugins.jsonl" | grep -q '"age":' || fail 'no ages'
say "$people faces in $picture, with the models of the package"

# Removing the package leaves nothing behind.
inside dpkg -L gstreamer1.0-face | while read -r path; do [ -d "$root$path" ] || echo "$path"; done >"$root/tmp/files"
inside apt-get purge -y gstreamer1.0-face >>"$root/tmp/apt.log" 2>&1 || fail 'the package cannot be removed'
while read -r path; do [ ! -e "$root$path" ] || fail "$path is left after removing the package"; done <"$root/tmp/files"
[ ! -e "$root/usr/share/gst-face" ] && [ ! -e "$root/usr/lib/gst-face" ] || fail 'folders are left after removing the package'

echo 'deb-check: PASSED'
