"""`nostro evidence`: files that prove something, from a node."""

from __future__ import annotations

import argparse
import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from node.cli.connection import add_options, connect, read_input
from node.cli.errors import CommandError, Exit, usage
from node.cli.evidence_source import check_anywhere, fetch, lei_of
from node.cli.evidence_state import add_state_options, asks_for_state, evidence_of_state
from node.cli.files import write_whole
from node.cli.output import Output
from node.cli.stopped import stopped

if TYPE_CHECKING:
    from node.audit.dossier import Dossier
    from node.audit.report import Report


def register(subparsers: Any) -> None:
    """Add this module's command to the parser."""
    evidence = subparsers.add_parser(
        "evidence",
        help="write the dossier of a payment, or the proof of a balance, of a UETR's absence or of "
        "a validator's equivocation",
    )
    evidence.add_argument("uetr", metavar="UETR", nargs="?")
    evidence.add_argument(
        "--equivocation",
        metavar="EPOCH:VIEW:VALIDATOR",
        help="instead of a payment; the validator by its index or name",
    )
    evidence.add_argument(
        "--home",
        metavar="DIR",
        type=Path,
        help="a stopped node's home, to be read instead of asking a running node",
    )
    evidence.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    evidence.add_argument(
        "--receipt", metavar="FILE", type=Path, help="a node's receipt, to go into the dossier"
    )
    evidence.add_argument(
        "--in-clear",
        metavar="PARTICIPANT|all",
        help="for this reader, who may see (its own of) the payments that settled together",
    )
    evidence.add_argument(
        "--checkpoint",
        metavar="FILE|HEIGHT:DIGEST",
        help="a checkpoint that the reader knows: its place in the history goes into the dossier",
    )
    evidence.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_state_options(evidence)
    add_options(evidence)
    evidence.set_defaults(handler=_evidence)


class Known(NamedTuple):
    """A final block that the reader knows from elsewhere."""

    height: int
    digest: bytes


def _evidence(args: argparse.Namespace, output: Output) -> int:
    from node.chain.uetr import uetr_text  # noqa: PLC0415
    from node.cli.orders import read_uetr  # noqa: PLC0415

    if asks_for_state(args):
        return evidence_of_state(args, output)
    if args.equivocation is not None:
        return _evidence_of_equivocation(args, output)
    if args.uetr is None:
        raise usage(
            "name a UETR, or --equivocation EPOCH:VIEW:VALIDATOR, --balance PARTICIPANT:CURRENCY, "
            "or --absence UETR"
        )
    uetr = read_uetr(args.uetr)
    receipt = None if args.receipt is None else read_input(args.receipt, "the receipt")
    known = None if args.checkpoint is None else _known(args.checkpoint)
    height = None if known is None else known.height
    if args.home is not None:
        _only_home(args)
        dossier, genesis = _stored_dossier(args.home, uetr, args.in_clear, height)
    else:
        urls, text = connect(args).urls(), uetr_text(uetr)
        dossier = asyncio.run(
            fetch(
                urls,
                lambda node: node.evidence(text, clear=args.in_clear, checkpoint=height),
                ("unknown-payment", "unknown-block"),
            )
        )
        genesis = asyncio.run(fetch(urls, lambda node: node.genesis()))
    if receipt is not None:
        dossier = _with_receipt(args.receipt, dossier, receipt, genesis)
    return _write(args.output, uetr, dossier, genesis, known=known, output=output)


def _write(
    path: Path,
    uetr: bytes,
    dossier: bytes,
    genesis: bytes,
    *,
    known: Known | None,
    output: Output,
) -> int:
    """Write the dossier and say what it proves. Raises CommandError.

    The genesis file is the asked node's word: whoever verifies has their own."""
    from node.audit.report import FAIL, INVALID  # noqa: PLC0415
    from node.audit.verify import verify_file  # noqa: PLC0415
    from node.chain.uetr import uetr_text  # noqa: PLC0415

    report = verify_file(dossier, genesis)
    if report.verdict == INVALID or report.dossier is None:
        why = next((str(line) for line in report.lines if line.result == FAIL), "")
        raise CommandError(f"what the node gave proves nothing, so it is not written: {why}")
    if report.dossier.steps[0].outcome.uetr != uetr:
        raise CommandError("the node gave the dossier of another payment, which is not written")
    write_whole(path, dossier)
    tip = report.dossier.checkpoint
    output.document(
        {
            "uetr": uetr_text(uetr),
            "file": str(path),
            "bytes": len(dossier),
            "verdict": report.verdict,
            "status": report.status,
            "checkpoint": tip.height,
        }
    )
    as_of = f"as of block {tip.height} (epoch {tip.epoch})"
    output.line(f"{uetr_text(uetr)}: {_proved(report)}, {as_of}")
    output.line(check_anywhere(path, dossier))
    if known is not None and _found_at(report.dossier, known.height) != known.digest:
        raise CommandError(
            f"the node has another block at height {known.height} than the checkpoint names: its "
            f"history forks from it. Keep {path} and the checkpoint, together they prove it, and "
            "have the nodes' chains compared with nostro audit fork"
        )
    return report.exit_code


