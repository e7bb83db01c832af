"""Participants under restriction: what is refused, what is held, and what stands."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from node.chain import types as t
from node.chain.build import gross_payment
from node.chain.records import ParticipantRecord
from node.chain.types import (
    Freeze,
    LiftSuspension,
    Priority,
    RestrictionChanged,
    SuspendParticipant,
)
from tests.support.changes import admit, decide, order
from tests.support.council import Council
from tests.support.ledger_world import DAY_MS, HOUR_MS, MadeBlock, lei, uetr

STRANGER = lei(999)


@pytest.fixture
def council() -> Council:
    made = Council.make()
    made.chain.fund(100, "BANKA", "BANKB", "BANKC")
    return made


def pay(council: Council, debtor: str, creditor: str, amount: int, **fields: Any) -> t.Payment:
    """Send a payment in a block of its own."""
    payment = replace(council.world.payment(debtor, creditor, amount), **fields)
    until = council.chain.state.time + DAY_MS
    council.block(council.world.pay(debtor, payment, valid_until=until))
    return payment


def suspend(council: Council, name: str) -> MadeBlock:
    return decide(council, SuspendParticipant(council.world.lei(name)))


def lift(council: Council, name: str) -> MadeBlock:
    return decide(council, LiftSuspension(council.world.lei(name)))


def freeze(council: Council, name: str, *, debit: bool = False, credit: bool = False) -> MadeBlock:
    return order(council, "WATCHDOG", Freeze(council.world.lei(name), debit, credit, "LEGL"))


def record(council: Council, name: str) -> ParticipantRecord:
    found = council.chain.state.participant(council.world.lei(name))
    assert found is not None
    return found.record


def told(block: MadeBlock, *payments: t.Payment) -> list[tuple[int, str, str | None]]:
    """(which of the payments, status, reason) of the changes in a block, in order."""
    places = {payment.uetr: number for number, payment in enumerate(payments)}
    return [
        (places[o.uetr], o.status, o.reason)
        for o in block.outcomes
        if o.uetr in places and o.content is not None
    ]


def standing(council: Council, payment: t.Payment) -> tuple[str, str | None]:
    entry = council.chain.state.uetr(payment.uetr)
    assert entry is not None
    return entry.status, entry.reason


# --- what is refused ------------------------------------------------------------------------------


def bodies(council: Council, name: str) -> dict[type, t.InstructionBody]:
    """One body of each kind that a participant's keys sign, but for `Pay`."""
    world, state = council.world, council.chain.state
    own, other = world.lei(name), world.lei("BANKB")
    payment = world.payment(name, "BANKB", 1)
    past, later = uetr(901), state.time + HOUR_MS
    legs = (payment, gross_payment(uetr(902), other, own, "EUR", 1))
    made: list[t.InstructionBody] = [
        t.Issue(uetr(903), "EUR", other, 1),
        t.Redeem(uetr(904), "EUR", 1),
        t.RegisterKey(bytes(32), bytes(64)),
        t.RevokeKey(bytes(32)),
        t.Propose((), later),
        t.Approve(bytes(32)),
        t.Cancel(past),
        t.Hold(past),
        t.Release(past),
        t.Reprioritise(past, Priority.URGENT),
        t.SetLimit(own, "EUR", None, 5),
        t.SetPolicy(True, ()),
        t.PostPrice("EUR", "CNY", 1, 1, 0),
        t.Pledge("EUR", "CNY", 1),
        t.ReleaseCollateral("EUR", "CNY", 1),
        t.OrderCycle("EUR", 1, t.CycleAction.CLOSE, None),
        t.MoveOwn(uetr(905), "EUR", t.AccountKind.SETTLEMENT, t.AccountKind.MARGIN, 1),
        t.Link(legs, later),
        t.Reserve(replace(payment, uetr=uetr(906)), other, None, later),
        t.Post(past, None, None),
        t.Void(past),
        t.Recall(replace(payment, uetr=past), "DUPL"),
        t.RefuseRecall(replace(payment, uetr=past), "LEGL"),
        t.Return(replace(payment, uetr=uetr(907)), replace(payment, uetr=past), "DUPL"),
        t.OpenDispute(replace(payment, uetr=past), "FRAD"),
        t.SubmitEvidence(past, bytes(32)),
        t.DecideDispute(past, t.Verdict.UPHELD, "FRAD"),
        t.Acknowledge(replace(payment, uetr=past), bytes(32), bytes(32)),
        t.DelayPhase(20300101, t.Phase.OPEN, later),
        t.ProceedDay(20300101, t.Phase.OPEN),
        t.Consent(bytes(32), later),
        t.Freeze(other, True, False, "LEGL"),
    ]
    return {type(body): body for body in made}


