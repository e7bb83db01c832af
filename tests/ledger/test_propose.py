"""A proposer's block holds what fits, in order, and never what may not stand."""

from __future__ import annotations

import pytest

from node.ledger.apply import BlockContext
from node.ledger.propose import FRAME_BYTES, TOO_LARGE
from tests.support.ledger_world import Chain, World


@pytest.fixture
def world() -> World:
    return World.make()


@pytest.fixture
def chain(world: World) -> Chain:
    chain = Chain(world)
    chain.fund(1_000)
    return chain


def context(chain: Chain) -> BlockContext:
    return BlockContext(chain.state.height + 1, chain.state.time + 1)


def test_a_proposal_is_the_block_that_apply_makes(world: World, chain: Chain) -> None:
    candidates = [world.pay("BANKA", world.payment("BANKA", "BANKB", n)) for n in range(5)]
    proposal = chain.ledger.propose(chain.state, context(chain), candidates, 1 << 20, 100)
    applied = chain.ledger.apply(chain.state, context(chain), candidates)
    assert proposal.chosen == candidates
    assert proposal.dropped == []
    assert proposal.applied.outcomes == applied.outcomes
    assert (proposal.applied.state_root, proposal.applied.outcomes_root) == (
        applied.state_root,
        applied.outcomes_root,
    )


def test_a_block_ends_before_the_first_instruction_that_does_not_fit(
    world: World, chain: Chain
) -> None:
    candidates = [
        world.pay("BANKA", *(world.payment("BANKA", "BANKB", 1) for _ in range(size)))
        for size in (3, 4, 4, 1)
    ]
    by_count = chain.ledger.propose(chain.state, context(chain), candidates, 1 << 20, 10)
    assert by_count.chosen == candidates[:2], "the small one does not overtake"
    exactly = sum(len(each.raw) + FRAME_BYTES for each in candidates[:3])
    by_size = chain.ledger.propose(chain.state, context(chain), candidates, exactly, 100)
    assert by_size.chosen == candidates[:3]
    by_size = chain.ledger.propose(chain.state, context(chain), candidates, exactly - 1, 100)
    assert by_size.chosen == candidates[:2]
    assert by_size.dropped == []


def test_an_instruction_larger_than_a_block_is_dropped_and_holds_up_nobody(
    world: World, chain: Chain
) -> None:
    large = world.pay("BANKA", *(world.payment("BANKA", "BANKB", 1) for _ in range(11)))
    small = world.pay("BANKA", world.payment("BANKA", "BANKB", 1))
    proposal = chain.ledger.propose(chain.state, context(chain), [large, small], 1 << 20, 10)
    assert proposal.chosen == [small]
    assert [(each, why.code) for each, why in proposal.dropped] == [(large, TOO_LARGE)]


def test_a_candidate_that_an_earlier_one_makes_impossible_is_rejected_on_the_ledger(
    world: World, chain: Chain
) -> None:
    candidates = [world.pay("BANKA", world.payment("BANKA", "BANKB", 600)) for _ in range(2)]
    proposal = chain.ledger.propose(chain.state, context(chain), candidates, 1 << 20, 10)
    assert proposal.chosen == candidates
    assert proposal.dropped == []


def test_proposing_leaves_the_parent_as_it_was(world: World, chain: Chain) -> None:
    before = list(chain.state.accounts()), chain.state.map.root
    candidate = world.pay("BANKA", world.payment("BANKA", "BANKB", 600))
    for _ in range(2):
        proposal = chain.ledger.propose(chain.state, context(chain), [candidate], 1 << 20, 10)
        assert proposal.chosen == [candidate]
    assert (list(chain.state.accounts()), chain.state.map.root) == before


def test_nothing_to_propose_is_an_empty_block(chain: Chain) -> None:
    proposal = chain.ledger.propose(chain.state, context(chain), [], 1 << 20, 10)
    assert (proposal.chosen, proposal.applied.outcomes) == ([], [])
    assert proposal.applied.state_root == chain.state.map.root
