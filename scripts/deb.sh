#!/usr/bin/env bash
# Makes a Debian package from the finished build. BIN_DIR is its folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

: "${BIN_DIR:?BIN_DIR must be set; run \`make deb\`}"
cargo=${CARGO:-cargo}

say() { printf 'deb: %s\n' "$*"; }

if ! command -v cargo-deb >/dev/null; then
    say 'installing cargo-deb (some minutes)'
    "$cargo" install --locked cargo-deb
fi

# The files in their final layout. cargo-deb packs all of them (pipelines/facepipe/Cargo.toml).
root=$BIN_DIR/deb
rm -rf "$root"
DESTDIR=$root PREFIX=/usr bash scripts/install.sh install
find "$root" -name 'libgst*.so' -o -name facepipe -type f | while read -r file; do strip --strip-unneeded "$file"; done

# Only weights that anybody may redistribute.
python3 - "$root/usr/share/gst-face/models" <<'PYTHON'
import json
import pathlib
import sys

FREE = {"Apache-2.0", "BSD-3-Clause", "CC0-1.0", "MIT"}
# A package is the same whatever somebody has fetched besides.
optional = {path.stem for path in pathlib.Path("models/optional").glob("*.json")}
for descriptor in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    if descriptor.stem in optional:
        descriptor.with_suffix(".onnx").unlink(missing_ok=True)
        descriptor.unlink()
        continue
    licence = json.loads(descriptor.read_text(encoding="utf-8")).get("licence", "")
    if licence not in FREE:
        print(f"deb: without {descriptor.stem}: the licence of its weights is \"{licence}\"")
        descriptor.with_suffix(".onnx").unlink(missing_ok=True)
        descriptor.unlink()
PYTHON

doc=$root/usr/share/doc/gstreamer1.0-face
mkdir -p "$doc/examples"
cp docs/live.toml "$doc/examples/"
gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
find "$root" -type d -exec chmod 755 {} +
chmod 644 "$doc/changelog.gz" "$doc/examples/live.toml"

rm -f "$BIN_DIR"/../debian/gstreamer1.0-face_*.deb
"$cargo" deb --package facepipe --no-build --no-strip --locked --output "$BIN_DIR/../debian/" --quiet
