"""The authenticated state: a map from keys to records whose root is a function of content alone.

A binary tree over 256-bit key hashes. A subtree without records is EMPTY, one with a single
record *is* that record's leaf, any other is a branch on the next bit of the key hash:

    key hash = digest(STATE_KEY, key)
    leaf     = SHA-256(STATE_LEAF ‖ key hash ‖ digest(STATE_RECORD, record))
    branch   = SHA-256(STATE_NODE ‖ left ‖ right)

No insertion or deletion order can change the shape, and both presence and absence of a key show
in O(log n) hashes. A leaf holds the record's digest, not the record: a proof that a key is absent
may have to show the leaf that stands in its place, and must not show somebody else's balance.

`StateMap` is persistent: an update makes new nodes along the changed paths and shares the rest,
so that several unfinished blocks can each have their own map. Nodes are stored under their hash
and loaded when first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Annotated

from msgspec import Meta

from node.chain.encoding import STATE_KEY, STATE_LEAF, STATE_NODE, STATE_RECORD, digest
from node.chain.merkle import ProofError
from node.chain.types import Bytes32, _Canonical

EMPTY = bytes(32)
"""The hash of a subtree without records."""
HASH_BYTES = 32
MAX_DEPTH = 256
"""Bits of a key hash."""

_LEAF_TAG = b"\x00"
_BRANCH_TAG = b"\x01"

GetNode = Callable[[bytes], bytes | None]
"""Stored bytes of the node with this hash; None if there is none."""


class BrokenState(Exception):
    """A stored node is missing or is not what its hash says: the storage is damaged."""


class Neighbour(_Canonical, frozen=True):
    """The only leaf in the subtree where an absent key would stand."""

    key_hash: Bytes32
    record_digest: Bytes32


class MapProof(_Canonical, frozen=True, tag="map-proof/1"):
    """That a key has a certain record, or none, under a root."""

    siblings: Annotated[tuple[Bytes32, ...], Meta(max_length=MAX_DEPTH)]
    """Root first: the hashes beside the path of the key hash."""
    neighbour: Neighbour | None
    """Only for an absent key whose place another leaf takes."""


# --- nodes ------------------------------------------------------------------------------------


class _Leaf:
    __slots__ = ("hash", "key_hash", "record")

    hash: bytes

    def __init__(self, key_hash: bytes, record: bytes) -> None:
        self.key_hash = key_hash
        self.record = record
        self.hash = _leaf_hash(key_hash, record)


class _Branch:
    __slots__ = ("hash", "left", "right")

    hash: bytes

    def __init__(self, left: _Node, right: _Node) -> None:
        self.left = left
        self.right = right
        self.hash = sha256(
            STATE_NODE
            + (EMPTY if left is None else left.hash)
            + (EMPTY if right is None else right.hash)
        ).digest()


class _Stored:
    """A node that is known by its hash and not yet loaded."""

    __slots__ = ("hash",)

    def __init__(self, hash: bytes) -> None:
        self.hash = hash


_Node = _Leaf | _Branch | _Stored | None
_Change = tuple[bytes, bytes | None]
"""Key hash, and the new record or None."""


def key_hash(key: bytes) -> bytes:
    """Where a key's record stands. `key`: the canonical bytes of a `records.StateKey`."""
    return digest(STATE_KEY, key)


def record_digest(record: bytes) -> bytes:
    """What a leaf holds of its record. `record`: its canonical bytes."""
    return digest(STATE_RECORD, record)


def _leaf_hash(hash: bytes, record: bytes) -> bytes:
    return sha256(STATE_LEAF + hash + sha256(STATE_RECORD + record).digest()).digest()


def _bit(hash: bytes, depth: int) -> int:
    return hash[depth >> 3] >> (7 - (depth & 7)) & 1


def _hash_of(node: _Node) -> bytes:
    return EMPTY if node is None else node.hash


def _node_bytes(node: _Leaf | _Branch) -> bytes:
    if isinstance(node, _Leaf):
        return _LEAF_TAG + node.key_hash + node.record
    return _BRANCH_TAG + _hash_of(node.left) + _hash_of(node.right)


def _build(changes: list[_Change], depth: int) -> _Node:
    """The subtree of these records alone; `changes` is sorted and holds no None."""
    if not changes:
        return None
    if len(changes) == 1:
        hash, record = changes[0]
        assert record is not None
        return _Leaf(hash, record)
    split = _split(changes, depth)
    return _Branch(_build(changes[:split], depth + 1), _build(changes[split:], depth + 1))


