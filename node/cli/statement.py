"""`nostro statement`: an account's business day, tied out to the unit before it is shown."""

from __future__ import annotations

import argparse
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from node.cli.common import account_option, add_asking, date_option, date_text, show
from node.cli.errors import CommandError, Exit
from node.cli.output import Output, instant

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.settlement import AccountStatementView, MovementView


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    statement = subparsers.add_parser(
        "statement",
        help="opening, movements and closing of a participant's accounts",
        description="Without --date: what happened since the last close (camt.052). With it: the "
        "statement of that business day (camt.053). Every statement is added up here and refused "
        "if opening and movements do not give the closing balance to the unit.",
    )
    statement.add_argument("participant", metavar="PARTICIPANT")
    statement.add_argument("--date", metavar="DATE", type=date_option, help="such as 2026-03-02")
    statement.add_argument("--currency", help="one asset only")
    statement.add_argument("--account", metavar="KIND", type=account_option)
    add_asking(statement)
    statement.set_defaults(handler=_statement)


def _statement(args: argparse.Namespace, output: Output) -> int:
    async def tell(client: ApiClient) -> int:
        statements = [
            each
            for each in await client.statements(args.participant, args.date)
            if args.currency in (None, each.asset) and args.account in (None, each.account)
        ]
        if not statements:
            raise CommandError(_nothing(args))
        documents = []
        for statement in statements:
            movements = await client.movements(statement)
            credits, debits = _tie_out(statement, movements)
            documents.append(_document(statement, movements, credits, debits))
            _tell(output, statement, movements, credits, debits)
        output.document({"statements": documents})
        return Exit.DONE

    return show(args, args.participant, tell)


def _nothing(args: argparse.Namespace) -> str:
    when = "" if args.date is None else f" for {date_text(args.date)}"
    which = " ".join(text for text in (args.currency, args.account) if text is not None)
    return (
        f"there is no statement of {args.participant}{when}{f' about {which}' if which else ''}: "
        "it had no such account, or that day has not been closed"
    )


def _tie_out(
    statement: AccountStatementView, movements: list[MovementView]
) -> tuple[Decimal, Decimal]:
    """(credits, debits). Exact: `Decimal` adds decimal texts without rounding at this size."""
    credits = sum((Decimal(m.amount) for m in movements if m.amount[0] != "-"), Decimal(0))
    debits = -sum((Decimal(m.amount) for m in movements if m.amount[0] == "-"), Decimal(0))
    if Decimal(statement.opening) + credits - debits != Decimal(statement.closing):
        raise CommandError(
            f"the statement of {statement.participant}'s {statement.account} account in "
            f"{statement.asset} does not add up: opening {statement.opening}, credits {credits}, "
            f"debits {debits}, closing {statement.closing}. The node's answer is wrong; ask "
            "another node and keep this message"
        )
    return credits, debits


def _document(
    statement: AccountStatementView,
    movements: list[MovementView],
    credits: Decimal,
    debits: Decimal,
) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415

    return {
        **msgspec.structs.asdict(statement),
        "credits": str(credits),
        "debits": str(debits),
        "movements": movements,
    }


def _tell(
    output: Output,
    statement: AccountStatementView,
    movements: list[MovementView],
    credits: Decimal,
    debits: Decimal,
) -> None:
    day = "since the last close" if statement.date is None else date_text(statement.date)
    output.line(
        f"{statement.participant} {statement.asset} {statement.account}, {day} (events "
        f"{statement.begins} to {statement.ends})"
    )
    output.line(f"  opening  {statement.opening:>24}")
    for movement in movements:
        cycle = "" if movement.cycle is None else f" cycle {movement.cycle}"
        output.line(
            f"  {instant(movement.time)}  {movement.amount:>24}  {movement.kind}{cycle}  "
            f"{movement.uetr or ''}".rstrip()
        )
    output.line(f"  credits  {credits:>24}")
    output.line(f"  debits   {debits:>24}")
    output.line(f"  closing  {statement.closing:>24}")
    output.line()
