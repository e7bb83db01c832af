"""Limits: what they keep from settling, what they count, how they are set, and when they are
refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from node.chain.encoding import decode
from node.chain.instruction import CheckedInstruction
from node.chain.records import BilateralLimit, LimitsKey, LimitsRecord, MultilateralLimit
from node.chain.types import (
    MAX_BALANCE,
    AccountKind,
    Outcome,
    PaymentClass,
    Reserve,
    SetLimit,
    Void,
)
from node.ledger import limits
from node.ledger.apply import BlockContext
from node.ledger.orders import set_limit
from node.ledger.tables import LIMITS
from node.ledger.work import Work
from tests.support.ledger_world import HOUR_MS, World, lei
from tests.support.queueing import URGENT, Queueing, assert_refused, words


@pytest.fixture
def chain() -> Queueing:
    made = Queueing()
    made.fund(1_000)
    return made


# --- what they keep from settling -----------------------------------------------------------------


def test_a_bilateral_limit_holds_towards_its_counterparty_alone(chain: Queueing) -> None:
    chain.block(chain.limit("BANKA", "BANKB", 100))
    assert chain.said(chain.pay("fits", "BANKA", "BANKB", 100)) == [("fits", "ACSC")]
    assert chain.said(chain.pay("over", "BANKA", "BANKB", 1)) == [("over", "PDNG AM14")]
    assert chain.said(chain.pay("urgent", "BANKA", "BANKC", 200, priority=URGENT)) == [
        ("urgent", "ACSC")
    ]
    assert chain.used("BANKA", "BANKB") == 100


def test_a_multilateral_limit_holds_towards_all_without_one_of_their_own(chain: Queueing) -> None:
    chain.block(chain.limit("BANKA", None, 100), chain.limit("BANKA", "BANKC", 500))
    chain.pay("to C", "BANKA", "BANKC", 400)
    assert chain.said(chain.pay("to B", "BANKA", "BANKB", 70)) == [("to B", "ACSC")]
    assert chain.said(chain.pay("to P", "BANKA", "PAYCO", 31)) == [("to P", "PDNG AM14")]
    assert (chain.used("BANKA", None), chain.used("BANKA", "BANKC")) == (70, 400)


def test_what_comes_in_makes_room_and_lets_the_waiting_settle(chain: Queueing) -> None:
    chain.block(chain.limit("BANKA", "BANKB", 100))
    assert chain.said(chain.pay("waits", "BANKA", "BANKB", 130)) == [("waits", "PDNG AM14")]
    assert chain.said(chain.pay("from C", "BANKC", "BANKA", 500)) == [("from C", "ACSC")]
    assert chain.queue("BANKA") == ["waits"]
    assert chain.said(chain.pay("from B", "BANKB", "BANKA", 30)) == [
        ("from B", "ACSC"),
        ("waits", "ACSC"),
    ]
    assert chain.used("BANKA", "BANKB") == 100


def test_two_that_bind_each_other_settle_together(chain: Queueing) -> None:
    """Neither limit allows its payment alone; the difference is within both."""
    chain.block(chain.limit("BANKA", "BANKB", 10), chain.limit("BANKB", "BANKA", 10))
    chain.pay("there", "BANKA", "BANKB", 300)
    block = chain.pay("back", "BANKB", "BANKA", 295)
    assert chain.said(block) == [("back", "PDNG AM14"), ("there", "ACSC"), ("back", "ACSC")]
    assert (chain.used("BANKA", "BANKB"), chain.used("BANKB", "BANKA")) == (5, -5)


def test_all_payments_of_an_entry_count_together(chain: Queueing) -> None:
    chain.block(chain.limit("BANKA", None, 100))
    group = [
        chain.payment("one", "BANKA", "BANKB", 60),
        chain.payment("two", "BANKA", "BANKC", 41),
    ]
    block = chain.block(chain.send(*group, all_or_none=True))
    assert chain.said(block) == [("one", "PDNG AM14"), ("two", "PDNG AM14")]
    assert chain.said(chain.pay("in", "BANKB", "BANKA", 1))[1:] == [
        ("one", "ACSC"),
        ("two", "ACSC"),
    ]
    assert chain.used("BANKA", None) == 100


def test_limits_are_of_the_settlement_account_whatever_account_is_paid(chain: Queueing) -> None:
    chain.fund(1_000, "PAYCO")
    chain.block(chain.limit("PAYCO", None, 100), chain.limit("BANKA", "PAYCO", 50))
    reserve = AccountKind.CLIENT_RESERVE
    own = chain.payment("own", "PAYCO", "PAYCO", 900, creditor_account=reserve)
    assert chain.said(chain.block(chain.send(own))) == [("own", "ACSC")]
    assert chain.used("PAYCO", None) == 0, "nobody is its own counterparty"
    out = chain.payment(
        "out",
        "PAYCO",
        "BANKA",
        500,
        debtor_account=reserve,
        payment_class=PaymentClass.CUSTOMER,
        ultimate_debtor="Alice",
    )
    assert chain.said(chain.block(chain.send(out))) == [("out", "ACSC")]
    assert chain.used("PAYCO", None) == 0, "client money has no limits"
    assert chain.used("BANKA", "PAYCO") == -500
    chain.pay("in", "BANKA", "PAYCO", 20, creditor_account=reserve)
    assert chain.used("BANKA", "PAYCO") == -480


def test_a_reservation_counts_from_the_start_and_is_given_back(chain: Queueing) -> None:
    chain.block(chain.limit("BANKA", "BANKB", 100), chain.limit("BANKB", None, 100))
    payment = chain.payment("aside", "BANKA", "BANKB", 80)
    body = Reserve(payment, chain.world.lei("BANKB"), None, chain.state.time + HOUR_MS)
    chain.block(chain.order("BANKA", body))
    assert (chain.used("BANKA", "BANKB"), chain.used("BANKB", None)) == (80, 0)
    assert words(chain.pay("more", "BANKA", "BANKB", 21).outcomes[0]) == "PDNG AM14"
    block = chain.block(chain.order("BANKB", Void(payment.uetr)))
    assert chain.said(block) == [("aside", "CANC CN01"), ("more", "ACSC")]
    assert (chain.used("BANKA", "BANKB"), chain.used("BANKB", None)) == (21, -21)


# --- setting them ---------------------------------------------------------------------------------


def test_a_limit_counts_from_when_it_is_set_and_keeps_its_use_when_changed(chain: Queueing) -> None:
    chain.pay("before", "BANKA", "BANKB", 500)
    chain.block(chain.limit("BANKA", "BANKB", 100))
    assert chain.used("BANKA", "BANKB") == 0
    chain.pay("after", "BANKA", "BANKB", 60)
    chain.block(chain.limit("BANKA", "BANKB", 60))
    assert chain.used("BANKA", "BANKB") == 60
    chain.block(chain.limit("BANKA", "BANKB", None))
    assert chain.limits("BANKA") is None
    chain.block(chain.limit("BANKA", "BANKB", 0))
    assert chain.used("BANKA", "BANKB") == 0


@pytest.mark.parametrize("new", [130, None])
def test_a_raised_or_removed_limit_lets_the_waiting_settle(
    chain: Queueing, new: int | None
) -> None:
    chain.block(chain.limit("BANKA", "BANKB", 100))
    chain.pay("waits", "BANKA", "BANKB", 130)
    assert chain.said(chain.block(chain.limit("BANKA", "BANKB", new))) == [("waits", "ACSC")]


def test_a_bilateral_limit_takes_its_counterparty_out_of_the_multilateral_one(
    chain: Queueing,
) -> None:
    chain.block(chain.limit("BANKA", None, 50))
    chain.pay("waits", "BANKA", "BANKB", 60)
    assert chain.said(chain.block(chain.limit("BANKA", "BANKB", 60))) == [("waits", "ACSC")]
    assert (chain.used("BANKA", None), chain.used("BANKA", "BANKB")) == (0, 60)


def test_an_operator_sets_a_participants_limit(chain: Queueing) -> None:
    chain.block(chain.limit("BANKA", "BANKB", 5, sender="CENTRALBANK"))
    assert words(chain.pay("over", "BANKA", "BANKB", 6).outcomes[0]) == "PDNG AM14"


def test_a_lower_limit_than_what_waits_is_no_reason_to_refuse(chain: Queueing) -> None:
    chain.block(chain.limit("BANKA", None, 50))
    chain.pay("waits", "BANKA", "BANKB", 51)
    block = chain.block(chain.limit("BANKA", None, 0))
    assert [words(each) for each in block.outcomes] == ["ACSC"]
    assert chain.queue("BANKA") == ["waits"]


class Case(NamedTuple):
    name: str
    reason: str
    order: Callable[[Queueing], CheckedInstruction]


CASES = [
    Case("another's account", "DS20", lambda c: c.limit("BANKA", "BANKB", 1, sender="BANKB")),
    Case("a supervisor", "DS20", lambda c: c.limit("BANKA", "BANKB", 1, sender="WATCHDOG")),
    Case("below its use", "AM12", lambda c: c.limit("BANKA", "BANKB", 59)),
    Case("multilateral below its use", "AM12", lambda c: c.limit("BANKA", None, 39)),
    Case("an unknown counterparty", "BE06", lambda c: c.limit("BANKA", lei(999), 1)),
    Case("an unknown holder", "BE06", lambda c: c.limit(lei(999), None, 1, sender="CENTRALBANK")),
    Case("a holder without account", "AC03", lambda c: c.limit("WATCHDOG", "BANKB", 1)),
    Case("an unknown asset", "AM03", lambda c: c.limit("BANKA", "BANKB", 1, asset="XXX")),
    Case("towards oneself", "AG12", lambda c: c.limit("BANKA", "BANKA", 1)),
    Case("no limit to remove", "DU05", lambda c: c.limit("BANKA", "BANKC", None)),
    Case("none at all to remove", "DU05", lambda c: c.limit("BANKB", None, None)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_refused_limit_names_its_reason_and_leaves_the_state_untouched(
    chain: Queueing, case: Case
) -> None:
    chain.block(chain.limit("BANKA", "BANKB", 100), chain.limit("BANKA", None, 100))
    chain.pay("to B", "BANKA", "BANKB", 60)
    chain.pay("to C", "BANKA", "BANKC", 40)
    assert_refused(chain, case.order(chain), case.reason)


def test_there_is_a_most_of_bilateral_limits(chain: Queueing) -> None:
    work = Work(chain.state, BlockContext(chain.state.height + 1, chain.state.time + 1))
    record: LimitsRecord | None = LimitsRecord(None, ())
    for number in range(limits.MAX_BILATERAL):
        assert record is not None
        record = limits.with_limit(record, lei(100 + number), number)
    assert record is not None
    assert [each.counterparty for each in record.bilateral] == sorted(
        each.counterparty for each in record.bilateral
    )
    work.put(LIMITS, LimitsKey(chain.world.lei("BANKA"), "EUR"), record)
    set_limit(work, 0, chain.limit("BANKA", "BANKB", 1), _body(chain.world, "BANKB", 1))
    set_limit(work, 1, chain.limit("BANKA", None, 1), _body(chain.world, None, 1))
    assert [words(decode(each, Outcome)) for each in work.outcomes] == ["RJCT AM21", "ACSC"]
    found = work.get(LIMITS, LimitsKey(chain.world.lei("BANKA"), "EUR"))
    assert found is not None
    assert len(found.bilateral) == limits.MAX_BILATERAL
    assert found.multilateral == MultilateralLimit(1, 0)


def _body(world: World, towards: str | None, limit: int) -> SetLimit:
    counterparty = None if towards is None else world.lei(towards)
    return SetLimit(world.lei("BANKA"), "EUR", counterparty, limit)


# --- counting -------------------------------------------------------------------------------------


def test_a_new_day_uses_nothing_yet(chain: Queueing) -> None:
    chain.block(chain.limit("BANKA", "BANKB", 100), chain.limit("BANKC", None, 100))
    chain.pay("to B", "BANKA", "BANKB", 60)
    chain.pay("to A", "BANKC", "BANKA", 70)
    work = Work(chain.state, BlockContext(chain.state.height + 1, chain.state.time + 1))
    limits.reset(work)
    used = [
        [each.used for each in record.bilateral]
        + ([] if record.multilateral is None else [record.multilateral.used])
        for _, record in work.rows(LIMITS)
    ]
    assert used == [[0], [0]]


def test_use_stops_at_what_a_record_can_hold(chain: Queueing) -> None:
    """Money may go round so often that what came in is more than can be counted."""
    key = LimitsKey(chain.world.lei("BANKA"), "EUR")
    work = Work(chain.state, BlockContext(chain.state.height + 1, chain.state.time + 1))
    other = chain.world.lei("BANKB")
    record = LimitsRecord(None, (BilateralLimit(other, 5, -MAX_BALANCE + 1),))
    work.put(LIMITS, key, record)
    limits.use(work, *_account(chain), {other: -10})
    assert work.get(LIMITS, key) == replace(
        record, bilateral=(BilateralLimit(other, 5, -MAX_BALANCE),)
    )
    assert limits.fits(work, *_account(chain), {other: MAX_BALANCE + 5})
    assert not limits.fits(work, *_account(chain), {other: MAX_BALANCE + 6})


def _account(chain: Queueing) -> tuple[str, str]:
    return chain.world.lei("BANKA"), "EUR"
