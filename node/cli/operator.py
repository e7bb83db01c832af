"""An operator's commands on a node's home: start, config check."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node.cli.errors import CommandError, Exit
from node.cli.output import Output

LEVELS = ("debug", "info", "warning", "error")


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    start = subparsers.add_parser(
        "start",
        help="run a node",
        description="Run the node of a home until SIGTERM or SIGINT. The passphrases of its keys "
        "come from --passphrase-file, $NOSTRO_PASSPHRASE_FILE, $NOSTRO_PASSPHRASE or a prompt.",
    )
    start.add_argument("--home", metavar="DIR", type=Path, required=True)
    start.add_argument("--passphrase-file", metavar="FILE", type=Path)
    start.add_argument("--log-level", choices=LEVELS, default="info")
    start.set_defaults(handler=_start)

    config = subparsers.add_parser("config", help="check a node's configuration")
    commands = config.add_subparsers(metavar="COMMAND", required=True)
    check = commands.add_parser("check", help="check config.toml against the genesis file")
    check.add_argument("--home", metavar="DIR", type=Path, required=True)
    check.add_argument("--json", action="store_true", help="one JSON document on stdout")
    check.set_defaults(handler=_check_config)


# --- start ----------------------------------------------------------------------------------------


def _start(args: argparse.Namespace, output: Output) -> int:
    from node.api.server import ListenError  # noqa: PLC0415
    from node.chain.genesis import BadGenesis  # noqa: PLC0415
    from node.chain.signature import UnsafeLibsodium  # noqa: PLC0415
    from node.cli.doctor import check_peers  # noqa: PLC0415
    from node.engine.node import run_node  # noqa: PLC0415
    from node.storage.home import open_home  # noqa: PLC0415

    for finding in check_peers(open_home(args.home)):
        if finding.result == "fail":
            raise CommandError(finding.text)
    _log_to_stderr(args.log_level)
    try:
        asyncio.run(run_node(args.home, _passphrases(args.home, args.passphrase_file)))
    except BaseExceptionGroup as group:
        # Tasks of a node fail together; the first to fail says why.
        raise _first(group) from group
    except (BadGenesis, ListenError, UnsafeLibsodium) as error:
        raise CommandError(str(error)) from error
    output.note("nostro: stopped")
    return Exit.DONE


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _passphrases(home: Path, file: Path | None) -> Callable[[str], str]:
    """Asks for the passphrase of a key by what it is; that of a devnet key is known."""
    from node.storage.keystore import (  # noqa: PLC0415
        DEVNET_PASSPHRASE,
        read_key_info,
        read_passphrase,
    )

    if read_key_info(home / "keys" / "node.json").devnet:
        return lambda _: DEVNET_PASSPHRASE

    def ask(what: str) -> str:
        prompt = f"Passphrase of the {what} in {home}: " if sys.stdin.isatty() else None
        return read_passphrase(file, prompt)

    return ask


def _log_to_stderr(level: str) -> None:
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s")
    formatter.converter = time.gmtime
    formatter.datefmt = "%Y-%m-%dT%H:%M:%S"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


# --- config ---------------------------------------------------------------------------------------


def _check_config(args: argparse.Namespace, output: Output) -> int:
    from node.cli.doctor import Finding, check_peers  # noqa: PLC0415
    from node.storage.errors import StorageError  # noqa: PLC0415
    from node.storage.home import open_home  # noqa: PLC0415

    try:
        home = open_home(args.home)
        findings = [Finding("ok", "config", f"{args.home / 'config.toml'} is sound")]
        findings += check_peers(home)
    except StorageError as error:
        findings = [Finding("fail", "config", str(error))]
    return report(findings, output)


def report(findings: list[Any], output: Output) -> int:
    """Show findings; 1 if any of them is a failure."""
    output.document([{"check": f.check, "result": f.result, "text": f.text} for f in findings])
    for finding in findings:
        output.line(f"{finding.result:<4}  {finding.check}: {finding.text}")
    failed = any(finding.result == "fail" for finding in findings)
    return Exit.REFUSED if failed else Exit.DONE
