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
so that several unfinished blocks can each have their own map. Nodes are stored under their hash,
loaded when first needed, and let go of when too many are held.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Annotated, final

import msgspec
from msgspec import Meta

from node.chain.encoding import STATE_KEY, STATE_LEAF, STATE_NODE, STATE_RECORD, digest
from node.chain.merkle import ProofError
from node.chain.types import Bytes32, _Canonical

EMPTY = bytes(32)
"""The hash of a subtree without records."""
HASH_BYTES = 32
MAX_DEPTH = 256
"""Bits of a key hash."""

MAX_HELD = 300_000
"""Nodes that a map holds in memory before `relieve` lets go of most: about 80 MiB."""

_BITS = tuple(1 << bit for bit in range(MAX_DEPTH + 1))
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

# Structs because a block makes tens of thousands; without `gc`, because a tree has no cycles.


@final
class _Leaf(msgspec.Struct, eq=False, gc=False):
    key_hash: bytes
    record: bytes
    hash: bytes


@final
class _Branch(msgspec.Struct, eq=False, gc=False):
    left: _Node
    right: _Node
    hash: bytes


@final
class _Stored(msgspec.Struct, eq=False, gc=False):
    """A node that is known by its hash and not yet loaded."""

    hash: bytes


_Loaded = _Leaf | _Branch
_Node = _Leaf | _Branch | _Stored | None
Made = list[tuple[bytes, bytes]]
"""(hash, bytes) of nodes to store."""


def key_hash(key: bytes) -> bytes:
    """Where a key's record stands. `key`: the canonical bytes of a `records.StateKey`."""
    return digest(STATE_KEY, key)


def record_digest(record: bytes) -> bytes:
    """What a leaf holds of its record. `record`: its canonical bytes."""
    return digest(STATE_RECORD, record)


def _leaf_hash(hash: bytes, record: bytes) -> bytes:
    return sha256(STATE_LEAF + hash + sha256(STATE_RECORD + record).digest()).digest()


def _leaf(hash: bytes, record: bytes | None) -> _Leaf | None:
    if record is None:
        return None
    digest = sha256(STATE_RECORD + record).digest()
    return _Leaf(hash, record, sha256(STATE_LEAF + hash + digest).digest())


def _bit(hash: bytes, depth: int) -> int:
    return hash[depth >> 3] >> (7 - (depth & 7)) & 1


def _hash_of(node: _Node) -> bytes:
    return EMPTY if node is None else node.hash


def _node_bytes(node: _Leaf | _Branch) -> bytes:
    if type(node) is _Leaf:
        return _LEAF_TAG + node.key_hash + node.record
    assert type(node) is _Branch
    return _BRANCH_TAG + _hash_of(node.left) + _hash_of(node.right)


