"""A supervisor's orders: freeze a participant's money, consent to a move of client money."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from node.cli.common import (
    ask,
    digest_option,
    instant_option,
    reason_option,
    show,
)
from node.cli.errors import Exit, usage
from node.cli.instruct import Desk, Draft, add_order, add_reference, order
from node.cli.output import Output, instant

if TYPE_CHECKING:
    from node.api.client import ApiClient


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    freeze = subparsers.add_parser(
        "freeze",
        help="freeze a participant's debits or credits, or lift that (supervisor)",
        description="Sets both at once: what is not named is not frozen from then on. Payments "
        "that wait become held; once it is lifted they requeue at the end of their class.",
    )
    freeze.add_argument("participant", metavar="PARTICIPANT")
    freeze.add_argument("--debit", action="store_true", help="it pays nothing")
    freeze.add_argument("--credit", action="store_true", help="it receives nothing")
    freeze.add_argument("--lift", action="store_true", help="neither is frozen any longer")
    freeze.add_argument("--reason", metavar="CODE", type=reason_option, required=True)
    add_reference(freeze)
    add_order(freeze)
    freeze.set_defaults(handler=_freeze)

    consent = subparsers.add_parser(
        "consent",
        help="agree to one payment out of client reserve (supervisor)",
        description="DIGEST is the payment's leaf hash, which nostro pay --dry-run prints. The "
        "consent serves that one payment. Without DIGEST: show those in force.",
    )
    consent.add_argument("digest", metavar="DIGEST", type=digest_option, nargs="?")
    consent.add_argument("--expires", metavar="TIME", type=instant_option)
    add_reference(consent)
    add_order(consent)
    consent.set_defaults(handler=_consent)


def _freeze(args: argparse.Namespace, output: Output) -> int:
    if args.lift == (args.debit or args.credit):
        raise usage("freeze needs --debit, --credit or both; or --lift alone")

    async def make(desk: Desk) -> Draft:
        from node.chain.types import Freeze  # noqa: PLC0415

        who = desk.book.participant(args.participant)
        return Draft(Freeze(who.lei, args.debit, args.credit, args.reason), desk.sender())

    async def after(desk: Desk, _: object) -> dict[str, Any]:
        for each in await ask(desk.client.participants):
            if args.participant in (each.name, each.lei, each.bic):
                desk.output.line(
                    f"{each.name}: debits {'frozen' if each.debit_frozen else 'free'}, credits "
                    f"{'frozen' if each.credit_frozen else 'free'}"
                )
        return {}

    return order(args, output, make, after)


def _consent(args: argparse.Namespace, output: Output) -> int:
    if args.digest is None:
        return show(args, None, lambda client: _show_consents(output, client))
    if args.expires is None:
        raise usage("consent needs --expires TIME: it does not hold for ever")

    async def make(desk: Desk) -> Draft:
        from node.chain.types import Consent  # noqa: PLC0415

        return Draft(Consent(args.digest, args.expires), desk.sender())

    return order(args, output, make)


async def _show_consents(output: Output, client: ApiClient) -> int:
    found = await client.consents()
    output.document({"consents": found})
    if not found:
        output.line("no consent is in force")
    for each in found:
        output.line(f"{each.payment}  by {each.by_name}, expires {instant(each.expires)}")
    return Exit.DONE
