"""Proposals and approvals: who decides, by which keys, and until when."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from node.engine.governance_views import proposals_view
from node.ledger.apply import BadBlock
from node.ledger.governance import MAX_OPEN_MS, MAX_OPEN_PROPOSALS
from node.ledger.weight import SIGNATURE_WEIGHT, weight
from node.ledger.work import BlockContext
from tests.support.council import THRESHOLD, Council
from tests.support.ledger_world import BLOCK_MS, DAY_MS, signer


def test_a_proposal_is_open_until_enough_keys_approved_it() -> None:
    council = Council.make()
    proposal = council.propose(council.remove("node3"))
    council.block(proposal)

    (open_one,) = council.chain.state.proposals()
    assert open_one.id == proposal.digest
    assert open_one.proposer == council.world.lei("CENTRALBANK")
    assert open_one.approvals == (council.key("CENTRALBANK").public_key,)
    assert council.chain.state.pending_epoch is None

    council.block(council.approve(proposal.digest))

    assert council.chain.state.proposals() == []
    pending = council.chain.state.pending_epoch
    assert pending is not None
    assert [v.name for v in pending.members] == ["node0", "node1", "node2"]


def test_one_key_is_enough_where_the_threshold_says_so() -> None:
    council = Council.make(threshold=1)
    assert council.reason(council.propose()) is None
    assert council.chain.state.proposals() == []
    assert council.chain.state.pending_epoch is not None


def test_all_keys_that_sign_one_instruction_count() -> None:
    """Two keys of one operator are two approvals: keys decide, not institutions."""
    council = Council.make()
    both = council.world.banks["CENTRALBANK"].signers
    assert council.reason(council.propose(signers=both)) is None
    assert council.chain.state.pending_epoch is not None


def test_keys_that_approved_before_count_once_beside_new_ones() -> None:
    council = Council.make(threshold=3)
    proposal = council.propose()
    council.block(proposal)
    both = council.world.banks["CENTRALBANK"].signers
    assert council.reason(council.approve(proposal.digest, "CENTRALBANK", both)) is None
    assert len(council.chain.state.proposals()[0].approvals) == 2
    assert council.reason(council.approve(proposal.digest, "BANKA")) is None
    assert council.chain.state.pending_epoch is not None


def test_an_approval_of_a_key_that_was_revoked_meanwhile_counts_no_more() -> None:
    council = Council.make()
    proposal = council.propose()
    council.block(proposal)
    first, second = council.world.banks["CENTRALBANK"].signers
    council.block(council.world.revoke_key("CENTRALBANK", first.public_key, signers=[second]))

    council.block(council.approve(proposal.digest, "BANKA"))
    assert council.chain.state.pending_epoch is None
    assert len(council.chain.state.proposals()[0].approvals) == THRESHOLD

    council.block(council.approve(proposal.digest, "BANKB"))
    assert council.chain.state.pending_epoch is not None


def test_a_key_revoked_in_the_very_block_counts_in_it_for_the_last_time() -> None:
    council = Council.make()
    proposal = council.propose()
    first, second = council.world.banks["CENTRALBANK"].signers
    council.block(
        proposal,
        council.world.revoke_key("CENTRALBANK", first.public_key, signers=[second]),
        council.approve(proposal.digest, "BANKA"),
    )
    assert council.chain.state.pending_epoch is not None


def test_a_key_registered_in_the_block_signs_from_the_next_on() -> None:
    council = Council.make()
    proposal = council.propose()
    council.block(proposal)
    new = signer("new key of BANKA")
    register = council.world.register_key("BANKA", new)
    with pytest.raises(BadBlock, match=r"unknown-key|invalid-key"):
        council.chain.make(register, council.approve(proposal.digest, "BANKA", [new]))
    council.block(register)
    council.block(council.approve(proposal.digest, "BANKA", [new]))
    assert council.chain.state.pending_epoch is not None


def test_whoever_has_one_key_of_an_operator_makes_no_further_approvals_of_it() -> None:
    council = Council.make(threshold=3)
    stolen = council.key("BANKA")
    made = [signer("made by a thief", number) for number in range(2)]
    council.block(*(council.world.register_key("BANKA", key, signers=[stolen]) for key in made))
    proposal = council.propose(sender="BANKA", signers=[stolen, *made])
    assert council.reason(proposal) is None
    assert council.chain.state.pending_epoch is None
    (view,) = proposals_view(council.chain.state)
    assert (len(view.approvals), view.approved) == (3, 1)

    council.block(council.approve(proposal.digest, "BANKB"))
    assert council.chain.state.pending_epoch is None
    council.block(council.approve(proposal.digest, "CENTRALBANK"))
    assert council.chain.state.pending_epoch is not None


def test_an_operators_new_key_takes_the_place_of_the_one_that_it_revokes() -> None:
    council = Council.make()
    proposal = council.propose()
    council.block(proposal)
    old, new = council.key("BANKA"), signer("new key of BANKA")
    council.block(council.world.register_key("BANKA", new))
    council.block(council.world.revoke_key("BANKA", old.public_key, signers=[new]))
    council.block(council.approve(proposal.digest, "BANKA", [new]))
    assert council.chain.state.pending_epoch is not None


def test_an_approval_counts_in_the_block_that_is_as_late_as_the_proposal_expires() -> None:
    council = Council.make()
    proposal = council.propose(expires=council.chain.state.time + 2 * BLOCK_MS)
    council.block(proposal)
    assert council.reason(council.approve(proposal.digest)) is None
    assert council.chain.state.pending_epoch is not None


def test_a_proposal_may_be_open_for_30_days() -> None:
    council = Council.make()
    latest = council.chain.state.time + BLOCK_MS + MAX_OPEN_MS
    assert council.reason(council.propose(expires=latest)) is None
    assert len(council.chain.state.proposals()) == 1


def test_expired_proposals_make_room_and_leave_the_state() -> None:
    council = Council.make()
    soon = council.chain.state.time + 2 * BLOCK_MS
    short = [council.propose(expires=soon) for _ in range(MAX_OPEN_PROPOSALS)]
    council.block(*short)
    assert council.reason(council.propose()) == "AM21"
    council.block()
    assert council.chain.state.proposals() == []
    assert len(council.chain.state.stored_proposals()) == MAX_OPEN_PROPOSALS

    another = council.propose(sender="BANKA")
    assert council.reason(another) is None
    assert [each.id for each in council.chain.state.stored_proposals()] == [another.digest]


def test_no_operator_crowds_out_another() -> None:
    council = Council.make()
    council.block(*(council.propose() for _ in range(MAX_OPEN_PROPOSALS)))
    assert council.reason(council.propose()) == "AM21"
    assert council.reason(council.propose(sender="BANKA")) is None


def test_two_proposals_are_told_apart_by_their_envelopes() -> None:
    council = Council.make()
    first, second = council.propose(), council.propose()
    council.block(first, second)
    assert first.digest != second.digest
    council.block(council.approve(second.digest))
    assert [each.id for each in council.chain.state.proposals()] == [first.digest]


def test_a_rejected_decision_leaves_the_proposal_open_for_when_it_fits_again() -> None:
    council = Council.make()
    proposal = council.propose(council.remove("node4"), sender="CENTRALBANK")
    assert council.reason(proposal) == "DS14"
    council.pend(council.add(council.member("node4")))
    proposal = council.propose(council.remove("node4"))
    council.block(proposal)
    council.pend(council.remove("node4"))
    assert council.reason(council.approve(proposal.digest)) == "DS14"
    council.pend(council.add(council.member("node4", keys="second")))
    assert council.reason(council.approve(proposal.digest)) is None
    pending = council.chain.state.pending_epoch
    assert pending is not None
    assert "node4" not in [v.name for v in pending.members]


def test_propose_and_approve_of_one_block_leave_no_proposal_behind() -> None:
    council = Council.make()
    block = council.pend()
    assert council.chain.state.stored_proposals() == []
    assert all(record is not None for record in block.applied.records.values())


def test_payments_and_governance_stand_in_one_block() -> None:
    council = Council.make()
    council.chain.fund(100, "BANKA")
    payment = council.world.payment("BANKA", "BANKB", 60)
    proposal = council.propose()
    block = council.block(
        council.world.pay("BANKA", payment), proposal, council.approve(proposal.digest)
    )
    assert [o.reason for o in block.outcomes] == [None, None, None]
    assert council.chain.balance("BANKB") == 60


def test_proposals_of_two_competing_blocks_do_not_see_each_other() -> None:
    council = Council.make()
    proposal = council.propose()
    with_it = council.chain.make(proposal)
    without = council.chain.make()
    assert with_it.state.proposal(proposal.digest) is not None
    assert without.state.proposal(proposal.digest) is None
    rejected = council.chain.make(council.approve(proposal.digest), parent=without.state)
    assert rejected.outcomes[0].reason == "TD01"
    decided = council.chain.make(council.approve(proposal.digest), parent=with_it.state)
    assert decided.outcomes[0].reason is None
    assert council.chain.state.proposals() == []


def test_an_honest_leaders_block_has_no_more_signatures_to_check_than_payments() -> None:
    council = Council.make()
    council.pend()
    changes = [council.add(council.member(f"new{n}")) for n in range(2)]
    proposal, ready = council.propose(*changes), council.ready(council.founder(0))
    assert weight(council.chain.state, proposal, 1_000) == 1 + 4 * SIGNATURE_WEIGHT
    assert weight(council.chain.state, ready, 1_000) == 1 + SIGNATURE_WEIGHT
    assert weight(council.chain.state, council.approve(proposal.digest), 1_000) == 1
    assert weight(council.chain.state, proposal, 10) == 10, (
        "what no block had room for would never be decided on"
    )
    context = BlockContext(council.chain.state.height + 1, council.chain.state.time + 1)
    made = council.chain.ledger.propose(
        council.chain.state, context, [ready, proposal], 1 << 20, 1 + 5 * SIGNATURE_WEIGHT
    )
    assert made.chosen == [ready]


def test_the_changes_of_a_proposal_are_those_that_were_signed() -> None:
    council = Council.make()
    change = council.add(council.member("node4", address="node4.example:4100"))
    council.block(council.propose(change))
    assert council.chain.state.proposals()[0].changes == (change,)
    moved = replace(change.validator, address="elsewhere.example:4100")
    assert replace(change, validator=moved) != change


def test_an_instruction_of_governance_executes_once() -> None:
    council = Council.make()
    proposal = council.propose(expires=council.chain.state.time + DAY_MS)
    council.block(proposal)
    with pytest.raises(BadBlock, match="already-executed"):
        council.chain.make(proposal)
