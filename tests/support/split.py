"""Forks that really happen: real cores, ledgers and stores, and liars who are in two places.

Each liar is two cores with one key, one on either side of a partition, whose signers know nothing
of each other: so it does to each side what a correct validator does, and to both together what
none does. Until `split` everybody hears everybody and both halves of a liar say the same.
Everything an honest node stores or journals is kept as a node keeps it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from consensus.core import Core
from consensus.interface import (
    Alarm,
    Broadcast,
    Build,
    Built,
    Commit,
    Effect,
    Event,
    Execute,
    Executed,
    Now,
    Persist,
    Received,
    ReportEquivocation,
    Send,
    Tick,
    Timing,
)
from consensus.messages import (
    VOTE_DOMAIN,
    Certificate,
    Certified,
    Content,
    Epoch,
    Equivocation,
    Kind,
    Message,
    Record,
    SyncRequest,
    ValidatorIndex,
    View,
    Vote,
    decode_message,
    encode,
    vote_payload,
)
from node.chain.genesis import Genesis
from node.chain.signature import verify
from node.engine.executor import Executor
from node.engine.mempool import Mempool
from node.engine.node import load_chain
from node.engine.sync import sync_response
from node.storage.chain_store import ChainStore
from node.storage.memory import MemoryStore
from tests.support import world

TIMING = Timing(
    delta=100,
    idle_interval=1_000,
    retry=150,
    fetch_timeout=120,
    standstill=5_000,
    skip_timeout=400,
    timer_cap=3_000,
    drift=10_000,
)
ONE, OTHER = "one", "other"
SKEW_MS = 1
"""How much later it is on the other side: there every block is another one."""
MAX_TURNS = 100_000

Drop = Callable[["Half", "Half", Message], bool]
"""drop(from, to, message): whether it is lost."""


class _Signer:
    """A vote key without a guard: the liars have two of each."""

    def __init__(self, genesis: Genesis, index: int) -> None:
        self._chain_id = genesis.chain_id
        self._key = world.vote_signer(index)

    def sign_vote(self, epoch: Epoch, view: View, kind: Kind, content: Content | None) -> bytes:
        return self._key.sign(VOTE_DOMAIN, self._chain_id, vote_payload(epoch, view, kind, content))


@dataclass
class Half:
    """A node, or one of a liar's two."""

    index: int
    side: str
    genesis: Genesis
    kv: MemoryStore = field(default_factory=MemoryStore)
    records: list[Record] = field(default_factory=list)
    """The journal."""
    evidence: list[Equivocation] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = ChainStore(self.kv)
        state, floor = load_chain(self.genesis, self.store)
        self.executor = Executor(self.genesis, state, Mempool())
        chain_id = self.genesis.chain_id
        self.core = Core(
            index=self.index,
            validators=[v.vote_key for v in self.genesis.validator_set.validators],
            epoch=Epoch(0),
            floor=floor,
            timing=TIMING,
            codec=self.executor,
            verify=lambda key, domain, payload, s: verify(key, domain, chain_id, payload, s),
            signer=_Signer(self.genesis, self.index),
            records=(),
        )

    @property
    def height(self) -> int:
        return self.store.height() or 0

    def journaled(self) -> list[Certificate]:
        """The certificates of its journal."""
        return [each.certificate for each in self.records if isinstance(each, Certified)]

    def store_commit(self, commit: Commit) -> None:
        plan = self.executor.plan([commit])
        self.store.commit(plan.blocks, plan.floor, plan.certificates)
        self.executor.committed(plan)


