"""RFC 6962 Merkle trees: roots, inclusion and consistency proofs, and the growing history tree.

A leaf is SHA-256(0x00 ‖ data), an interior node SHA-256(0x01 ‖ left ‖ right), so neither passes
for the other. A root does not bind its size: whoever checks a proof takes the size from where
it was committed (a header's count, a header's height), never from the proof.

Proofs are verified by the algorithms of RFC 9162, 2.1.3.2 and 2.1.4.2, which use up every
element; one too many or too few is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from node.chain.encoding import HISTORY, INSTRUCTION, OUTCOME, PAYMENT

HASH_BYTES = 32
MAX_TREE_SIZE = 2**64 - 1
"""Leaves; sizes and heights are unsigned 64-bit."""
MAX_PROOF = 128
"""Hashes; a consistency proof in the largest tree is shorter."""

LEAF_PREFIX = b"\x00"
NODE_PREFIX = b"\x01"
EMPTY_ROOT = sha256(b"").digest()

INSTRUCTION_LEAF = LEAF_PREFIX + INSTRUCTION
"""Prefix of the leaf of encode(SignedEnvelope) in a block's instruction tree."""
PAYMENT_LEAF = LEAF_PREFIX + PAYMENT
"""Prefix of the leaf of encode(Payment) under `Pay.payments_root`."""
OUTCOME_LEAF = LEAF_PREFIX + OUTCOME
"""Prefix of the leaf of encode(Outcome) in a block's outcome tree."""
HISTORY_LEAF = LEAF_PREFIX + HISTORY
"""Prefix of the leaf of a header digest under a later header's `history_root`."""

GetNode = Callable[[int, int], bytes]
"""get_node(level, index): the root of the complete subtree of 2^level leaves that starts at leaf
index · 2^level."""


