"""`nostro audit export`: the books of a verified chain, as a file for other tools."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from node.cli.audit_chain import add_source, open_chain
from node.cli.common import date_option
from node.cli.connection import read_input
from node.cli.errors import CommandError, Exit, usage
from node.cli.files import writing
from node.cli.output import Output

if TYPE_CHECKING:
    from node.audit.chain_audit import AuditReport
    from node.audit.export import Exporter, Span, Summary, Writer
    from node.chain.genesis import Genesis
    from node.cli.audit_chain import Opened

FORMATS = ("archive", "beancount", "csv", "parquet")
"""The chain itself, and formats of its books."""
CHECKPOINT = "checkpoint"
"""Format of a signed head: see `node.cli.audit_checkpoint`."""
MAX_HEIGHT_DIGITS = 18
MAX_EVERY = 1_000_000
"""Blocks between two checkpoints."""


class Bound(NamedTuple):
    """An end of the stretch that is exported."""

    height: int | None
    date: int | None
    """yyyymmdd, UTC."""


def bound_option(text: str) -> Bound:
    """A height, or a date with hyphens."""
    if text.isascii() and text.isdigit() and len(text) <= MAX_HEIGHT_DIGITS:
        return Bound(int(text), None)
    if "-" not in text:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is neither a height nor a date such as 2026-03-02"
        )
    return Bound(None, date_option(text))


def every_option(text: str) -> int:
    """A number of blocks."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 7 else 0
    if not 1 <= number <= MAX_EVERY:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 1 to {MAX_EVERY:,}")
    return number


def register(commands: Any) -> None:
    """Add `audit export` to the parser."""
    export = commands.add_parser(
        "export",
        help="write the books of a chain for other tools, after checking it",
        description="Replays the chain as `audit chain` does and writes what moved, from the "
        "replay alone. A chain that is not sound gives no file; an archive is a copy that is "
        "judged by whoever audits it.",
    )
    export.add_argument("--format", choices=(*FORMATS, CHECKPOINT), required=True)
    add_source(export)
    export.add_argument("--genesis", metavar="FILE", type=Path, required=True)
    export.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    export.add_argument(
        "--from",
        dest="first",
        metavar="HEIGHT|DATE",
        type=bound_option,
        help="the first block, or the first of this UTC date; what there was before is carried in",
    )
    export.add_argument(
        "--to",
        dest="last",
        metavar="HEIGHT|DATE",
        type=bound_option,
        help="the last block, or the last of this UTC date",
    )
    export.add_argument(
        "--account", metavar="PARTICIPANT", help="movements of this participant's accounts alone"
    )
    export.add_argument(
        "--checkpoint-every",
        dest="every",
        metavar="BLOCKS",
        type=every_option,
        help="beancount: confirm the balances after so many blocks, not only at the end of each "
        "UTC date",
    )
    export.add_argument(
        "--key", metavar="FILE", type=Path, help="checkpoint: the key file that signs it"
    )
    export.add_argument("--passphrase-file", metavar="FILE", type=Path, help="of the key file")
    export.add_argument("--json", action="store_true", help="one JSON document on stdout")
    export.set_defaults(handler=_export)


class _Unsound(Exception):
    """The replay did not end with VALID."""

    def __init__(self, report: AuditReport) -> None:
        super().__init__(report.verdict)
        self.report = report


def _export(args: argparse.Namespace, output: Output) -> int:
    from node.audit.export import CannotExport  # noqa: PLC0415

    if args.format == CHECKPOINT:
        return _checkpoint(args, output)
    if args.key is not None:
        raise usage("--key is for --format checkpoint: nothing else is signed")
    if args.every is not None and args.format != "beancount":
        raise usage("--checkpoint-every is for --format beancount: a table has no balances")
    whole = args.format == "archive"
    if whole and (args.first or args.last or args.account):
        raise usage("an archive has the whole chain: leave --from, --to and --account out")
    try:
        return _archive(args, output) if whole else _books(args, output)
    except CannotExport as error:
        raise CommandError(str(error)) from error
    except _Unsound as unsound:
        report = unsound.report
        output.document(
            {
                "verdict": report.verdict,
                "file": None,
                "height": report.height,
                "finding": None if report.finding is None else report.finding._asdict(),
                "undecided": report.undecided,
            }
        )
        output.line(report.text().rstrip("\n"))
        output.note(f"{args.output} was not written: only a chain that is sound is exported")
        return report.exit_code


def _checkpoint(args: argparse.Namespace, output: Output) -> int:
    from node.cli.audit_checkpoint import export_checkpoint  # noqa: PLC0415

    if any(x is not None for x in (args.first, args.account, args.every)):
        raise usage("a checkpoint is of one block: give --to HEIGHT, and nothing else of the books")
    if args.home is None:
        raise usage("a checkpoint is signed of a home: give --home")
    if args.key is None:
        raise usage("a checkpoint is signed: give --key (nostro audit checkpoint keys create)")
    if args.last is not None and args.last.height is None:
        raise usage("a checkpoint is of a block: give --to as a height")
    height = None if args.last is None else args.last.height
    return export_checkpoint(args, height, output)


