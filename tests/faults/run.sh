#!/usr/bin/env bash
# Tries faults on `facepipe live` and prints a table of the results.
#   tests/faults/run.sh [--quick] [--stall SECONDS] [WORD...]   only faults with WORD in their names
# As root, or where users may create namespaces, it runs in separate network and mount namespaces, so that
# it can cut networks and fill disks without harm to the machine. Elsewhere those faults are skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

profile=${PROFILE:-release}
build=(build --quiet --package facepipe --package face-rtsp-server --package face-faults)
if [ "$profile" = release ]; then build+=(--release); fi
"${CARGO:-cargo}" "${build[@]}"
program=${CARGO_TARGET_DIR:-target}/$profile/face-faults

isolate=(unshare --net --mount)
if [ "$(id -u)" -ne 0 ]; then isolate+=(--user --map-root-user); fi
if "${isolate[@]}" true 2>/dev/null; then
    export FACE_FAULTS_ISOLATED=1
    # shellcheck disable=SC2016 # "$@" belongs to the inner shell
    exec "${isolate[@]}" bash -c 'ip link set lo up && exec "$@"' run.sh "$program" run "$@"
fi
echo 'run.sh: no namespaces for this user; some faults are skipped' >&2
exec "$program" run "$@"
