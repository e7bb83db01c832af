"""Virtual time: one event heap, one random source, one trace.

Everything that happens in a run happens because an event was popped here. Events at the same
microsecond run in the order in which they were scheduled, so a seed alone decides the run, and
the trace hash (over every delivered message, event and effect) tells two runs apart.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

MILLISECOND = 1_000
"""Virtual time is counted in integer microseconds."""

MAX_EVENTS = 2_000_000
"""Events of one run. A run that needs more is caught in a loop that takes no virtual time."""


class Violation(AssertionError):
    """A named rule was broken: by the protocol core, or by the driver that performs its effects.

    `rule` is the oracle's name for it, `seed` and `position` (number of trace entries so far)
    replay it.
    """

    def __init__(self, rule: str, detail: str, *, seed: int = -1, position: int = -1) -> None:
        super().__init__(f"{rule}: {detail} (seed {seed}, trace position {position})")
        self.rule = rule
        self.detail = detail
        self.seed = seed
        self.position = position


class World:
    """Clock, heap, randomness, counters and trace of one run."""

    def __init__(self, seed: int, *, keep_trace: bool = False) -> None:
        """`keep_trace`: also keep the entries as text, in `lines`, for a person to read."""
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0
        """Virtual microseconds since the start of the run."""
        self.faults: Counter[str] = Counter()
        """Faults injected so far, by kind."""
        self.position = 0
        self.lines: list[str] | None = [] if keep_trace else None
        self._hash = hashlib.sha256()
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, time: int, action: Callable[..., None], *arguments: Any) -> None:
        """Run `action(*arguments)` at virtual microsecond `time` (now, if that has passed)."""
        self._sequence += 1
        heapq.heappush(self._heap, (max(time, self.now), self._sequence, action, arguments))

    def after(self, delay: int, action: Callable[..., None], *arguments: Any) -> None:
        """Run `action(*arguments)` in `delay` virtual microseconds."""
        self.at(self.now + delay, action, *arguments)

    def run(self, until: int, done: Callable[[], bool] | None = None) -> bool:
        """Run events up to the virtual microsecond `until`.

        `done` is asked after each event; True ends the run early and is the return value.
        """
        heap = self._heap
        while heap and heap[0][0] <= until:
            if self._sequence > MAX_EVENTS:
                raise self.violation("bounded-work", f"more than {MAX_EVENTS} events")
            time, _, action, arguments = heapq.heappop(heap)
            self.now = time
            action(*arguments)
            if done is not None and done():
                return True
        self.now = max(self.now, until)
        return False

    def record(self, node: int, what: str, data: bytes = b"", note: object = "") -> None:
        """Add one entry to the trace: at this time, at this node, this happened.

        `note` is for the readable trace only; what must tell runs apart goes into `data`.
        """
        self.position += 1
        self._hash.update(b"%d %d %b %d " % (self.now, node, what.encode(), len(data)))
        self._hash.update(data)
        if self.lines is not None:
            shown = note if note != "" else data[:8].hex()
            self.lines.append(f"{self.position:6} {self.now / 1e6:10.4f}s n{node} {what} {shown}")

    def trace_hash(self) -> str:
        """SHA-256, in hex, over the trace so far."""
        return self._hash.hexdigest()

    def violation(self, rule: str, detail: str) -> Violation:
        """A Violation that names this seed and the present trace position."""
        return Violation(rule, detail, seed=self.seed, position=self.position)

    def chance(self, probability: float) -> bool:
        """True with this probability; asks the random source only if the answer is open."""
        return probability > 0 and self.random.random() < probability