def _archive(args: argparse.Namespace, output: Output) -> int:
    """Copy the chain, which is not judged: `audit chain --archive` is for that."""
    from node.audit.archive import CannotArchive, write_archive  # noqa: PLC0415

    genesis = _genesis(args.genesis, read_input(args.genesis, "the genesis file"))
    try:
        with _source(args, genesis) as chain, writing(args.output) as file:
            written = write_archive(
                chain.source,
                file,
                genesis,
                lambda height, last: output.progress(height, last, "blocks"),
                outcomes=chain.outcomes,
            )
    except CannotArchive as error:
        raise CommandError(f"{args.output} was not written: {error}") from error
    finally:
        output.clear_progress()
    output.document(
        {
            "file": str(args.output),
            "format": "archive",
            "sha256": written.sha256.hex(),
            "bytes": written.size,
            "chain_id": genesis.chain_id.hex(),
            "to": written.last,
            "block": written.digest.hex(),
            "outcomes": chain.outcomes,
        }
    )
    output.line(f"{args.output}: {written.blocks:,} blocks, {written.size:,} bytes")
    output.line(f"  as of block {written.last} {written.digest.hex()}")
    output.line(f"  nothing is judged yet: nostro audit chain --archive {args.output} …")
    return Exit.DONE


def _books(args: argparse.Namespace, output: Output) -> int:
    from node.audit.export import Exporter  # noqa: PLC0415
    from node.audit.report import VALID  # noqa: PLC0415

    genesis_file = read_input(args.genesis, "the genesis file")
    genesis = _genesis(args.genesis, genesis_file)
    span = _span(args.first, args.last)
    if args.format == "parquet":
        from node.audit.export_parquet import require_pyarrow  # noqa: PLC0415

        require_pyarrow()
    with _source(args, genesis) as chain, writing(args.output) as file:
        writer = _writer(args, file)
        exporter = Exporter(writer, genesis, span=span, holder=args.account, every=args.every)
        try:
            report = _replay(chain, genesis_file, exporter, output)
            if report.verdict != VALID:
                raise _Unsound(report)
            summary = exporter.finish()
        except BaseException:
            writer.abandon()
            raise
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _tell(output, args, genesis, summary, digest)
    return Exit.DONE


def _replay(chain: Opened, genesis_file: bytes, exporter: Exporter, output: Output) -> AuditReport:
    """Show the exporter every block; the audit's report."""
    from node.audit.audit_report import Damaged, Stop  # noqa: PLC0415
    from node.audit.chain_audit import AuditReport, audit_chain  # noqa: PLC0415
    from node.audit.signatures import InProcesses  # noqa: PLC0415

    def progress(so_far: AuditReport, last: int) -> None:
        output.progress(so_far.height, last, "blocks")

    processes = len(os.sched_getaffinity(0))
    try:
        return audit_chain(
            chain.source,
            genesis_file,
            progress,
            exporter.watch,
            outcomes=chain.outcomes,
            state=chain.state,
            checks=lambda chain_id: InProcesses(chain_id, processes),
        )
    except Damaged as error:
        return AuditReport(finding=Stop.of(error).finding)
    finally:
        output.clear_progress()


@contextmanager
def _source(args: argparse.Namespace, genesis: Genesis) -> Iterator[Opened]:
    """The chain that the options name. Raises CommandError, _Unsound: an archive that is none."""
    from node.audit.audit_report import AuditReport, Damaged, Stop  # noqa: PLC0415

    try:
        with open_chain(genesis, home=args.home, archive=args.archive, api=args.api) as chain:
            yield chain
    except Damaged as error:
        raise _Unsound(AuditReport(finding=Stop.of(error).finding)) from error


def _tell(
    output: Output, args: argparse.Namespace, genesis: Genesis, summary: Summary, digest: str
) -> None:
    first, last = summary.first, summary.last
    assert first is not None
    assert last is not None
    turnover = summary.turnover_text()
    output.document(
        {
            "verdict": "VALID",
            "file": str(args.output),
            "format": args.format,
            "sha256": digest,
            "chain_id": genesis.chain_id.hex(),
            "from": first.height + 1,
            "to": last.height,
            "block": last.digest.hex(),
            "movements": summary.movements,
            "accounts": summary.accounts,
            "checkpoints": summary.checkpoints,
            "turnover": turnover,
        }
    )
    output.line(
        f"{args.output}: {summary.movements:,} movements of blocks {first.height + 1} to "
        f"{last.height}, {summary.accounts:,} accounts; sha256 {digest}"
    )
    for asset, amount in turnover.items():
        output.line(f"  {asset}: {amount} moved")
    output.line(
        f"  as of block {last.height} {last.digest.hex()} of chain {genesis.chain_id.hex()}"
    )


def _genesis(path: Path, data: bytes) -> Genesis:
    from node.chain.genesis import BadGenesis, load_genesis  # noqa: PLC0415

    try:
        return load_genesis(data)
    except BadGenesis as error:
        raise CommandError(f"{path}: {error}", Exit.UNKNOWN) from error


def _writer(args: argparse.Namespace, file: IO[bytes]) -> Writer:
    """What writes this format."""
    if args.format == "csv":
        from node.audit.export_table import CsvWriter  # noqa: PLC0415

        return CsvWriter(file)
    if args.format == "parquet":
        from node.audit.export_parquet import ParquetWriter  # noqa: PLC0415

        return ParquetWriter(file)
    from node.audit.export_beancount import BeancountWriter  # noqa: PLC0415

    return BeancountWriter(file, whole=args.account is None, stretches=args.every is not None)


def _span(first: Bound | None, last: Bound | None) -> Span:
    from node.audit.export import DAY_MS, Span  # noqa: PLC0415

    span = Span()
    if first is not None:
        if first.date is not None:
            span = span._replace(since=_midnight(first.date))
        else:
            span = span._replace(first=max(first.height or 0, 1))
    if last is not None:
        if last.date is not None:
            span = span._replace(until=_midnight(last.date) + DAY_MS - 1)
        else:
            span = span._replace(last=last.height)
    return span


def _midnight(day: int) -> int:
    """The beginning of a UTC date, milliseconds since the Unix epoch."""
    moment = datetime(day // 10_000, day // 100 % 100, day % 100, tzinfo=UTC)
    return int(moment.timestamp()) * 1000
