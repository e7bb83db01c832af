"""Deferred net settlement: what becomes of a clearing cycle."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from node.chain.instruction import payment_digest
from node.chain.merkle import root
from node.chain.types import (
    MAX_FUNDING_MS,
    AccountKind,
    Cover,
    CoverSource,
    CycleAction,
    CycleClosed,
    CycleSettled,
    CycleShort,
    CycleUnwound,
    Moved,
    NetPosition,
    OrderCycle,
    Shortfall,
    SurvivorShare,
)

from .book import (
    Book,
)
from .rows import (
    SETTLED,
    SETTLEMENT,
    WEEK_MS,
    AccountId,
    Cycle,
    Refused,
)

MARGIN, FUND, CAPITAL = AccountKind.MARGIN, AccountKind.FUND, AccountKind.CAPITAL


class Step(NamedTuple):
    """Money of a waterfall."""

    source: CoverSource
    account: AccountId
    available: int
    amount: int


Steps = dict[str, list[Step]]
"""By short debtor."""


def positions(cycle: Cycle) -> tuple[NetPosition, ...]:
    """Every party's sums over all payments, ascending."""
    parties = {p.debtor for p in cycle.payments} | {p.creditor for p in cycle.payments}
    return tuple(
        NetPosition(
            lei,
            sum(p.amount for p in cycle.payments if p.debtor == lei),
            sum(p.amount for p in cycle.payments if p.creditor == lei),
        )
        for lei in sorted(parties)
    )


def owed(cycle: Cycle) -> dict[str, int]:
    """Net debits, ascending."""
    return {p.participant: p.debits - p.credits for p in cycle.positions if p.debits > p.credits}


def lacking(cycle: Cycle) -> tuple[tuple[str, int], ...]:
    """What net debtors have not set aside yet."""
    aside = dict(cycle.reserved)
    left = {lei: amount - aside.get(lei, 0) for lei, amount in owed(cycle).items()}
    return tuple((lei, amount) for lei, amount in left.items() if amount > 0)


def close_cycle(book: Book, asset: str, index: int | None) -> None:
    """The open cycle takes no more payments, if any joined it."""
    netting = book.netting.get(asset)
    if netting is None or (asset, netting.open_cycle) not in book.cycles:
        return
    number = netting.open_cycle
    cycle = book.cycles[asset, number]
    cycle = replace(cycle, positions=positions(cycle))
    book.netting[asset] = replace(netting, open_cycle=number + 1)
    book.cycles[asset, number] = replace(cycle, status="funding")
    closed = CycleClosed(
        asset,
        number,
        cycle.positions,
        len(cycle.payments),
        root([payment_digest(each) for each in cycle.payments]),
    )
    book.say(index, SETTLED, event=closed)
    fund(book, asset, number)
    if not lacking(book.cycles[asset, number]):
        conclude(book, asset, number, index)
    elif netting.funding_ms == 0:
        end_funding(book, asset, number, index)
    else:
        _await(book, asset, number, index, book.time + netting.funding_ms)


def _await(book: Book, asset: str, number: int, index: int | None, until: int) -> None:
    """A funding window."""
    cycle = replace(book.cycles[asset, number], status="funding", until=until)
    book.cycles[asset, number] = cycle
    book.say(index, SETTLED, event=CycleShort(asset, number, lacking(cycle), until))


def fund(book: Book, asset: str, number: int) -> None:
    """Set aside what net debtors have, as far as they lack it."""
    for lei, lack in lacking(book.cycles[asset, number]):
        cycle = book.cycles[asset, number]
        aside = dict(cycle.reserved)
        amount = min(lack, max(0, book.available(AccountId(lei, asset, SETTLEMENT))))
        if amount:
            aside[lei] = aside.get(lei, 0) + amount
            reserved = tuple(sorted(aside.items()))
            book.cycles[asset, number] = replace(cycle, reserved=reserved)


def fund_all(book: Book) -> None:
    """Before resolution: money that came in for short debtors."""
    for (asset, number), cycle in sorted(book.cycles.items()):
        if cycle.status == "funding":
            fund(book, asset, number)
            if not lacking(book.cycles[asset, number]):
                conclude(book, asset, number, None)


def end_funding(book: Book, asset: str, number: int, index: int | None) -> None:
    """What there is decides."""
    fund(book, asset, number)
    conclude(book, asset, number, index)


def conclude(book: Book, asset: str, number: int, index: int | None) -> None:
    """Settle by what was set aside and the waterfall; if that is not enough, nothing moves."""
    cycle = book.cycles[asset, number]
    steps, left = waterfall(book, asset, cycle)
    if not left:
        settle(book, asset, number, index, steps)
    elif book.time >= too_old(book, cycle):
        unwind(book, asset, number, index)
    else:
        book.cycles[asset, number] = replace(cycle, status="unsettled", until=None)
        book.say(index, SETTLED, event=CycleShort(asset, number, tuple(left.items()), None))


