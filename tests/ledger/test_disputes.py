"""Disputes: who opens, who brings documents, who decides, and that no money moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import DisputeKey, DisputeRecord
from node.chain.types import DecideDispute, OpenDispute, Priority, SubmitEvidence, Verdict
from node.ledger.disputes import MAX_EVIDENCE
from node.ledger.tables import DISPUTES
from tests.support.days import BANKS, assert_rejected
from tests.support.ledger_world import World, uetr
from tests.support.steps import Stage, restarted

ROLES = {
    **BANKS,
    "BANKC": ("direct-participant", "operator"),
    "BANKB": ("direct-participant", "supervisor"),
}
"""B supervises and C operates, beside being banks."""


def stage() -> Stage:
    """A paid B 40 and C 10."""
    s = Stage(World.make(banks=ROLES))
    s.play("""
        fund A 100                   |                  | A 100
        pay p A B 40                 | p settled        | A 60 B 40
        pay q A C 10                 | q settled        | A 50 C 10
    """)
    return s


def open_(s: Stage, sender: str = "A", name: str = "p") -> CheckedInstruction:
    return s.send(sender, OpenDispute(s.payments[name], "AM09"))


def submit(s: Stage, sender: str = "A", piece: int = 1, name: str = "p") -> CheckedInstruction:
    return s.send(sender, SubmitEvidence(s.payments[name].uetr, piece.to_bytes(32, "big")))


def decide(s: Stage, sender: str = "WATCHDOG", name: str = "p") -> CheckedInstruction:
    body = DecideDispute(s.payments[name].uetr, Verdict.UPHELD, "NARR")
    return s.world.order(sender, body)


def dispute(s: Stage, name: str = "p") -> DisputeRecord:
    found = s.chain.state.get(DISPUTES, DisputeKey(s.payments[name].uetr))
    assert found is not None
    return found


def test_a_dispute_from_its_opening_to_the_verdict() -> None:
    s = stage()
    balances = [s.chain.balance(name) for name in BANKS]
    s.chain.block(open_(s))
    s.chain.block(submit(s, "A", 1), submit(s, "B", 2))
    s.chain.block(submit(s, "B", 1))
    found = dispute(s)
    a, b = s.lei("A"), s.lei("B")
    assert (found.debtor, found.creditor, found.opened_by, found.opened) == (a, b, a, 4)
    assert [(who, int.from_bytes(piece)) for who, piece in found.evidence] == [
        (a, 1),
        (b, 2),
        (b, 1),
    ]
    assert found.verdict is None
    s.chain.block(decide(s))
    assert dispute(s).verdict is Verdict.UPHELD
    assert [s.chain.balance(name) for name in BANKS] == balances
    again = restarted(s.chain).get(DISPUTES, DisputeKey(s.payments["p"].uetr))
    assert again == dispute(s)


def test_the_creditor_may_open_and_an_operator_decide() -> None:
    s = stage()
    s.chain.block(open_(s, "B"))
    s.chain.block(decide(s, "CENTRALBANK"))
    assert dispute(s).verdict is Verdict.UPHELD
    s.chain.block(open_(s, "C", "q"))
    s.chain.block(decide(s, "WATCHDOG", "q"))
    assert dispute(s, "q").verdict is Verdict.UPHELD


def test_a_payment_that_was_returned_may_be_disputed() -> None:
    s = stage()
    s.play("giveback x p 40 | x settled | A 90 B 0")
    s.chain.block(open_(s))
    assert dispute(s).verdict is None


def altered(s: Stage) -> CheckedInstruction:
    other = replace(s.payments["p"], priority=Priority.HIGH)
    return s.send("A", OpenDispute(other, "AM09"))


def unsettled(s: Stage) -> CheckedInstruction:
    s.play("pay w A B 400 | w queued/AM04 |")
    return open_(s, name="w")


def after(*before: Callable[[Stage], CheckedInstruction]) -> Callable[[Stage], Stage]:
    def play(s: Stage) -> Stage:
        for make in before:
            s.chain.block(make(s))
        return s

    return play


opened = after(open_)
decided = after(open_, decide)


def full(s: Stage) -> CheckedInstruction:
    s.chain.block(open_(s))
    s.chain.block(*(submit(s, "AB"[n % 2], n) for n in range(MAX_EVIDENCE)))
    assert len(dispute(s).evidence) == MAX_EVIDENCE
    return submit(s, "A", MAX_EVIDENCE)


REFUSALS: dict[str, tuple[str, Callable[[Stage], CheckedInstruction]]] = {
    "open: changed content": ("NOOR", altered),
    "open: it never settled": ("NOOR", unsettled),
    "open: no party": ("DS0F", lambda s: open_(s, "C")),
    "open: open already": ("DU02", lambda s: open_(opened(s), "B")),
    "open: decided already": ("DU02", lambda s: open_(decided(s))),
    "evidence: nothing disputed": ("NOAS", submit),
    "evidence: of no payment": (
        "NOAS",
        lambda s: s.send("A", SubmitEvidence(uetr(9_999), bytes(32))),
    ),
    "evidence: no party": ("DS0F", lambda s: submit(opened(s), "C")),
    "evidence: said before": ("DU02", lambda s: submit(after(open_, submit)(s))),
    "evidence: decided": ("NOAS", lambda s: submit(decided(s))),
    "evidence: too much": ("AM21", full),
    "verdict: a bank's": ("DS20", lambda s: decide(opened(s), "BANKA")),
    "verdict: nothing disputed": ("NOAS", decide),
    "verdict: the second": ("NOAS", lambda s: decide(decided(s), "CENTRALBANK")),
    "verdict: of a supervisor that is a party": ("DS0F", lambda s: decide(opened(s), "BANKB")),
    "verdict: of an operator that is a party": (
        "DS0F",
        lambda s: decide(after(lambda s: open_(s, "A", "q"))(s), "BANKC", "q"),
    ),
}


@pytest.mark.parametrize(("reason", "make"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_word_in_a_dispute_names_its_reason_and_leaves_no_trace(
    reason: str, make: Callable[[Stage], CheckedInstruction]
) -> None:
    s = stage()
    assert_rejected(s.chain, make(s), reason)
