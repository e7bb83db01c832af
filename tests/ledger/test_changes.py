"""What governance decides takes effect: in order, all or nothing, and from when the rules say."""

from __future__ import annotations

import pytest

from node.chain import types as t
from node.chain.merkle import Frontier
from node.chain.records import MemberKey, NettingKey, ParticipantRecord, RulesKey, RulesRecord
from node.chain.signature import ROLE_PARTICIPANT, Ed25519Signer, prove_possession
from node.ledger.apply import BadBlock
from node.ledger.governance import count_approvals
from node.ledger.ledger import load_state
from node.ledger.rules import CANDIDATES, UnknownRules, candidates, pending, version
from node.ledger.state import State
from node.ledger.tables import MEMBERS, NETTING, RULES
from node.ledger.weight import CHANGE_WEIGHT, SIGNATURE_WEIGHT, weight
from tests.support.changes import ISIN, admission, admit, decide, order, proven
from tests.support.council import Council
from tests.support.ledger_world import DAY_MS, Bank, Chain, lei, signer, uetr

SPARE = signer("spare")


@pytest.fixture
def council() -> Council:
    return Council.make()


def record(council: Council, name: str) -> ParticipantRecord:
    found = council.chain.state.participant(council.world.lei(name))
    assert found is not None
    return found.record


# --- together, in order ---------------------------------------------------------------------------


def test_changes_of_one_proposal_build_on_each_other(council: Council) -> None:
    """A depository, a bond of its, a bank, a net system and the bank's place in it: one step."""
    depository, bank = lei(60), lei(61)
    changes = [
        admission(council, "DEPOT", 60, "depository"),
        t.AddAsset(ISIN, 0, depository),
        admission(council, "BANKD", 61),
        t.AddAsset("USD", 2, council.world.lei("CENTRALBANK")),
        t.SetNetting("USD", True, 60_000),
        t.SetMember(bank, "USD", 1_000, 10, 20),
    ]
    decide(council, *changes)
    state = council.chain.state
    assert [(a.code, a.security) for a in state.assets()] == [
        ("CNY", False),
        (ISIN, True),
        ("EUR", False),
        ("USD", False),
    ]
    assert state.get(NETTING, NettingKey("USD")) is not None
    assert state.get(MEMBERS, MemberKey(bank, "USD")) is not None
    found = state.participant(bank)
    assert found is not None
    assert (found.record.name, found.record.roles) == ("BANKD", ("direct-participant",))


@pytest.mark.parametrize("first", [1, 4, 5])
def test_in_another_order_they_are_refused_and_nothing_of_them_stays(
    council: Council, first: int
) -> None:
    changes = [
        admission(council, "DEPOT", 60, "depository"),
        t.AddAsset(ISIN, 0, lei(60)),
        admission(council, "BANKD", 61),
        t.AddAsset("USD", 2, council.world.lei("CENTRALBANK")),
        t.SetNetting("USD", True, 60_000),
        t.SetMember(lei(61), "USD", 1_000, 10, 20),
    ]
    changes.insert(0, changes.pop(first))
    before = council.chain.state
    block = council.block(council.propose(*changes, signers=_both(council)))
    assert block.outcomes[0].status == "RJCT"
    assert block.applied.records == {}
    assert council.chain.state.assets() == before.assets()


def test_validators_and_others_change_in_one_proposal(council: Council) -> None:
    """A new participant, whose node joins; its keys are taken from the same list."""
    node = council.member("node4", operator=lei(61))
    decide(council, admission(council, "BANKD", 61, "direct-participant", "validator"))
    block = council.pend(
        council.add(node), t.SetParameters(2, 5, t.CloseRule.EXPIRE), council.remove("node3")
    )
    assert block.outcomes[0].reason is None
    state = council.chain.state
    assert state.pending_epoch is not None
    names = [v.name for v in state.pending_epoch.members]
    assert names == ["node0", "node1", "node2", "node4"]
    assert state.parameters.readiness_ms == 5


def test_a_validator_of_a_participant_that_the_same_proposal_admits(council: Council) -> None:
    node = council.member("node4", operator=lei(61))
    council.pend(
        council.add(node), admission(council, "BANKD", 61, "direct-participant", "validator")
    )
    assert council.chain.state.pending_epoch is not None