EVERY = sorted(
    set(t.InstructionBody.__args__) - {t.Pay, *t.NODE_SIGNED}, key=lambda kind: str(kind.__name__)
)
GO_ON: dict[type, str] = {t.Acknowledge: "NOOR", t.RegisterKey: "DS0D", t.RevokeKey: "DS0E"}
"""What a suspended participant may still say, each with what else is wrong with it here."""
FOREMOST: dict[type, str] = {t.Issue: "DS0G", t.Redeem: "DS0G"}
"""Refused for another reason first."""


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_instructions_of_a_suspended_participant_are_refused(council: Council, kind: type) -> None:
    suspend(council, "BANKA")
    body = bodies(council, "BANKA")[kind]
    before = council.chain.state
    block = order(council, "BANKA", body)
    (outcome,) = block.outcomes
    expected = {**GO_ON, **FOREMOST}.get(kind, "AG01")
    assert (outcome.status, outcome.reason) == ("RJCT", expected)
    assert block.applied.state_root == before.map.root


def test_payments_of_a_suspended_participant_are_rejected_and_use_up_their_uetr(
    council: Council,
) -> None:
    suspend(council, "BANKA")
    payment = pay(council, "BANKA", "BANKB", 1)
    assert standing(council, payment) == ("RJCT", "AG01")


def test_an_issuer_that_is_suspended_issues_and_redeems_nothing(council: Council) -> None:
    decide(council, t.AddAsset("USD", 2, council.world.lei("CENTRALBANK")))
    council.block(council.propose(sender="BANKA"))  # BANKA and BANKB may govern without it
    suspending = council.propose(
        SuspendParticipant(council.world.lei("CENTRALBANK")), sender="BANKA"
    )
    council.block(suspending, council.approve(suspending.digest, "BANKB"))
    until = council.chain.state.time + DAY_MS
    block = council.block(
        council.world.issue("CENTRALBANK", "BANKA", 1, valid_until=until),
        council.world.redeem("CENTRALBANK", 1, valid_until=until),
    )
    assert [(o.reason, o.uetr is not None) for o in block.outcomes] == [("AG01", True)] * 2


@pytest.mark.parametrize("name", ["CENTRALBANK", "BANKA", "BANKB"])
def test_nobody_but_a_supervisor_freezes_or_consents(council: Council, name: str) -> None:
    before = council.chain.state
    for body in (
        Freeze(council.world.lei("BANKC"), True, True, "LEGL"),
        t.Consent(bytes(32), council.chain.state.time + HOUR_MS),
    ):
        block = order(council, name, body)
        assert [(o.status, o.reason) for o in block.outcomes] == [("RJCT", "DS20")]
        assert block.applied.state_root == before.map.root


