"""Limits of a settlement account: how much more it may pay out than it takes in.

A bilateral limit is towards one counterparty, the multilateral one towards all that have none of
their own. Each belongs to the account that pays, whoever set it, and what comes in only makes room:
resolution depends on both (`gridlock`). What a limit counts is out − in from the start of the day,
or from when it was set first, if that was later: settled gross payments, links, returns, and
reservations from the moment they are made. Nobody is its own counterparty.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from operator import attrgetter

from msgspec.structs import replace

from node.chain.records import BilateralLimit, LimitsKey, LimitsRecord, MultilateralLimit
from node.chain.types import MAX_BALANCE, AccountKind, Payment
from node.ledger.queue import AccountId
from node.ledger.tables import LIMITS
from node.ledger.work import Work

SETTLEMENT = int(AccountKind.SETTLEMENT)
MAX_BILATERAL = 256
"""Bilateral limits of one account."""
EVERYONE = None
"""Stands for all counterparties without a limit of their own."""

Room = dict[str | None, int]
"""How much more may go out, by counterparty and for `EVERYONE`."""
Credits = Iterable[tuple[str, int, int]]
"""(creditor, account kind, amount)."""

_counterparty = attrgetter("counterparty")


def has_limits(work: Work, lei: str, asset: str) -> bool:
    """Whether any limit is set for this settlement account."""
    return work.get(LIMITS, LimitsKey(lei, asset)) is not None


def room_of(record: LimitsRecord | None) -> Room:
    """What the limits of an account leave it."""
    if record is None:
        return {}
    room: Room = {each.counterparty: each.limit - each.used for each in record.bilateral}
    if record.multilateral is not None:
        room[EVERYONE] = record.multilateral.limit - record.multilateral.used
    return room


def outflows(lei: str, credits: Credits) -> dict[str, int]:
    """What a participant's payments bring each counterparty."""
    flows: dict[str, int] = {}
    for creditor, _, amount in credits:
        if creditor != lei:
            flows[creditor] = flows.get(creditor, 0) + amount
    return flows


def allows(work: Work, account: AccountId, credits: Credits) -> bool:
    """Whether the limits of a debtor account let it pay all this at once."""
    lei, asset, kind = account
    return kind != SETTLEMENT or fits(work, lei, asset, outflows(lei, credits))


def fits(work: Work, lei: str, asset: str, flows: Mapping[str, int]) -> bool:
    """Whether a settlement account's limits bear these flows, out − in by counterparty, all at
    once."""
    room = room_of(work.get(LIMITS, LimitsKey(lei, asset)))
    if not room:
        return True
    for counterparty, flow in flows.items():
        whose = counterparty if counterparty in room else EVERYONE
        if whose in room:
            room[whose] -= flow
    return min(room.values()) >= 0


def count(work: Work, payment: Payment) -> None:
    """Count a payment that settles now, on both sides."""
    if payment.debtor == payment.creditor:
        return
    if payment.debtor_account == SETTLEMENT:
        use(work, payment.debtor, payment.asset, {payment.creditor: payment.amount})
    if payment.creditor_account == SETTLEMENT:
        use(work, payment.creditor, payment.asset, {payment.debtor: -payment.amount})


def use(
    work: Work, lei: str, asset: str, flows: Mapping[str, int] | Mapping[str | None, int]
) -> None:
    """Count flows of a settlement account, out − in by counterparty or for `EVERYONE` else; below
    zero, they make room.

    The caller has seen that they fit, and does not name the account's own holder."""
    key = LimitsKey(lei, asset)
    record = work.get(LIMITS, key)
    if record is None:
        return
    bilateral, multilateral = list(record.bilateral), record.multilateral
    # Summed before it is counted: what comes in and goes out at once may be far more than a record
    # can hold, and only the difference is known to fit.
    everyone = 0
    for counterparty, flow in flows.items():
        place = None if counterparty is EVERYONE else _place(bilateral, counterparty)
        if place is not None:
            each = bilateral[place]
            bilateral[place] = replace(each, used=_sum(each.used, flow))
        else:
            everyone += flow
    if multilateral is not None:
        multilateral = replace(multilateral, used=_sum(multilateral.used, everyone))
    work.put(LIMITS, key, LimitsRecord(multilateral, tuple(bilateral)))


def reset(work: Work) -> None:
    """A new day: nothing is used yet."""
    for key, record in work.rows(LIMITS):
        multilateral = record.multilateral
        if multilateral is not None:
            multilateral = replace(multilateral, used=0)
        bilateral = tuple(replace(each, used=0) for each in record.bilateral)
        work.put(LIMITS, key, LimitsRecord(multilateral, bilateral))


def limit_of(
    record: LimitsRecord, counterparty: str | None
) -> BilateralLimit | MultilateralLimit | None:
    """The limit towards a counterparty or, for `EVERYONE`, the multilateral one."""
    if counterparty is EVERYONE:
        return record.multilateral
    place = _place(record.bilateral, counterparty)
    return None if place is None else record.bilateral[place]


def with_limit(
    record: LimitsRecord, counterparty: str | None, limit: int | None
) -> LimitsRecord | None:
    """An account's limits after one is set, changed (it keeps its use) or, for None, removed. None:
    none is left."""
    before = limit_of(record, counterparty)
    used = 0 if before is None else before.used
    if counterparty is EVERYONE:
        changed = replace(
            record, multilateral=None if limit is None else MultilateralLimit(limit, used)
        )
    else:
        others = [each for each in record.bilateral if each.counterparty != counterparty]
        if limit is not None:
            others.append(BilateralLimit(counterparty, limit, used))
        changed = replace(record, bilateral=tuple(sorted(others, key=_counterparty)))
    return changed if changed.bilateral or changed.multilateral is not None else None


def _place(bilateral: list[BilateralLimit] | tuple[BilateralLimit, ...], lei: str) -> int | None:
    place = bisect_left(bilateral, lei, key=_counterparty)
    return place if place < len(bilateral) and bilateral[place].counterparty == lei else None


def _sum(used: int, flow: int) -> int:
    """Stops at the least that the record can hold. So much came in that no limit is near."""
    return max(used + flow, -MAX_BALANCE)
