"""`nostro repair`: a new database for a node whose own is damaged."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from node.cli.errors import Exit
from node.cli.output import Output


def register(subparsers: Any) -> None:
    """Add this module's command to the parser."""
    repair = subparsers.add_parser(
        "repair",
        help="replace a damaged database",
        description="Put a new, empty database into the home of a stopped node whose own is "
        "damaged or missing, and keep the damaged one beside it. The node then fetches the chain "
        "from its peers and verifies every block. Journal and keys are not touched.",
    )
    repair.add_argument("--home", metavar="DIR", type=Path, required=True)
    repair.add_argument("--json", action="store_true", help="one JSON document on stdout")
    repair.set_defaults(handler=_repair)


def _repair(args: argparse.Namespace, output: Output) -> int:
    from node.engine.repair import repair_database  # noqa: PLC0415

    done = repair_database(args.home)
    output.document(
        {
            "damage": done.damage,
            "kept": None if done.kept is None else str(done.kept),
            "salvaged": done.salvaged,
        }
    )
    output.line(f"damage: {done.damage}")
    if done.kept is not None:
        output.line(f"the damaged database is now {done.kept}")
    output.line(
        f"{done.salvaged} accepted instructions, not final yet, were taken over; there may have "
        "been more: whoever holds a receipt of this node for a payment that does not become final "
        "sends it again"
    )
    output.line("nostro start fetches the chain from the peers and verifies every block")
    return Exit.DONE
