#!/usr/bin/env bash
# Runs `facepipe live` with many cameras for a long time, with random faults from a seed. Prints whether
# memory, open files and threads stay constant, and whether all warnings are explained.
#   tests/faults/soak.sh [--seed 1] [--minutes 30] [--cameras 8] [--leaks]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

profile=${PROFILE:-release}
build=(build --quiet --package facepipe --package face-rtsp-server --package face-faults)
if [ "$profile" = release ]; then build+=(--release); fi
"${CARGO:-cargo}" "${build[@]}"
exec "${CARGO_TARGET_DIR:-target}/$profile/face-faults" soak "$@"
