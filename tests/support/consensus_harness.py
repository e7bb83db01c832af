"""Driving consensus cores directly: real Ed25519 votes, a tiny block format, a loopback network.

`Chain` makes keys, blocks, votes and certificates of any validator. `Solo` drives one core and
lets the test play everyone else. `Loopback` runs a whole validator set, messages in order.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from consensus.core import Core
from consensus.interface import (
    Alarm,
    BlockInfo,
    BodyMismatch,
    Broadcast,
    Build,
    Built,
    Commit,
    Effect,
    Event,
    Execute,
    Executed,
    Floor,
    Now,
    Persist,
    Received,
    Send,
    SigningRefused,
    Tick,
    Timing,
    starting_floor,
)
from consensus.messages import (
    VOTE_DOMAIN,
    Certificate,
    Content,
    Digest,
    Epoch,
    Height,
    Kind,
    Message,
    Milliseconds,
    OwnVotesRequest,
    OwnVotesResponse,
    Proposal,
    Record,
    ValidatorIndex,
    View,
    Vote,
    decode_message,
    encode,
    quorum,
    vote_payload,
)

START = 1_000_000
"""Wall clock of the genesis block, ms."""
TIMING = Timing(
    delta=100,
    idle_interval=2_000,
    retry=150,
    fetch_timeout=120,
    standstill=5_000,
    skip_timeout=400,
    timer_cap=3_000,
    drift=10_000,
)

E = TypeVar("E")


def timing(**fields: int) -> Timing:
    """The tests' timing with some durations changed."""
    return replace(TIMING, **fields)


class TinyBlock(msgspec.Struct, frozen=True, array_like=True):
    """A block with a header in the clear, a payload, and the payload's digest in the header."""

    parent: bytes
    epoch: int
    view: int
    height: int
    timestamp: int
    proposer: int
    payload_digest: bytes
    payload: bytes
    seals: bool = False


def _digest(block: TinyBlock) -> Digest:
    header = encode(replace_payload(block, b""))
    return Digest(hashlib.sha256(header).digest())


def replace_payload(block: TinyBlock, payload: bytes) -> TinyBlock:
    """The same header with another body."""
    return msgspec.structs.replace(block, payload=payload)


class TinyCodec:
    """BlockCodec of TinyBlock."""

    def __init__(self) -> None:
        self.inspected = 0

    def inspect(self, block: bytes) -> BlockInfo:
        self.inspected += 1
        try:
            tiny = msgspec.msgpack.decode(block, type=TinyBlock)
        except msgspec.DecodeError as error:
            raise BodyMismatch(str(error)) from error
        if hashlib.sha256(tiny.payload).digest() != tiny.payload_digest:
            raise BodyMismatch("payload")
        return BlockInfo(
            digest=_digest(tiny),
            parent=Digest(tiny.parent),
            epoch=Epoch(tiny.epoch),
            view=View(tiny.view),
            height=Height(tiny.height),
            timestamp=Milliseconds(tiny.timestamp),
            proposer=ValidatorIndex(tiny.proposer),
            seals=tiny.seals,
        )


CODEC = TinyCodec()


@dataclass
class Block:
    """A block made by a test."""

    info: BlockInfo
    raw: bytes
    parent_view: int

    @property
    def content(self) -> Content:
        return Content(self.parent_view, self.info.digest)


class MemorySigner:
    """A signer with a record of its own, as the real one has."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.signed: dict[tuple[int, int, Kind], Content | None] = {}
        self.refuse: set[tuple[int, Kind]] = set()

    def sign_vote(self, epoch: Epoch, view: View, kind: Kind, content: Content | None) -> bytes:
        if (view, kind) in self.refuse:
            raise SigningRefused("told to")
        if self.signed.setdefault((epoch, view, kind), content) != content:
            raise SigningRefused("conflicts with an earlier vote")
        return sign(self._secret, vote_payload(epoch, view, kind, content))


def sign(secret: bytes, payload: bytes) -> bytes:
    """A vote's signature; the chain binding is the domain alone."""
    return crypto_sign(VOTE_DOMAIN.encode() + payload, secret)[:64]


class Verifier:
    """The verify function, counting what it really verifies."""

    def __init__(self) -> None:
        self.count = 0
        self._memo: dict[tuple[bytes, bytes, bytes], bool] = {}

    def __call__(self, key: bytes, domain: str, payload: bytes, signature: bytes) -> bool:
        self.count += 1
        asked = (key, payload, signature)
        if asked not in self._memo:
            try:
                crypto_sign_open(signature + domain.encode() + payload, key)
                self._memo[asked] = True
            except BadSignatureError:
                self._memo[asked] = False
        return self._memo[asked]


