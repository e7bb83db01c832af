"""Two-phase payments: reserve an amount, post it in full or in part, or void it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from node.cli.common import digest_option, instant_option
from node.cli.errors import CommandError, usage
from node.cli.instruct import (
    Desk,
    Draft,
    Reported,
    add_order,
    add_reference,
    known_payment,
    moving,
    order,
    status_text,
)
from node.cli.output import Output
from node.cli.terms import add_money, add_terms, terms_of

if TYPE_CHECKING:
    from node.chain.types import InstructionBody


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    reserve = subparsers.add_parser(
        "reserve",
        help="set an amount aside, to be posted later",
        description="Set a payment's amount aside if it could settle now. --poster posts it, in "
        "full or in part, or anybody who shows the preimage of --hash-lock, in full. The creditor "
        "may void it; from --expires on it is void.",
    )
    reserve.add_argument("--to", dest="creditor", metavar="PARTICIPANT", help="who is paid")
    add_money(reserve, required=False)
    add_terms(reserve)
    reserve.add_argument("--poster", metavar="PARTICIPANT", help="who may post it")
    reserve.add_argument(
        "--hash-lock",
        metavar="HEX",
        type=digest_option,
        help="SHA-256 of a 32-byte preimage, whose showing posts it",
    )
    reserve.add_argument("--expires", metavar="TIME", type=instant_option, required=True)
    add_order(reserve, sender="who pays and signs")
    reserve.set_defaults(handler=_reserve)

    post = subparsers.add_parser("post", help="settle a reservation, in full or in part")
    post.add_argument("uetr", metavar="UETR")
    post.add_argument("--amount", help="decimal; the rest goes back (default: all of it)")
    post.add_argument(
        "--preimage", metavar="HEX", type=digest_option, help="of the reservation's hash lock"
    )
    add_reference(post)
    add_order(post, sender="who signs")
    post.set_defaults(handler=_post)

    void = subparsers.add_parser("void", help="let a reservation go (its creditor)")
    void.add_argument("uetr", metavar="UETR")
    add_reference(void)
    add_order(void, sender="who signs (default: the creditor)")
    void.set_defaults(handler=_void)


def _reserve(args: argparse.Namespace, output: Output) -> int:
    args.debtor = args.sender
    terms = terms_of(args, "reserve")
    if args.poster is None and args.hash_lock is None:
        raise usage("reserve needs --poster, --hash-lock or both: nobody could ever post it")

    async def make(desk: Desk, uetr: bytes) -> Draft:
        from node.chain.types import Reserve  # noqa: PLC0415

        payment = desk.book.payment(uetr, terms)
        poster = None if args.poster is None else desk.book.participant(args.poster).lei
        body = Reserve(payment, poster, args.hash_lock, args.expires)
        return Draft(body, desk.book.participant(terms.debtor))

    return moving(args, output, make)


def _post(args: argparse.Namespace, output: Output) -> int:
    if args.preimage is not None and args.amount is not None:
        raise usage("who shows the preimage posts the whole amount; leave --amount out")

    async def body(desk: Desk) -> tuple[InstructionBody, str | None]:
        from node.chain.types import Post  # noqa: PLC0415
        from node.cli.orders import read_uetr  # noqa: PLC0415

        amount = None
        if args.amount is not None:
            view = await known_payment(desk, args.uetr)
            if view.currency is None:
                raise CommandError("the node does not hold the reservation's block; ask another")
            amount = desk.book.amount(args.amount, desk.book.asset(view.currency))
        return Post(read_uetr(args.uetr), amount, args.preimage), None

    return _decide(args, output, body)


def _void(args: argparse.Namespace, output: Output) -> int:
    async def body(desk: Desk) -> tuple[InstructionBody, str | None]:
        from node.chain.types import Void  # noqa: PLC0415
        from node.cli.orders import read_uetr  # noqa: PLC0415

        view = await known_payment(desk, args.uetr)
        return Void(read_uetr(args.uetr)), view.creditor

    return _decide(args, output, body)


def _decide(args: argparse.Namespace, output: Output, body: Any) -> int:
    async def make(desk: Desk) -> Draft:
        made, sender = await body(desk)
        return Draft(made, desk.sender(sender))

    async def after(desk: Desk, _: Reported) -> dict[str, Any]:
        view = await known_payment(desk, args.uetr)
        desk.output.line(f"payment   {status_text(view.status, view.reason)}")
        return {"uetr": view.uetr, "payment": view.status}

    return order(args, output, make, after)
