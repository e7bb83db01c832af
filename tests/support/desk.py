"""One node without consensus: intake, pool, executor and store, and blocks made final by hand.

The clock is the test's; links only remember what was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from consensus.interface import BlockInfo, Build, Commit
from consensus.messages import (
    VOTE_DOMAIN,
    Certificate,
    Content,
    Epoch,
    Kind,
    Milliseconds,
    ValidatorIndex,
    View,
    vote_payload,
)
from node.chain.instruction import CheckedInstruction
from node.engine.clock import WallClock
from node.engine.executor import Executor
from node.engine.intake import Intake, Tip
from node.engine.mempool import Mempool
from node.engine.metrics import Metrics
from node.engine.node import load_chain
from node.engine.pool_store import PoolStore
from node.network.frames import Channel
from node.network.links import LinkStatus, Refusal
from node.storage.chain_store import ChainStore
from node.storage.config import MempoolLimits
from node.storage.kv import KeyValue
from node.storage.memory import MemoryStore
from tests.support.ledger_world import GENESIS_TIME, World

BLOCK_MS = 1_000
WAIT_SECONDS = 30.0
"""Bound on every wait; passing it fails the test."""


@dataclass
class SentLinks:
    """`PeerLinks` that remember; `waiting` bytes are said to wait in every queue besides."""

    sent: list[tuple[int, Channel, bytes]] = field(default_factory=list)
    refusals: dict[Refusal, int] = field(default_factory=dict)
    waiting: int = 0
    peers: tuple[int, ...] = (1, 2, 3)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever something is sent."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def send(self, to: int, channel: Channel, payload: bytes) -> bool:
        self.sent.append((to, channel, payload))
        self.woken.set()
        return True

    def broadcast(self, channel: Channel, payload: bytes) -> int:
        return sum(self.send(peer, channel, payload) for peer in self.peers)

    def queued(self, to: int, channel: Channel) -> int:
        sent = sum(len(p) for peer, ch, p in self.sent if (peer, ch) == (to, channel))
        return self.waiting + sent

    def links(self) -> list[LinkStatus]:
        return []


class Desk:
    """See the module. `kv` is what an earlier desk left behind."""

    def __init__(
        self, world: World, kv: KeyValue | None = None, limits: MempoolLimits | None = None
    ) -> None:
        self.world = world
        self.kv: KeyValue = MemoryStore() if kv is None else kv
        self.now = GENESIS_TIME + BLOCK_MS
        self.view = 1
        self._changed = asyncio.Event()
        self.store = ChainStore(self.kv)
        state, _ = load_chain(world.genesis, self.store)
        self.pool = Mempool(limits or MempoolLimits())
        self.executor = Executor(world.genesis, state, self.pool)
        self.io = ThreadPoolExecutor(2)
        self.kept = PoolStore(self.kv, self.io)
        self.links = SentLinks()
        self.metrics = Metrics()
        self.intake = Intake(
            chain_id=world.chain_id,
            pool=self.pool,
            kept=self.kept,
            links=self.links,
            node_key=world.nodes[0],
            may_stand=lambda parsed: self.executor.may_stand(parsed, self.now),
            is_hopeless=self.executor.is_hopeless,
            pool_changed=self._pool_changed,
            view=lambda: self.view,
            tip=lambda: Tip(self.executor.final_state.height, self.executor.final_state.digest),
            clock=WallClock(),
            metrics=self.metrics,
        )

    def _pool_changed(self) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the intake has made a condition true; woken by what it tells the core."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @property
    def floor(self) -> BlockInfo:
        floor = self.store.floor()
        assert floor is not None
        return floor.info

    def build(
        self,
        *candidates: CheckedInstruction,
        parent: BlockInfo | None = None,
        time: int | None = None,
    ) -> tuple[BlockInfo, bytes]:
        """A block on the final one, or on `parent`, executed."""
        parent = parent or self.floor
        request = Build(
            epoch=Epoch(0),
            view=View(parent.view + 1),
            parent=parent,
            timestamp=Milliseconds(time or parent.timestamp + BLOCK_MS),
            proposer=ValidatorIndex(0),
            empty=False,
        )
        raw, _, _ = self.executor.build(request, candidates)
        return self.executor.inspect(raw), raw

    def commit(self, info: BlockInfo, raw: bytes, parent_view: int) -> Commit:
        """What makes a block final."""
        content = Content(parent_view, info.digest)
        payload = vote_payload(0, info.view, Kind.FINALIZE, content)
        signatures = tuple(
            (index, key.sign(VOTE_DOMAIN, self.world.chain_id, payload))
            for index, key in enumerate(self.world.votes[:3])
        )
        certificate = Certificate(0, info.view, Kind.FINALIZE, content, signatures)
        return Commit((info,), (raw,), certificate)

    def finalize(self, *candidates: CheckedInstruction, time: int | None = None) -> BlockInfo:
        """Build a block, store it as final, and let everybody know."""
        parent_view = self.floor.view
        info, raw = self.build(*candidates, time=time)
        plan = self.executor.plan([self.commit(info, raw, parent_view)])
        self.store.commit(plan.blocks, plan.floor)
        self.executor.committed(plan)
        self.intake.dropped(self.pool.settle(plan.instructions, plan.time))
        return info

    def pay(self, **options: object) -> CheckedInstruction:
        """A payment of BANKA to BANKB."""
        payment = self.world.payment("BANKA", "BANKB", 100)
        return self.world.pay("BANKA", payment, **options)  # type: ignore[arg-type]

    def kept_digests(self) -> set[bytes]:
        return {digest for digest, _ in self.kept.load()}

    def refused(self, reason: str) -> float:
        """How often peers' messages were refused for this reason."""
        value = self.metrics.registry.get_sample_value(
            "nostro_refused_messages_total", {"reason": reason}
        )
        return value or 0.0
