"""`nostro trace`: payments that belong together, from the source to where the money went; and all
of those that went through an account in a window of time."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli import look_through
from node.cli.common import ACCOUNT_KINDS, add_asking, show
from node.cli.errors import CommandError, Exit, usage
from node.cli.files import write_whole
from node.cli.flow import Flow, flow_html, payments_of, remarks_of, status_text
from node.cli.output import Output

if TYPE_CHECKING:
    from node.api.client import ApiClient
    from node.api.settlement import TraceView


def register(subparsers: Any) -> None:
    """Add this module's command to the parser."""
    trace = subparsers.add_parser(
        "trace",
        help="show the payments linked to one: intermediaries, returns, recall, dispute",
        description="Find the source of a payment by what each one carries on, then everything "
        "that follows from that source. Or, with --account, do so for every payment that moved an "
        "account in a window of time.",
    )
    trace.add_argument("uetr", metavar="UETR", nargs="?")
    trace.add_argument("--account", metavar="PARTICIPANT", help="look through its account")
    trace.add_argument("--currency", metavar="CODE", help="of the account, or an ISIN")
    trace.add_argument(
        "--kind", choices=ACCOUNT_KINDS, default=None, help="of the account (default: settlement)"
    )
    trace.add_argument(
        "--since",
        metavar="TIME",
        type=look_through.past_option,
        help="window, first instant: 2026-03-02, 2026-03-02T17:00:00+01:00 or 24h (ago)",
    )
    trace.add_argument(
        "--until",
        metavar="TIME",
        type=look_through.past_option,
        help="window, up to before this instant (default: now)",
    )
    trace.add_argument(
        "-o",
        "--output",
        metavar="FILE.html",
        type=Path,
        help="draw a picture of the flow, with the payments' dossiers in FILE.files beside it",
    )
    add_asking(trace)
    trace.set_defaults(handler=_trace)


def _trace(args: argparse.Namespace, output: Output) -> int:
    window = (args.currency, args.kind, args.since, args.until)
    if args.account is not None:
        if args.uetr is not None:
            raise usage("give a UETR or --account, not both")
        if args.currency is None or args.since is None:
            raise usage("--account needs --currency and --since")
        return _account(args, output)
    if args.uetr is None or any(each is not None for each in window):
        raise usage("give a UETR, or --account with --currency and --since")
    return _payment(args, output)


def _payment(args: argparse.Namespace, output: Output) -> int:
    from node.chain.uetr import uetr_text  # noqa: PLC0415
    from node.cli.orders import read_uetr  # noqa: PLC0415

    uetr = uetr_text(read_uetr(args.uetr))

    async def tell(client: ApiClient) -> int:
        found = await client.trace(uetr)
        if args.output is not None:
            flow = Flow(f"From {found.source.uetr}", found.source, found.complete)
            await _draw(client, args.output, f"Flow of payment {uetr}", [flow], asked=uetr)
        output.document(found)
        _tell(output, found.source, uetr, "", "")
        if not found.complete:
            output.line("… and more: this node does not hold, or does not tell, all of it")
        if args.output is not None:
            output.line(f"picture   {args.output}")
        return Exit.DONE

    return show(args, None, tell)


def _account(args: argparse.Namespace, output: Output) -> int:
    kind = args.kind or "settlement"

    async def tell(client: ApiClient) -> int:
        found = await look_through.look_through(
            client,
            args.account,
            (args.currency, kind),
            output,
            since=args.since,
            until=args.until,
        )
        title = f"{args.account}, {kind} account in {args.currency}"
        if args.output is not None:
            flows = [
                Flow(f"From {each.source.uetr}", each.source, each.complete) for each in found.trees
            ]
            await _draw(client, args.output, title, flows, remarks=found.remarks)
        output.document(found)
        output.line(f"{title}, blocks {found.first} to {found.last}")
        for remark in found.remarks:
            output.line(remark)
        for tree in found.trees:
            output.line()
            _tell(output, tree.source, "", "", "")
        if args.output is not None:
            output.line(f"picture   {args.output}")
        return Exit.DONE

    return show(args, args.account, tell)


async def _draw(
    client: ApiClient,
    path: Path,
    title: str,
    flows: list[Flow],
    *,
    asked: str = "",
    remarks: Sequence[str] = (),
) -> None:
    """Write the picture, and first the dossiers that it links to. Raises CommandError."""
    from node.api.client import ApiProblem  # noqa: PLC0415

    _check_names(flows)
    beside = path.with_name(f"{path.stem}.files")
    try:
        beside.mkdir(exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot make {beside}: {error.strerror or error}") from error
    dossiers: dict[str, str] = {}
    for flow in flows:
        for view in payments_of(flow.source):
            if not view.known or view.uetr in dossiers:
                continue
            try:
                dossier = await client.evidence(view.uetr)
            except ApiProblem:
                continue  # pruned there: the table says that there is none
            name = f"{view.uetr}.dossier"
            write_whole(beside / name, dossier)
            dossiers[view.uetr] = f"{beside.name}/{name}"
    page = flow_html(title, remarks, flows, asked, dossiers)
    write_whole(path, page.encode())


def _check_names(flows: Sequence[Flow]) -> None:
    """Files are named by what the node says: a path in a UETR's place would lead elsewhere."""
    from node.chain.uetr import parse_uetr  # noqa: PLC0415

    for flow in flows:
        for view in payments_of(flow.source):
            try:
                parse_uetr(view.uetr)
            except ValueError as error:
                raise CommandError(f"the node's trace is not to be relied on: {error}") from error


def _tell(output: Output, node: TraceView, asked: str, lead: str, below: str) -> None:
    mark = " *" if node.uetr == asked else ""
    if not node.known:
        output.line(f"{lead}{node.uetr}  not held here{mark}")
    else:
        parties = " -> ".join(name for name in (node.debtor_name, node.creditor_name) if name)
        output.line(
            f"{lead}{node.uetr}  {parties}  {node.amount or '?'} {node.currency or ''}  "
            f"{status_text(node)}{mark}"
        )
    behind = [f"{each.role.replace('_', ' ')} {each.name}" for each in node.parties]
    for text in [*behind, *remarks_of(node)]:
        output.line(f"{below}{'│ ' if node.following else '  '} {text}")
    for number, child in enumerate(node.following, 1):
        last = number == len(node.following)
        _tell(
            output,
            child,
            asked,
            below + ("└─ " if last else "├─ "),
            below + ("   " if last else "│  "),
        )
