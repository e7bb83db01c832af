"""The simulated application: a hash chain of instruction numbers, with real validity checks.

It stands where the ledger stands in a node: it tells the core what a header says (`SimCodec`),
builds and executes blocks, keeps a mempool, and serves finalized blocks. Its state after a block
is a hash over everything executed so far, and a block names the state it leads to, so that a block
built on the wrong parent, executed twice or executed out of order is a bad block.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from consensus.interface import BlockInfo, BodyMismatch, Build, Floor, starting_floor
from consensus.messages import (
    Certificate,
    Digest,
    DigestBytes,
    Epoch,
    EpochSealed,
    Height,
    Milliseconds,
    SyncResponse,
    Unsigned,
    ValidatorIndex,
    View,
)
from devnet.sim.crypto import CHAIN_ID
from devnet.sim.members import ValidatorSet, next_set
from node.chain.encoding import UNDECODABLE
from node.storage.errors import StorageError, StoreCorrupt

GENESIS_TIME = 1_750_000_000_000
"""Timestamp of the genesis block, in ms since the Unix epoch."""
MAX_PAYLOAD = 6
"""Instructions in one simulated block."""
SYNC_BLOCKS = 16
"""Blocks in one SyncResponse; more only if no earlier one of them has a certificate."""


class Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="h/1"):
    epoch: Unsigned
    view: Unsigned
    height: Unsigned
    parent: DigestBytes
    timestamp: Unsigned
    proposer: Unsigned
    state: DigestBytes
    """Hash of everything executed up to and with this block."""
    payload_root: DigestBytes


class SealingHeader(Header, frozen=True, array_like=True, forbid_unknown_fields=True, tag="s/1"):
    """Of a block that ends its epoch, and of those that carry it."""

    next_set: tuple[tuple[Unsigned, Unsigned], ...]
    """Who votes in the next epoch, with which keys."""


class Block(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="b/1"):
    header: Header | SealingHeader
    payload: tuple[Unsigned, ...]
    """Numbers of instructions, in the order of execution."""


_decoder = msgspec.msgpack.Decoder(Block)
_encode = msgspec.msgpack.Encoder().encode


def payload_root(payload: tuple[int, ...]) -> bytes:
    """What a header commits to of these instructions."""
    return hashlib.sha256(b"payload" + _encode(payload)).digest()


def _next_state(parent: bytes, payload: tuple[int, ...]) -> bytes:
    return hashlib.sha256(b"state" + parent + _encode(payload)).digest()


def decode_block(raw: bytes) -> Block:
    """The block of these bytes. Raises BodyMismatch for a body that is not its header's."""
    try:
        block = _decoder.decode(raw)
    except UNDECODABLE as error:
        raise BodyMismatch(f"not a block: {error}") from error
    if _encode(block) != raw:
        raise BodyMismatch("not the canonical encoding")
    if block.header.payload_root != payload_root(block.payload):
        raise BodyMismatch("the payload is not the one the header commits to")
    return block


def encode_block(block: Block) -> bytes:
    """The bytes of a block, right or wrong."""
    return _encode(block)


def instructions_of(bodies: Iterable[bytes]) -> list[int]:
    """The instructions of these blocks, in order."""
    return [number for body in bodies for number in decode_block(body).payload]


def info_of(header: Header) -> BlockInfo:
    """What the core reads of a header."""
    return BlockInfo(
        digest=Digest(hashlib.sha256(b"header" + _encode(header)).digest()),
        parent=Digest(header.parent),
        epoch=Epoch(header.epoch),
        view=View(header.view),
        height=Height(header.height),
        timestamp=Milliseconds(header.timestamp),
        proposer=ValidatorIndex(header.proposer),
        seals=isinstance(header, SealingHeader),
    )


def next_set_of(raw: bytes) -> ValidatorSet:
    """Whom a block makes the validators of the next epoch; empty if it ends none."""
    header = decode_block(raw).header
    return header.next_set if isinstance(header, SealingHeader) else ()


class SimCodec:
    """The core's view into block bytes (consensus.interface.BlockCodec)."""

    def inspect(self, block: bytes) -> BlockInfo:
        return info_of(decode_block(block).header)


def _genesis() -> tuple[BlockInfo, bytes]:
    payload: tuple[int, ...] = ()
    state = _next_state(CHAIN_ID, payload)
    header = Header(0, 0, 0, bytes(32), GENESIS_TIME, 0, state, payload_root(payload))
    return info_of(header), state


GENESIS, _GENESIS_STATE = _genesis()


@dataclass(frozen=True, slots=True)
class _State:
    info: BlockInfo
    hash: bytes
    payload: tuple[int, ...]
    executed: frozenset[int]
    """Every instruction up to and with this block."""
    members: ValidatorSet
    """Of this block's epoch."""
    next_set: ValidatorSet = ()
    """Of the next one, where this block ends its own."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A finalized block in the simulated database; `finalization` where one named this height."""

    info: BlockInfo
    body: bytes
    finalization: Certificate | None
    carriers: tuple[bytes, ...] = ()
    """Where the block ends its epoch: from its child to the one that `finalization` names."""


