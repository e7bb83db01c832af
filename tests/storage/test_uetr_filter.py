"""The filter of UETRs says "no" only of what is not stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.storage.chain_store import WARM_SLICE, ChainStore
from node.storage.memory import MemoryStore
from node.storage.uetr_filter import UetrFilter
from tests.support.storage import UETRS_PER_BLOCK, commit_each, make_chain, uetr_of
from tests.support.world import uetr

UETRS = st.binary(min_size=16, max_size=16)


@given(st.lists(UETRS), st.lists(UETRS))
def test_nothing_that_was_added_is_ever_lacking(some: list[bytes], more: list[bytes]) -> None:
    known = UetrFilter()
    known.add(some)
    known.complete = True
    known.add(more)
    assert not any(known.lacks(each) for each in (*some, *more))


def test_it_knows_nothing_before_all_that_is_stored_was_read() -> None:
    known = UetrFilter()
    assert not known.lacks(bytes(16))
    known.complete = True
    assert known.lacks(bytes(16))


def test_most_of_what_was_not_added_is_lacking() -> None:
    known = UetrFilter()
    known.complete = True
    known.add(uetr(number) for number in range(10_000))
    assert sum(known.lacks(uetr(number)) for number in range(10_000, 20_000)) > 9_990


def test_a_store_finds_the_same_before_while_and_after_it_is_warmed() -> None:
    chain = make_chain(6)
    kv = MemoryStore()
    store = ChainStore(kv)
    commit_each(store, chain[:3])
    places = [(height, n) for height in range(1, 6) for n in range(UETRS_PER_BLOCK)]

    def found() -> list[bool]:
        return [store.uetr(uetr_of(*place)) is not None for place in places]

    before = found()
    rests: list[list[bool]] = []

    def rest() -> None:
        rests.append(found())
        if len(rests) == 1:
            commit_each(store, chain[3:4])  # beside the reading

    store.warm(rest)
    assert rests[0] == before
    commit_each(store, chain[4:])
    assert found() == [height < 6 for height, _ in places]
    assert store.uetr(uetr(999_999)) is None
    assert len(places) < WARM_SLICE
