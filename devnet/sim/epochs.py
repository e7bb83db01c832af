"""Changes of the validator set during a run: which, when, and who is away meanwhile.

About half of all seeds have one to four. They come from a source of their own, so that a run
without any is the same as if there were no such thing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from devnet.sim.members import Change, genesis_set
from devnet.sim.network import Network
from devnet.sim.node import HonestNode
from devnet.sim.world import MILLISECOND, World

SALT = "epochs 3189"
"""So chosen that seeds kept because they broke a rule once go on without changes, as then."""
MAX_CHANGES = 4
SHARE = 0.75
"""Of the seeds whose media do not fail."""
AWAY = (2_000, 15_000)
"""Shortest and longest virtual ms that a member is down around a change."""
NO_FINALITY = (300, 4_000)
"""Shortest and longest virtual ms in which no finalize vote arrives."""
DEAF = (1_000, 6_000)
"""Shortest and longest virtual ms in which half of the machines hear nothing."""
REMOVED_VOTER = "removed-voter"
"""The attack that needs a member that joins and leaves."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will change in a run."""

    machines: int = 0
    """Machines that are no validators at first."""
    changes: tuple[tuple[int, Change], ...] = ()
    """With the virtual microsecond at which each is asked for."""


def draw_plan(seed: int, size: int, until: int, attack: str | None, rotten: bool) -> Plan:
    """The changes of a seed; `until`: the end of its fault phase; `rotten`: its media fail.

    Where some members lie, everybody keeps its place: those who lie count on it."""
    rng = random.Random(f"{SALT} {seed}")
    forced = attack == REMOVED_VOTER
    if not forced and (rotten or rng.random() >= SHARE):
        return Plan()
    machines = 1 if attack or rng.random() < 0.6 else 2
    count = rng.randint(2 if forced else 1, MAX_CHANGES)
    times = sorted(rng.randint(until // 20, until * 19 // 20) for _ in range(count))
    members = genesis_set(size)
    changes = []
    for number, time in enumerate(times, 1):
        draw = _guarded_change if attack else _any_change
        change = draw(rng, number, size, size + machines, [machine for machine, _ in members])
        if forced and number <= 2:
            change = (
                Change(number, size, add=size) if number == 1 else Change(number, size, remove=size)
            )
        members = change.apply(members, number)
        changes.append((time, change))
    return Plan(machines, tuple(changes))


def _any_change(
    rng: random.Random, number: int, size: int, machines: int, members: Sequence[int]
) -> Change:
    outside = [machine for machine in range(machines) if machine not in members]
    what = rng.choice(("add", "remove", "swap", "rekey", "nothing"))
    return Change(
        number,
        smallest=size,
        add=rng.choice(outside) if outside and what in ("add", "swap", "remove") else None,
        remove=rng.choice(members) if what in ("remove", "swap") else None,
        rekey=rng.choice(members) if what == "rekey" else None,
        fresh=rng.random() < 0.5,
        turn=rng.choice((0, 0, 1, 2)),
    )


def _guarded_change(
    rng: random.Random, number: int, size: int, machines: int, members: Sequence[int]
) -> Change:
    last = machines - 1
    what = rng.choice(("join or leave", "rekey", "nothing", "nothing"))
    changes = what == "join or leave"
    return Change(
        number,
        smallest=size,
        add=last if changes and last not in members else None,
        remove=last if changes and last in members else None,
        rekey=rng.choice(members) if what == "rekey" else None,
        fresh=rng.random() < 0.3,
    )


class Switches:
    """Carries a plan out."""

    def __init__(
        self, world: World, network: Network, nodes: Sequence[HonestNode], plan: Plan
    ) -> None:
        self._world = world
        self._network = network
        self._nodes = nodes
        self._plan = plan
        self._rng = random.Random(f"{SALT} {world.seed} carried out")
        self.asked = 0

    def begin(self) -> None:
        """Ask for each change at its time."""
        for time, change in self._plan.changes:
            self._world.at(time, self.ask, change)

    def more(self) -> None:
        """Perhaps one more, of which nobody has been told before."""
        if self._plan.changes and self._rng.random() < 0.5:
            size = self._plan.changes[0][1].smallest
            number = len(self._plan.changes) + 1
            self.submit(Change(number, smallest=size, fresh=self._rng.random() < 0.7))

    def ask(self, change: Change) -> None:
        """Who governs hands a change in. In part of the cases a machine is down meanwhile, or
        finality fails for a while, so that the seal needs carriers."""
        rng = self._rng
        if rng.random() < 0.4:
            victim = rng.choice(self._nodes)
            if victim.up:
                self._world.faults["down at a switch"] += 1
                victim.away(rng.randint(*AWAY) * MILLISECOND)
        if rng.random() < 0.5:
            self._world.faults["no finality at a switch"] += 1
            size = self._network.size
            links = [(a, b) for a in range(size) for b in range(size) if a != b]
            lost = dict.fromkeys(links, "Vote FINALIZE")
            self._network.filters.update(lost)
            self._world.after(rng.randint(*NO_FINALITY) * MILLISECOND, self._unfilter, links)
        elif rng.random() < 0.5:
            self._world.faults["half of the votes lost at a switch"] += 1
            self._world.after(rng.randint(20, 200) * MILLISECOND, self._deafen)
        self.submit(change)

    def _deafen(self) -> None:
        """Half of the machines hear nothing any more. If they have just notarized the seal, the
        others see it notarized, these give its view up, and only a carrier can finalize it."""
        size = self._network.size
        deaf = self._rng.sample(range(size), size // 2)
        links = frozenset((a, b) for a in range(size) for b in deaf if a != b)
        self._network.blocked |= links
        self._world.after(self._rng.randint(*DEAF) * MILLISECOND, self._network.unblock, links)

    def _unfilter(self, links: Sequence[tuple[int, int]]) -> None:
        for link in links:
            if self._network.filters.get(link) == "Vote FINALIZE":
                del self._network.filters[link]

    def submit(self, change: Change) -> None:
        """One machine accepts it."""
        rng = self._rng
        up = [node for node in self._nodes if node.up]
        if up:
            self.asked += 1
            self._world.faults["change of the validators asked for"] += 1
            rng.choice(up).submit(change.instruction)