def _proved(report: Report) -> str:
    """What a dossier proves, in words."""
    facts = report.payment
    if facts is None:
        return "what became of it cannot be decided by this alone"
    amount = f"{facts.amount or facts.amount_minor} {facts.currency}"
    sides = [
        f"{word} {lei}"
        for word, lei in (("from", facts.debtor), ("to", facts.creditor))
        if lei is not None
    ]
    return f"{report.status}, {' '.join([amount, *sides])}"


def _found_at(dossier: Dossier, height: int) -> bytes | None:
    """Digest of the block that the dossier's history has at this height, if it shows it."""
    from node.chain.block import header_digest  # noqa: PLC0415

    if dossier.pinned is not None and dossier.pinned.height == height:
        return dossier.pinned.digest
    headers = (block.header for block in dossier.blocks)
    return next((header_digest(each) for each in headers if each.height == height), None)


def _known(given: str) -> Known:
    """The block that a checkpoint names: a signed note, or its height and digest. Raises
    CommandError."""
    from node.audit.note import BadNote, parse_checkpoint, parse_note  # noqa: PLC0415

    plain = re.fullmatch(r"(\d{1,18}):([0-9a-fA-F]{64})", given, re.ASCII)
    if plain is not None:
        return Known(int(plain[1]), bytes.fromhex(plain[2]))
    try:
        checkpoint = parse_checkpoint(parse_note(read_input(Path(given), "the checkpoint")).text)
    except BadNote as error:
        raise usage(f"{given} is no checkpoint, nor HEIGHT:DIGEST: {error}") from error
    return Known(checkpoint.height, checkpoint.digest)


def _stored_dossier(
    path: Path, uetr: bytes, reader: str | None, checkpoint: int | None
) -> tuple[bytes, bytes]:
    """(dossier, genesis file) from a stopped node's home. Raises CommandError."""
    from node.audit.build import ALL, EvidenceUnavailable, build_dossier  # noqa: PLC0415

    with stopped(path) as node:
        entry = node.store.uetr(uetr)
        if entry is None:
            raise CommandError(
                f"there is no evidence: {path} knows no final outcome under this UETR", Exit.UNKNOWN
            )
        clear = reader if reader in (None, ALL) else lei_of(node, str(reader))
        try:
            dossier = build_dossier(node.store, entry, clear=clear, checkpoint=checkpoint)
        except EvidenceUnavailable as error:
            raise CommandError(f"{path} cannot prove it: {error}", Exit.UNKNOWN) from error
        return dossier, node.home.genesis_bytes


def _only_home(args: argparse.Namespace) -> None:
    if args.devnet or args.config or args.api:
        raise usage("--home is a stopped node's: leave out where to connect")


def _with_receipt(path: Path, dossier: bytes, receipt: bytes, genesis: bytes) -> bytes:
    """The dossier with the receipt, if it proves anything there. Raises CommandError.

    A receipt that does not fit would make the whole dossier INVALID. The genesis file is a node's
    word here and decides nothing: whoever verifies has their own."""
    from node.audit.dossier import BadDossier, attach_receipt, decode_dossier  # noqa: PLC0415
    from node.audit.fault import Fault  # noqa: PLC0415
    from node.audit.verify_known import check_receipt  # noqa: PLC0415
    from node.chain.genesis import BadGenesis, load_genesis  # noqa: PLC0415

    try:
        joined = attach_receipt(dossier, receipt)
        check_receipt(decode_dossier(joined), load_genesis(genesis))
    except (BadDossier, BadGenesis, Fault) as error:
        raise CommandError(
            f"{path} does not go into the dossier: {error} Leave --receipt out: the dossier proves "
            "the payment without one"
        ) from error
    return joined


def _evidence_of_equivocation(args: argparse.Namespace, output: Output) -> int:
    if any(x is not None for x in (args.uetr, args.receipt, args.in_clear, args.checkpoint)):
        raise usage("--equivocation takes no UETR, and nothing that goes into a dossier")
    epoch, view, validator = _place(args.equivocation)
    if args.home is None:
        proof = asyncio.run(
            fetch(
                connect(args).urls(),
                lambda node: node.equivocation_evidence(epoch, view, validator),
                ("unknown-equivocation",),
            )
        )
    else:
        _only_home(args)
        proof = _stored_equivocation(args.home, epoch, view, validator)
    write_whole(args.output, proof)
    output.document({"file": str(args.output), "bytes": len(proof)})
    output.line(check_anywhere(args.output, proof))
    return Exit.DONE


def _stored_equivocation(home: Path, epoch: int, view: int, validator: str) -> bytes:
    from node.audit.build import EvidenceUnavailable  # noqa: PLC0415
    from node.audit.fork import build_equivocation, validator_index  # noqa: PLC0415

    with stopped(home) as node:
        try:
            index = validator_index(node.store, epoch, validator)
            return build_equivocation(node.store, epoch, view, index)
        except EvidenceUnavailable as error:
            raise CommandError(f"there is nothing to prove: {error}") from error


def _place(text: str) -> tuple[int, int, str]:
    """(epoch, view, validator) of EPOCH:VIEW:VALIDATOR. Raises CommandError."""
    found = re.fullmatch(r"(\d{1,19}):(\d{1,19}):([A-Za-z0-9._-]{1,32})", text, re.ASCII)
    if found is None:
        raise usage(f"{text!a} is not EPOCH:VIEW:VALIDATOR, such as 0:17:node2")
    return int(found[1]), int(found[2]), found[3]
