"""What a replay keeps of its own: executed ids and used UETRs, state, books, and where it stands.

A replay must not trust the indexes of the store that it audits, and a year of payments fits no
memory. So it has a database of its own. What changed since the last `save` is held in memory, up
to `MAX_HELD_ENTRIES`; `save` writes it with the checkpoint in one synced batch. After a kill the
database shows the last checkpoint with everything that belongs to it.

    u UETR → latest outcome               i sender NUL id → executed instruction
    s state key → record                  n hash → state node
    k … → the books (`Books.changes`)     m checkpoint, and the UETRs that no tree has yet

Nodes of states between two checkpoints that the later state has not are never written; those of
earlier checkpoints stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import merge
from itertools import islice

import msgspec

from node.chain.encoding import decode, encode
from node.chain.merkle import Frontier
from node.chain.state_map import EMPTY, HASH_BYTES
from node.chain.types import Bytes32, Header, _Canonical
from node.chain.uetr_tree import UETR_BYTES
from node.ledger.entries import InstructionEntry, UetrEntry
from node.ledger.work import Applied
from node.storage.kv import KeyValue
from node.storage.uetr_filter import UetrFilter

MAX_HELD_ENTRIES = 50_000
"""UETRs, ids, records and state nodes in memory before they are written: about 30 MiB."""
_SLICE = 10_000
"""UETRs read at a time."""
_CHECKPOINT = b"mcheckpoint"
_UNTREED = b"muntreed"
_BRANCH = b"\x01"

_uetr_value = msgspec.msgpack.Decoder(
    tuple[bytes, int, int, int, int, str, str | None, int, int | None]
)
_id_value = msgspec.msgpack.Decoder(tuple[int, bytes, int, int])


class Checkpoint(_Canonical, frozen=True, tag="audit-checkpoint/1"):
    """Up to where a chain was found sound, and what had been counted by then."""

    chain_id: Bytes32
    header: Header
    """Of the last sound block."""
    peaks: tuple[Bytes32, ...]
    """Of the history tree that ends with this header (`merkle.Frontier`)."""
    certified: int
    """The highest height with a certificate of its own."""
    instructions: int
    payments: int
    signatures: int
    certificates: int
    epochs: int
    statements: int

    @property
    def history(self) -> Frontier:
        return Frontier(self.header.height + 1, self.peaks)


class Workspace:
    """The ledger's `RecentIndex` for one replay, and everything else that it keeps.

    May raise `node.storage.errors.StorageError` from every call: a full disk, a damaged file."""

    def __init__(self, database: Callable[[], KeyValue]) -> None:
        """`database`: opens it, once something has to be written or was written before; a short
        replay needs none."""
        self._open = database
        self._kv: KeyValue | None = None
        self._uetrs: dict[bytes, UetrEntry] = {}
        self._ids: dict[tuple[str, str], InstructionEntry] = {}
        self._records: dict[bytes, bytes | None] = {}
        self._nodes: dict[bytes, bytes] = {}
        self._filter = UetrFilter()

    def resume(self) -> Checkpoint | None:
        """Where a replay before this one stood; None where there was none. Raises Malformed."""
        self._kv = self._open()
        value = self._kv.get(_CHECKPOINT)
        if value is None:
            return None
        checkpoint = decode(value, Checkpoint)
        keys = (key[1:] for key, _ in self._kv.iterate(b"u"))
        while found := list(islice(keys, _SLICE)):
            self._filter.add(found)
        return checkpoint

    def close(self) -> None:
        """Let go of the database."""
        if self._kv is not None:
            self._kv.close()
            self._kv = None

    # --- reading --------------------------------------------------------------------------------

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        """The latest executed instruction under (sender, id)."""
        found = self._ids.get((sender, id))
        if found is not None or self._kv is None:
            return found
        value = self._kv.get(_id_key(sender, id))
        return None if value is None else InstructionEntry(sender, id, *_id_value.decode(value))

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        """The latest outcome under this UETR."""
        found = self._uetrs.get(uetr)
        if found is not None or self._kv is None:
            return found
        self._filter.complete = True
        if self._filter.lacks(uetr):
            return None
        value = self._kv.get(b"u" + uetr)
        return None if value is None else UetrEntry(uetr, *_uetr_value.decode(value))

    def uetrs_between(self, after: int, through: int) -> Iterable[bytes]:
        """What outcomes named since the last tree of used UETRs, at the checkpoint: the only
        stretch that is ever asked for."""
        value = None if self._kv is None else self._kv.get(_UNTREED)
        uetrs = value or b""
        return (uetrs[i : i + UETR_BYTES] for i in range(0, len(uetrs), UETR_BYTES))

    def node(self, hash: bytes) -> bytes | None:
        """A node of the state map."""
        found = self._nodes.get(hash)
        if found is not None or self._kv is None:
            return found
        return self._kv.get(b"n" + hash)

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Every (state key, record), ascending."""
        changed = self._records
        held = ((key, record) for key, record in sorted(changed.items()) if record is not None)
        if self._kv is None:
            return held
        written = (
            (key[1:], record) for key, record in self._kv.iterate(b"s") if key[1:] not in changed
        )
        return merge(written, held)

    def books(self) -> Iterator[tuple[bytes, bytes]]:
        """What `save` was given of the books."""
        assert self._kv is not None, "there are none before a checkpoint"
        return ((key[1:], value) for key, value in self._kv.iterate(b"k"))

    # --- writing --------------------------------------------------------------------------------

    def add(self, applied: Applied) -> None:
        """Remember what a block executed, used up and changed; before it is committed."""
        for entry in applied.ids:
            self._ids[entry.sender, entry.id] = entry
        uetrs = self._uetrs
        for used in applied.uetrs:
            uetrs[used[0]] = used
        self._records.update(applied.records)
        self._nodes.update(applied.nodes)

    @property
    def held(self) -> int:
        """Entries that are in memory alone."""
        return len(self._uetrs) + len(self._ids) + len(self._records) + len(self._nodes)

    def save(
        self,
        checkpoint: Checkpoint,
        books: Iterable[tuple[bytes, bytes | None]],
        untreed: Iterable[bytes],
    ) -> None:
        """Write all that changed, with the checkpoint, in one synced batch.

        `untreed`: what outcomes named since the last tree of used UETRs."""
        if self._kv is None:
            self._kv = self._open()
        self._filter.add(self._uetrs)
        batch: list[tuple[bytes, bytes | None]] = []
        batch += [(b"u" + uetr, encode(used[1:])) for uetr, used in self._uetrs.items()]
        batch += [(_id_key(*name), encode(entry[2:])) for name, entry in self._ids.items()]
        batch += [(b"s" + key, record) for key, record in self._records.items()]
        root = checkpoint.header.state_root
        batch += [(b"n" + hash, node) for hash, node in _of_state(root, self._nodes)]
        batch += [(b"k" + key, value) for key, value in books]
        batch.append((_UNTREED, b"".join(untreed)))
        batch.append((_CHECKPOINT, encode(checkpoint)))
        self._kv.write(batch, sync=True)
        for held in (self._uetrs, self._ids, self._records, self._nodes):
            held.clear()


def _of_state(root: bytes, nodes: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Those of the nodes that the state with this root has. What is not among them was written
    before, and so was all below it."""
    pending = [root]
    while pending:
        hash = pending.pop()
        node = nodes.get(hash)
        if node is None:
            continue
        yield hash, node
        if node[:1] == _BRANCH:
            children = node[1 : 1 + HASH_BYTES], node[1 + HASH_BYTES :]
            pending += [child for child in children if child != EMPTY]


def _id_key(sender: str, id: str) -> bytes:
    # Neither contains NUL: both are restricted to visible ASCII where they enter.
    return b"i" + sender.encode("ascii") + b"\0" + id.encode("ascii")