class _Update:
    """Changes on their way into a tree. All of a block's records pass here, so it saves calls: key
    hashes are split as integers, leaves are made all at once, a change alone on its path is a
    loop, branches are made in place."""

    __slots__ = ("_hashes", "_leaves", "_load", "_moved", "_next", "_places", "_unchanged", "made")

    def __init__(
        self, changes: Iterable[tuple[bytes, bytes | None]], load: Callable[[_Stored], _Loaded]
    ) -> None:
        """`changes`: (key, record or None), each key once. `load`: a node known by its hash."""
        changed = {sha256(STATE_KEY + key).digest(): record for key, record in changes}
        self._hashes = sorted(changed)
        self._places = [int.from_bytes(hash, "big") for hash in self._hashes]
        self._leaves = [_leaf(hash, changed[hash]) for hash in self._hashes]
        """None: removed."""
        self._next = 0
        """Index of the first change that is not in the tree yet."""
        self._unchanged: set[int] = set()
        """Indices of leaves that stood there before."""
        self._moved: dict[bytes, _Leaf] = {}
        """Leaves, by hash, that stand higher or lower than before. They are made once more: the
        pruner takes a node that a state has no longer in its place for one that may go."""
        self._load = load
        self.made: Made = []
        """Every node made, each once."""

    def apply_to(self, top: _Loaded | None, depth: int) -> _Node:
        """The tree under `top`, which stands at this depth, after the changes."""
        if not self._places:
            return top
        shift = MAX_DEPTH - depth
        base = self._places[0] >> shift << shift
        self._places += [_BITS[MAX_DEPTH]] * 2  # beyond every place, so that none need be asked for
        changed = self._apply(top, base, shift - 1)
        assert self._next == len(self._leaves), "a change lies outside of the tree"
        unchanged = self._unchanged
        leaves = [
            leaf
            for index, leaf in enumerate(self._leaves)
            if leaf is not None and index not in unchanged
        ]
        if self._moved:
            for leaf in leaves:
                self._moved.pop(leaf.hash, None)
            leaves += self._moved.values()
        self.made += [(leaf.hash, _LEAF_TAG + leaf.key_hash + leaf.record) for leaf in leaves]
        return changed

    def _apply(self, node: _Loaded | None, base: int, shift: int) -> _Node:
        """The subtree after its changes, at least one. It holds the places from `base` on that
        agree with it above bit `shift`."""
        places, index = self._places, self._next
        end = base + _BITS[shift + 1]
        if places[index + 1] >= end:
            self._next = index + 1
            leaf = self._leaves[index]
            if type(node) is _Leaf and leaf is not None and node.key_hash == leaf.key_hash:
                if node.hash != leaf.hash:
                    return leaf
                self._unchanged.add(index)
                return node
            return self._apply_one(node, index, shift)
        if type(node) is not _Branch:
            self._next = bisect_left(places, end, index)
            return self._merge(node, index, self._next, MAX_DEPTH - 1 - shift)
        middle = base + _BITS[shift]
        left = new_left = node.left
        if places[index] < middle:
            if type(left) is _Stored:
                left = node.left = self._load(left)
            new_left = self._apply(left, base, shift - 1)
        right = new_right = node.right
        if places[self._next] < end:
            if type(right) is _Stored:
                right = node.right = self._load(right)
            new_right = self._apply(right, middle, shift - 1)
        if new_left is left and new_right is right:
            return node
        if new_left is None or new_right is None:
            return self._joined(new_left, new_right)
        pair = new_left.hash + new_right.hash
        hash = sha256(STATE_NODE + pair).digest()
        self.made.append((hash, _BRANCH_TAG + pair))
        return _Branch(new_left, new_right, hash)

    def _apply_one(self, top: _Loaded | None, index: int, shift: int) -> _Node:
        """The subtree after one change."""
        place = self._places[index]
        path: list[_Branch] = []
        node = top
        while type(node) is _Branch:
            path.append(node)
            if place >> shift & 1:
                child = node.right
                if type(child) is _Stored:
                    child = node.right = self._load(child)
            else:
                child = node.left
                if type(child) is _Stored:
                    child = node.left = self._load(child)
            node = child
            shift -= 1
        new = self._replace(node, index, MAX_DEPTH - 1 - shift)
        if new is node:
            return top
        made = self.made
        for branch in reversed(path):
            shift += 1
            if place >> shift & 1:
                left, right = branch.left, new
            else:
                left, right = new, branch.right
            if left is None or right is None:
                new = self._joined(left, right)
            else:
                pair = left.hash + right.hash
                hash = sha256(STATE_NODE + pair).digest()
                made.append((hash, _BRANCH_TAG + pair))
                new = _Branch(left, right, hash)
        return new

    def _replace(self, leaf: _Leaf | None, index: int, depth: int) -> _Node:
        """The subtree of at most this leaf after one change."""
        new = self._leaves[index]
        if leaf is None:
            return new
        if leaf.key_hash != self._hashes[index]:
            return leaf if new is None else self._merge(leaf, index, index + 1, depth)
        if new is not None and new.hash == leaf.hash:
            self._unchanged.add(index)
            return leaf
        return new

    def _merge(self, leaf: _Leaf | None, low: int, high: int, depth: int) -> _Node:
        """The subtree of at most this leaf after some changes."""
        placed: list[tuple[int, _Leaf]] = []
        for index in range(low, high):
            new = self._leaves[index]
            if leaf is not None and leaf.key_hash == self._hashes[index]:
                if new is not None and new.hash == leaf.hash:
                    self._unchanged.add(index)
                    continue
                leaf = None  # this change takes its place
            if new is not None:
                placed.append((self._places[index], new))
        if leaf is not None:
            if not placed:
                return leaf
            self._moved[leaf.hash] = leaf
            insort(placed, (int.from_bytes(leaf.key_hash, "big"), leaf))
        places = [place for place, _ in placed]
        return self._build(places, [each for _, each in placed], 0, len(places), depth)

    def _build(
        self, places: list[int], leaves: list[_Leaf], low: int, high: int, depth: int
    ) -> _Node:
        """The subtree of these leaves alone."""
        if high - low < 2:
            return leaves[low] if high > low else None
        split = _split(places, low, high, depth)
        left = self._build(places, leaves, low, split, depth + 1)
        right = self._build(places, leaves, split, high, depth + 1)
        return self._branch(left, right)

    def _branch(self, left: _Node, right: _Node) -> _Branch:
        pair = (EMPTY if left is None else left.hash) + (EMPTY if right is None else right.hash)
        hash = sha256(STATE_NODE + pair).digest()
        self.made.append((hash, _BRANCH_TAG + pair))
        return _Branch(left, right, hash)

    def _joined(self, left: _Node, right: _Node) -> _Node:
        """What stands over these two after a change to either.

        Only a deletion can leave a single leaf, which stands as high as it can; and only where
        one side is empty must the other be loaded, to see whether it is one."""
        if left is None or right is None:
            only = right if left is None else left
            if type(only) is _Stored:
                only = self._load(only)
            if type(only) is not _Branch:
                if type(only) is _Leaf:
                    self._moved[only.hash] = only
                return only
            left, right = (None, only) if left is None else (only, None)
        return self._branch(left, right)


