"""What goes wrong in a run: drawn from the seed once, then carried out on time.

A profile fixes how links, disks and clocks behave during the fault phase. On top come events:
partitions (two-sided, one-sided, one node alone), filters that lose one kind of message, crashes
of one node or of all at once, clock steps. Points between durable steps crash by themselves with
the profile's hazard (see `node.Habits`).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from devnet.sim.actor import Habits
from devnet.sim.network import Conditions, Network
from devnet.sim.node import HonestNode
from devnet.sim.world import MILLISECOND, World

CALM = Conditions(delay_min=5, delay_max=40)
"""Links once healed: a message and its answer take well under Δ."""

FILTERABLE = (
    "Vote NOTARIZE",
    "Vote NULLIFY",
    "Vote FINALIZE",
    "Certificate NOTARIZE",
    "Certificate NULLIFY",
    "Certificate FINALIZE",
    "Proposal",
    "BlockResponse",
    "SyncResponse",
)
"""Labels of messages that a filter may lose (see `network.label`)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How a run's fault phase behaves; rates are events per virtual second over all nodes."""

    conditions: Conditions
    habits: Habits
    crash_rate: float
    partition_rate: float
    flicker_rate: float
    """Short losses of everything towards one node: enough to miss one certificate of several."""
    filter_rate: float
    instruction_rate: float
    rot_rate: float
    """Media that damage what they hold, while their node is down; at most f nodes."""
    idle_share: float
    """Share of the fault phase, in its middle, without new instructions."""


