"""Who takes blocks over from others finds the parts of evidence as who executed them."""

from __future__ import annotations

from node.chain.block import inspect_block
from node.engine.executor import block_info
from node.engine.window import WindowBlock, rebuild
from node.storage.chain_loader import ChainLoader
from node.storage.kv import KeyValueView
from node.storage.memory import MemoryStore
from tests.support.evidence_world import evidence_world
from tests.support.stored_chain import stored

LETTERS = (b"a", b"g", b"j", b"k", b"y")


def indexed(kv: KeyValueView) -> dict[bytes, bytes]:
    """Everything that leads from a payment to its evidence."""
    return {key: value for letter in LETTERS for key, value in kv.iterate(letter)}


def test_what_is_rebuilt_of_blocks_is_what_their_commit_wrote() -> None:
    chain = evidence_world().chain
    executed, taken_over = MemoryStore(), MemoryStore()
    stored(chain, executed)
    loader = ChainLoader(taken_over)
    for height in range(1, len(chain.blocks)):
        raw, outcomes = chain.blocks[height], chain.stored_outcomes[height]
        rebuilt = rebuild(WindowBlock(raw, tuple(outcomes)))
        used = rebuilt.used
        loader.block(
            block_info(inspect_block(raw).header),
            raw,
            outcomes,
            rebuilt.ids,
            used.uetrs,
            changes=used.changes,
            following=used.following,
            about=rebuilt.about,
            joined=used.joined,
            closed=used.closed,
        )
    loader.flush()
    found = indexed(executed)
    assert indexed(taken_over) == found
    assert {key[:1] for key in found} == set(LETTERS)


def test_places_are_read_back_from_a_height_on() -> None:
    made = evidence_world()
    store, many = made.store, made.uetrs["many"]
    places = list(store.outcomes_of(many, 0))
    assert places == sorted(places)
    assert len(places) == 6
    assert list(store.outcomes_of(many, places[2][0])) == places[2:]
    assert list(store.outcomes_of(many, places[-1][0] + 1)) == []
    disputed = list(store.about(made.uetrs["disputed"], 0))
    assert len(disputed) == 4
    assert list(store.about(made.uetrs["disputed"], disputed[1][0])) == disputed[1:]


def test_what_joined_a_cycle_comes_in_order_and_of_that_cycle_alone() -> None:
    made = evidence_world()
    first = list(made.store.joined("EUR", 1))
    names = ["net-settled", "net 2", "net 3", "net-recalled"]
    assert [entry.leaf for entry in first] == [
        made.chain.uetrs[made.uetrs[n]].digest for n in names
    ]
    assert list(made.store.joined("EUR", 99)) == []
    assert made.store.cycle_closed("EUR", 99) is None
    assert list(made.store.joined("EU", 1)) == []
