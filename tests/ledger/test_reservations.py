"""Two-phase payments: tables of steps, refusals, hash locks, and what limits count."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import PaymentKey, Reserved
from node.chain.types import MAX_VALIDITY_MS, Freeze, Mode, Phase, Post, Reserve, Void
from node.ledger.tables import PAYMENTS
from tests.support.days import (
    assert_rejected,
    days,
    opening,
    phase,
    publish,
    settling_world,
)
from tests.support.ledger_world import DAY_MS, HOUR_MS, uetr
from tests.support.steps import PREIMAGES, Stage, play, restarted

TABLES = {
    "posted in full": """
        fund A 100                   |                | A 100
        reserve r A B 40 poster=C    | r reserved     | A 100/40
        post r C                     | r posted=40    | A 60 B 40
        post r C                     | rejected/ARDT  |
        void r B                     | rejected/ARDT  |
    """,
    "posted in part, the rest goes back": """
        fund A 100                   |                | A 100
        reserve r A B 40 poster=C    | r reserved     | A 100/40
        post r C 15                  | r posted=15    | A 85 B 15
        post r C 25                  | rejected/ARDT  |
    """,
    "posted as it was said: the whole amount by number": """
        fund A 100                   |                | A 100
        reserve r A B 40 poster=B    | r reserved     | A 100/40
        post r B 40                  | r posted=40    | A 60 B 40
    """,
    "more than was set aside, or nothing, is not posted": """
        fund A 100                   |                | A 100
        reserve r A B 40 poster=C    | r reserved     | A 100/40
        post r C 41                  | rejected/AM09  |
        post r C 0                   | rejected/AM01  |
        post r B                     | rejected/DS0F  |
        post r A                     | rejected/DS0F  |
        post r C 40                  | r posted=40    | A 60 B 40
    """,
    "voided by the creditor alone, and once": """
        fund A 100                   |                | A 100
        reserve r A B 40 poster=C    | r reserved     | A 100/40
        void r A                     | rejected/DS0F  |
        void r C                     | rejected/DS0F  |
        void r B                     | r voided       | A 100
        void r B                     | rejected/ARDT  |
        post r C                     | rejected/ARDT  |
    """,
    "expires by block time": """
        fund A 100                            |                | A 100
        reserve r A B 40 poster=C hours=1     | r reserved     | A 100/40
        wait 2                                | r expired      | A 100
        post r C                              | rejected/ARDT  |
        void r B                              | rejected/ARDT  |
    """,
    "the debtor may be the one to post": """
        fund A 100                   |                | A 100
        reserve r A B 40 poster=A    | r reserved     | A 100/40
        post r A                     | r posted=40    | A 60 B 40
    """,
    "a lock: whoever shows the preimage posts all of it": """
        fund A 100                   |                | A 100
        reserve r A B 40 lock=x      | r reserved     | A 100/40
        post r C                     | rejected/DS0B  |
        post r B show=y              | rejected/DS0B  |
        post r B 39 show=x           | rejected/AM09  |
        post r C show=x              | r posted=40    | A 60 B 40
    """,
    "poster and lock: the poster needs no preimage and may post a part": """
        fund A 100                            |                | A 100
        reserve r A B 40 poster=C lock=x      | r reserved     | A 100/40
        post r B                              | rejected/DS0F  |
        post r B show=y                       | rejected/DS0B  |
        post r B 10 show=x                    | rejected/AM09  |
        post r C 10                           | r posted=10    | A 90 B 10
    """,
    "never queued: rejected with what it would wait for": """
        fund A 100                   |                      | A 100
        reserve r A B 101 poster=C   | r rejected/AM04      |
        pay p A B 120                | p queued/AM04        |
        reserve s A B 5 poster=C     | s rejected/AM19      |
        limit B A 3                  | ok                   |
        fund B 100                   |                      | B 100
        reserve t B A 4 poster=C     | t rejected/AM14      |
        reserve u B A 3 poster=C     | u reserved           | B 100/3
    """,
    "what is set aside pays nothing else": """
        fund A 100                   |                      | A 100
        reserve r A B 60 poster=C    | r reserved           | A 100/60
        reserve s A C 41 poster=C    | s rejected/AM04      |
        pay p A C 41                 | p queued/AM04        |
        void r B                     | r voided p settled resolved=1 | A 59 C 41
    """,
    "what a part leaves lets a queued payment settle in the same block": """
        fund A 100                   |                            | A 100
        reserve r A B 60 poster=C    | r reserved                 | A 100/60
        pay p A C 70                 | p queued/AM04              |
        post r C 30                  | r posted=30 p settled resolved=1 | A 0 B 30 C 70
    """,
    "what it brings lets the creditor's queue settle in the same block": """
        fund A 100                   |                            | A 100
        reserve r A B 60 poster=C    | r reserved                 | A 100/60
        pay p B C 50                 | p queued/AM04              |
        post r C                     | r posted=60 p settled resolved=1 | A 40 B 10 C 50
    """,
    "what expires lets the queue settle": """
        fund A 100                         |                      | A 100
        reserve r A B 60 poster=C hours=1  | r reserved           | A 100/60
        pay p A C 70                       | p queued/AM04        |
        wait 2                             | r expired p settled resolved=1 | A 30 C 70
    """,
    "several at once, each by itself": """
        fund A 100                   |                | A 100
        reserve r A B 40 poster=C    | r reserved     | A 100/40
        reserve s A B 60 lock=x      | s reserved     | A 100/100
        reserve t A B 1 poster=C     | t rejected/AM04|
        post s B show=x              | s posted=60    | A 40/40 B 60
        void r B                     | r voided       | A 40
    """,
    "to expire in the same moment is too late to post": """
        fund A 100                         |                | A 100
        reserve r A B 40 poster=C hours=1  | r reserved     | A 100/40
        wait 1                             | r expired      | A 100
    """,
    "in a security": """
        fund A 7 BOND                            |              | A.BOND 7
        reserve r A B 5 poster=C asset=BOND      | r reserved   | A.BOND 7/5
        post r C 2                               | r posted=2   | A.BOND 5 B.BOND 2
    """,
    "a posted part is all that can be given back": """
        fund A 100                   |                  | A 100
        reserve r A B 40 poster=C    | r reserved       | A 100/40
        post r C 15                  | r posted=15      | A 85 B 15
        giveback x r 16              | x rejected/AM09  |
        giveback y r 10              | y settled        | A 95 B 5
        giveback z r 6               | z rejected/AM09  |
        giveback v r 5               | v settled        | A 100 B 0
    """,
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_of_two_phase_payments(table: str) -> None:
    play(table)


# --- refusals -------------------------------------------------------------------------------------


def stage() -> Stage:
    """A has 100."""
    made = Stage()
    made.play("fund A 100 | | A 100")
    return made


def reserve(
    s: Stage,
    *,
    debtor: str = "A",
    creditor: str = "B",
    amount: str = "40",
    poster: str | None = "C",
    lock: bytes | None = None,
    expires: int | None = None,
    sender: str = "A",
    **more: Any,
) -> CheckedInstruction:
    payment = s.draft("r", debtor, creditor, amount, **more)
    until = s.soon() if expires is None else expires
    named = None if poster is None else s.world.lei({"C": "BANKC"}.get(poster, poster))
    return s.send(sender, Reserve(payment, named, lock, until))


def late(s: Stage) -> CheckedInstruction:
    return reserve(s, expires=s.chain.state.time + 1_000)


def too_far(s: Stage) -> CheckedInstruction:
    return reserve(s, expires=s.chain.state.time + 1_000 + MAX_VALIDITY_MS + 1)


def past_its_latest(s: Stage) -> CheckedInstruction:
    return reserve(s, expires=s.soon("2"), latest=s.soon("1"))


def used(s: Stage) -> CheckedInstruction:
    s.play("pay p A B 1 | p settled | A 99 B 1")
    other = reserve(s)
    body = other.instruction.envelope.body
    assert isinstance(body, Reserve)
    return s.send("A", replace(body, payment=replace(body.payment, uetr=s.payments["p"].uetr)))


def overflow(s: Stage) -> CheckedInstruction:
    return reserve(s, amount=str(2**63 - 1))


def limited(s: Stage) -> CheckedInstruction:
    s.play("limit A B 39 | ok |")
    return reserve(s)


def behind_others(s: Stage) -> CheckedInstruction:
    s.play("pay p A B 101 | p queued/AM04 |")
    return reserve(s)


Make = Callable[[Stage], CheckedInstruction]
REFUSALS: dict[str, tuple[str, Make]] = {
    "another's account": ("DS0H", lambda s: reserve(s, sender="B")),
    "a supervisor's": (
        "DS0H",
        lambda s: s.world.order("WATCHDOG", Reserve(s.draft("r", "A", "B", "1"), None, None, 0)),
    ),
    "nothing": ("AM01", lambda s: reserve(s, amount="0")),
    "more than an account can hold": ("AM02", lambda s: reserve(s, amount=str(2**63))),
    "no such asset": ("AM03", lambda s: reserve(s, asset="USD")),
    "to itself": ("AG12", lambda s: reserve(s, creditor="A")),
    "not covered": ("AM04", overflow),
    "over a limit": ("AM14", limited),
    "behind what waits": ("AM19", behind_others),
    "a used UETR, other content": ("AM05", used),
    "a net payment": ("AG02", lambda s: reserve(s, mode=Mode.NET)),
    "nobody could post it": ("DS0F", lambda s: reserve(s, poster=None)),
    "posted by a stranger": ("BE06", lambda s: reserve(s, poster="9845TEST00000009992A")),
    "expired before it began": ("DT02", late),
    "expires more than a week ahead": ("DT02", too_far),
    "expires after the payment's latest time": ("DT02", past_its_latest),
    "its latest time has passed": (
        "AB03",
        lambda s: reserve(s, latest=s.chain.state.time),
    ),
    "too early": ("DT06", lambda s: reserve(s, earliest=s.soon("1"), expires=s.soon("2"))),
    "post: no such payment": ("NOOR", lambda s: s.send("C", Post(uetr(10_001), None, None))),
    "void: no such payment": ("NOOR", lambda s: s.send("B", Void(uetr(10_001)))),
}


@pytest.mark.parametrize(("reason", "make"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_reservation_names_its_reason_and_leaves_no_trace(
    reason: str, make: Make
) -> None:
    s = stage()
    assert_rejected(s.chain, make(s), reason)


def test_a_posted_or_voided_payment_that_is_none_is_left_alone() -> None:
    s = stage()
    s.play("""
        pay p A B 1     | p settled       | A 99 B 1
        pay q A B 500   | q queued/AM04   |
        post p B        | rejected/ARDT   |
        void p B        | rejected/ARDT   |
        post q B        | rejected/ARDT   |
        void q B        | rejected/ARDT   |
    """)


def test_a_rejected_reservation_uses_up_its_uetr() -> None:
    """So that it can not come about later, when nobody counts on it any more."""
    s = stage()
    refused = reserve(s, amount="101")
    s.chain.block(refused)
    body = refused.instruction.envelope.body
    block = s.chain.block(*s.fund("A", "100"), s.send("A", body))
    assert [block.outcomes[1].status, block.outcomes[1].reason] == ["RJCT", "AM04"]
    assert block.outcomes[1].original is not None


def test_a_reservation_sent_again_is_told_how_it_stands() -> None:
    s = stage()
    first = reserve(s)
    body = first.instruction.envelope.body
    s.chain.block(first)
    for status, then in (("ACWP", None), ("ACCC", Post(s.payments["r"].uetr, 5, None))):
        if then is not None:
            s.chain.block(s.send("C", then))
        (told,) = s.chain.block(s.send("A", body)).outcomes
        assert (told.status, told.original is not None) == (status, True)
    assert s.chain.balance("BANKB") == 5


def test_how_a_reservation_ended_is_told_by_its_reason() -> None:
    s = stage()
    s.play("""
        reserve r A B 40 poster=C    | r reserved     | A 100/40
        reserve q A B 40 poster=C    | q reserved     | A 100/80
    """)
    (voided,) = s.chain.block(*s.void("r", "B")).outcomes
    assert (voided.status, voided.reason, voided.instruction) == ("CANC", "CN01", 0)
    (expired,) = s.chain.block(time=s.soon("2")).outcomes
    assert (expired.status, expired.reason, expired.instruction) == ("CANC", "AB03", None)


def test_a_reservation_never_outlives_the_memory_of_its_uetr() -> None:
    """On a ledger that forgets UETRs after a day, nothing is set aside for longer."""
    s = Stage(settling_world(uetr_window_days=1))
    s.play("fund A 100 | | A 100")
    time = s.chain.state.time + 1_000
    assert_rejected(s.chain, reserve(s, expires=time + DAY_MS + 1), "DT02")
    s.chain.block(reserve(s, expires=time + DAY_MS))
    assert s.chain.block(time=time + DAY_MS).outcomes[0].status == "CANC"


# --- limits, restart, exchange --------------------------------------------------------------------


def test_limits_count_a_reservation_when_it_is_made_and_make_room_for_what_is_not_posted() -> None:
    s = stage()
    s.play("""
        limit A B 50                 | ok                |
        limit A all 10               | ok                |
        limit B A 0                  | ok                |
        reserve r A B 40 poster=C    | r reserved        | A 100/40
        pay p A B 11                 | p queued/AM14     |
    """)
    assert s.used("A", "B") == 40
    assert s.used("A", None) == 0
    assert s.used("B", "A") == 0
    s.play("post r C 15 | r posted=15 p settled resolved=1 | A 74 B 26")
    assert s.used("A", "B") == 26
    assert s.used("B", "A") == -26
    s.play("""
        reserve s A B 24 poster=C    | s reserved        | A 74/24
        reserve t A C 10 poster=C    | t reserved        | A 74/34
    """)
    assert (s.used("A", "B"), s.used("A", None)) == (50, 10)
    s.play("""
        void s B                     | s voided          | A 74/10
        wait 2                       | t expired         | A 74
    """)
    assert (s.used("A", "B"), s.used("A", None)) == (26, 0)


def test_a_restarted_node_still_holds_what_is_set_aside() -> None:
    s = stage()
    s.play("reserve r A B 40 lock=x | r reserved | A 100/40")
    loaded = restarted(s.chain)
    lei = s.lei("A")
    assert loaded.holding(lei, "EUR", 0) == (40, 0)
    row = loaded.get(PAYMENTS, PaymentKey(s.payments["r"].uetr))
    assert row is not None
    assert isinstance(row.live, Reserved)
    assert loaded.next_due() == row.live.expires


def test_a_swap_between_two_ledgers_under_one_hash_lock() -> None:
    """A pays B euros on one ledger, B pays A yuan on another. A made the preimage: to be paid it
    must show it, and so B has it."""
    euros, yuan = Stage(settling_world(seed=1)), Stage(settling_world(seed=2, network="other"))
    assert euros.world.chain_id != yuan.world.chain_id
    euros.play("""
        fund A 100                         |             | A 100
        reserve e A B 40 lock=x hours=4    | e reserved  | A 100/40
    """)
    yuan.play("""
        fund B 900 CNY                              |             | B.CNY 900
        reserve y B A 300 lock=x hours=2 asset=CNY  | y reserved  | B.CNY 900/300
        post y A show=y                             | rejected/DS0B |
        post y A show=x                             | y posted=300  | B.CNY 600 A.CNY 300
    """)
    shown = [
        each.instruction.envelope.body.preimage
        for block in yuan.chain.blocks
        for each in block.instructions
        if isinstance(each.instruction.envelope.body, Post)
    ]
    assert sha256(shown[-1] or b"").digest() == sha256(PREIMAGES["x"]).digest()
    euros.play("post e B show=x | e posted=40 | A 60 B 40")


def test_a_swap_that_one_side_breaks_off_leaves_both_with_what_they_had() -> None:
    """The side that made the preimage never shows it: the shorter lock ends first, so that B is
    never bound while A is free."""
    euros, yuan = Stage(settling_world(seed=1)), Stage(settling_world(seed=2, network="other"))
    euros.play("""
        fund A 100                         |             | A 100
        reserve e A B 40 lock=x hours=4    | e reserved  | A 100/40
    """)
    yuan.play("""
        fund B 900 CNY                              |             | B.CNY 900
        reserve y B A 300 lock=x hours=2 asset=CNY  | y reserved  | B.CNY 900/300
        wait 3                                      | y expired   | B.CNY 900
        post y A show=x                             | rejected/ARDT |
    """)
    euros.play("wait 5 | e expired | A 100")


def test_the_preimage_of_one_ledger_opens_no_other_hash_lock() -> None:
    s = stage()
    s.play("""
        reserve r A B 40 lock=x      | r reserved     | A 100/40
        reserve s A B 40 lock=y      | s reserved     | A 100/80
        post s B show=x              | rejected/DS0B  |
        post r B show=x              | r posted=40    | A 60/40 B 40
    """)


def test_who_reads_the_chain_can_not_change_where_a_shown_preimage_sends_the_money() -> None:
    """C copies B's preimage and is first: B is paid all the same."""
    s = stage()
    s.play("reserve r A B 40 lock=x | r reserved | A 100/40")
    copied = s.post("r", "C", "show=x") + s.post("r", "B", "show=x")
    block = s.chain.block(*copied)
    assert s.told(block) == ["r", "posted=40", "rejected/ARDT"]
    assert s.chain.balance("BANKB") == 40
    assert s.chain.balance("BANKC") in (None, 0)


