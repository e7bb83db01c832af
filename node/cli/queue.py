"""A participant's queue: what waits and why, and the orders that change it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from node.cli.common import add_asking, show
from node.cli.errors import Exit
from node.cli.instruct import (
    Desk,
    Draft,
    Reported,
    add_order,
    add_reference,
    known_payment,
    order,
    status_text,
)
from node.cli.output import Output, instant

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.settlement import PositionView, WaitingView
    from node.chain.types import InstructionBody

CHANGES = {
    "cancel": "take back a payment that waits or is held",
    "hold": "keep a queued payment from settling until it is released",
    "release": "let a held payment wait again, at the end of its priority",
    "reprioritise": "move a queued payment to the end of another priority",
}


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    queue = subparsers.add_parser(
        "queue",
        help="show what waits, why, and the projected position",
        description="Show a participant's queued and held payments in the order in which they are "
        "tried, why each waits, and what its accounts would hold if all that is queued settled.",
    )
    queue.add_argument("participant", metavar="PARTICIPANT")
    queue.add_argument("--currency", help="one asset only")
    add_asking(queue)
    queue.set_defaults(handler=_queue)
    for name, help in CHANGES.items():
        parser = subparsers.add_parser(name, help=f"{help} (its debtor)")
        parser.add_argument("uetr", metavar="UETR")
        if name == "reprioritise":
            parser.add_argument("--priority", choices=("urgent", "high", "normal"), required=True)
        add_reference(parser)
        add_order(parser, sender="who signs (default: the payment's debtor)")
        parser.set_defaults(handler=_change, command_name=name)


# --- changing -------------------------------------------------------------------------------------


def _change(args: argparse.Namespace, output: Output) -> int:
    async def make(desk: Desk) -> Draft:
        view = await known_payment(desk, args.uetr)
        return Draft(_body(args), desk.sender(view.debtor))

    async def after(desk: Desk, report: Reported) -> dict[str, Any]:
        view = await known_payment(desk, args.uetr)
        desk.output.line(f"payment   {status_text(view.status, view.reason)}")
        return {"uetr": view.uetr, "payment": view.status, "payment_reason": view.reason}

    return order(args, output, make, after)


def _body(args: argparse.Namespace) -> InstructionBody:
    from node.chain.types import Cancel, Hold, Release, Reprioritise  # noqa: PLC0415
    from node.cli.orders import PRIORITIES, read_uetr  # noqa: PLC0415

    uetr = read_uetr(args.uetr)
    if args.command_name == "reprioritise":
        return Reprioritise(uetr, PRIORITIES[args.priority])
    if args.command_name == "cancel":
        return Cancel(uetr)
    return Hold(uetr) if args.command_name == "hold" else Release(uetr)


# --- looking --------------------------------------------------------------------------------------


def _queue(args: argparse.Namespace, output: Output) -> int:
    async def tell(client: ApiClient) -> int:
        view = await client.queue(args.participant, args.currency)
        output.document(view)
        for position in view.positions:
            _tell_position(output, position)
            entries = [
                each
                for each in view.entries
                if (each.asset, each.account) == (position.asset, position.account)
            ]
            _tell_entries(output, entries)
        if not view.positions:
            output.line(f"{view.participant} has no account that could queue")
        phase = "" if view.phase is None else f", phase {view.phase}"
        output.line(f"at height {view.height}{phase}")
        return Exit.DONE

    return show(args, args.participant, tell)


def _tell_position(output: Output, position: PositionView) -> None:
    account = "" if position.account == "settlement" else f" ({position.account})"
    output.line(f"{position.participant} {position.asset}{account}")
    for name, value in (
        ("balance", position.balance),
        ("reserved", position.reserved),
        ("line", position.line),
        ("available", position.available),
        ("queued out", position.queued_out),
        ("queued in", position.queued_in),
        ("projected", position.projected),
    ):
        output.line(f"  {name:<10} {value:>24}")


def _tell_entries(output: Output, entries: list[WaitingView]) -> None:
    if not entries:
        return
    rows = []
    for each in entries:
        more = f" and {each.payments - 1:,} more" if each.payments > 1 else ""
        creditor = each.members[0].creditor_name + more
        rows.append(
            (each.uetr, creditor, each.amount, each.priority, each.status, instant(each.since))
        )
    heads = ("uetr", "to", "amount", "priority", "status", "since")
    output.table(heads, rows, right="amount")
    for each in entries:
        output.line(f"  {each.uetr}: {each.reason}, {each.because}")
