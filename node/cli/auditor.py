"""An auditor's commands: evidence, verify, audit chain, audit fork.

`verify` runs with the base dependencies alone and takes its trust root, the genesis file, from
the command line only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from node.cli.connection import add_options, connect, read_input
from node.cli.errors import CommandError, Exit, usage
from node.cli.output import Output

if TYPE_CHECKING:
    from consensus.messages import Certificate
    from node.api.client import ApiClient
    from node.audit.report import Report
    from node.storage.chain_store import ChainStore
    from node.storage.home import Home

MAX_HOMES = 64
"""Homes that one `audit fork` reads; their databases are all open at once."""
STATUSES = ("settled", "rejected")


def register(subparsers: Any) -> None:
    """Add this module's commands to the parser."""
    evidence = subparsers.add_parser(
        "evidence",
        help="write the dossier of a payment, or the proof of a validator's equivocation",
    )
    evidence.add_argument("uetr", metavar="UETR", nargs="?")
    evidence.add_argument(
        "--equivocation",
        metavar="EPOCH:VIEW:VALIDATOR",
        help="instead of a payment; the validator by its index or name",
    )
    evidence.add_argument(
        "--home",
        metavar="DIR",
        type=Path,
        help="a stopped node's home, for --equivocation without a running node",
    )
    evidence.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    evidence.add_argument(
        "--receipt", metavar="FILE", type=Path, help="a node's receipt, to go into the dossier"
    )
    evidence.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_options(evidence)
    evidence.set_defaults(handler=_evidence)

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

    audit = subparsers.add_parser("audit", help="check a whole chain, or prove a fork")
    commands = audit.add_subparsers(metavar="COMMAND", required=True)
    chain = commands.add_parser(
        "chain", help="replay every block and check every signature, root and balance"
    )
    chain.add_argument("--home", metavar="DIR", type=Path, required=True, help="a node's home")
    chain.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    chain.add_argument("--json", action="store_true", help="one JSON document on stdout")
    chain.set_defaults(handler=_audit_chain)
    fork = commands.add_parser(
        "fork",
        help="prove where two nodes' chains part, and who made them part",
        description="Compare the chains of stopped nodes. Where two part, write the proof, with "
        "the certificates of all given nodes that name its culprits. Exits with 0 if they are "
        "named, 1 if there is no fork, 2 if certificates are lacking.",
    )
    fork.add_argument(
        "--home", metavar="DIR", type=Path, action="append", required=True, dest="homes",
        help="a node's home; give two or more",
    )  # fmt: skip
    fork.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    fork.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    fork.add_argument("--json", action="store_true", help="one JSON document on stdout")
    fork.set_defaults(handler=_audit_fork)


# --- evidence -------------------------------------------------------------------------------------


def _evidence(args: argparse.Namespace, output: Output) -> int:
    from node.chain.uetr import uetr_text  # noqa: PLC0415
    from node.cli.orders import read_uetr  # noqa: PLC0415

    if args.equivocation is not None:
        return _evidence_of_equivocation(args, output)
    if args.uetr is None or args.home is not None:
        raise usage("name a UETR, or --equivocation EPOCH:VIEW:VALIDATOR")
    uetr = uetr_text(read_uetr(args.uetr))
    receipt = None if args.receipt is None else read_input(args.receipt, "the receipt")
    urls = connect(args).urls()
    dossier = asyncio.run(_fetch(urls, lambda node: node.evidence(uetr), "unknown-payment"))
    if receipt is not None:
        genesis = asyncio.run(_fetch(urls, lambda node: node.genesis()))
        dossier = _with_receipt(args.receipt, dossier, receipt, genesis)
    write_whole(args.output, dossier)
    output.document({"uetr": uetr, "file": str(args.output), "bytes": len(dossier)})
    output.line(_check_anywhere(args.output, dossier))
    return Exit.DONE