def _split(places: list[int], low: int, high: int, depth: int) -> int:
    """Where in places[low:high], which ascend and agree above this depth, the right side begins."""
    shift = MAX_DEPTH - 1 - depth
    return bisect_left(places, (places[low] >> shift | 1) << shift, low, high)


# --- the map ----------------------------------------------------------------------------------


def _no_storage(hash: bytes) -> bytes | None:
    return None


def _nothing_stored(node: _Stored) -> _Loaded:
    raise AssertionError("a tree made from nothing knows no node by its hash alone")


class _Held:
    """About how many nodes a map and those made from it hold in memory."""

    __slots__ = ("nodes",)

    def __init__(self) -> None:
        self.nodes = 0


class StateMap:
    """An immutable map of state keys to records, with its root. `update` makes another."""

    __slots__ = ("_get_node", "_held", "_top")

    def __init__(self, top: _Node, get_node: GetNode, held: _Held) -> None:
        """Use `empty` or `load`."""
        self._top = top
        self._get_node = get_node
        self._held = held

    @classmethod
    def empty(cls) -> StateMap:
        return cls(None, _no_storage, _Held())

    @classmethod
    def load(cls, root: bytes, get_node: GetNode) -> StateMap:
        """The map with this root, its nodes loaded when needed. `BrokenState` may then rise."""
        return cls(None if root == EMPTY else _Stored(root), get_node, _Held())

    @classmethod
    def subtree(cls, records: Iterable[tuple[bytes, bytes]], depth: int) -> StateMap:
        """The part of a map in which these (key, record) stand, `depth` bits below its top; they
        ascend by key hash and agree in those bits. Only `root` and `nodes_since` mean anything."""
        changes = _Update(records, _nothing_stored)
        return cls(changes.apply_to(None, depth), _no_storage, _Held())

    @property
    def root(self) -> bytes:
        """What `Header.state_root` holds."""
        return _hash_of(self._top)

    def _load(self, node: _Stored) -> _Loaded:
        data = self._get_node(node.hash)
        if data is None:
            raise BrokenState(f"state node {node.hash.hex()} is missing")
        loaded: _Loaded
        tag, first, rest = data[:1], data[1 : 1 + HASH_BYTES], data[1 + HASH_BYTES :]
        if tag == _LEAF_TAG and len(first) == HASH_BYTES:
            loaded = _Leaf(first, rest, _leaf_hash(first, rest))
        elif tag == _BRANCH_TAG and len(rest) == HASH_BYTES:
            loaded = _Branch(
                None if first == EMPTY else _Stored(first),
                None if rest == EMPTY else _Stored(rest),
                sha256(STATE_NODE + first + rest).digest(),
            )
        else:
            raise BrokenState(f"state node {node.hash.hex()} holds no node")
        if loaded.hash != node.hash:
            raise BrokenState(
                f"state node {node.hash.hex()} holds another node, {loaded.hash.hex()}"
            )
        self._held.nodes += 1
        return loaded

    def _descend(self, branch: _Branch, bit: int) -> _Loaded | None:
        """A child, loaded and kept: the next descent finds it in memory."""
        child = branch.right if bit else branch.left
        if type(child) is not _Stored:
            return child
        loaded = self._load(child)
        if bit:
            branch.right = loaded
        else:
            branch.left = loaded
        return loaded

    def _loaded_top(self) -> _Loaded | None:
        top = self._top
        if type(top) is _Stored:
            top = self._top = self._load(top)
        return top

    def get(self, key: bytes) -> bytes | None:
        """The record under this key."""
        hash = key_hash(key)
        node, depth = self._loaded_top(), 0
        while type(node) is _Branch:
            node, depth = self._descend(node, _bit(hash, depth)), depth + 1
        return node.record if type(node) is _Leaf and node.key_hash == hash else None

    def update(self, changes: Mapping[bytes, bytes | None], made: Made | None = None) -> StateMap:
        """The map after these changes: key → new record, or None to remove it.

        Hashes O(changed · log n) nodes. Removing an absent key changes nothing. The nodes that
        are new are added to `made`: what to store, if all of this map is stored.
        """
        update = _Update(changes.items(), self._load)
        top = update.apply_to(self._loaded_top(), 0)
        if made is not None:
            made += update.made
        self._held.nodes += len(update.made)
        return StateMap(top, self._get_node, self._held)

    def relieve(self, held: int = MAX_HELD) -> None:
        """Let go of the lower nodes if more than `held` are in memory; they are loaded again when
        needed. For a map whose every node is stored, as that of the committed state is."""
        if self._held.nodes <= held or self._get_node is _no_storage:
            return
        top = self._top
        level, kept = [top] if type(top) is _Branch else [], 1
        while level and kept <= held // 16:
            children = (child for branch in level for child in (branch.left, branch.right))
            level = [child for child in children if type(child) is _Branch]
            kept += 2 * len(level)
        for branch in level:
            if branch.left is not None:
                branch.left = _Stored(branch.left.hash)
            if branch.right is not None:
                branch.right = _Stored(branch.right.hash)
        self._held.nodes = kept

    def nodes_since(self, old: StateMap) -> Iterator[tuple[bytes, bytes]]:
        """(hash, bytes) of every node that this map has and `old` has not: what to store.

        A few nodes of `old` may come again (a leaf that moved down); storing one twice is
        harmless.
        """
        pending: list[tuple[_Node, _Node]] = [(self._top, old._top)]
        while pending:
            new, before = pending.pop()
            if new is None or type(new) is _Stored:
                continue  # what is only known by its hash came from the storage
            if before is not None and new.hash == before.hash:
                continue
            yield new.hash, _node_bytes(new)
            if type(new) is _Branch:
                if type(before) is _Branch:
                    pending += [(new.left, before.left), (new.right, before.right)]
                else:
                    pending += [(new.left, None), (new.right, None)]

    def prove(self, key: bytes) -> tuple[bytes | None, MapProof]:
        """The record under this key, or None, and the proof of either under `root`."""
        hash = key_hash(key)
        siblings: list[bytes] = []
        node = self._loaded_top()
        while type(node) is _Branch:
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
