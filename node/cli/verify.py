"""`nostro verify`: check evidence offline.

Runs with the base dependencies alone and takes its trust root, the genesis file, from the command
line only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.connection import read_input
from node.cli.errors import Exit
from node.cli.output import Output

if TYPE_CHECKING:
    from node.audit.report import Report

STATUSES = ("settled", "rejected")


def register(subparsers: Any) -> None:
    """Add this module's command to the parser."""
    verify = subparsers.add_parser(
        "verify",
        help="check a dossier, or the proof of a fork or an equivocation, offline",
        description="Check a file of evidence with nothing but a genesis file. Exits with 0 if it "
        "is VALID, 1 if INVALID, 2 if UNDECIDED.",
    )
    verify.add_argument("file", metavar="FILE", type=Path)
    verify.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    verify.add_argument(
        "--expect", choices=STATUSES, help="exit with 1 if another status is proved"
    )
    verify.add_argument("--json", action="store_true", help="one JSON document on stdout")
    verify.set_defaults(handler=_verify)


def _verify(args: argparse.Namespace, output: Output) -> int:
    from node.audit.report import FAIL, VALID, Line  # noqa: PLC0415
    from node.audit.verify import verify_file  # noqa: PLC0415

    evidence = read_input(args.file, "the evidence")
    report = verify_file(evidence, read_input(args.genesis, "the genesis file"))
    code = report.exit_code
    lines = list(report.lines)
    if report.verdict == VALID and args.expect not in (None, report.status):
        lines.append(
            Line(
                FAIL,
                "expected status",
                f"expected {args.expect}, proved is {report.status or 'of no payment'}",
            )
        )
        code = Exit.REFUSED
    output.document(
        {
            "verdict": report.verdict,
            "kind": report.kind,
            "status": report.status,
            "culprits": culprits(report),
            "checks": [
                {"result": line.result, "check": line.check, "text": line.text} for line in lines
            ],
        }
    )
    for line in lines:
        output.line(str(line))
    output.line(report.verdict if report.status is None else f"{report.verdict}  {report.status}")
    return code


def culprits(report: Report) -> list[dict[str, Any]]:
    """Whom the evidence proves something of, for the JSON document."""
    return [
        {
            "epoch": each.epoch,
            "validator": each.validator,
            "name": each.name,
            "operator": each.operator,
            "vote_key": each.vote_key.hex(),
            "view": each.view,
            "fault": each.fault,
        }
        for each in report.culprits
    ]
