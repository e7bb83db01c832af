"""What exports cost beside the audit that they are made by, and that their memory is flat."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import closing
from pathlib import Path

from devnet.bench.drive import BenchFailed
from devnet.bench.machine import usage
from devnet.bench.run import Report
from devnet.generate import Generated, Plan, generate
from node.audit.chain_audit import Replayed, audit_chain
from node.audit.export import Exporter, Writer
from node.audit.export_beancount import BeancountWriter
from node.audit.export_parquet import ParquetWriter
from node.audit.export_table import CsvWriter
from node.audit.report import VALID
from node.audit.signatures import InProcesses
from node.storage.chain_store import ChainStore
from node.storage.level import LevelStore

CHAIN = (200, 1_000)
"""(blocks, payments in each)."""
CHAIN_QUICK = (20, 1_000)
WRITERS: dict[str, type[BeancountWriter | CsvWriter | ParquetWriter]] = {
    "beancount": BeancountWriter,
    "csv": CsvWriter,
    "parquet": ParquetWriter,
}


def measure_export(*, quick: bool) -> Report:
    """Rows a second of each format, with the audit and alone, bytes a row, and memory."""
    report = Report()
    blocks, payments = CHAIN_QUICK if quick else CHAIN
    with tempfile.TemporaryDirectory(prefix="nostro-bench-") as directory:
        made = generate(Path(directory) / "devnet", Plan(blocks=blocks, payments=payments))
        for form, writer in WRITERS.items():
            with (Path(directory) / form).open("w+b") as file:
                _export(report, made, form, writer(file))
                size = file.seek(0, os.SEEK_END)
            report.figures[f"{form}: bytes a row"] = size / made.payments
    return report


def _export(report: Report, made: Generated, form: str, writer: Writer) -> None:
    genesis = made.network.genesis
    exporter = Exporter(writer, genesis)
    own, resident = 0.0, list[float]()

    def watch(block: Replayed) -> None:
        nonlocal own
        started = time.perf_counter()
        exporter.watch(block)
        own += time.perf_counter() - started
        if block.header.height in (made.height // 10, made.height):
            resident.append(usage(os.getpid()).resident_mib)

    home = made.network.home(made.network.node_names[0])
    processes = len(os.sched_getaffinity(0))
    with closing(LevelStore(home / "data")) as database:
        started = time.perf_counter()
        found = audit_chain(
            ChainStore(database),
            (made.network.directory / "genesis.json").read_bytes(),
            watch=watch,
            checks=lambda chain_id: InProcesses(chain_id, processes),
        )
        if found.verdict != VALID:
            raise BenchFailed(found.text())
        ending = time.perf_counter()
        rows = exporter.finish().movements
        ended = time.perf_counter()
    report.figures |= {
        f"{form}: rows": rows,
        f"{form}: audit and export, rows/s": rows / (ended - started),
        f"{form}: export alone, rows/s": rows / (own + ended - ending),
        f"{form}: resident at a tenth, MiB": resident[0],
        f"{form}: resident at the end, MiB": resident[-1],
    }
