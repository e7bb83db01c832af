"""`nostro evidence --balance` and `--absence`: files that prove something of the ledger's state."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from node.cli.common import account_kind, account_option
from node.cli.connection import connect
from node.cli.errors import CommandError, Exit, usage
from node.cli.evidence_source import check_anywhere, fetch, lei_of
from node.cli.files import write_whole
from node.cli.output import Output
from node.cli.stopped import stopped

if TYPE_CHECKING:
    from node.audit.report import AbsenceFacts, BalanceFacts
    from node.storage.chain_store import ChainStore

T = TypeVar("T")


def add_state_options(evidence: argparse.ArgumentParser) -> None:
    """The options of `nostro evidence` that ask for a proof of the state."""
    group = evidence.add_argument_group("instead of a payment, a proof of the state")
    group.add_argument(
        "--balance",
        metavar="PARTICIPANT:CURRENCY[:KIND]",
        help="what an account held, by default the settlement account",
    )
    group.add_argument(
        "--height", metavar="HEIGHT", type=int, help="after this block; by default the last one"
    )
    group.add_argument("--absence", metavar="UETR", help="that no outcome names this UETR")
    group.add_argument(
        "--from",
        dest="start",
        metavar="DATE",
        help="a date (UTC) or a time with its zone, as in 2026-03-31T18:00:00Z; by default as "
        "early as can be shown",
    )
    group.add_argument(
        "--to", dest="end", metavar="DATE", help="likewise, included; by default as late as can be"
    )


def asks_for_state(args: argparse.Namespace) -> bool:
    """Whether one of these options was given."""
    options = (args.balance, args.height, args.absence, args.start, args.end)
    return any(option is not None for option in options)


def evidence_of_state(args: argparse.Namespace, output: Output) -> int:
    """Write the proof that was asked for. Raises CommandError."""
    others = (args.uetr, args.receipt, args.in_clear, args.checkpoint, args.equivocation)
    if any(option is not None for option in others) or (args.balance and args.absence):
        raise usage("--balance and --absence are files of their own: ask for one at a time")
    if args.home is not None and (args.devnet or args.config or args.api):
        raise usage("--home is a stopped node's: leave out where to connect")
    if args.balance is not None:
        if args.start is not None or args.end is not None:
            raise usage("--from and --to belong to --absence; a balance is one of a --height")
        proof, genesis = _balance(args)
    elif args.absence is not None:
        if args.height is not None:
            raise usage("--height belongs to --balance; an absence is one of a period")
        proof, genesis = _absence(args)
    else:
        raise usage("--height belongs to --balance, --from and --to to --absence")
    return _write(args, proof, genesis, output)


def _balance(args: argparse.Namespace) -> tuple[bytes, bytes]:
    participant, asset, kind = _account(args.balance)
    height: int | None = args.height
    if height is not None and height < 0:
        raise usage(f"--height {height}: the first block has height 0")
    if args.home is None:
        urls = connect(args).urls(participant)
        proof = asyncio.run(
            fetch(
                urls,
                lambda node: node.balance_proof(participant, asset, kind, height),
                ("unknown-block",),
            )
        )
        return proof, asyncio.run(fetch(urls, lambda node: node.genesis()))
    from node.audit.build_state import build_balance  # noqa: PLC0415

    with stopped(args.home) as node:
        top = node.store.height() or 0
        if height is not None and height > top:
            raise CommandError(
                f"no block {height} is final in {args.home}; the last one that is has height {top}",
                Exit.UNKNOWN,
            )
        lei, account = lei_of(node, participant), account_kind(kind)
        made = _made(
            args.home, node.store, lambda store: build_balance(store, lei, asset, account, height)
        )
        return made, node.home.genesis_bytes


def _account(given: str) -> tuple[str, str, str]:
    """Participant, asset, kind. Raises CommandError."""
    parts = given.split(":")
    if len(parts) not in {2, 3} or not all(parts):
        raise usage(
            f"{given!a} is not PARTICIPANT:CURRENCY or PARTICIPANT:CURRENCY:KIND, such as "
            "BANKA:EUR:settlement"
        )
    participant, asset = parts[:2]
    if not (asset.isascii() and asset.isalnum() and asset.upper() == asset and len(asset) in _CODE):
        raise usage(f"{asset!a} is no code of a currency or security")
    try:
        kind = account_option(parts[2]) if len(parts) == 3 else "settlement"
    except argparse.ArgumentTypeError as error:
        raise usage(str(error)) from error
    return participant, asset, kind


_CODE = range(3, 13)
"""Characters of an asset's code."""


