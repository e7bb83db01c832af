"""How a participant runs its accounts: limits, FIFO bypass, sweeps at close of day."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from node.cli.common import add_asking, ask, show
from node.cli.errors import CommandError, Exit, usage
from node.cli.instruct import Desk, Draft, Reported, add_order, add_reference, order
from node.cli.output import Output

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.service import ParticipantView

MAX_SWEEPS = 16
"""Assets swept for one participant."""


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    limit = subparsers.add_parser(
        "limit",
        help="show or set limits of a settlement account",
        description="A limit bounds what an account pays out more than it takes in since the start "
        "of the day: towards one counterparty, or towards all that have no limit of their own.",
    )
    commands = limit.add_subparsers(metavar="COMMAND", required=True)
    shown = commands.add_parser("show", help="the limits and how much of them is used")
    shown.add_argument("participant", metavar="PARTICIPANT", nargs="?")
    add_asking(shown)
    shown.set_defaults(handler=_show_limits)
    for name, help in (("set", "set a limit"), ("remove", "have no such limit any longer")):
        parser = commands.add_parser(name, help=help)
        parser.add_argument("participant", metavar="PARTICIPANT", help="whose account")
        parser.add_argument("--currency", required=True)
        parser.add_argument(
            "--towards", metavar="PARTICIPANT", help="without it: towards all without their own"
        )
        if name == "set":
            parser.add_argument("--amount", required=True, help="decimal; 0.00: nothing more")
        add_reference(parser)
        add_order(parser, sender="who signs: the holder (default) or an operator")
        parser.set_defaults(handler=_set_limit)

    policy = subparsers.add_parser(
        "policy",
        help="show or set how one's own accounts are run",
        description="FIFO bypass: a payment that can settle at entry does, even where others of "
        "its class wait. Sweep: at close of day all that is available goes to another participant.",
    )
    policy.add_argument("participant", metavar="PARTICIPANT")
    policy.add_argument("--fifo-bypass", choices=("on", "off"))
    policy.add_argument(
        "--sweep", metavar="CURRENCY=PARTICIPANT", action="append", help="may be repeated"
    )
    policy.add_argument("--no-sweep", metavar="CURRENCY", action="append", help="may be repeated")
    add_reference(policy)
    add_order(policy, sender="who signs (default: the participant itself)")
    policy.set_defaults(handler=_policy)


# --- limits ---------------------------------------------------------------------------------------


def _show_limits(args: argparse.Namespace, output: Output) -> int:
    async def tell(client: ApiClient) -> int:
        found = await client.limits(args.participant)
        output.document({"limits": found})
        rows = [
            (
                account.participant,
                account.asset,
                each.counterparty_name or "all others",
                each.limit,
                each.used,
                each.left,
            )
            for account in found
            for each in account.limits
        ]
        heads = ("participant", "asset", "towards", "limit", "used", "left")
        output.table(heads, rows, right="limit used left")
        return Exit.DONE

    return show(args, args.participant, tell)


def _set_limit(args: argparse.Namespace, output: Output) -> int:
    async def make(desk: Desk) -> Draft:
        from node.chain.types import SetLimit  # noqa: PLC0415

        holder = desk.book.participant(args.participant)
        asset = desk.book.asset(args.currency)
        towards = None if args.towards is None else desk.book.participant(args.towards).lei
        if towards == holder.lei:
            raise CommandError(f"{holder.name} has no limit towards itself")
        limit = None
        if getattr(args, "amount", None) is not None:
            limit = desk.book.amount(args.amount, asset, zero=True)
        return Draft(SetLimit(holder.lei, asset.code, towards, limit), desk.sender(holder.lei))

    return order(args, output, make)


# --- policy ---------------------------------------------------------------------------------------


def _policy(args: argparse.Namespace, output: Output) -> int:
    if args.fifo_bypass is None and not args.sweep and not args.no_sweep:
        return show(args, args.participant, lambda client: _show_policy(args, output, client))

    async def make(desk: Desk) -> Draft:
        from node.chain.types import SetPolicy, Sweep  # noqa: PLC0415

        holder = desk.book.participant(args.participant)
        # The order replaces the whole policy; what is not named stays as the ledger has it.
        bypass = holder.fifo_bypass if args.fifo_bypass is None else args.fifo_bypass == "on"
        sweeps = {each.asset: each.to for each in holder.sweeps}
        for code in args.no_sweep or ():
            if sweeps.pop(desk.book.asset(code).code, None) is None:
                raise CommandError(f"{holder.name} has no sweep of {code}")
        for text in args.sweep or ():
            code, _, target = text.partition("=")
            if not target:
                raise usage(f"--sweep {text!r}: write it as CURRENCY=PARTICIPANT")
            sweeps[desk.book.asset(code).code] = desk.book.participant(target).lei
        if len(sweeps) > MAX_SWEEPS:
            raise CommandError(f"{len(sweeps)} sweeps; at most {MAX_SWEEPS} are possible")
        ordered = tuple(Sweep(code, sweeps[code]) for code in sorted(sweeps))
        return Draft(SetPolicy(bypass, ordered), desk.sender(holder.lei))

    async def after(desk: Desk, _: Reported) -> dict[str, Any]:
        desk.output.line("          in force from the next block on")
        return {}

    return order(args, output, make, after)


async def _show_policy(args: argparse.Namespace, output: Output, client: ApiClient) -> int:
    from node.cli.orders import Book  # noqa: PLC0415

    book = Book(await ask(client.participants), ())
    holder: ParticipantView = book.participant(args.participant)
    document = {
        "participant": holder.name,
        "fifo_bypass": holder.fifo_bypass,
        "sweeps": [{"asset": s.asset, "to": book.name(s.to)} for s in holder.sweeps],
    }
    output.document(document)
    output.line(f"{holder.name}: FIFO bypass {'on' if holder.fifo_bypass else 'off'}")
    for sweep in holder.sweeps:
        output.line(f"  at close all available {sweep.asset} goes to {book.name(sweep.to)}")
    return Exit.DONE
