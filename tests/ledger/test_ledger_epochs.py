"""From an approved proposal to the next epoch: readiness, the deadline, the block that seals."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from node.chain.block import validator_set_digest
from node.chain.encoding import encode
from node.chain.records import ValidatorSetKey
from node.chain.state_map import verify_present
from node.chain.types import ValidatorSet
from node.ledger.apply import BadBlock
from node.ledger.ledger import load_state
from node.ledger.state import State, StateDamaged
from tests.support.council import READINESS_MS, Council, changed, epoch_vote
from tests.support.ledger_world import BLOCK_MS, Bank, signer


def names(validators: ValidatorSet) -> list[str]:
    return [validator.name for validator in validators.validators]


def reloaded(council: Council) -> State:
    """The committed state as a restarted node reads it."""
    block = council.chain.blocks[-1]
    return load_state(
        council.chain.records.items(),
        block.header,
        block.state.history,
        council.chain.index,
        council.chain.nodes.__getitem__,
    )


def test_the_state_of_genesis_holds_the_set_of_epoch_0() -> None:
    council = Council.make()
    state = council.chain.state
    assert state.validator_set == council.world.genesis.validator_set
    assert state.validator_set_of(0) == state.validator_set
    assert state.validator_set_of(1) is None
    assert state.pending_epoch is None
    assert (state.proposals(), state.equivocations()) == ([], [])


def test_the_block_in_which_the_last_member_is_ready_seals_the_epoch() -> None:
    council = Council.make()
    council.pend()
    members = council.founders()
    assert council.advance(*members[:3]).next_validators is None

    sealing = council.chain.block(council.ready(members[3]))

    sealed = sealing.applied.next_validators
    assert sealed is not None
    assert sealed.epoch == 1
    assert names(sealed) == ["node0", "node1", "node2", "node3"]
    assert [v.vote_key for v in sealed.validators] == [
        epoch_vote(f"node{n}", 1).public_key for n in range(4)
    ]
    state = council.chain.state
    assert state.validator_set == sealed
    assert state.pending_epoch is None
    assert state.validator_set_of(0) == council.world.genesis.validator_set
    header = sealing.header
    assert header.epoch == 0
    assert header.validator_set == validator_set_digest(council.world.genesis.validator_set)
    assert header.next_validator_set == validator_set_digest(sealed)
    following = council.block()
    assert following.applied.next_validators is None
    assert following.header.epoch == 1
    assert following.header.validator_set == following.header.next_validator_set


def test_the_set_that_seals_is_proven_by_the_state_root() -> None:
    council = Council.make()
    council.pend()
    applied = council.advance(*council.founders())
    assert applied.next_validators is not None
    key = encode(ValidatorSetKey(1))
    record, proof = applied.state.map.prove(key)
    assert record == encode(applied.next_validators)
    verify_present(applied.state_root, key, encode(applied.next_validators), proof)


def test_before_the_deadline_every_member_must_be_ready() -> None:
    council = Council.make()
    block = council.pend()
    council.advance(*council.founders()[:3])
    last_moment = block.header.timestamp + READINESS_MS - 1
    assert council.block(time=last_moment).applied.next_validators is None


def test_from_the_deadline_on_a_quorum_is_enough_and_the_rest_keep_their_keys() -> None:
    council = Council.make()
    block = council.pend()
    council.advance(*council.founders()[:3])
    sealed = council.block(time=block.header.timestamp + READINESS_MS).applied.next_validators
    assert sealed is not None
    founders = council.world.genesis.validator_set.validators
    assert sealed.validators[3] == founders[3], "the one that was never ready"
    assert {v.vote_key for v in sealed.validators[:3]}.isdisjoint(v.vote_key for v in founders)


def test_fewer_than_a_quorum_of_the_next_set_never_start_an_epoch() -> None:
    council = Council.make()
    block = council.pend()
    council.advance(*council.founders()[:2])
    late = block.header.timestamp + 100 * READINESS_MS
    assert council.block(time=late).applied.next_validators is None
    # The third makes the quorum, and the deadline is long past.
    assert council.advance(council.founder(2)).next_validators is not None


def test_the_quorum_is_that_of_the_next_set_and_not_of_the_present_one() -> None:
    """7 members need 5: the 4 founders and one of the three that join."""
    council = Council.make()
    joining = [council.member(f"node{n}") for n in (4, 5, 6)]
    block = council.pend(*(council.add(each) for each in joining))
    council.advance(*council.founders())
    late = block.header.timestamp + READINESS_MS
    assert council.block(time=late).applied.next_validators is None
    sealed = council.advance(joining[1]).next_validators
    assert sealed is not None
    assert sealed.validators[4] == joining[0].validator, "not ready, so with its first key"


def test_a_proposal_and_the_last_readiness_may_stand_in_one_block() -> None:
    council = Council.make(validators=1, threshold=1)
    block = council.block(council.propose(), council.ready(council.founder(0)))
    assert [o.reason for o in block.outcomes] == [None, None]
    assert block.applied.next_validators is not None


def test_no_change_at_all_still_gives_every_member_a_fresh_vote_key() -> None:
    council = Council.make()
    seen = {v.vote_key for v in council.chain.state.validator_set.validators}
    for epoch in (1, 2, 3):
        council.pend()
        sealed = council.advance(*council.founders()).next_validators
        assert sealed is not None
        assert sealed.epoch == epoch
        fresh = {v.vote_key for v in sealed.validators}
        assert len(fresh) == 4
        assert fresh.isdisjoint(seen)
        seen |= fresh
    sets = [council.chain.state.validator_set_of(epoch) for epoch in range(4)]
    assert len({validator_set_digest(each) for each in sets if each is not None}) == 4


def test_a_new_member_is_last_and_a_leaving_one_leaves_the_order_of_the_others() -> None:
    council = Council.make()
    joining = council.member("node4", address="[2001:db8::4]:4100")
    council.pend(council.add(joining), council.remove("node1"))
    founders = council.founders()
    sealed = council.advance(founders[0], founders[2], founders[3], joining).next_validators
    assert sealed is not None
    assert names(sealed) == ["node0", "node2", "node3", "node4"]
    assert sealed.validators[3].address == "[2001:db8::4]:4100"


def test_a_member_gets_new_keys_in_its_old_place() -> None:
    council = Council.make()
    new = council.member("node1", operator="BANKB", keys="second")
    council.pend(council.rekey(new))
    founders = council.founders()
    sealed = council.advance(founders[0], new, *founders[2:]).next_validators
    assert sealed is not None
    assert names(sealed) == ["node0", "node1", "node2", "node3"]
    assert sealed.validators[1].node_key == new.node.public_key
    assert sealed.validators[1].operator == council.world.lei("BANKB")


def test_a_rekey_may_keep_the_node_key_and_change_the_rest() -> None:
    council = Council.make()
    old, vote = council.founder(1), signer("vote key after a loss")
    entry = replace(old.validator, vote_key=vote.public_key, address="10.0.0.7:4100")
    member = changed(old, entry, vote=vote)
    block = council.pend(council.rekey(member))
    council.advance(council.founder(0), council.founder(2), council.founder(3))
    sealed = council.block(time=block.header.timestamp + READINESS_MS).applied.next_validators
    assert sealed is not None
    assert sealed.validators[1] == entry


def test_a_member_may_be_ready_with_the_new_key_that_its_operator_named() -> None:
    council = Council.make()
    joining = council.member("node4")
    council.pend(council.add(joining))
    assert council.reason(council.ready(joining, vote=joining.vote)) is None


def test_a_second_decision_changes_the_pending_epoch_and_not_the_present_one() -> None:
    council = Council.make()
    first = council.pend(council.remove("node3"))
    council.block(council.ready(council.founder(0)), council.ready(council.founder(1)))
    joining = council.member("node4")
    second = council.pend(council.add(joining))
    assert second.header.timestamp > first.header.timestamp

    pending = council.chain.state.pending_epoch
    assert pending is not None
    assert [v.name for v in pending.members] == ["node0", "node1", "node2", "node4"]
    assert pending.deadline == second.header.timestamp + READINESS_MS
    assert pending.ready == ("node0", "node1"), "they need not say it again"
    sealed = council.advance(council.founder(2), joining).next_validators
    assert sealed is not None
    assert sealed.epoch == 1


def test_a_rekeyed_member_must_be_ready_again_even_with_the_same_vote_key() -> None:
    council = Council.make()
    council.pend()
    council.block(council.ready(council.founder(0)))
    vote, node = epoch_vote("node0", 1), signer("node key after a theft")
    entry = replace(
        council.founder(0).validator, vote_key=vote.public_key, node_key=node.public_key
    )
    member = changed(council.founder(0), entry, vote=vote, node=node)
    council.pend(council.rekey(member))
    pending = council.chain.state.pending_epoch
    assert pending is not None
    assert pending.ready == ()
    assert council.reason(council.ready(member, vote=vote)) is None


def test_undoing_the_change_of_a_pending_epoch_still_ends_the_present_one() -> None:
    council = Council.make()
    joining = council.member("node4")
    council.pend(council.add(joining))
    council.pend(council.remove("node4"))
    sealed = council.advance(*council.founders()).next_validators
    assert sealed is not None
    assert names(sealed) == ["node0", "node1", "node2", "node3"]
    # Its keys were named once, so they are used up: no key is ever in two places.
    assert council.reason(council.propose(council.add(joining))) == "DS15"


def test_a_validators_key_can_no_longer_become_a_participants() -> None:
    council = Council.make()
    founder = council.founder(0)
    assert council.reason(council.world.register_key("BANKA", founder.vote)) == "DS15"
    assert council.reason(council.world.register_key("BANKA", founder.node)) == "DS15"
    council.pend()
    council.advance(*council.founders())
    assert council.reason(council.world.register_key("BANKA", epoch_vote("node0", 1))) == "DS15"
    assert council.reason(council.world.register_key("BANKA", founder.vote)) == "DS15"


def test_only_a_node_of_the_present_or_the_next_set_speaks_for_its_operator() -> None:
    council = Council.make()
    joining, leaving = council.member("node4"), council.founder(3)
    early = council.ready(joining, 1)
    with pytest.raises(BadBlock, match="unknown-key"):
        council.chain.make(early)
    council.pend(council.add(joining), council.remove("node3"))
    assert council.chain.make(early).outcomes[0].reason is None
    stranger = council.ready(joining, node=signer("stranger"))
    with pytest.raises(BadBlock, match="unknown-key"):
        council.chain.make(stranger)
    others = council.ready(joining, sender="BANKB")
    with pytest.raises(BadBlock, match="unknown-key"):
        council.chain.make(others)
    with pytest.raises(BadBlock, match="unknown-key"):
        council.chain.make(council.ready(joining, node=council.key("BANKC")))
    council.advance(*council.founders()[:3], joining)
    with pytest.raises(BadBlock, match="unknown-key"):
        council.chain.make(council.ready(leaving))


def test_a_node_key_signs_alone() -> None:
    council = Council.make()
    council.pend()
    ready = council.ready(council.founder(0))
    instruction = ready.instruction
    twice = replace(
        ready,
        instruction=replace(instruction, signatures=(*instruction.signatures,) * 2),
    )
    with pytest.raises(BadBlock, match="not-one-signature"):
        council.chain.make(twice)


def test_a_node_key_signs_nothing_else_of_its_operators() -> None:
    council = Council.make()
    payment = council.world.payment("CENTRALBANK", "BANKA", 1)
    node = council.founder(0).node
    with pytest.raises(BadBlock, match="unknown-key"):
        council.chain.make(council.world.pay("CENTRALBANK", payment, signers=[node]))
    with pytest.raises(BadBlock, match="unknown-key"):
        council.chain.make(council.propose(signers=[node]))


def test_an_operator_that_left_the_participants_list_is_no_sender() -> None:
    council = Council.make()
    council.world.banks["STRANGER"] = Bank("STRANGER", "9845STRANGER00000000", "NOSADEZZ", (), [])
    with pytest.raises(BadBlock, match="unknown-sender"):
        council.chain.make(council.ready(council.founder(0), sender="STRANGER"))


def test_a_restarted_node_knows_all_that_the_others_know() -> None:
    council = Council.make()
    council.pend()
    council.advance(*council.founders())
    council.block(council.propose(council.remove("node3")))
    council.pend(council.add(council.member("node4")))
    council.block(council.ready(council.founder(2)))
    state, again = council.chain.state, reloaded(council)
    assert again.epoch_record == state.epoch_record
    assert again.validator_set == state.validator_set
    assert [again.validator_set_of(e) for e in range(3)] == [
        state.validator_set_of(e) for e in range(3)
    ]
    assert again.proposals() == state.proposals()
    for key in (*council.world.votes, *council.world.nodes, epoch_vote("node2", 2)):
        assert again.key_holder(key.public_key) == state.key_holder(key.public_key) is not None
        assert again.validator_key(key.public_key) == state.validator_key(key.public_key)


def test_damage_to_what_governance_keeps_is_named() -> None:
    council = Council.make()
    council.pend()
    council.advance(*council.founders())
    del council.chain.records[encode(ValidatorSetKey(0))]
    with pytest.raises(StateDamaged, match="state root"):
        reloaded(council)


def test_the_next_set_is_the_same_whichever_way_the_block_was_made() -> None:
    """Proposed, verified and replayed: `next_validators` never depends on who executes."""
    council = Council.make()
    council.pend()
    checked = [council.ready(member) for member in council.founders()]
    block = council.chain.make(*checked)
    verified = council.chain.ledger.verify(council.chain.state, block.header, checked)
    assert verified.next_validators == block.applied.next_validators
    context = block.applied.context
    made = council.chain.ledger.propose(council.chain.state, context, checked, 1 << 20, 1_000)
    assert made.applied.next_validators == block.applied.next_validators
    assert made.applied.state_root == block.applied.state_root


def test_an_empty_block_after_the_deadline_seals() -> None:
    council = Council.make(readiness_ms=0)
    council.pend()
    assert council.advance(*council.founders()[:2]).next_validators is None
    applied = council.advance(council.founder(2))
    assert applied.next_validators is not None, "the deadline passed at once"
    council.pend()
    council.advance(council.founder(0))
    assert council.block(time=council.chain.state.time + BLOCK_MS).applied.next_validators is None