def _split(changes: list[_Change], depth: int) -> int:
    """How many of the sorted changes go left at this depth."""
    low, high = 0, len(changes)
    while low < high:
        middle = (low + high) // 2
        if _bit(changes[middle][0], depth):
            high = middle
        else:
            low = middle + 1
    return low


# --- the map ----------------------------------------------------------------------------------


def _no_storage(hash: bytes) -> bytes | None:
    return None


class StateMap:
    """An immutable map of state keys to records, with its root. `update` makes another."""

    __slots__ = ("_get_node", "_top")

    def __init__(self, top: _Node, get_node: GetNode) -> None:
        """Use `empty` or `load`."""
        self._top = top
        self._get_node = get_node

    @classmethod
    def empty(cls) -> StateMap:
        return cls(None, _no_storage)

    @classmethod
    def load(cls, root: bytes, get_node: GetNode) -> StateMap:
        """The map with this root, its nodes loaded when needed. `BrokenState` may then rise."""
        return cls(None if root == EMPTY else _Stored(root), get_node)

    @classmethod
    def subtree(cls, records: Iterable[tuple[bytes, bytes]], depth: int) -> StateMap:
        """The part of a map in which these (key, record) stand, `depth` bits below its top; they
        ascend by key hash and agree in those bits. Only `root` and `nodes_since` mean anything."""
        ordered: list[_Change] = [(key_hash(key), record) for key, record in records]
        return cls(_build(ordered, depth), _no_storage)

    @property
    def root(self) -> bytes:
        """What `Header.state_root` holds."""
        return _hash_of(self._top)

    def _loaded(self, node: _Node) -> _Leaf | _Branch | None:
        if not isinstance(node, _Stored):
            return node
        data = self._get_node(node.hash)
        if data is None:
            raise BrokenState(f"state node {node.hash.hex()} is missing")
        loaded: _Leaf | _Branch
        tag, first, rest = data[:1], data[1 : 1 + HASH_BYTES], data[1 + HASH_BYTES :]
        if tag == _LEAF_TAG and len(first) == HASH_BYTES:
            loaded = _Leaf(first, rest)
        elif tag == _BRANCH_TAG and len(rest) == HASH_BYTES:
            loaded = _Branch(
                None if first == EMPTY else _Stored(first),
                None if rest == EMPTY else _Stored(rest),
            )
        else:
            raise BrokenState(f"state node {node.hash.hex()} holds no node")
        if loaded.hash != node.hash:
            raise BrokenState(
                f"state node {node.hash.hex()} holds another node, {loaded.hash.hex()}"
            )
        return loaded

    def _descend(self, branch: _Branch, bit: int) -> _Leaf | _Branch | None:
        """A child, loaded and kept: the next descent finds it in memory."""
        if bit:
            right = branch.right = self._loaded(branch.right)
            return right
        left = branch.left = self._loaded(branch.left)
        return left

    def _loaded_top(self) -> _Leaf | _Branch | None:
        top = self._top = self._loaded(self._top)
        return top

    def get(self, key: bytes) -> bytes | None:
        """The record under this key."""
        hash = key_hash(key)
        node, depth = self._loaded_top(), 0
        while isinstance(node, _Branch):
            node, depth = self._descend(node, _bit(hash, depth)), depth + 1
        return node.record if node is not None and node.key_hash == hash else None

    def update(self, changes: Mapping[bytes, bytes | None]) -> StateMap:
        """The map after these changes: key → new record, or None to remove it.

        Hashes O(changed · log n) nodes. Removing an absent key changes nothing.
        """
        ordered = sorted((key_hash(key), record) for key, record in changes.items())
        return StateMap(self._apply(self._loaded_top(), ordered, 0), self._get_node)

    def _apply(self, node: _Leaf | _Branch | None, changes: list[_Change], depth: int) -> _Node:
        if not isinstance(node, _Branch):
            return self._replace(node, changes, depth)
        split = _split(changes, depth)
        left, right = node.left, node.right
        if split:
            left = self._apply(self._descend(node, 0), changes[:split], depth + 1)
        if split < len(changes):
            right = self._apply(self._descend(node, 1), changes[split:], depth + 1)
        if left is node.left and right is node.right:
            return node
        # Only a deletion can leave a single leaf here, and only then must a sibling be loaded to
        # see whether it is one.
        if left is None:
            right = self._loaded(right)
            if not isinstance(right, _Branch):
                return right
        elif right is None:
            left = self._loaded(left)
            if not isinstance(left, _Branch):
                return left
        return _Branch(left, right)

    def _replace(self, leaf: _Leaf | None, changes: list[_Change], depth: int) -> _Node:
        """A subtree of at most one leaf after the changes."""
        if leaf is None:
            return _build([c for c in changes if c[1] is not None], depth)
        if len(changes) == 1 and changes[0] == (leaf.key_hash, leaf.record):
            return leaf
        kept = [c for c in changes if c[1] is not None]
        if all(c[0] != leaf.key_hash for c in changes):
            if not kept:
                return leaf
            kept.append((leaf.key_hash, leaf.record))
            kept.sort()
        return _build(kept, depth)

    def nodes_since(self, old: StateMap) -> Iterator[tuple[bytes, bytes]]:
        """(hash, bytes) of every node that this map has and `old` has not: what to store.

        A few nodes of `old` may come again (a leaf that moved down); storing one twice is
        harmless.
        """
        pending: list[tuple[_Node, _Node]] = [(self._top, old._top)]
        while pending:
            new, before = pending.pop()
            if new is None or isinstance(new, _Stored):
                continue  # what is only known by its hash came from the storage
            if before is not None and new.hash == before.hash:
                continue
            yield new.hash, _node_bytes(new)
            if isinstance(new, _Branch):
                if isinstance(before, _Branch):
                    pending += [(new.left, before.left), (new.right, before.right)]
                else:
                    pending += [(new.left, None), (new.right, None)]

    def prove(self, key: bytes) -> tuple[bytes | None, MapProof]:
        """The record under this key, or None, and the proof of either under `root`."""
        hash = key_hash(key)
        siblings: list[bytes] = []
        node = self._loaded_top()
        while isinstance(node, _Branch):
            bit = _bit(hash, len(siblings))
            siblings.append(_hash_of(node.left if bit else node.right))
            node = self._descend(node, bit)
        if node is None:
            return None, MapProof(tuple(siblings), None)
        if node.key_hash == hash:
            return node.record, MapProof(tuple(siblings), None)
        neighbour = Neighbour(node.key_hash, record_digest(node.record))
        return None, MapProof(tuple(siblings), neighbour)