@pytest.mark.parametrize(
    ("happens", "body", "reason"),
    [
        (None, lambda c: Freeze(STRANGER, True, False, "LEGL"), "BE06"),
        (None, lambda c: Freeze(c.world.lei("BANKC"), False, False, "LEGL"), "DU05"),
        (
            lambda c: freeze(c, "BANKC", debit=True),
            lambda c: Freeze(c.world.lei("BANKC"), True, False, "LEGL"),
            "DU05",
        ),
        (
            lambda c: decide(c, t.CloseParticipant(c.world.lei("SMALL"))),
            lambda c: Freeze(c.world.lei("SMALL"), True, False, "LEGL"),
            "AC04",
        ),
        (None, lambda c: t.Consent(bytes(32), c.chain.state.time), "DT02"),
        (None, lambda c: t.Consent(bytes(32), c.chain.state.time + 8 * DAY_MS), "DT02"),
        (
            lambda c: order(c, "WATCHDOG", t.Consent(bytes(32), c.chain.state.time + HOUR_MS)),
            lambda c: t.Consent(bytes(32), c.chain.state.time + HOUR_MS),
            "DU02",
        ),
    ],
)
def test_a_supervisors_order_that_may_not_be(
    council: Council, happens: Any, body: Any, reason: str
) -> None:
    admit(council, "SMALL", 61)
    if happens is not None:
        happens(council)
    before = council.chain.state
    block = order(council, "WATCHDOG", body(council))
    assert [(o.status, o.reason) for o in block.outcomes] == [("RJCT", reason)]
    assert block.applied.state_root == before.map.root
    assert council.chain.state.next_due() == before.next_due()


def test_a_consent_lapses(council: Council) -> None:
    consent = t.Consent(bytes(32), council.chain.state.time + HOUR_MS)
    order(council, "WATCHDOG", consent)
    assert council.chain.state.next_due() == consent.expires
    council.block(time=consent.expires)
    assert council.chain.state.next_due() is None
    assert (
        order(council, "WATCHDOG", replace(consent, expires=consent.expires + HOUR_MS))
        .outcomes[0]
        .status
        == "ACSC"
    )


# --- what is held ---------------------------------------------------------------------------------


def test_a_suspension_holds_its_payments_and_others_to_it_until_it_is_lifted(
    council: Council,
) -> None:
    own = pay(council, "BANKA", "BANKB", 201)
    second = pay(council, "BANKA", "BANKC", 1)
    to_it = pay(council, "BANKC", "BANKA", 150)
    beside = pay(council, "BANKC", "BANKB", 100)
    block = suspend(council, "BANKA")
    assert [(o.instruction, o.event) for o in block.outcomes[:3]] == [
        (0, None),
        (1, None),
        (1, RestrictionChanged(council.world.lei("BANKA"), True, False, False)),
    ]
    assert told(block, own, second, to_it, beside) == [
        (0, "BLCK", "AG01"),
        (1, "BLCK", "AG01"),
        (2, "BLCK", "AG01"),
        (3, "ACSC", None),
    ], "what waited behind one that is held may settle"
    council.chain.fund(200, "BANKC")
    assert standing(council, own) == ("BLCK", "AG01")

    assert told(lift(council, "BANKA"), own, second, to_it) == [
        (0, "PDNG", "AM04"),
        (1, "PDNG", "AM19"),
        (2, "PDNG", "AM19"),
        (0, "ACSC", None),
        (1, "ACSC", None),
        (2, "ACSC", None),
    ], "they wait for no more than the resolution of the same block"
    assert [council.chain.balance(each) for each in ("BANKA", "BANKB", "BANKC")] == [48, 401, 51]


def test_issue_to_a_restricted_participant_is_refused(council: Council) -> None:
    until = council.chain.state.time + DAY_MS
    suspend(council, "BANKA")
    freeze(council, "BANKB", credit=True)
    freeze(council, "BANKC", debit=True)
    block = council.block(
        *(
            council.world.issue("CENTRALBANK", name, 1, valid_until=until)
            for name in ("BANKA", "BANKB", "BANKC")
        )
    )
    assert [o.reason for o in block.outcomes] == ["AG01", "AC06", None]