def test_changes_of_others_start_no_epoch(council: Council) -> None:
    decide(council, t.SetParameters(2, 5, t.CloseRule.EXPIRE))
    assert council.chain.state.pending_epoch is None
    council.pend()
    assert council.chain.state.pending_epoch is not None, "none at all: a new epoch"


def test_an_asset_can_be_issued_in_the_block_that_adds_it(council: Council) -> None:
    proposal = council.propose(t.AddAsset("USD", 2, council.world.lei("CENTRALBANK")))
    block = council.block(
        proposal,
        council.approve(proposal.digest),
        council.world.issue("CENTRALBANK", "BANKA", 70, "USD"),
    )
    assert [o.reason for o in block.outcomes] == [None, None, None]
    assert council.chain.balance("BANKA", "USD") == 70


def test_securities_are_issued_and_redeemed_by_their_depository(council: Council) -> None:
    admit(council, "DEPOT", 60, "depository")
    decide(council, t.AddAsset(ISIN, 0, lei(60)))
    until = council.chain.state.time + DAY_MS
    block = council.block(
        council.world.issue("DEPOT", "DEPOT", 50, ISIN, valid_until=until),
        council.world.issue("CENTRALBANK", "BANKA", 50, ISIN, valid_until=until),
        council.world.redeem("DEPOT", 20, ISIN, valid_until=until),
    )
    assert [o.reason for o in block.outcomes] == [None, "DS0G", None]
    asset = council.chain.state.asset(ISIN)
    assert asset is not None
    assert (asset.security, asset.issued, asset.redeemed) == (True, 50, 20)


# --- from the next height on ----------------------------------------------------------------------


def test_parameters_hold_from_the_next_height_on(council: Council) -> None:
    """The threshold is lowered to one: in the same block two are still needed."""
    lowered = council.propose(t.SetParameters(1, 5, t.CloseRule.ROLL_OVER))
    alone = council.propose(sender="BANKB")
    block = council.block(lowered, council.approve(lowered.digest), alone)
    assert [o.reason for o in block.outcomes] == [None] * 3
    assert council.chain.state.pending_epoch is None
    assert council.chain.state.parameters.close_rule is t.CloseRule.ROLL_OVER
    council.block(council.propose(sender="BANKB"))
    assert council.chain.state.pending_epoch is not None


def test_two_changes_of_parameters_in_one_block_build_on_each_other(council: Council) -> None:
    first, second = (
        council.propose(t.SetParameters(2, n, t.CloseRule.EXPIRE), signers=_both(council))
        for n in (5, 6)
    )
    council.block(first, second)
    assert council.chain.state.parameters.readiness_ms == 6


def test_an_admitted_participant_is_paid_at_once_and_signs_from_the_next_height_on(
    council: Council,
) -> None:
    council.chain.fund(100, "BANKA")
    proposal = council.propose(admission(council, "BANKD", 61))
    until = council.chain.state.time + DAY_MS
    council.world.banks["BANKD"] = Bank("BANKD", lei(61), "", (), [signer("admitted", "BANKD")])
    paid = council.world.pay(
        "BANKA", council.world.payment("BANKA", "BANKD", 60), valid_until=until
    )
    answer = council.world.pay(
        "BANKD", council.world.payment("BANKD", "BANKA", 10), valid_until=until
    )
    with pytest.raises(BadBlock, match="unknown-sender"):
        council.chain.make(answer)
    with pytest.raises(BadBlock, match="invalid-key"):
        council.chain.make(proposal, council.approve(proposal.digest), answer)
    block = council.block(proposal, council.approve(proposal.digest), paid)
    assert block.outcomes[2].status == "ACSC"
    assert council.block(answer).outcomes[0].status == "ACSC"


def test_replaced_keys_sign_from_the_next_height_on_and_the_old_ones_no_more(
    council: Council,
) -> None:
    holder, old = council.world.lei("BANKC"), council.key("BANKC")
    change = t.ReplaceKeys(holder, (old.public_key,), proven(council, holder, SPARE), 1)
    proposal = council.propose(change)
    with_old = council.world.order("BANKC", t.RevokeKey(bytes(32)), signers=[old])
    with_new = council.world.order("BANKC", t.RevokeKey(bytes(32)), signers=[SPARE])
    block = council.block(proposal, council.approve(proposal.digest), with_old)
    assert block.outcomes[2].reason == "DS0E", "it executes"
    again = council.world.order("BANKC", t.RevokeKey(bytes(32)), signers=[old])
    with pytest.raises(BadBlock, match="invalid-key"):
        council.chain.make(again)
    assert council.block(with_new).outcomes[0].reason == "DS0E"
    assert council.chain.state.key_holder(SPARE.public_key) == holder


