"""Crash at every persistence point: one scenario, played again for each point and each outcome.

The scenario has what writes to disk in every way: views with instructions, a member cut off (so
that its views as leader are nullified, and it comes back through a sync chunk), rotations of the
journal, and an orderly kill and restart. A first play counts the points that one member passes.
Then for every point it is played anew, the member dies there, and its disk keeps: of the journal's
unsynced records each possible prefix, of the signer's record each, the rotated journal or the old
one, a database batch or not (`ModelDisk`, all combinations); or, on the node's own storage code,
whatever a crash inside each single disk operation of the sync or rotation leaves, with prefixes
by byte, torn and reordered sectors, lost renames (`StorageDisk`, a sample per operation).

The judge is the run's oracle to the end, progress included.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from devnet.sim.actor import Habits
from devnet.sim.disk import MAX_OPERATIONS, ModelDisk, NodeDisk, StorageDisk
from devnet.sim.node import HonestNode
from devnet.sim.points import Fate, PersistencePoints, next_plan
from devnet.sim.stage import SIZE, Stage
from devnet.sim.world import Violation

MAX_FATES = 64
"""Outcomes of one crash that are tried, at most; far above what the scenario has on ModelDisk."""
INSIDE = ("during sync", "during rotation", "during recovery")
"""Points at which the storage code is in the middle of its disk operations."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens, in virtual ms; the seed decides delays only."""

    name: str
    seed: int
    habits: Habits
    away: int
    """The member that is cut off for a while."""
    real_storage: bool = False
    sampled: int = 1
    """Outcomes drawn per disk operation (or per point outside of any), on real storage."""

    def disk(self, index: int) -> NodeDisk:
        return (
            StorageDisk(index, self.seed * SIZE + index) if self.real_storage else ModelDisk(index)
        )


HABITS = Habits(sync=(2, 6), store=(2, 9), execute=(0, 4), downtime=(10, 60), rotate_every=2)
SCENARIOS = (
    Scenario("one sync a turn", 1, HABITS, away=2),
    Scenario(
        "turns overlap with syncs",
        2,
        Habits(
            sync=(2, 12),
            store=(2, 30),
            execute=(0, 4),
            downtime=(10, 60),
            rotate_every=1,
            waits_for_sync=False,
            certificates_wait=True,
        ),
        away=3,
    ),
    Scenario("real storage", 3, HABITS, away=1, real_storage=True),
)


@dataclass(slots=True)
class Played:
    """One play of a scenario."""

    points: PersistencePoints
    views: int
    nullified: int
    """Views that the watched member left through a nullification."""
    synced: int
    """Sync chunks that the watched member received."""
    rotations: int


@dataclass(slots=True)
class Campaign:
    """What an enumeration did."""

    scenario: Scenario
    victim: int
    points: int
    """Persistence points that the member passes, of which `part` were tried."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Points tried, by name."""
    runs: int = 0


def play(scenario: Scenario, victim: int, points: PersistencePoints, trace: bool = False) -> Played:
    """Play the scenario with `points` at member `victim`. Raises Violation."""
    stage = Stage(scenario.seed, scenario.habits, disk=scenario.disk, keep_trace=trace)
    members, away = stage.members, scenario.away
    members[victim].points = points
    stage.start()
    for number in range(6):
        stage.at(60 + 70 * number, members[number % SIZE].submit, number)
    stage.at(300, stage.isolate, away)
    for number in range(6, 10):
        stage.at(350 + 250 * (number - 6), members[(away + 1) % SIZE].submit, number)
    stage.at(1_500, stage.block, ())
    stage.at(1_600, _kill, members[victim])
    for number in range(10, 13):
        stage.at(1_650 + 80 * (number - 10), members[(victim + 1) % SIZE].submit, number)
    stage.run(1_900)
    stage.finish()
    lines = [line for line in stage.world.lines or () if f" n{victim} " in line]
    return Played(
        points,
        stage.oracle.highest_view,
        sum(" enter " in line and "NULLIFY" in line for line in lines),
        sum(" receive SyncResponse" in line for line in lines),
        sum(" rotate " in line for line in lines),
    )


def _kill(node: HonestNode) -> None:
    if node.up:
        node.crash("crash by plan")


def crash_everywhere(scenario: Scenario, victim: int, part: tuple[int, int] = (0, 1)) -> Campaign:
    """Crash member `victim` at every persistence point, with every outcome.

    `part` = (i, n): only points whose number is i modulo n, to share the work. Raises Violation;
    its text names scenario, member, point and plan."""
    counted = play(scenario, victim, PersistencePoints()).points
    campaign = Campaign(scenario, victim, counted.count)
    for point in range(part[0], counted.count, part[1]):
        campaign.kinds[counted.names[point]] += 1
        for fate in _fates(scenario, point, counted.names[point]):
            points = PersistencePoints(point, fate)
            try:
                play(scenario, victim, points)
            except Violation as violation:
                violation.add_note(
                    f"scenario {scenario.name!r}, member {victim} dies at point {point} "
                    f"({points.struck}), outcome {fate.taken}"
                )
                raise
            assert points.struck is not None, "the same scenario passes the same points"
            campaign.runs += 1
    return campaign


def _fates(scenario: Scenario, point: int, name: str) -> Iterator[Fate]:
    """One after the other, each to be played before the next is asked for."""
    if scenario.real_storage:
        operations = range(MAX_OPERATIONS + 1) if name in INSIDE else range(1)
        for operation in operations:
            for sample in range(scenario.sampled):
                yield Fate([operation], random.Random(f"{point} {operation} {sample}"))
        return
    plan: list[int] | None = []
    for _ in range(MAX_FATES):
        if plan is None:
            return
        fate = Fate(plan)
        yield fate
        plan = next_plan(fate)
    raise AssertionError(f"more than {MAX_FATES} outcomes of one crash")