def test_lifted_payments_wait_again_in_their_old_order_behind_the_others(council: Council) -> None:
    first, urgent, third = (
        pay(council, "BANKA", "BANKB", 200 + n, priority=priority)
        for n, priority in enumerate((Priority.NORMAL, Priority.URGENT, Priority.NORMAL))
    )
    aside = pay(council, "BANKA", "BANKC", 300)
    suspend(council, "BANKB")
    late = pay(council, "BANKA", "BANKB", 400)
    assert standing(council, late) == ("BLCK", "AG01")
    block = lift(council, "BANKB")
    assert [number for number, _, _ in told(block, first, urgent, third, late)] == [0, 1, 2, 3]
    queue = council.chain.state.queue((council.world.lei("BANKA"), "EUR", 0))
    assert queue is not None
    assert [entry.uetr for line in queue.lines for entry in line] == [
        each.uetr for each in (urgent, aside, first, third, late)
    ]


def test_a_payment_between_two_restricted_ones_waits_for_both(council: Council) -> None:
    payment = pay(council, "BANKA", "BANKB", 101)
    assert told(suspend(council, "BANKA"), payment) == [(0, "BLCK", "AG01")]
    assert told(freeze(council, "BANKB", credit=True), payment) == [], "it is held already"
    assert told(lift(council, "BANKA"), payment) == []
    assert standing(council, payment)[0] == "BLCK"
    assert told(freeze(council, "BANKB"), payment) == [(0, "PDNG", "AM04")]


@pytest.mark.parametrize(
    ("debit", "credit", "held"),
    [(True, False, [0]), (False, True, [1]), (True, True, [0, 1])],
)
def test_a_freeze_holds_what_it_is_about(
    council: Council, debit: bool, credit: bool, held: list[int]
) -> None:
    own = pay(council, "BANKA", "BANKC", 101)
    to_it = pay(council, "BANKB", "BANKA", 150)
    block = freeze(council, "BANKA", debit=debit, credit=credit)
    event = RestrictionChanged(council.world.lei("BANKA"), False, debit, credit)
    assert (block.outcomes[0].instruction, block.outcomes[0].event) == (0, event)
    assert told(block, own, to_it) == [(number, "BLCK", "AC06") for number in held]

    pays = pay(council, "BANKA", "BANKC", 1)
    gets = pay(council, "BANKC", "BANKA", 1)
    assert standing(council, pays) == (("RJCT", "AC06") if debit else ("PDNG", "AM19"))
    assert standing(council, gets) == (("BLCK", "AC06") if credit else ("ACSC", None))
    block = freeze(council, "BANKA")
    assert block.outcomes[0].event == RestrictionChanged(event.participant, False, False, False)
    assert {number for number, status, _ in told(block, own, to_it) if status == "PDNG"} == set(
        held
    )


def test_a_payment_that_its_debtor_holds_stays_held(council: Council) -> None:
    payment = pay(council, "BANKA", "BANKB", 101)
    order(council, "BANKA", t.Hold(payment.uetr))
    assert told(suspend(council, "BANKB"), payment) == []
    assert told(lift(council, "BANKB"), payment) == []
    assert standing(council, payment) == ("BLCK", "CUST")
    suspend(council, "BANKB")
    assert told(order(council, "BANKA", t.Release(payment.uetr)), payment) == [(0, "BLCK", "AG01")]
    assert told(lift(council, "BANKB"), payment) == [(0, "PDNG", "AM04")]


def test_held_payments_can_be_cancelled_and_expire(council: Council) -> None:
    latest = council.chain.state.time + HOUR_MS
    cancelled = pay(council, "BANKA", "BANKB", 101)
    expiring = pay(council, "BANKA", "BANKB", 101, latest=latest)
    suspend(council, "BANKB")
    block = order(council, "BANKA", t.Cancel(cancelled.uetr))
    assert told(block, cancelled) == [(0, "CANC", "CUST")]
    block = council.block(time=latest + 1)
    assert told(block, expiring) == [(0, "CANC", "AB03")]
    assert told(lift(council, "BANKB"), cancelled, expiring) == []