def _with_receipt(path: Path, dossier: bytes, receipt: bytes, genesis: bytes) -> bytes:
    """The dossier with the receipt, if it proves anything there. Raises CommandError.

    A receipt that does not fit would make the whole dossier INVALID. The genesis file is a node's
    word here and decides nothing: whoever verifies has their own."""
    from node.audit.dossier import BadDossier, attach_receipt, decode_dossier  # noqa: PLC0415
    from node.audit.fault import Fault  # noqa: PLC0415
    from node.audit.verify_order import check_receipt  # noqa: PLC0415
    from node.chain.genesis import BadGenesis, load_genesis  # noqa: PLC0415

    try:
        joined = attach_receipt(dossier, receipt)
        check_receipt(decode_dossier(joined), load_genesis(genesis))
    except (BadDossier, BadGenesis, Fault) as error:
        raise CommandError(
            f"{path} does not go into the dossier: {error} Leave --receipt out: the dossier proves "
            "the payment without one"
        ) from error
    return joined


def _evidence_of_equivocation(args: argparse.Namespace, output: Output) -> int:
    if args.uetr is not None or args.receipt is not None:
        raise usage("--equivocation takes neither a UETR nor a receipt")
    epoch, view, validator = _place(args.equivocation)
    if args.home is None:
        proof = asyncio.run(
            _fetch(
                connect(args).urls(),
                lambda node: node.equivocation_evidence(epoch, view, validator),
                "unknown-equivocation",
            )
        )
    elif args.devnet or args.config or args.api:
        raise usage("--home is a stopped node's: leave out where to connect")
    else:
        proof = _stored_equivocation(args.home, epoch, view, validator)
    write_whole(args.output, proof)
    output.document({"file": str(args.output), "bytes": len(proof)})
    output.line(_check_anywhere(args.output, proof))
    return Exit.DONE


def _stored_equivocation(home: Path, epoch: int, view: int, validator: str) -> bytes:
    from node.audit.build import EvidenceUnavailable  # noqa: PLC0415
    from node.audit.fork import build_equivocation, validator_index  # noqa: PLC0415

    with _stopped(home) as node:
        try:
            index = validator_index(node.store, epoch, validator)
            return build_equivocation(node.store, epoch, view, index)
        except EvidenceUnavailable as error:
            raise CommandError(f"there is nothing to prove: {error}") from error


def _place(text: str) -> tuple[int, int, str]:
    """(epoch, view, validator) of EPOCH:VIEW:VALIDATOR. Raises CommandError."""
    found = re.fullmatch(r"(\d{1,19}):(\d{1,19}):([A-Za-z0-9._-]{1,32})", text, re.ASCII)
    if found is None:
        raise usage(f"{text!a} is not EPOCH:VIEW:VALIDATOR, such as 0:17:node2")
    return int(found[1]), int(found[2]), found[3]


def _check_anywhere(path: Path, data: bytes) -> str:
    return (
        f"{path}: {len(data):,} bytes. Check it anywhere with: nostro verify {path} "
        "--genesis genesis.json"
    )


async def _fetch(
    urls: list[str], ask: Callable[[ApiClient], Awaitable[bytes]], lacking: str = ""
) -> bytes:
    """The answer of the first node that has one. `lacking`: the problem by which a node says that
    it does not, so that the next is asked. Raises CommandError."""
    from node.api.client import ApiClient, ApiError, ApiProblem  # noqa: PLC0415
    from node.cli.settle import no_answer  # noqa: PLC0415

    unknown: ApiProblem | None = None
    pruned: CommandError | None = None
    other: CommandError | None = None
    for url in urls:
        async with ApiClient([url]) as client:
            try:
                return await ask(client)
            except ApiProblem as error:
                if error.code == "pruned":
                    pruned = no_answer(error)
                elif error.code == lacking:
                    unknown = error
                else:
                    raise no_answer(error) from error
            except ApiError as error:
                other = no_answer(error)
    if pruned is not None:
        raise pruned
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
            "culprits": _culprits(report),
            "checks": [
                {"result": line.result, "check": line.check, "text": line.text} for line in lines
            ],
        }
    )
    for line in lines:
        output.line(str(line))
    output.line(report.verdict if report.status is None else f"{report.verdict}  {report.status}")
    return code


def _culprits(report: Report) -> list[dict[str, Any]]:
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


# --- audit ----------------------------------------------------------------------------------------


class _Stopped(NamedTuple):
    """A node that does not run, opened to be read."""

    home: Home
    store: ChainStore
    lowest: int
    """Height from which on it holds blocks."""


