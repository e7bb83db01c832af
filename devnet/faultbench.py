"""What a dead node and long links cost: `python -m devnet.bench --faults`.

Real node processes, production durability; links are slowed in the nodes (`node.network.faults`).
Where the time of views went is read from the nodes' own logs (`node.engine.view_log`).
"""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from consensus.interface import Timing
from devnet import control
from devnet.bench import drive, machine
from devnet.bench.run import SEED, UP_SECONDS, VALIDATORS, Report
from devnet.load import Load, Plan, Result
from devnet.network import Network, open_existing
from devnet.orders import sign_order
from node.api.client import ApiClient

NEAR_MS = 10
"""One way, between the nodes of one region."""
FAR_MS = 50
"""One way, between continents."""
RATE = 200
"""Payments per second, offered to all and to three of four alike: well below what all can do, so
that a lower throughput with one dead is the dead one's doing."""
_VIEW = re.compile(r"view=(\d+) leader=(\S+) cause=(\S+) (.*)")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    load_seconds: int
    settle_seconds: int
    """Of load between the death and the measurement: the dead one becomes known as silent."""
    light: int
    """Payments at each node."""


FULL = Size(load_seconds=30, settle_seconds=12, light=50)
QUICK = Size(load_seconds=8, settle_seconds=8, light=10)


async def measure(directory: Path, size: Size) -> Report:
    """Start a devnet in `directory`, take all figures, take it down. Raises BenchFailed."""
    report = Report()
    directory.parent.mkdir(parents=True, exist_ok=True)
    report.figures["fdatasync of 500 bytes, ms"] = machine.fsync_ms(directory.parent)
    _up(directory)
    try:
        network = open_existing(directory)
        await _one_dead(report, network, size)
        await _far(report, network, size)
    finally:
        control.stop(directory, UP_SECONDS)
    return report


def _up(directory: Path) -> None:
    command = (sys.executable, "-m", "node.cli", "devnet", "up", "--detach", "--dir")
    subprocess.run(
        [*command, str(directory), "--validators", str(VALIDATORS)],
        check=True,
        timeout=UP_SECONDS,
        stdout=subprocess.DEVNULL,
    )


# --- one of four dead -----------------------------------------------------------------------------