class ProofError(ValueError):
    """A proof that does not show what it should; the text says why."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf. Callers put a domain prefix (`PAYMENT_LEAF`, …) before the content."""
    return sha256(LEAF_PREFIX + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an interior node."""
    return sha256(NODE_PREFIX + left + right).digest()


def history_leaf(header_digest: bytes) -> bytes:
    """The leaf of a block in the history tree."""
    return sha256(HISTORY_LEAF + header_digest).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over these leaves, in order."""
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    while len(level) > 1:
        level = _above(level)
    return level[0]


def _above(level: list[bytes]) -> list[bytes]:
    """The next level of a tree. A last node without a sibling moves up unhashed: the same tree as
    RFC 6962's split at the largest power of two."""
    prefix, hashed = NODE_PREFIX, sha256
    pairs = iter(level)
    above = [
        hashed(prefix + left + right).digest() for left, right in zip(pairs, pairs, strict=False)
    ]
    if len(level) & 1:
        above.append(level[-1])
    return above


# --- making proofs ----------------------------------------------------------------------------


def _complete_subtrees(leaf_hashes: Sequence[bytes]) -> GetNode:
    levels = [list(leaf_hashes)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append(
            [node_hash(below[i], below[i + 1]) for i in range(0, len(below) - len(below) % 2, 2)]
        )
    return lambda level, index: levels[level][index]


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The path from leaf `index` to the root, lowest sibling first (RFC 6962, 2.1.1)."""
    return Tree(leaf_hashes).path(index)


class Tree:
    """A whole tree in memory, for the paths of several of its leaves."""

    __slots__ = ("_levels",)

    def __init__(self, leaf_hashes: Sequence[bytes]) -> None:
        self._levels = [list(leaf_hashes)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_above(self._levels[-1]))

    def path(self, index: int) -> list[bytes]:
        """As `inclusion_proof`."""
        size = len(self._levels[0])
        if not 0 <= index < size:
            raise ProofError(f"leaf {index} is not in a tree of {size}")
        siblings = [(level, index >> height ^ 1) for height, level in enumerate(self._levels)]
        # A node without a sibling moves up unhashed; the root has none.
        return [level[sibling] for level, sibling in siblings if sibling < len(level)]


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """That the tree of the first `old_size` leaves grew into this one (RFC 6962, 2.1.2)."""
    return stored_consistency_proof(_complete_subtrees(leaf_hashes), old_size, len(leaf_hashes))


def _split(size: int) -> int:
    """The largest power of two below `size`: where RFC 6962 divides a tree."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(get_node: GetNode, first: int, size: int) -> bytes:
    """The root over `size` leaves from `first`, a multiple of the power of two that holds them."""
    level = size.bit_length() - 1
    if size == 1 << level:
        return get_node(level, first >> level)
    split = _split(size)
    return node_hash(
        _range_root(get_node, first, split), _range_root(get_node, first + split, size - split)
    )


def stored_inclusion_proof(get_node: GetNode, index: int, size: int) -> list[bytes]:
    """`inclusion_proof` from stored complete subtrees, in O(log² size) look-ups."""
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    path: list[bytes] = []
    first = 0
    while size > 1:
        split = _split(size)
        if index < split:
            path.append(_range_root(get_node, first + split, size - split))
            size = split
        else:
            path.append(_range_root(get_node, first, split))
            first, index, size = first + split, index - split, size - split
    path.reverse()
    return path


def stored_consistency_proof(get_node: GetNode, old_size: int, new_size: int) -> list[bytes]:
    """`consistency_proof` from stored complete subtrees."""
    if not 0 <= old_size <= new_size:
        raise ProofError(f"a tree of {old_size} does not grow into one of {new_size}")
    if old_size in (0, new_size):
        return []
    path: list[bytes] = []
    first, old, size = 0, old_size, new_size
    whole = True  # is the old tree, seen so far, exactly a subtree whose root the verifier has?
    while old != size:
        split = _split(size)
        if old <= split:
            path.append(_range_root(get_node, first + split, size - split))
            size = split
        else:
            path.append(_range_root(get_node, first, split))
            first, old, size = first + split, old - split, size - split
            whole = False
    if not whole:
        path.append(_range_root(get_node, first, size))
    path.reverse()
    return path


# --- checking proofs --------------------------------------------------------------------------


def _check_shape(proof: Sequence[bytes], *hashes: bytes) -> None:
    if len(proof) > MAX_PROOF:
        raise ProofError(f"{len(proof)} hashes, more than any proof has")
    if any(len(h) != HASH_BYTES for h in (*hashes, *proof)):
        raise ProofError(f"a hash that does not have {HASH_BYTES} bytes")


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> None:
    """Check that the leaf hash stands at `index` in the tree of `size` leaves with this root.

    Raises ProofError. Source: RFC 9162, 2.1.3.2.
    """
    _check_shape(proof, leaf, expected_root)
    if not 0 <= index < size <= MAX_TREE_SIZE:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    at, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("more hashes than the path has")
        if at & 1 or at == last:
            computed = node_hash(sibling, computed)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("fewer hashes than the path has")
    if computed != expected_root:
        raise ProofError(f"the path leads to {computed.hex()}, not to {expected_root.hex()}")


def verify_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Check that the old tree's leaves are the first leaves of the new tree.

    Raises ProofError. Source: RFC 9162, 2.1.4.2.
    """
    _check_shape(proof, old_root, new_root)
    if not 0 <= old_size <= new_size <= MAX_TREE_SIZE:
        raise ProofError(f"a tree of {old_size} does not grow into one of {new_size}")
    if old_size in (0, new_size):
        if proof:
            raise ProofError("hashes in a proof that needs none")
        if old_size == 0 and old_root != EMPTY_ROOT:
            raise ProofError("the root of no leaves is another")
        if old_size == new_size and old_root != new_root:
            raise ProofError("two roots for trees of one size")
        return
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise ProofError("fewer hashes than the path has")
    at, last = old_size - 1, new_size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("more hashes than the path has")
        if at & 1 or at == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("fewer hashes than the path has")
    if old != old_root:
        raise ProofError(f"the path leads to the old root {old.hex()}, not to {old_root.hex()}")
    if new != new_root:
        raise ProofError(f"the path leads to the new root {new.hex()}, not to {new_root.hex()}")


# --- the history tree -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a growing tree: all that is needed to append and to know the root."""

    size: int = 0
    """Leaves."""
    peaks: tuple[bytes, ...] = ()
    """Roots of the complete subtrees, largest first: one per set bit of `size`."""

    def append(self, leaf: bytes) -> tuple[Frontier, list[tuple[tuple[int, int], bytes]]]:
        """The frontier with one leaf more, and the complete subtrees that the leaf completed.

        Those are ((level, index), hash) from the leaf itself (level 0) upwards; stored, they
        serve the proofs of every later size.
        """
        nodes = [((0, self.size), leaf)]
        peaks = list(self.peaks)
        computed, level = leaf, 0
        while self.size >> level & 1:
            computed = node_hash(peaks.pop(), computed)
            level += 1
            nodes.append(((level, self.size >> level), computed))
        peaks.append(computed)
        return Frontier(self.size + 1, tuple(peaks)), nodes

    def root(self) -> bytes:
        """The tree's root."""
        if not self.peaks:
            return EMPTY_ROOT
        computed = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            computed = node_hash(peak, computed)
        return computed

    @classmethod
    def load(cls, size: int, get_node: GetNode) -> Frontier:
        """The frontier of the first `size` leaves from stored complete subtrees."""
        levels = [level for level in range(size.bit_length()) if size >> level & 1]
        return cls(
            size,
            tuple(get_node(level, (size >> level) - 1) for level in reversed(levels)),
        )
