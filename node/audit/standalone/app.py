"""`nostro-verify`: `nostro verify` as a program of its own, and what that program is made of.

Options, output and exit codes are those of `nostro verify`: it is the same module.
"""

from __future__ import annotations

import argparse
import signal
import sys
import zipfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, NoReturn

from node.cli import verify
from node.cli.errors import Exit
from node.cli.output import Output
from node.cli.running import Parser, guarded

VERSION_FILE = "VERSION"
"""Name of the archive's only part that is no source file."""


class _Alone:
    """What `verify.register` adds its command to: there is no other, so it has no name."""

    def __init__(self) -> None:
        self.parser: argparse.ArgumentParser = Parser(prog="nostro-verify")

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:
        self.parser.description = description
        return self.parser


def main(argv: Sequence[str], archive: str) -> int:
    """Verify as the arguments say; the exit code. `archive`: where this program is."""
    output = Output(as_json="--json" in argv)
    if list(argv) == ["--about"]:
        return guarded(lambda: _about(archive, output), output)
    return guarded(lambda: _verify(argv, output), output)


def _verify(argv: Sequence[str], output: Output) -> int:
    alone = _Alone()
    verify.register(alone)
    alone.parser.epilog = (
        "Exit codes: 0 VALID, 1 INVALID, 2 UNDECIDED, 64 wrong usage. With --about alone: the "
        "version of this program and the SHA-256 of each file that it is made of."
    )
    args = alone.parser.parse_args(argv)
    handler: Callable[[argparse.Namespace, Output], int] = args.handler
    return handler(args, output)


def _about(archive: str, output: Output) -> int:
    if not zipfile.is_zipfile(archive):
        output.error("these are loose files: only the archive knows what it is made of")
        return Exit.USAGE
    with zipfile.ZipFile(archive) as parts:
        contents: dict[str, Any] = {name: parts.read(name) for name in parts.namelist()}
    output.line(f"nostro-verify {contents.pop(VERSION_FILE).decode().strip()}")
    for name, content in contents.items():
        output.line(f"{sha256(content).hexdigest()}  {name}")
    return Exit.DONE


def run() -> NoReturn:
    """The entry point."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.exit(main(sys.argv[1:], sys.argv[0]))
