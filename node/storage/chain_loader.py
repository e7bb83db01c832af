"""Filling a new database with a chain that was checked elsewhere, in bounded batches.

What is loaded is not visible to `ChainStore` as a chain until `finish`: the floor comes last, in
one synced batch that also makes everything before it durable. Until then the database belongs to
nobody; it is built under a name of its own (`Home.building`), which nothing else opens.
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus.interface import BlockInfo, Floor
from consensus.messages import Certificate
from node.chain.encoding import encode
from node.chain.types import Header
from node.ledger.entries import ClosedEntry, InstructionEntry, JoinedEntry, UetrEntry
from node.storage.chain_store import (
    _FLOOR_KEY,
    _FORMAT_KEY,
    FORMAT,
    CommittedBlock,
    SealRecord,
    _at,
    _encode_floor,
    _history_key,
    _number,
    _put_block,
    _Seal,
)
from node.storage.horizon import Horizon, put_horizon
from node.storage.kv import KeyValue

BATCH_ENTRIES = 16_384
"""Keys of one batch: what is held in memory before it is written."""
BATCH_BYTES = 4 * 2**20


class ChainLoader:
    """One new database being filled. One thread at a time."""

    def __init__(self, kv: KeyValue) -> None:
        assert kv.get(_FLOOR_KEY) is None, "only a database without a chain is filled"
        self._kv = kv
        self._batch: list[tuple[bytes, bytes | None]] = [(_FORMAT_KEY, FORMAT)]
        self._bytes = 0

    def state(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """(state key, record) of the state at the floor."""
        for key, record in records:
            self._put(b"s" + key, record)

    def state_nodes(self, nodes: Iterable[tuple[bytes, bytes]], height: int) -> None:
        """(hash, bytes) of the nodes of the state map at the floor, whose height this is."""
        suffix = _number(height)
        for hash, node in nodes:
            self._put(b"n" + hash, node + suffix)

    def history(self, nodes: Iterable[tuple[tuple[int, int], bytes]]) -> None:
        """((level, index), hash) of completed nodes of the history tree."""
        for at, hash in nodes:
            self._put(_history_key(*at), hash)

    def leaf(self, height: int) -> bytes | None:
        """The history leaf of a height, once it is loaded."""
        self.flush()
        return self._kv.get(_history_key(0, height))

    def leaves(self, first: int, stop: int) -> list[bytes]:
        """The history leaves of the heights first … stop−1, once they are loaded."""
        self.flush()
        found = self._kv.iterate(b"t", start=_history_key(0, first), stop=_history_key(0, stop))
        return [leaf for _, leaf in found]

    def header(self, header: Header, digest: bytes) -> None:
        """A header without its body."""
        self._put(_at(b"h", header.height), encode(header))
        self._put(b"d" + digest, _number(header.height))

    def block(
        self,
        info: BlockInfo,
        raw: bytes,
        outcomes: Iterable[bytes],
        ids: Iterable[InstructionEntry],
        uetrs: Iterable[UetrEntry],
        *,
        changes: Iterable[tuple[bytes, int]] = (),
        following: Iterable[tuple[bytes, bytes]] = (),
        about: Iterable[tuple[bytes, int]] = (),
        joined: Iterable[JoinedEntry] = (),
        closed: Iterable[ClosedEntry] = (),
    ) -> None:
        """A block with its outcomes, and what the ledger remembers of it. Ascending heights: a
        later block's entry takes the place of an earlier one's."""
        block = CommittedBlock(
            info,
            raw,
            list(outcomes),
            {},
            ids=list(ids),
            uetrs=list(uetrs),
            changes=list(changes),
            following=list(following),
            about=list(about),
            joined=list(joined),
            closed=list(closed),
        )
        start = len(self._batch)
        _put_block(self._batch, block)
        for key, value in self._batch[start:]:
            self._bytes += len(key) + len(value or b"")
        self._flush_full()

    def finalization(self, height: int, certificate: Certificate) -> None:
        """The certificate that names the block of this height."""
        self._put(_at(b"f", height), encode(certificate))

    def seal(self, epoch: int, record: SealRecord) -> None:
        """How an epoch ended."""
        value = encode(_Seal(record.height, record.carriers, record.finalization))
        self._put(_at(b"e", epoch), value)

    def finish(self, floor: Floor, horizon: Horizon) -> None:
        """Make it a chain that ends with `floor`, and durable."""
        assert floor.finalization is not None
        self.finalization(floor.info.height, floor.finalization)
        self.flush()
        self._kv.write([*put_horizon(horizon), (_FLOOR_KEY, _encode_floor(floor))], sync=True)

    def _put(self, key: bytes, value: bytes) -> None:
        self._batch.append((key, value))
        self._bytes += len(key) + len(value)
        self._flush_full()

    def _flush_full(self) -> None:
        if len(self._batch) >= BATCH_ENTRIES or self._bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits, unsynced."""
        if self._batch:
            self._kv.write(self._batch, sync=False)
            self._batch, self._bytes = [], 0