def test_reserved_and_posted_in_one_block_keeps_what_was_posted() -> None:
    s = stage()
    made = s.reserve("r", "A", "B", "40", "poster=C")
    s.chain.block(*made, *s.post("r", "C", "15"))
    row = s.record("r")
    assert row is not None
    assert (row.status, row.posted, row.changes) == ("ACCC", 15, 0)
    s.expected = {("A", "EUR"): (85, 0), ("B", "EUR"): (15, 0)}
    s.play("""
        giveback x r 16     | x rejected/AM09   |
        giveback y r 15     | y settled         | A 100 B 0
    """)


# --- restrictions and the day ---------------------------------------------------------------------


def freeze(s: Stage, letter: str, *, debit: bool = False, credit: bool = False) -> None:
    body = Freeze(s.lei(letter), debit, credit, "NARR")
    s.chain.block(s.world.order("WATCHDOG", body, valid_until=s.chain.state.time + DAY_MS))


def test_nothing_is_set_aside_for_a_party_that_is_frozen_or_by_it() -> None:
    s = stage()
    freeze(s, "B", credit=True)
    assert_rejected(s.chain, reserve(s), "AC06")
    freeze(s, "B", debit=True)
    s.play("reserve r A B 40 poster=C | r reserved | A 100/40")
    freeze(s, "A", debit=True)
    assert_rejected(s.chain, reserve(s), "AC06")


