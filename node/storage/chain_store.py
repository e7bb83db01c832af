"""The chain as stored: blocks, outcomes, indexes, state and the consensus floor, by height.

The invariant: everything one commit changes is in **one** synced batch, together with the floor
that the core restarts from. So after any crash the database shows a height with all its blocks,
outcomes, indexes and state, or nothing of it, and the floor never is ahead of the state.

Keys are one letter and a big-endian number or digest, so that heights iterate in order:

    b height → block bytes        h height → header      o height → outcomes
    f height → finalization       d header digest → height
    e epoch → what sealed it      c epoch view kind → other certificates
    x epoch view voter → an equivocation that this node holds both votes of
    i sender NUL id → executed instruction                u UETR → latest outcome
    s state key → record          t level index → history node
    n hash → state node, and the last height that made it                m name → floor, format
    a, g, j, k, y: what leads from a payment to its evidence (`evidence_index`)

`p` is the mempool's (`node.engine.pool_store`), in the same database but another batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import msgspec

from consensus.interface import BlockInfo, Floor
from consensus.messages import (
    Certificate,
    Digest,
    Epoch,
    Equivocation,
    Height,
    Milliseconds,
    ValidatorIndex,
    View,
)
from node.chain.encoding import HEADER, UNDECODABLE, Malformed, decode, digest, encode
from node.chain.named import named_uetrs
from node.chain.types import Header, Outcome
from node.ledger.entries import (
    ClosedEntry,
    InstructionEntry,
    JoinedEntry,
    OutcomesGone,
    UetrEntry,
)
from node.storage.errors import StoreCorrupt
from node.storage.evidence_index import EvidenceIndex, put_cycles, put_following, put_places
from node.storage.kv import KeyValue
from node.storage.uetr_filter import UetrFilter

FORMAT = b"nostro-chain-store/4"
HEIGHT_BYTES = 8
WARM_SLICE = 2_000
"""UETRs read before others get to run: about a millisecond."""
_FORMAT_KEY = b"mformat"
_FLOOR_KEY = b"mfloor"

_WHERE = "the chain database"
_RECOVER = (
    "Nothing is served from it. Check the device, then put a copy of another node's data/ in its "
    "place and audit it (docs/how-to/recover.md)"
)


@dataclass(frozen=True, slots=True)
class CommittedBlock:
    """A final block with everything that executing it changed."""

    info: BlockInfo
    raw: bytes
    outcomes: Sequence[bytes]
    """Canonical bytes of each outcome, in the order of the outcomes tree."""
    records: dict[bytes, bytes | None]
    """State key → record; None deletes."""
    nodes: Sequence[tuple[bytes, bytes]] = ()
    """(hash, bytes) of new nodes of the state map."""
    history_nodes: Sequence[tuple[tuple[int, int], bytes]] = ()
    """((level, index), hash) of newly completed nodes of the history tree."""
    ids: Sequence[InstructionEntry] = ()
    uetrs: Sequence[UetrEntry] = ()
    changes: Sequence[tuple[bytes, int]] = ()
    """(UETR, index in `outcomes`) for payments with more than one outcome, ever."""
    following: Sequence[tuple[bytes, bytes]] = ()
    """(UETR, UETR of a payment that carries it on or gives it back)."""
    about: Sequence[tuple[bytes, int]] = ()
    """(UETR, index of an accepted instruction about the payment); see `node.ledger.about`."""
    joined: Sequence[JoinedEntry] = ()
    """Payments that joined a clearing cycle, in order."""
    closed: Sequence[ClosedEntry] = ()
    """Clearing cycles that take no more payments."""
    finalization: Certificate | None = None
    """The certificate that names this very block, if it is not final through a descendant only.
    Several commits may share one batch; a stored finalization lets a peer sync up to here."""


@dataclass(frozen=True, slots=True)
class SealRecord:
    """How an epoch ended."""

    height: int
    """Of the sealing block."""
    carriers: tuple[bytes, ...]
    """The blocks between it and the one that `finalization` names; none if it names it itself."""
    finalization: Certificate


class _Seal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="seal/1"):
    height: int
    carriers: tuple[bytes, ...]
    finalization: Certificate


class _FloorRecord(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="floor/2"
):
    digest: bytes
    parent: bytes
    epoch: int
    view: int
    height: int
    timestamp: int
    proposer: int
    seals: bool
    finalization: Certificate | None
    carriers: tuple[bytes, ...]


class _BlockParts(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="block/1"
):
    """A `Block` of which only the header is looked at: its bodies may be megabytes."""

    header: msgspec.Raw
    instructions: msgspec.Raw


T = TypeVar("T")

_block_parts = msgspec.msgpack.Decoder(_BlockParts)
_uetr_value = msgspec.msgpack.Decoder(
    tuple[bytes, int, int, int, int, str, str | None, int, int | None]
)
_id_value = msgspec.msgpack.Decoder(tuple[int, bytes, int, int])
_outcomes = msgspec.msgpack.Decoder(list[msgspec.Raw])


class ChainStore(EvidenceIndex):
    """Typed access to the chain on any `KeyValue`. Implements the ledger's `RecentIndex`.

    Reads may come from any thread; commits from one at a time."""

    def __init__(self, kv: KeyValue) -> None:
        """Raises StoreCorrupt if the database is another format's or contradicts itself."""
        super().__init__(kv)
        self._kv = kv
        self.writing = threading.Lock()
        """Held over each commit, and by the pruner from its last look at state nodes until they
        are deleted: a node that a commit brings back in between would be lost."""
        stored = kv.get(_FORMAT_KEY)
        if stored is None:
            kv.write([(_FORMAT_KEY, FORMAT)])
        elif stored != FORMAT:
            raise StoreCorrupt(
                f"the database has format {stored!r}, this program writes {FORMAT.decode()}",
                _WHERE,
                "Use the version of nostro that wrote it, or put another node's data/ in its place",
            )
        self._floor = self._load_floor()
        self._filter: UetrFilter | None = None

    def warm(self, rest: Callable[[], None] = lambda: None) -> None:
        """Read every stored UETR once, so that from then on one that is not stored costs no look
        into the database. May run in any thread, beside commits; `rest` is called between slices.
        """
        filter = UetrFilter()
        with self.writing:
            # Every commit before this is seen by the iteration, every later one adds to the filter.
            self._filter = filter
        keys = (key[1:] for key, _ in self._kv.iterate(b"u"))
        while slice := list(islice(keys, WARM_SLICE)):
            filter.add(slice)
            rest()
        filter.complete = True

    # --- the one write ------------------------------------------------------------------------

    def commit(
        self,
        blocks: Sequence[CommittedBlock],
        floor: Floor,
        certificates: Sequence[Certificate] = (),
    ) -> None:
        """Store final `blocks` (ascending, from the height after the floor) and the new floor,
        in one synced batch. The first commit is the genesis block alone, with no finalization.

        `certificates`: of views up to the floor, kept for ever to tell who made a fork, should
        there ever be one.

        Raises StoreUnwritable, after which nothing may be committed before a restart."""
        self._check_commit(blocks, floor)
        batch: list[tuple[bytes, bytes | None]] = []
        for block in blocks:
            _put_block(batch, block)
            if block.finalization is not None:
                batch.append((_at(b"f", block.info.height), encode(block.finalization)))
        if floor.finalization is not None:
            batch.append((_at(b"f", floor.info.height), encode(floor.finalization)))
        if floor.info.seals:
            assert floor.finalization is not None
            seal = _Seal(floor.info.height, floor.carriers, floor.finalization)
            batch.append((_at(b"e", floor.info.epoch), encode(seal)))
        batch.extend((_certificate_key(each), encode(each)) for each in certificates)
        batch.append((_FLOOR_KEY, _encode_floor(floor)))
        with self.writing:
            if self._filter is not None:
                for block in blocks:
                    self._filter.add(used[0] for used in block.uetrs)
            self._kv.write(batch, sync=True)
        self._floor = floor

    def _check_commit(self, blocks: Sequence[CommittedBlock], floor: Floor) -> None:
        """Our own bugs, each of which would leave a chain with a hole, or a floor that sinks."""
        assert blocks, "a commit has blocks"
        previous = None if self._floor is None else self._floor.info
        for block in blocks:
            if previous is None:
                assert block.info.height == 0, "the first block is genesis"
            else:
                assert block.info.height == previous.height + 1, "heights are contiguous"
                assert block.info.parent == previous.digest, "blocks are chained"
            assert block.info == floor.info or not block.info.seals, "an epoch ends with a commit"
            previous = block.info
        assert floor.info == previous, "the floor is the last block committed"
        assert floor.info.seals or not floor.carriers, "only a sealing block has carriers"
        certificate = floor.finalization
        assert (certificate is None) == (floor.info.height == 0), "only genesis needs no proof"
        if certificate is not None:
            assert certificate.content is not None
            named = certificate.content.block == floor.info.digest
            assert named or floor.carriers, "the floor's own finalization, or its last carrier's"

    # --- floor and blocks -----------------------------------------------------------------------

    def floor(self) -> Floor | None:
        """The last final block and its finalization; None before genesis is committed."""
        return self._floor

    def height(self) -> int | None:
        """Height of the last final block."""
        return None if self._floor is None else self._floor.info.height

    def epoch(self) -> int:
        """The epoch of the next block."""
        assert self._floor is not None, "there is no epoch before genesis"
        info = self._floor.info
        return info.epoch + 1 if info.seals else info.epoch

    def seal(self, epoch: int) -> SealRecord | None:
        """How this epoch ended; None while it has not."""
        value = self._kv.get(_at(b"e", epoch))
        if value is None:
            return None
        record = _decoded(value, _Seal, f"seal of epoch {epoch}")
        return SealRecord(record.height, record.carriers, record.finalization)

    def certificates(self, epoch: int, first_view: int, last_view: int) -> list[Certificate]:
        """Notarizations and nullifications held of these views when the floor passed them, by
        view and kind. A node that was behind then has none of them."""
        found = []
        start, stop = _at(b"c", epoch) + _number(first_view), _at(b"c", epoch)
        for _, value in self._kv.iterate(b"c", start=start, stop=stop + _number(last_view + 1)):
            found.append(_decoded(value, Certificate, f"certificate of epoch {epoch}"))
        return found

    def keep_evidence(self, evidence: Equivocation) -> None:
        """Store an equivocation for good. Raises StoreUnwritable."""
        vote = evidence.first
        key = _at(b"x", vote.epoch) + _number(vote.view) + _number(vote.voter)
        self._kv.write([(key, encode(evidence))], sync=True)

    def evidence(self) -> list[Equivocation]:
        """The equivocations that this node has seen itself, by epoch, view and voter."""
        return [
            _decoded(value, Equivocation, "equivocation") for _, value in self._kv.iterate(b"x")
        ]

    def block(self, height: int) -> bytes | None:
        """The exact bytes of a block, or None above the floor."""
        return self._kv.get(_at(b"b", height))

    def height_of(self, digest: bytes) -> int | None:
        """Height of the block with this header digest."""
        value = self._kv.get(b"d" + digest)
        return None if value is None else int.from_bytes(value, "big")

    def header(self, height: int) -> Header | None:
        value = self._kv.get(_at(b"h", height))
        return None if value is None else _decoded(value, Header, f"header {height}")

    def info(self, height: int) -> BlockInfo | None:
        """What the protocol reads of the block at `height`."""
        value = self._kv.get(_at(b"h", height))
        if value is None:
            return None
        header = _decoded(value, Header, f"header {height}")
        return BlockInfo(
            Digest(digest(HEADER, value)),
            Digest(header.parent),
            Epoch(header.epoch),
            View(header.view),
            Height(header.height),
            Milliseconds(header.timestamp),
            ValidatorIndex(header.proposer),
            header.next_validator_set != header.validator_set,
        )

    def finalization(self, height: int) -> Certificate | None:
        """The certificate that finalized this very height; a height that became final as an
        ancestor has none (`finalization_at_or_above`). Where a block sealed its epoch, it may
        name a carrier of it (`seal`)."""
        value = self._kv.get(_at(b"f", height))
        return None if value is None else _decoded(value, Certificate, f"finalization {height}")

    def finalization_at_or_above(self, height: int) -> tuple[int, Certificate] | None:
        """The nearest finalization that makes `height` final, with its height."""
        for key, value in self._kv.iterate(b"f", start=_at(b"f", height)):
            at = int.from_bytes(key[1:], "big")
            return at, _decoded(value, Certificate, f"finalization {at}")
        return None

    def outcomes(self, height: int) -> list[bytes] | None:
        """Canonical bytes of a block's outcomes in tree order; None above the floor."""
        value = self._kv.get(_at(b"o", height))
        if value is None:
            return None
        try:
            return [bytes(outcome) for outcome in _outcomes.decode(value)]
        except UNDECODABLE as error:
            raise _corrupt(f"outcomes {height}", error) from error

    def uetrs_between(self, after: int, through: int) -> Iterator[bytes]:
        """The UETR of each outcome that names one, of the blocks `after` + 1 to `through`.
        Sorted and each once, those of a tree's blocks are its leaves. Raises OutcomesGone where a
        block was pruned, or is above the floor."""
        for height in range(after + 1, through + 1):
            outcomes = self.outcomes(height)
            if outcomes is None:
                raise OutcomesGone(height)
            try:
                yield from named_uetrs(outcomes)
            except Malformed as error:
                raise _corrupt(f"outcomes {height}", error) from error

    # --- indexes: the ledger's RecentIndex ------------------------------------------------------

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        """The executed instruction under (sender, id)."""
        value = self._kv.get(_id_key(sender, id))
        if value is None:
            return None
        try:
            return InstructionEntry(sender, id, *_id_value.decode(value))
        except UNDECODABLE as error:
            raise _corrupt(f"instruction entry {sender} {id}", error) from error

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        """The latest outcome under this UETR."""
        if self._filter is not None and self._filter.lacks(uetr):
            return None
        value = self._kv.get(b"u" + uetr)
        if value is None:
            return None
        try:
            return UetrEntry(uetr, *_uetr_value.decode(value))
        except UNDECODABLE as error:
            raise _corrupt(f"UETR entry {uetr.hex()}", error) from error

    def changes(self, uetr: bytes) -> list[tuple[int, int]]:
        """Where the outcomes of a payment stand, in order: (height, index in the outcome tree).

        Retries are not among them. A node that began with a snapshot knows none below it."""
        found = list(self.outcomes_of(uetr, 0))
        if found:
            return found
        entry = self.uetr(uetr)
        if entry is None:
            return []
        for index, raw in enumerate(self.outcomes(entry.height) or ()):
            if uetr not in raw:
                continue  # a cheap test before decoding: blocks have thousands of outcomes
            outcome = _decoded(raw, Outcome, f"outcome {index} of block {entry.height}")
            if outcome.uetr == uetr and outcome.original is None:
                return [(entry.height, index)]
        return []

    # --- state and history trees ----------------------------------------------------------------

    def state_records(self) -> Iterator[tuple[bytes, bytes]]:
        """All (state key, record) at the floor, in key order."""
        for key, value in self._kv.iterate(b"s"):
            yield key[1:], value

    def rows(self, prefix: bytes, after: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """(state key, record) at the floor under keys with this prefix, after a key; in key
        order."""
        start = None if after is None else b"s" + after + b"\0"
        for key, value in self._kv.iterate(b"s" + prefix, start=start):
            yield key[1:], value

    def state_record(self, key: bytes) -> bytes | None:
        """The record under a state key at the floor."""
        return self._kv.get(b"s" + key)

    def state_node(self, hash: bytes) -> bytes | None:
        """A node of the state map, of any height's state."""
        value = self._kv.get(b"n" + hash)
        return None if value is None else value[:-HEIGHT_BYTES]

    def history_node(self, level: int, index: int) -> bytes | None:
        """A completed node of the history tree; level 0 holds the leaf hashes."""
        return self._kv.get(_history_key(level, index))

    # --- own ------------------------------------------------------------------------------------

    def _load_floor(self) -> Floor | None:
        value = self._kv.get(_FLOOR_KEY)
        if value is None:
            return None
        record = _decoded(value, _FloorRecord, "floor")
        if self._kv.get(b"d" + record.digest) != _number(record.height):
            raise StoreCorrupt(
                f"the floor names block {record.height}, which is not stored", _WHERE, _RECOVER
            )
        info = BlockInfo(
            Digest(record.digest),
            Digest(record.parent),
            Epoch(record.epoch),
            View(record.view),
            Height(record.height),
            Milliseconds(record.timestamp),
            ValidatorIndex(record.proposer),
            record.seals,
        )
        return Floor(info, record.finalization, record.carriers)


def _put_block(batch: list[tuple[bytes, bytes | None]], block: CommittedBlock) -> None:
    height = block.info.height
    header = bytes(_block_parts.decode(block.raw).header)
    add = batch.append
    add((_at(b"b", height), block.raw))
    add((_at(b"h", height), header))
    add((_at(b"o", height), _array(block.outcomes)))
    add((b"d" + block.info.digest, _number(height)))
    batch.extend((b"s" + key, record) for key, record in block.records.items())
    # The height tells the pruner whether a node came back after the height that it left with.
    batch.extend((b"n" + hash, node + _number(height)) for hash, node in block.nodes)
    batch.extend((_history_key(*at), hash) for at, hash in block.history_nodes)
    for entry in block.ids:
        add((_id_key(entry.sender, entry.id), encode(entry[2:])))
    # One put per payment: no objects beyond its key and value.
    batch.extend([(b"u" + used[0], encode(used[1:])) for used in block.uetrs])
    batch.extend(put_places(height, block.changes, block.about))
    batch.extend(put_cycles(block.joined, block.closed))
    batch.extend(put_following(block.following))


def _encode_floor(floor: Floor) -> bytes:
    info = floor.info
    return encode(
        _FloorRecord(
            info.digest,
            info.parent,
            info.epoch,
            info.view,
            info.height,
            info.timestamp,
            info.proposer,
            info.seals,
            floor.finalization,
            floor.carriers,
        )
    )


def _array(items: Sequence[bytes]) -> bytes:
    """The MessagePack array of items that are MessagePack themselves."""
    return b"\xdd" + len(items).to_bytes(4, "big") + b"".join(items)


def _number(height: int) -> bytes:
    return height.to_bytes(8, "big")


def _at(prefix: bytes, height: int) -> bytes:
    return prefix + height.to_bytes(8, "big")


def _certificate_key(certificate: Certificate) -> bytes:
    view = _at(b"c", certificate.epoch) + _number(certificate.view)
    return view + bytes([certificate.kind])


def _history_key(level: int, index: int) -> bytes:
    return b"t" + bytes([level]) + index.to_bytes(8, "big")


def _id_key(sender: str, id: str) -> bytes:
    # Neither contains NUL: both are restricted to visible ASCII where they enter.
    return b"i" + sender.encode("ascii") + b"\0" + id.encode("ascii")


def _decoded(data: bytes, kind: type[T], what: str) -> T:
    try:
        return decode(data, kind)
    except Malformed as error:
        raise _corrupt(what, error) from error


def _corrupt(what: str, error: Exception) -> StoreCorrupt:
    return StoreCorrupt(f"stored {what} is not what was written: {error}", _WHERE, _RECOVER)
