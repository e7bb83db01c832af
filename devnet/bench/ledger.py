"""What the ledger itself costs on one core: execution, resolution, clearing, the close of a day."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from devnet.bench import execution, netting, resolution, settlement_day
from devnet.bench.run import Report

UETRS, UETRS_QUICK = 1_000_000, 100_000
CLEARED, CLEARED_QUICK = 100_000, 20_000
"""Payments of one clearing cycle."""
RESOLVED = 10_000
"""Queued payments that one block resolves."""
DAY_OF, DAY_OF_QUICK = 1_000, 200
"""Participants whose day is closed."""


def measure_ledger(*, quick: bool) -> Report:
    """All figures of the ledger, with their aims."""
    report = Report()
    _execution(report, UETRS_QUICK if quick else UETRS)
    _resolution(report, resolution.SIZES[:-1] if quick else resolution.SIZES)
    _clearing(report, CLEARED_QUICK if quick else CLEARED)
    report.figures |= settlement_day.figures(DAY_OF_QUICK if quick else DAY_OF)
    return report


def _execution(report: Report, uetrs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="nostro-bench-") as directory:
        taken = execution.figures(Path(directory) / "db", uetrs)
    report.figures |= taken
    empty, full, _, ratio = taken.items()
    for (name, value), bound in ((empty, 4.0), (full, 6.0)):
        report.aim(name, value, "µs", bound, at_least=False, required=False)
    report.aim(*ratio, "×", 1.3, at_least=False, required=False)


def _resolution(report: Report, sizes: Sequence[int]) -> None:
    costs = [resolution.measure(size) for size in sizes]
    limited = resolution.measure(RESOLVED, limits=True)
    report.lines += resolution.lines([*costs, limited])
    for smaller, larger in itertools.pairwise(costs):
        report.aim(
            f"resolution of {larger.payments:,} ÷ of {smaller.payments:,}",
            larger.resolution / smaller.resolution,
            "×",
            12.0,
            at_least=False,
            required=False,
        )
    [added] = (cost.added for cost in costs if cost.payments == RESOLVED)
    report.aim(
        f"what {RESOLVED:,} queued payments add to their block", added, "ms", 100.0,
        at_least=False, required=False,
    )  # fmt: skip


def _clearing(report: Report, payments: int) -> None:
    taken = netting.figures(payments)
    report.figures |= taken
    joining, _, closing, *_ = taken.items()
    report.aim(*joining, "µs", 12.0, at_least=False, required=False)
    report.aim("close and settlement of it", closing[1], "ms", 20.0, at_least=False, required=False)
