#!/usr/bin/env bash
# Runs all benchmarks, including the peers, and writes their output to benches/RESULTS.md.
# The plugins must be built; BIN_DIR is their folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'bench: %s\n' "$*"; }

# The peers have a separate Python environment; without it only our programs are measured.
peers=runtime/peers
wanted=benches/peers/requirements.txt
if ! cmp -s "$wanted" "$peers/requirements.txt"; then
    say "installing the peers into $peers"
    if ! python3 -m venv "$peers" || ! "$peers/bin/python" -m pip install -q --disable-pip-version-check -r "$wanted"; then
        say "the peers cannot be installed (Debian needs python3-venv); measuring without them"
    else
        cp "$wanted" "$peers/requirements.txt"
    fi
fi
if [ -x "$peers/bin/python" ]; then
    export FACE_BENCH_PYTHON="$PWD/$peers/bin/python"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
export GST_PLUGIN_PATH="$BIN_DIR${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}"
"${CARGO:-cargo}" bench --manifest-path benches/Cargo.toml "$@" 2> >(grep -E '^error' -A9 >&2 || true) | tee "$log"

results=benches/RESULTS.md
notes=$(sed -n '/^## What was tried/,$p' "$results" 2>/dev/null || true)
{
    printf '# Benchmark results\n\nWritten by `make bench`. Ratios within one run matter, absolute times do not.\n\n'
    printf -- '- date: %s\n' "$(date -u +%Y-%m-%d)"
    printf -- '- machine: %s, %s cores\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)"
    printf -- '- GStreamer %s, %s, ONNX Runtime %s\n\n' "$(pkg-config --modversion gstreamer-1.0)" \
        "$(rustc --version | cut -d' ' -f1,2)" "$(ls runtime | sed -n 's/libonnxruntime\.so\.//p')"
    printf '```\n'
    cat "$log"
    printf '```\n'
    [ -z "$notes" ] || printf '\n%s\n' "$notes"
} >"$results.part"
mv "$results.part" "$results"
say "results are in $results"