def _absence(args: argparse.Namespace) -> tuple[bytes, bytes]:
    from node.chain.uetr import uetr_text  # noqa: PLC0415
    from node.cli.orders import read_uetr  # noqa: PLC0415

    uetr = read_uetr(args.absence)
    start, end = _period(args)
    if start is not None and end is not None and start >= end:
        raise usage("the period ends before it begins: give --from before --to")
    if args.home is None:
        urls, text = connect(args).urls(), uetr_text(uetr)
        proof = asyncio.run(
            fetch(
                urls,
                lambda node: node.absence_proof(text, args.start, args.end),
                ("not-covered",),
            )
        )
        return proof, asyncio.run(fetch(urls, lambda node: node.genesis()))
    from node.audit.build_state import build_absence  # noqa: PLC0415

    with stopped(args.home) as node:
        made = _made(args.home, node.store, lambda store: build_absence(store, uetr, start, end))
        return made, node.home.genesis_bytes


def _period(args: argparse.Namespace) -> tuple[int | None, int | None]:
    from node.audit.period import begins, ends  # noqa: PLC0415

    return _time("--from", args.start, begins), _time("--to", args.end, ends)


def _time(option: str, text: str | None, read: Callable[[str], int]) -> int | None:
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise usage(f"{option}: {error}") from error


def _made(home: Path, store: ChainStore, build: Callable[[ChainStore], bytes]) -> bytes:
    """What a stopped node's store proves. Raises CommandError."""
    from node.audit.build_chain import EvidenceUnavailable  # noqa: PLC0415
    from node.audit.build_state import NotCovered, UetrUsed  # noqa: PLC0415

    try:
        return build(store)
    except UetrUsed as error:
        raise CommandError(
            f"there is no absence to prove: {error}. What became of it, its dossier proves"
        ) from error
    except NotCovered as error:
        raise CommandError(f"there is no evidence yet: {error}", Exit.UNKNOWN) from error
    except EvidenceUnavailable as error:
        raise CommandError(f"{home} cannot prove it: {error}", Exit.UNKNOWN) from error


def _write(args: argparse.Namespace, proof: bytes, genesis: bytes, output: Output) -> int:
    """Write the file and say what it proves. Raises CommandError.

    The genesis file is the asked node's word: whoever verifies has their own."""
    from node.audit.report import FAIL, VALID  # noqa: PLC0415
    from node.audit.verify import verify_file  # noqa: PLC0415

    path: Path = args.output
    report = verify_file(proof, genesis)
    if report.verdict != VALID or report.state is None:
        why = next((str(line) for line in report.lines if line.result == FAIL), "")
        raise CommandError(f"what the node gave proves nothing, so it is not written: {why}")
    other = _other_than_asked(args, report.state, genesis)
    if other is not None:
        raise CommandError(
            f"the node gave a proof of something else, so it is not written: {other}"
        )
    write_whole(path, proof)
    output.document(
        {
            "kind": report.kind,
            "file": str(path),
            "bytes": len(proof),
            "verdict": report.verdict,
            "state": asdict(report.state),
        }
    )
    output.line(next(line.text for line in report.lines if line.check == report.kind))
    output.line(check_anywhere(path, proof))
    return report.exit_code


def _other_than_asked(
    args: argparse.Namespace, facts: BalanceFacts | AbsenceFacts, genesis: bytes
) -> str | None:
    """What a proof is of that was not asked for; None: it is of what was."""
    from node.audit.report import BalanceFacts  # noqa: PLC0415
    from node.chain.uetr import uetr_text  # noqa: PLC0415
    from node.cli.orders import read_uetr  # noqa: PLC0415

    if isinstance(facts, BalanceFacts):
        if args.balance is None:
            return "a balance"
        participant, asset, kind = _account(args.balance)
        holder = _lei_at_genesis(participant, genesis)
        for expected, found in (
            (asset, facts.currency),
            (kind, facts.account),
            (args.height, facts.height),
            (holder, facts.participant),
        ):
            if expected not in (None, found):
                return f"of {found}, not {expected}"
        return None
    if args.absence is None or facts.uetr != uetr_text(read_uetr(args.absence)):
        return f"the absence of {facts.uetr}"
    start, end = _period(args)
    late = start is not None and start <= facts.after_time and facts.first_height > 1
    early = max(start or 0, (end or 1) - 1) > facts.through_time
    return "another period" if late or early else None


def _lei_at_genesis(given: str, genesis: bytes) -> str | None:
    """The LEI of a participant of the genesis file; None: it came later, and its name is the asked
    node's word."""
    from node.chain.genesis import load_genesis  # noqa: PLC0415

    for each in load_genesis(genesis).participants:
        if given in (each.name, each.lei, each.bic):
            return each.lei
    return None