def test_what_settles_all_or_none_is_held_for_any_of_its_creditors(council: Council) -> None:
    payments = [council.world.payment("BANKA", name, 60) for name in ("BANKB", "BANKC")]
    until = council.chain.state.time + DAY_MS
    council.block(council.world.pay("BANKA", *payments, all_or_none=True, valid_until=until))
    block = suspend(council, "BANKC")
    assert told(block, *payments) == [(0, "BLCK", "AG01"), (1, "BLCK", "AG01")]
    assert told(lift(council, "BANKC"), *payments) == [(0, "PDNG", "AM04"), (1, "PDNG", "AM04")]


# --- what stands ----------------------------------------------------------------------------------


def test_a_reservation_stands(council: Council) -> None:
    payment = council.world.payment("BANKA", "BANKB", 40)
    expires = council.chain.state.time + HOUR_MS
    order(council, "BANKA", t.Reserve(payment, council.world.lei("BANKC"), None, expires))
    suspend(council, "BANKA")
    block = order(council, "BANKC", t.Post(payment.uetr, None, None))
    assert block.outcomes[0].status == "ACCC"
    assert council.chain.balance("BANKB") == 140


def test_a_complete_link_waits_for_its_parties(council: Council) -> None:
    a, b = council.world.lei("BANKA"), council.world.lei("BANKB")
    legs = (gross_payment(uetr(801), a, b, "EUR", 60), gross_payment(uetr(802), b, a, "CNY", 7))
    link = t.Link(legs, council.chain.state.time + HOUR_MS)
    for name in ("BANKA", "BANKB"):
        assert order(council, name, link).outcomes[0].status == "ACSP"
    freeze(council, "BANKA", credit=True)
    council.chain.fund(7, "BANKB", asset="CNY")
    assert council.chain.balance("BANKB") == 100, "covered, but BANKA must not be credited"
    freeze(council, "BANKA")
    assert council.chain.balance("BANKB") == 160


def test_indirect_participants_are_stopped_by_themselves(council: Council) -> None:
    small = lei(61)
    admit(council, "SMALL", 61, "indirect-participant", sponsor=council.world.lei("BANKA"))
    assert standing(council, pay(council, "BANKA", "BANKB", 1, debtor_indirect=small)) == (
        "ACSC",
        None,
    )
    suspend(council, "SMALL")
    assert standing(council, pay(council, "BANKA", "BANKB", 1, debtor_indirect=small)) == (
        "RJCT",
        "AG01",
    )
    assert standing(council, pay(council, "BANKA", "BANKB", 1)) == ("ACSC", None)
    lift(council, "SMALL")
    decide(council, t.CloseParticipant(small))
    assert standing(council, pay(council, "BANKA", "BANKB", 1, debtor_indirect=small)) == (
        "RJCT",
        "AC04",
    )


def test_standing_is_kept_over_both_kinds_of_restriction(council: Council) -> None:
    suspend(council, "BANKA")
    freeze(council, "BANKA", debit=True)
    block = lift(council, "BANKA")
    assert block.outcomes[2].event == RestrictionChanged(
        council.world.lei("BANKA"), False, True, False
    )
    held = record(council, "BANKA")
    assert (held.suspended, held.debit_frozen, held.credit_frozen) == (False, True, False)
    assert standing(council, pay(council, "BANKA", "BANKB", 1)) == ("RJCT", "AC06")


def test_what_stands_before_the_suspension_in_its_block_settles(council: Council) -> None:
    until = council.chain.state.time + DAY_MS
    proposal = council.propose(SuspendParticipant(council.world.lei("BANKA")))
    approval = council.approve(proposal.digest)
    before = council.world.pay(
        "BANKA", council.world.payment("BANKA", "BANKB", 10), valid_until=until
    )
    after = council.world.pay(
        "BANKA", council.world.payment("BANKA", "BANKB", 10), valid_until=until
    )
    block = council.block(proposal, before, approval, after)
    settled = [o.status for o in block.outcomes if o.uetr is not None]
    assert settled == ["ACSC", "RJCT"]
    assert council.chain.balance("BANKB") == 110
