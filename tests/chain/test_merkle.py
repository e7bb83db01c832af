"""RFC 6962 trees against published proofs and against the definition, word by word."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.chain.merkle import (
    EMPTY_ROOT,
    Frontier,
    ProofError,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root,
    stored_consistency_proof,
    stored_inclusion_proof,
    verify_consistency,
    verify_inclusion,
)
from tests.support.golden import naive_root

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "rfc6962_proofs.json").read_text()
)
LEAVES = [leaf_hash(b"leaf %d" % i) for i in range(70)]
SIZES = st.integers(1, len(LEAVES))


def _bytes(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def _accepts(check: Any, *arguments: Any) -> bool:
    try:
        check(*arguments)
    except ProofError:
        return False
    return True


def test_all_published_inclusion_proofs_are_decided_as_published() -> None:
    assert len(VECTORS["inclusion"]) == 49
    for v in VECTORS["inclusion"]:
        proof = [_bytes(h) for h in v["proof"] or []]
        accepted = _accepts(
            verify_inclusion,
            _bytes(v["leafHash"]),
            v["leafIdx"],
            v["treeSize"],
            proof,
            _bytes(v["root"]),
        )
        assert accepted is not v["wantErr"], v["file"]


def test_all_published_consistency_proofs_are_decided_as_published() -> None:
    assert len(VECTORS["consistency"]) == 43
    for v in VECTORS["consistency"]:
        proof = [_bytes(h) for h in v["proof"] or []]
        accepted = _accepts(
            verify_consistency,
            v["size1"],
            v["size2"],
            proof,
            _bytes(v["root1"]),
            _bytes(v["root2"]),
        )
        assert accepted is not v["wantErr"], v["file"]


def test_roots_are_those_of_the_definition_and_a_frontier_grows_into_the_same() -> None:
    frontier = Frontier()
    stored: dict[tuple[int, int], bytes] = {}
    for size in range(len(LEAVES) + 1):
        expected = naive_root(LEAVES[:size])
        assert root(LEAVES[:size]) == frontier.root() == expected
        assert Frontier.load(size, lambda level, index: stored[level, index]) == frontier
        if size < len(LEAVES):
            frontier, nodes = frontier.append(LEAVES[size])
            assert not stored.keys() & {place for place, _ in nodes}  # each is stored once
            stored.update(nodes)
    assert root([]) == EMPTY_ROOT


def _stored(size: int) -> dict[tuple[int, int], bytes]:
    frontier = Frontier()
    stored: dict[tuple[int, int], bytes] = {}
    for leaf in LEAVES[:size]:
        frontier, nodes = frontier.append(leaf)
        stored.update(nodes)
    return stored


def test_every_inclusion_proof_of_every_small_tree_verifies() -> None:
    nodes = _stored(len(LEAVES))
    for size in range(1, 34):
        leaves = LEAVES[:size]
        for index in range(size):
            proof = inclusion_proof(leaves, index)
            assert stored_inclusion_proof(lambda lv, i: nodes[lv, i], index, size) == proof
            verify_inclusion(leaves[index], index, size, proof, naive_root(leaves))


def test_every_consistency_proof_of_every_small_tree_verifies() -> None:
    nodes = _stored(len(LEAVES))
    for new in range(34):
        for old in range(new + 1):
            proof = consistency_proof(LEAVES[:new], old)
            assert stored_consistency_proof(lambda lv, i: nodes[lv, i], old, new) == proof
            verify_consistency(old, new, proof, naive_root(LEAVES[:old]), naive_root(LEAVES[:new]))


def _mutations(proof: list[bytes]) -> list[list[bytes]]:
    changed: list[list[bytes]] = []
    for i in range(len(proof)):
        changed.append(proof[:i] + proof[i + 1 :])
        changed.append([*proof[:i], bytes((proof[i][0] ^ 1,)) + proof[i][1:], *proof[i + 1 :]])
        changed.append([*proof[:i], proof[i][:-1], *proof[i + 1 :]])
        if i and proof[i] != proof[i - 1]:
            changed.append([*proof[: i - 1], proof[i], proof[i - 1], *proof[i + 1 :]])
    for i in range(len(proof) + 1):
        changed.append([*proof[:i], bytes(32), *proof[i:]])
        changed.append([*proof[:i], *proof[max(0, i - 1) : i], *proof[i:], LEAVES[0]])
    return changed


@given(SIZES.flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))))
def test_an_inclusion_proof_with_an_element_removed_added_changed_or_swapped_is_refused(
    place: tuple[int, int],
) -> None:
    size, index = place
    leaves = LEAVES[:size]
    expected = root(leaves)
    proof = inclusion_proof(leaves, index)
    for changed in _mutations(proof):
        assert not _accepts(verify_inclusion, leaves[index], index, size, changed, expected)
    for other in range(size):
        if other != index:
            assert not _accepts(verify_inclusion, leaves[index], other, size, proof, expected)


@given(SIZES.flatmap(lambda new: st.tuples(st.just(new), st.integers(0, new))))
def test_a_consistency_proof_with_an_element_removed_added_changed_or_swapped_is_refused(
    sizes: tuple[int, int],
) -> None:
    new, old = sizes
    old_root, new_root = root(LEAVES[:old]), root(LEAVES[:new])
    proof = consistency_proof(LEAVES[:new], old)
    for changed in _mutations(proof):
        assert not _accepts(verify_consistency, old, new, changed, old_root, new_root)
    if old:
        assert not _accepts(verify_consistency, old, new, proof, LEAVES[-1], new_root)
        assert not _accepts(verify_consistency, old, new, proof, old_root, LEAVES[-1])


def test_sizes_and_indices_outside_a_tree_are_refused_and_not_computed() -> None:
    for index, size in ((-1, 1), (1, 1), (0, 0), (0, 2**64), (2**64, 2**64 + 1)):
        with pytest.raises(ProofError, match="not in a tree"):
            verify_inclusion(LEAVES[0], index, size, [], LEAVES[0])
    for old, new in ((-1, 1), (2, 1), (0, 2**64)):
        with pytest.raises(ProofError, match="does not grow"):
            verify_consistency(old, new, [], LEAVES[0], LEAVES[0])
    with pytest.raises(ProofError, match="more than any proof"):
        verify_inclusion(LEAVES[0], 0, 2, [LEAVES[0]] * 1_000, LEAVES[0])
