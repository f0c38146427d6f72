#!/usr/bin/env bash
# Checks that all libraries can be published, as a dry run: each is packed, unpacked and built alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"${CARGO:-cargo}" publish --workspace --dry-run --locked --allow-dirty "$@" 2>&1 | tee "$log"
# For cargo this is only a warning, as nothing is uploaded.
if grep 'already exists on crates.io index' "$log" >&2; then
    echo 'publish-check: error: change the version or name of these crates' >&2
    exit 1
fi
echo 'publish-check: all libraries can be published'
