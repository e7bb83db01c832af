"""Exit codes, and the errors that the command reports without a traceback."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command; users script against them."""

    DONE = 0
    """Done, settled, valid."""
    REFUSED = 1
    """Refused, rejected, invalid."""
    UNKNOWN = 2
    """Cannot tell: timeout, unreachable, undecided."""
    NOT_SETTLED = 3
    """Final but not settled: queued, held, reserved."""
    USAGE = 64
    """Wrong usage: sysexits' EX_USAGE."""
    INTERNAL = 70
    """Our own bug: sysexits' EX_SOFTWARE."""
    INTERRUPTED = 130
    """Stopped by SIGINT or SIGTERM."""


class CommandError(Exception):
    """What is wrong, why, and what to do, for standard error."""

    def __init__(self, message: str, code: Exit = Exit.REFUSED) -> None:
        super().__init__(message)
        self.code = code


def usage(message: str) -> CommandError:
    """The command line, or a file it names, cannot be used."""
    return CommandError(message, Exit.USAGE)
