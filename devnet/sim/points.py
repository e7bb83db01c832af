"""Persistence points, counted: every place at which a crash finds another disk than before it.

A node tells `PersistencePoints` each one that it passes, and dies at the one asked for. What its
disk keeps is then not drawn but chosen: `Fate` answers each question of the crash (how long a
prefix, which names, torn or not) with the next entry of a plan, and notes how many answers there
were. `next_plan` turns that into the following combination, so that all of them have their turn.
"""

from __future__ import annotations

import random
from collections.abc import MutableSequence, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

MAX_ANSWERS = 5
"""Answers tried to one question with more: the ends, their neighbours and the middle."""
GARBAGE = 0xA5
"""What a torn sector holds."""


class Fate(random.Random):
    """A random source whose draws are choices from a plan.

    Beyond the plan the first answer is taken, or with `rest` any, drawn from that."""

    def __init__(self, plan: Sequence[int] = (), rest: random.Random | None = None) -> None:
        super().__init__(0)
        self._plan = plan
        self._rest = rest
        self.taken: list[int] = []
        self.answers: list[int] = []
        """How many there were to each question asked."""

    def _pick(self, answers: int) -> int:
        position = len(self.taken)
        if position < len(self._plan):
            taken = min(self._plan[position], answers - 1)
        else:
            taken = 0 if self._rest is None else self._rest.randrange(answers)
        self.taken.append(taken)
        self.answers.append(answers)
        return taken

    def random(self) -> float:
        """Yes or no, whatever the probability."""
        return (0.999, 0.0)[self._pick(2)]

    def randint(self, a: int, b: int) -> int:
        if b - a < MAX_ANSWERS:
            return a + self._pick(b - a + 1)
        return (a, b, a + 1, b - 1, (a + b) // 2)[self._pick(MAX_ANSWERS)]

    def choice(self, seq: Any) -> Any:
        return seq[self.randint(0, len(seq) - 1)]

    def randbytes(self, n: int) -> bytes:
        return bytes([GARBAGE]) * n

    def shuffle(self, x: MutableSequence[Any]) -> None:
        """Only turned round: the one order that is unlike the first everywhere."""
        if self._pick(2):
            x.reverse()


def next_plan(fate: Fate) -> list[int] | None:
    """The combination after the one that `fate` has taken; None if that was the last."""
    plan = list(fate.taken)
    while plan:
        if plan[-1] + 1 < fate.answers[len(plan) - 1]:
            plan[-1] += 1
            return plan
        plan.pop()
    return None


class PersistencePoints:
    """The persistence points that one node passes, and the one at which it dies."""

    def __init__(self, strike: int | None = None, fate: Fate | None = None) -> None:
        """`strike`: the number of the point, from 0; None only counts."""
        self._strike = strike
        self.fate = fate or Fate()
        self.names: list[str] = []
        """Of the points passed so far, in order."""
        self.struck: str | None = None
        """The name of the point at which the node died."""

    def passed(self, name: str) -> bool:
        """The node is at a point of this name; whether it dies there."""
        self.names.append(name)
        if len(self.names) - 1 != self._strike:
            return False
        self.struck = name
        return True

    @property
    def count(self) -> int:
        """Points passed so far."""
        return len(self.names)