def test_an_operators_share_is_what_it_was_given(council: Council) -> None:
    """Genesis: as many as it had keys. Admitted: as the proposal said, whatever it registers."""
    assert [record(council, name).approvals for name in ("CENTRALBANK", "BANKA", "BANKC")] == [
        2,
        1,
        0,
    ]
    more = [signer("of BANKO", n) for n in range(3)]
    keys = proven(council, lei(61), *more)
    admit(council, "BANKO", 61, "operator", keys=keys, approvals=2)
    state = council.chain.state
    counted = count_approvals(state, [key.public_key for key in more], state.height + 1)
    assert counted == 2


def test_an_admitted_operator_proposes_and_approves(council: Council) -> None:
    admit(council, "BANKO", 61, "operator")
    proposal = council.propose(sender="BANKO")
    council.block(proposal)
    assert council.chain.state.pending_epoch is None
    council.block(council.approve(proposal.digest, "BANKA"))
    assert council.chain.state.pending_epoch is not None


# --- leaving --------------------------------------------------------------------------------------


def test_who_has_left_neither_sends_nor_gets_anything(council: Council) -> None:
    council.chain.fund(100, "BANKA")
    proposal = council.propose(t.CloseParticipant(council.world.lei("BANKC")))
    until = council.chain.state.time + DAY_MS
    payment = council.world.payment("BANKA", "BANKC", 1)
    limit = t.SetLimit(council.world.lei("BANKC"), "EUR", None, 5)
    own = council.world.payment("BANKC", "BANKA", 1)
    block = council.block(
        proposal,
        council.approve(proposal.digest),
        council.world.pay("BANKA", payment, valid_until=until),
        council.world.issue("CENTRALBANK", "BANKC", 1, valid_until=until),
        council.world.order("BANKC", limit, valid_until=until),
        council.world.order("BANKC", t.RevokeKey(bytes(32)), valid_until=until),
        council.world.pay("BANKC", own, valid_until=until),
    )
    assert [o.reason for o in block.outcomes] == [None, None, *["AC04"] * 5]
    assert block.outcomes[6].uetr == own.uetr
    with pytest.raises(BadBlock, match="invalid-key"):
        council.chain.make(council.world.order("BANKC", limit, valid_until=until))


def test_money_has_to_leave_before_its_holder_does(council: Council) -> None:
    council.chain.fund(100, "BANKC")
    change = t.CloseParticipant(council.world.lei("BANKC"))
    assert council.reason(council.propose(change)) == "AC05"
    until = council.chain.state.time + DAY_MS
    payment = council.world.payment("BANKC", "BANKA", 100)
    council.block(council.world.pay("BANKC", payment, valid_until=until))
    decide(council, change)
    assert record(council, "BANKC").closed


def test_a_suspended_operator_approves_nothing_and_its_approvals_count_no_more(
    council: Council,
) -> None:
    proposal = council.propose(sender="BANKA")
    council.block(proposal)
    decide_without(council, t.SuspendParticipant(council.world.lei("BANKA")))
    assert council.reason(council.approve(proposal.digest, "BANKA")) == "AG01"
    council.block(council.approve(proposal.digest, "BANKB"))
    assert council.chain.state.pending_epoch is None, "one approval of two that count"
    council.block(council.approve(proposal.digest, "CENTRALBANK"))
    assert council.chain.state.pending_epoch is not None


def decide_without(council: Council, change: t.Change) -> None:
    """The central bank's two keys decide alone."""
    assert council.reason(council.propose(change, signers=_both(council))) is None


def _both(council: Council) -> list[Ed25519Signer]:
    return council.world.banks["CENTRALBANK"].signers


def test_governance_can_lift_what_it_suspended_whoever_is_left(council: Council) -> None:
    """Two of three operators may be suspended where the third one's keys are enough."""
    for name in ("BANKA", "BANKB"):
        decide_without(council, t.SuspendParticipant(council.world.lei(name)))
    refused = council.propose(
        t.SuspendParticipant(council.world.lei("CENTRALBANK")), signers=_both(council)
    )
    assert council.reason(refused) == "FF03"
    decide_without(council, t.LiftSuspension(council.world.lei("BANKA")))
    assert not record(council, "BANKA").suspended


