"""`nostro trace`: payments that belong together, from the source to where the money went."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from node.cli.common import add_asking, show
from node.cli.errors import Exit
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
        "that follows from that source.",
    )
    trace.add_argument("uetr", metavar="UETR")
    add_asking(trace)
    trace.set_defaults(handler=_trace)


def _trace(args: argparse.Namespace, output: Output) -> int:
    from node.chain.uetr import uetr_text  # noqa: PLC0415
    from node.cli.orders import read_uetr  # noqa: PLC0415

    uetr = uetr_text(read_uetr(args.uetr))

    async def tell(client: ApiClient) -> int:
        found = await client.trace(uetr)
        output.document(found)
        _tell(output, found.source, uetr, "", "")
        if not found.complete:
            output.line("… and more: this node does not hold, or does not tell, all of it")
        return Exit.DONE

    return show(args, None, tell)


def _tell(output: Output, node: TraceView, asked: str, lead: str, below: str) -> None:
    mark = " *" if node.uetr == asked else ""
    if not node.known:
        output.line(f"{lead}{node.uetr}  not held here{mark}")
    else:
        parties = " -> ".join(name for name in (node.debtor_name, node.creditor_name) if name)
        relation = "" if node.relation == "source" else f" ({node.relation.replace('-', ' ')})"
        reason = f" {node.reason}" if node.reason else ""
        output.line(
            f"{lead}{node.uetr}  {parties}  {node.amount or '?'} {node.currency or ''}  "
            f"{node.status}{reason}{relation}{mark}"
        )
    for text in _notes(node):
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


def _notes(node: TraceView) -> list[str]:
    notes = []
    if node.recall is not None:
        notes.append(f"recall {node.recall}")
    if node.returned is not None:
        notes.append(f"{node.returned} {node.currency or ''} given back".replace("  ", " "))
    if node.dispute is not None:
        notes.append(
            f"disputed by {node.dispute.opened_by_name}: {node.dispute.verdict or 'not decided'}"
        )
    return notes
