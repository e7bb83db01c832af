"""Disputes about settled payments: opened, evidenced, decided."""

from __future__ import annotations

import argparse
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.common import add_asking, ask, digest_option, reason_option, show
from node.cli.errors import CommandError, Exit
from node.cli.instruct import (
    Desk,
    Draft,
    add_order,
    add_reference,
    known_payment,
    one_of,
    order,
)
from node.cli.output import Output
from node.cli.returns import original

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.settlement import DisputeView

MAX_DOCUMENT_BYTES = 256 * 1024 * 1024


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    dispute = subparsers.add_parser(
        "dispute",
        help="contest a settled payment: open, evidence, decide, show",
        description="A dispute moves no money: it records who contests a payment, what documents "
        "the parties rely on, and the decision of a supervisor or of an operator that is no party.",
    )
    commands = dispute.add_subparsers(metavar="COMMAND", required=True)

    opened = commands.add_parser("open", help="contest a payment (its debtor or creditor)")
    evidence = commands.add_parser("evidence", help="put the digest of a document on record")
    decide = commands.add_parser("decide", help="decide a dispute (supervisor or operator)")
    for parser, handler in ((opened, _open), (evidence, _evidence), (decide, _decide)):
        parser.add_argument("uetr", metavar="UETR")
        if parser is not evidence:
            parser.add_argument("--reason", metavar="CODE", type=reason_option, required=True)
        add_reference(parser)
        add_order(parser)
        parser.set_defaults(handler=handler)
    evidence.add_argument("--document", metavar="FILE", type=Path, help="its SHA-256 is recorded")
    evidence.add_argument(
        "--digest", metavar="HEX", type=digest_option, help="or the digest itself"
    )
    decide.add_argument("--uphold", action="store_true", help="the claim is right")
    decide.add_argument("--dismiss", action="store_true", help="the claim is wrong")

    shown = commands.add_parser("show", help="all disputes, or that of one payment")
    shown.add_argument("uetr", metavar="UETR", nargs="?")
    add_asking(shown)
    shown.set_defaults(handler=_show)


def _open(args: argparse.Namespace, output: Output) -> int:
    async def make(desk: Desk) -> Draft:
        from node.chain.types import OpenDispute  # noqa: PLC0415

        _, payment = await original(desk, args.uetr)
        return Draft(OpenDispute(payment, args.reason), desk.sender())

    return order(args, output, make, _after)


def _evidence(args: argparse.Namespace, output: Output) -> int:
    document = (
        _document(args.document)
        if one_of(args, "document", "digest") == "document"
        else (args.digest)
    )

    async def make(desk: Desk) -> Draft:
        from node.chain.types import SubmitEvidence  # noqa: PLC0415
        from node.cli.orders import read_uetr  # noqa: PLC0415

        body = SubmitEvidence(read_uetr(args.uetr), document)
        return Draft(body, desk.sender(), (f"document  {document.hex()}",))

    return order(args, output, make, _after)


def _document(path: Path) -> bytes:
    from node.cli.connection import read_input  # noqa: PLC0415

    data = read_input(path, "the document")
    if len(data) > MAX_DOCUMENT_BYTES:
        raise CommandError(
            f"{path} has {len(data):,} bytes; give its SHA-256 with --digest instead"
        )
    return sha256(data).digest()


def _decide(args: argparse.Namespace, output: Output) -> int:
    upheld = one_of(args, "uphold", "dismiss") == "uphold"

    async def make(desk: Desk) -> Draft:
        from node.chain.types import DecideDispute, Verdict  # noqa: PLC0415
        from node.cli.orders import read_uetr  # noqa: PLC0415

        verdict = Verdict.UPHELD if upheld else Verdict.DISMISSED
        body = DecideDispute(read_uetr(args.uetr), verdict, args.reason)
        return Draft(body, desk.sender())

    return order(args, output, make, _after)


async def _after(desk: Desk, _: object) -> dict[str, Any]:
    view = await known_payment(desk, desk.args.uetr)
    found = await ask(lambda: desk.client.dispute(view.uetr))
    if found is not None:
        _tell(desk.output, found)
    return {"uetr": view.uetr, "dispute": found}


def _show(args: argparse.Namespace, output: Output) -> int:
    async def tell(client: ApiClient) -> int:
        if args.uetr is None:
            found = await client.disputes()
        else:
            from node.chain.uetr import uetr_text  # noqa: PLC0415
            from node.cli.orders import read_uetr  # noqa: PLC0415

            one = await client.dispute(uetr_text(read_uetr(args.uetr)))
            if one is None:
                raise CommandError(f"the payment {args.uetr} is not disputed")
            found = [one]
        output.document({"disputes": found})
        if not found:
            output.line("no payment was ever disputed")
        for each in found:
            output.line(each.uetr)
            _tell(output, each)
        return Exit.DONE

    return show(args, None, tell)


def _tell(output: Output, dispute: DisputeView) -> None:
    verdict = dispute.verdict or "not decided"
    output.line(
        f"dispute   of {dispute.debtor_name} and {dispute.creditor_name}, opened by "
        f"{dispute.opened_by_name} in block {dispute.opened} ({dispute.reason}): {verdict}"
    )
    for each in dispute.evidence:
        output.line(f"  {each.by_name}: {each.document}")
