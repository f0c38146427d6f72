#!/usr/bin/env bash
# Builds a small gallery of people and annotates a real clip with it.
# Needs `make build` to have run (`make demo` does that first).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=${BIN_DIR:-${CARGO_TARGET_DIR:-target}/release}
clip=media/WolfgangLanger_Pexels.mp4
people=demo/people
gallery=demo/friends.safetensors
video=demo/annotated.mp4
faces=demo/faces.jsonl

say() { printf 'demo: %s\n' "$*"; }
fail() {
    printf 'demo: error: %s\n' "$*" >&2
    exit 1
}

[ -x "$bin/facepipe" ] || fail "$bin/facepipe is not there; run \`make build\` first"
[ -f "$clip" ] || fail "$clip is not there; run \`make setup\` first"
GST_PLUGIN_PATH=$(cd "$bin" && pwd)${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}
export GST_PLUGIN_PATH

# frames NAME CLIP FRAMERATE: saves a few frames of a clip as pictures of one person.
frames() {
    local to=$people/$1 tmp=demo/.frames.tmp
    if [ -d "$to" ]; then return; fi
    say "taking pictures of $1 from $2"
    rm -rf "$tmp"
    mkdir -p "$tmp" "$people"
    gst-launch-1.0 -q filesrc location="$2" ! decodebin ! videoconvert ! videorate \
        ! "video/x-raw,framerate=$3" ! pngenc ! multifilesink location="$tmp/%02d.png" </dev/null
    [ -e "$tmp/00.png" ] || fail "no frame of $2 could be decoded"
    mv "$tmp" "$to"
}

# picture NAME IMAGE: copies an image as a picture of one person.
picture() {
    local to=$people/$1/${2##*/}
    if [ -f "$to" ]; then return; fi
    mkdir -p "$people/$1"
    cp "$2" "$to.tmp"
    mv "$to.tmp" "$to"
}

frames anna "$clip" 1/4
picture tom media/Tom_Hanks_54745.png
picture selfie media/single_face.jpg

say "enrolling $people into $gallery"
"$bin/facepipe" enroll "$people" -o "$gallery" </dev/null

say "annotating $clip"
"$bin/facepipe" annotate "$clip" -o "$video" --json "$faces" --gallery "$gallery" </dev/null

[ -s "$video" ] || fail "$video was not written"
[ -s "$faces" ] || fail "$faces was not written"

say "the first line of $faces:"
head -n 1 "$faces"
say "its lines about tracks:"
grep -E '^\{ *"(type|kind|event)" *: *"track' "$faces" || say "(none)"
say "annotated video: $PWD/$video"
say "faces, one JSON object per line: $PWD/$faces"
