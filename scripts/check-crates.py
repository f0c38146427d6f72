#!/usr/bin/env python3
"""Check the manifests of all crates. Builds nothing.

- Each published crate has the fields that crates.io and docs.rs show, gives versions for our other
  crates, and has the licence texts in its folder.
- Each plugin has the features and settings for cargo-c.
- All dependencies build with the Rust version that we declare. (Clippy and `make msrv` check our own
  code.)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CARGO = os.environ.get("CARGO", "cargo")


def metadata() -> dict:
    version = subprocess.run(["rustc", "-vV"], check=True, stdout=subprocess.PIPE, text=True).stdout
    host = next(line.split()[1] for line in version.splitlines() if line.startswith("host:"))
    command = [CARGO, "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split("."))


def of_published(package: dict) -> list[str]:
    """What a published crate lacks."""
    wrong = [f"no `{key}`" for key in ("description", "license", "repository", "readme",
                                       "rust_version", "keywords", "categories")
             if not package[key]]
    if len(package["keywords"]) > 5:
        wrong.append("more than five keywords")
    if "docs" not in (package["metadata"] or {}):
        wrong.append("no [package.metadata.docs.rs]")
    folder = Path(package["manifest_path"]).parent
    wrong += [f"no {name} in its folder" for name in ("LICENSE-APACHE", "LICENSE-MIT")
              if not (folder / name).is_file()]
    wrong += [f"no version of {d['name']}" for d in package["dependencies"]
              if "path" in d and d["kind"] != "dev" and d["req"] == "*"]
    return wrong


def of_plugin(package: dict) -> list[str]:
    """What a plugin lacks."""
    wrong = [f"no feature `{name}`" for name in ("static", "capi", "doc")
             if name not in package["features"]]
    capi = (package["metadata"] or {}).get("capi", {})
    if capi.get("library", {}).get("install_subdir") != "gstreamer-1.0":
        wrong.append("no [package.metadata.capi.library] with install_subdir = \"gstreamer-1.0\"")
    return wrong


def main() -> int:
    found = metadata()
    ours = set(found["workspace_members"])
    problems: list[str] = []
    published = 0
    for package in found["packages"]:
        if package["id"] not in ours:
            continue
        wrong = []
        # An empty list is `publish = false`.
        if package["publish"] is None:
            published += 1
            wrong += of_published(package)
        if any("cdylib" in target["crate_types"] for target in package["targets"]):
            wrong += of_plugin(package)
        problems += [f"{package['name']}: {text}" for text in wrong]

    declared = min((p["rust_version"] for p in found["packages"] if p["id"] in ours), key=number)
    used = {node["id"] for node in found["resolve"]["nodes"]}
    newer = [p for p in found["packages"]
             if p["id"] in used and p["rust_version"] and number(p["rust_version"]) > number(declared)]
    if newer:
        least = max((p["rust_version"] for p in newer), key=number)
        names = sorted(f"{p['name']} {p['version']}" for p in newer)
        problems.append(
            f"Cargo.toml: rust-version is {declared}, but {least} is needed by {', '.join(names[:5])}"
            + (f" and {len(names) - 5} more" if len(names) > 5 else ""))

    for problem in problems:
        print(f"check-crates: error: {problem}", file=sys.stderr)
    if not problems:
        print(f"check-crates: {published} crates can be published, and all build with Rust {declared}"
              ", as they declare")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