class Database:
    """What survives a crash on the database's side: the finalized chain, committed in order."""

    def __init__(self) -> None:
        self.blocks: list[Stored] = []
        """Index i holds height i + 1."""
        self.sealed_at: list[int] = []
        """By epoch: the height of the block that ended it."""

    @property
    def floor(self) -> Floor:
        """The last finalized block; genesis at first."""
        if not self.blocks:
            return Floor(GENESIS, None)
        last = self.blocks[-1]
        assert last.finalization is not None, "a commit ends at a certified height"
        return starting_floor(last.info) if last.info.seals else Floor(last.info, last.finalization)

    @property
    def epoch(self) -> Epoch:
        """The epoch of the next block."""
        return Epoch(len(self.sealed_at))

    def members(self, genesis: ValidatorSet) -> ValidatorSet:
        """The validators of the next block, if these are those of the first."""
        if not self.sealed_at:
            return genesis
        return next_set_of(self.blocks[self.sealed_at[-1] - 1].body)

    def sealed(self, epoch: int) -> EpochSealed | None:
        """What ended an epoch; None if it has not ended here."""
        if epoch >= len(self.sealed_at):
            return None
        seal = self.blocks[self.sealed_at[epoch] - 1]
        assert seal.finalization is not None
        return EpochSealed(epoch, seal.carriers, seal.finalization)

    def commit(
        self,
        infos: Iterable[BlockInfo],
        bodies: Iterable[bytes],
        finalization: Certificate,
        carriers: tuple[bytes, ...] = (),
    ) -> None:
        """Append blocks in one atomic step; `finalization` names the last, or its last carrier."""
        added = [Stored(info, body, None) for info, body in zip(infos, bodies, strict=True)]
        assert added[0].info.height == len(self.blocks) + 1
        added[-1] = Stored(added[-1].info, added[-1].body, finalization, carriers)
        self.blocks += added
        if added[-1].info.seals:
            self.sealed_at.append(added[-1].info.height)

    def copy(self, height: int) -> Database:
        """A copy made when the chain was at most this high: what an operator takes to a node."""
        copied = Database()
        copied.blocks = self.blocks[:height]
        while copied.blocks and copied.blocks[-1].finalization is None:
            copied.blocks.pop()
        copied.sealed_at = [at for at in self.sealed_at if at <= len(copied.blocks)]
        return copied

    def rot(self, rng: random.Random) -> None:
        """The medium changes a bit of a stored block."""
        place = rng.randrange(len(self.blocks))
        stored = self.blocks[place]
        body = bytearray(stored.body)
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        self.blocks[place] = replace(stored, body=bytes(body))

    def damage(self) -> StorageError | None:
        """What a start says to what is stored: the first block that is not its header's."""
        for height, stored in enumerate(self.blocks, 1):
            try:
                info = info_of(decode_block(stored.body).header)
            except BodyMismatch as error:
                return StoreCorrupt(f"stored block {height}: {error}", "database", "Replace it")
            if info != stored.info:
                return StoreCorrupt(f"stored block {height} is another", "database", "Replace it")
        return None

    def serve(self, first: int) -> SyncResponse | None:
        """Finalized blocks from height `first` on, ending at a certified one; None if none."""
        if first < 1:
            return None
        chosen: list[bytes] = []
        best: SyncResponse | None = None
        for stored in self.blocks[first - 1 :]:
            if best is not None and len(chosen) >= SYNC_BLOCKS:
                break
            chosen.append(stored.body)
            if stored.finalization is not None:
                best = SyncResponse(tuple(chosen), stored.carriers, stored.finalization)
            if stored.info.seals:
                break  # one answer is of one epoch
        return best