class Chain:
    """A validator set and everything its members can say."""

    def __init__(self, validators: int = 4, epoch: int = 0, first_key: int = 0) -> None:
        """`first_key`: sets that share no key number share no key."""
        self.n = validators
        self.q = quorum(validators)
        self.epoch = Epoch(epoch)
        seeds = range(first_key + 1, first_key + validators + 1)
        pairs = [crypto_sign_seed_keypair(bytes([seed]) * 32) for seed in seeds]
        self.keys = [public for public, _ in pairs]
        self.secrets = [secret for _, secret in pairs]
        info = BlockInfo(
            digest=Digest(hashlib.sha256(b"genesis").digest()),
            parent=Digest(bytes(32)),
            epoch=self.epoch,
            view=View(0),
            height=Height(0),
            timestamp=Milliseconds(START),
            proposer=ValidatorIndex(0),
        )
        self.genesis = Block(info, b"", 0)
        self.floor = Floor(info, None)

    def after(self, seal: Block, validators: int | None = None) -> Chain:
        """The chain of the epoch that this block begins, with vote keys of its own."""
        chain = Chain(validators or self.n, self.epoch + 1, first_key=16 * (self.epoch + 1))
        chain.floor = starting_floor(seal.info)
        chain.genesis = Block(chain.floor.info, seal.raw, 0)
        return chain

    def leader(self, view: int) -> int:
        return (self.epoch + view) % self.n

    def block(
        self,
        view: int,
        parent: Block | None = None,
        payload: bytes = b"",
        *,
        height: int | None = None,
        timestamp: int | None = None,
        proposer: int | None = None,
        parent_view: int | None = None,
        header_view: int | None = None,
    ) -> Block:
        """A well-formed block, with any header field changed on request."""
        parent = parent or self.genesis
        tiny = TinyBlock(
            parent=parent.info.digest,
            epoch=self.epoch,
            view=view if header_view is None else header_view,
            height=parent.info.height + 1 if height is None else height,
            timestamp=parent.info.timestamp + 1 if timestamp is None else timestamp,
            proposer=self.leader(view) if proposer is None else proposer,
            payload_digest=hashlib.sha256(payload).digest(),
            payload=payload,
        )
        raw = encode(tiny)
        named = parent.info.view if parent_view is None else parent_view
        return Block(CODEC.inspect(raw), raw, named)

    def seal(self, view: int, parent: Block, payload: bytes = b"") -> Block:
        """A block that ends the epoch."""
        return _sealing(self.block(view, parent, payload))

    def carrier(
        self,
        view: int,
        parent: Block,
        *,
        height: int | None = None,
        timestamp: int | None = None,
        proposer: int | None = None,
    ) -> Block:
        """A child of a sealing block or of a carrier: by default at its height, with its time."""
        block = self.block(
            view,
            parent,
            height=parent.info.height if height is None else height,
            timestamp=parent.info.timestamp if timestamp is None else timestamp,
            proposer=proposer,
        )
        return _sealing(block)

    def chain(self, count: int, parent: Block | None = None) -> list[Block]:
        """Blocks of consecutive views, each on the one before."""
        blocks: list[Block] = []
        for _ in range(count):
            last = blocks[-1] if blocks else parent or self.genesis
            blocks.append(self.block(last.info.view + 1, last))
        return blocks

    def vote(self, voter: int, view: int, kind: Kind, content: Content | None = None) -> Vote:
        payload = vote_payload(self.epoch, view, kind, content)
        return Vote(self.epoch, view, kind, content, voter, sign(self.secrets[voter], payload))

    def proposal(self, block: Block) -> Proposal:
        view = block.info.view
        return Proposal(self.vote(self.leader(view), view, Kind.NOTARIZE, block.content), block.raw)

    def certificate(
        self,
        view: int,
        kind: Kind,
        content: Content | None = None,
        voters: Sequence[int] | None = None,
    ) -> Certificate:
        """By default signed by the last q validators, so not by validator 0 (of four)."""
        voters = range(self.n - self.q, self.n) if voters is None else voters
        votes = [self.vote(voter, view, kind, content) for voter in voters]
        signatures = tuple((vote.voter, vote.signature) for vote in votes)
        return Certificate(self.epoch, view, kind, content, signatures)

    def notarization(self, block: Block, voters: Sequence[int] | None = None) -> Certificate:
        return self.certificate(block.info.view, Kind.NOTARIZE, block.content, voters)

    def finalization(self, block: Block, voters: Sequence[int] | None = None) -> Certificate:
        return self.certificate(block.info.view, Kind.FINALIZE, block.content, voters)

    def nullification(self, view: int, voters: Sequence[int] | None = None) -> Certificate:
        return self.certificate(view, Kind.NULLIFY, None, voters)

    def build(self, build: Build, payload: bytes = b"") -> Block:
        """What the application answers to a `Build`."""
        tiny = TinyBlock(
            parent=build.parent.digest,
            epoch=build.epoch,
            view=build.view,
            height=build.parent.height + (0 if build.parent.seals else 1),
            timestamp=build.timestamp,
            proposer=build.proposer,
            payload_digest=hashlib.sha256(payload).digest(),
            payload=payload,
            seals=build.parent.seals,
        )
        raw = encode(tiny)
        return Block(CODEC.inspect(raw), raw, build.parent.view)


