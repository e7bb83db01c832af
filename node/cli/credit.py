"""Intraday credit: securities pledged, their prices, the lines that follow."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from node.cli.common import add_asking, ask, date_text, show
from node.cli.errors import Exit, usage
from node.cli.instruct import Desk, Draft, Reported, add_order, add_reference, order
from node.cli.output import Output

if TYPE_CHECKING:
    from node.api.client import ApiClient

MAX_HAIRCUT = 10_000
"""Basis points."""


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    pledge = subparsers.add_parser(
        "pledge",
        help="pledge securities for intraday credit, or release them",
        description="Move securities to the collateral account, and the credit line of the "
        "currency grows by their value after the haircut; --release moves them back. Without "
        "--security: show what is pledged.",
    )
    pledge.add_argument("participant", metavar="PARTICIPANT", nargs="?")
    pledge.add_argument("--security", metavar="ISIN")
    pledge.add_argument("--currency", help="of the credit that they secure")
    pledge.add_argument("--quantity", help="decimal, in the security's unit")
    pledge.add_argument("--release", action="store_true", help="move them back")
    add_reference(pledge)
    add_order(pledge, sender="who signs (default: PARTICIPANT)")
    pledge.set_defaults(handler=_pledge)

    price = subparsers.add_parser(
        "price",
        help="show prices of collateral, or post one (operator)",
        description="A quantity Q of the security is worth Q x PRICE / LOT, less the haircut. A "
        "price below what is drawn makes a margin call, never a refusal.",
    )
    price.add_argument("security", metavar="ISIN", nargs="?")
    price.add_argument("--currency")
    price.add_argument("--price", help="decimal, in the currency, for a lot")
    price.add_argument("--lot", default="1", help="decimal, in the security's unit (default: 1)")
    price.add_argument("--haircut", metavar="BP", type=_haircut, help="basis points, 0 to 10000")
    add_reference(price)
    add_order(price)
    price.set_defaults(handler=_price)

    line = subparsers.add_parser(
        "line", help="show credit lines, what is drawn, and overnight loans"
    )
    line.add_argument("participant", metavar="PARTICIPANT", nargs="?")
    add_asking(line)
    line.set_defaults(handler=_line)


def _haircut(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= MAX_HAIRCUT):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of basis points from 0 to 10000")
    return int(text)


# --- pledging -------------------------------------------------------------------------------------


def _pledge(args: argparse.Namespace, output: Output) -> int:
    given = [name for name in ("security", "currency", "quantity") if getattr(args, name)]
    if not given and not args.release:
        return show(args, args.participant, lambda client: _show_pledges(args, output, client))
    if len(given) < 3:
        raise usage("pledge needs --security, --currency and --quantity; none of them shows")

    async def make(desk: Desk) -> Draft:
        from node.chain.types import Pledge, ReleaseCollateral  # noqa: PLC0415

        security, currency = desk.book.asset(args.security), desk.book.asset(args.currency)
        quantity = desk.book.amount(args.quantity, security)
        holder = None if args.participant is None else desk.book.participant(args.participant)
        kind = ReleaseCollateral if args.release else Pledge
        body = kind(security.code, currency.code, quantity)
        return Draft(body, desk.sender(None if holder is None else holder.lei))

    return order(args, output, make, _tell_line)


async def _tell_line(desk: Desk, report: Reported) -> dict[str, Any]:
    view = await ask(lambda: desk.client.accounts(report.sender))
    for account in view.balances:
        if (account.account, account.asset) == ("settlement", desk.args.currency):
            desk.output.line(f"line      {account.line} {account.asset}")
            return {"line": account.line, "available": account.available}
    return {}


async def _show_pledges(args: argparse.Namespace, output: Output, client: ApiClient) -> int:
    found = await client.pledges(args.participant)
    output.document({"pledges": found})
    output.table(
        ("participant", "security", "quantity", "currency", "value"),
        [(p.participant, p.security, p.quantity, p.currency, p.value or "-") for p in found],
        right="quantity value",
    )
    return Exit.DONE


# --- prices ---------------------------------------------------------------------------------------


def _price(args: argparse.Namespace, output: Output) -> int:
    given = [name for name in ("currency", "price", "haircut") if getattr(args, name) is not None]
    if not given:
        return show(args, None, lambda client: _show_prices(args, output, client))
    if len(given) < 3 or args.security is None:
        raise usage("price needs ISIN, --currency, --price and --haircut to post one")

    async def make(desk: Desk) -> Draft:
        from node.chain.types import PostPrice  # noqa: PLC0415

        security, currency = desk.book.asset(args.security), desk.book.asset(args.currency)
        body = PostPrice(
            security.code,
            currency.code,
            desk.book.amount(args.price, currency, zero=True),
            desk.book.amount(args.lot, security),
            args.haircut,
        )
        return Draft(body, desk.sender())

    return order(args, output, make)


async def _show_prices(args: argparse.Namespace, output: Output, client: ApiClient) -> int:
    found = [each for each in await client.prices() if args.security in (None, each.security)]
    output.document({"prices": found})
    output.table(
        ("security", "currency", "price", "lot", "haircut"),
        [(p.security, p.currency, p.price, p.lot, f"{p.haircut} bp") for p in found],
        right="price lot haircut",
    )
    return Exit.DONE


# --- lines ----------------------------------------------------------------------------------------


def _line(args: argparse.Namespace, output: Output) -> int:
    async def tell(client: ApiClient) -> int:
        view = await client.accounts(args.participant)
        pledges = await client.pledges(args.participant)
        loans = await client.loans(args.participant)
        rows = [
            {
                "participant": b.participant,
                "asset": b.asset,
                "line": b.line,
                "drawn": b.drawn,
                "available": b.available,
            }
            for b in view.balances
            if b.account == "settlement" and not _is_zero(b.line, b.drawn)
        ]
        output.document(
            {"height": view.height, "lines": rows, "pledges": pledges, "overnight_loans": loans}
        )
        heads = ("participant", "asset", "line", "drawn", "available")
        output.table(
            heads, [tuple(row[h] for h in heads) for row in rows], right="line drawn available"
        )
        for pledge in pledges:
            output.line(
                f"pledged by {pledge.participant}: {pledge.quantity} {pledge.security}, worth "
                f"{pledge.value or 'nothing'} {pledge.currency}"
            )
        for loan in loans:
            output.line(
                f"overnight loan of {loan.participant} on {date_text(loan.date)}: {loan.amount} "
                f"{loan.asset}"
            )
        output.line(f"at height {view.height}")
        return Exit.DONE

    return show(args, args.participant, tell)


def _is_zero(*amounts: str) -> bool:
    """Whether the decimal texts are all zero."""
    return not any(text.strip("0.") for text in amounts)
