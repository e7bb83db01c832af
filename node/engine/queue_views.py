"""Queues as their owners see them: why each payment waits, and what would be left if all settled.

The reason that an outcome recorded is the one at that block; what is told here is the one now, by
the same conditions in the same order as the entry rule (`node.ledger.entry.blocked`). What has to
be added up over a whole queue is kept with the queue object: a block that touches a queue makes a
new one, so an unchanged object has unchanged sums.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from node.api.problems import Refused
from node.api.settlement import (
    LimitsView,
    LimitView,
    MemberView,
    PositionView,
    QueuePage,
    WaitingView,
)
from node.chain.records import LimitsKey, LimitsRecord, ParticipantRecord, PaymentKey, Queued
from node.chain.types import AccountKind, PaymentClass, Phase, Priority
from node.chain.uetr import uetr_text
from node.engine.views import holder_of
from node.engine.wording import Wording, account_word, word
from node.ledger.queue import AccountId, Entry, Queue
from node.ledger.reasons import (
    BEHIND_OTHERS,
    BY_CUSTOMER,
    EARLY,
    FROZEN,
    INSUFFICIENT_FUNDS,
    LIMIT,
    SUSPENDED,
    WRONG_PHASE,
    sentence,
)
from node.ledger.state import State
from node.ledger.tables import LIMITS, PAYMENTS

MAX_MEMBERS = 100
"""Payments told of one entry."""
QUEUEING = (int(AccountKind.SETTLEMENT), int(AccountKind.CLIENT_RESERVE))
"""Kinds of account that have a queue."""
NEXT_BLOCK = "It is covered and within its limits: the next block that may settle it tries."


@dataclass(frozen=True, slots=True)
class Summed:
    """A queue with its sums."""

    queue: Queue
    entries: list[Entry]
    """By priority and order."""
    keys: list[tuple[int, int, bytes]]
    """Of the entries, ascending."""
    ahead: list[int]
    """For each entry, how many eligible ones stand before it."""
    out: int
    credits: dict[tuple[str, int], int]
    """By (creditor, account kind)."""


class QueueSums:
    """Sums of the queues that were asked for, each worked out once for each change of it."""

    def __init__(self) -> None:
        self._summed: dict[AccountId, Summed] = {}

    def of(self, state: State, account: AccountId) -> Summed | None:
        """None: nothing is queued there."""
        queue = state.queue(account)
        if queue is None or not queue.entries:
            self._summed.pop(account, None)
            return None
        known = self._summed.get(account)
        if known is None or known.queue is not queue:
            known = self._summed[account] = _sum(queue)
        return known

    def coming_in(self, state: State, participant: str, asset: str, kind: int) -> int:
        """What all others have queued for an account, minor units."""
        total = 0
        for account in state.queued_accounts():
            if account[1] == asset:
                summed = self.of(state, account)
                total += 0 if summed is None else summed.credits.get((participant, kind), 0)
        return total


def _sum(queue: Queue) -> Summed:
    entries = queue.in_order()
    credits: dict[tuple[str, int], int] = {}
    ahead, waiting, out = [], 0, 0
    for entry in entries:
        ahead.append(waiting)
        waiting += entry.eligible
        out += entry.amount
        for creditor, kind, amount in entry.credits:
            credits[creditor, kind] = credits.get((creditor, kind), 0) + amount
    keys = [(entry.priority, entry.order, entry.uetr) for entry in entries]
    return Summed(queue, entries, keys, ahead, out, credits)


# --- pages ----------------------------------------------------------------------------------------


class Place(NamedTuple):
    """An entry's place in a participant's list of queues."""

    asset: str
    kind: int
    key: tuple[int, int, bytes]
    """Priority, order, UETR."""


class Asked(NamedTuple):
    """A page of a participant's queues."""

    holder: ParticipantRecord
    asset: str | None
    """None: all."""
    after: Place | None
    limit: int


def read_place(key: Sequence[str]) -> Place:
    """The place that a cursor carries. Raises Refused (bad-cursor)."""
    try:
        asset, kind, priority, order, uetr = key
        return Place(asset, int(kind), (int(priority), int(order), bytes.fromhex(uetr)))
    except ValueError as error:
        raise Refused(
            "bad-cursor", "the cursor was not given by a list of queues; start without one"
        ) from error


