"""`nostro audit chain`: replay a whole chain."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from node.cli.connection import read_input
from node.cli.errors import CommandError, Exit
from node.cli.output import Output
from node.cli.stopped import stopped


def register(commands: Any) -> None:
    """Add `audit chain` to the parser."""
    chain = commands.add_parser(
        "chain", help="replay every block and check every signature, root and balance"
    )
    chain.add_argument("--home", metavar="DIR", type=Path, required=True, help="a node's home")
    chain.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    chain.add_argument("--json", action="store_true", help="one JSON document on stdout")
    chain.set_defaults(handler=_audit_chain)


def _audit_chain(args: argparse.Namespace, output: Output) -> int:
    from node.audit.chain_audit import AuditReport, audit_chain  # noqa: PLC0415

    genesis = read_input(args.genesis, "the genesis file")

    def progress(so_far: AuditReport, last: int) -> None:
        output.progress(so_far.height, last, "blocks")

    with stopped(args.home) as node:
        if node.lowest > 1:
            raise CommandError(
                f"{args.home} holds blocks from height {node.lowest} on only: the others were "
                "pruned, or it began with a snapshot. Audit the home of a node that keeps "
                "everything",
                Exit.UNKNOWN,
            )
        try:
            report = audit_chain(node.store, genesis, progress)
        finally:
            output.clear_progress()
    output.document(
        {
            "verdict": report.verdict,
            "height": report.height,
            "block": report.digest.hex(),
            "instructions": report.instructions,
            "payments": report.payments,
            "signatures": report.signatures,
            "certificates": report.certificates,
            "epochs": report.epochs,
            "equivocations": report.equivocations,
            "totals": report.totals,
            "finding": None if report.finding is None else report.finding._asdict(),
            "undecided": report.undecided,
        }
    )
    output.line(report.text().rstrip("\n"))
    return report.exit_code
