#!/usr/bin/env bash
# Runs the tests of all code that needs `unsafe` under valgrind's memory checker: reads and writes outside
# of what was allocated, and decisions by memory that nobody wrote, are errors.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v valgrind >/dev/null || { echo "valgrind.sh: error: install valgrind" >&2; exit 1; }

host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
# Leaks are counted elsewhere: GLib and ONNX Runtime keep much for ever.
runner="valgrind --quiet --error-exitcode=99 --leak-check=no --suppressions=$PWD/scripts/valgrind.supp"
export "CARGO_TARGET_${host}_RUNNER=$runner"

# Sampling and unpacking of pixels, metadata.
cargo test -p face-core --lib
# Tensors bound to a real model.
cargo test -p face-core --test session
# The scan compiled for wider registers, files of galleries.
# (The slowest test goes through the same loops as others.)
cargo test -p gst-facerecog --lib gallery -- --skip nearest_is_brute_force
# Blending into frames.
cargo test -p gst-facemeta --lib blend
# Locks on folders of results.
cargo test -p facepipe --bin facepipe analyze::inputs
