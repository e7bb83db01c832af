"""How fast a node that is a long chain behind comes level, and what memory that takes it.

The chain is generated (`devnet.generate`), so its length costs minutes, not days. Three of four
nodes hold it; the fourth starts with the genesis block, as a validator does that was down since
the beginning. It fetches, checks, executes and stores every block. All four run on this machine:
where it has few cores, the three that serve take theirs from the one that follows.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devnet.bench import machine
from devnet.bench.drive import BenchFailed
from devnet.generate import INTERVAL_MS, Plan, generate
from devnet.network import Network
from devnet.processes import NodeProcess
from node.api.client import ApiClient, ApiError

SAMPLE_SECONDS = 0.2
"""Between two looks at the node: the precision of the figures."""
ANSWER_SECONDS = 30.0
"""How long a node may take from its start until its API answers."""
STALL_SECONDS = 60.0
"""Without a new block for this long, the node has stopped catching up."""
SHOWN_SAMPLES = 10
"""Points of the curve of memory that are printed."""
SPARE_MS = 3_600_000
"""The chain ends this long ago: while it is generated, time must not catch up with it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The node at one moment."""

    seconds: float
    """Since its process was started."""
    height: int
    resident_mib: float
    cpu_seconds: float


@dataclass(slots=True)
class CatchUp:
    """One run."""

    payments_per_block: int
    generated_seconds: float
    target: int
    """Height to reach."""
    samples: list[Sample] = field(default_factory=list)
    served_cpu_seconds: float = 0.0
    """CPU of the nodes that served, all together, meanwhile."""

    def figures(self) -> dict[str, float]:
        """Name → figure, for the report."""
        moving = [sample for sample in self.samples if sample.height]
        first, last = moving[0], moving[-1]
        took = last.seconds - first.seconds
        if took <= 0:
            raise BenchFailed("the chain is too short: it was fetched between two looks")
        rate = (last.height - first.height) / took
        figures = {
            "blocks": float(self.target),
            "payments per block": float(self.payments_per_block),
            "generating the chain, s": self.generated_seconds,
            "process start to level, s": last.seconds,
            "blocks per s": rate,
            "payments per s": rate * self.payments_per_block,
            "CPU of the node, s": last.cpu_seconds,
            "CPU of the three that served, s": self.served_cpu_seconds,
            "resident size, largest, MiB": max(s.resident_mib for s in self.samples),
        }
        for index in range(SHOWN_SAMPLES + 1):
            sample = moving[index * (len(moving) - 1) // SHOWN_SAMPLES]
            figures[f"  resident at height {sample.height:>7,}, MiB"] = sample.resident_mib
        return figures


async def catch_up(directory: Path, blocks: int, payments: int) -> CatchUp:
    """Generate the chain in `directory`, run it, follow the node that is behind until it is level.

    Raises BenchFailed and what `generate` raises."""
    start = int(time.time() * 1000) - (blocks + 1) * INTERVAL_MS - SPARE_MS
    made = generate(directory, Plan(blocks=blocks, payments=payments, behind=1, start_ms=start))
    run = CatchUp(payments, made.seconds, made.height)
    *serving, behind = processes(made.network)
    async with running(made.network, serving):
        before = sum(_usage(node).cpu_seconds for node in serving)
        async with running(made.network, [behind], answer=False):
            await _follow(made.network, behind, run)
        run.served_cpu_seconds = sum(_usage(node).cpu_seconds for node in serving) - before
    return run


def processes(network: Network) -> list[NodeProcess]:
    """The nodes of a devnet that nobody runs, without a supervisor."""
    environment = network.node_environment(os.environ)
    return [
        NodeProcess(name, network.home(name), network.log(name), environment)
        for name in network.node_names
    ]


@asynccontextmanager
async def running(
    network: Network, nodes: Sequence[NodeProcess], *, answer: bool = True
) -> AsyncIterator[None]:
    """Start the nodes, wait for their APIs if `answer`, stop them at the end."""
    try:
        for node in nodes:
            await node.start()
        for node in nodes if answer else ():
            await _answers(network, node)
        yield
    finally:
        for node in nodes:
            await node.stop()


async def _answers(network: Network, node: NodeProcess) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while await height(network, node) is None:
        if time.monotonic() > deadline:
            raise BenchFailed(
                f"{node.name} does not answer; the end of its log:\n{node.log_tail()}"
            )
        await asyncio.sleep(SAMPLE_SECONDS)


async def height(network: Network, node: NodeProcess) -> int | None:
    """Height of the node, None where it does not answer."""
    try:
        async with ApiClient([network.api(node.name)]) as client:
            return (await client.status()).height
    except ApiError:
        return None


async def _follow(network: Network, node: NodeProcess, run: CatchUp) -> None:
    started = moved = time.monotonic()
    reached = 0
    while reached < run.target:
        await asyncio.sleep(SAMPLE_SECONDS)
        found = await height(network, node)
        now = time.monotonic()
        if found is not None:
            usage = _usage(node)
            run.samples.append(Sample(now - started, found, usage.resident_mib, usage.cpu_seconds))
            if found > reached:
                reached, moved = found, now
        if now - moved > STALL_SECONDS:
            raise BenchFailed(f"{node.name} stays at {reached}; its log:\n{node.log_tail()}")


def _usage(node: NodeProcess) -> machine.Usage:
    if node.pid is None:
        raise BenchFailed(f"{node.name} has ended; the end of its log:\n{node.log_tail()}")
    return machine.usage(node.pid)
