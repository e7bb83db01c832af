"""How consensus grows with the number of validators: the table, and in words where it bends.

Every sentence is worked out from the figures of this very report, so that it stays true on another
machine. The runs are `devnet.sim.scale`'s, the costs `devnet.bench.costs`'.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from consensus.messages import quorum
from devnet.bench.costs import Costs, measure
from devnet.sim.scale import PARTS, Line, Run, simulate

SIZES = (4, 10, 31, 100)
LATENCIES_MS = (1.0, 10.0, 50.0)
GIGABITS = 1.0
PAYMENTS = 100
"""In a block, one in each instruction."""
BLOCKS = {4: 40, 10: 40, 31: 20, 100: 8}
"""Measured in each run, by number of validators: what a large network needs of real time, too."""
CALIBRATED = {4: 200, 10: 60, 31: 10, 100: 2}
"""Blocks of the run that measures what the core itself takes, by number of validators."""
BUSY = 0.5
"""Share of its time from which on a processor, not the links, decides the pace."""
SYNCS = 2
"""Of the journal between two blocks: the leader's before its block leaves, and the voters'."""
PART_NAMES = {
    "signatures": "votes signed and verified",
    "links": "sending and receiving",
    "encoding": "encoding and decoding",
    "core": "the core",
    "instructions": "checking the instructions",
    "blocks": "executing and storing the block",
}


@dataclass(frozen=True, slots=True)
class Scaling:
    """All runs, by (validators, latency)."""

    costs: Costs
    runs: dict[tuple[int, float], Run]

    @property
    def sizes(self) -> list[int]:
        return sorted({validators for validators, _ in self.runs})

    @property
    def latencies(self) -> list[float]:
        return sorted({latency for _, latency in self.runs})

    def lines(self) -> list[str]:
        """The whole report, in Markdown."""
        return [
            "Measured on this machine, of one core:",
            "",
            *(f"    {line}" for line in self.costs.lines()),
            "",
            *self._traffic(),
            "",
            *self._speed(),
            "",
            *self._processor(),
            "",
            *self._words(),
        ]

    def _traffic(self) -> list[str]:
        rows = [
            "| n | q | messages a block, sent by a node | by all | KiB a block, sent by a node | "
            "by all, MiB | of it certificates | leader's upload of the block, ms |",
            "|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for n in self.sizes:
            run = self.runs[n, self.latencies[0]]
            messages, sent = sum(run.messages.values()), sum(run.sent_bytes.values())
            rows.append(
                f"| {n} | {quorum(n)} | {run.per_node(messages):,.1f} | "
                f"{messages / run.blocks:,.0f} | {run.per_node(sent) / 1024:,.1f} | "
                f"{sent / run.blocks / 2**20:,.2f} | {_certificates(run) / sent:.0%} | "
                f"{self._upload_ms(n):,.1f} |"
            )
        return rows

    def _speed(self) -> list[str]:
        rows = [
            "| n | link, one way | finality p50, ms | p99, ms | in link delays | blocks/s | "
            "payments/s | busy |",
            "|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for n in self.sizes:
            for latency in self.latencies:
                run = self.runs[n, latency]
                p50 = run.percentile(0.5)
                rows.append(
                    f"| {n} | {latency:.0f} ms | {p50:,.1f} | {run.percentile(0.99):,.1f} | "
                    f"{p50 / latency:,.1f} | {run.blocks_per_s:,.1f} | "
                    f"{run.blocks_per_s * self.costs.payments:,.0f} | {_busy(run):.0%} |"
                )
        return rows

    def _processor(self) -> list[str]:
        rows = [
            "| n | CPU of a node for a block, ms | "
            + " | ".join(PART_NAMES[part] for part in PARTS)
            + " | signatures verified |",
            "|--:|--:|" + "--:|" * (len(PARTS) + 1),
        ]
        for n in self.sizes:
            run = self.runs[n, self.latencies[-1]]
            parts = " | ".join(f"{run.per_node(run.cpu_us[part]) / 1000:,.2f}" for part in PARTS)
            rows.append(
                f"| {n} | {run.cpu_ms:,.2f} | {parts} | {run.per_node(run.verified):,.1f} |"
            )
        return rows

    def _upload_ms(self, n: int) -> float:
        line = self.runs[n, self.latencies[0]].line
        return (n - 1) * line.nanoseconds(self.costs.block_bytes) / 1e6

    # --- in words -------------------------------------------------------------------------------

    def _words(self) -> list[str]:
        small, large = self.sizes[-2:]
        return [
            "Where it bends:",
            "",
            *(f"- {self._bend(latency)}" for latency in self.latencies),
            f"- {self._growth(small, large)}",
            f"- {self._certificates_text(large)}",
            f"- {self._leader_text(large)}",
            f"- {self._core_text(self.sizes[0], large)}",
        ]

    def _bend(self, latency: float) -> str:
        """Between two blocks lie two delays, two syncs, and what processors and lines take."""
        busy = [n for n in self.sizes if _busy(self.runs[n, latency]) >= BUSY]
        first = self.runs[busy[0] if busy else self.sizes[-1], latency]
        interval = 1000 / first.blocks_per_s
        syncs = SYNCS * self.costs.sync / 1000
        shares = (
            f"of the {interval:.0f} ms between two blocks, {2 * latency:.0f} are two delays, "
            f"{syncs:.0f} two syncs of journals, {max(0, interval - 2 * latency - syncs):.0f} "
            "processors and lines"
        )
        if not busy:
            return (
                f"{latency:.0f} ms links: up to n = {self.sizes[-1]} each node's processor is idle "
                f"more than {1 - BUSY:.0%} of the time; {shares}."
            )
        part = max(PARTS, key=lambda name: first.cpu_us[name])
        return (
            f"{latency:.0f} ms links: from n = {busy[0]} on each node's processor is busy more "
            f"than {BUSY:.0%} of the time; {shares}. The largest part of its work is "
            f"{PART_NAMES[part]} ({first.cpu_us[part] / sum(first.cpu_us.values()):.0%})."
        )

    def _growth(self, small: int, large: int) -> str:
        one, other = (self.runs[n, self.latencies[-1]] for n in (small, large))

        def exponent(of: str) -> float:
            before, after = one.per_node(one.cpu_us[of]), other.per_node(other.cpu_us[of])
            return log(after / before) / log(large / small) if before and after else 0.0

        parts = ", ".join(f"{PART_NAMES[p]} n^{exponent(p):.1f}" for p in PARTS)
        return (
            f"From n = {small} to {large} a node's CPU for a block grows "
            f"×{other.cpu_ms / one.cpu_ms:.1f}: {parts}."
        )

    def _certificates_text(self, n: int) -> str:
        run = self.runs[n, self.latencies[0]]
        ours = _certificates(run)
        every = sum(run.sent_bytes.values())
        once = ours / n / run.blocks
        return (
            f"Every node passes every certificate on to every other: at n = {n} two certificates "
            f"of {quorum(n)} signatures, each {n * (n - 1):,} times a block, "
            f"{ours / run.blocks / 2**20:,.1f} MiB of {every / run.blocks / 2**20:,.1f}. "
            f"Sent to all by one node only they would be {once / 1024:,.0f} KiB; that they come "
            "from everybody is what lets a node that lacks votes go on when others fall silent."
        )

    def _leader_text(self, n: int) -> str:
        upload = self._upload_ms(n)
        return (
            f"The leader sends its block of {self.costs.block_bytes:,} bytes to each of the "
            f"{n - 1} others itself: {upload:.1f} ms of its line at {GIGABITS:.0f} Gbit/s "
            f"(10,000 payments: {upload * 10_000 / self.costs.payments / 1000:.1f} s). It grows "
            "with n × block; shares of a coded block, each sent on by one receiver, would not."
        )

    def _core_text(self, small: int, large: int) -> str:
        one, other = (self.runs[n, self.latencies[-1]].core_us for n in (small, large))
        worst = max(
            (kind for kind in one if kind in other and one[kind]),
            key=lambda kind: other[kind] / one[kind],
        )
        return (
            f"The core takes {other['notarize']:.1f} µs for a vote at n = {large} and "
            f"{one['notarize']:.1f} µs at n = {small}. What grows most is {worst}: "
            f"{one[worst]:.1f} to {other[worst]:.1f} µs."
        )


def _certificates(run: Run) -> int:
    return sum(size for kind, size in run.sent_bytes.items() if kind.endswith("ization"))


def _busy(run: Run) -> float:
    """Share of the time that a node's core is at work."""
    return run.cpu_ms / 1000 * run.blocks_per_s


def scaling(quick: bool) -> Scaling:
    """Measure the costs, then run every size over every link."""
    costs = measure(PAYMENTS)
    runs = {}
    for n in SIZES[:-1] if quick else SIZES:
        core_us = simulate(n, Line(10, GIGABITS), costs, CALIBRATED[n], None).core_us
        for latency in LATENCIES_MS:
            run = simulate(n, Line(latency, GIGABITS), costs, BLOCKS[n], core_us)
            run.core_us = core_us
            runs[n, latency] = run
    return Scaling(costs, runs)