class Application:
    """Executed states and mempool of one incarnation of a node: everything but `database` is
    memory, and is lost with the process."""

    step = 0
    """What a carrier adds to its parent's height."""

    def __init__(self, database: Database, genesis: ValidatorSet, mempool: Iterable[int]) -> None:
        """`genesis`: the validators of the first epoch."""
        self._database = database
        self._genesis = genesis
        self._states: dict[bytes, _State] = {}
        self.mempool: dict[int, None] = dict.fromkeys(mempool)
        """Instructions known and not final, oldest first."""
        self._floor = self._replay_database()

    def _replay_database(self) -> BlockInfo:
        executed: set[int] = set()
        info, state = GENESIS, _GENESIS_STATE
        payload: tuple[int, ...] = ()
        for stored in self._database.blocks:
            block = decode_block(stored.body)
            info, state, payload = stored.info, block.header.state, block.payload
            executed.update(payload)
        members, after = self._database.members(self._genesis), ()
        if info.seals:
            members, after = (), members  # the old ones vote for carriers only, and that is over
        self._states[info.digest] = _State(
            info, state, payload, frozenset(executed), members, after
        )
        for number in executed:
            self.mempool.pop(number, None)
        return info

    def learn(self, numbers: Iterable[int]) -> bool:
        """Take instructions into the mempool; whether any was news and is not final."""
        final = self._states[self._floor.digest].executed
        news = [n for n in numbers if n not in self.mempool and n not in final]
        self.mempool.update(dict.fromkeys(news))
        return bool(news)

    def executed(self) -> list[BlockInfo]:
        """The executed blocks from the floor on, in order of execution."""
        return [state.info for state in self._states.values()]

    def has_executed(self, digest: bytes) -> bool:
        return digest in self._states

    def execute(self, raw: bytes) -> str:
        """Execute a block on its (executed) parent; the reason if it is bad, else ''."""
        block = decode_block(raw)
        header = block.header
        info = info_of(header)
        parent = self._states[header.parent]
        carries = parent.info.seals and header.epoch == parent.info.epoch
        after_seal = parent.info.seals and header.epoch == parent.info.epoch + 1
        if header.epoch != parent.info.epoch and not after_seal:
            return "epoch is not the parent's"
        if header.view <= (0 if after_seal else parent.info.view):
            return "view is not above the parent's"
        if carries:
            return self._carry(block, info, parent)
        if header.height != parent.info.height + 1:
            return "height is not the parent's + 1"
        if header.timestamp <= parent.info.timestamp:
            return "timestamp is not above the parent's"
        members = parent.next_set if after_seal else parent.members
        if header.proposer != (header.epoch + header.view) % len(members):
            return "proposer is not the view's leader"
        fresh = set(block.payload)
        if len(fresh) != len(block.payload) or fresh & parent.executed:
            return "an instruction executes twice"
        if header.state != _next_state(parent.hash, block.payload):
            return "state hash is not what execution gives"
        named = header.next_set if isinstance(header, SealingHeader) else ()
        if named != next_set(members, header.epoch, block.payload):
            return "the next epoch's validators are not what execution gives"
        self._states[info.digest] = _State(
            info, header.state, block.payload, parent.executed | fresh, members, named
        )
        return ""

    def _carry(self, block: Block, info: BlockInfo, parent: _State) -> str:
        """A block on one that ends the epoch, in that epoch: everything is the parent's."""
        header = block.header
        if not isinstance(header, SealingHeader) or header.next_set != parent.next_set:
            return "a carrier names other validators"
        place = (parent.info.height + self.step, parent.info.timestamp)
        if (header.height, header.timestamp) != place:
            return "a carrier takes a step"
        if block.payload or header.state != parent.hash:
            return "a carrier executes something"
        if header.proposer != (header.epoch + header.view) % len(parent.members):
            return "proposer is not the view's leader"
        self._states[info.digest] = replace(parent, info=info)
        return ""

    def build(self, request: Build) -> bytes:
        """A block as asked for, on an executed parent."""
        parent = self._states[request.parent.digest]
        if parent.info.seals and request.epoch == parent.info.epoch:
            return self._encode(request, parent, (), parent.next_set, carries=True)
        payload: tuple[int, ...] = ()
        if not request.empty:
            waiting = (number for number in self.mempool if number not in parent.executed)
            payload = tuple(number for number, _ in zip(waiting, range(MAX_PAYLOAD), strict=False))
        members = parent.next_set if parent.info.seals else parent.members
        after = next_set(members, request.epoch, payload)
        return self._encode(request, parent, payload, after)

    def _encode(
        self,
        request: Build,
        parent: _State,
        payload: tuple[int, ...],
        after: ValidatorSet,
        *,
        carries: bool = False,
    ) -> bytes:
        height = parent.info.height + (self.step if carries else 1)
        fields = (
            request.epoch,
            request.view,
            height,
            parent.info.digest,
            request.timestamp,
            request.proposer,
            parent.hash if carries else _next_state(parent.hash, payload),
            payload_root(payload),
        )
        header = SealingHeader(*fields, after) if after else Header(*fields)
        return _encode(Block(header, payload))

    def committed(self, infos: Iterable[BlockInfo], bodies: Iterable[bytes]) -> None:
        """These blocks are final: drop their instructions, and states that can have no child."""
        for number in instructions_of(bodies):
            self.mempool.pop(number, None)
        *_, self._floor = infos
        height = self._floor.height
        self._states = {
            digest: state
            for digest, state in self._states.items()
            if state.info.height > height or digest == self._floor.digest
        }

    def pending(self) -> bool:
        """Whether the mempool holds an instruction that no live block above the floor has."""
        if not self.mempool:
            return False
        alive: set[bytes] = {self._floor.digest}
        covered: set[int] = set()
        for digest, state in self._states.items():  # parents were inserted before children
            if state.info.parent in alive:
                alive.add(digest)
                covered.update(state.payload)
        return any(number not in covered for number in self.mempool)