def test_what_is_set_aside_stands_though_its_parties_are_frozen() -> None:
    s = stage()
    s.play("""
        reserve r A B 40 lock=x      | r reserved     | A 100/40
        reserve q A B 10 poster=C    | q reserved     | A 100/50
    """)
    freeze(s, "A", debit=True, credit=True)
    freeze(s, "B", debit=True, credit=True)
    s.play("""
        post r C show=x              | r posted=40    | A 60/10 B 40
        void q B                     | q voided       | A 60
    """)


def test_a_close_of_day_ends_no_reservation_and_posting_goes_on() -> None:
    s = Stage()
    publish(s.chain, days(2))
    s.chain.block(time=opening(0))
    s.play("""
        fund A 100                         |                | A 100
        reserve w A B 40 lock=x hours=20   | w reserved     | A 100/40
        pay p A B 90                       | p queued/AM04  |
    """)
    for hour in (8, 9, 10):
        s.chain.block(time=opening(0) + hour * HOUR_MS)
    assert_rejected(s.chain, reserve(s), "DT05")
    s.chain.block(time=opening(0) + 11 * HOUR_MS)
    assert phase(s.chain) == (0, Phase.CLOSED)
    assert_rejected(s.chain, reserve(s), "DT05")
    s.play("post w C show=x | w posted=40 | A 60 B 40")
