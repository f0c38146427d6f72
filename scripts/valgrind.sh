#!/usr/bin/env bash
# Runs the tests of all code that needs `unsafe` under valgrind's memory checker. Reads and writes outside
# allocations, and decisions that depend on uninitialised memory, are errors.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v valgrind >/dev/null || { echo "valgrind.sh: error: install valgrind" >&2; exit 1; }

host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
# Other tests cover leaks: GLib and ONNX Runtime keep much memory for ever.
runner="valgrind --quiet --error-exitcode=99 --leak-check=no --suppressions=$PWD/scripts/valgrind.supp"
export "CARGO_TARGET_${host}_RUNNER=$runner"

# Pixel sampling and unpacking.
cargo test -p gst-face-core --lib
# Metadata.
cargo test -p face-meta --lib
# Tensors bound to a real model.
cargo test -p gst-face-core --test main session
# The scan compiled for wider registers, and gallery files.
# (The slowest test runs the same loops as others.)
cargo test -p face-gallery --lib gallery -- --skip nearest_is_brute_force
# Blending into frames.
cargo test -p gst-facemeta --lib blend
# HEIC and AVIF, by libheif.
cargo test -p face-picture --test main heif
# Locks on folders of results.
cargo test -p face-analysis --lib analyze::inputs
