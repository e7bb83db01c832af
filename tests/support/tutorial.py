"""Running a tutorial: every command of its ```console blocks, in order, in one shell.

A block has commands (lines that begin with `$ `, continued by a backslash) and under each what it
prints. Of the printed lines those must appear in the real output, in that order; `…` stands for
anything, also for whole lines. A command that exits with another code than 0 says so: `# exits 3`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

COMMAND_SECONDS = 60
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_EXITS = re.compile(r"\s+# exits (\d+)$")
_MARK = "tutorial-command-ended"


@dataclass
class Step:
    """A command with what the page says that it prints."""

    command: str
    exits: int = 0
    expected: list[str] = field(default_factory=list)


def steps_of(page: str) -> list[Step]:
    """The commands of a page, in order."""
    steps: list[Step] = []
    for block in _BLOCK.findall(page):
        joined = block.replace("\\\n", "")
        for line in joined.splitlines():
            if line.startswith("$ "):
                exits = _EXITS.search(line)
                command = line[2:] if exits is None else line[2 : exits.start()]
                steps.append(Step(command, 0 if exits is None else int(exits[1])))
            else:
                steps[-1].expected.append(line)
    return steps


def run_page(page: Path, directory: Path) -> list[Step]:
    """Run a page's commands in `directory`. Asserts that each prints and exits as the page says;
    whatever happens, a devnet that it started there is taken down."""
    steps = steps_of(page.read_text(encoding="utf-8"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = _Shell(directory, {**os.environ, "PATH": path})
    try:
        for step in steps:
            code, output = shell.run(step.command)
            told = f"{page.name}: $ {step.command}\n{output}"
            assert code == step.exits, f"exit code {code}, expected {step.exits}\n{told}"
            _check(step, output, told)
    finally:
        shell.close()
        subprocess.run(
            ["nostro", "devnet", "down"],
            cwd=directory,
            env={**os.environ, "PATH": path},
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    return steps


def _check(step: Step, output: str, told: str) -> None:
    rest = [line.rstrip() for line in output.splitlines()]
    for line in step.expected:
        wanted = line.rstrip()
        if wanted in ("", "…"):
            continue
        pattern = re.compile(".*".join(map(re.escape, wanted.split("…"))))
        place = next((n for n, each in enumerate(rest) if pattern.fullmatch(each)), None)
        assert place is not None, f"does not print {wanted!r} (in this order)\n{told}"
        rest = rest[place + 1 :]


class _Shell:
    """One bash for all commands of a page, so that its variables stay."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> tuple[int, str]:
        """(exit code, what it printed on both channels)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho {_MARK} $?\n")
        self._process.stdin.flush()
        printed: list[str] = []
        # Its pipe ends with it, and with that the reading below.
        deadline = threading.Timer(COMMAND_SECONDS, self._process.kill)
        deadline.start()
        try:
            for line in self._process.stdout:
                before, mark, code = line.rpartition(_MARK)
                if mark:
                    return int(code), "".join(printed) + before
                printed.append(line)
        finally:
            deadline.cancel()
        raise AssertionError(f"the shell ended in: {command}\n{''.join(printed)}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
