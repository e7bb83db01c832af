"""Validators in one process: real cores, ledgers, journals and signatures over twins of the
network and the disk. Time is real, since the driver is what is tested."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from consensus.epochs import Epochs
from consensus.interface import EpochStarted, Floor, SigningRefused, Timing
from consensus.messages import Content, Epoch, Equivocation, Kind, View, decode_record
from node.chain.instruction import CheckedInstruction
from node.chain.signature import verify
from node.chain.types import ValidatorSet
from node.engine.clock import WallClock
from node.engine.executor import CommitPlan, Executor
from node.engine.intake import Intake, Tip
from node.engine.mempool import Mempool, PassedOver
from node.engine.metrics import Metrics
from node.engine.node import load_chain
from node.engine.pool_store import PoolStore
from node.engine.replica import Replica
from node.engine.service import Service
from node.engine.view_log import ViewLog
from node.network.frames import Channel
from node.network.memory import MemoryNetwork
from node.storage.chain_store import ChainStore
from node.storage.errors import SignerUnusable
from node.storage.journal import Journal
from node.storage.memory import MemoryStore
from node.storage.signer import GuardedSigner
from node.storage.simulated_disk import SimulatedDisk
from tests.support.ledger_world import World

TIMING = Timing(
    delta=100, retry=100, fetch_timeout=100, standstill=400, skip_timeout=1_000, idle_interval=500
)
"""Milliseconds: short, so that faults cost a test little."""
FINAL_SECONDS = 30.0
"""Bound on every wait; passing it fails the test."""


@dataclass
class Member:
    """One validator: what survives a crash, and the parts that do not."""

    index: int
    kv: MemoryStore
    disk: SimulatedDisk
    core: Epochs = field(init=False)
    place: FixedPlace = field(init=False)
    executor: Executor = field(init=False)
    replica: Replica = field(init=False)
    intake: Intake = field(init=False)
    pool: Mempool = field(init=False)
    store: ChainStore = field(init=False)
    links: object = field(init=False)
    journal: Journal = field(init=False)
    metrics: Metrics = field(init=False)
    service: Service = field(init=False)
    plans: list[CommitPlan] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    @property
    def height(self) -> int:
        return self.executor.final_state.height


class Observer:
    """The signer of a member whose key may not sign."""

    def sign_vote(self, epoch: Epoch, view: View, kind: Kind, content: Content | None) -> bytes:
        raise SigningRefused("this member only observes")


@dataclass
class FixedPlace:
    """A place in a validator set that never changes."""

    validators: ValidatorSet
    index: int | None
    retired: str | None = None
    evidence: list[Equivocation] = field(default_factory=list)

    def next_epoch(self, floor: Floor) -> EpochStarted:
        raise AssertionError("no test of one validator set ends an epoch")

    def witnessed(self, evidence: Equivocation) -> None:
        self.evidence.append(evidence)


class Cluster:
    """`async with Cluster(world) as cluster`: all members run; `crash` and `start` one by one."""

    def __init__(self, world: World, timing: Timing = TIMING) -> None:
        self.world = world
        self.timing = timing
        self.network = MemoryNetwork([f"node{i}" for i in range(len(world.votes))])
        self.members = [
            Member(i, MemoryStore(), self.empty_disk(seed=i)) for i in range(len(world.votes))
        ]
        self._io = ThreadPoolExecutor(4)
        self._moved = asyncio.Condition()

    async def __aenter__(self) -> Cluster:
        for member in self.members:
            await self.start(member)
        return self

    async def __aexit__(self, *_: object) -> None:
        for member in self.members:
            if member.task is not None:
                await self.stop(member)
        self._io.shutdown()

    @staticmethod
    def empty_disk(seed: int) -> SimulatedDisk:
        """A disk with the home of a key that was never used."""
        disk = SimulatedDisk(seed=seed)
        disk.make_directory("home")
        disk.make_directory("home/signer")
        return disk

    def _open_signer(self, member: Member) -> tuple[GuardedSigner | None, str | None]:
        key, chain_id = self.world.votes[member.index], self.world.chain_id
        try:
            return GuardedSigner(key, chain_id, member.disk, "home/signer", create=True), None
        except SignerUnusable as error:
            return None, str(error)

    async def start(self, member: Member) -> None:
        """Start or restart a member from what its disk and database hold."""
        world, index = self.world, member.index
        member.store = ChainStore(member.kv)
        state, floor = load_chain(world.genesis, member.store)
        journal, records = Journal.open(member.disk, "home/journal", create=True)
        signer, retired = self._open_signer(member)
        pool, metrics = Mempool(), Metrics()
        member.pool, member.journal, member.metrics = pool, journal, metrics
        kept = PoolStore(member.kv, self._io)
        executor = member.executor = Executor(world.genesis, state, pool)
        place = member.place = FixedPlace(world.genesis.validator_set, index, retired)
        core = member.core = Epochs(
            index=None if signer is None else index,
            validators=[key.public_key for key in world.votes],
            epoch=Epoch(0),
            floor=floor,
            timing=self.timing,
            codec=executor,
            verify=lambda k, d, p, s: verify(k, d, world.chain_id, p, s),
            signer=signer or Observer(),
            records=[decode_record(record) for record in records],
        )

        def on_message(sender: int, channel: Channel, payload: bytes) -> None:
            if channel is Channel.MEMPOOL:
                member.intake.on_message(sender, payload)
            else:
                member.replica.on_message(sender, payload)

        def on_link(peer: int, up: bool) -> None:
            if up:
                member.intake.link_up(peer)
                member.replica.link_up(peer)

        def on_final(plan: CommitPlan) -> None:
            kept.forget(plan.forgotten)
            member.service.on_final(plan)
            member.plans.append(plan)
            asyncio.ensure_future(self._notify())  # noqa: RUF006 - only wakes waiting tests

        def on_dropped(digests: list[bytes]) -> None:
            member.intake.dropped(digests)

        def on_view(view: int, leader: int, passed: list[PassedOver]) -> None:
            member.intake.reoffer(pool.to_reoffer(view))
            member.passed_over += passed

        links = self.network.links(index, on_message, on_link)
        member.links = links
        member.replica = Replica(
            core=core,
            executor=executor,
            journal=journal,
            signer=signer,
            clock=WallClock(),
            membership=place,
            links=links,
            pool=pool,
            store=member.store,
            metrics=metrics,
            view_log=ViewLog([v.name for v in world.genesis.validator_set.validators], metrics),
            io=self._io,
            readers=self._io,
            on_final=on_final,
            on_view=on_view,
            on_dropped=on_dropped,
        )
        member.intake = Intake(
            chain_id=world.chain_id,
            pool=pool,
            kept=kept,
            links=links,
            node_key=world.nodes[index],
            may_stand=lambda c: executor.may_stand(c, int(time.time() * 1000)),
            is_hopeless=executor.is_hopeless,
            pool_changed=member.replica.pool_changed,
            view=lambda: core.view,
            tip=lambda: Tip(executor.final_state.height, executor.final_state.digest),
            clock=WallClock(),
            metrics=metrics,
        )
        member.service = Service(
            genesis=world.genesis,
            genesis_bytes=world.genesis_bytes,
            name=f"node{index}",
            membership=place,
            replica=member.replica,
            executor=executor,
            intake=member.intake,
            pool=pool,
            links=links,
            store=member.store,
            instruments=metrics,
        )
        member.intake.restore()
        await links.start()

        async def run() -> None:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(member.replica.run())
                    tasks.create_task(member.intake.run())
            finally:
                await links.stop()
                journal.close()
                if signer is not None:
                    signer.close()

        member.task = asyncio.create_task(run())

    async def stop(self, member: Member) -> None:
        """Stop a member; what its disk and database hold stays."""
        assert member.task is not None
        task, member.task = member.task, None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition on final state; woken by every commit. Fails after a bound."""
        async with self._moved:
            try:
                async with asyncio.timeout(FINAL_SECONDS):
                    await self._moved.wait_for(condition)
            except TimeoutError:
                heights = [member.height for member in self.members]
                raise AssertionError(f"not within {FINAL_SECONDS} s: {what}; {heights=}") from None

    async def observe(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition that no commit tells of: looked at once each turn of the loop."""
        async with asyncio.timeout(FINAL_SECONDS):
            while not condition():  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0)

    async def _notify(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    def pay(self, debtor: str = "BANKA", creditor: str = "BANKB") -> CheckedInstruction:
        """A signed payment, valid by the real clock."""
        now = int(time.time() * 1000)
        payment = self.world.payment(debtor, creditor, 100)
        return self.world.pay(debtor, payment, valid_until=now + 3_600_000)

    async def fund(self, *banks: str) -> None:
        """Issue money to banks and wait until all members have it final."""
        now = int(time.time() * 1000)
        issues = [
            self.world.issue("CENTRALBANK", bank, 1_000_000, valid_until=now + 3_600_000)
            for bank in banks
        ]
        await self.members[0].intake.submit([issue.raw for issue in issues])
        await self.until(
            lambda: all(
                m.executor.final_state.balance(self.world.lei(banks[-1]), "EUR", 0) is not None
                for m in self.members
                if m.task is not None
            ),
            "opening balances final",
        )