def _sealing(block: Block) -> Block:
    tiny = msgspec.msgpack.decode(block.raw, type=TinyBlock)
    raw = encode(msgspec.structs.replace(tiny, seals=True))
    return Block(CODEC.inspect(raw), raw, block.parent_view)


def only(effects: Iterable[object], kind: type[E]) -> list[E]:
    """The effects of one type, in order."""
    return [effect for effect in effects if isinstance(effect, kind)]


def said(effects: Iterable[object], kind: type[E]) -> list[E]:
    """The broadcast messages of one type, in order."""
    return [b.message for b in only(effects, Broadcast) if isinstance(b.message, kind)]


def sent(effects: Iterable[object], kind: type[E]) -> list[tuple[int, E]]:
    """The sent messages of one type with their addressees, in order."""
    return [(s.to, s.message) for s in only(effects, Send) if isinstance(s.message, kind)]


def kept(effects: Iterable[object], kind: type[E]) -> list[E]:
    """The persisted records of one type, in order."""
    return [p.record for p in only(effects, Persist) if isinstance(p.record, kind)]


def votes(effects: Iterable[object], kind: Kind) -> list[Vote]:
    """Our votes of one kind that went out, alone or with a proposal."""
    alone = said(effects, Vote) + [proposal.vote for proposal in said(effects, Proposal)]
    return [vote for vote in alone if vote.kind is kind]


class Solo:
    """One core under test; the test plays clock, network, application and the other validators."""

    def __init__(
        self,
        index: int | None = 0,
        *,
        chain: Chain | None = None,
        timing: Timing = TIMING,
        records: Sequence[Record] = (),
        floor: Floor | None = None,
        signer: MemorySigner | None = None,
        execute: bool = True,
        now: Now | None = None,
        confirm: bool = True,
    ) -> None:
        self.chain = chain or Chain()
        self.index = index
        self.timing = timing
        self.codec = TinyCodec()
        self.verify = Verifier()
        self.signer = signer or MemorySigner(self.chain.secrets[index or 0])
        self.execute = execute
        """Answer `Execute` at once with a good verdict, unless the digest is in `bad`."""
        self.bad: set[bytes] = set()
        self.now = now or Now(0, START + 10)
        self.journal: list[Record] = []
        self.journal.extend(records)
        self.all: list[Effect] = []
        self.core: Core = self._make(
            index=index,
            validators=self.chain.keys,
            epoch=self.chain.epoch,
            floor=floor or self.chain.floor,
            timing=timing,
            codec=self.codec,
            verify=self.verify,
            signer=self.signer,
            records=list(records),
        )
        self.started = self._perform(self.core.start(self.now))
        if confirm:
            self.started += self.confirm()

    def _make(self, **arguments: Any) -> Any:
        return Core(**arguments)

    def confirm(self) -> list[Effect]:
        """Enough others answer that they hold no vote of this key: signing begins."""
        effects: list[Effect] = []
        for _, request in self.asked(self.all):
            if request.epoch != self.chain.epoch:
                continue
            for peer in [i for i in range(self.chain.n) if i != self.index][: self.chain.q - 1]:
                answer = OwnVotesResponse(self.chain.epoch, request.nonce, None, ())
                effects += self.get(answer, sender=peer)
        return effects

    @staticmethod
    def asked(effects: Iterable[Effect]) -> list[tuple[int | None, OwnVotesRequest]]:
        """The questions of a start that went out, with whom they went to; None is everybody."""
        everybody: list[tuple[int | None, OwnVotesRequest]] = [
            (None, request) for request in said(effects, OwnVotesRequest)
        ]
        return everybody + list(sent(effects, OwnVotesRequest))

    def _perform(self, effects: list[Effect]) -> list[Effect]:
        result: list[Effect] = []
        queue = deque([effects])
        while queue:
            turn = queue.popleft()
            result += turn
            self.journal += [effect.record for effect in only(turn, Persist)]
            if self.execute:
                for effect in only(turn, Execute):
                    digest = effect.info.digest
                    verdict = Executed(digest, digest not in self.bad, "as told")
                    queue.append(self.core.handle(verdict, self.now))
        self.all += result
        return result

    def do(self, event: Event) -> list[Effect]:
        """One turn, and those of the verdicts it asks for."""
        return self._perform(self.core.handle(event, self.now))

    def get(self, message: Message, sender: int | None = None) -> list[Effect]:
        """A message arrives, through its canonical bytes; by default from another validator."""
        if sender is None:
            voter = getattr(getattr(message, "vote", message), "voter", None)
            sender = voter if isinstance(voter, int) and voter != self.index else None
        if sender is None:
            sender = 1 if self.index != 1 else 2
        return self.do(Received(ValidatorIndex(sender), decode_message(encode(message))))

    def get_all(self, messages: Iterable[Message]) -> list[Effect]:
        return [effect for message in messages for effect in self.get(message)]

    def wait(self, milliseconds: int) -> list[Effect]:
        """Let time pass, with a `Tick` at every deadline on the way, as a driver does."""
        effects: list[Effect] = []
        end = self.now.monotonic + milliseconds
        for _ in range(10_000):
            deadline = self.core.next_deadline()
            if deadline is None or deadline > end:
                break
            self._set(max(deadline, self.now.monotonic))
            effects += self.do(Tick())
        else:
            raise AssertionError("a deadline stays in the past: the driver would spin")
        self._set(end)
        return effects

    def _set(self, monotonic: int) -> None:
        passed = monotonic - self.now.monotonic
        self.now = Now(monotonic, self.now.wall + passed)

    def quiet(self, milliseconds: int) -> None:
        """Let time pass without telling the core."""
        self._set(self.now.monotonic + milliseconds)

    def notarize(self, block: Block) -> list[Effect]:
        """The others notarize a block of another leader, body first."""
        return self.get(self.chain.proposal(block)) + self.get(self.chain.notarization(block))

    def finalize(self, block: Block) -> list[Effect]:
        """The others notarize and finalize a block, body first."""
        return self.notarize(block) + self.get(self.chain.finalization(block))

    def restart(self, *, drop: Callable[[Record], bool] = lambda record: False) -> Solo:
        """Crash and come back from the journal, with the signer's record intact."""
        return Solo(
            self.index,
            chain=self.chain,
            timing=self.timing,
            records=[record for record in self.journal if not drop(record)],
            signer=self.signer,
            execute=self.execute,
            now=Now(0, self.now.wall),
        )


