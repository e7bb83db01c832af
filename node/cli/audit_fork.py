"""`nostro audit fork`: prove where two chains part."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.connection import read_input
from node.cli.errors import CommandError, Exit, usage
from node.cli.evidence_source import check_anywhere
from node.cli.files import write_whole
from node.cli.output import Output
from node.cli.stopped import stopped
from node.cli.verify import culprits

if TYPE_CHECKING:
    from consensus.messages import Certificate
    from node.storage.home import Home

MAX_HOMES = 64
"""Homes that one `audit fork` reads; their databases are all open at once."""


def register(commands: Any) -> None:
    """Add `audit fork` to the parser."""
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


def _journaled(home: Home) -> list[Certificate]:
    """The certificates in a stopped node's journal: of views above its last final block, whose
    others stand in its database. Raises StorageError, MalformedMessage."""
    from consensus.messages import Certified, decode_record  # noqa: PLC0415
    from node.storage.disk import FileDisk  # noqa: PLC0415
    from node.storage.journal import read_records  # noqa: PLC0415

    raw = read_records(FileDisk(), str(home.journal), binding=home.chain_id)
    records = map(decode_record, raw)
    return [record.certificate for record in records if isinstance(record, Certified)]


def _audit_fork(args: argparse.Namespace, output: Output) -> int:
    from consensus.messages import MalformedMessage  # noqa: PLC0415
    from node.audit.build_chain import EvidenceUnavailable  # noqa: PLC0415
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
            node = stack.enter_context(stopped(path))
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
            "culprits": culprits(report),
        }
    )
    for line in report.lines:
        output.line(str(line))
    output.line(report.verdict)
    output.line(check_anywhere(args.output, proof))
    return report.exit_code
