"""How long a new node takes to serve the ledger of a network that has run for long.

`nostro init --join` and `nostro start`, as an operator gives them, against four nodes that hold a
generated chain. Twice: the first one to ask also waits for the snapshot to be made, the second
finds it. All payments of the chain lie within the window in which ids and UETRs are remembered,
which is the worst case: the node rebuilds every one of them from the window's blocks.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from devnet.bench.catchup import SAMPLE_SECONDS, SPARE_MS, processes, running
from devnet.bench.drive import BenchFailed
from devnet.bench.machine import usage
from devnet.generate import INTERVAL_MS, Plan, generate
from devnet.network import GENESIS, Network
from devnet.ports import HOST, choose
from devnet.processes import NodeProcess
from node.api.client import ApiClient, ApiError

READY_SECONDS = 300.0
JOINS = ("first to ask", "second")


@dataclass(frozen=True, slots=True)
class Join:
    """One new node."""

    init_seconds: float
    ready_seconds: float
    """From the start of `nostro init` until /readyz says yes."""
    resident_mib: float
    """The largest that was seen until then."""


async def state_sync(directory: Path, blocks: int, payments: int) -> dict[str, float]:
    """Name → figure. Raises BenchFailed and what `generate` raises."""
    start = int(time.time() * 1000) - (blocks + 1) * INTERVAL_MS - SPARE_MS
    made = generate(directory, Plan(blocks=blocks, payments=payments, start_ms=start))
    figures = {
        "payments on the ledger": float(made.payments),
        "generating the chain, s": made.seconds,
    }
    async with running(made.network, processes(made.network)):
        for index, which in enumerate(JOINS):
            join = await _join(made.network, directory / f"observer{index}", made.height)
            figures |= {
                f"{which}: init, s": join.init_seconds,
                f"{which}: init and start to ready, s": join.ready_seconds,
                f"{which}: resident size, largest, MiB": join.resident_mib,
            }
    return figures


async def _join(network: Network, home: Path, target: int) -> Join:
    [ports] = choose(1, 0)
    sources = [part for name in network.node_names for part in ("--join", network.api(name))]
    started = time.monotonic()
    init = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "node.cli", "init", "--home", str(home),
        "--genesis", str(network.directory / GENESIS), *sources,
        "--api", f"{HOST}:{ports.api}", "--p2p", f"{HOST}:{ports.p2p}",
        "--operator-listener", f"{HOST}:{ports.operator}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, complaint = await init.communicate()
    if init.returncode:
        raise BenchFailed(f"nostro init --join failed: {complaint.decode(errors='replace')}")
    made = time.monotonic() - started
    log = home.with_suffix(".log")
    node = NodeProcess(home.name, home, log, network.node_environment(os.environ))
    largest = 0.0
    try:
        await node.start()
        while not (
            _is_ready(f"http://{HOST}:{ports.operator}/readyz")
            and await _height(f"http://{HOST}:{ports.api}") >= target
        ):
            if node.pid is None or time.monotonic() - started > READY_SECONDS:
                raise BenchFailed(f"{home.name} was not ready; its log:\n{node.log_tail()}")
            largest = max(largest, usage(node.pid).resident_mib)
            await asyncio.sleep(SAMPLE_SECONDS)
        ready = time.monotonic() - started
        if node.pid is not None:
            largest = max(largest, usage(node.pid).resident_mib)
        return Join(made, ready, largest)
    finally:
        await node.stop()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


async def _height(api: str) -> int:
    try:
        async with ApiClient([api]) as client:
            return (await client.status()).height
    except ApiError:
        return -1
