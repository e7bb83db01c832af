"""One run: a seed becomes a network, its faults, its healing and a verdict.

Phases, in virtual time: faults; healing, after which every accepted instruction must be final on
every node within `PROGRESS_BOUND`; settling; quiet, in which an idle chain must give up no view and
still finalize its empty blocks. The seed decides everything, so it replays everything.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from consensus.core import Core
from consensus.interface import Timing
from devnet.sim.actor import CoreFactory
from devnet.sim.application import GENESIS, SimCodec, instructions_of
from devnet.sim.crypto import vote_keys
from devnet.sim.disk import ModelDisk, NodeDisk, StorageDisk
from devnet.sim.faults import Faults, draw_profile
from devnet.sim.network import Network
from devnet.sim.node import HonestNode
from devnet.sim.oracle import Oracle
from devnet.sim.world import MILLISECOND, Violation, World

SKEW = 500
"""Bound, in ms, of a wall clock's distance from true time."""
TIMING = Timing(
    delta=300,
    idle_interval=2_500,
    retry=300,
    fetch_timeout=300,
    standstill=1_500,
    skip_timeout=2_000,
    timer_cap=3_000,
    drift=3_000 + 2 * SKEW,
)
"""Shorter than a real node's, so that a run sees many views; the proportions are kept."""
FAULT_SECONDS = {4: 20, 7: 12}
"""Virtual length of the fault phase by number of validators; a view of seven costs more."""
SLICE = 100 * MILLISECOND
"""How often, in virtual microseconds, a run looks whether a phase is over."""


def progress_bound(validators: int) -> int:
    """Virtual ms after healing in which everything accepted is final everywhere.

    Two standstill intervals bring every certificate above the floors to everybody. Then the view
    that all are in may still have to be given up, and the next two leaders may each lack what they
    need to propose: three timers at their cap, each with a retry and one fetch from every peer. A
    waiting leader adds the idle interval; a node far behind and a full mempool add a few seconds
    of full-speed traffic, counted as one more timer cap.
    """
    t = TIMING
    view = t.timer_cap + t.retry + validators * t.fetch_timeout
    return 2 * t.standstill + 3 * view + t.idle_interval + t.timer_cap


SETTLE = TIMING.idle_interval + TIMING.timer_cap
"""Virtual ms in which views begun before the chain was idle come to their end."""
QUIET = 2 * TIMING.idle_interval + TIMING.timer_cap
"""Virtual ms of the quiet phase: at least one idle interval passes and its block becomes final."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run did; it raised nothing, so every rule held."""

    seed: int
    validators: int
    trace_hash: str
    views: int
    """Highest view entered."""
    commits: int
    """Height of the finalized chain."""
    instructions: int
    """Instructions accepted, each executed once."""
    delivered: int
    """Packets delivered."""
    healed_ms: int
    """Virtual ms from healing until everything accepted was final everywhere."""
    faults: Counter[str] = field(default_factory=Counter)
    """Faults injected, by kind."""


def validators_of(seed: int) -> int:
    """The network size of a seed where none is given: two of three runs have four validators."""
    return 7 if seed % 3 == 2 else 4


def run_seed(
    seed: int,
    validators: int | None = None,
    *,
    core: CoreFactory = Core,
    guarded: bool = True,
    keep_trace: bool = False,
) -> Result:
    """Run one seed. Raises Violation when a rule is broken.

    `core` and `guarded` (the signer guard behind it) are for the mutants. With `keep_trace`, a
    Violation carries the readable trace in its notes.
    """
    run = _Run(seed, validators or validators_of(seed), core, guarded, keep_trace)
    try:
        return run.whole()
    except Violation as violation:
        for line in run.world.lines or ():
            violation.add_note(line)
        raise
    except Exception as error:
        # A crash of the core is a finding with a seed, not a broken tool.
        raise run.world.violation("no-exception", f"{type(error).__name__}: {error}") from error


class _Run:
    def __init__(
        self, seed: int, size: int, core: CoreFactory, guarded: bool, keep_trace: bool
    ) -> None:
        self.seed, self.size = seed, size
        self.world = world = World(seed, keep_trace=keep_trace)
        self.profile = draw_profile(world.random, SKEW)
        self.network = Network(world, size, self.profile.conditions)
        keys = vote_keys(size)
        self.oracle = Oracle(
            world=world,
            validators=keys,
            honest=range(size),
            genesis=GENESIS,
            inspect=SimCodec().inspect,
            instructions=lambda raw: instructions_of([raw]),
        )
        self.nodes = [
            HonestNode(
                index=index,
                validators=keys,
                timing=TIMING,
                habits=self.profile.habits,
                core=core,
                disk=self._disk(index),
                guarded=guarded,
                world=world,
                network=self.network,
                oracle=self.oracle,
            )
            for index in range(size)
        ]

    def _disk(self, index: int) -> NodeDisk:
        """Every other seed runs on the node's own storage code, the rest on the harsher model."""
        if self.seed % 2:
            return StorageDisk(index, self.seed * self.size + index)
        return ModelDisk(index)

    def whole(self) -> Result:
        world = self.world
        for node in self.nodes:
            world.at(world.random.randint(0, 500 * MILLISECOND), node.start)
        faults = Faults(world, self.network, self.nodes, self.profile)
        until = FAULT_SECONDS[self.size] * 1_000_000
        faults.begin(until)
        world.run(until)
        healed_ms = self._heal(faults)
        self._quiet()
        return Result(
            seed=self.seed,
            validators=self.size,
            trace_hash=world.trace_hash(),
            views=self.oracle.highest_view,
            commits=len(self.oracle.chain) - 1,
            instructions=len(self.oracle.accepted),
            delivered=self.network.delivered,
            healed_ms=healed_ms,
            faults=world.faults,
        )

    def _heal(self, faults: Faults) -> int:
        world, healed_at = self.world, self.world.now
        faults.heal()
        world.run(world.now + SLICE)  # every node is up again
        height = len(self.oracle.chain) - 1
        for index in range(self.size):
            faults.instruct(index)
        world.run(world.now + SLICE)  # every instruction is accepted
        deadline = healed_at + progress_bound(self.size) * MILLISECOND
        while not (self._even() and len(self.oracle.chain) - 1 > height):
            if world.now >= deadline:
                heights = [node.height for node in self.nodes]
                raise self.oracle.fail(
                    "progress-after-heal",
                    f"heights {heights}, {len(self.oracle.missing())} instructions not final, "
                    f"{progress_bound(self.size)} ms after healing",
                )
            world.run(world.now + SLICE)
        return (world.now - healed_at) // MILLISECOND

    def _quiet(self) -> None:
        world = self.world
        world.run(world.now + SETTLE * MILLISECOND)
        self.oracle.quiet = True
        before = len(self.oracle.chain)
        world.run(world.now + QUIET * MILLISECOND)
        if len(self.oracle.chain) == before:
            raise self.oracle.fail("progress-after-heal", "an idle chain finalizes nothing")
        deadline = world.now + TIMING.idle_interval * MILLISECOND
        while not self._even():
            if world.now >= deadline:
                heights = [node.height for node in self.nodes]
                raise self.oracle.fail("progress-after-heal", f"idle, but heights are {heights}")
            world.run(world.now + SLICE)

    def _even(self) -> bool:
        """Every node is up, at the same height, with every accepted instruction final."""
        height = self.nodes[0].height
        return (
            all(node.up and node.height == height for node in self.nodes)
            and not self.oracle.missing()
        )
