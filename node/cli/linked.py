"""Linked settlement: all legs or none (PvP of two currencies, DvP of a currency and a security).

The id of a link is the digest of all its legs and its expiry. Whoever agrees to one that another
party opened names that id: the legs come from a node, are shown, and are signed only if their
digest is the id that was agreed on.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from node.cli.common import add_asking, digest_option, instant_option, show
from node.cli.errors import CommandError, Exit, usage
from node.cli.instruct import Desk, Draft, Reported, add_order, add_reference, order
from node.cli.output import Output, instant

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.settlement import LinkView
    from node.chain.types import Link, Payment

LEG_PARTS = 4
"""DEBTOR,CREDITOR,AMOUNT,ASSET; a fifth is the leg's UETR."""
MIN_LEGS, MAX_LEGS = 2, 16


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    link = subparsers.add_parser(
        "link", help="settle several payments together or not at all (PvP, DvP)"
    )
    commands = link.add_subparsers(metavar="COMMAND", required=True)
    opened = commands.add_parser(
        "open",
        help="propose legs and agree to one's own",
        description="Make a link and agree to one's own legs. The others agree with: nostro link "
        "agree ID. It settles once all did and all legs are covered; else it ends at --expires.",
    )
    opened.add_argument(
        "--leg",
        dest="legs",
        metavar="DEBTOR,CREDITOR,AMOUNT,ASSET",
        action="append",
        required=True,
        help="repeat it, 2 to 16 times; a fifth part sets the leg's UETR",
    )
    opened.add_argument("--expires", metavar="TIME", type=instant_option, required=True)
    agree = commands.add_parser("agree", help="agree to one's own legs of a link that was opened")
    agree.add_argument("id", metavar="ID", type=digest_option, help="as agreed with the others")
    for parser, handler in ((opened, _open), (agree, _agree)):
        add_reference(parser)
        add_order(parser, sender="who signs: a debtor of one of the legs")
        parser.set_defaults(handler=handler)
    shown = commands.add_parser("show", help="open links and who has agreed")
    shown.add_argument("id", metavar="ID", type=digest_option, nargs="?")
    add_asking(shown)
    shown.set_defaults(handler=_show)


# --- opening and agreeing -------------------------------------------------------------------------


def _open(args: argparse.Namespace, output: Output) -> int:
    if not MIN_LEGS <= len(args.legs) <= MAX_LEGS:
        raise usage(f"{len(args.legs)} legs; a link has {MIN_LEGS} to {MAX_LEGS}")
    made: list[Link] = []

    async def make(desk: Desk) -> Draft:
        from node.chain.types import Link  # noqa: PLC0415

        legs = tuple(_leg(desk, text) for text in args.legs)
        made.append(Link(legs, args.expires))
        return _draft(desk, made[0])

    async def after(desk: Desk, _: Reported) -> dict[str, Any]:
        return await _tell_link(desk, made[0])

    return order(args, output, make, after)


def _leg(desk: Desk, text: str) -> Payment:
    from node.cli.orders import Terms, new_uetr, read_uetr  # noqa: PLC0415

    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (LEG_PARTS, LEG_PARTS + 1):
        raise usage(f"--leg {text!r}: write it as DEBTOR,CREDITOR,AMOUNT,ASSET")
    debtor, creditor, amount, currency = parts[:LEG_PARTS]
    uetr = read_uetr(parts[LEG_PARTS]) if len(parts) > LEG_PARTS else new_uetr()
    terms = Terms(debtor=debtor, creditor=creditor, amount=amount, currency=currency)
    return desk.book.payment(uetr, terms)


def _agree(args: argparse.Namespace, output: Output) -> int:
    made: list[Link] = []

    async def make(desk: Desk) -> Draft:
        made.append(_read(args.id, await _find(desk, args.id.hex())))
        return _draft(desk, made[0])

    async def after(desk: Desk, _: Reported) -> dict[str, Any]:
        return await _tell_link(desk, made[0])

    return order(args, output, make, after)


