"""Random cycles with defaulters: money is conserved, a cycle settles wholly or not at all, every
balance follows from what the blocks tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from node.chain.records import CycleKey
from node.chain.types import (
    AccountKind,
    CycleAction,
    CycleClosed,
    CycleSettled,
    Issue,
    MoveOwn,
    Outcome,
)
from node.chain.waterfall import Movement, recompute
from node.ledger.state import recount
from node.ledger.tables import CYCLES, POSITIONS
from tests.support.ledger_world import MadeBlock, World
from tests.support.netting_world import FUNDING_MS, MEMBERS, Clearing, balances, netting_world

TERMS = {"BANKA": (300, 5, 10), "BANKB": (200, 0, 40), "BANKC": (80, 20, 0), "BANKD": (400, 1, 7)}
SETTLEMENT = AccountKind.SETTLEMENT
money = st.integers(0, 60)


class Story(NamedTuple):
    endowments: list[tuple[int, int, int]]
    """Settlement, margin, fund of each member."""
    capital: int
    queued: list[tuple[str, str, int]]
    """Gross payments before the cycle."""
    net: list[tuple[str, str, int]]
    incoming: list[tuple[str, int]]
    """Money that comes in during the funding window, one a block."""
    at_last: int
    """What everybody gets before the operator extends a cycle that could not settle."""
    funding_ms: int


@st.composite
def payments(draw: st.DrawFn) -> tuple[str, str, int]:
    debtor, creditor = draw(st.permutations(MEMBERS))[:2]
    return debtor, creditor, draw(st.integers(1, 150))


stories = st.builds(
    Story,
    st.lists(st.tuples(money, money, money), min_size=4, max_size=4),
    money,
    st.lists(payments(), max_size=3),
    st.lists(payments(), min_size=1, max_size=10),
    st.lists(st.tuples(st.sampled_from(MEMBERS), st.integers(1, 80)), max_size=3),
    st.sampled_from((0, 20, 500)),
    st.sampled_from((0, FUNDING_MS)),
)


@cache
def world(funding_ms: int) -> World:
    return netting_world(terms=TERMS, funding_ms=funding_ms)


@settings(max_examples=40)
@given(stories)
def test_a_cycle_settles_wholly_or_not_at_all_and_every_balance_is_told(story: Story) -> None:
    chain = Clearing(replace(world(story.funding_ms), _count=0))
    for _ in tell(chain, story):
        check(chain)
    if chain.state.get(CYCLES, CycleKey("EUR", 1)) is not None:
        assert chain.cycle().status in ("settled", "unwound")
        assert not any(chain.reserved(name) for name in MEMBERS)


def tell(chain: Clearing, story: Story) -> Iterator[None]:
    """The story up to the cycle's decision, in steps of a few blocks."""
    for name, (settlement, margin, fund) in zip(MEMBERS, story.endowments, strict=True):
        chain.endow(name, settlement=settlement, margin=margin, fund=fund)
    chain.endow("CLEARER", capital=story.capital)
    yield
    chain.block(*(chain.gross(*each) for each in story.queued))
    joined = chain.block(*(chain.net(*each) for each in story.net))
    yield
    if not any(each.status == "ACSP" for each in joined.outcomes):
        return  # every payment was above its debtor's cap
    chain.close()
    yield
    for name, amount in story.incoming:
        chain.fund(amount, name)
        yield
    chain.wait(FUNDING_MS)
    yield
    if chain.cycle().status != "unsettled":
        return
    if story.at_last:
        chain.fund(story.at_last, *MEMBERS)
    chain.block(chain.cycle_order(CycleAction.EXTEND, until=chain.state.time + 10_000))
    chain.wait(10_000)
    yield
    if chain.cycle().status == "unsettled":
        chain.block(chain.cycle_order(CycleAction.UNWIND))
        yield


def check(chain: Clearing) -> None:
    """What is true after every block."""
    recount(chain.state)
    assert {k: v for k, v in accounts(chain).items() if v} == {
        k: v for k, v in balances(chain).items() if v
    }
    aside = [each for _, row in chain.state.rows(CYCLES) for each in row.reserved]
    for name in MEMBERS:
        reserved = sum(amount for lei, amount in aside if lei == chain.world.lei(name))
        assert chain.reserved(name) == reserved <= chain.on(name)
    sides = [row for _, row in chain.state.rows(POSITIONS)]
    assert sum(row.debits - row.credits for row in sides) == 0


def accounts(chain: Clearing) -> dict[tuple[str, int], int]:
    """Every balance, from the instructions and outcomes of all blocks alone."""
    held: dict[tuple[str, int], int] = {}
    closed: dict[int, CycleClosed] = {}
    paid = {
        payment.uetr: payment
        for block in chain.blocks
        for each in block.instructions
        for payment in each.instruction.payments
    }
    for block in chain.blocks:
        for outcome in block.outcomes:
            if isinstance(outcome.event, CycleClosed):
                closed[outcome.event.cycle] = outcome.event
            if outcome.status != "ACSC":
                continue
            moves: tuple[Movement, ...] = ()
            if isinstance(outcome.event, CycleSettled):
                moves = recompute(closed[outcome.event.cycle], outcome.event)
            elif outcome.uetr in paid:
                payment = paid[outcome.uetr]
                moves = (
                    Movement(payment.debtor, SETTLEMENT, -payment.amount),
                    Movement(payment.creditor, SETTLEMENT, payment.amount),
                )
            elif outcome.uetr is not None:
                moves = by_itself(block, outcome)
            for lei, kind, amount in moves:
                held[lei, int(kind)] = held.get((lei, int(kind)), 0) + amount
    return held


def by_itself(block: MadeBlock, outcome: Outcome) -> tuple[Movement, ...]:
    """Of an issue or a move between own accounts."""
    assert outcome.instruction is not None
    envelope = block.instructions[outcome.instruction].instruction.envelope
    match envelope.body:
        case Issue(creditor=creditor, amount=amount):
            return (Movement(creditor, SETTLEMENT, amount),)
        case MoveOwn(source=source, target=target, amount=amount):
            return (
                Movement(envelope.sender, source, -amount),
                Movement(envelope.sender, target, amount),
            )
    raise AssertionError(f"{type(envelope.body).__name__} moves money")
