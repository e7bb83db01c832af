"""`python -m devnet.bench`: measure, and say where an aim was missed. Each figure has its command.

(no option)    throughput, finality and restart of a devnet, against what the machine can do
--ledger       the ledger alone: execution, resolution, clearing, the close of a day
--chain        single steps of the chain, without network, disk or processes
--catch-up     a node that is tens of thousands of blocks behind comes level
--state-sync   a new node joins a ledger of a million payments
--faults       one of four nodes dead, and links as long as between continents
--audit        the audit of a chain, against a node that executes the same blocks
--export       the books of 200,000 payments as beancount, CSV and Parquet
--evidence     dossiers: bytes, making, verifying, on a ledger of a million payments
--scale        4 to 100 validators in simulated time, at this machine's costs
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from devnet import faultbench
from devnet.bench.audit import audit_figures
from devnet.bench.catchup import catch_up
from devnet.bench.evidence import measure_evidence
from devnet.bench.export import measure_export
from devnet.bench.joining import state_sync
from devnet.bench.ledger import measure_ledger
from devnet.bench.micro import chain_figures
from devnet.bench.run import FULL, QUICK, Report, measure
from devnet.bench.scaling import scaling

CATCH_UP = ((50_000, 2), (1_000, 1_000))
"""(blocks, payments in each): a long chain of almost empty blocks, and a short one of full ones."""
CATCH_UP_QUICK = ((3_000, 2), (200, 1_000))
LEDGER = (1_000, 1_000)
"""(blocks, payments in each) of the ledger that a new node joins."""
LEDGER_QUICK = (100, 1_000)


def main() -> int:
    """Print the report; 1 if a figure that is required was missed."""
    parser = argparse.ArgumentParser(
        prog="python -m devnet.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    for name, run in BENCHES.items():
        which.add_argument(f"--{name}", dest="run", action="store_const", const=run)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=_devnet)
    args = parser.parse_args()
    report = args.run(args.quick)
    if args.json:
        json.dump(report.document(), sys.stdout, indent=2)
        print()
    else:
        print(report.text())
    return 0 if report.required_met else 1


def _devnet(quick: bool) -> Report:
    with tempfile.TemporaryDirectory(prefix="nostro-bench-") as directory:
        return asyncio.run(measure(Path(directory) / "devnet", QUICK if quick else FULL))


def _chain(_: bool) -> Report:
    return Report(figures={f"{name}, µs": value for name, value in chain_figures().items()})


def _catch_up(quick: bool) -> Report:
    report = Report()
    for blocks, payments in CATCH_UP_QUICK if quick else CATCH_UP:
        with tempfile.TemporaryDirectory(prefix="nostro-bench-") as directory:
            run = asyncio.run(catch_up(Path(directory) / "devnet", blocks, payments))
        name = f"{blocks:,} × {payments:,}"
        report.figures |= {f"{name}: {what}": value for what, value in run.figures().items()}
    return report


def _faults(quick: bool) -> Report:
    size = faultbench.QUICK if quick else faultbench.FULL
    with tempfile.TemporaryDirectory(prefix="nostro-bench-") as directory:
        return asyncio.run(faultbench.measure(Path(directory) / "devnet", size))


def _state_sync(quick: bool) -> Report:
    with tempfile.TemporaryDirectory(prefix="nostro-bench-") as directory:
        size = LEDGER_QUICK if quick else LEDGER
        figures = asyncio.run(state_sync(Path(directory) / "devnet", *size))
    report = Report(figures=figures)
    for name, value in figures.items():
        if name.endswith("to ready, s"):
            report.aim(name.rpartition(",")[0], value, "s", 15, at_least=False, required=False)
    return report


def _ledger(quick: bool) -> Report:
    return measure_ledger(quick=quick)


def _audit(quick: bool) -> Report:
    return audit_figures(quick=quick)


def _scale(quick: bool) -> Report:
    return Report(lines=scaling(quick).lines())


def _export(quick: bool) -> Report:
    return measure_export(quick=quick)


def _evidence(quick: bool) -> Report:
    return measure_evidence(quick=quick)


BENCHES: dict[str, Callable[[bool], Report]] = {
    "ledger": _ledger,
    "chain": _chain,
    "faults": _faults,
    "catch-up": _catch_up,
    "state-sync": _state_sync,
    "audit": _audit,
    "evidence": _evidence,
    "export": _export,
    "scale": _scale,
}

if __name__ == "__main__":
    sys.exit(main())
