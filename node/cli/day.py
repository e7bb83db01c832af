"""The operating day: where it stands, and an operator's orders about it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from node.cli.common import add_asking, date_text, instant_option, show
from node.cli.errors import CommandError, Exit
from node.cli.instruct import Desk, Draft, add_order, add_reference, order
from node.cli.output import Output, instant

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.settlement import DayView

PHASES = ("open", "customer-cutoff", "interbank", "clearing", "closed")
"""As they are written, by the number of `Phase`."""


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    day = subparsers.add_parser("day", help="show the operating day; delay a phase, or proceed")
    commands = day.add_subparsers(metavar="COMMAND", required=True)
    shown = commands.add_parser("show", help="business date, phase, and when the next begins")
    add_asking(shown)
    shown.set_defaults(handler=_show)
    delay = commands.add_parser("delay", help="put off the beginning of a phase (operator)")
    delay.add_argument("phase", choices=PHASES)
    delay.add_argument("--until", metavar="TIME", type=instant_option, required=True)
    proceed = commands.add_parser(
        "proceed",
        help="let a day go on that waits (operator)",
        description="After an outage over the beginning of two phases the day waits: nothing "
        "expires before an operator begins the next phase. Each order begins one.",
    )
    for parser, handler in ((delay, _delay), (proceed, _proceed)):
        add_reference(parser)
        add_order(parser)
        parser.set_defaults(handler=handler)


def _delay(args: argparse.Namespace, output: Output) -> int:
    async def make(desk: Desk) -> Draft:
        from node.chain.types import DelayPhase, Phase  # noqa: PLC0415

        day = await _today(desk)
        assert day.date is not None
        body = DelayPhase(day.date, Phase(PHASES.index(args.phase)), args.until)
        said = f"phase     {args.phase} of {date_text(day.date)} until {instant(args.until)}"
        return Draft(body, desk.sender(), (said,))

    return order(args, output, make, _after)


def _proceed(args: argparse.Namespace, output: Output) -> int:
    async def make(desk: Desk) -> Draft:
        from node.chain.types import Phase, ProceedDay  # noqa: PLC0415

        day = await _today(desk)
        assert day.date is not None
        if day.waits_for is None:
            raise CommandError(
                f"the day does not wait: it is {date_text(day.date)}, phase {day.phase}"
            )
        date = day.date if day.waits_for != "open" else await _next_date(desk, day.date)
        body = ProceedDay(date, Phase(PHASES.index(day.waits_for)))
        return Draft(body, desk.sender(), (f"begins    {day.waits_for} of {date_text(date)}",))

    return order(args, output, make, _after)


async def _today(desk: Desk) -> DayView:
    from node.cli.common import ask  # noqa: PLC0415

    day = await ask(desk.client.day)
    if day.date is None:
        raise CommandError(
            "this ledger has no operating day: no schedule was ever in force. Operators publish "
            "one with: nostro propose --schedule FILE"
        )
    return day


async def _next_date(desk: Desk, date: int) -> int:
    """The business date that opens after this one: that of the order which opens it."""
    from node.cli.common import ask  # noqa: PLC0415

    later = [each.date for each in await ask(desk.client.schedule) if each.date > date]
    if not later:
        raise CommandError(f"the schedule has no day after {date_text(date)}")
    return min(later)


async def _after(desk: Desk, _: object) -> dict[str, Any]:
    day = await _today(desk)
    _tell(desk.output, day)
    return {"day": day}


def _show(args: argparse.Namespace, output: Output) -> int:
    async def tell(client: ApiClient) -> int:
        day = await client.day()
        output.document(day)
        _tell(output, day)
        return Exit.DONE

    return show(args, None, tell)


def _tell(output: Output, day: DayView) -> None:
    if day.date is None:
        output.line("always open: no schedule was ever in force")
    else:
        output.line(f"business date {date_text(day.date)}, phase {day.phase}")
    if day.waits_for is not None:
        output.line(
            f"the day waits: block time jumped over the beginning of {day.waits_for}. An operator "
            "lets it go on with: nostro day proceed"
        )
    for phase in day.phases:
        delayed = ", put off" if phase.delayed else ""
        output.line(f"  {phase.phase:<16} {instant(phase.begins)}{delayed}")
    rule = "expire" if day.close_rule == "expire" else "stay for the next day"
    output.line(f"at close, payments that wait {rule}; block time {instant(day.time)}")
    if day.pending_rules is not None:
        output.line(f"rules {day.rules}; {day.pending_rules} from height {day.pending_height} on")
