"""The measurements, in order, in one run, on one devnet."""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devnet import control
from devnet.bench import drive, machine
from devnet.network import Network, open_existing
from devnet.ports import HOST

SEED = 20_260_101
UP_SECONDS = 60.0
READY_SECONDS = 60.0
POLL_SECONDS = 0.02
"""Between two looks at a restarting node; part of the figure's precision."""
OBSERVED = 1
"""The node whose metrics and restart are measured: not the one that load is first sent to."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    light: int
    singles: int
    batched: int
    idle_seconds: float


FULL = Size(light=300, singles=20_000, batched=100_000, idle_seconds=20.0)
QUICK = Size(light=50, singles=4_000, batched=40_000, idle_seconds=5.0)
BATCH = 1_000
VALIDATORS = 4


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure with what it should be."""

    name: str
    value: float
    unit: str
    bound: float
    at_least: bool
    required: bool
    """Named as a number to reach, not only as an aim."""

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(slots=True)
class Report:
    """Everything measured."""

    figures: dict[str, float] = field(default_factory=dict)
    aims: list[Aim] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    """What is no single figure: tables and text."""

    @property
    def required_met(self) -> bool:
        return all(aim.met for aim in self.aims if aim.required)

    def aim(
        self, name: str, value: float, unit: str, bound: float, *, at_least: bool, required: bool
    ) -> None:
        self.aims.append(Aim(name, value, unit, bound, at_least, required))

    def document(self) -> dict[str, Any]:
        return {
            "figures": {name: round(value, 4) for name, value in self.figures.items()},
            "aims": [
                {
                    "name": aim.name,
                    "value": round(aim.value, 4),
                    "unit": aim.unit,
                    "bound": aim.bound,
                    "kind": "at least" if aim.at_least else "at most",
                    "met": aim.met,
                }
                for aim in self.aims
            ],
            "lines": self.lines,
        }

    def text(self) -> str:
        lines = [f"{name:<52} {value:>12,.2f}" for name, value in self.figures.items()]
        lines += self.lines
        if self.aims:
            lines.append("")
        for aim in self.aims:
            sign = "≥" if aim.at_least else "≤"
            verdict = "met" if aim.met else "MISSED" if aim.required else "missed (aim)"
            value = f"{aim.value:,.2f} {aim.unit}".rstrip()
            lines.append(f"{aim.name:<52} {value:>14}  {sign} {aim.bound:,.2f}  {verdict}")
        return "\n".join(lines)


async def measure(directory: Path, size: Size) -> Report:
    """Start a devnet in `directory`, take all figures, take it down. Raises BenchFailed."""
    report, rng = Report(), random.Random(SEED)
    directory.parent.mkdir(parents=True, exist_ok=True)
    report.figures["fdatasync of 500 bytes, ms"] = machine.fsync_ms(directory.parent)
    seconds = _up(directory)
    report.figures["devnet up: first payments final, s"] = seconds
    report.aim(
        "devnet up to first finalized payment", seconds, "s", 10, at_least=False, required=True
    )
    try:
        network = open_existing(directory)
        await _light(report, network, size, rng)
        await _throughput(report, network, size, rng)
        await _restart(report, network, rng)
        await _idle(report, network, size)
    finally:
        control.stop(directory, UP_SECONDS)
    return report


