"""`nostro evidence`: files that prove something, from a node."""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.connection import add_options, connect, read_input
from node.cli.errors import CommandError, Exit, usage
from node.cli.files import write_whole
from node.cli.output import Output
from node.cli.stopped import stopped

if TYPE_CHECKING:
    from node.api.client import ApiClient


def register(subparsers: Any) -> None:
    """Add this module's command to the parser."""
    evidence = subparsers.add_parser(
        "evidence",
        help="write the dossier of a payment, or the proof of a validator's equivocation",
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
        help="a stopped node's home, for --equivocation without a running node",
    )
    evidence.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    evidence.add_argument(
        "--receipt", metavar="FILE", type=Path, help="a node's receipt, to go into the dossier"
    )
    evidence.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_options(evidence)
    evidence.set_defaults(handler=_evidence)


def _evidence(args: argparse.Namespace, output: Output) -> int:
    from node.chain.uetr import uetr_text  # noqa: PLC0415
    from node.cli.orders import read_uetr  # noqa: PLC0415

    if args.equivocation is not None:
        return _evidence_of_equivocation(args, output)
    if args.uetr is None or args.home is not None:
        raise usage("name a UETR, or --equivocation EPOCH:VIEW:VALIDATOR")
    uetr = uetr_text(read_uetr(args.uetr))
    receipt = None if args.receipt is None else read_input(args.receipt, "the receipt")
    urls = connect(args).urls()
    dossier = asyncio.run(_fetch(urls, lambda node: node.evidence(uetr), "unknown-payment"))
    if receipt is not None:
        genesis = asyncio.run(_fetch(urls, lambda node: node.genesis()))
        dossier = _with_receipt(args.receipt, dossier, receipt, genesis)
    write_whole(args.output, dossier)
    output.document({"uetr": uetr, "file": str(args.output), "bytes": len(dossier)})
    output.line(check_anywhere(args.output, dossier))
    return Exit.DONE


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
    if args.uetr is not None or args.receipt is not None:
        raise usage("--equivocation takes neither a UETR nor a receipt")
    epoch, view, validator = _place(args.equivocation)
    if args.home is None:
        proof = asyncio.run(
            _fetch(
                connect(args).urls(),
                lambda node: node.equivocation_evidence(epoch, view, validator),
                "unknown-equivocation",
            )
        )
    elif args.devnet or args.config or args.api:
        raise usage("--home is a stopped node's: leave out where to connect")
    else:
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


def check_anywhere(path: Path, data: bytes) -> str:
    """A line that says how to check a file just written."""
    return (
        f"{path}: {len(data):,} bytes. Check it anywhere with: nostro verify {path} "
        "--genesis genesis.json"
    )


async def _fetch(
    urls: list[str], ask: Callable[[ApiClient], Awaitable[bytes]], lacking: str = ""
) -> bytes:
    """The answer of the first node that has one. `lacking`: the problem by which a node says that
    it does not, so that the next is asked. Raises CommandError."""
    from node.api.client import ApiClient, ApiError, ApiProblem  # noqa: PLC0415
    from node.cli.settle import no_answer  # noqa: PLC0415

    unknown: ApiProblem | None = None
    pruned: CommandError | None = None
    other: CommandError | None = None
    for url in urls:
        async with ApiClient([url]) as client:
            try:
                return await ask(client)
            except ApiProblem as error:
                if error.code == "pruned":
                    pruned = no_answer(error)
                elif error.code == lacking:
                    unknown = error
                else:
                    raise no_answer(error) from error
            except ApiError as error:
                other = no_answer(error)
    if pruned is not None:
        raise pruned
    if unknown is not None:
        raise CommandError(f"there is no evidence yet: {unknown}", Exit.UNKNOWN) from unknown
    assert other is not None
    raise other
