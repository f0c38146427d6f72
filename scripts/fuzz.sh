#!/usr/bin/env bash
# Fuzzes every parser of untrusted data, each for SECONDS: scripts/fuzz.sh [SECONDS] [TARGET…]
# An input that crashes, hangs for 10 s or allocates more than 1 GiB at once is kept in fuzz/artifacts/ and
# ends the run. Starts from fuzz/corpus/ (kept small, in the tree) and fuzz/target/corpus/ (earlier runs).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

say() { printf 'fuzz: %s\n' "$*"; }

command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz

# Instrumenting code needs unstable flags, which this also enables in a stable compiler.
export RUSTC_BOOTSTRAP=1
# Otherwise each error takes a backtrace, which is slower than everything else.
export RUST_LIB_BACKTRACE=0
# GLib keeps its types for ever.
export ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0

say "building (some minutes the first time)"
cargo fuzz build >/dev/null

for target in "${targets[@]}"; do
    found=fuzz/target/corpus/$target
    mkdir -p "$found"
    options=(-max_len=4096 -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=10 -verbosity=0
        -print_final_stats=1 "-max_total_time=$seconds")
    case $target in
        cvat) options+=(-dict=fuzz/xml.dict) ;;
        gallery | model_descriptor) options+=(-dict=fuzz/json.dict) ;;
        live_config) options+=(-dict=fuzz/toml.dict) ;;
    esac
    say "$target, $seconds s"
    log=$found.log
    if ! cargo fuzz run "$target" "$found" "fuzz/corpus/$target" -- "${options[@]}" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        say "error: $target failed; the input is in fuzz/artifacts/$target" >&2
        exit 1
    fi
    sed -n 's/^stat:://p' "$log"
done
say "nothing found"
