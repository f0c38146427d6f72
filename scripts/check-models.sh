#!/usr/bin/env bash
# Compares the models that scripts/convert.py makes with the packages' own JavaScript.
# Needs node, npm and python3-venv.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 scripts/models.py faceres faceapi-expression
(
    cd "$folder"
    npm init -y >npm.log
    npm install --ignore-scripts --no-audit --no-fund \
        @vladmandic/human@3.3.6 @vladmandic/face-api@1.7.15 \
        @tensorflow/tfjs@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0 >>npm.log 2>&1 ||
        { cat npm.log >&2; exit 1; }
    python3 -m venv venv
    venv/bin/pip install -q --disable-pip-version-check numpy onnxruntime
)
node scripts/check-models.mjs "$folder" "$folder/reference.json" >/dev/null
"$folder/venv/bin/python" scripts/check-models.py "$folder/reference.json" models
