"""The `nostro` command: which module has which command.

Only the module of the command that was asked for is imported: `nostro verify` runs with the base
dependencies alone, and no command waits for libraries that it does not use.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from node.cli.errors import Exit
from node.cli.output import Output
from node.cli.running import Parser, guarded

Subparsers = Any
"""argparse's own type for it is private."""


@dataclass(frozen=True, slots=True)
class Command:
    module: str
    """Has `register(subparsers)`, which adds this command and its relatives."""
    help: str


COMMANDS: dict[str, Command] = {
    "pay": Command("node.cli.participant", "send a payment, or a file of payments"),
    "payment": Command("node.cli.participant", "show what is final about a payment"),
    "balance": Command("node.cli.participant", "show balances"),
    "issue": Command("node.cli.supply", "create money on a participant's account (issuer)"),
    "redeem": Command("node.cli.supply", "destroy money of one's own account (issuer)"),
    "move": Command("node.cli.supply", "move money between one's own accounts"),
    "queue": Command("node.cli.queue", "show what waits, why, and the projected position"),
    "cancel": Command("node.cli.queue", "take back a payment that waits"),
    "hold": Command("node.cli.queue", "keep a queued payment from settling"),
    "release": Command("node.cli.queue", "let a held payment wait again"),
    "reprioritise": Command("node.cli.queue", "move a queued payment to another priority"),
    "statement": Command("node.cli.statement", "show an account's day: opening to closing"),
    "trace": Command("node.cli.trace", "show the payments linked to one"),
    "limit": Command("node.cli.limits", "show or set limits of a settlement account"),
    "policy": Command("node.cli.limits", "show or set how one's own accounts are run"),
    "pledge": Command("node.cli.credit", "pledge securities for intraday credit"),
    "price": Command("node.cli.credit", "show or post prices of collateral"),
    "line": Command("node.cli.credit", "show credit lines and what is drawn"),
    "cycle": Command("node.cli.netting", "show, close, extend, unwind clearing cycles"),
    "link": Command("node.cli.linked", "settle several payments together (PvP, DvP)"),
    "reserve": Command("node.cli.reservations", "set an amount aside, to be posted later"),
    "post": Command("node.cli.reservations", "settle a reservation, in full or in part"),
    "void": Command("node.cli.reservations", "let a reservation go"),
    "recall": Command("node.cli.returns", "ask for a settled payment back"),
    "return": Command("node.cli.returns", "give back all or part of a settled payment"),
    "acknowledge": Command("node.cli.returns", "state that one has seen an outcome"),
    "dispute": Command("node.cli.disputes", "contest a settled payment"),
    "day": Command("node.cli.day", "show the operating day; delay a phase, or proceed"),
    "freeze": Command("node.cli.supervision", "freeze a participant's money (supervisor)"),
    "consent": Command("node.cli.supervision", "agree to a move of client money (supervisor)"),
    "propose": Command("node.cli.governance", "propose changes of the ledger (operator)"),
    "approve": Command("node.cli.governance", "approve a proposal (operator)"),
    "proposals": Command("node.cli.governance", "show open proposals and who approved them"),
    "validators": Command("node.cli.governance", "show the validators, also of a pending epoch"),
    "keystore": Command("node.cli.keys", "create or show encrypted key files"),
    "evidence": Command("node.cli.evidence", "write the dossier of a payment"),
    "verify": Command("node.cli.verify", "check a dossier offline"),
    "audit": Command("node.cli.audit", "check a whole chain"),
    "init": Command("node.cli.founding", "make a node's keys and home directory"),
    "genesis": Command("node.cli.founding", "build or show a genesis file"),
    "schedule": Command("node.cli.schedule", "make or check a schedule of business days"),
    "start": Command("node.cli.operator", "run a node"),
    "doctor": Command("node.cli.doctor", "look for what is wrong with a node"),
    "backup": Command("node.cli.operator", "write a home into one file"),
    "restore": Command("node.cli.operator", "make a home from a backup"),
    "repair": Command("node.cli.repair", "replace a damaged database"),
    "simulate": Command("node.cli.simulate", "play a scenario of payments without a network"),
    "config": Command("node.cli.operator", "check a node's configuration"),
    "devnet": Command("devnet.cli", "run a local network of real node processes"),
}


def build_parser(wanted: str | None) -> argparse.ArgumentParser:
    """The parser; only the command `wanted` has its options."""
    parser = Parser(
        prog="nostro",
        description="A settlement node for banks: pay, look, verify, operate.",
        epilog="Exit codes: 0 done, settled, valid; 1 refused, rejected, invalid; 2 cannot tell; "
        "3 final but not settled; 64 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", parser_class=Parser)
    module = COMMANDS[wanted].module if wanted in COMMANDS else None
    for name, command in COMMANDS.items():
        if command.module != module:
            subparsers.add_parser(name, help=command.help)
    if module is not None:
        importlib.import_module(module).register(subparsers)
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return f"nostro {version('nostro')}"
    except PackageNotFoundError:
        return "nostro (not installed)"


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code. Reports every error itself."""
    output = Output(as_json="--json" in argv)
    return guarded(lambda: _dispatch(list(argv), output), output)


def _dispatch(argv: list[str], output: Output) -> int:
    parser = build_parser(argv[0] if argv else None)
    args = parser.parse_args(argv)
    handler: Callable[[argparse.Namespace, Output], int] | None = getattr(args, "handler", None)
    if handler is None:
        parser.print_help(sys.stderr)
        return Exit.USAGE
    return handler(args, output)


def run() -> NoReturn:
    """The entry point of the command."""
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(sys.argv[1:]))


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM as SIGINT, so that whatever handles that one (asyncio cancels its main task) ends
    cleanly. A shell lets what it starts in the background ignore SIGINT: then as if it did not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.default_int_handler(number, frame)
    signal.raise_signal(signal.SIGINT)
