"""Resolution as a step of a block: when it runs, what it settles, what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.chain.encoding import RESOLUTION, digest, encode
from node.chain.instruction import CheckedInstruction
from node.chain.merkle import root
from node.chain.records import PaymentKey, PaymentRecord, RulesKey, RulesRecord
from node.chain.types import (
    MAX_BALANCE,
    AccountKind,
    AccountPosition,
    Outcome,
    OutcomePlace,
    PaymentClass,
    Resolved,
    Together,
)
from node.ledger.apply import BlockContext, begin, conclude, execute
from node.ledger.resolution import waiting
from node.ledger.rules import CANDIDATES
from node.ledger.tables import PAYMENTS, RULES
from node.ledger.work import Work
from tests.support.ledger_world import DAY_MS, HOUR_MS, World
from tests.support.queueing import HIGH, URGENT, Queueing, reloaded, words

VECTORS = json.loads(
    (Path(__file__).parent.parent / "vectors" / "gridlock_ubin.json").read_text(encoding="utf-8")
)


def runs(chain: Queueing, *instructions: CheckedInstruction, time: int | None = None) -> int:
    """How often resolution runs in the next block of these, which is then made."""
    state = chain.state
    work = begin(state, BlockContext(state.height + 1, time or state.time + 1_000))
    for index, each in enumerate(instructions):
        execute(work, index, each)
    conclude(work)
    chain.block(*instructions, time=time)
    return work.resolutions


def resolved(chain: Queueing, settled: list[Outcome]) -> Resolved:
    """What is to be said of these outcomes: of payments between settlement accounts in EUR."""
    sides: dict[str, list[int]] = {}
    for outcome in settled:
        payment = chain.made[outcome.uetr or b""]
        sides.setdefault(payment.debtor, [0, 0])[0] += payment.amount
        sides.setdefault(payment.creditor, [0, 0])[1] += payment.amount
    positions = [
        AccountPosition(lei, AccountKind.SETTLEMENT, debits, credits)
        for lei, (debits, credits) in sorted(sides.items())
    ]
    leaves = [each.content or b"" for each in settled]
    return Resolved("EUR", tuple(positions), len(leaves), root(leaves))


@pytest.fixture
def chain() -> Queueing:
    """Three banks without money, in a ring of debts, of which the first lacks a little."""
    made = Queueing()
    made.pay("A to B", "BANKA", "BANKB", 110)
    made.pay("B to C", "BANKB", "BANKC", 100)
    made.pay("C to A", "BANKC", "BANKA", 100)
    return made


# --- what settles ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["case"])
def test_published_gridlocks_settle_the_published_set_through_the_ledger(
    case: dict[str, Any],
) -> None:
    """Entry settles what it can, in order, and resolution the rest, in the same block."""
    banks: dict[str, tuple[str, ...]] = {"ISSUER": ("issuer", "operator", "validator")}
    banks |= {f"BANK{name}": ("direct-participant",) for name in case["banks"]}
    chain = Queueing(World.make(banks=banks))
    for bank, opening in case["banks"].items():
        if opening:
            chain.fund(opening, f"BANK{bank}")
    made = [
        chain.payment(each["id"], f"BANK{each['from']}", f"BANK{each['to']}", each["amount"])
        for each in case["payments"]
    ]
    block = chain.block(*(chain.send(each) for each in made))
    settled = [name for name, said in chain.said(block) if said == "ACSC"]
    assert sorted(settled) == sorted(case["settled"])
    closing = {bank: chain.balance(f"BANK{bank}") or 0 for bank in case["banks"]}
    assert closing == case["closing"]


def test_outcomes_come_by_account_and_queue_with_the_balances_after_all(chain: Queueing) -> None:
    chain.pay("A to C", "BANKA", "BANKC", 1, priority=URGENT)
    before = {name: chain.row(name) for name in chain.names.values()}
    block = chain.fund(11, "BANKA")
    _, *settled, summary = block.outcomes
    assert summary.event == resolved(chain, settled)
    assert chain.said(block) == [
        (name, "ACSC") for name in ("A to C", "A to B", "B to C", "C to A")
    ]
    after = {"A": 0, "B": 10, "C": 1}
    for outcome, (name, _) in zip(settled, chain.said(block), strict=True):
        assert outcome.instruction is None
        assert outcome.event == Together(digest(RESOLUTION, encode("EUR")))
        assert outcome.debtor_balance == after[name[0]]
        assert outcome.creditor_balance == after[name[-1]]
        assert outcome.original == before[name].first
        assert outcome.content == before[name].content
    for name, row in before.items():
        assert chain.row(name).changes == row.changes + 1
        assert chain.row(name).live is None
        entry = chain.state.uetr(chain.uetr(name))
        assert entry is not None
        assert (entry.status, entry.changed) == ("ACSC", block.header.height)
        assert OutcomePlace(entry.height, entry.instruction, entry.payment) == row.first
    assert chain.state.queued_accounts() == []


def test_a_payment_that_enters_and_settles_in_one_block_leaves_no_row(chain: Queueing) -> None:
    missing = chain.payment("what A lacks", "BANKB", "BANKA", 10)
    block = chain.block(chain.send(missing))
    assert chain.said(block) == [
        ("what A lacks", "PDNG AM19"),
        ("A to B", "ACSC"),
        ("B to C", "ACSC"),
        ("what A lacks", "ACSC"),
        ("C to A", "ACSC"),
    ]
    assert chain.state.get(PAYMENTS, PaymentKey(missing.uetr)) is None
    assert chain.row("A to B").live is None


def test_what_settled_together_is_summed_up_asset_by_asset_after_its_outcomes(
    chain: Queueing,
) -> None:
    chain.pay("yuan", "BANKB", "BANKC", 7, asset="CNY")
    issue = chain.world.issue
    block = chain.block(issue("CENTRALBANK", "BANKA", 10), issue("CENTRALBANK", "BANKB", 9, "CNY"))
    by_asset = [each for each in block.outcomes if isinstance(each.event, Resolved)]
    assert [each.event.asset for each in by_asset if isinstance(each.event, Resolved)] == [
        "CNY",
        "EUR",
    ]
    places = [block.outcomes.index(each) for each in by_asset]
    assert places == [3, 7]
    assert by_asset[1].event == resolved(chain, block.outcomes[4:7])
    for each in by_asset:
        assert (each.instruction, each.uetr, each.status) == (None, None, "ACSC")
        assert isinstance(each.event, Resolved)
        assert sum(p.credits - p.debits for p in each.event.positions) == 0


def test_queues_of_more_than_can_be_written_down_settle_over_several_blocks() -> None:
    """Three payments each way of all that an account can ever hold: what either bank pays does not
    fit the summary. One honest payment beside them is not kept from settling."""
    chain = Queueing()
    there = [chain.payment(f"there {n}", "BANKA", "BANKB", MAX_BALANCE) for n in range(3)]
    back = [chain.payment(f"back {n}", "BANKB", "BANKA", MAX_BALANCE) for n in range(3)]
    chain.pay("honest", "BANKC", "PAYCO", 5)
    block = chain.block(
        chain.send(*there), chain.send(*back), chain.world.issue("CENTRALBANK", "BANKC", 5)
    )
    settled = [name for name, said in chain.said(block) if said == "ACSC"]
    assert settled == ["honest"]
    while chain.state.has_work:
        block = chain.block()
        [summary] = [each.event for each in block.outcomes if isinstance(each.event, Resolved)]
        assert all(each.debits <= 2**64 - 1 for each in summary.positions)
    assert chain.state.queued_accounts() == []


def test_accounts_of_one_bank_have_queues_of_their_own() -> None:
    chain = Queueing()
    reserve = AccountKind.CLIENT_RESERVE
    chain.pay("own money", "PAYCO", "BANKA", 50)
    client = chain.payment(
        "client money",
        "PAYCO",
        "BANKB",
        30,
        debtor_account=reserve,
        payment_class=PaymentClass.CUSTOMER,
        ultimate_debtor="Alice",
    )
    chain.block(chain.send(client))
    chain.fund(30, "BANKA")
    block = chain.pay("in", "BANKA", "PAYCO", 30, creditor_account=reserve)
    assert chain.said(block) == [("in", "ACSC"), ("client money", "ACSC")]
    assert chain.queue("PAYCO") == ["own money"]
    assert chain.queue("PAYCO", reserve) == []


def test_assets_are_resolved_by_themselves_in_order_of_code(chain: Queueing) -> None:
    for name, debtor, creditor in (("there", "BANKA", "BANKB"), ("back", "BANKB", "BANKA")):
        chain.pay(name, debtor, creditor, 7, asset="CNY", priority=HIGH)
    assert chain.queue("BANKA") == ["A to B"]
    block = chain.fund(10, "BANKA")
    assert [words(each) for each in block.outcomes[1:]] == ["ACSC"] * 4
    groups = [each.event.group for each in block.outcomes if isinstance(each.event, Together)]
    assert set(groups) == {digest(RESOLUTION, encode("EUR"))}


# --- when it runs ---------------------------------------------------------------------------------


def test_it_runs_only_where_something_that_could_help_changed(chain: Queueing) -> None:
    chain.fund(100, "PAYCO")
    chain.fund(100, "BANKA", asset="CNY")
    quiet = {
        "nothing": (),
        "a rejection": (chain.send(chain.payment("zero", "BANKA", "BANKB", 0)),),
        "another asset": (chain.send(chain.payment("cny", "BANKA", "BANKB", 1, asset="CNY")),),
        "others' payment": (chain.send(chain.payment("others", "PAYCO", "CENTRALBANK", 1)),),
        "a refused order": (chain.release("A to B"),),
        "an early payment": (
            chain.send(
                chain.payment("early", "BANKA", "BANKB", 1, earliest=chain.state.time + DAY_MS)
            ),
        ),
        "a lower limit": (chain.limit("BANKA", None, 10**6),),
        "another's limit": (chain.limit("PAYCO", None, 10**6),),
        "a policy": (chain.bypass(),),
    }
    for what, instructions in quiet.items():
        assert runs(chain, *instructions) == 0, what
    telling: dict[str, Callable[[], tuple[CheckedInstruction, ...]]] = {
        "a credit": lambda: (chain.send(chain.payment("in", "PAYCO", "BANKC", 1)),),
        "an issue": lambda: (chain.world.issue("CENTRALBANK", "BANKC", 1),),
        "one that joins the queue": lambda: (
            chain.send(chain.payment("q", "BANKB", "BANKA", 500)),
        ),
        "a raised limit": lambda: (chain.limit("BANKA", None, 10**7),),
        "another place": lambda: (chain.reprioritise("q", URGENT, "BANKB"),),
        "one less in front": lambda: (chain.cancel("q", "BANKB"),),
        "an early one's time": lambda: (),
    }
    for what, make in telling.items():
        time = chain.state.time + DAY_MS + HOUR_MS if what == "an early one's time" else None
        assert runs(chain, *make(), time=time) == 1, what
    assert chain.queue("BANKA") == ["A to B", "early"]


def test_the_last_of_a_queue_to_go_helps_nobody(chain: Queueing) -> None:
    chain.block(chain.cancel("C to A", "BANKC"))
    assert runs(chain, chain.cancel("B to C", "BANKB")) == 0


def test_many_instructions_of_a_block_need_one_run(chain: Queueing) -> None:
    more = [chain.payment(f"more {n}", "BANKA", "BANKB", 300 + n) for n in range(20)]
    assert runs(chain, *(chain.send(each) for each in more)) == 1


# --- how much it looks at -------------------------------------------------------------------------


def test_a_queue_longer_than_it_looks_at_settles_over_the_blocks_that_follow_at_once() -> None:
    """Neither bank has money; what settles first is as many as a resolution looks at."""
    chain = Queueing()
    count = CANDIDATES[1] + 40
    there = [chain.payment(f"there {n}", "BANKA", "BANKB", 1 + n) for n in range(count)]
    back = [chain.payment(f"back {n}", "BANKB", "BANKA", 1 + n) for n in range(count)]
    chain.block(chain.send(*there))
    assert not chain.state.has_work
    block = chain.block(chain.send(*back))
    assert sum(said == "ACSC" for _, said in chain.said(block)) == 2 * CANDIDATES[1]
    assert len(chain.queue("BANKA")) == 40
    assert chain.state.next_due() == chain.state.time
    block = chain.block()
    assert sum(said == "ACSC" for _, said in chain.said(block)) == 2 * 40
    assert chain.state.queued_accounts() == []
    assert not chain.state.has_work
    assert runs(chain) == 0


def test_the_second_version_of_the_rules_looks_at_more(chain: Queueing) -> None:
    count = CANDIDATES[1] + 40
    chain.block(chain.send(*(chain.payment(f"{n}", "BANKB", "PAYCO", 1) for n in range(count))))
    work = Work(chain.state, BlockContext(chain.state.height + 1, chain.state.time + 1))
    found = waiting(work, "EUR")
    assert found.truncated
    assert len(found.first[chain.world.lei("BANKB"), 0]) == CANDIDATES[1]
    work.put(RULES, RulesKey(), RulesRecord(2, None))
    found = waiting(work, "EUR")
    assert not found.truncated
    assert len(found.first[chain.world.lei("BANKB"), 0]) == count + 1 < CANDIDATES[2]


# --- what it rests on -----------------------------------------------------------------------------


def test_a_restarted_node_resolves_the_same(chain: Queueing) -> None:
    """Queues are built from the rows under the state root, and from nothing else."""
    state = reloaded(chain)
    instruction = chain.world.issue("CENTRALBANK", "BANKA", 10)
    made = chain.make(instruction)
    again = chain.make(instruction, parent=state)
    assert again.applied.state_root == made.applied.state_root
    assert again.applied.outcomes == made.applied.outcomes
    rows = [row for _, row in state.rows(PAYMENTS)]
    assert all(isinstance(row, PaymentRecord) and row.live is not None for row in rows)


def test_competing_blocks_resolve_each_for_itself(chain: Queueing) -> None:
    """A block that is not final changes no queue that another one sees."""
    root = chain.state.map.root
    left = chain.make(chain.world.issue("CENTRALBANK", "BANKA", 10))
    right = chain.make(chain.cancel("A to B"))
    assert left.state.queued_accounts() == []
    assert len(right.state.queued_accounts()) == 2
    assert len(chain.state.queued_accounts()) == 3
    assert chain.state.map.root == root
    child = chain.make(parent=left.state)
    assert child.outcomes == []
    chain.commit(right)
    assert chain.queue("BANKA") == []
    assert chain.queue("BANKB") == ["B to C"]