def draw_profile(rng: random.Random, skew: int) -> Profile:
    """A profile of its own for each seed; `skew` bounds the wall clocks, in ms."""
    slow_disk = rng.random() < 0.2
    conditions = Conditions(
        delay_min=rng.choice((2, 10, 30)),
        delay_max=rng.choice((40, 80, 150)),
        loss=rng.choice((0.0, 0.02, 0.1, 0.3)),
        duplicate=rng.choice((0.0, 0.02, 0.1)),
        tail=rng.choice((0.0, 0.01, 0.05)),
        ordered=rng.random() < 0.25,
    )
    habits = Habits(
        sync=(1, 60) if slow_disk else (1, 8),
        store=(1, 120) if slow_disk else (1, 12),
        execute=(0, rng.choice((2, 20, 100))),
        hazard=rng.choice((0.0, 0.002, 0.006, 0.015)),
        downtime=(10, rng.choice((500, 3_000, 15_000))),
        skew=rng.choice((0, skew // 4, skew)),
        rate_ppm=rng.choice((0, 100, 10_000)),
        waits_for_sync=rng.random() < 0.5,
        certificates_wait=rng.random() < 0.5,
        commit_blocks_sends=rng.random() < 0.3,
        rotate_every=rng.choice((1, 3, 8)),
    )
    return Profile(
        conditions,
        habits,
        crash_rate=rng.choice((0.0, 0.15, 0.5)),
        partition_rate=rng.choice((0.0, 0.1, 0.3)),
        flicker_rate=rng.choice((0.0, 0.0, 0.5, 2.0)),
        filter_rate=rng.choice((0.0, 0.0, 0.3)),
        instruction_rate=rng.choice((0.3, 1.0, 5.0)),
        rot_rate=0.0,
        idle_share=rng.choice((0.0, 0.3, 0.7)),
    )


class Faults:
    """Carries a profile out on a set of honest nodes until `heal`."""

    def __init__(
        self,
        world: World,
        network: Network,
        nodes: Sequence[HonestNode],
        profile: Profile,
        damageable: int,
    ) -> None:
        """`damageable`: nodes, at most, whose media may fail."""
        self._world = world
        self._network = network
        self._nodes = nodes
        self._profile = profile
        self._instructions = 0
        self._damageable = damageable

    def begin(self, until: int) -> None:
        """Schedule everything that goes wrong before the virtual microsecond `until`."""
        rng, world, profile = self._world.random, self._world, self._profile
        for time in _arrivals(rng, profile.crash_rate, until):
            world.at(time, self._crash)
        for time in _arrivals(rng, profile.partition_rate, until):
            world.at(time, self._partition)
        for time in _arrivals(rng, profile.flicker_rate, until):
            world.at(time, self._flicker)
        for time in _arrivals(rng, profile.filter_rate, until):
            world.at(time, self._filter)
        for time in _arrivals(rng, profile.rot_rate, until):
            world.at(time, self._rot)
        if profile.habits.skew:
            for time in _arrivals(rng, 0.1, until):
                world.at(time, rng.choice(self._nodes).step_clock)
        idle_from = until * (1 - profile.idle_share) // 2
        for time in _arrivals(rng, profile.instruction_rate, until):
            if not idle_from <= time <= until - idle_from:
                world.at(time, self.instruct, rng.randrange(len(self._nodes)))

    def instruct(self, index: int) -> None:
        """A client hands the next instruction to a node."""
        self._instructions += 1
        self._nodes[index].submit(self._instructions)

    def _crash(self) -> None:
        rng = self._world.random
        if rng.random() < 0.15:
            self._world.faults["all nodes killed at once"] += 1
            victims = list(self._nodes)
        else:
            victims = [rng.choice(self._nodes)]
        for node in victims:
            if node.up:
                node.crash("crash at a random time")

    def _rot(self) -> None:
        """A node dies, and its medium with it. Its start refuses, by name; then its operator does
        what docs/how-to/recover.md says: a database is replaced by another node's, of whatever
        height; a key whose journal or record is damaged is given up."""
        rng, world = self._world.random, self._world
        if not self._damageable:
            return
        node = rng.choice(self._nodes)
        if node.up:
            node.crash("crash of a medium")
        journal = rng.random() < 0.5
        refused = node.rot(rng, journal)
        if refused is None:
            return
        self._damageable -= 1
        world.record(node.index, "refused", type(refused).__name__.encode(), refused)
        world.faults[f"damage refused: {type(refused).__name__}"] += 1
        if journal:
            node.retire()
        if not journal or rng.random() < 0.5:
            donor = rng.choice([other for other in self._nodes if other is not node])
            height = donor.height if rng.random() < 0.5 else rng.randint(0, donor.height)
            older = height < node.height
            world.faults["older database restored" if older else "database restored"] += 1
            node.restore(donor.database.copy(height))

    def _partition(self) -> None:
        rng, size = self._world.random, len(self._nodes)
        members = rng.sample(range(size), rng.randint(1, size // 2))
        shape = rng.choice(("two-sided", "two-sided", "inbound", "outbound"))
        blocked = set()
        for inside in members:
            for outside in range(size):
                if outside in members:
                    continue
                if shape != "inbound":
                    blocked.add((inside, outside))
                if shape != "outbound":
                    blocked.add((outside, inside))
        self._world.faults[f"partition {shape}"] += 1
        self._network.blocked |= blocked
        self._block(blocked, rng.randint(200, rng.choice((1_000, 6_000, 15_000))))

    def _flicker(self) -> None:
        rng, size = self._world.random, len(self._nodes)
        target = rng.randrange(size)
        self._world.faults["flicker"] += 1
        links = {(source, target) for source in range(size) if source != target}
        self._block(links, rng.randint(30, 400))

    def _block(self, links: set[tuple[int, int]], milliseconds: int) -> None:
        self._network.blocked |= links
        self._world.after(milliseconds * MILLISECOND, self._network.unblock, frozenset(links))

    def _filter(self) -> None:
        rng, size = self._world.random, len(self._nodes)
        lost = rng.choice(FILTERABLE)
        targets = rng.sample(range(size), rng.randint(1, size))
        links = [
            (source, target)
            for source in range(size)
            for target in targets
            if source != target and rng.random() < 0.9
        ]
        self._world.faults[f"filter {lost}"] += 1
        for link in links:
            self._network.filters[link] = lost
        duration = rng.randint(200, rng.choice((3_000, 8_000))) * MILLISECOND
        self._world.after(duration, self._unfilter, links, lost)

    def _unfilter(self, links: list[tuple[int, int]], lost: str) -> None:
        for link in links:
            if self._network.filters.get(link) == lost:
                del self._network.filters[link]

    def black_out(self) -> None:
        """The worst moment for an outage: blocks get notarized but not final, then nobody hears
        anybody, gives the view up, and is killed; all start again before the links are back."""
        rng, world, network = self._world.random, self._world, self._network
        world.faults["black-out"] += 1
        links = {(a, b) for a in range(network.size) for b in range(network.size) if a != b}
        network.heal(CALM)
        network.filters.update(dict.fromkeys(sorted(links), "Vote FINALIZE"))
        world.run(world.now + rng.randint(500, 2_000) * MILLISECOND)
        network.blocked |= links
        world.run(world.now + rng.randint(500, 3_000) * MILLISECOND)
        for node in self._nodes:
            if node.up:
                node.crash("crash in a black-out")
        for node in self._nodes:
            node.heal()
        world.run(world.now + 500 * MILLISECOND)

    def heal(self, dead: Collection[int]) -> None:
        """Links are calm, disks quick, and every node is up and stays up, but for `dead` ones."""
        self._network.heal(CALM)
        for node in self._nodes:
            if node.index in dead:
                node.stay_down()
            else:
                node.heal()


def _arrivals(rng: random.Random, rate: float, until: int) -> list[int]:
    """Times, in virtual microseconds below `until`, of a Poisson process with `rate` a second."""
    times: list[int] = []
    time = 0
    while rate > 0:
        time += int(rng.expovariate(rate) * 1_000_000)
        if time >= until:
            break
        times.append(time)
    return times