async def _one_dead(report: Report, network: Network, size: Size) -> None:
    figures = report.figures
    dead = network.node_names[-1]
    await _ask(network, "links", delay_ms=NEAR_MS, jitter_ms=0, loss=0.0)
    await _offer(network, size.settle_seconds)
    everybody = await _offer(network, size.load_seconds)
    await _ask(network, "kill", node=dead)
    first = Logs(network)
    killed = await _offer(network, size.settle_seconds)
    at_first = [view for view in first.views(network.node_names[0]) if view.leader == dead]
    logs = Logs(network)
    rest = await _offer(network, size.load_seconds)
    figures[f"{NEAR_MS} ms links, offered payments per s"] = RATE
    for name, result in (("all up", everybody), ("one just dead", killed), ("one dead", rest)):
        figures[f"  {name}: payments per s"] = _per_second(result)
        figures[f"  {name}: finality p50, ms"] = result.percentile(50) or 0.0
        figures[f"  {name}: finality p99, ms"] = result.percentile(99) or 0.0
    report.aim(
        "one of four dead ÷ all up, payments per s", _per_second(rest) / _per_second(everybody),
        "", 0.8, at_least=True, required=True,
    )  # fmt: skip
    lost = sorted(view.spent for view in logs.views(network.node_names[0]) if view.leader == dead)
    figures["  views led by the dead node, just dead"] = len(at_first)
    figures["    longest of them, ms"] = max((view.spent for view in at_first), default=0.0)
    figures["  views led by the dead node, known silent"] = len(lost)
    if not lost:
        raise drive.BenchFailed(f"no view of {dead} was given up: nothing was measured")
    figures["    time in them p50, ms"] = lost[len(lost) // 2]
    report.aim(
        "longest view of a leader known silent", lost[-1], "ms", 2 * Timing().delta,
        at_least=False, required=True,
    )  # fmt: skip
    await _ask(network, "restart", node=dead)
    await _ask(network, "heal")


async def _offer(network: Network, seconds: int) -> Result:
    result = await Load(network, Plan(RATE * seconds, rate=float(RATE), seed=SEED)).run()
    if result.settled != result.payments:
        raise drive.BenchFailed(f"of a load not all settled: {result.document()}")
    return result


def _per_second(result: Result) -> float:
    return result.settled / result.seconds


# --- long links -----------------------------------------------------------------------------------


async def _far(report: Report, network: Network, size: Size) -> None:
    await _ask(network, "links", delay_ms=FAR_MS, jitter_ms=0, loss=0.0)
    rng = random.Random(SEED)
    for index in range(VALIDATORS):
        await _known_final(network, index, 3, rng)
    logs = Logs(network)
    times: list[float] = []
    for index, name in enumerate(network.node_names):
        own = await _known_final(network, index, size.light, rng)
        report.figures[f"{FAR_MS} ms links, submission at {name} to known, p50 ms"] = own[
            len(own) // 2
        ]
        times += own
    times.sort()
    led = [
        view
        for name in network.node_names
        for view in logs.views(name)
        if view.leader == name and view.finalization is not None and view.payments
    ]
    finalized = sorted(view.finalization or 0.0 for view in led)
    if not finalized:
        raise drive.BenchFailed("no node told of a view that it led: nothing was measured")
    figures = report.figures
    figures["  proposal to finalization at the leader, views"] = len(finalized)
    figures["  of it three messages on their way, ms"] = 3 * FAR_MS
    figures["  of it own durable writes (two; peers' as long), ms"] = sorted(v.sync for v in led)[
        len(led) // 2
    ]
    figures["  proposal to finalization at the leader, p99 ms"] = finalized[
        int(len(finalized) * 0.99)
    ]
    figures["  submission to known finality, p99 ms"] = times[int(len(times) * 0.99)]
    report.aim(
        f"{FAR_MS} ms links: proposal to finalization p50", finalized[len(finalized) // 2],
        "ms", 170, at_least=False, required=True,
    )  # fmt: skip
    report.aim(
        f"{FAR_MS} ms links: submission to known finality p50", times[len(times) // 2],
        "ms", 270, at_least=False, required=False,
    )  # fmt: skip
    await _ask(network, "heal")


async def _known_final(network: Network, index: int, count: int, rng: random.Random) -> list[float]:
    """One payment at a time at one node: ms until its client knows them final there, ascending."""
    bank = network.genesis.participants[1]
    signer = network.signer(bank.name)
    times = []
    async with ApiClient([network.api(network.node_names[index])]) as client:
        for _ in range(count):
            order = sign_order(network.genesis, bank, signer, 1, rng)
            # Not in step with the views, which would measure one phase of them only.
            await asyncio.sleep(rng.random() * 0.3)
            started = time.perf_counter()
            await client.submit(order.raw)
            if await client.payment(order.uetrs[0], wait=drive.FINAL_SECONDS) is None:
                raise drive.BenchFailed("a payment was not final in time")
            times.append((time.perf_counter() - started) * 1000)
    return sorted(times)


# --- the nodes' logs ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """One line of a node's view log."""

    leader: str
    cause: str
    payments: int
    spent: float
    """Ms in the view from when a block was wanted."""
    finalization: float | None
    """Ms from the proposal to the finalization, as this node knew them."""
    sync: float
    """Ms of this node's durable writes for it."""


class Logs:
    """What the nodes log from now on."""

    def __init__(self, network: Network) -> None:
        self._files = {name: network.log(name) for name in network.node_names}
        self._begin = {name: path.stat().st_size for name, path in self._files.items()}

    def views(self, node: str) -> Iterator[View]:
        """The views that a node has told of since."""
        with open(self._files[node], encoding="utf-8", errors="replace") as log:
            log.seek(self._begin[node])
            yield from read_views(log)


def read_views(lines: Iterable[str]) -> Iterator[View]:
    """The lines of a node's log that are of views."""
    for line in lines:
        if match := _VIEW.search(line):
            yield _view(match)


def _view(match: re.Match[str]) -> View:
    phases = dict(word.split("=", 1) for word in match[4].split() if "=" in word)

    def ms(name: str) -> float | None:
        value = phases.get(name, "-")
        return None if value == "-" else float(value)

    notarization, finalization = ms("notarization_ms"), ms("finalization_ms")
    both = None if notarization is None or finalization is None else notarization + finalization
    payments = phases.get("payments", "-")
    return View(
        leader=match[2],
        cause=match[3],
        payments=0 if payments == "-" else int(payments),
        spent=(ms("total_ms") or 0.0) - (ms("waited_ms") or 0.0),
        finalization=both,
        sync=ms("sync_ms") or 0.0,
    )


async def _ask(network: Network, operation: str, **arguments: object) -> None:
    await asyncio.to_thread(control.ask, network.directory, operation, **arguments)
