"""What becomes of a clearing cycle once no more payments join it: all of it settles, or none.

    open → funding → settled
                   → unsettled → funding (by order) …
                               → unwound (by order, or by rule when it is too old)

At the close every net debit is set aside on the debtor's settlement account, ahead of its queue, as
far as there is money. If that covers all of them the cycle settles in the same step. Else a funding
window begins, in which money that comes in for a short debtor is set aside first; when it ends the
waterfall pays (`waterfall`). If that is not enough nothing moves at all, and the cycle waits for an
operator's order.

The cost is that of its participants, however many payments there were. Restrictions of a party do
not touch a closed cycle: what it promised was accepted before.
"""

from __future__ import annotations

from msgspec.structs import replace

from node.chain.merkle import Frontier
from node.chain.records import CycleKey, CycleRecord, NettingKey
from node.chain.types import (
    MAX_BALANCE,
    AccountKind,
    Cover,
    CycleClosed,
    CycleSettled,
    CycleShort,
    CycleUnwound,
    Moved,
    NetPosition,
    SurvivorShare,
)
from node.chain.waterfall import ACCOUNT_OF, Means, Plan, Short, waterfall
from node.ledger.due import DueKind, cycle_age, cycle_id
from node.ledger.entries import ClosedEntry
from node.ledger.reasons import SETTLED
from node.ledger.tables import CYCLES, MEMBERS, NETTING, POSITIONS
from node.ledger.work import Work

OPERATOR = "operator"
SETTLEMENT = int(AccountKind.SETTLEMENT)
MARGIN, FUND, CAPITAL = int(AccountKind.MARGIN), int(AccountKind.FUND), int(AccountKind.CAPITAL)

COVERED = Plan((), (), ())
"""Of a cycle without short debtors."""


def close(work: Work, asset: str, index: int | None) -> None:
    """Take no more payments into the asset's open cycle, if there is one. `index`: of the
    instruction that orders it; None: time does."""
    netting = work.get(NETTING, NettingKey(asset))
    if netting is None:
        return
    form = work.open_cycles.pop(asset, None)
    if form is not None:
        form.write()
    key = CycleKey(asset, netting.open_cycle)
    cycle = work.get(CYCLES, key)
    if cycle is None:
        return  # nobody joined: it stays open
    cycle = replace(cycle, status="funding", positions=_take_positions(work, asset))
    assert sum(each.credits - each.debits for each in cycle.positions) == 0
    work.put(NETTING, NettingKey(asset), replace(netting, open_cycle=key.cycle + 1))
    root = Frontier(cycle.payments, cycle.frontier).root()
    closed = CycleClosed(asset, key.cycle, cycle.positions, cycle.payments, root)
    place = work.context.height, len(work.outcomes)
    work.closed.append(ClosedEntry(asset, key.cycle, *place))
    work.emit(index, SETTLED, event=closed)
    cycle = _set_aside(work, key, cycle)
    if not lacking(cycle):
        _conclude(work, key, cycle, index)
    elif netting.funding_ms == 0:
        end_funding(work, key, index)
    else:
        wait(work, key, work.context.time + netting.funding_ms, index)


def _take_positions(work: Work, asset: str) -> tuple[NetPosition, ...]:
    """The positions of the open cycle, whose rows are free for the next one."""
    positions = []
    for key, row in work.rows(POSITIONS):
        if key.asset == asset:
            positions.append(NetPosition(key.participant, row.debits, row.credits))
            work.put(POSITIONS, key, None)
    return tuple(positions)


def owed(cycle: CycleRecord) -> dict[str, int]:
    """Net debits of a closed cycle, ascending by LEI."""
    return {
        each.participant: each.debits - each.credits
        for each in cycle.positions
        if each.debits > each.credits
    }


def lacking(cycle: CycleRecord) -> tuple[tuple[str, int], ...]:
    """What each short debtor has not set aside yet, ascending by LEI."""
    aside = dict(cycle.reserved)
    left = ((lei, amount - aside.get(lei, 0)) for lei, amount in owed(cycle).items())
    return tuple((lei, amount) for lei, amount in left if amount)


def _set_aside(work: Work, key: CycleKey, cycle: CycleRecord) -> CycleRecord:
    """Reserve what short debtors have, as far as they lack it; the cycle with it."""
    book = work.book(key.asset, SETTLEMENT)
    aside = dict(cycle.reserved)
    for lei, lacks in lacking(cycle):
        amount = min(lacks, book.available(lei))
        if amount > 0:
            reserved, line = book.holding(lei)
            book.hold(lei, reserved + amount, line)
            aside[lei] = aside.get(lei, 0) + amount
    changed = replace(cycle, reserved=tuple(sorted(aside.items())))
    work.put(CYCLES, key, changed)
    return changed


def wait(work: Work, key: CycleKey, until: int, index: int | None) -> None:
    """Begin a funding window of a closed cycle."""
    cycle = _closed(work, key)
    changed = replace(cycle, status="funding", until=until)
    work.put(CYCLES, key, changed)
    work.remind([(until, DueKind.FUNDING_END, cycle_id(key.asset, key.cycle))])
    short = CycleShort(key.asset, key.cycle, lacking(cycle), until)
    work.emit(index, SETTLED, event=short)


