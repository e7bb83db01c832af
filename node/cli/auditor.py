"""An auditor's commands: evidence, verify, audit.

`verify` runs with the base dependencies alone and takes its trust root, the genesis file, from
the command line only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

from node.cli.connection import add_options, connect, read_input
from node.cli.errors import CommandError, Exit
from node.cli.output import Output

STATUSES = ("settled", "rejected")


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    evidence = subparsers.add_parser("evidence", help="write the dossier of a payment")
    evidence.add_argument("uetr", metavar="UETR")
    evidence.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    evidence.add_argument(
        "--receipt", metavar="FILE", type=Path, help="a node's receipt, to go into the dossier"
    )
    evidence.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_options(evidence, signs=False)
    evidence.set_defaults(handler=_evidence)

    verify = subparsers.add_parser(
        "verify",
        help="check a dossier offline",
        description="Check a dossier with nothing but a genesis file. Exits with 0 if it is VALID, "
        "1 if INVALID, 2 if UNDECIDED.",
    )
    verify.add_argument("file", metavar="FILE", type=Path)
    verify.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    verify.add_argument(
        "--expect", choices=STATUSES, help="exit with 1 if another status is proved"
    )
    verify.add_argument("--json", action="store_true", help="one JSON document on stdout")
    verify.set_defaults(handler=_verify)

    audit = subparsers.add_parser("audit", help="check a whole chain")
    commands = audit.add_subparsers(metavar="COMMAND", required=True)
    chain = commands.add_parser(
        "chain", help="replay every block and check every signature, root and balance"
    )
    chain.add_argument("--home", metavar="DIR", type=Path, required=True, help="a node's home")
    chain.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    chain.add_argument("--json", action="store_true", help="one JSON document on stdout")
    chain.set_defaults(handler=_audit_chain)


# --- evidence -------------------------------------------------------------------------------------


def _evidence(args: argparse.Namespace, output: Output) -> int:
    from node.audit.dossier import BadDossier, attach_receipt  # noqa: PLC0415
    from node.chain.instruction import uetr_text  # noqa: PLC0415
    from node.cli.orders import read_uetr  # noqa: PLC0415

    uetr = uetr_text(read_uetr(args.uetr))
    receipt = None if args.receipt is None else read_input(args.receipt, "the receipt")
    dossier = asyncio.run(_fetch(connect(args).urls(), uetr))
    if receipt is not None:
        try:
            dossier = attach_receipt(dossier, receipt)
        except BadDossier as error:
            raise CommandError(f"{args.receipt} does not go into the dossier: {error}") from error
    write_whole(args.output, dossier)
    output.document({"uetr": uetr, "file": str(args.output), "bytes": len(dossier)})
    output.line(
        f"{args.output}: {len(dossier):,} bytes. Check it anywhere with: nostro verify "
        f"{args.output} --genesis genesis.json"
    )
    return Exit.DONE


async def _fetch(urls: list[str], uetr: str) -> bytes:
    """The dossier from the first node that has it. Raises CommandError."""
    from node.api.client import ApiClient, ApiError, ApiProblem  # noqa: PLC0415
    from node.cli.settle import no_answer  # noqa: PLC0415

    unknown: ApiProblem | None = None
    other: CommandError | None = None
    for url in urls:
        async with ApiClient([url]) as client:
            try:
                return await client.evidence(uetr)
            except ApiProblem as error:
                if error.code != "unknown-payment":
                    raise no_answer(error) from error
                unknown = error
            except ApiError as error:
                other = no_answer(error)
    if unknown is not None:
        raise CommandError(f"there is no evidence yet: {unknown}", Exit.UNKNOWN) from unknown
    assert other is not None
    raise other


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file in one step: what is there is the old or the new one, whole.

    Raises CommandError.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from error


# --- verify ---------------------------------------------------------------------------------------


def _verify(args: argparse.Namespace, output: Output) -> int:
    from node.audit.report import FAIL, VALID, Line  # noqa: PLC0415
    from node.audit.verify import verify_file  # noqa: PLC0415

    dossier = read_input(args.file, "the dossier")
    report = verify_file(dossier, read_input(args.genesis, "the genesis file"))
    code = report.exit_code
    lines = list(report.lines)
    if report.verdict == VALID and args.expect not in (None, report.status):
        lines.append(
            Line(FAIL, "expected status", f"expected {args.expect}, proved is {report.status}")
        )
        code = Exit.REFUSED
    output.document(
        {
            "verdict": report.verdict,
            "status": report.status,
            "checks": [
                {"result": line.result, "check": line.check, "text": line.text} for line in lines
            ],
        }
    )
    for line in lines:
        output.line(str(line))
    output.line(report.verdict if report.status is None else f"{report.verdict}  {report.status}")
    return code


# --- audit ----------------------------------------------------------------------------------------


def _audit_chain(args: argparse.Namespace, output: Output) -> int:
    from node.audit.chain_audit import AuditReport, audit_chain  # noqa: PLC0415
    from node.storage.chain_store import ChainStore  # noqa: PLC0415
    from node.storage.errors import StoreCorrupt, StoreLocked  # noqa: PLC0415
    from node.storage.home import open_home  # noqa: PLC0415

    genesis = read_input(args.genesis, "the genesis file")
    home = open_home(args.home)

    def progress(so_far: AuditReport, last: int) -> None:
        output.progress(so_far.height, last, "blocks")

    try:
        home.acquire()
        database = home.open_database()
        try:
            report = audit_chain(ChainStore(database), genesis, progress)
        finally:
            database.close()
            output.clear_progress()
    except StoreLocked as error:
        raise CommandError(
            f"the node of {args.home} is running, so its database cannot be read; stop it for the "
            f"audit, or audit the home of another node ({error.what})",
            Exit.UNKNOWN,
        ) from error
    except StoreCorrupt as error:
        raise CommandError(f"the audit cannot go on: {error}", Exit.UNKNOWN) from error
    finally:
        home.release()
    output.document(
        {
            "verdict": report.verdict,
            "height": report.height,
            "block": report.digest.hex(),
            "instructions": report.instructions,
            "payments": report.payments,
            "signatures": report.signatures,
            "certificates": report.certificates,
            "totals": report.totals,
            "finding": None if report.finding is None else report.finding._asdict(),
            "undecided": report.undecided,
        }
    )
    output.line(report.text().rstrip("\n"))
    return report.exit_code