def queue_page(state: State, sums: QueueSums, asked: Asked) -> tuple[QueuePage, list[str] | None]:
    """Positions and entries, and the key to go on with.

    Adding up a long queue takes a while, so this runs beside the node's loop: what has left the
    queue meanwhile is left out."""
    accounts = _accounts(state, asked.holder.lei, asked.asset)
    entries, last = _entries(state, sums, accounts, asked)
    page = QueuePage(
        height=state.height,
        participant=asked.holder.name,
        lei=asked.holder.lei,
        phase=None if state.phase is None else word(state.phase),
        positions=[_position(state, sums, asked.holder, account) for account in accounts],
        entries=entries,
        next=None,
    )
    return page, last


def _accounts(state: State, lei: str, asset: str | None) -> list[AccountId]:
    """The participant's accounts that can queue, by asset and kind."""
    found = []
    for each in state.assets():
        for kind in QUEUEING:
            account = (lei, each.code, kind)
            queue = state.queue(account)
            held = state.balance(*account) is not None or (queue is not None and queue.entries)
            if held and asset in (None, each.code):
                found.append(account)
    return found


# --- positions ------------------------------------------------------------------------------------


def _position(
    state: State, sums: QueueSums, holder: ParticipantRecord, account: AccountId
) -> PositionView:
    lei, asset, kind = account
    wording = Wording(state)
    balance = state.balance(lei, asset, kind) or 0
    reserved, line = state.holding(lei, asset, kind)
    summed = sums.of(state, account)
    out = 0 if summed is None else summed.out
    coming = sums.coming_in(state, lei, asset, kind)
    available = balance - reserved + line

    def text(minor: int) -> str:
        return wording.amount(minor, asset)

    return PositionView(
        participant=holder.name,
        lei=lei,
        asset=asset,
        account=account_word(kind),
        balance=text(balance),
        reserved=text(reserved),
        line=text(line),
        available=text(available),
        queued_out=text(out),
        queued_in=text(coming),
        projected=text(available - out + coming),
        waiting=0 if summed is None else len(summed.entries),
    )


# --- entries --------------------------------------------------------------------------------------


def _entries(
    state: State, sums: QueueSums, accounts: Sequence[AccountId], asked: Asked
) -> tuple[list[WaitingView], list[str] | None]:
    found: list[WaitingView] = []
    last: list[str] | None = None
    for account, summed, index in _walk(state, sums, accounts, asked.after):
        if len(found) == asked.limit:
            return found, last
        entry = summed.entries[index]
        view = _waiting(state, account, entry, summed.ahead[index])
        if view is not None:
            found.append(view)
        key = summed.keys[index]
        last = [account[1], str(account[2]), str(key[0]), str(key[1]), key[2].hex()]
    return found, None


def _walk(
    state: State, sums: QueueSums, accounts: Sequence[AccountId], after: Place | None
) -> Iterator[tuple[AccountId, Summed, int]]:
    for account in accounts:
        summed = sums.of(state, account)
        if summed is None:
            continue
        first = 0
        if after is not None:
            here, there = account[1:], (after.asset, after.kind)
            if here < there:
                continue
            if here == there:
                first = bisect_right(summed.keys, after.key)
        for index in range(first, len(summed.entries)):
            yield account, summed, index


def _waiting(state: State, account: AccountId, entry: Entry, ahead: int) -> WaitingView | None:
    queued, wording = entry.queued, Wording(state)
    first = queued.payments[0]
    held = queued.held or queued.restricted
    reason, because = _why(state, account, entry, ahead)
    record = state.get(PAYMENTS, PaymentKey(entry.uetr))
    if record is None:
        return None
    return WaitingView(
        uetr=uetr_text(entry.uetr),
        asset=account[1],
        account=account_word(account[2]),
        amount=wording.amount(entry.amount, account[1]),
        priority=word(Priority(entry.priority)),
        payment_class=word(PaymentClass(entry.payment_class)),
        status="held" if held else "queued",
        reason=reason,
        because=because,
        ahead=ahead,
        since=record.since,
        earliest=first.earliest,
        latest=first.latest,
        returns=None if queued.returns is None else uetr_text(queued.returns),
        payments=len(queued.payments),
        members=[
            MemberView(
                uetr=uetr_text(payment.uetr),
                creditor=payment.creditor,
                creditor_name=wording.name(payment.creditor),
                amount=wording.amount(payment.amount, payment.asset),
            )
            for payment in queued.payments[:MAX_MEMBERS]
        ],
    )


