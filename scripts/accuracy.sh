#!/usr/bin/env bash
# Measures how right the answers are, and writes the tables to benches/ACCURACY.md.
# DATA: a folder of labelled pictures, laid out as benches/README.md says; without it, only the media
# of the set-up are used. SETS: which sets these pictures are from. facepipe must be built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'accuracy: %s\n' "$*"; }

results=benches/ACCURACY.md
[ -n "${DATA:-}" ] || say 'no DATA is given: measuring on the media of the set-up alone'
[ -z "${DATA:-}" ] || [ -n "${SETS:-}" ] ||
    say 'no SETS is given: the page will not say where the pictures are from'

text=$(mktemp)
trap 'rm -f "$text"' EXIT
begin=$(date +%s)
"${CARGO:-cargo}" build --release --workspace --bin accuracy --bin facepipe
# What could not be measured is said on the page and above; the rest is worth its time.
status=0
"$BIN_DIR/accuracy" "${DATA:-}" >"$text" || status=$?
[ -s "$text" ] || exit "$status"
minutes=$((($(date +%s) - begin + 59) / 60))
{
    printf '# Accuracy\n\nWritten by `make accuracy`; [README.md](README.md) says how. Compare the numbers of two pages only if\ntheir sets are the same.\n\n'
    printf -- '- date: %s\n' "$(date -u +%Y-%m-%d)"
    printf -- '- sets: %s\n' "${SETS:-${DATA:+not said}${DATA:-the media of the set-up}}"
    printf -- '- machine: %s, %s cores, %s minutes\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$minutes"
    printf -- '- GStreamer %s, ONNX Runtime %s\n\n' "$(pkg-config --modversion gstreamer-1.0)" \
        "$(ls runtime | sed -n 's/libonnxruntime\.so\.//p')"
    cat "$text"
} >"$results.part"
mv "$results.part" "$results"
say "the tables are in $results"
exit "$status"
