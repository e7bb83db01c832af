"""`nostro verify`: check evidence offline.

Runs with the base dependencies alone and takes its trust root, the genesis file, from the command
line only.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.chain.statuses import WORDS
from node.cli.checkpoint_options import add_checkpoint, asked_checkpoint
from node.cli.errors import Exit, usage
from node.cli.output import Output

if TYPE_CHECKING:
    from node.audit.report import Report


def register(subparsers: Any) -> None:
    """Add this module's command to the parser."""
    verify = subparsers.add_parser(
        "verify",
        help="check a file of evidence offline: a dossier, or the proof of a balance, an absence, "
        "a fork or an equivocation",
        description="Check a file of evidence with nothing but a genesis file. Exits with 0 if it "
        "is VALID, 1 if INVALID, 2 if UNDECIDED.",
    )
    verify.add_argument("file", metavar="FILE", type=Path)
    verify.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    verify.add_argument("--expect", choices=WORDS, help="exit with 1 if another status is proved")
    add_checkpoint(verify)
    verify.add_argument("--json", action="store_true", help="one JSON document on stdout")
    verify.set_defaults(handler=_verify)


def _verify(args: argparse.Namespace, output: Output) -> int:
    from node.audit.dossier import MAX_DOSSIER_BYTES  # noqa: PLC0415
    from node.audit.report import FAIL, VALID, Line  # noqa: PLC0415
    from node.audit.verify import verify_against, verify_file  # noqa: PLC0415
    from node.chain.genesis_file import MAX_GENESIS_BYTES  # noqa: PLC0415

    evidence = _read(args.file, "the evidence", MAX_DOSSIER_BYTES)
    genesis = _read(args.genesis, "the genesis file", MAX_GENESIS_BYTES)
    asked = asked_checkpoint(args)
    if asked is None:
        report = verify_file(evidence, genesis)
    else:
        report = verify_against(evidence, genesis, asked)
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
            "payment": None if report.payment is None else asdict(report.payment),
            "state": None if report.state is None else asdict(report.state),
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


def _read(path: Path, what: str, most: int) -> bytes:
    """The bytes of a file, and of one that is too long one byte more than it may have: what is
    wrong with it shows, and no file fills the memory. Raises CommandError (64)."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise usage(f"cannot read {what} {path}: {error.strerror or error}") from error


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
