"""Money in and out of a ledger, and between a participant's own accounts: issue, redeem, move."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from node.cli.common import account_kind, account_option
from node.cli.errors import CommandError, usage
from node.cli.instruct import Desk, Draft, add_order, moving
from node.cli.output import Output
from node.cli.terms import add_money

if TYPE_CHECKING:
    from node.api.service import AssetView, ParticipantView


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    issue = subparsers.add_parser(
        "issue", help="create money or securities on a participant's account (issuer)"
    )
    issue.add_argument("--to", dest="creditor", metavar="PARTICIPANT", required=True)
    add_money(issue, required=True)
    add_order(issue, sender="who signs (default: the asset's issuer)")
    issue.set_defaults(handler=_issue)

    redeem = subparsers.add_parser(
        "redeem", help="destroy money or securities of one's own account (issuer)"
    )
    add_money(redeem, required=True)
    add_order(redeem, sender="who signs (default: the asset's issuer)")
    redeem.set_defaults(handler=_redeem)

    move = subparsers.add_parser(
        "move",
        help="move money between one's own accounts",
        description="Move money between a participant's settlement, margin and fund account, and "
        "an operator's capital account.",
    )
    add_money(move, required=True)
    for flag in ("--source", "--target"):
        move.add_argument(flag, metavar="KIND", type=account_option, required=True)
    add_order(move)
    move.set_defaults(handler=_move)


def _issue(args: argparse.Namespace, output: Output) -> int:
    async def make(desk: Desk, uetr: bytes) -> Draft:
        from node.chain.types import Issue  # noqa: PLC0415

        asset, amount = _money(desk)
        creditor = desk.book.participant(args.creditor)
        body = Issue(uetr, asset.code, creditor.lei, amount)
        return Draft(body, _issuer(desk, asset))

    return moving(args, output, make)


def _redeem(args: argparse.Namespace, output: Output) -> int:
    async def make(desk: Desk, uetr: bytes) -> Draft:
        from node.chain.types import Redeem  # noqa: PLC0415

        asset, amount = _money(desk)
        return Draft(Redeem(uetr, asset.code, amount), _issuer(desk, asset))

    return moving(args, output, make)


def _move(args: argparse.Namespace, output: Output) -> int:
    if args.source == args.target:
        raise usage("--source and --target are the same account; nothing would move")

    async def make(desk: Desk, uetr: bytes) -> Draft:
        from node.chain.types import MoveOwn  # noqa: PLC0415

        asset, amount = _money(desk)
        source, target = account_kind(args.source), account_kind(args.target)
        sender = desk.sender()
        if args.target == "capital" and sender is not None and "operator" not in sender.roles:
            raise CommandError(f"{sender.name} is no operator; only these have a capital account")
        return Draft(MoveOwn(uetr, asset.code, source, target, amount), sender)

    return moving(args, output, make)


def _issuer(desk: Desk, asset: AssetView) -> ParticipantView:
    """The asset's issuer alone may: another's key is refused before anything is sent."""
    return desk.sender() or desk.book.participant(asset.issuer)


def _money(desk: Desk) -> tuple[AssetView, int]:
    asset = desk.book.asset(desk.args.currency)
    return asset, desk.book.amount(desk.args.amount, asset)
