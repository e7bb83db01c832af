"""An operator's commands on a node's home: start, config check, backup, restore."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.errors import CommandError, Exit, usage
from node.cli.output import Output

if TYPE_CHECKING:
    from node.storage.home import Home

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

    backup = subparsers.add_parser(
        "backup",
        help="write a home into one file",
        description="Write everything of a stopped node's home into one file, except its vote keys "
        "and what they have signed: a copy of those must never sign.",
    )
    backup.add_argument("--home", metavar="DIR", type=Path, required=True)
    backup.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    backup.add_argument("--json", action="store_true", help="one JSON document on stdout")
    backup.set_defaults(handler=_backup)

    restore = subparsers.add_parser(
        "restore",
        help="make a home from a backup",
        description="Make a home from a backup. It follows the chain and does not sign.",
    )
    restore.add_argument("file", metavar="FILE", type=Path)
    restore.add_argument("--home", metavar="DIR", type=Path, required=True)
    restore.add_argument(
        "--genesis", metavar="FILE", type=Path, help="refuse a backup of any other chain"
    )
    restore.add_argument(
        "--join", metavar="URL", action="append", default=[], help="API of a node to follow"
    )
    restore.add_argument("--json", action="store_true", help="one JSON document on stdout")
    restore.set_defaults(handler=_restore)

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
    from node.cli.members import check_peers  # noqa: PLC0415
    from node.engine.node import run_node  # noqa: PLC0415
    from node.ledger.rules import UnknownRules  # noqa: PLC0415
    from node.storage.home import open_home  # noqa: PLC0415

    for finding in check_peers(open_home(args.home)):
        if finding.result == "fail":
            raise CommandError(finding.text)
    _log_to_stderr(args.log_level)
    try:
        try:
            asyncio.run(run_node(args.home, _passphrases(args.home, args.passphrase_file)))
        except BaseExceptionGroup as group:
            # Tasks of a node fail together; the first to fail says why.
            raise _first(group) from group
    except (BadGenesis, ListenError, UnsafeLibsodium, UnknownRules) as error:
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


# --- backup and restore ---------------------------------------------------------------------------


def _backup(args: argparse.Namespace, output: Output) -> int:
    from node.storage.backup import write_backup  # noqa: PLC0415
    from node.storage.errors import StoreLocked  # noqa: PLC0415
    from node.storage.home import open_home  # noqa: PLC0415

    started = time.monotonic()
    home = open_home(args.home)
    try:
        home.acquire()
    except StoreLocked as error:
        raise CommandError(
            f"{args.home}: the node runs, and its database belongs to it alone ({error.what}); "
            "stop it for the backup (the other validators go on), or back up an observer"
        ) from error
    try:
        made = write_backup(home, args.output, time.time_ns() // 1_000_000)
    finally:
        home.release()
    seconds = time.monotonic() - started
    output.document(
        {
            "file": str(args.output),
            "chain_id": made.head.chain_id.hex(),
            "height": made.head.height,
            "block": made.head.block.hex(),
            "entries": made.entries,
            "bytes": made.bytes,
            "seconds": round(seconds, 3),
        }
    )
    output.line(f"{args.output}: height {made.head.height}, block {made.head.block.hex()}")
    output.line(f"{made.entries:,} entries, {made.bytes:,} bytes, {seconds:.1f} s")
    output.line("vote keys and what they signed are not in it: back the keys up offline")
    return Exit.DONE


def _restore(args: argparse.Namespace, output: Output) -> int:
    from node.cli.connection import read_input  # noqa: PLC0415
    from node.storage.backup import restore_home  # noqa: PLC0415
    from node.storage.config import parse_url  # noqa: PLC0415

    started = time.monotonic()
    genesis = None if args.genesis is None else read_input(args.genesis, "the genesis file")
    try:
        join = tuple(parse_url(url) for url in args.join)
    except ValueError as error:
        raise usage(str(error)) from error
    home = restore_home(args.file, args.home, genesis=genesis, join=join)
    height = _check_restored(home)
    seconds = time.monotonic() - started
    output.document(
        {
            "home": str(home.path),
            "chain_id": home.chain_id.hex(),
            "height": height,
            "seconds": round(seconds, 3),
        }
    )
    output.line(f"{home.path} is a home of {home.config.name} at height {height}, {seconds:.1f} s")
    output.line(f"chain id {home.chain_id.hex()}: compare it out of band")
    output.line("it follows and does not sign; audit it before it serves anybody:")
    output.line(f"nostro audit chain --home {home.path} --genesis {home.path / 'genesis.json'}")
    return Exit.DONE


def _check_restored(home: Home) -> int:
    """Its height, once the records have the state root that the last header commits to."""
    from node.engine.node import load_chain  # noqa: PLC0415
    from node.ledger.state import ConservationBroken, StateDamaged  # noqa: PLC0415
    from node.storage.chain_store import ChainStore  # noqa: PLC0415

    database = home.open_database()
    try:
        state, _ = load_chain(home.genesis, ChainStore(database))
    except (StateDamaged, ConservationBroken) as error:
        raise CommandError(f"{home.path} was made, but do not start it: {error}") from error
    finally:
        database.close()
    return state.height


# --- config ---------------------------------------------------------------------------------------


def _check_config(args: argparse.Namespace, output: Output) -> int:
    from node.cli.members import Finding, check_peers  # noqa: PLC0415
    from node.engine.prune import check_retention  # noqa: PLC0415
    from node.storage.errors import StorageError  # noqa: PLC0415
    from node.storage.home import open_home  # noqa: PLC0415

    try:
        home = open_home(args.home)
        check_retention(home.config.storage, home.genesis, str(args.home / "config.toml"))
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
