"""The second bookkeeping comes to every balance of everything that the settlement engine does."""

from __future__ import annotations

from random import Random
from typing import TypeVar

import pytest
from msgspec.structs import replace

from node.audit.books import Books, BooksDisagree
from node.chain import types as t
from node.chain.encoding import encode
from node.chain.statuses import FINAL_SETTLED
from tests.support.ledger_world import MadeBlock
from tests.support.settlement_actions import Chance
from tests.support.settlement_machine import DECK, World
from tests.support.settlement_world import Driver

SEEDS = 8
STEPS = 100
"""Of one history."""


class Booked(Driver):
    """Enters every block, into books that are put away and taken up again in between."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.kept: dict[bytes, bytes] = {}
        self.entered: list[MadeBlock] = []

    def block(self, step: int) -> MadeBlock:
        made = super().block(step)
        self.enter(made)
        if step % 3 == 0:
            self.put_away()
        return made

    def enter(self, made: MadeBlock) -> None:
        self.books.post(made.instructions, made.applied.outcomes, made.state, made.applied.records)
        self.books.compare_all(made.state)
        self.entered.append(made)

    def put_away(self) -> None:
        for key, value in self.books.changes():
            if value is None:
                self.kept.pop(key, None)
            else:
                self.kept[key] = value
        statements = self.books.statements
        self.books = Books.load(sorted(self.kept.items()))
        self.books.statements = statements


Play = TypeVar("Play", bound=Booked)


def history(seed: int, driver: Play) -> Play:
    world, choice = World(), Chance(Random(seed))
    world.driver = driver
    world.begin(choice)
    for _ in range(STEPS):
        getattr(world, choice.pick(DECK))(choice)
    driver.block(1_000)
    return driver


def test_all_ties_out_in_histories_of_everything_that_can_happen() -> None:
    statements, told = 0, set()
    for seed in range(SEEDS):
        driver = history(5_000_000 + seed, Booked())
        statements += driver.books.statements
        told |= {type(each.event) for made in driver.entered for each in made.outcomes}
    assert statements > SEEDS
    assert {t.Together, t.CycleSettled, t.Posted, t.Statement, t.Moved} <= told


def altered(outcome: t.Outcome) -> list[t.Outcome]:
    """The outcome with other money in it."""
    found = []
    if outcome.debtor_balance is not None:
        found.append(replace(outcome, debtor_balance=outcome.debtor_balance + 1))
    if outcome.creditor_balance is not None:
        found.append(replace(outcome, creditor_balance=outcome.creditor_balance - 1))
    match outcome.event:
        case t.Posted() | t.Moved() as event:
            found.append(replace(outcome, event=replace(event, amount=event.amount + 1)))
        case t.Statement() as event:
            found.append(replace(outcome, event=replace(event, opening=event.opening + 1)))
            found.append(replace(outcome, event=replace(event, closing=event.closing + 1)))
        case t.CycleClosed() as event if event.positions:
            first, *others = event.positions
            more = (replace(first, debits=first.debits + 1), *others)
            found.append(replace(outcome, event=replace(event, positions=more)))
            found.append(replace(outcome, event=replace(event, payments=event.payments + 1)))
    if outcome.status in FINAL_SETTLED and outcome.debtor_balance is not None:
        found.append(replace(outcome, status="RJCT"))
    return found


class Tampered(Booked):
    """Tries every block with other money in each of its outcomes, and with each left out, too."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    def enter(self, made: MadeBlock) -> None:
        self.put_away()
        kept, outcomes = sorted(self.kept.items()), list(made.applied.outcomes)
        for at, outcome in enumerate(made.outcomes):
            moves = outcome.debtor_balance is not None or outcome.creditor_balance is not None
            others = [[encode(each)] for each in altered(outcome)] + ([[]] if moves else [])
            for other in others:
                trial = [*outcomes[:at], *other, *outcomes[at + 1 :]]
                with pytest.raises(BooksDisagree):
                    Books.load(kept).post(
                        made.instructions, trial, made.state, made.applied.records
                    )
                self.refused += 1
        super().enter(made)


def test_no_outcome_can_tell_of_other_money_or_be_left_out() -> None:
    refused = sum(history(6_000_000 + seed, Tampered()).refused for seed in range(6))
    assert refused > 500
