"""The operating day: phases, what a close does, and orders about it."""

from __future__ import annotations

from dataclasses import replace

from node.chain.types import (
    CloseRule,
    DelayPhase,
    Moved,
    OvernightLoan,
    Phase,
    PhaseBegan,
    ProceedDay,
    Statement,
)

from .book import (
    Book,
)
from .net import close_cycle, fund_all
from .queue import expire, resolve
from .rows import (
    SETTLED,
    SETTLEMENT,
    WEEK_MS,
    AccountId,
    Day,
    Loan,
    Refused,
    Waiting,
    debit_account,
)

Beginning = tuple[int, int, Phase]
"""(time, date, phase)."""


def upcoming(book: Book) -> Beginning | None:
    """The phase that is to begin next. Of several of a day at one instant, the last."""
    day = book.day
    left: list[Beginning]
    if day is None or day.phase == Phase.CLOSED:
        dates = [date for date in book.days if day is None or date > day.date]
        if not dates:
            return None
        date = min(dates)
        left = [(book.days[date].begins[phase], date, phase) for phase in Phase]
    else:
        begins = current(book)
        left = [(begins[phase], day.date, phase) for phase in Phase if phase > day.phase]
    return max(each for each in left if each[0] == left[0][0])


def current(book: Book) -> list[int]:
    """When the phases of the day that runs begin, delays included."""
    assert book.day is not None
    delays = dict(book.day.delays)
    begins = book.days[book.day.date].begins
    return [delays.get(phase, begins[phase]) for phase in Phase]


def phase_due(book: Book, beginning: Beginning) -> None:
    """A phase begins by time, unless block time jumped over the one before it: then the day waits
    for the operator."""
    time, date, phase = beginning
    if book.day is not None:
        since = current(book)[book.day.phase]
        if book.before < since < time:
            _wait(book, phase, date, None)
            return
    begin_phase(book, beginning, None)


def _wait(book: Book, phase: Phase, date: int, index: int | None) -> None:
    assert book.day is not None
    book.day = replace(book.day, waits_for=phase)
    book.say(index, SETTLED, event=PhaseBegan(date, phase, True))


def begin_phase(book: Book, beginning: Beginning, index: int | None) -> None:
    """A phase begins; with the first one of a day, the day."""
    _, date, phase = beginning
    before = book.day
    if before is None or before.date != date:
        book.day = Day(date, phase, closed_at=0 if before is None else before.closed_at)
        if before is not None:
            book.days.pop(before.date, None)
        for key, limit in book.limits.items():
            book.limits[key] = replace(limit, since=len(book.flows))
    else:
        if phase == Phase.CLOSED:
            _settle_for_the_last_time(book)
        book.day = replace(before, phase=phase, waits_for=None)
    book.say(index, SETTLED, event=PhaseBegan(date, phase, False))
    if phase == Phase.CLOSED:
        _close(book, index)


def proceed_day(book: Book, index: int, sender: str, body: ProceedDay) -> None:
    if not book.operator(sender):
        raise Refused("DS20")
    following = upcoming(book)
    if book.day is None or book.day.waits_for is None or following is None:
        raise Refused("DT04")
    if following[1:] != (body.date, body.phase):
        raise Refused("DT04")
    begin_phase(book, following, index)
    after = upcoming(book)
    while after is not None and after[0] == following[0]:
        begin_phase(book, after, index)
        after = upcoming(book)
    if after is not None and after[0] <= book.time:
        _wait(book, after[2], after[1], index)


def delay_phase(book: Book, index: int, sender: str, body: DelayPhase) -> None:
    if not book.operator(sender):
        raise Refused("DS20")
    day = book.day
    if day is None or day.waits_for is not None:
        raise Refused("DT04")
    if body.date != day.date or body.phase <= day.phase:
        raise Refused("DT04")
    begins = current(book)
    if not max(book.time, begins[body.phase]) < body.until <= book.time + WEEK_MS:
        raise Refused("DT02")
    later = [date for date in book.days if date > day.date]
    if later and body.until > book.days[min(later)].begins[Phase.OPEN]:
        raise Refused("DT03")
    delays = dict(day.delays)
    for phase in Phase:
        if phase >= body.phase and begins[phase] < body.until:
            delays[phase] = body.until
    book.day = replace(day, delays=tuple(sorted(delays.items())))
    book.say(index, SETTLED)


# --- the close ------------------------------------------------------------------------------------


def _close(book: Book, index: int | None) -> None:
    assert book.day is not None
    if book.parameters.close_rule == CloseRule.EXPIRE:
        for leader, _ in sorted(book.entries(), key=lambda pair: _by_account(pair[1])):
            expire(book, leader)
    _lend(book, index)
    _sweep(book, index)
    _state(book, index)
    book.day = replace(book.day, closed_at=book.height)
    book.ended = book.day.date


def _by_account(entry: Waiting) -> tuple[AccountId, int, int, bytes]:
    """Account by account, in the order of each queue."""
    first = entry.payments[0]
    return debit_account(first), entry.priority, entry.order, first.uetr


def _settle_for_the_last_time(book: Book) -> None:
    """Cycles that close with the day, money for short ones, then whatever else can settle."""
    assert book.day is not None
    closed = current(book)[Phase.CLOSED]
    for close in book.days[book.day.date].closes:
        if close.time == closed and book.before < close.time <= book.time:
            close_cycle(book, close.asset, None)
    fund_all(book)
    for asset in sorted(book.assets):
        resolve(book, asset)


def _lend(book: Book, index: int | None) -> None:
    assert book.day is not None
    date = book.day.date
    for account in book.accounts():
        balance = book.balance(account)
        if account.kind == SETTLEMENT and balance < 0:
            book.loans[account.party, account.asset, date] = Loan(-balance, book.height)
            event = OvernightLoan(account.party, account.asset, date, -balance)
            book.say(index, SETTLED, event=event)


def _sweep(book: Book, index: int | None) -> None:
    for lei, (_, sweeps) in sorted(book.policies.items()):
        party = book.parties[lei]
        for sweep in sweeps:
            source = AccountId(lei, sweep.asset, SETTLEMENT)
            target = AccountId(sweep.to, sweep.asset, SETTLEMENT)
            amount = book.balance(source) - book.reserved(source)
            to = book.parties[sweep.to]
            if amount <= 0 or party.suspended or party.debit_frozen:
                continue
            if to.suspended or to.closed or to.credit_frozen:
                continue
            book.move(source, target, amount)
            book.say(
                index,
                SETTLED,
                debtor=book.balance(source),
                creditor=book.balance(target),
                event=Moved(sweep.asset, lei, SETTLEMENT, sweep.to, SETTLEMENT, amount),
            )


def _state(book: Book, index: int | None) -> None:
    assert book.day is not None
    for account in book.accounts():
        balance = book.balance(account)
        last = book.statements.get(account)
        opening = 0 if last is None else last.closing
        statement = Statement(
            account.party,
            account.asset,
            account.kind,
            book.day.date,
            opening,
            balance,
            book.day.closed_at,
        )
        book.statements[account] = statement
        book.say(index, SETTLED, event=statement)
