"""Linked settlement: tables of steps, refusals, and that all legs settle or none does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from node.chain.build import link_id
from node.chain.encoding import encode
from node.chain.instruction import CheckedInstruction, InstructionRefused, Refusal
from node.chain.records import LinkKey
from node.chain.types import (
    MAX_LEGS,
    MAX_VALIDITY_MS,
    AccountKind,
    Cancel,
    Freeze,
    Link,
    Mode,
    Payment,
    Phase,
    Together,
)
from node.ledger import links
from node.ledger.tables import LINKS, PAYMENTS
from tests.support.days import (
    assert_rejected,
    days,
    opening,
    phase,
    publish,
    settling_world,
)
from tests.support.ledger_world import DAY_MS, HOUR_MS, lei
from tests.support.steps import NAMES, Stage, play, restarted

TABLES = {
    "payment versus payment": """
        fund A 100                   |                                    | A 100
        fund B 900 CNY               |                                    | B.CNY 900
        leg e A B 40                 |                                    |
        leg y B A 300 CNY            |                                    |
        agree k A e+y                | e accepted                         |
        agree k B | y accepted e settled y settled link-settled | A 60 B 40 B.CNY 600 A.CNY 300
    """,
    "delivery versus payment": """
        fund A 100                   |                                    | A 100
        fund B 7 BOND                |                                    | B.BOND 7
        leg m A B 100                |                                    |
        leg d B A 7 BOND             |                                    |
        agree k B m+d                | d accepted                         |
        agree k A | m accepted m settled d settled link-settled | A 0 B 100 B.BOND 0 A.BOND 7
    """,
    "short: it waits, and settles once money comes": """
        fund A 100                   |                                    | A 100
        leg m A B 100                |                                    |
        leg d B A 7 BOND             |                                    |
        agree k B m+d                | d accepted                         |
        agree k A                    | m accepted                         |
        pay p A C 10                 | p settled                          | A 90 C 10
        fund B 7 BOND                |                                    | B.BOND 7
        pay q C A 10 | q settled m settled d settled link-settled | A 0 C 0 B 100 B.BOND 0 A.BOND 7
    """,
    "expired: what was agreed is off, the money was never bound": """
        fund A 100                   |                                    | A 100
        leg e A B 40                 |                                    |
        leg y B A 300 CNY            |                                    |
        agree k A e+y                | e accepted                         |
        pay p A C 100                | p settled                          | A 0 C 100
        wait 2                       | e expired link-expired             |
        agree k B                    | rejected/DT02                      |
    """,
    "expired though complete": """
        leg e A B 40                 |                                    |
        leg y B A 300 CNY            |                                    |
        agree k A e+y                | e accepted                         |
        agree k B                    | y accepted                         |
        wait 2                       | e expired y expired link-expired   |
    """,
    "net: who pays and receives needs only the difference": """
        fund A 10                    |                                    | A 10
        leg x A B 110                |                                    |
        leg y B C 105                |                                    |
        leg z C A 100                |                                    |
        agree k C x+y+z              | z accepted                         |
        agree k A                    | x accepted                         |
        agree k B | y accepted x settled y settled z settled link-settled | A 0 B 5 C 5
    """,
    "it may pass payments that wait": """
        fund A 100                   |                                    | A 100
        fund B 7 BOND                |                                    | B.BOND 7
        pay p A C 150                | p queued/AM04                      |
        leg m A B 100                |                                    |
        leg d B A 7 BOND             |                                    |
        agree k B m+d                | d accepted                         |
        agree k A | m accepted m settled d settled link-settled | A 0 B 100 B.BOND 0 A.BOND 7
    """,
    "what it brings lets a queue settle in the same block": """
        fund A 100                   |                                    | A 100
        pay p B C 80                 | p queued/AM04                      |
        leg m A B 100                |                                    |
        leg d A C 20                 |                                    |
        fund A 20                    |                                    | A 120
        agree k A m+d | m accepted d accepted m settled d settled link-settled \
            p settled resolved=1 | A 0 B 20 C 100
    """,
    "what is set aside is not there": """
        fund A 100                   |                                    | A 100
        fund B 7 BOND                |                                    | B.BOND 7
        reserve r A C 1 poster=C     | r reserved                         | A 100/1
        leg m A B 100                |                                    |
        leg d B A 7 BOND             |                                    |
        agree k B m+d                | d accepted                         |
        agree k A                    | m accepted                         |
        void r C | r voided m settled d settled link-settled | A 0 B 100 B.BOND 0 A.BOND 7
    """,
    "limits count the link as a whole": """
        fund A 100                   |                                    | A 100
        fund B 100                   |                                    | B 100
        limit A B 5                  | ok                                 |
        leg x A B 60                 |                                    |
        leg y B A 54                 |                                    |
        agree k A x+y                | x accepted                         |
        agree k B                    | y accepted                         |
        limit A B 6                  | ok x settled y settled link-settled | A 94 B 106
    """,
    "a limit gets room by what comes in": """
        fund A 100                   |                                    | A 100
        fund B 50                    |                                    | B 50
        limit A B 30                 | ok                                 |
        leg x A B 40                 |                                    |
        leg y B C 1                  |                                    |
        agree k A x+y                | x accepted                         |
        agree k B                    | y accepted                         |
        pay p B A 10 | p settled x settled y settled link-settled | A 70 B 79 C 1
    """,
    "in order of completion, not of opening": """
        fund A 100                   |                                    | A 100
        leg a A B 60                 |                                    |
        leg b B A 1 CNY              |                                    |
        leg c A C 60                 |                                    |
        leg d C A 1 CNY              |                                    |
        agree k A a+b                | a accepted                         |
        agree l A c+d                | c accepted                         |
        agree l C                    | d accepted                         |
        agree k B                    | b accepted                         |
        fund B 1 CNY                 |                               | B.CNY 0 A.CNY 1 A 40 B 60
        fund C 1 CNY                 |                                    | C.CNY 1
    """,
    "one debtor alone: complete at once": """
        fund A 100                   |                                    | A 100
        leg a A B 60                 |                                    |
        leg b A C 40                 |                                    |
        agree k A a+b | a accepted b accepted a settled b settled link-settled | A 0 B 60 C 40
    """,
    "three assets, three parties": """
        fund A 100                   |                                    | A 100
        fund B 50 CNY                |                                    | B.CNY 50
        fund C 3 BOND                |                                    | C.BOND 3
        leg e A B 100                |                                    |
        leg y B C 50 CNY             |                                    |
        leg d C A 3 BOND             |                                    |
        agree k A e+y+d              | e accepted                         |
        agree k B                    | y accepted                         |
        agree k C | d accepted e settled y settled d settled link-settled \
            | A 0 B 100 B.CNY 0 C.CNY 50 C.BOND 0 A.BOND 3
    """,
    "a settled leg is given back like any payment": """
        fund A 100                   |                                    | A 100
        fund B 7 BOND                |                                    | B.BOND 7
        leg m A B 100                |                                    |
        leg d B A 7 BOND             |                                    |
        agree k B m+d                | d accepted                         |
        agree k A | m accepted m settled d settled link-settled | A 0 B 100 B.BOND 0 A.BOND 7
        recall m A                   | ok                                 |
        giveback x m 30              | x settled                          | A 30 B 70
        giveback y m 71              | y rejected/AM09                    |
    """,
    "agreed twice; with other legs; a leg as a payment": """
        fund A 100                   |                                    | A 100
        leg e A B 40                 |                                    |
        leg y B A 300 CNY            |                                    |
        leg z B A 299 CNY            |                                    |
        agree k A e+y                | e accepted                         |
        agree k A                    | rejected/DU02                      |
        agree l A e+z                | rejected/AM05                      |
        agree k C                    | rejected/DS0F                      |
        again e                      | e accepted                         |
        post e B                     | rejected/ARDT                      |
        recall e A                   | rejected/NOOR                      |
        giveback x e 1               | x rejected/NOOR                    |
    """,
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_of_linked_transfers(table: str) -> None:
    play(table)


def test_what_one_link_enables_of_an_earlier_one_is_for_the_next_block_which_is_due_at_once() -> (
    None
):
    s = Stage()
    s.play("""
        fund C 50                    |                                    | C 50
        leg a A B 50                 |                                    |
        leg b B A 1 CNY              |                                    |
        leg c C A 50                 |                                    |
        leg d A C 1 CNY              |                                    |
        agree k A a+b                | a accepted                         |
        agree k B                    | b accepted                         |
        fund B 1 CNY                 |                                    | B.CNY 1
        agree l C c+d                | c accepted                         |
        agree l A                    | d accepted                         |
    """)
    assert s.chain.state.next_due() != s.chain.state.time
    s.chain.block(*s.fund("A", "1", "CNY"))
    assert s.chain.balance("BANKA") == 50, "the later link settled"
    assert s.chain.state.next_due() == s.chain.state.time
    assert s.told(s.chain.block()) == ["a", "settled", "b", "settled", "link-settled"]
    assert s.chain.state.next_due() is None
    s.check()


def test_all_legs_say_that_they_settled_together_with_the_balances_after_all_of_them() -> None:
    s = Stage()
    s.play("""
        fund A 10          |            | A 10
        leg x A B 110      |            |
        leg y B A 105      |            |
        agree k A x+y      | x accepted |
    """)
    block = s.chain.block(*s.agree("k", "B"))
    settled = [each for each in block.outcomes if each.status == "ACSC" and each.uetr]
    named, expires = s.links["k"]
    id = link_id([s.payments[each] for each in named], expires)
    assert [each.event for each in settled] == [Together(id)] * 2
    assert [(each.debtor_balance, each.creditor_balance) for each in settled] == [(5, 5), (5, 5)]
    assert not s.chain.state.rows(LINKS)
    assert not s.chain.state.rows(PAYMENTS)


def test_a_restarted_node_still_knows_who_agreed_and_when_it_expires() -> None:
    s = Stage()
    s.play("""
        leg e A B 40                 |                      |
        leg y B A 300 CNY            |                      |
        agree k A e+y                | e accepted           |
        agree k B                    | y accepted           |
    """)
    loaded = restarted(s.chain)
    ((key, record),) = loaded.rows(LINKS)
    assert record.signed == tuple(sorted((s.lei("A"), s.lei("B"))))
    assert loaded.next_due() == record.expires
    s.chain.ledger = type(s.chain.ledger)(loaded)
    block = s.chain.block(*s.fund("A", "40"), *s.fund("B", "300", "CNY"))
    assert s.chain.balance("BANKB") == 40
    assert s.chain.state.get(LINKS, key) is None
    assert len(block.outcomes) == 5


def test_a_link_with_more_legs_than_one_may_have_is_no_instruction() -> None:
    s = Stage()
    legs = tuple(s.draft(f"l{n}", "A", "B", "1") for n in range(MAX_LEGS + 1))
    with pytest.raises(InstructionRefused) as refused:
        s.send("A", Link(legs, s.soon()))
    assert refused.value.code is Refusal.MALFORMED
    with pytest.raises(InstructionRefused) as refused:
        s.send("A", Link(legs[:1], s.soon()))
    assert refused.value.code is Refusal.MALFORMED
    s.chain.block(*s.fund("A", "16"))
    s.chain.block(s.send("A", Link(legs[:MAX_LEGS], s.soon())))
    assert s.chain.balance("BANKB") == 16


def test_a_leg_stands_once_in_a_link() -> None:
    s = Stage()
    leg = s.draft("x", "A", "B", "1")
    with pytest.raises(InstructionRefused) as refused:
        s.send("A", Link((leg, leg), s.soon()))
    assert refused.value.code is Refusal.REPEATED_UETR


# --- refusals -------------------------------------------------------------------------------------


def stage() -> Stage:
    made = Stage()
    made.play("fund A 100 | | A 100")
    return made


def agree(
    s: Stage,
    *,
    sender: str = "A",
    expires: int | None = None,
    creditor: str = "B",
    amount: str = "40",
    asset: str = "EUR",
    legs: tuple[Payment, ...] | None = None,
    **more: Any,
) -> CheckedInstruction:
    if legs is None:
        mine = s.draft("e", "A", creditor, amount, asset, **more)
        legs = mine, s.draft("y", "B", "A", "300", "CNY")
    return s.send(sender, Link(legs, s.soon() if expires is None else expires))


def used(s: Stage) -> CheckedInstruction:
    s.play("pay p A B 1 | p settled | A 99 B 1")
    return agree(s, legs=(s.payments["p"], s.draft("y", "B", "A", "300", "CNY")))


def signed_for_others(s: Stage) -> CheckedInstruction:
    """The same leg, the other side changed."""
    s.chain.block(agree(s))
    return agree(s, legs=(s.payments["e"], replace(s.payments["y"], amount=299)))


def signed_until_later(s: Stage) -> CheckedInstruction:
    """The same legs until another time is another link."""
    s.chain.block(agree(s))
    return agree(s, legs=_body(s).legs, expires=s.soon("2"))


def expired(s: Stage) -> CheckedInstruction:
    first = agree(s)
    s.chain.block(first)
    s.chain.block(time=s.soon("2"))
    return s.send("B", first.instruction.envelope.body)


def already_settled(s: Stage) -> CheckedInstruction:
    s.play("""
        fund B 300 CNY               |                                    | B.CNY 300
        leg e A B 40                 |                                    |
        leg y B A 300 CNY            |                                    |
        agree k A e+y                | e accepted                         |
        agree k B | y accepted e settled y settled link-settled | A 60 B 40 B.CNY 0 A.CNY 300
    """)
    return s.agree("k", "B")[0]


def a_leg_cancelled(s: Stage) -> CheckedInstruction:
    s.chain.block(agree(s))
    return s.send("A", Cancel(s.payments["e"].uetr))


def overflow(s: Stage) -> CheckedInstruction:
    s.play("fund B 5 | | B 5")
    return agree(s, amount=str(2**63 - 1))


Make = Callable[[Stage], CheckedInstruction]
STRANGER = lei(999)
REFUSALS: dict[str, tuple[str, Make]] = {
    "debtor of no leg": ("DS0F", lambda s: agree(s, sender="C")),
    "a leg's UETR was used": ("AM05", used),
    "a leg was signed with other legs": ("AM05", signed_for_others),
    "the legs were signed until another time": ("AM05", signed_until_later),
    "agreed before": (
        "DU02",
        lambda s: (s.chain.block(agree(s)), s.send("A", _body(s)))[1],
    ),
    "expired before it began": (
        "DT02",
        lambda s: agree(s, expires=s.chain.state.time + 1_000),
    ),
    "expires more than a week ahead": (
        "DT02",
        lambda s: agree(s, expires=s.chain.state.time + 1_000 + MAX_VALIDITY_MS + 1),
    ),
    "the other side comes too late": ("DT02", expired),
    "the link has settled": ("AM05", already_settled),
    "a leg of nothing": ("AM01", lambda s: agree(s, amount="0")),
    "a leg that nobody can hold": ("AM02", lambda s: agree(s, amount=str(2**63))),
    "a leg that the creditor can not hold": ("AM02", overflow),
    "a leg in no asset": ("AM03", lambda s: agree(s, asset="USD")),
    "a leg to oneself": ("AG12", lambda s: agree(s, creditor="A")),
    "a leg to nobody": (
        "CNOR",
        lambda s: agree(s, legs=(_to(s, STRANGER), s.draft("y", "B", "A", "1"))),
    ),
    "a leg to one without an account": (
        "AC03",
        lambda s: agree(s, legs=(_to(s, s.world.lei("WATCHDOG")), s.draft("y", "B", "A", "1"))),
    ),
    "a leg from a margin account": (
        "AC14",
        lambda s: agree(s, debtor_account=AccountKind.MARGIN),
    ),
    "a net leg": ("AG02", lambda s: agree(s, mode=Mode.NET)),
    "a leg with an earliest time": ("DT02", lambda s: agree(s, earliest=s.soon())),
    "a leg with a latest time": ("DT02", lambda s: agree(s, latest=s.soon())),
    "an indirect participant of nobody": (
        "BE05",
        lambda s: agree(s, debtor_indirect=s.lei("C")),
    ),
    "cancelling a leg": ("ARDT", a_leg_cancelled),
}


def _to(s: Stage, creditor: str) -> Payment:
    return replace(s.draft("e", "A", "B", "1"), creditor=creditor)


def _body(s: Stage) -> Link:
    body = s.chain.blocks[-1].instructions[0].instruction.envelope.body
    assert isinstance(body, Link)
    return body


@pytest.mark.parametrize(("reason", "make"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_agreement_names_its_reason_and_leaves_no_trace(reason: str, make: Make) -> None:
    s = stage()
    assert_rejected(s.chain, make(s), reason)


def test_a_refused_agreement_uses_up_no_uetr_of_its_legs() -> None:
    s = stage()
    s.chain.block(agree(s, expires=s.chain.state.time))
    legs = s.payments["e"], s.payments["y"]
    assert s.told(s.chain.block(agree(s, legs=legs))) == ["e", "accepted"]
    assert len(s.chain.state.rows(LINKS)) == 1


def test_one_of_two_own_legs_refused_leaves_the_other_free() -> None:
    s = stage()
    good, bad = s.draft("g", "A", "B", "1"), s.draft("b", "A", "C", "0")
    assert_rejected(s.chain, s.send("A", Link((good, bad), s.soon())), "AM01")
    s.chain.block(s.send("A", Link((good, bad), s.soon())))
    s.play("again g | g settled | A 99 B 1")


def test_nobody_opens_more_links_than_it_may_and_others_still_can() -> None:
    """A thousand open links of one participant; each that goes makes room for another."""
    s = stage()
    until = s.soon("2")
    makers = [
        s.send("A", Link((s.draft("e", "A", "B", "1"), s.draft("y", "B", "A", "1", "CNY")), until))
        for _ in range(links.MAX_OPEN_LINKS)
    ]
    s.chain.block(*makers)
    assert len(s.chain.state.rows(LINKS)) == links.MAX_OPEN_LINKS
    assert_rejected(s.chain, agree(s), "AM21")
    others = Link((s.draft("x", "C", "B", "1"), s.draft("z", "B", "C", "1", "CNY")), until)
    s.chain.block(s.send("C", others))
    assert len(s.chain.state.rows(LINKS)) == links.MAX_OPEN_LINKS + 1
    s.chain.block(time=s.soon("3"))
    assert not s.chain.state.rows(LINKS)
    s.chain.block(agree(s))
    assert len(s.chain.state.rows(LINKS)) == 1


def test_a_link_never_outlives_the_memory_of_its_uetrs() -> None:
    s = Stage(settling_world(uetr_window_days=1))
    time = s.chain.state.time + 1_000
    assert_rejected(s.chain, agree(s, expires=time + DAY_MS + 1), "DT02")
    s.chain.block(agree(s, expires=time + DAY_MS))
    assert s.chain.block(time=time + DAY_MS).outcomes[0].status == "CANC"


def test_whoever_signs_the_same_legs_in_another_order_signs_another_link() -> None:
    s = stage()
    s.chain.block(agree(s))
    body = _body(s)
    turned = Link(body.legs[::-1], body.expires)
    s.chain.block(s.send("B", turned))
    assert len(s.chain.state.rows(LINKS)) == 2
    assert not [each for _, each in s.chain.state.rows(LINKS) if each.complete is not None]
    assert LinkKey(link_id(body.legs, body.expires)) in dict(s.chain.state.rows(LINKS))
    assert encode(body) != encode(turned)
    assert set(NAMES) == set("ABCDZ")


# --- restrictions and the day ---------------------------------------------------------------------


def freeze(s: Stage, letter: str, *, debit: bool = False, credit: bool = False) -> None:
    body = Freeze(s.lei(letter), debit, credit, "NARR")
    s.chain.block(s.world.order("WATCHDOG", body, valid_until=s.chain.state.time + DAY_MS))


@pytest.mark.parametrize("frozen", [("A", True, False), ("B", False, True)])
def test_a_link_with_a_restricted_party_waits_and_settles_when_that_is_lifted(
    frozen: tuple[str, bool, bool],
) -> None:
    s = Stage()
    s.play("""
        fund A 40                    |                      | A 40
        fund B 300 CNY               |                      | B.CNY 300
        leg e A B 40                 |                      |
        leg y B A 300 CNY            |                      |
        agree k A e+y                | e accepted           |
    """)
    letter, debit, credit = frozen
    freeze(s, letter, debit=debit, credit=credit)
    s.play("""
        agree k B                    | y accepted           |
        fund C 1                     |                      | C 1
    """)
    freeze(s, letter)
    assert s.told(s.chain.blocks[-1])[-1] == "link-settled"
    assert s.holding(("B", "EUR")) == (40, 0)


def test_a_party_that_is_frozen_agrees_to_no_leg_that_it_would_pay() -> None:
    s = stage()
    freeze(s, "A", debit=True)
    assert_rejected(s.chain, agree(s), "AC06")


def test_a_link_waits_for_a_phase_in_which_its_legs_settle() -> None:
    """Agreed to after the close: it settles when the next day opens, in that very block."""
    s = Stage()
    publish(s.chain, days(3))
    s.chain.block(time=opening(0))
    s.play("""
        fund A 40                    |                      | A 40
        fund B 300 CNY               |                      | B.CNY 300
        leg e A B 40                 |                      |
        leg y B A 300 CNY            |                      |
    """)
    for hour in (8, 9, 10, 11):
        s.chain.block(time=opening(0) + hour * HOUR_MS)
    assert phase(s.chain) == (0, Phase.CLOSED)
    s.play("""
        agree k A e+y 20             | e accepted           |
        agree k B                    | y accepted           |
        fund C 1                     |                      | C 1
    """)
    s.chain.block(time=opening(1))
    assert s.told(s.chain.blocks[-1])[-1] == "link-settled"