def _up(directory: Path) -> float:
    started = time.perf_counter()
    subprocess.run(
        [
            sys.executable, "-m", "node.cli", "devnet", "up", "--detach",
            "--dir", str(directory), "--validators", str(VALIDATORS), "--banks", "4",
        ],
        check=True,
        timeout=UP_SECONDS,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - started


async def _light(report: Report, network: Network, size: Size, rng: random.Random) -> None:
    await drive.light(network, 20, rng)  # connections, code paths and caches
    before = _metrics(network, OBSERVED)
    times = await drive.light(network, size.light, rng)
    after = _metrics(network, OBSERVED)

    def spent(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    blocks = spent("nostro_blocks_total")
    journal = spent('nostro_fsync_seconds_sum{kind="journal"}') / blocks * 1000
    database = spent('nostro_fsync_seconds_sum{kind="database"}') / blocks * 1000
    execution = spent("nostro_execution_seconds_sum") / blocks * 1000
    p50 = times[len(times) // 2]
    figures = report.figures
    figures["finality at light load, p50 ms"] = p50
    figures["finality at light load, p99 ms"] = times[int(len(times) * 0.99)]
    figures["  of it durable writes of the journal, ms"] = journal
    figures["  of it durable write of the database, ms"] = database
    figures["  of it execution, ms"] = execution
    figures["  rest: messages, signatures, HTTP, scheduling, ms"] = (
        p50 - journal - database - execution
    )
    figures["payments per block at light load"] = size.light / blocks
    figures["journal syncs per block and node"] = (
        spent('nostro_fsync_seconds_count{kind="journal"}') / blocks
    )
    figures["database syncs per block and node"] = (
        spent('nostro_fsync_seconds_count{kind="database"}') / blocks
    )


async def _throughput(report: Report, network: Network, size: Size, rng: random.Random) -> None:
    """Against S = (Ed25519 verifications/s of one core × cores) ÷ validators: no node that checks
    every signature can pass it. Measured around each run, since machines drift."""
    cores = len(os.sched_getaffinity(0))
    rates = [machine.verifications_per_second(cores)]
    single = await drive.throughput(network, size.singles, 1, 200, rng)
    rates.append(machine.verifications_per_second(cores))
    batched = await drive.throughput(network, size.batched, BATCH, 4, rng)
    rates.append(machine.verifications_per_second(cores))
    rate = sum(rates) / len(rates)
    bound = rate * cores / VALIDATORS
    figures = report.figures
    figures["Ed25519 verifications/s of one core, mean of three"] = rate
    figures["  highest of three"] = max(rates)
    figures["  lowest of three"] = min(rates)
    figures["cores"] = cores
    figures["S, instructions per s"] = bound
    figures["one payment per instruction, payments per s"] = single
    figures["1,000 per instruction, payments per s"] = batched
    report.aim("one per instruction ÷ S", single / bound, "", 0.25, at_least=True, required=True)
    report.aim(
        "1,000 per instruction ÷ (0.25 S)", batched / (0.25 * bound), "×", 10,
        at_least=True, required=True,
    )  # fmt: skip
    report.aim(
        "1,000 per instruction ÷ one per instruction", batched / single, "×", 10,
        at_least=True, required=False,
    )  # fmt: skip


async def _restart(report: Report, network: Network, rng: random.Random) -> None:
    """A node with everything that was paid so far is killed and started again."""
    directory, name = network.directory, network.node_names[OBSERVED]
    status = control.ask(directory, "status")
    pids = {node["name"]: node["pid"] for node in status["nodes"]}
    resident = max(machine.usage(pid).resident_mib for pid in pids.values())
    control.ask(directory, "kill", node=name)
    started = time.perf_counter()
    control.ask(directory, "restart", node=name)
    while not _ready(network, OBSERVED):
        if time.perf_counter() - started > READY_SECONDS:
            raise drive.BenchFailed(f"{name} was not ready within {READY_SECONDS:.0f} s")
        await asyncio.sleep(POLL_SECONDS)
    seconds = time.perf_counter() - started
    payments = sum(
        value
        for key, value in _metrics(network, 0).items()
        if key.startswith("nostro_outcomes_total")
    )
    report.figures["payments on the ledger"] = payments
    report.figures["node restarted to ready, s"] = seconds
    report.figures["resident size of the largest node, MiB"] = resident
    report.aim("restart with the whole ledger", seconds, "s", 5, at_least=False, required=True)
    report.aim("resident size", resident, "MiB", 200, at_least=False, required=False)
    await drive.light(network, 5, rng)


async def _idle(report: Report, network: Network, size: Size) -> None:
    pids = [node["pid"] for node in control.ask(network.directory, "status")["nodes"]]
    before = sum(machine.usage(pid).cpu_seconds for pid in pids)
    started = time.perf_counter()
    await asyncio.sleep(size.idle_seconds)
    spent = sum(machine.usage(pid).cpu_seconds for pid in pids) - before
    share = spent / (time.perf_counter() - started) * 100
    report.figures["idle devnet, % of one core"] = share
    report.aim("idle devnet, share of one core", share, "%", 5, at_least=False, required=True)


def _operator(network: Network, index: int) -> str:
    return f"http://{HOST}:{network.settings.ports[index].operator}"


def _metrics(network: Network, index: int) -> dict[str, float]:
    with urllib.request.urlopen(f"{_operator(network, index)}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {
        match[1]: float(match[2])
        for match in re.finditer(r"^([a-z_]+(?:\{[^}]*\})?) ([0-9.e+-]+)$", text, re.MULTILINE)
    }


def _ready(network: Network, index: int) -> bool:
    try:
        with urllib.request.urlopen(f"{_operator(network, index)}/readyz", timeout=1):
            return True
    except OSError:
        return False
