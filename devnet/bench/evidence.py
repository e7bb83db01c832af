"""What the dossier of one payment takes: bytes, the time to make it from a database on disk, the
time to verify it; and how that grows with payments, blocks and epochs.

One process, one core. Nothing is mocked: the ledger's own blocks and roots, a database on disk, the
signatures of four validators. The payments that are asked for are spread over the whole chain.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from devnet.bench.chains import BenchChain
from devnet.bench.run import Report
from node.audit.build import OpenBlocks, build_dossier
from node.audit.report import VALID
from node.audit.verify import check_dossier
from node.storage.level import LevelStore

BATCH = 10_000
"""Payments of one instruction."""
ALONE = 1_000
"""Instructions of one payment each, in a block."""
RECALLED = 100
"""Payments of a batch that are recalled: each leaves a row in the state."""
ASKED = 50
"""Dossiers that are made and verified for one figure."""
MAX_KIB = 8.0
MAX_MADE_MS, MAX_VERIFIED_MS = 50.0, 10.0


@dataclass(frozen=True, slots=True)
class Taken:
    """Of some dossiers."""

    largest: int
    """Bytes."""
    made: float
    """Median, ms."""
    made_max: float
    made_cpu: float
    """Median of the processor's time for it, ms: what is left where others use the machine too."""
    verified: float
    verified_max: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """How far a ledger is grown."""

    payments: tuple[int, ...]
    blocks: tuple[int, ...]
    epochs: tuple[int, ...]


FULL = Sizes((10_000, 100_000, 1_000_000), (1_000, 10_000, 100_000), (1, 10, 100))
QUICK = Sizes((10_000, 100_000), (1_000, 10_000), (1, 10))


def measure_evidence(*, quick: bool) -> Report:
    """All figures of dossiers, with their aims."""
    report, sizes = Report(), QUICK if quick else FULL
    _payments(report, sizes.payments)
    _growth(report, "blocks", sizes.blocks)
    _growth(report, "epochs", sizes.epochs)
    return report


@contextmanager
def _ledger(banks: int) -> Iterator[BenchChain]:
    with (
        tempfile.TemporaryDirectory(prefix="nostro-bench-") as directory,
        closing(LevelStore(Path(directory) / "db", create=True)) as kv,
    ):
        yield BenchChain(kv, banks)


def _payments(report: Report, sizes: tuple[int, ...]) -> None:
    """As a ledger grows to the last of these numbers of payments."""
    report.lines += [
        "",
        "| payments | dossier of a payment | bytes, largest | made, median (max), ms | its CPU, ms "
        "| verified, median (max), ms |",
        "|--:|:--|--:|--:|--:|--:|",
    ]
    with _ledger(100) as ledger:
        alone: list[bytes] = []
        batched: list[bytes] = []
        paid = 0
        for size in sizes:
            while paid < size:
                paid += _a_round(ledger, alone, batched)
            ledger.commit()
            kept = OpenBlocks(ledger.store)
            for what, uetrs, blocks in (
                ("alone", alone, None),
                (f"1 of {BATCH:,}", batched, None),
                ("the next one of these", batched[-1:], kept),
            ):
                taken = _take(ledger, uetrs, blocks)
                report.lines.append(
                    f"| {paid:,} | {what} | {taken.largest:,} | {taken.made:.1f} "
                    f"({taken.made_max:.1f}) | {taken.made_cpu:.1f} | {taken.verified:.1f} "
                    f"({taken.verified_max:.1f}) |"
                )
                if size == sizes[-1] and blocks is None:
                    _judge(report, f"{what}, {paid:,} payments", taken)


def _a_round(ledger: BenchChain, alone: list[bytes], batched: list[bytes]) -> int:
    """Three blocks; how many payments came in. One of each kind is noted, to be asked for."""
    singles = [ledger.pay(1) for _ in range(ALONE)]
    order = ledger.pay(BATCH)
    ledger.add(singles)
    ledger.add([order])
    payments = order.instruction.payments
    ledger.add([ledger.recall(payment) for payment in payments[:RECALLED]])
    alone.append(singles[ALONE // 2].instruction.payments[0].uetr)
    batched.append(payments[BATCH // 2].uetr)
    return ALONE + BATCH


def _judge(report: Report, what: str, taken: Taken) -> None:
    kib = taken.largest / 1024
    report.aim(f"{what}: size", kib, "KiB", MAX_KIB, at_least=False, required=True)
    for name, value, bound in (
        ("made, median", taken.made, MAX_MADE_MS),
        ("verified, median", taken.verified, MAX_VERIFIED_MS),
    ):
        report.aim(f"{what}: {name}", value, "ms", bound, at_least=False, required=False)


def _growth(report: Report, of: str, sizes: tuple[int, ...]) -> None:
    """Of the dossier of one early payment, as its ledger grows in blocks or in epochs."""
    report.lines += [
        "",
        f"| {of} | bytes | made, median, ms | verified, median, ms |",
        "|--:|--:|--:|--:|",
    ]
    with _ledger(4) as ledger:
        order = ledger.pay(1)
        ledger.add([order])
        [payment] = order.instruction.payments
        grow: Callable[[], None] = ledger.end_epoch if of == "epochs" else ledger.add
        for size in sizes:
            while (ledger.epoch + 1 if of == "epochs" else ledger.tip.height) < size:
                grow()
            # A block of the last epoch: an epoch counts once something stands in it.
            ledger.add()
            ledger.commit()
            taken = _take(ledger, [payment.uetr])
            report.lines.append(
                f"| {size:,} | {taken.largest:,} | {taken.made:.1f} | {taken.verified:.1f} |"
            )
            report.figures[f"bytes of a dossier at {size:,} {of}"] = float(taken.largest)


def _take(ledger: BenchChain, uetrs: list[bytes], blocks: OpenBlocks | None = None) -> Taken:
    """Make and verify the dossiers of these, in turn. `blocks`: kept open from one to the next."""
    made, cpu, verified, largest = [], [], [], 0
    for number in range(ASKED):
        entry = ledger.store.uetr(uetrs[number * len(uetrs) // ASKED % len(uetrs)])
        assert entry is not None
        began, worked = time.perf_counter(), time.thread_time()
        data = build_dossier(ledger.store, entry, blocks=blocks)
        cpu.append((time.thread_time() - worked) * 1000)
        built = time.perf_counter()
        report = check_dossier(data, ledger.genesis)
        verified.append((time.perf_counter() - built) * 1000)
        made.append((built - began) * 1000)
        largest = max(largest, len(data))
        assert (report.verdict, report.status) == (VALID, "settled"), report.text()
    median = statistics.median
    return Taken(largest, median(made), max(made), median(cpu), median(verified), max(verified))
