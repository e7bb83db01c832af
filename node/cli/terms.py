"""The options that describe a payment, for `pay` and `reserve`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from node.cli.common import account_option, instant_option
from node.cli.errors import usage

if TYPE_CHECKING:
    from node.cli.orders import Terms

REQUIRED = {
    "debtor": "--from", "creditor": "--to", "amount": "--amount", "currency": "--currency",
}  # fmt: skip
OPTIONAL = (
    "priority",
    "payment_class",
    "mode",
    "from_account",
    "to_account",
    "earliest",
    "latest",
    "previous",
    "on_behalf_of",
    "to_indirect",
    "ultimate_debtor",
    "ultimate_creditor",
)
"""Options beside them, each a field of `orders.Terms`."""


def add_money(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Amount, currency, UETR."""
    parser.add_argument("--amount", required=required, help="decimal, such as 1250.00")
    parser.add_argument(
        "--currency", required=required, help="code of the asset: EUR, or a security's ISIN"
    )
    parser.add_argument(
        "--uetr", help="a UUID version 4; give the same one again to retry (default: a new one)"
    )


def add_terms(parser: argparse.ArgumentParser) -> None:
    """Everything else that a payment says."""
    group = parser.add_argument_group("the payment")
    group.add_argument(
        "--priority", choices=("urgent", "high", "normal"), help="place in the queue"
    )
    group.add_argument(
        "--class",
        dest="payment_class",
        choices=("customer", "interbank"),
        help="customer payments have an earlier cut-off (default: interbank)",
    )
    group.add_argument(
        "--mode",
        choices=("gross", "net"),
        help="net: with the other payments of the open clearing cycle (default: gross)",
    )
    for flag, whose in (("--from-account", "debtor"), ("--to-account", "creditor")):
        group.add_argument(
            flag, metavar="KIND", type=account_option, help=f"of the {whose} (default: settlement)"
        )
    group.add_argument(
        "--earliest", metavar="TIME", type=instant_option, help="does not settle before"
    )
    group.add_argument(
        "--latest",
        metavar="TIME",
        type=instant_option,
        help="expires after; TIME is 90m, 12h, 7d from now, or 2026-03-02T17:00:00+01:00",
    )
    group.add_argument("--previous", metavar="UETR", help="the payment that this one carries on")
    group.add_argument(
        "--on-behalf-of", metavar="PARTICIPANT", help="the indirect participant that pays"
    )
    group.add_argument(
        "--to-indirect", metavar="PARTICIPANT", help="the indirect participant that receives"
    )
    group.add_argument("--ultimate-debtor", metavar="NAME", help="whose money it is")
    group.add_argument("--ultimate-creditor", metavar="NAME", help="whom it is for")


def terms_of(args: argparse.Namespace, command: str, otherwise: str = "") -> Terms:
    """What the options ask for. Raises usage where one that is needed lacks."""
    from node.cli.orders import Terms  # noqa: PLC0415

    missing = [flag for name, flag in REQUIRED.items() if getattr(args, name) is None]
    if missing:
        raise usage(f"{command} needs {', '.join(missing)}{otherwise}")
    given = {
        name: getattr(args, name)
        for name in (*REQUIRED, *OPTIONAL)
        if getattr(args, name) is not None
    }
    return Terms(**given)