def top_up(work: Work) -> None:
    """In every funding window, set aside what came in for short debtors in this block, ahead of
    their queues; settle what is covered by it."""
    for key, cycle in work.rows(CYCLES):
        if cycle.status != "funding":
            continue
        book = work.book(key.asset, SETTLEMENT)
        if any(book.available(lei) > 0 for lei, _ in lacking(cycle)):
            changed = _set_aside(work, key, cycle)
            if not lacking(changed):
                _conclude(work, key, changed, None)


def end_funding(work: Work, key: CycleKey, index: int | None) -> None:
    """The funding window of a cycle is over: it settles, with the waterfall if need be, or waits
    for an order."""
    cycle = _set_aside(work, key, _closed(work, key))
    _conclude(work, key, cycle, index)


def too_old(work: Work, key: CycleKey) -> None:
    """The UETRs of a cycle's oldest payments are about to be forgotten. One that nobody closed is
    closed now; a closed one is unwound."""
    cycle = work.get(CYCLES, key)
    assert cycle is not None
    if cycle.status == "open":
        close(work, key.asset, None)
    else:
        unwind(work, key, None)


def unwind(work: Work, key: CycleKey, index: int | None) -> None:
    """Reject every payment of a cycle that is not settled; what was set aside is free again."""
    cycle = _closed(work, key)
    _free(work, key.asset, cycle)
    for lei, _ in cycle.reserved:
        work.credited(lei, key.asset, SETTLEMENT)
    _decide(work, key, cycle, "unwound")
    work.emit(index, SETTLED, event=CycleUnwound(key.asset, key.cycle))


# --- settling -------------------------------------------------------------------------------------


def _conclude(work: Work, key: CycleKey, cycle: CycleRecord, index: int | None) -> None:
    """Settle a closed cycle, if its debtors and the waterfall cover it; else nothing moves."""
    plan = _plan(work, key.asset, cycle)
    if not plan.left:
        _settle(work, key, cycle, plan, index)
    elif work.context.time >= cycle_age(cycle.opened, work.window):
        unwind(work, key, index)
    else:
        changed = replace(cycle, status="unsettled", until=None)
        work.put(CYCLES, key, changed)
        work.emit(index, SETTLED, event=CycleShort(key.asset, key.cycle, plan.left, None))


def _plan(work: Work, asset: str, cycle: CycleRecord) -> Plan:
    """Who covers what the cycle's short debtors lack."""
    short, debits, aside = lacking(cycle), owed(cycle), dict(cycle.reserved)
    if not short:
        return COVERED
    names = {lei for lei, _ in short}
    survivors = tuple(
        SurvivorShare(key.participant, row.contribution, _has(work, asset, FUND, key.participant))
        for key, row in work.rows(MEMBERS)
        if key.asset == asset and key.participant not in names
    )
    return waterfall(
        [Short(lei, debits[lei], aside.get(lei, 0)) for lei, _ in short],
        {
            lei: Means(_has(work, asset, MARGIN, lei), _has(work, asset, FUND, lei))
            for lei in sorted(names)
        },
        [
            (each.record.lei, _has(work, asset, CAPITAL, each.record.lei))
            for each in work.participants()
            if OPERATOR in each.record.roles
        ],
        survivors,
    )


def _has(work: Work, asset: str, kind: int, lei: str) -> int:
    """What an account could pay now."""
    return max(work.book(asset, kind).available(lei), 0)


def _settle(work: Work, key: CycleKey, cycle: CycleRecord, plan: Plan, index: int | None) -> None:
    asset = key.asset
    _free(work, asset, cycle)
    book = work.book(asset, SETTLEMENT)
    for shortfall in plan.shortfalls:
        for cover in shortfall.covers:
            _pay_cover(work, asset, shortfall.participant, cover, index)
    for each in cycle.positions:
        net = each.credits - each.debits
        if net:
            after = (book.load(each.participant) or 0) + net
            assert after <= MAX_BALANCE, (
                "supply and lines are capped below what an account can hold"
            )
            book.balances[each.participant] = after
        if net > 0:
            work.credited(each.participant, asset, SETTLEMENT)
    _decide(work, key, cycle, "settled")
    settled = CycleSettled(asset, key.cycle, plan.shortfalls, plan.survivors)
    work.emit(index, SETTLED, event=settled)


def _pay_cover(work: Work, asset: str, debtor: str, cover: Cover, index: int | None) -> None:
    kind = ACCOUNT_OF[cover.source]
    source, target = work.book(asset, int(kind)), work.book(asset, SETTLEMENT)
    left = (source.load(cover.participant) or 0) - cover.amount
    assert left >= 0
    source.balances[cover.participant] = left
    after = (target.load(debtor) or 0) + cover.amount
    target.balances[debtor] = after
    moved = Moved(asset, cover.participant, kind, debtor, AccountKind.SETTLEMENT, cover.amount)
    work.emit(index, SETTLED, debtor_balance=left, creditor_balance=after, event=moved)


def _free(work: Work, asset: str, cycle: CycleRecord) -> None:
    """What debtors have set aside is theirs again."""
    book = work.book(asset, SETTLEMENT)
    for lei, amount in cycle.reserved:
        reserved, line = book.holding(lei)
        book.hold(lei, reserved - amount, line)


def _decide(work: Work, key: CycleKey, cycle: CycleRecord, status: str) -> None:
    decided = replace(cycle, status=status, reserved=(), until=None, decided=work.context.height)
    work.put(CYCLES, key, decided)


def _closed(work: Work, key: CycleKey) -> CycleRecord:
    cycle = work.get(CYCLES, key)
    assert cycle is not None
    assert cycle.status in ("funding", "unsettled")
    return cycle
