"""One run: a seed becomes a network, its faults, its healing and a verdict.

Phases, in virtual time: faults; in half of the runs a black-out; in half of them f nodes stay dead
while all else works; healing. In the last two, everything accepted must become final within
`progress_bound`. Then quiet: an idle chain must give up no view, still finalize its empty blocks,
and finalize one instruction promptly. The seed decides everything, so it replays everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field, replace

from consensus.epochs import Epochs
from consensus.interface import Timing
from devnet.sim.actor import CoreFactory
from devnet.sim.application import GENESIS, SimCodec, instructions_of, next_set_of
from devnet.sim.attacks import make_liar
from devnet.sim.byzantine import Common, Lies
from devnet.sim.crypto import vote_keys
from devnet.sim.disk import ModelDisk, NodeDisk, StorageDisk
from devnet.sim.epochs import Switches, draw_plan
from devnet.sim.faults import Faults, draw_profile
from devnet.sim.members import keys_of
from devnet.sim.network import Network
from devnet.sim.node import HonestNode, true_wall
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
FAULT_SECONDS = {4: 45, 7: 24}
"""Virtual length of the fault phase by number of validators; a view of seven costs more."""
ATTACK_ROUNDS = 60
"""Virtual seconds, each with a new instruction, in which a liar at last has to be heard."""
ROTTEN = (3, 4, 5)
"""Seeds, modulo 6, in whose runs media fail: on both disks and both sizes."""
SLICE = 100 * MILLISECOND
"""How often, in virtual microseconds, a run looks whether a phase is over."""


def progress_bound(validators: int, dead: int, epochs: int = 0) -> int:
    """Virtual ms after healing in which what was accepted is final on all nodes but `dead` ones.

    Two standstill intervals bring every certificate above the floors to everybody. Then the view
    that all are in may still have to be given up, and the next two leaders may each lack what they
    need to propose, and every dead node has its turn: so many views, each with an idle wait, a
    timer at its cap, a retry and one fetch from every peer. A node far behind and a full mempool
    add a few seconds of full-speed traffic, counted as one more timer cap.

    Each change of the validators that is still to be gone through starts this anew, as seen by who
    is last: a standstill before anybody hears from it, a view for the carrier, and the chunk.
    """
    t = TIMING
    view = t.idle_interval + t.timer_cap + t.retry + validators * t.fetch_timeout
    switch = t.standstill + view + (1 + dead) * t.timer_cap
    return 2 * t.standstill + (3 + dead) * view + t.timer_cap + epochs * switch


PROMPT = 2 * TIMING.delta
"""Virtual ms in which an idle, healthy network finalizes one instruction everywhere. Gossip,
proposal, notarize and finalize take four calm delays, with a sync or execution at each step."""
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
    attacks: Counter[str] = field(default_factory=Counter)
    """Byzantine acts that reached an honest member's core, or were kept from one, by kind."""
    epochs: int = 0
    """How often the validators changed."""
    carried: int = 0
    """How often the block that changed them needed carriers to become final."""
    reported: int = 0
    """Equivocations reported, each by each honest member that held both halves."""


def _keyed(raw: bytes) -> list[tuple[int, bytes]]:
    members = next_set_of(raw)
    return list(zip((machine for machine, _ in members), keys_of(members), strict=True))


def validators_of(seed: int) -> int:
    """The network size of a seed where none is given: two of three runs have four validators."""
    return 7 if seed % 3 == 2 else 4


