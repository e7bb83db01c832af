"""Recalls and returns: never more goes back than settled, whatever waits, and who may say what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import AcknowledgementKey, AcknowledgementRecord, PaymentKey
from node.chain.types import (
    AccountKind,
    Acknowledge,
    Cancel,
    Issue,
    Mode,
    Payment,
    Priority,
    Recall,
    RefuseRecall,
    Return,
    Returns,
)
from node.ledger.tables import ACKNOWLEDGEMENTS, PAYMENTS
from tests.support.days import assert_rejected, settling_world
from tests.support.ledger_world import DAY_MS, HOUR_MS, uetr
from tests.support.netting_world import Clearing, netting_world
from tests.support.steps import Stage, play, restarted

ONE, TWO = b"\1" * 32, b"\2" * 32

TABLES = {
    "all of it at once": """
        fund A 100                   |                  | A 100
        pay p A B 40                 | p settled        | A 60 B 40
        giveback x p 40              | x settled        | A 100 B 0
        giveback y p 1               | y rejected/AM09  |
    """,
    "in parts, to the last unit": """
        fund A 100                   |                  | A 100
        pay p A B 40                 | p settled        | A 60 B 40
        giveback x p 15              | x settled        | A 75 B 25
        giveback y p 26              | y rejected/AM09  |
        giveback z p 25              | z settled        | A 100 B 0
        giveback v p 1               | v rejected/AM09  |
    """,
    "one that waits counts": """
        fund A 100                   |                       | A 100
        pay p A B 40                 | p settled             | A 60 B 40
        pay q B C 40                 | q settled             | B 0 C 40
        giveback x p 30              | x queued/AM04         |
        giveback y p 11              | y rejected/AM09       |
        giveback z p 10              | z queued/AM19         |
        fund B 40                    |                       | A 100
        giveback v p 1               | v rejected/AM09       |
    """,
    "asked, refused, asked again, returned": """
        fund A 100                   |                  | A 100
        pay p A B 40                 | p settled        | A 60 B 40
        refuse p B                   | rejected/NOAS    |
        recall p B                   | rejected/DS0F    |
        recall p A                   | ok               |
        recall p A                   | rejected/DU02    |
        refuse p A                   | rejected/DS0F    |
        refuse p B                   | ok               |
        refuse p B                   | rejected/NOAS    |
        recall p A                   | ok               |
        giveback x p 30              | x settled        | A 90 B 10
        refuse p B                   | rejected/NOAS    |
        recall p A                   | ok               |
        giveback y p 10              | y settled        | A 100 B 0
        recall p A                   | rejected/AM09    |
    """,
    "a return is a payment, and may be given back itself": """
        fund A 100                   |                  | A 100
        pay p A B 40                 | p settled        | A 60 B 40
        giveback x p 40              | x settled        | A 100 B 0
        giveback y x 40              | y settled        | A 60 B 40
        giveback z x 1               | z rejected/AM09  |
        giveback v y 40              | v settled        | A 100 B 0
        giveback w p 1               | w rejected/AM09  |
    """,
    "what waited and settled is given back": """
        fund A 10                    |                     | A 10
        pay p A B 40                 | p queued/AM04       |
        giveback x p 40              | x rejected/NOOR     |
        recall p A                   | rejected/NOOR       |
        pay q C A 30                 | q queued/AM04       |
        fund C 30                    |                     | A 0 B 40
        recall p A                   | ok                  |
        giveback y p 40              | y settled           | A 40 B 0
        giveback z p 1               | z rejected/AM09     |
    """,
    "what never settled is not": """
        fund A 10                          |                  | A 10
        pay p A A 5                        | p rejected/AG12  |
        recall p A                         | rejected/NOOR    |
        reserve r A B 5 poster=C           | r reserved       | A 10/5
        recall r A                         | rejected/NOOR    |
        giveback x r 5                     | x rejected/NOOR  |
        void r B                           | r voided         | A 10
        recall r A                         | rejected/NOOR    |
        giveback y r 5                     | y rejected/NOOR  |
    """,
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_of_returns(table: str) -> None:
    play(table)


def paid(**options: Any) -> Stage:
    """A paid B 40 of its 100."""
    s = Stage(settling_world(**options))
    s.play("""
        fund A 100                   |                  | A 100
        pay p A B 40                 | p settled        | A 60 B 40
    """)
    return s


def waiting() -> Stage:
    """B has paid on what A paid it, and its return of 30 waits."""
    s = paid()
    s.play("""
        pay q B C 40                 | q settled         | B 0 C 40
        giveback x p 30              | x queued/AM04     |
    """)
    return s


def test_a_return_that_is_cancelled_or_expires_makes_room_for_another() -> None:
    s = waiting()
    row = s.record("p")
    assert row is not None
    assert (row.returned, row.returning, row.recall) == (0, 30, "returned")
    s.chain.block(s.send("B", Cancel(s.payments["x"].uetr)))
    row = s.record("p")
    assert row is not None
    assert (row.returned, row.returning) == (0, 0)
    late = s.draft("y", "B", "A", "40", latest=s.soon("1"))
    s.chain.block(s.send("B", Return(late, s.payments["p"], "DUPL")))
    row = s.record("p")
    assert row is not None
    assert row.returning == 40
    s.play("""
        giveback z p 1               | z rejected/AM09   |
        wait 2                       | y expired         |
        fund B 40                    |                   | B 40
        giveback v p 40              | v settled         | A 100 B 0
    """)
    row = s.record("p")
    assert row is not None
    assert (row.returned, row.returning) == (40, 0)


def test_a_return_that_waited_and_settled_stays_counted() -> None:
    s = waiting()
    s.play("""
        pay d C B 30                 | d settled x settled resolved=1 | A 90 C 10
        giveback y p 11              | y rejected/AM09      |
        fund B 10                    |                      | B 10
        giveback z p 10              | z settled            | A 100 B 0
    """)


def test_a_return_names_what_it_gives_back_in_its_first_outcome() -> None:
    s = waiting()
    told = [each for each in s.chain.blocks[-1].outcomes if each.uetr == s.payments["x"].uetr]
    assert [each.event for each in told] == [Returns(s.payments["p"].uetr)]
    assert s.chain.blocks[-1].applied.following == [(s.payments["p"].uetr, s.payments["x"].uetr)]


def test_a_return_sent_again_is_told_how_it_stands_and_gives_nothing_back_twice() -> None:
    s = paid()
    first = s.giveback("x", "p", "30")
    body = first[0].instruction.envelope.body
    s.chain.block(*first)
    for _ in range(2):
        (told,) = s.chain.block(s.send("B", body)).outcomes
        assert (told.status, told.original is not None) == ("ACSC", True)
    row = s.record("p")
    assert row is not None
    assert row.returned == 30
    assert s.chain.balance("BANKB") == 10


def test_a_payment_that_settled_at_once_gets_a_row_once_somebody_comes_back_to_it() -> None:
    s = paid()
    assert not list(s.chain.state.rows(PAYMENTS))
    assert s.record("p") is None
    s.play("recall p A | ok |")
    row = s.record("p")
    assert row is not None
    assert (row.first.height, row.status, row.changes, row.live) == (2, "ACSC", 0, None)
    assert not list(s.chain.state.rows(PAYMENTS)), "it is not kept in memory"
    assert restarted(s.chain).get(PAYMENTS, PaymentKey(row.uetr)) == row


def test_without_a_row_a_payment_is_known_as_long_as_its_uetr_is_and_with_one_for_ever() -> None:
    s = paid(uetr_window_days=1)
    s.play("pay r A B 7 | r settled | A 53 B 47")
    s.play("recall p A | ok |")
    s.chain.block(time=s.chain.state.time + 3 * DAY_MS)
    s.play("""
        recall r A                   | rejected/NOOR     |
        giveback x r 7               | x rejected/NOOR   |
        refuse p B                   | ok                |
        giveback y p 40              | y settled         | A 93 B 7
        giveback z p 1               | z rejected/AM09   |
    """)


def test_another_payment_under_a_uetr_that_was_forgotten_has_a_history_of_its_own() -> None:
    """The window has passed: the same UETR names a new payment, of which nothing was returned."""
    s = paid(uetr_window_days=1)
    old = s.payments["p"]
    s.play("giveback x p 40 | x settled | A 100 B 0")
    s.chain.block(time=s.chain.state.time + 3 * DAY_MS)
    s.payments["p"] = replace(old, amount=60)
    s.play("""
        again p                      | p settled         | A 40 B 60
        giveback y p 60              | y settled         | A 100 B 0
        giveback z p 1               | z rejected/AM09   |
    """)
    row = s.record("p")
    assert row is not None
    assert (row.returned, row.first.height) == (60, 5)
    s.payments["p"] = old
    s.play("recall p A | rejected/NOOR |")


def test_a_return_that_waits_longer_than_its_original_is_known_disturbs_no_successor() -> None:
    """While it waits, the original's UETR comes to name another payment, which waits too."""
    s = paid(uetr_window_days=2)
    s.play("pay q B C 40 | q settled | B 0 C 40")
    s.chain.block(time=s.chain.state.time + 36 * HOUR_MS)
    s.play("giveback x p 30 | x queued/AM04 |")
    s.chain.block(time=s.chain.state.time + 13 * HOUR_MS)
    s.payments["p"] = replace(s.payments["p"], amount=200)
    s.play("""
        again p                      | p queued/AM04     |
        pay d C B 30                 | d settled x settled resolved=1 | A 90 C 10
    """)
    row = s.record("p")
    assert row is not None
    assert (row.returned, row.returning, row.status) == (0, 0, "PDNG")


