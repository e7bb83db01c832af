"""A dossier is made from what a store holds; a store that lacks a part is told which."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from node.audit.build import EvidenceUnavailable, build_dossier
from node.audit.dossier import decode_dossier
from node.audit.report import VALID
from node.audit.verify import check_dossier
from node.chain.state_map import BrokenState
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


def damaged(change: Callable[[SmallChain], object]) -> SmallChain:
    chain = copy.copy(sample())
    for name in ("blocks", "stored_outcomes", "finalizations", "nodes", "history"):
        setattr(chain, name, dict(getattr(chain, name)))
    change(chain)
    return chain


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.blocks.pop(2), "block 2"),
        (lambda c: c.blocks.pop(1), "header 1"),
        (lambda c: c.blocks.pop(4), "header 4"),
        (lambda c: c.stored_outcomes.pop(2), "outcomes of block 2"),
        (lambda c: c.stored_outcomes.__setitem__(2, []), "the index and the block disagree"),
        (lambda c: c.finalizations.clear(), "a finalization of block 2 or above"),
        (lambda c: c.history.clear(), "history node"),
    ],
)
def test_a_missing_part_of_the_store_is_named(
    change: Callable[[SmallChain], object], words: str
) -> None:
    with pytest.raises(EvidenceUnavailable, match=words):
        build(damaged(change), 6)


def test_a_missing_state_node_is_named() -> None:
    with pytest.raises(BrokenState, match="is missing"):
        build(damaged(lambda c: c.nodes.clear()), 6)
