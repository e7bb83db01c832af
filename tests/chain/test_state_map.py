"""The state root is a function of content alone, and shows both what is there and what is not."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.chain.encoding import STATE_LEAF, STATE_NODE
from node.chain.merkle import ProofError
from node.chain.state_map import (
    EMPTY,
    BrokenState,
    MapProof,
    Neighbour,
    StateMap,
    key_hash,
    record_digest,
    verify_absent,
    verify_present,
)

KEYS = st.integers(0, 40).map(lambda n: b"key %d" % n)
CHANGES = st.dictionaries(KEYS, st.none() | st.binary(min_size=1, max_size=3), max_size=8)


def naive(content: Mapping[bytes, bytes]) -> bytes:
    """The root by its definition: over bit strings, with no tree kept."""

    def subtree(items: list[tuple[str, bytes]], depth: int) -> bytes:
        if not items:
            return EMPTY
        if len(items) == 1:
            return items[0][1]
        zeros = [i for i in items if i[0][depth] == "0"]
        ones = [i for i in items if i[0][depth] == "1"]
        return sha256(STATE_NODE + subtree(zeros, depth + 1) + subtree(ones, depth + 1)).digest()

    items = []
    for key, record in content.items():
        place = key_hash(key)
        leaf = sha256(STATE_LEAF + place + record_digest(record)).digest()
        items.append((f"{int.from_bytes(place, 'big'):0256b}", leaf))
    return subtree(items, 0)


def applied(
    content: Mapping[bytes, bytes], changes: Mapping[bytes, bytes | None]
) -> dict[bytes, bytes]:
    merged = {**content, **changes}
    return {key: record for key, record in merged.items() if record is not None}


@given(st.lists(CHANGES, max_size=12))
@settings(max_examples=60, deadline=None)
def test_after_any_changes_root_records_and_proofs_are_those_of_the_content(
    steps: list[dict[bytes, bytes | None]],
) -> None:
    state, content = StateMap.empty(), dict[bytes, bytes]()
    stored: dict[bytes, bytes] = {}
    for changes in steps:
        before = state
        made: list[tuple[bytes, bytes]] = []
        state, content = state.update(changes, made), applied(content, changes)
        assert set(state.nodes_since(before)) <= set(made), "an update names every new node"
        assert len({hash for hash, _ in made}) == len(made), "and each once"
        stored.update(made)
        assert state.root == naive(content)
        # Read back from storage alone: nothing that a proof needs was left out.
        loaded = StateMap.load(state.root, stored.get)
        for key in (b"key %d" % n for n in range(41)):
            record, proof = loaded.prove(key)
            assert record == content.get(key) == loaded.get(key) == state.get(key)
            assert state.prove(key) == (record, proof)
            if record is None:
                verify_absent(state.root, key, proof)
            else:
                verify_present(state.root, key, record, proof)


@given(st.dictionaries(KEYS, st.binary(max_size=3), max_size=30), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_no_order_of_insertions_and_deletions_leaves_a_trace(
    content: dict[bytes, bytes], random: Random
) -> None:
    keys = [*content, *(b"passing %d" % n for n in range(10))]
    random.shuffle(keys)
    state = StateMap.empty()
    for key in keys:
        state = state.update({key: content.get(key, b"gone soon")})
    random.shuffle(keys)
    for key in keys:
        if key not in content:
            state = state.update({key: None})
    assert state.root == StateMap.empty().update(content).root == naive(content)


def test_an_update_leaves_the_old_map_as_it_was_so_that_branches_can_share_it() -> None:
    parent = StateMap.empty().update({b"key %d" % n: b"0" for n in range(20)})
    root = parent.root
    left, right = parent.update({b"key 1": b"l"}), parent.update({b"key 1": b"r", b"key 2": None})
    assert parent.root == root
    assert (parent.get(b"key 1"), left.get(b"key 1"), right.get(b"key 1")) == (b"0", b"l", b"r")


def test_changing_nothing_stores_nothing() -> None:
    state = StateMap.empty().update({b"key %d" % n: b"0" for n in range(20)})
    for same in (
        state.update({}),
        state.update({b"key 3": b"0"}),
        state.update({b"absent": None}),
    ):
        assert same.root == state.root
        assert list(same.nodes_since(state)) == []


def test_an_update_hashes_only_the_changed_paths() -> None:
    state = StateMap.empty().update({b"key %d" % n: b"0" for n in range(4096)})
    changed = state.update({b"key 77": b"1"})
    assert len(list(changed.nodes_since(state))) <= 24  # log2 4096, and a few for chance


def test_an_update_of_a_loaded_map_reads_only_the_changed_paths() -> None:
    whole = StateMap.empty().update({b"key %d" % n: b"0" for n in range(4096)})
    stored = dict(whole.nodes_since(StateMap.empty()))
    read: list[bytes] = []

    def get_node(hash: bytes) -> bytes | None:
        read.append(hash)
        return stored.get(hash)

    changes = {b"key 77": b"1", b"key 78": None}
    assert StateMap.load(whole.root, get_node).update(changes).root == whole.update(changes).root
    assert len(read) <= 48


def test_a_map_that_holds_too_much_lets_go_and_loads_again_what_it_needs() -> None:
    content = {b"key %d" % n: b"0" for n in range(4096)}
    stored: dict[bytes, bytes] = {}
    read: list[bytes] = []

    def get_node(hash: bytes) -> bytes | None:
        read.append(hash)
        return stored.get(hash)

    state = StateMap.load(EMPTY, get_node)
    for step in range(20):
        made: list[tuple[bytes, bytes]] = []
        changes: dict[bytes, bytes | None] = (
            dict(content) if step == 0 else {b"key %d" % step: None}
        )
        child, content = state.update(changes, made), applied(content, changes)
        stored.update(made)
        sibling = state.update({b"key 99": b"of a block that is not final yet"})
        before = sibling.root
        child.relieve(held=1_000)
        assert child.root == naive(content)
        assert all(child.get(key) == record for key, record in list(content.items())[::97])
        assert child.get(b"key %d" % step) == content.get(b"key %d" % step)
        assert sibling.get(b"key 99") is not None
        assert sibling.root == before
        state = child
    assert len(read) > 20, "most of it was let go of"
    before_quiet = len(read)
    state.relieve(held=1_000_000)
    state.get(b"key 77")
    assert len(read) - before_quiet <= 24


def test_a_missing_or_changed_stored_node_is_named_and_never_used() -> None:
    state = StateMap.empty().update({b"key %d" % n: b"0" for n in range(8)})
    stored = dict(state.nodes_since(StateMap.empty()))
    with pytest.raises(BrokenState, match=f"{state.root.hex()} is missing"):
        StateMap.load(state.root, lambda hash: None).get(b"key 1")
    for damage in (b"", stored[state.root][:-1], b"\x07" + stored[state.root][1:]):
        with pytest.raises(BrokenState, match="holds no node"):
            StateMap.load(state.root, {**stored, state.root: damage}.get).get(b"key 1")
    other = next(data for hash, data in stored.items() if hash != state.root)
    with pytest.raises(BrokenState, match="holds another node"):
        StateMap.load(state.root, {**stored, state.root: other}.get).get(b"key 1")


STATE = StateMap.empty().update({b"key %d" % n: b"record" for n in range(200)})
SIBLING = bytes(31) + b"\x01"


def _proof_mutations(proof: MapProof) -> list[MapProof]:
    siblings, neighbour = proof.siblings, proof.neighbour
    changed = [MapProof(siblings[:i] + siblings[i + 1 :], neighbour) for i in range(len(siblings))]
    for extra in (EMPTY, SIBLING):
        changed += [
            MapProof((*siblings[:i], extra, *siblings[i:]), neighbour)
            for i in range(len(siblings) + 1)
        ]
    for i in range(len(siblings)):
        flipped = bytes((siblings[i][0] ^ 1,)) + siblings[i][1:]
        changed.append(MapProof((*siblings[:i], flipped, *siblings[i + 1 :]), neighbour))
    changed.append(MapProof(siblings + (EMPTY,) * 300, neighbour))
    if neighbour is None:
        changed.append(MapProof(siblings, Neighbour(key_hash(b"key 1"), record_digest(b"x"))))
    else:
        changed.append(MapProof(siblings, None))
        changed.append(MapProof(siblings, Neighbour(neighbour.key_hash, record_digest(b"x"))))
        changed.append(MapProof(siblings, Neighbour(key_hash(b"x"), neighbour.record_digest)))
    return changed


def test_a_proof_with_any_element_removed_added_or_changed_is_refused() -> None:
    for key in (b"key 1", b"key 2", b"key 3"):
        record, proof = STATE.prove(key)
        assert record is not None
        for changed in _proof_mutations(proof):
            with pytest.raises(ProofError):
                verify_present(STATE.root, key, record, changed)
        with pytest.raises(ProofError):
            verify_present(STATE.root, key, record + b"x", proof)
        with pytest.raises(ProofError):
            verify_present(STATE.root, b"key 4", record, proof)
        with pytest.raises(ProofError):
            verify_absent(STATE.root, key, proof)
    kinds = set()
    for key in (b"absent %d" % n for n in range(30)):
        _, proof = STATE.prove(key)
        kinds.add(proof.neighbour is None)
        for changed in _proof_mutations(proof):
            with pytest.raises(ProofError):
                verify_absent(STATE.root, key, changed)
    assert kinds == {True, False}  # both an empty place and another leaf were seen


def test_a_present_key_cannot_be_shown_absent_by_its_own_or_a_distant_leaf() -> None:
    record, proof = STATE.prove(b"key 1")
    assert record is not None
    own = MapProof(proof.siblings, Neighbour(key_hash(b"key 1"), record_digest(record)))
    with pytest.raises(ProofError, match="it is present"):
        verify_absent(STATE.root, b"key 1", own)
    other, path = STATE.prove(b"key 2")
    assert other is not None
    distant = MapProof(path.siblings, Neighbour(key_hash(b"key 2"), record_digest(other)))
    with pytest.raises(ProofError, match="does not stand where"):
        verify_absent(STATE.root, b"key 1", distant)


def test_the_empty_map_proves_every_absence_and_no_presence() -> None:
    empty = StateMap.empty()
    assert empty.root == EMPTY
    record, proof = empty.prove(b"key")
    assert record is None
    verify_absent(EMPTY, b"key", proof)
    with pytest.raises(ProofError):
        verify_present(EMPTY, b"key", b"", proof)
