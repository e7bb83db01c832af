"""Every twins scenario of a few rounds: one identity of four is two instances, and in each round
the network is cut in two, in every way.

After Bano et al., "Twins: BFT Systems Made Robust" (OPODIS 2021): Byzantine behaviour comes from
correct code run twice under one key, and a scenario is a partition per round and who leads in it.
Leaders rotate here, so the second dimension is the twin's place in the rotation: it leads in the
first round, in the second, in the third, or not before the fourth.

A round lasts until an honest member enters the next view, so that what belongs to a view's end is
still under way when the partition changes. Swapping the two instances throughout changes nothing;
of each such pair one is played. After the last round all links carry, and the chain must go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations, permutations, product

from devnet.sim.actor import Habits
from devnet.sim.attacks import Twins
from devnet.sim.byzantine import Common, Liar, Lies
from devnet.sim.stage import SIZE, Stage
from devnet.sim.world import MILLISECOND, Violation

Division = tuple[frozenset[int], frozenset[int]]
"""Which honest members the first and which the second twin is with, by distance from the twin in
the rotation (1 … 3)."""

ROUND_MS = 1_500
"""A round without a new view ends after this much virtual time."""
HABITS = Habits(sync=(1, 3), store=(1, 3), execute=(0, 2), downtime=(10, 50), skew=200)
"""The two instances' clocks differ, and so do the blocks that they propose."""
ROUNDS = 3
"""Rounds of a schedule."""
SEED = 5
FIRST_VIEW = 2
"""The first round begins when a member enters it."""


def apart() -> list[Division]:
    """The ways to cut four members and a twin in two with a twin on either side: 8."""
    others = range(1, SIZE)
    sides = chain.from_iterable(combinations(others, size) for size in range(SIZE))
    return [(frozenset(side), frozenset(others) - frozenset(side)) for side in sides]


def together() -> list[Division]:
    """The ways with both twins on one side, everybody together included: 8."""
    return [(side, side) for side, _ in apart()]


@dataclass(frozen=True, slots=True)
class Schedule:
    """One scenario."""

    twin: int
    """The member that is two."""
    rounds: tuple[Division, ...]

    def __str__(self) -> str:
        """For a failure's text: each round's two sides."""
        rounds = " | ".join(
            f"{sorted(self.members(one))} {sorted(self.members(other))}"
            for one, other in self.rounds
        )
        return f"twin {self.twin}, rounds {rounds}"

    def members(self, distances: frozenset[int]) -> frozenset[int]:
        """Indexes of the members at these distances from the twin."""
        return frozenset((self.twin + distance) % SIZE for distance in distances)


def schedules(rounds: int, divisions: list[Division]) -> Iterator[Schedule]:
    """Every schedule of so many rounds, one of each pair that only swaps the twins' names."""
    for twin in range(SIZE):
        for chosen in product(divisions, repeat=rounds):
            swapped = tuple((other, one) for one, other in chosen)
            if _key(chosen) <= _key(swapped):
                yield Schedule(twin, chosen)


def _key(rounds: tuple[Division, ...]) -> list[list[int]]:
    return [sorted(one) for one, _ in rounds]


@dataclass(slots=True)
class Enumerated:
    """What an enumeration of schedules saw."""

    scenarios: int = 0
    equivocations: int = 0
    """Scenarios in which both of two conflicting votes, or a vote of the second twin, arrived."""
    reported: int = 0
    """Equivocations that honest members reported."""
    views: int = 0
    slowest_ms: int = 0
    """Longest virtual time from healing to everything final."""


def play(schedule: Schedule, seen: Enumerated, trace: bool = False) -> None:
    """Play one scenario. Raises Violation."""
    made: list[Twins] = []

    def liar(common: Common, lies: Lies) -> Liar:
        made.append(Twins(common, lies))
        return made[0]

    stage = Stage(SEED, HABITS, liar=(schedule.twin, liar), keep_trace=trace)
    (twins,) = made
    everybody = frozenset(node.index for node in stage.honest)
    twins.sides = (everybody, everybody)
    stage.start()
    _submit(stage, twins, 0)
    # Before anything else a member has to know that its key is not in use elsewhere.
    _until_view(stage, FIRST_VIEW)
    for number, (one, other) in enumerate(schedule.rounds, 1):
        twins.sides = (schedule.members(one), schedule.members(other))
        stage.block(_cut(everybody, {*twins.sides, everybody - twins.sides[0] - twins.sides[1]}))
        _submit(stage, twins, number)
        _until_view(stage, stage.oracle.highest_view + 1)
    twins.sides = (everybody, everybody)
    took = stage.finish()
    seen.scenarios += 1
    seen.equivocations += bool(stage.lies.reached)
    seen.reported += stage.lies.reported
    seen.views += stage.oracle.highest_view
    seen.slowest_ms = max(seen.slowest_ms, took)


def _submit(stage: Stage, twins: Twins, number: int) -> None:
    """An instruction of its own for every instance, so that no two blocks need be the same."""
    for place, node in enumerate((*stage.honest, twins, twins.second)):
        stage.world.after(0, node.submit, 10 * number + place)


def _until_view(stage: Stage, view: int) -> None:
    world, oracle = stage.world, stage.oracle
    world.run(world.now + ROUND_MS * MILLISECOND, lambda: oracle.highest_view >= view)


def _cut(members: frozenset[int], groups: set[frozenset[int]]) -> list[tuple[int, int]]:
    """The links between honest members that are not in one group."""
    return [
        (a, b)
        for a, b in permutations(sorted(members), 2)
        if not any({a, b} <= group for group in groups)
    ]


def enumerate_twins(
    rounds: int, divisions: list[Division], part: tuple[int, int] = (0, 1)
) -> Enumerated:
    """Play all schedules, or those whose number is i modulo n for `part` = (i, n).

    Raises Violation; a note names the schedule."""
    seen = Enumerated()
    for number, schedule in enumerate(schedules(rounds, divisions)):
        if number % part[1] != part[0]:
            continue
        try:
            play(schedule, seen)
        except Violation as violation:
            violation.add_note(str(schedule))
            raise
    return seen