class Split:
    """`validators` nodes of which `liars` lie; the other honest ones are split in two."""

    def __init__(self, validators: int, liars: tuple[int, ...], other: tuple[int, ...]) -> None:
        """`other`: the honest ones on the other side."""
        self.genesis = world.genesis(validators)
        self.liars = liars
        self.now = Now(0, world.GENESIS_TIME + 1_000)
        self.drop: Drop = lambda sender, to, message: False
        self.parted = False
        self._queue: deque[tuple[Half, Event]] = deque()
        honest = [i for i in range(validators) if i not in liars]
        self.honest = [Half(i, OTHER if i in other else ONE, self.genesis) for i in honest]
        self.halves = [
            *self.honest,
            *(Half(i, side, self.genesis) for i in liars for side in (ONE, OTHER)),
        ]
        for half in self.halves:
            self._perform(half, half.core.start(self._time(half)))
        self._run()

    def side(self, side: str) -> list[Half]:
        """The honest nodes there."""
        return [half for half in self.honest if half.side == side]

    def split(self) -> None:
        """From now on the sides do not hear of each other."""
        self.parted = True

    def until_led_by(self, leaders: tuple[int, ...]) -> int:
        """Go on until a view with one of these leaders has begun, and nothing was done in it yet;
        that view."""
        for _ in range(200):
            views = {half.core.view for half in self.halves}
            final = {half.core.floor.info.view for half in self.halves}
            view = max(views)
            led = self.halves[0].core.leader(view) in leaders
            if views == {view} and final == {view - 1} and view > 3 and led:
                return view
            self.wait(TIMING.idle_interval // 4)
        raise AssertionError("no such view in so long")

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(4_000):
            if condition():
                return
            self.wait(50)
        heights = {(half.index, half.side): (half.height, half.core.view) for half in self.halves}
        raise AssertionError(f"it never happens: {heights}")

    # --- the world around the cores ---------------------------------------------------------------

    def _time(self, half: Half) -> Now:
        skew = SKEW_MS if self.parted and half.side == OTHER else 0
        return replace(self.now, wall=self.now.wall + skew)

    def _perform(self, half: Half, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Persist(record):
                    half.records.append(record)
                case Broadcast(message):
                    for other in self.halves:
                        self._deliver(half, other, message)
                case Send(to, message):
                    for other in self.halves:
                        if other.index == to:
                            self._deliver(half, other, message)
                case Execute(info, raw):
                    reason = half.executor.execute(info, raw)
                    verdict = Executed(info.digest, reason is None, reason or "")
                    self._queue.append((half, verdict))
                case Build():
                    raw, _, _ = half.executor.build(effect, ())
                    self._queue.append((half, Built(effect.view, raw)))
                case Commit():
                    half.store_commit(effect)
                case ReportEquivocation(equivocation):
                    half.evidence.append(equivocation)
                case Alarm(reason):
                    half.alarms.append(reason)
                case _:
                    pass

    def _deliver(self, sender: Half, to: Half, message: Message) -> None:
        if sender.index == to.index or (self.parted and sender.side != to.side):
            return
        if self.drop(sender, to, message):
            return
        if isinstance(message, SyncRequest):
            answer = sync_response(to.store, message.first)
            if answer is not None:
                self._deliver(to, sender, answer)
            return
        received = Received(ValidatorIndex(sender.index), decode_message(encode(message)))
        self._queue.append((to, received))

    def _run(self) -> None:
        for _ in range(MAX_TURNS):
            if not self._queue:
                return
            half, event = self._queue.popleft()
            self._perform(half, half.core.handle(event, self._time(half)))
        raise AssertionError("they never stop talking")

    def wait(self, milliseconds: int) -> None:
        """Let time pass."""
        end = self.now.monotonic + milliseconds
        self._run()
        while True:
            due = [
                (deadline, number)
                for number, half in enumerate(self.halves)
                if (deadline := half.core.next_deadline()) is not None
            ]
            if not due or min(due)[0] > end:
                break
            moment, number = min(due)
            self._set(max(moment, self.now.monotonic))
            self._queue.append((self.halves[number], Tick()))
            self._run()
        self._set(end)

    def sleep(self, milliseconds: int) -> None:
        """Much time passes by everybody's clock, and none for the timers."""
        self.now = replace(self.now, wall=self.now.wall + milliseconds)

    def _set(self, monotonic: int) -> None:
        passed = monotonic - self.now.monotonic
        self.now = Now(monotonic, self.now.wall + passed)


def is_vote(message: Message, kind: Kind, view: int | None = None) -> bool:
    """Whether it is a vote or certificate of this kind, and of this view."""
    if not isinstance(message, Vote | Certificate) or message.kind is not kind:
        return False
    return view is None or message.view == view