async def _find(desk: Desk, id: str) -> LinkView:
    from node.cli.common import ask  # noqa: PLC0415

    for view in await ask(desk.client.links):
        if view.id == id:
            return view
    raise CommandError(
        f"no open link has the id {id}: it was never opened, has expired or has settled; "
        "nostro link show lists the open ones"
    )


def _read(id: bytes, view: LinkView) -> Link:
    """The legs as a node tells them, if they are those of the id."""
    from node.chain.build import link_id  # noqa: PLC0415
    from node.chain.encoding import Malformed, decode  # noqa: PLC0415
    from node.chain.types import Link, Payment  # noqa: PLC0415

    try:
        legs = tuple(decode(bytes.fromhex(leg.payment), Payment) for leg in view.legs)
    except (ValueError, Malformed) as error:
        raise CommandError(f"the node's answer is no link: {error}; ask another node") from error
    if link_id(legs, view.expires) != id:
        raise CommandError(
            "the legs that the node tells are not those of this id; nothing was signed. Ask "
            "another node"
        )
    return Link(legs, view.expires)


def _draft(desk: Desk, link: Link) -> Draft:
    """Its own legs are named before it is signed: nobody agrees to what it has not seen."""
    from node.api.amounts import format_amount  # noqa: PLC0415
    from node.chain.build import link_id  # noqa: PLC0415
    from node.chain.uetr import uetr_text  # noqa: PLC0415

    said = [f"link      {link_id(link.legs, link.expires).hex()}"]
    for leg in link.legs:
        amount = format_amount(leg.amount, desk.book.asset(leg.asset).exponent)
        said.append(
            f"leg       {desk.book.name(leg.debtor)} pays {desk.book.name(leg.creditor)} {amount} "
            f"{leg.asset}  {uetr_text(leg.uetr)}"
        )
    said.append(f"expires   {instant(link.expires)}")
    return Draft(link, desk.sender(_only_debtor(link)), tuple(said))


def _only_debtor(link: Link) -> str | None:
    debtors = {leg.debtor for leg in link.legs}
    return debtors.pop() if len(debtors) == 1 else None


async def _tell_link(desk: Desk, link: Link) -> dict[str, Any]:
    from node.chain.build import link_id  # noqa: PLC0415
    from node.chain.uetr import uetr_text  # noqa: PLC0415
    from node.cli.common import ask  # noqa: PLC0415

    id = link_id(link.legs, link.expires).hex()
    uetrs = [uetr_text(leg.uetr) for leg in link.legs]
    document: dict[str, Any] = {"link": id, "uetrs": uetrs, "missing": []}
    for view in await ask(desk.client.links):
        if view.id == id:
            who = ", ".join(view.missing)
            desk.output.line(
                f"waits     for {who} to agree: nostro link agree {id}"
                if view.missing
                else "waits     all agreed; it settles as soon as every leg is covered"
            )
            return document | {"status": "accepted", "missing": view.missing}
    leg = await ask(lambda: desk.client.payment(uetrs[0]))
    status = "unknown" if leg is None else leg.status
    desk.output.line(f"link      {status}")
    return document | {"status": status}


# --- looking --------------------------------------------------------------------------------------


def _show(args: argparse.Namespace, output: Output) -> int:
    async def tell(client: ApiClient) -> int:
        found = [
            each for each in await client.links() if args.id is None or each.id == args.id.hex()
        ]
        output.document({"links": found})
        if not found:
            output.line("no link is open" if args.id is None else "no open link has this id")
        for view in found:
            _tell(output, view)
        return Exit.DONE if found or args.id is None else Exit.REFUSED

    return show(args, None, tell)


def _tell(output: Output, view: LinkView) -> None:
    output.line(f"link {view.id}")
    output.line(f"  opened by {view.opened_by_name}, expires {instant(view.expires)}")
    for leg in view.legs:
        agreed = "agreed" if leg.signed else "not agreed"
        output.line(
            f"  {leg.debtor_name} pays {leg.creditor_name} {leg.amount} {leg.asset} ({agreed})  "
            f"{leg.uetr}"
        )
    if view.complete:
        output.line("  complete: it settles as soon as every leg is covered")