@contextmanager
def _stopped(path: Path) -> Iterator[_Stopped]:
    """The chain of a node that does not run. Raises CommandError."""
    from node.storage.chain_store import ChainStore  # noqa: PLC0415
    from node.storage.errors import StoreCorrupt, StoreLocked  # noqa: PLC0415
    from node.storage.home import open_home  # noqa: PLC0415
    from node.storage.horizon import load_horizon  # noqa: PLC0415

    home = open_home(path)
    try:
        home.acquire()
        database = home.open_database()
        try:
            lowest = load_horizon(database).blocks
            yield _Stopped(home, ChainStore(database), lowest)
        finally:
            database.close()
    except StoreLocked as error:
        raise CommandError(
            f"the node of {path} is running, so its database cannot be read; stop it first, or "
            f"take the home of another node ({error.what})",
            Exit.UNKNOWN,
        ) from error
    except StoreCorrupt as error:
        raise CommandError(f"{path} cannot be read on: {error}", Exit.UNKNOWN) from error
    finally:
        home.release()


def _journaled(home: Home) -> list[Certificate]:
    """The certificates in a stopped node's journal: of views above its last final block, whose
    others stand in its database. Raises StorageError, MalformedMessage."""
    from consensus.messages import Certified, decode_record  # noqa: PLC0415
    from node.storage.disk import FileDisk  # noqa: PLC0415
    from node.storage.journal import read_records  # noqa: PLC0415

    raw = read_records(FileDisk(), str(home.journal), binding=home.chain_id)
    records = map(decode_record, raw)
    return [record.certificate for record in records if isinstance(record, Certified)]


def _audit_chain(args: argparse.Namespace, output: Output) -> int:
    from node.audit.chain_audit import AuditReport, audit_chain  # noqa: PLC0415

    genesis = read_input(args.genesis, "the genesis file")

    def progress(so_far: AuditReport, last: int) -> None:
        output.progress(so_far.height, last, "blocks")

    with _stopped(args.home) as node:
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


def _audit_fork(args: argparse.Namespace, output: Output) -> int:
    from consensus.messages import MalformedMessage  # noqa: PLC0415
    from node.audit.build import EvidenceUnavailable  # noqa: PLC0415
    from node.audit.fork import NoFork, build_fork  # noqa: PLC0415
    from node.audit.verify_accountability import check_fork  # noqa: PLC0415
    from node.chain.genesis import BadGenesis, load_genesis  # noqa: PLC0415
    from node.storage.errors import StorageError  # noqa: PLC0415

    if not 2 <= len(args.homes) <= MAX_HOMES:
        raise usage(f"a fork is between two nodes: give --home 2 to {MAX_HOMES} times")
    if len({home.resolve() for home in args.homes}) != len(args.homes):
        raise usage("one home is given twice")
    try:
        genesis = load_genesis(read_input(args.genesis, "the genesis file"))
    except BadGenesis as error:
        raise usage(f"{args.genesis}: {error}") from error
    with ExitStack() as stack:
        stores = []
        journaled: list[Certificate] = []
        for path in args.homes:
            node = stack.enter_context(_stopped(path))
            if node.home.chain_id != genesis.chain_id:
                raise CommandError(f"{path} is of another chain than {args.genesis}")
            stores.append(node.store)
            try:
                journaled += _journaled(node.home)
            except (StorageError, MalformedMessage) as error:
                output.note(f"{path}: its journal is left out, as it cannot be read: {error}")
        try:
            proof = build_fork(stores, genesis, journaled)
        except NoFork as error:
            raise CommandError(f"there is no fork to prove: {error}") from error
        except EvidenceUnavailable as error:
            raise CommandError(f"no proof can be made: {error}", Exit.UNKNOWN) from error
    write_whole(args.output, proof)
    report = check_fork(proof, genesis)
    output.document(
        {
            "verdict": report.verdict,
            "file": str(args.output),
            "bytes": len(proof),
            "culprits": _culprits(report),
        }
    )
    for line in report.lines:
        output.line(str(line))
    output.line(report.verdict)
    output.line(_check_anywhere(args.output, proof))
    return report.exit_code