def waterfall(book: Book, asset: str, cycle: Cycle) -> tuple[Steps, dict[str, int]]:
    """Who pays for each short debtor, and what still lacks."""
    has = {account: max(0, book.available(account)) for account in book.accounts()}
    short = dict(lacking(cycle))
    weights = survivors(book, asset, set(short))
    capacity = {
        lei: min(weight, has.get(AccountId(lei, asset, FUND), 0)) for lei, weight in weights.items()
    }
    steps: Steps = {}
    left: dict[str, int] = {}
    for lei, missing in short.items():
        lack = missing
        mine = steps[lei] = []
        sources = [
            (CoverSource.MARGIN, AccountId(lei, asset, MARGIN)),
            (CoverSource.FUND, AccountId(lei, asset, FUND)),
            *(
                (CoverSource.CAPITAL, AccountId(each, asset, CAPITAL))
                for each in sorted(book.parties)
                if book.operator(each)
            ),
        ]
        for source, account in sources:
            available = has.get(account, 0)
            amount = min(lack, available)
            if amount:
                mine.append(Step(source, account, available, amount))
                has[account] = available - amount
                lack -= amount
        for payer, amount in split(lack, weights, capacity).items():
            account = AccountId(payer, asset, FUND)
            mine.append(Step(CoverSource.SURVIVOR, account, capacity[payer], amount))
            capacity[payer] -= amount
            lack -= amount
        if lack:
            left[lei] = lack
    return steps, left


def survivors(book: Book, asset: str, short: set[str]) -> dict[str, int]:
    """Required contributions of members that are not short, ascending."""
    return {
        lei: terms.contribution
        for (lei, of), terms in sorted(book.members.items())
        if of == asset and lei not in short
    }


def split(loss: int, weights: dict[str, int], capacity: dict[str, int]) -> dict[str, int]:
    """Pro rata to the weights by exact fractions, nobody above its capacity: whose share reaches
    it pays just that, and the rest is shared anew. Then largest remainders, ties by LEI."""
    paid: dict[str, int] = {}
    able = [lei for lei in sorted(weights) if weights[lei] and capacity[lei]]
    while able:
        rest = loss - sum(paid.values())
        whole = sum(weights[lei] for lei in able)
        exact = {lei: Fraction(rest * weights[lei], whole) for lei in able}
        full = [lei for lei in able if exact[lei] >= capacity[lei]]
        if not full:
            paid |= {lei: int(share) for lei, share in exact.items()}
            units = loss - sum(paid.values())
            for lei in sorted(able, key=lambda lei: (int(exact[lei]) - exact[lei], lei))[:units]:
                paid[lei] += 1
            break
        paid |= {lei: capacity[lei] for lei in full}
        able = [lei for lei in able if lei not in full]
    return {lei: amount for lei, amount in sorted(paid.items()) if amount}


def settle(book: Book, asset: str, number: int, index: int | None, steps: Steps) -> None:
    """All positions at once."""
    cycle = book.cycles[asset, number]
    aside = dict(cycle.reserved)
    shares = tuple(
        SurvivorShare(lei, weight, max(0, book.available(AccountId(lei, asset, FUND))))
        for lei, weight in survivors(book, asset, set(steps)).items()
    )
    book.cycles[asset, number] = replace(
        cycle, status="settled", reserved=(), until=None, decided=book.height
    )
    shortfalls = []
    for lei, mine in steps.items():
        target = AccountId(lei, asset, SETTLEMENT)
        for step in mine:
            book.move(step.account, target, step.amount)
            book.say(
                index,
                SETTLED,
                debtor=book.balance(step.account),
                creditor=book.balance(target),
                event=Moved(
                    asset, step.account.party, step.account.kind, lei, SETTLEMENT, step.amount
                ),
            )
        covers = tuple(Cover(s.source, s.account.party, s.available, s.amount) for s in mine)
        shortfalls.append(Shortfall(lei, owed(cycle)[lei], aside.get(lei, 0), covers))
    for each in cycle.positions:
        account = AccountId(each.participant, asset, SETTLEMENT)
        if each.credits != each.debits:
            book.move(None, account, each.credits - each.debits)
    event = CycleSettled(asset, number, tuple(shortfalls), shares if steps else ())
    book.say(index, SETTLED, event=event)


def unwind(book: Book, asset: str, number: int, index: int | None) -> None:
    """Every payment of the cycle is rejected."""
    book.cycles[asset, number] = replace(
        book.cycles[asset, number], status="unwound", reserved=(), until=None, decided=book.height
    )
    book.say(index, SETTLED, event=CycleUnwound(asset, number))


def order_cycle(book: Book, index: int, sender: str, body: OrderCycle) -> None:
    if not book.operator(sender):
        raise Refused("DS20")
    cycle = book.cycles.get((body.asset, body.cycle))
    if cycle is None:
        raise Refused("NOOR")
    if (body.until is not None) != (body.action == CycleAction.EXTEND):
        raise Refused("DT02")
    if body.action == CycleAction.CLOSE:
        if cycle.status != "open":
            raise Refused("ED06")
        close_cycle(book, body.asset, index)
        return
    if cycle.status != "unsettled":
        raise Refused("ED06")
    if body.action == CycleAction.UNWIND:
        unwind(book, body.asset, body.cycle, index)
        return
    assert body.until is not None
    if not book.time < body.until <= book.time + MAX_FUNDING_MS:
        raise Refused("DT02")
    _await(book, body.asset, body.cycle, index, body.until)


def too_old(book: Book, cycle: Cycle) -> int:
    """When an undecided cycle is unwound by rule."""
    return cycle.opened + max(book.parameters.window - WEEK_MS, 0)
