#!/usr/bin/env python3
"""Build and run all tests of the workspace, for `make test`.

What `cargo test --workspace` does, and three things that it does not:

- A test program that says nothing for ten minutes is killed. A test that hangs
  would otherwise hide which one it was, and what the others would have said.
- A test that fails, hangs, or was running when its program died is run once
  more, by itself. If it passes, it is listed as unsteady, and counts as passed:
  tests share the machine with each other and with whatever else runs there.
- What failed is printed once more at the end, where one looks first.

Arguments are passed on to `cargo test`, such as `-p face-meta`.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

# Seconds without a line of output. libtest prints one whenever a test ends.
SILENCE = 600
# So many failures are no accident, and are not run again.
MOST_AGAIN = 8
# Of one test's output, what is printed again.
TAIL = 60

CARGO = os.environ.get("CARGO", "cargo")
RESULT = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)")


class Program(NamedTuple):
    title: str
    path: str
    folder: Path


class Ran(NamedTuple):
    """How a program ended, and what it said."""

    code: int | None  # None: it was killed because it was silent
    lines: list[str]


def say(text: str) -> None:
    print(f"test: {text}", flush=True)


def build(arguments: list[str]) -> list[Program]:
    """Builds all tests, and returns their programs in a fixed order."""
    command = [CARGO, "test", "--release", *arguments, "--no-run",
               "--message-format=json-render-diagnostics"]
    found = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as cargo:
        for line in cargo.stdout or ():
            try:
                message = json.loads(line)
            except ValueError:
                print(line, end="", flush=True)
                continue
            path = message.get("executable")
            if path and message.get("profile", {}).get("test"):
                folder = Path(message["manifest_path"]).parent
                title = f"{folder.name}: {message['target']['name']}"
                found[path] = Program(title, path, folder)
    if cargo.returncode != 0:
        sys.exit("test: the tests do not compile, see above")
    return sorted(found.values(), key=lambda program: (str(program.folder), program.path))


def run(program: Program, arguments: list[str], quiet: bool = False) -> Ran:
    """Runs a program to its end, in the folder and with the variables that cargo gives it."""
    env = os.environ | {"CARGO": CARGO, "CARGO_MANIFEST_DIR": str(program.folder)}
    process = subprocess.Popen([program.path, *arguments], cwd=program.folder, env=env, text=True,
                               errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    said: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            said.put(line)
        said.put(None)

    threading.Thread(target=read, daemon=True).start()
    lines: list[str] = []
    heard = time.monotonic()
    try:
        while True:
            try:
                line = said.get(timeout=2)
            except queue.Empty:
                # A child that outlives its test may keep the pipe open.
                if process.poll() is not None:
                    return Ran(process.returncode, lines)
                if time.monotonic() - heard > SILENCE:
                    say(f"{program.title} said nothing for {SILENCE} s, and is killed")
                    return Ran(None, lines)
                continue
            if line is None:
                return Ran(process.wait(), lines)
            heard = time.monotonic()
            lines.append(line)
            if not quiet:
                print(line, end="", flush=True)
    finally:
        # Also what its tests started: a child that outlives them keeps ports and the terminal.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def results(lines: list[str]) -> dict[str, str]:
    return {found[1]: found[2] for line in lines if (found := RESULT.match(line))}


def not_passed(program: Program, ran: Ran) -> list[str]:
    """The tests of a program that neither passed nor are ignored."""
    listed = run(program, ["--list", "--format", "terse"], quiet=True).lines
    names = [line.rsplit(": ", 1)[0] for line in listed if line.rstrip().endswith(": test")]
    known = results(ran.lines)
    return [name for name in names if known.get(name) not in ("ok", "ignored")]


def excerpt(ran: Ran, name: str) -> str:
    """What a failed test said: libtest prints it below this heading."""
    text = "".join(ran.lines)
    start = text.find(f"---- {name} stdout ----")
    if start >= 0:
        end = re.compile(r"^(---- .* ----|failures:)$", re.MULTILINE).search(text, start + 10)
        lines = text[start:end.start() if end else len(text)].splitlines()
    else:
        lines = text.splitlines()
    return "\n".join(lines[:TAIL] if start >= 0 else lines[-TAIL:])


def main(arguments: list[str]) -> int:
    begun = time.monotonic()
    programs = build(arguments)
    passed = 0
    failed: list[tuple[Program, str, Ran]] = []
    for program in programs:
        say(program.title)
        ran = run(program, [])
        passed += list(results(ran.lines).values()).count("ok")
        if ran.code != 0:
            names = not_passed(program, ran)
            if not names:
                # It failed after its tests, such as while it ended.
                say(f"{program.title} ended with {ran.code}")
            failed += [(program, name, ran) for name in names or ["the program itself"]]
    documented = subprocess.run([CARGO, "test", "--release", *arguments, "--doc"]).returncode == 0

    unsteady, broken = [], []
    for program, name, first in failed:
        again = None
        if len(failed) <= MOST_AGAIN and name != "the program itself":
            say(f"once more, alone: {program.title} {name}")
            again = run(program, ["--exact", name])
        if again and again.code == 0 and results(again.lines).get(name) == "ok":
            unsteady.append((program, name, first))
        else:
            broken.append((program, name, again or first))
    for heading, group in (("UNSTEADY", unsteady), ("FAILED", broken)):
        for program, name, ran in group:
            print(f"\ntest: {heading}: {program.title} {name}\n{excerpt(ran, name)}", flush=True)
    print()
    say(f"{passed + len(unsteady)} passed, {len(broken)} failed in {time.monotonic() - begun:.0f} s")
    for program, name, _ in unsteady:
        say(f"unsteady, passed only when run again: {program.title} {name}")
    for program, name, _ in broken:
        say(f"failed: {program.title} {name}")
    if not documented:
        say("failed: examples in the documentation, see above")
    if broken or not documented or passed == 0:
        say("FAILED")
        return 1
    say("PASSED")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["--workspace"]))
