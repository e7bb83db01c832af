"""Deferred net settlement: clearing cycles, positions, and an operator's orders about them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from node.cli.common import add_asking, ask, instant_option, show
from node.cli.errors import CommandError, Exit
from node.cli.instruct import Desk, Draft, Reported, add_order, add_reference, order
from node.cli.output import Output, instant

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.settlement import CycleView, NettingView


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    cycle = subparsers.add_parser("cycle", help="show clearing cycles; close, extend, unwind one")
    commands = cycle.add_subparsers(metavar="COMMAND", required=True)
    shown = commands.add_parser(
        "show", help="the newest cycles, positions and what is left of the caps"
    )
    shown.add_argument("currency", metavar="CURRENCY", nargs="?")
    shown.add_argument("cycle", metavar="NUMBER", nargs="?", type=_number)
    add_asking(shown)
    shown.set_defaults(handler=_show)
    for name, help in (
        ("close", "take no more payments and settle (operator)"),
        ("extend", "open another funding window of one that is short (operator)"),
        ("unwind", "reject every payment of one that could not be settled (operator)"),
    ):
        parser = commands.add_parser(name, help=help)
        parser.add_argument("currency", metavar="CURRENCY")
        if name == "close":
            parser.add_argument(
                "cycle", metavar="NUMBER", type=_number, nargs="?", help="default: the open one"
            )
        else:
            parser.add_argument("cycle", metavar="NUMBER", type=_number)
        if name == "extend":
            parser.add_argument("--until", metavar="TIME", type=instant_option, required=True)
        add_reference(parser)
        add_order(parser)
        parser.set_defaults(handler=_order, action=name)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of a cycle")
    return int(text)


# --- orders ---------------------------------------------------------------------------------------


def _order(args: argparse.Namespace, output: Output) -> int:
    async def make(desk: Desk) -> Draft:
        from node.chain.types import CycleAction, OrderCycle  # noqa: PLC0415

        asset = desk.book.asset(args.currency)
        args.cycle = await _open_cycle(desk, asset.code) if args.cycle is None else args.cycle
        action = CycleAction[args.action.upper()]
        body = OrderCycle(asset.code, args.cycle, action, getattr(args, "until", None))
        return Draft(body, desk.sender(), (f"cycle     {asset.code} {args.cycle}",))

    return order(args, output, make, _tell_cycle)


async def _open_cycle(desk: Desk, asset: str) -> int:
    for system in await ask(desk.client.netting):
        if system.asset == asset:
            return system.open_cycle
    raise CommandError(
        f"{asset} is not settled net on this ledger; operators decide on that with: "
        f"nostro propose --netting {asset}"
    )


async def _tell_cycle(desk: Desk, _: Reported) -> dict[str, Any]:
    args = desk.args
    found = await ask(lambda: desk.client.cycle(args.currency, args.cycle))
    if found is None:
        return {"cycle": args.cycle}
    desk.output.line(f"cycle     {_status(found)}")
    return {"cycle": found.cycle, "cycle_status": found.status}


# --- looking --------------------------------------------------------------------------------------


def _show(args: argparse.Namespace, output: Output) -> int:
    async def tell(client: ApiClient) -> int:
        systems = [s for s in await client.netting() if args.currency in (None, s.asset)]
        if args.cycle is None:
            cycles = await client.cycles(args.currency)
        else:
            one = await client.cycle(args.currency, args.cycle)
            if one is None:
                raise CommandError(f"{args.currency} has no clearing cycle {args.cycle}")
            cycles = [one]
        output.document({"systems": systems, "cycles": cycles})
        if args.cycle is None:
            for system in systems:
                _tell_system(output, system)
        for each in cycles:
            _tell(output, each)
        if not systems:
            output.line("no currency is settled net on this ledger")
        return Exit.DONE

    return show(args, None, tell)


def _tell_system(output: Output, system: NettingView) -> None:
    state = "" if system.enabled else ", closed to new payments"
    output.line(f"{system.asset}: cycle {system.open_cycle} is open{state}")
    rows = [(m.participant, m.net, m.cap, m.left, m.margin, m.contribution) for m in system.members]
    heads = ("member", "net", "cap", "left", "margin", "contribution")
    output.table(heads, rows, right="net cap left margin contribution")


def _status(cycle: CycleView) -> str:
    if cycle.status == "funding":
        return f"funding until {instant(cycle.until)}"
    if cycle.status == "unsettled":
        return "unsettled: it waits for an operator to extend or unwind it"
    return cycle.status if cycle.decided is None else f"{cycle.status} in block {cycle.decided}"


def _tell(output: Output, cycle: CycleView) -> None:
    output.line(
        f"{cycle.asset} cycle {cycle.cycle}: {_status(cycle)}; {cycle.payments:,} payments, "
        f"{cycle.value}"
    )
    rows = [(p.participant, p.debits, p.credits, p.net) for p in cycle.positions]
    if rows:
        output.table(("member", "owes", "is owed", "net"), rows, right="owes net")
    for short in cycle.reserved:
        output.line(f"  {short.participant} has set {short.amount} aside")
    for shortfall in (cycle.result or {}).get("shortfalls", ()):
        output.line(
            f"  {shortfall['participant']} owed {shortfall['owed']}, gave {shortfall['own']}"
        )
        for cover in shortfall["covers"]:
            output.line(
                f"    {cover['amount']} from the {cover['source']} account of "
                f"{cover['participant']}"
            )
