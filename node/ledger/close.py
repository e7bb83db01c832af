"""The close of a business day.

    the last resolution, and net cycles that close now, by the rules of the phase before
    the queue: expires or rolls over, by the ledger's parameter
    overnight loans: every debit balance
    sweeps of zero-balance participants
    statements: opening, closing, since which close

A statement's movements are those that stand in the outcomes after the account's statement before,
up to this one: opening + credits − debits = closing, to the unit. Overnight loans are recorded
before sweeps: those move only what is an account's own, never a credit line.
"""

from __future__ import annotations

from msgspec.structs import replace

from node.chain.records import DayKey, DayRecord, StatementKey
from node.chain.types import (
    AccountKind,
    BusinessDay,
    CloseRule,
    Moved,
    Phase,
    Statement,
    Sweep,
)
from node.ledger import netting, resolution, waiting
from node.ledger.credit import record_loans
from node.ledger.reasons import SETTLED
from node.ledger.tables import DAY, STATEMENTS
from node.ledger.work import Work

SETTLEMENT = int(AccountKind.SETTLEMENT)
MAX_EXPIRED = 10_000
"""Queued payments that expire in one block after a close: what a block takes, the timers of
consensus have to cover."""


def settle_for_the_last_time(work: Work, day: BusinessDay) -> None:
    """What settles before the close: net cycles that close at the same time, then whatever queued
    payments can settle together, behind what a closed cycle still lacks."""
    now = work.context.time
    for close in day.closes:
        if close.time == day.begins[Phase.CLOSED] and work.caught_up < close.time <= now:
            netting.close_due(work, close.asset)
    for _, asset, _ in work.queued_accounts():
        work.stir(asset)
    netting.top_up(work)
    resolution.resolve(work)


def close_day(work: Work, running: DayRecord, index: int | None) -> None:
    """End the business day, whose phase is CLOSED now. `index`: of the operator's order; None: by
    time."""
    work.ended_day = running.date
    if work.parameters.close_rule is CloseRule.EXPIRE:
        close = work.context.height, 0 if index is None else index
        if not waiting.expire_before(work, close, MAX_EXPIRED):
            work.put_expiring(close)
            work.ended_day = None
    record_loans(work, index, running.date)
    _sweep(work, index)
    _state_accounts(work, running, index)
    work.put(DAY, DayKey(), replace(running, closed_at=work.context.height))


def expire_queues(work: Work, most: int | None) -> None:
    """Go on with letting the queues expire after a close, if that is under way. `most`: payments;
    None: all. What is left waits for the next block, which is due at once: nothing queued settles
    while the day is closed, so nobody can tell the difference but by height."""
    close = work.ledger_record.expiring
    if close is not None and waiting.expire_before(work, close, most):
        work.put_expiring(None)
        closed = work.get(DAY, DayKey())
        assert closed is not None, "queues expire after the close of a day"
        work.ended_day = closed.date


# --- sweeps ---------------------------------------------------------------------------------------


def _sweep(work: Work, index: int | None) -> None:
    """By LEI of who sweeps, then asset. A policy that this block sets is in force from the next."""
    for participant in work.parent.participants():
        for sweep in participant.record.sweeps:
            _sweep_one(work, index, participant.record.lei, sweep)


def _sweep_one(work: Work, index: int | None, lei: str, sweep: Sweep) -> None:
    book = work.book(sweep.asset, SETTLEMENT)
    reserved, _ = book.holding(lei)
    amount = (book.load(lei) or 0) - reserved
    if amount <= 0 or not _may_move(work, lei, sweep.to):
        return
    left = book.balances[lei] = (book.load(lei) or 0) - amount
    gained = book.balances[sweep.to] = (book.load(sweep.to) or 0) + amount
    work.credited(sweep.to, sweep.asset, SETTLEMENT)
    work.emit(
        index,
        SETTLED,
        debtor_balance=left,
        creditor_balance=gained,
        event=Moved(
            sweep.asset,
            lei,
            AccountKind.SETTLEMENT,
            sweep.to,
            AccountKind.SETTLEMENT,
            amount,
        ),
    )


def _may_move(work: Work, lei: str, to: str) -> bool:
    """Whether neither end of a sweep is restricted, and its target still holds accounts."""
    source, target = work.participant(lei), work.participant(to)
    if source is None or target is None or lei == to or not target.holds_accounts:
        return False
    free = not (source.record.suspended or source.record.debit_frozen)
    return free and not (
        target.record.suspended or target.record.closed or target.record.credit_frozen
    )


# --- statements -----------------------------------------------------------------------------------


def _state_accounts(work: Work, running: DayRecord, index: int | None) -> None:
    """One for every account that exists, moved or not, by holder, asset and kind."""
    for lei, asset, kind in work.accounts():
        key = StatementKey(lei, asset, AccountKind(kind))
        before = work.get(STATEMENTS, key)
        statement = Statement(
            lei,
            asset,
            AccountKind(kind),
            running.date,
            opening=0 if before is None else before.closing,
            closing=work.book(asset, kind).load(lei) or 0,
            since=running.closed_at,
        )
        work.put(STATEMENTS, key, statement)
        work.emit(index, SETTLED, event=statement)
