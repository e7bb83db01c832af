"""The verifier's archive, and a process that answers questions from it with nothing installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node.audit.standalone.archive import build

DRIVER = Path(__file__).parent / "standalone_driver.py"
BARE = (os.path.realpath(sys.executable), "-I", "-S")
"""A Python that sees no packages but its own."""


def write_archive(directory: Path) -> Path:
    """The archive of this tree, in a file."""
    path = directory / "nostro-verify.pyz"
    path.write_bytes(build())
    return path


class Standalone:
    """Asks the process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, questions: Sequence[Sequence[Any]]) -> list[Any]:
        """The answer to each (name of a function of the driver, its arguments …)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(questions) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the driver ended with {self._process.wait(30)}"
        answers: list[Any] = json.loads(line)
        assert len(answers) == len(questions)
        return answers


@contextmanager
def standalone(archive: Path) -> Iterator[Standalone]:
    """The process, for as long as the context lasts."""
    with subprocess.Popen(
        [*BARE, str(DRIVER), str(archive)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={},
    ) as process:
        try:
            yield Standalone(process)
        finally:
            process.kill()