def _why(state: State, account: AccountId, entry: Entry, ahead: int) -> tuple[str, str]:
    """(reason, sentence) for which an entry waits now."""
    reason = _condition(state, account, entry, ahead)
    if reason is None:
        # It came to be coverable with this block; looking again is the next one's.
        return INSUFFICIENT_FUNDS, NEXT_BLOCK
    return reason, sentence(reason)


def _condition(state: State, account: AccountId, entry: Entry, ahead: int) -> str | None:
    queued, phase = entry.queued, state.phase
    if queued.restricted:
        return _restriction(state, queued)
    if queued.held:
        return BY_CUSTOMER
    if queued.early:
        return EARLY
    if phase is Phase.CLOSED or (
        phase is Phase.INTERBANK and entry.payment_class != PaymentClass.INTERBANK
    ):
        return WRONG_PHASE
    if ahead:
        return BEHIND_OTHERS
    if state.available(*account) < entry.amount:
        return INSUFFICIENT_FUNDS
    return None if _within_limits(state, account, entry) else LIMIT


def _restriction(state: State, queued: Queued) -> str:
    """Which restriction of a party holds it: suspension before freezing."""
    frozen = False
    for payment in queued.payments:
        debtor, creditor = state.participant(payment.debtor), state.participant(payment.creditor)
        assert debtor is not None
        assert creditor is not None
        if debtor.record.suspended or creditor.record.suspended:
            return SUSPENDED
        frozen = frozen or debtor.record.debit_frozen or creditor.record.credit_frozen
    return FROZEN if frozen else SUSPENDED


def _within_limits(state: State, account: AccountId, entry: Entry) -> bool:
    lei, asset, kind = account
    limits = state.get(LIMITS, LimitsKey(lei, asset)) if kind == QUEUEING[0] else None
    if limits is None:
        return True
    bilateral = {each.counterparty: each for each in limits.bilateral}
    towards: dict[str | None, int] = {}
    for creditor, _, amount in entry.credits:
        whom = creditor if creditor in bilateral else None
        towards[whom] = towards.get(whom, 0) + amount
    for whom, amount in towards.items():
        limit = limits.multilateral if whom is None else bilateral[whom]
        if limit is not None and limit.used + amount > limit.limit:
            return False
    return True


# --- limits ---------------------------------------------------------------------------------------


def limits_view(state: State, participant: str | None) -> list[LimitsView]:
    """Limits with their use, by short name and asset. Raises UnknownParticipant."""
    lei = None if participant is None else holder_of(state, participant).lei
    wording = Wording(state)
    found = [
        LimitsView(
            participant=wording.name(key.participant),
            lei=key.participant,
            asset=key.asset,
            limits=_limits(wording, key.asset, record),
        )
        for key, record in state.rows(LIMITS)
        if lei in (None, key.participant)
    ]
    return sorted(found, key=lambda each: (each.participant, each.asset))


def _limits(wording: Wording, asset: str, record: LimitsRecord) -> list[LimitView]:
    def limit(counterparty: str | None, limit: int, used: int) -> LimitView:
        return LimitView(
            counterparty=counterparty,
            counterparty_name=None if counterparty is None else wording.name(counterparty),
            limit=wording.amount(limit, asset),
            used=wording.amount(used, asset),
            left=wording.amount(limit - used, asset),
        )

    found = [limit(each.counterparty, each.limit, each.used) for each in record.bilateral]
    if record.multilateral is not None:
        found.append(limit(None, record.multilateral.limit, record.multilateral.used))
    return found