@dataclass
class Loopback:
    """A whole validator set; every message arrives, in order, at once."""

    chain: Chain = field(default_factory=Chain)
    timing: Timing = TIMING
    down: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.now = Now(0, START + 10)
        self.commits: list[list[BlockInfo]] = [[] for _ in range(self.chain.n)]
        self.alarms: list[str] = []
        self._queue: deque[tuple[int, Event]] = deque()
        self.up = [i for i in range(self.chain.n) if i not in self.down]
        self.cores: dict[int, Core] = {}
        for i in self.up:
            self.cores[i] = Core(
                index=i,
                validators=self.chain.keys,
                epoch=self.chain.epoch,
                floor=self.chain.floor,
                timing=self.timing,
                codec=CODEC,
                verify=Verifier(),
                signer=MemorySigner(self.chain.secrets[i]),
                records=(),
            )
        for i in self.up:
            self._perform(i, self.cores[i].start(self.now))
        self.run()

    def _perform(self, node: int, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Broadcast(message):
                    for other in self.up:
                        if other != node:
                            self._deliver(node, other, message)
                case Send(to, message):
                    if to in self.cores:
                        self._deliver(node, to, message)
                case Execute(info, _):
                    self._queue.append((node, Executed(info.digest, True)))
                case Build():
                    block = self.chain.build(effect, b"" if effect.empty else b"x")
                    self._queue.append((node, Built(effect.view, block.raw)))
                case Commit(blocks=blocks):
                    self.commits[node] += blocks
                case Alarm(reason):
                    self.alarms.append(reason)
                case _:
                    pass

    def _deliver(self, sender: int, to: int, message: Message) -> None:
        self._queue.append((to, Received(ValidatorIndex(sender), decode_message(encode(message)))))

    def put(self, event: Event) -> None:
        """The same event at every node."""
        self._queue += [(node, event) for node in self.up]

    def run(self, turns: int = 2_000) -> None:
        """Handle what is queued, at most so many turns."""
        for _ in range(turns):
            if not self._queue:
                return
            node, event = self._queue.popleft()
            self._perform(node, self.cores[node].handle(event, self.now))

    def wait(self, milliseconds: int) -> None:
        """Let virtual time pass."""
        end = self.now.monotonic + milliseconds
        self.run()
        while True:
            due = [(d, i) for i in self.up if (d := self.cores[i].next_deadline()) is not None]
            if not due or min(due)[0] > end:
                break
            moment, node = min(due)
            self._set(max(moment, self.now.monotonic))
            self._queue.append((node, Tick()))
            self.run()
        self._set(end)

    def _set(self, monotonic: int) -> None:
        self.now = replace(
            self.now, monotonic=monotonic, wall=self.now.wall + monotonic - self.now.monotonic
        )
