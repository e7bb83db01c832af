"""A dossier is made from what a store holds; a store that lacks a part is told which."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from node.audit.build import EvidenceUnavailable, build_dossier
from node.audit.dossier import decode_dossier
from node.audit.report import VALID
from node.audit.verify import check_dossier
from tests.support import world
from tests.support.small_chain import SmallChain, sample


def build(chain: SmallChain, number: int) -> bytes:
    return build_dossier(chain, chain.uetrs[world.uetr(number)])


def test_every_uetr_of_the_chain_has_a_valid_dossier() -> None:
    chain = sample()
    assert len(chain.uetrs) == 16
    for entry in chain.uetrs.values():
        report = check_dossier(build_dossier(chain, entry), chain.genesis)
        assert report.verdict == VALID, report.text()


def test_the_same_chain_gives_the_same_bytes() -> None:
    assert build(sample(), 6) == build(sample(), 6)


def test_other_payments_of_a_batch_are_not_in_the_dossier() -> None:
    data = build(sample(), 6)
    payment = decode_dossier(data).payment
    assert payment is not None
    assert payment.payment.uetr == world.uetr(6)
    for other in range(6):
        assert world.uetr(other) not in data


def test_it_speaks_as_of_the_last_final_block_and_shows_no_block_in_vain() -> None:
    heights = {
        number: [block.header.height for block in decode_dossier(build(sample(), number)).blocks]
        for number in (6, 40)
    }
    assert heights == {6: [2, 6], 40: [6]}


def test_the_parent_stands_exactly_where_a_state_before_the_block_is_shown() -> None:
    first, last = decode_dossier(build(sample(), 6)).blocks
    assert first.parent is not None
    assert first.parent.height == 1
    assert last.parent is None


def damaged(change: Callable[[SmallChain], object]) -> SmallChain:
    chain = copy.copy(sample())
    for name in ("blocks", "stored_outcomes", "finalizations", "nodes", "history"):
        setattr(chain, name, dict(getattr(chain, name)))
    change(chain)
    return chain


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.blocks.pop(2), "block 2 is not stored here"),
        (
            lambda c: c.blocks.__setitem__(2, b"\x93" + c.blocks[2][:90]),
            "block 2 is damaged here or not there",
        ),
        (lambda c: c.blocks.pop(1), "header 1"),
        (lambda c: c.stored_outcomes.pop(2), "outcomes of block 2"),
        (lambda c: c.stored_outcomes.__setitem__(2, []), "the index and the block disagree"),
        (
            lambda c: c.stored_outcomes.__setitem__(2, [x + b"!" for x in c.stored_outcomes[2]]),
            "outcome 6 of block 2 is damaged here",
        ),
        (lambda c: c.finalizations.clear(), "a finalization of block 6 or above"),
        (lambda c: c.history.clear(), "history node"),
        (lambda c: c.nodes.clear(), "the state of height . is not whole here: .* is missing"),
        (
            lambda c: c.nodes.pop(c.header(6).state_root),
            "the state of height 6 is not whole here: .* is missing",
        ),
    ],
)
def test_a_missing_part_of_the_store_is_named(
    change: Callable[[SmallChain], object], words: str
) -> None:
    with pytest.raises(EvidenceUnavailable, match=words):
        build(damaged(change), 6)


def test_a_chain_without_blocks_has_no_evidence() -> None:
    with pytest.raises(EvidenceUnavailable, match="a chain is not stored here"):
        build(damaged(lambda c: c.blocks.clear()), 6)


# --- a block that the reader knows ----------------------------------------------------------------


@pytest.mark.parametrize(("height", "pinned"), [(0, True), (3, True), (6, False)])
def test_a_block_below_the_checkpoint_is_pinned(height: int, *, pinned: bool) -> None:
    chain = sample()
    data = build_dossier(chain, chain.uetrs[world.uetr(6)], checkpoint=height)
    found = decode_dossier(data).pinned
    assert (found is not None) == pinned
    assert found is None or found.height == height
    assert check_dossier(data, chain.genesis).verdict == VALID


def test_a_height_that_is_not_final_cannot_be_pinned() -> None:
    chain = sample()
    with pytest.raises(EvidenceUnavailable, match="block 7 is not final here"):
        build_dossier(chain, chain.uetrs[world.uetr(6)], checkpoint=7)