# --- checking proofs --------------------------------------------------------------------------


def verify_present(root: bytes, key: bytes, record: bytes, proof: MapProof) -> None:
    """Check that `key` has exactly this record under `root`. Raises ProofError."""
    if proof.neighbour is not None:
        raise ProofError("a neighbour in a proof of presence")
    hash = key_hash(key)
    _fold(root, hash, _leaf_hash(hash, record), proof.siblings)


def verify_absent(root: bytes, key: bytes, proof: MapProof) -> None:
    """Check that `key` has no record under `root`. Raises ProofError."""
    hash = key_hash(key)
    neighbour = proof.neighbour
    if neighbour is None:
        _fold(root, hash, EMPTY, proof.siblings)
        return
    if neighbour.key_hash == hash:
        raise ProofError("the neighbour is the key itself: it is present")
    if any(_bit(neighbour.key_hash, i) != _bit(hash, i) for i in range(len(proof.siblings))):
        raise ProofError("the neighbour does not stand where the key would")
    leaf = sha256(STATE_LEAF + neighbour.key_hash + neighbour.record_digest).digest()
    _fold(root, hash, leaf, proof.siblings)


def _fold(root: bytes, hash: bytes, node: bytes, siblings: tuple[bytes, ...]) -> None:
    if len(siblings) > MAX_DEPTH:
        raise ProofError(f"{len(siblings)} hashes, more than any path has")
    if siblings and siblings[-1] == EMPTY:
        # A leaf or an empty place beside nothing would not stand this deep.
        raise ProofError("the deepest sibling is empty: no map has this shape")
    for depth in range(len(siblings) - 1, -1, -1):
        sibling = siblings[depth]
        pair = sibling + node if _bit(hash, depth) else node + sibling
        node = sha256(STATE_NODE + pair).digest()
    if node != root:
        raise ProofError(f"the path leads to {node.hex()}, not to {root.hex()}")
