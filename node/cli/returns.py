"""After settlement: recall, return, and the receiver's word that it has seen the outcome.

Settled is final: only a new payment gives money back. These instructions carry the original
payment in clear; it comes from a node and must have the leaf hash that the ledger recorded.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from node.cli.acknowledging import add_watching, watch
from node.cli.common import ask, reason_option
from node.cli.errors import CommandError, usage
from node.cli.instruct import (
    Desk,
    Draft,
    add_order,
    add_reference,
    known_payment,
    moving,
    order,
)
from node.cli.output import Output

if TYPE_CHECKING:
    from node.api.service import PaymentView
    from node.chain.types import Payment


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    recall = subparsers.add_parser(
        "recall",
        help="ask for a settled payment back, or refuse to give it back",
        description="The debtor of a settled payment asks for it back (camt.056). The creditor "
        "answers with nostro return, or with --refuse (camt.029).",
    )
    recall.add_argument("uetr", metavar="UETR")
    recall.add_argument("--reason", metavar="CODE", type=reason_option, required=True)
    recall.add_argument("--refuse", action="store_true", help="answer a recall with no")
    add_reference(recall)
    add_order(recall, sender="who signs (default: the debtor; with --refuse the creditor)")
    recall.set_defaults(handler=_recall)

    give = subparsers.add_parser(
        "return",
        help="give back all or part of a settled payment (pacs.004)",
        description="The creditor of a settled payment gives it back, at most what is not "
        "returned yet. The return is a payment of its own and may wait in the queue.",
    )
    give.add_argument("original", metavar="UETR", help="of the payment that is given back")
    give.add_argument("--amount", help="decimal (default: all that is not returned)")
    give.add_argument("--reason", metavar="CODE", type=reason_option, required=True)
    give.add_argument("--uetr", help="of the return itself; give the same one again to retry")
    give.add_argument("--priority", choices=("urgent", "high", "normal"), default="normal")
    add_order(give, sender="who signs (default: the creditor of the original)")
    give.set_defaults(handler=_return)

    acknowledge = subparsers.add_parser(
        "acknowledge",
        help="state that one has seen a payment's outcome (its creditor)",
        description="Of one payment; or with --watch of every payment to this participant that "
        "settles, once its dossier is verified.",
    )
    acknowledge.add_argument("uetr", metavar="UETR", nargs="?")
    add_watching(acknowledge)
    add_reference(acknowledge)
    add_order(acknowledge, sender="who signs (default: the creditor)")
    acknowledge.set_defaults(handler=_acknowledge)


async def original(desk: Desk, text: str) -> tuple[PaymentView, Payment]:
    """A payment on the ledger, in clear. Raises CommandError if what the node tells is another."""
    from node.chain.encoding import Malformed, decode  # noqa: PLC0415
    from node.chain.instruction import payment_digest  # noqa: PLC0415
    from node.chain.types import Payment  # noqa: PLC0415

    view = await known_payment(desk, text)
    if view.payment is None:
        raise CommandError(
            f"no node that was asked holds the payment {view.uetr} in clear: it is an issue, a "
            "redemption or a move, or its block was pruned; an archive node has every block"
        )
    try:
        payment = decode(bytes.fromhex(view.payment), Payment)
    except (ValueError, Malformed) as error:
        raise CommandError(f"the node's answer holds no payment: {error}") from error
    if payment_digest(payment).hex() != view.digest:
        raise CommandError(
            "what the node tells of this payment is not what the ledger recorded; nothing was "
            "signed. Ask another node"
        )
    return view, payment


def _recall(args: argparse.Namespace, output: Output) -> int:
    async def make(desk: Desk) -> Draft:
        from node.chain.types import Recall, RefuseRecall  # noqa: PLC0415

        view, payment = await original(desk, args.uetr)
        if args.refuse:
            return Draft(RefuseRecall(payment, args.reason), desk.sender(view.creditor))
        return Draft(Recall(payment, args.reason), desk.sender(view.debtor))

    async def after(desk: Desk, _: object) -> dict[str, Any]:
        view = await known_payment(desk, args.uetr)
        desk.output.line(f"recall    {view.recall or '-'}")
        return {"uetr": view.uetr, "recall": view.recall}

    return order(args, output, make, after)


def _return(args: argparse.Namespace, output: Output) -> int:
    async def make(desk: Desk, uetr: bytes) -> Draft:
        from node.chain.build import gross_payment  # noqa: PLC0415
        from node.chain.types import Return  # noqa: PLC0415
        from node.cli.orders import PRIORITIES  # noqa: PLC0415

        view, payment = await original(desk, args.original)
        asset = desk.book.asset(payment.asset)
        text = args.amount if args.amount is not None else view.returnable
        if text is None:
            raise CommandError(
                f"the payment {view.uetr} is {view.status}; only what settled is given back"
            )
        back = gross_payment(
            uetr,
            payment.creditor,
            payment.debtor,
            payment.asset,
            desk.book.amount(text, asset),
            debtor_account=payment.creditor_account,
            creditor_account=payment.debtor_account,
            payment_class=payment.payment_class,
            priority=PRIORITIES[args.priority],
        )
        said = (f"returns  {text} {payment.asset} of {view.uetr}",)
        return Draft(Return(back, payment, args.reason), desk.sender(view.creditor), said)

    return moving(args, output, make)


def _acknowledge(args: argparse.Namespace, output: Output) -> int:
    if args.watch is (args.uetr is not None):
        raise usage("give a UETR or --watch, one of both")
    if args.watch:
        return watch(args, output)
    if args.once or args.genesis is not None or args.position is not None:
        raise usage("--once, --genesis and --position are for --watch")

    async def make(desk: Desk) -> Draft:
        from node.chain.types import Acknowledge  # noqa: PLC0415

        view, payment = await original(desk, args.uetr)
        last = view.changes[-1]
        if last.outcome is None:
            raise CommandError(
                f"the node no longer holds block {last.height}, where the outcome stands; an "
                "archive node does"
            )
        block = await ask(lambda: desk.client.block(last.height))
        body = Acknowledge(payment, bytes.fromhex(last.outcome), bytes.fromhex(block.digest))
        said = (
            f"outcome   {last.status} in block {last.height}: {last.outcome}",
            f"block     {block.digest}",
        )
        return Draft(body, desk.sender(view.creditor), said)

    return order(args, output, make)