def test_a_net_payment_can_be_given_back_once_its_cycle_settled() -> None:
    clearing = Clearing(netting_world())
    clearing.endow("BANKA", settlement=100, margin=50, fund=50)
    clearing.endow("BANKB", settlement=100, margin=50, fund=50)
    whole = clearing.net_payment("BANKA", "BANKB", 40)
    (joined,) = clearing.block(clearing.world.pay("BANKA", whole)).outcomes
    assert joined.status == "ACSP"
    ask = Recall(whole, "DUPL")
    assert_rejected(clearing, clearing.world.order("BANKA", ask), "NOOR")
    clearing.close()
    assert clearing.on("BANKB") == 140
    assert clearing.block(clearing.world.order("BANKA", ask)).outcomes[0].status == "ACSC"
    back = clearing.world.payment("BANKB", "BANKA", 30)
    clearing.block(clearing.world.order("BANKB", Return(back, whole, "DUPL")))
    assert (clearing.on("BANKA"), clearing.on("BANKB")) == (90, 110)
    over = clearing.world.payment("BANKB", "BANKA", 11)
    assert_rejected(clearing, clearing.world.order("BANKB", Return(over, whole, "DUPL")), "AM09")


# --- refusals -------------------------------------------------------------------------------------


def back(
    s: Stage, *, sender: str = "B", original: Payment | None = None, **changed: Any
) -> CheckedInstruction:
    made = replace(s.draft("x", "B", "A", "10"), **changed)
    return s.send(sender, Return(made, original or s.payments["p"], "DUPL"))


