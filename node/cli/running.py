"""Running a command: its parser, and the one place where errors become exit codes.

Needs the standard library alone, and no asyncio: the offline verifier runs through it too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from node.cli.errors import CommandError, Exit
from node.cli.output import Output

NODE_LIBRARIES = frozenset(
    {
        "aiohttp",
        "cryptography",
        "holidays",
        "msgpack",
        "plyvel",
        "prometheus_client",
        "stdnum",
        "tzdata",
    }
)
"""What the extra `node` installs."""


class Parser(argparse.ArgumentParser):
    """Exits with 64 on wrong usage, where argparse would exit with 2: that means *unknown*."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An abbreviated option would change its meaning when another is added.
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        self.exit(Exit.USAGE, f"nostro: {message}\nSee what is possible with: {self.prog} --help\n")


def guarded(command: Callable[[], int], output: Output) -> int:
    """Run a command; its exit code. Reports every error itself."""
    try:
        return command()
    except SystemExit as stop:  # argparse has printed why
        return stop.code if isinstance(stop.code, int) else Exit.USAGE
    except CommandError as error:
        output.error(str(error))
        return error.code
    except _known("asyncio", "CancelledError", KeyboardInterrupt):
        output.error("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone: nothing more can be said there, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.REFUSED
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NODE_LIBRARIES:
            return internal(error, output)
        output.error(
            f"this command needs the library {error.name}, which is not installed; install the "
            "node's libraries with: pip install 'nostro[node]'"
        )
        return Exit.REFUSED
    except OSError as error:
        if _debugging():
            raise
        where = f"{error.filename}: " if error.filename else ""
        output.error(f"{where}{error.strerror or error}")
        return Exit.USAGE if isinstance(error, FileNotFoundError) else Exit.REFUSED
    except _known("node.storage.errors", "StorageError") as error:
        output.error(str(error))
        return Exit.REFUSED
    except Exception as error:
        return internal(error, output)


def _known(module: str, name: str, *others: type[BaseException]) -> tuple[Any, ...]:
    """An exception of a module that the command may have loaded, and others. What nobody has loaded
    nobody has raised."""
    loaded = sys.modules.get(module)
    return others if loaded is None else (getattr(loaded, name), *others)


def internal(error: Exception, output: Output) -> int:
    """Report an error that is our own bug."""
    if _debugging():
        raise error
    output.error(
        f"internal error, please report it: {type(error).__name__}: {error}. Run the same command "
        "with NOSTRO_DEBUG=1 in the environment to see where"
    )
    return Exit.INTERNAL


def _debugging() -> bool:
    return os.environ.get("NOSTRO_DEBUG", "") not in {"", "0"}