def run_seed(
    seed: int,
    validators: int | None = None,
    *,
    core: CoreFactory = Epochs,
    node: type[HonestNode] = HonestNode,
    guarded: bool = True,
    keep_trace: bool = False,
    attack: str | None = None,
) -> Result:
    """Run one seed. Raises Violation when a rule is broken.

    `core`, `node` and `guarded` (the signer guard behind it) are for the mutants. With
    `keep_trace`, a Violation carries the readable trace in its notes. With `attack`, one of
    `devnet.sim.attacks.ATTACKS`, up to f members are Byzantine and do that; rules bind the others.
    """
    run = _Run(
        seed,
        validators or validators_of(seed),
        core=core,
        node=node,
        guarded=guarded,
        keep_trace=keep_trace,
        attack=attack,
    )
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
        self,
        seed: int,
        size: int,
        *,
        core: CoreFactory,
        node: type[HonestNode],
        guarded: bool,
        keep_trace: bool,
        attack: str | None,
    ) -> None:
        self.seed, self.size = seed, size
        self.world = world = World(seed, keep_trace=keep_trace)
        profile = draw_profile(world.random, SKEW)
        if self._real_storage:
            # The node's signer record syncs all that was signed, so turns wait for the sync.
            profile = replace(profile, habits=replace(profile.habits, waits_for_sync=True))
        self.profile = profile
        self.until = FAULT_SECONDS[size] * 1_000_000 // (2 if attack else 1)
        rotten = attack is None and seed % 6 in ROTTEN
        self.plan = draw_plan(seed, size, self.until, attack, rotten)
        machines = size + self.plan.machines
        self.network = Network(world, machines, self.profile.conditions)
        keys = vote_keys(size)
        tolerated = (size - 1) // 3
        liars = world.random.sample(range(size), tolerated) if attack else []
        if attack and tolerated > 1 and world.random.random() < 0.5:
            liars.pop()  # room for a dead one
        self.spare = tolerated - len(liars)
        """How many honest members may be dead besides."""
        self.oracle = Oracle(
            world=world,
            validators=keys,
            honest=set(range(machines)) - set(liars),
            genesis=GENESIS,
            inspect=SimCodec().inspect,
            instructions=lambda raw: instructions_of([raw]),
            next_set=_keyed,
            latest=lambda: true_wall(world) + TIMING.drift + SKEW,
        )
        self.lies = Lies(world, self.oracle, liars)
        self.attack = attack
        self.members: list[HonestNode] = []
        for index in range(machines):
            common = Common(index, keys, TIMING, profile.habits, world, self.network)
            if attack and index in liars:
                self.members.append(make_liar(attack, common, self.lies))
                continue
            honest = node(
                index=index,
                validators=keys,
                timing=TIMING,
                habits=profile.habits,
                core=self.lies.witnessing(core) if liars else core,
                disk=self._disk(index),
                guarded=guarded,
                world=world,
                network=self.network,
                oracle=self.oracle,
            )
            self.members.append(honest)
        self.nodes = [member for member in self.members if member.index not in liars]
        """The honest machines."""
        for member in self.members:
            member.polls = bool(self.plan.changes)
        self.lies.members = self.members

        if rotten:
            self.profile = replace(self.profile, rot_rate=0.1)
        self.faults = Faults(world, self.network, self.members, self.profile, self.spare)
        self.switches = Switches(world, self.network, self.members, self.plan)

    @property
    def _real_storage(self) -> bool:
        """Every other seed runs on the node's own storage code, the rest on the harsher model."""
        return self.seed % 2 == 1

    def _disk(self, index: int) -> NodeDisk:
        if self._real_storage:
            return StorageDisk(index, (self.seed + (index // self.size << 40)) * self.size + index)
        return ModelDisk(index)

    def whole(self) -> Result:
        world = self.world
        for node in self.members:
            world.at(world.random.randint(0, 500 * MILLISECOND), node.start)
        self.faults.begin(self.until)
        self.switches.begin()
        world.run(self.until)
        if world.random.random() < 0.5:
            self.faults.black_out()
        healed_ms = 0
        if world.random.random() < 0.5:
            voters = [node.index for node in self.nodes if not node.retired]
            spare = self.spare - (len(self.nodes) - len(voters))
            dead = frozenset(world.random.sample(voters, spare))
            healed_ms = self._heal(dead)
        healed_ms = max(healed_ms, self._heal(frozenset()))
        if self.attack is None:
            # Views of a member that has given its key up are nullified, as those of a dead one.
            if not any(node.retired for node in self.nodes):
                self._quiet()
        else:
            self._await_attack(self.attack)
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
            attacks=self.lies.reached,
            epochs=len(self.oracle.sets) - 1,
            carried=self.oracle.carried,
            reported=self.lies.reported,
        )

    def _heal(self, dead: frozenset[int]) -> int:
        """All but `dead` nodes come up; returns the virtual ms until everything is final there."""
        world, healed_at = self.world, self.world.now
        height = len(self.oracle.chain) - 1
        self.faults.heal(dead)
        world.run(world.now + SLICE)  # every node that will is up again
        if dead:
            self.switches.more()
        alive = [node for node in self.nodes if node.index not in dead]
        before = set(self.oracle.accepted)
        # With no instruction to push it, the chain has to get going by its own timers.
        for node in alive[: world.random.choice((0, 1, self.size))]:
            self.faults.instruct(node.index)
        world.run(world.now + SLICE)  # every instruction is accepted
        # What only a dead node has accepted waits for it.
        wanted = self.oracle.accepted - before if dead else self.oracle.accepted
        retired = sum(node.retired for node in self.nodes)
        silent = len(dead) + retired + len(self.members) - len(self.nodes)
        switches = len(self.plan.changes) + 1 if self.plan.changes else 0
        bound = progress_bound(self.size, silent, switches)
        while not self._even(alive, wanted) or len(self.oracle.chain) - 1 == height:
            if world.now >= healed_at + bound * MILLISECOND:
                raise self.oracle.fail(
                    "progress-after-heal",
                    f"heights {[node.height for node in self.nodes]}, dead {sorted(dead)}, "
                    f"{len(self.oracle.missing(wanted))} instructions not final after {bound} ms",
                )
            world.run(world.now + SLICE)
        return (world.now - healed_at) // MILLISECOND

    def _await_attack(self, attack: str) -> None:
        """Some attacks need a turn to lead: go on until one has arrived, or fail the run."""
        world, rounds = self.world, 0
        while not self.lies.reached:
            if rounds == ATTACK_ROUNDS:
                raise self.oracle.fail("attack-arrives", f"no honest member saw any {attack}")
            rounds += 1
            self.faults.instruct(self.nodes[0].index)
            world.run(world.now + 1_000 * MILLISECOND)

    def _quiet(self) -> None:
        world, oracle = self.world, self.oracle
        world.run(world.now + SETTLE * MILLISECOND)
        oracle.quiet = True
        before = len(oracle.chain)
        world.run(world.now + QUIET * MILLISECOND)
        if len(oracle.chain) == before:
            raise oracle.fail("progress-after-heal", "an idle chain finalizes nothing")
        members = [node for node in self.nodes if node.index in oracle.members]
        chosen = world.random.randrange(self.size)
        self.faults.instruct(members[chosen].index)
        world.run(world.now + PROMPT * MILLISECOND)
        if len(oracle.missing(oracle.accepted)) or not self._even(members, oracle.accepted):
            heights = [node.height for node in self.nodes]
            raise oracle.fail("progress-after-heal", f"slow on an idle chain: heights {heights}")

    def _even(self, nodes: list[HonestNode], wanted: Set[int]) -> bool:
        """These nodes are up and at the same height, with everything wanted final."""
        height = nodes[0].height
        return not self.oracle.missing(wanted) and all(
            node.up and node.height == height for node in nodes
        )
