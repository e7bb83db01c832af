"""How fast a chain is audited, against how fast a node executes the same blocks.

The node's side is what a node does with a block that it gets from others, in one process: look
into it, check every signature and the finalization, execute it, and commit it to a database with
all its indexes. The audit's side is `audit_chain` as the command runs it: a work directory, and
processes that verify signatures. Both read the same chain, one after the other.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from consensus.interface import Commit
from devnet.bench.drive import BenchFailed
from devnet.bench.run import Report
from devnet.generate import BATCH_BLOCKS, BATCH_PAYMENTS, Generated, Plan, generate
from node.audit.chain_audit import AuditReport, audit_chain
from node.audit.epochs import check_finalization
from node.audit.report import VALID
from node.audit.signatures import InProcesses
from node.audit.workdir import WorkDirectory
from node.chain.block import inspect_block
from node.engine.executor import Executor
from node.engine.mempool import Mempool
from node.engine.node import load_chain
from node.storage.chain_store import ChainStore
from node.storage.config import MempoolLimits
from node.storage.level import LevelStore

CHAINS = ((500, 1_000), (50_000, 2))
"""(blocks, payments in each)."""
CHAINS_QUICK = ((50, 1_000), (3_000, 2))
AIM = 0.8
"""Of the node's own rate."""
ROUNDS = 2
"""Of each side, in turn; the better one counts: the other was disturbed by something else."""


def audit_figures(*, quick: bool) -> Report:
    """Payments a second of both, their ratio, and what the audit holds in memory."""
    report = Report()
    for blocks, payments in CHAINS_QUICK if quick else CHAINS:
        with tempfile.TemporaryDirectory(prefix="nostro-bench-") as directory:
            _measure(report, Path(directory), blocks, payments)
    return report


def _measure(report: Report, directory: Path, blocks: int, payments: int) -> None:
    made = generate(directory / "devnet", Plan(blocks=blocks, payments=payments))
    name = f"{blocks:,} × {payments:,}"
    node = audit = float("inf")
    for turn in range(ROUNDS):
        node = min(node, _execute(made, directory / f"node{turn}"))
        seconds, resident = _audit(made, directory / f"work{turn}")
        audit = min(audit, seconds)
    report.figures[f"{name}: node executes, payments/s"] = made.payments / node
    report.figures[f"{name}: audit, payments/s"] = made.payments / audit
    for part, mib in resident.items():
        report.figures[f"{name}: audit, memory at {part}, MiB"] = mib
    report.aim(f"{name}: audit ÷ node", node / audit, "", AIM, at_least=True, required=False)


@contextmanager
def _source(made: Generated) -> Iterator[ChainStore]:
    home = made.network.home(made.network.node_names[0])
    with closing(LevelStore(home / "data")) as database:
        yield ChainStore(database)


def _execute(made: Generated, target: Path) -> float:
    """Seconds that a node takes for all blocks."""
    genesis = made.network.genesis
    with _source(made) as source, closing(LevelStore(target, create=True)) as database:
        store = ChainStore(database)
        store.warm()
        state, _ = load_chain(genesis, store)
        pool = Mempool(MempoolLimits())
        executor = Executor(genesis, state, pool)
        pending: list[Commit] = []
        waiting = 0
        started = time.perf_counter()
        parent = inspect_block(source.block(0) or b"").header
        for height in range(1, made.height + 1):
            raw, certificate = source.block(height), source.finalization(height)
            assert raw is not None
            assert certificate is not None
            info = executor.inspect(raw)
            header = inspect_block(raw).header
            validators = executor.final_state.validator_set
            check_finalization(certificate, header, parent, validators, chain_id=genesis.chain_id)
            fault = executor.execute(info, raw)
            if fault is not None:
                raise BenchFailed(f"block {height}: {fault}")
            pending.append(Commit((info,), (raw,), certificate))
            waiting += header.outcomes_count
            parent = header
            if len(pending) >= BATCH_BLOCKS or waiting >= BATCH_PAYMENTS or height == made.height:
                planned = executor.plan(pending)
                store.commit(planned.blocks, planned.floor, planned.certificates)
                executor.committed(planned)
                pool.settle(planned.instructions, planned.time)
                pending, waiting = [], 0
        seconds = time.perf_counter() - started
    shutil.rmtree(target)
    return seconds


def _audit(made: Generated, work: Path) -> tuple[float, dict[str, float]]:
    """Seconds that the audit takes for all blocks, and what it holds on the way, MiB: without
    files that are mapped (tables of the two databases, 128 MiB of each at most, reclaimable)."""
    resident: dict[str, float] = {}
    processes = len(os.sched_getaffinity(0))

    def watch(so_far: AuditReport, tip: int) -> None:
        for part, tenths in (("a tenth", 1), ("nine tenths", 9)):
            if so_far.height >= tip * tenths // 10 and part not in resident:
                resident[part] = _anonymous_mib()

    genesis = (made.network.directory / "genesis.json").read_bytes()
    workspace, _ = WorkDirectory(work, "bench").open()
    with _source(made) as source, closing(workspace):
        started = time.perf_counter()
        report = audit_chain(
            source,
            genesis,
            watch,
            work=workspace,
            checks=lambda chain_id: InProcesses(chain_id, processes),
        )
        seconds = time.perf_counter() - started
    if report.verdict != VALID:
        raise BenchFailed(report.text())
    shutil.rmtree(work)
    return seconds, resident


def _anonymous_mib() -> float:
    """Memory of this process that no file stands behind."""
    [line] = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("RssAnon")
    )
    return int(line.split()[1]) / 1024