# --- a version of the rules -----------------------------------------------------------------------


def test_a_version_of_the_rules_is_in_force_from_its_height_on(council: Council) -> None:
    chain = council.chain
    height = chain.state.height + 4
    decide(council, t.ActivateRules(2, height))
    assert pending(chain.state) == (2, height)
    for _ in range(2):
        block = council.block()
        assert (block.header.version, version(block.state), candidates(block.state)) == (1, 1, 1000)
    assert block.header.height == height - 1
    assert chain.state.rules_version == 2, "of the block to come"
    block = council.block(council.world.issue("CENTRALBANK", "BANKA", 1, uetr=uetr(1)))
    assert block.header.version == 2
    assert [(o.instruction, o.event) for o in block.outcomes] == [
        (None, t.RulesActivated(2)),
        (0, None),
    ]
    assert (version(block.state), candidates(block.state)) == (2, CANDIDATES[2])
    assert pending(block.state) is None
    assert council.block().outcomes == []


def test_the_version_survives_a_restart(council: Council) -> None:
    decide(council, t.ActivateRules(2, council.chain.state.height + 2))
    council.block()
    loaded = _loaded(council.chain)
    assert (loaded.rules_version, version(loaded)) == (2, 2)


def _loaded(chain: Chain) -> State:
    header = chain.blocks[-1].header
    history = Frontier.load(header.height + 1, lambda level, index: chain.history[level, index])
    return load_state(chain.records.items(), header, history, chain.index, chain.nodes.get)


def test_software_stops_before_rules_that_it_does_not_know(council: Council) -> None:
    """Version 3 is approved like any other: which software knows it is not the ledger's to say."""
    decide(council, t.ActivateRules(2, council.chain.state.height + 2))
    council.block()
    height = council.chain.state.height + 2
    decide(council, t.ActivateRules(3, height))
    before = council.chain.state
    with pytest.raises(
        UnknownRules, match=rf"block {height} .* version 3 .* knows version 1 and 2"
    ):
        council.chain.make()
    assert council.chain.state is before
    assert council.chain.state.height == height - 1


def test_a_later_version_can_follow(council: Council) -> None:
    decide(council, t.ActivateRules(2, council.chain.state.height + 2))
    council.block()
    decide(council, t.ActivateRules(3, council.chain.state.height + 100))
    assert council.chain.state.get(RULES, RulesKey()) == RulesRecord(
        2, (3, council.chain.state.height - 1 + 100)
    )


# --- what it costs --------------------------------------------------------------------------------


def test_a_proposal_takes_as_much_of_a_block_as_judging_it_does(council: Council) -> None:
    holder = council.world.lei("BANKC")
    many = [signer("many", n) for n in range(5)]
    days = tuple(t.BusinessDay(date, (1, 2, 3, 4, 5), ()) for date in range(20300101, 20300108))
    for change, cost in (
        (admission(council, "X", 61), CHANGE_WEIGHT + SIGNATURE_WEIGHT),
        (
            t.ReplaceKeys(holder, (), proven(council, holder, *many), 1),
            CHANGE_WEIGHT + 5 * SIGNATURE_WEIGHT,
        ),
        (t.PublishSchedule(days), CHANGE_WEIGHT + 7),
        (t.SuspendParticipant(holder), CHANGE_WEIGHT),
        (council.add(council.member("node4")), 2 * SIGNATURE_WEIGHT),
        (council.remove("node3"), CHANGE_WEIGHT),
    ):
        assert weight(council.chain.state, council.propose(change), 1_000) == 1 + cost, change


def test_possession_is_proven_when_proposed_and_not_asked_for_again(council: Council) -> None:
    holder = lei(61)
    proof = prove_possession(SPARE, ROLE_PARTICIPANT, lei(62), council.world.chain_id)
    false = admission(council, "X", 61, keys=(t.ProvenKey(SPARE.public_key, proof),))
    assert council.reason(council.propose(false)) == "DS0D"
    true = admission(council, "X", 61, keys=proven(council, holder, SPARE))
    proposal = council.propose(true)
    council.block(proposal)
    assert weight(council.chain.state, council.approve(proposal.digest), 1_000) == 1 + CHANGE_WEIGHT
    order(council, "BANKA", t.Approve(proposal.digest))
    assert council.chain.state.participant(holder) is not None