def altered(s: Stage) -> Payment:
    """Like the payment that settled, with another priority."""
    return replace(s.payments["p"], priority=Priority.HIGH)


def issued(s: Stage) -> Payment:
    """A UETR that an issue used."""
    body = Issue(uetr(5_000), "EUR", s.lei("B"), 10)
    s.chain.block(s.world.order("CENTRALBANK", body))
    return replace(s.payments["p"], uetr=uetr(5_000))


def used(s: Stage) -> CheckedInstruction:
    s.play("pay q B A 1 | q settled | A 61 B 39")
    return back(s, uetr=s.payments["q"].uetr)


def return_of(s: Stage, name: str) -> CheckedInstruction:
    """By somebody who is no party of it."""
    made = s.draft("x", "C", "A", "10")
    return s.send("C", Return(made, s.payments[name], "DUPL"))


def acknowledge(s: Stage, sender: str, payment: Payment | None = None) -> CheckedInstruction:
    return s.send(sender, Acknowledge(payment or s.payments["p"], ONE, TWO))


def acknowledged_twice(s: Stage) -> CheckedInstruction:
    s.chain.block(acknowledge(s, "B"))
    return acknowledge(s, "B")


Make = Callable[[Stage], CheckedInstruction]
REFUSALS: dict[str, tuple[str, Make]] = {
    "recall: changed content": ("NOOR", lambda s: s.send("A", Recall(altered(s), "DUPL"))),
    "recall: an issue": ("NOOR", lambda s: s.send("A", Recall(issued(s), "DUPL"))),
    "recall: by the creditor": ("DS0F", lambda s: s.send("B", Recall(s.payments["p"], "DUPL"))),
    "recall: by nobody": ("DS0F", lambda s: s.send("C", Recall(s.payments["p"], "DUPL"))),
    "refusal: changed content": ("NOOR", lambda s: s.send("B", RefuseRecall(altered(s), "LEGL"))),
    "refusal: by the debtor": (
        "DS0F",
        lambda s: s.send("A", RefuseRecall(s.payments["p"], "LEGL")),
    ),
    "refusal: not asked": ("NOAS", lambda s: s.send("B", RefuseRecall(s.payments["p"], "LEGL"))),
    "return: from another's account": ("DS0H", lambda s: back(s, sender="C")),
    "return: of a payment changed": ("NOOR", lambda s: back(s, original=altered(s))),
    "return: of an issue": ("NOOR", lambda s: back(s, original=issued(s))),
    "return: by somebody else": ("DS0F", lambda s: return_of(s, "p")),
    "return: more than settled": ("AM09", lambda s: back(s, amount=41)),
    "return: to somebody else": ("BE01", lambda s: back(s, creditor=s.lei("C"))),
    "return: in another asset": ("BE01", lambda s: back(s, asset="CNY")),
    "return: from another account": (
        "AC14",
        lambda s: back(s, debtor_account=AccountKind.CLIENT_RESERVE),
    ),
    "return: to another account": (
        "AC14",
        lambda s: back(s, creditor_account=AccountKind.CLIENT_RESERVE),
    ),
    "return: by net": ("AG02", lambda s: back(s, mode=Mode.NET)),
    "return: of nothing": ("AM01", lambda s: back(s, amount=0)),
    "return: more than there can be": ("AM02", lambda s: back(s, amount=2**63)),
    "return: under a used UETR": ("AM05", used),
    "return: too late": ("AB03", lambda s: back(s, latest=s.chain.state.time)),
    "acknowledgement: changed content": ("NOOR", lambda s: acknowledge(s, "B", altered(s))),
    "acknowledgement: by the debtor": ("DS0F", lambda s: acknowledge(s, "A")),
    "acknowledgement: twice": ("DU02", acknowledged_twice),
}


@pytest.mark.parametrize(("reason", "make"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_claim_names_its_reason_and_leaves_no_trace(reason: str, make: Make) -> None:
    s = paid()
    assert_rejected(s.chain, make(s), reason)


def test_an_acknowledgement_is_kept_as_it_was_said() -> None:
    s = paid()
    s.chain.block(acknowledge(s, "B"))
    key = AcknowledgementKey(s.payments["p"].uetr, ONE)
    expected = AcknowledgementRecord(s.lei("B"), TWO, 3)
    assert s.chain.state.get(ACKNOWLEDGEMENTS, key) == expected
    assert restarted(s.chain).get(ACKNOWLEDGEMENTS, key) == expected


def test_what_waits_and_what_was_rejected_can_be_acknowledged_too() -> None:
    s = paid()
    s.play("""
        pay q A B 400                | q queued/AM04     |
        pay r A B 0                  | r rejected/AM01   |
    """)
    for name in "qr":
        (told,) = s.chain.block(acknowledge(s, "B", s.payments[name])).outcomes
        assert told.status == "ACSC"
