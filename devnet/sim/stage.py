"""A fixed scene: four honest members, or three and a Byzantine one, on links and disks that
behave, so that what goes wrong is only what a scenario makes go wrong.

The counterpart of `run`, where a seed decides everything. Here the seed decides no more than
delays within their bounds and the clocks' starts, and the scenario is played again and again with
one thing changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from consensus.epochs import Epochs
from devnet.sim.actor import CoreFactory, Habits
from devnet.sim.application import GENESIS, SimCodec, instructions_of
from devnet.sim.byzantine import Common, Liar, Lies
from devnet.sim.crypto import vote_keys
from devnet.sim.disk import ModelDisk, NodeDisk
from devnet.sim.network import Conditions, Network
from devnet.sim.node import HonestNode
from devnet.sim.oracle import Oracle
from devnet.sim.run import SLICE, TIMING, progress_bound
from devnet.sim.world import MILLISECOND, World

SIZE = 4
"""Members."""
CALM = Conditions(delay_min=5, delay_max=40)

MakeLiar = Callable[[Common, Lies], Liar]


class Stage:
    """World, links, judge and members, not yet started."""

    def __init__(
        self,
        seed: int,
        habits: Habits,
        *,
        core: CoreFactory = Epochs,
        disk: Callable[[int], NodeDisk] = ModelDisk,
        liar: tuple[int, MakeLiar] | None = None,
        keep_trace: bool = False,
    ) -> None:
        """`liar`: which member is Byzantine, and of what kind."""
        self.world = world = World(seed, keep_trace=keep_trace)
        self.network = Network(world, SIZE, CALM)
        keys = vote_keys(SIZE)
        liars = [] if liar is None else [liar[0]]
        self.oracle = Oracle(
            world=world,
            validators=keys,
            honest=set(range(SIZE)) - set(liars),
            genesis=GENESIS,
            inspect=SimCodec().inspect,
            instructions=lambda raw: instructions_of([raw]),
        )
        self.lies = Lies(world, self.oracle, liars)
        self.members: list[HonestNode] = []
        for index in range(SIZE):
            if liar is not None and index == liar[0]:
                common = Common(index, keys, TIMING, habits, world, self.network)
                self.members.append(liar[1](common, self.lies))
                continue
            node = HonestNode(
                index=index,
                validators=keys,
                timing=TIMING,
                habits=habits,
                core=self.lies.witnessing(core) if liars else core,
                disk=disk(index),
                guarded=True,
                world=world,
                network=self.network,
                oracle=self.oracle,
            )
            self.members.append(node)
        self.lies.members = self.members
        self.honest = [node for node in self.members if node.index not in liars]

    def start(self) -> None:
        """Start all members at once."""
        for node in self.members:
            self.world.after(0, node.start)

    def at(self, milliseconds: int, action: Callable[..., None], *arguments: object) -> None:
        """Do something at a virtual time since the start."""
        self.world.at(milliseconds * MILLISECOND, action, *arguments)

    def run(self, milliseconds: int) -> None:
        """Go on up to a virtual time since the start."""
        self.world.run(milliseconds * MILLISECOND)

    def block(self, links: Iterable[tuple[int, int]]) -> None:
        """Exactly these (from, to) links are cut from now on; the others carry."""
        wanted = set(links)
        freed = self.network.blocked - wanted
        self.network.blocked |= wanted
        self.network.unblock(frozenset(freed))

    def isolate(self, member: int) -> None:
        """One member hears nobody, and nobody hears it."""
        others = [index for index in range(SIZE) if index != member]
        self.block([(member, o) for o in others] + [(o, member) for o in others])

    def finish(self) -> int:
        """All links carry and all members run: everything accepted must become final, and one new
        block, on every honest member within the bound. Returns the virtual ms it took."""
        world, oracle = self.world, self.oracle
        began, height = world.now, len(oracle.chain) - 1
        self.network.heal(CALM)
        for node in self.members:
            node.heal()
        bound = progress_bound(SIZE, SIZE - len(self.honest))
        while not self._even(oracle.accepted) or len(oracle.chain) - 1 == height:
            if world.now >= began + bound * MILLISECOND:
                raise oracle.fail(
                    "progress-after-heal",
                    f"heights {[node.height for node in self.honest]}, "
                    f"{len(oracle.missing(oracle.accepted))} instructions not final "
                    f"after {bound} ms",
                )
            world.run(world.now + SLICE)
        return (world.now - began) // MILLISECOND

    def _even(self, wanted: Set[int]) -> bool:
        height = self.honest[0].height
        return not self.oracle.missing(wanted) and all(
            node.up and node.height == height for node in self.honest
        )
