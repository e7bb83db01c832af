"""Queue entries changed as a whole: the queue itself, the rows of all payments of an entry, and
their outcomes.

Whoever changes an entry that is on the books does it here: its debtor's orders, time, a
restriction, the close of a day. An entry is one payment or several that settle only together; its
first payment's row describes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from node.chain.records import Grouped, PaymentKey, PaymentRecord, Queued
from node.chain.types import Payment, Priority
from node.ledger.entry import blocked
from node.ledger.lifecycle import change, relive
from node.ledger.queue import AccountId, Entry, entry_of
from node.ledger.reasons import (
    BEHIND_OTHERS,
    CANCELLED,
    FROZEN,
    HELD,
    QUEUED,
    SETTLEMENT_TIMEOUT,
    SUSPENDED,
)
from node.ledger.tables import PAYMENTS
from node.ledger.work import Work


def account_of(queued: Queued) -> AccountId:
    """Whose queue an entry stands in."""
    first = queued.payments[0]
    return first.debtor, first.asset, int(first.debtor_account)


def row(work: Work, uetr: bytes) -> PaymentRecord:
    """The row of a payment that is known to have one."""
    record = work.get(PAYMENTS, PaymentKey(uetr))
    assert record is not None, "a queued payment has no row"
    return record


def queued_of(record: PaymentRecord) -> Queued:
    """The entry that a row describes. The caller knows that it describes one."""
    assert isinstance(record.live, Queued)
    return record.live


def barred(work: Work, payments: Sequence[Payment]) -> str | None:
    """Why queued payments of one account are held by a restriction: of its holder, or of one of
    the creditors. None: nothing bars them."""
    debtor = work.participant(payments[0].debtor)
    creditors = [work.participant(lei) for lei in {each.creditor: None for each in payments}]
    assert debtor is not None
    known = [each.record for each in creditors if each is not None]
    if debtor.record.suspended or any(each.suspended for each in known):
        return SUSPENDED
    if debtor.record.debit_frozen or any(each.credit_frozen for each in known):
        return FROZEN
    return None


def alter(
    work: Work,
    queued: Queued,
    changed: Queued | None,
    status: str,
    reason: str | None,
    *,
    instruction: int | None = None,
) -> None:
    """Replace an entry and tell why, for each of its payments; None: it leaves the queue for good,
    without having settled."""
    _swap(work, queued, changed)
    _tell(work, queued, changed, (status, reason), instruction)


def requeue(
    work: Work,
    queued: Queued,
    *,
    priority: Priority | None = None,
    instruction: int | None = None,
) -> None:
    """Let an entry wait again, at the end of its priority or of another one, as far as time and
    restrictions allow now."""
    first = queued.payments[0]
    why = barred(work, queued.payments)
    early = first.earliest is not None and work.context.time < first.earliest
    changed = replace(
        queued,
        priority=queued.priority if priority is None else priority,
        order=queued.order if early else work.next_order(),
        held=False,
        restricted=why is not None,
        early=early,
    )
    _swap(work, queued, None)
    # It waits at least for the resolution that follows in this block.
    waits = blocked(work, entry_of(changed), restricted=why) or (QUEUED, BEHIND_OTHERS)
    _swap(work, None, changed)
    _tell(work, queued, changed, waits, instruction)


def restrict(work: Work, queued: Queued, *, instruction: int | None = None) -> None:
    """Bring an entry in line with the standing of its parties: hold it, or let it wait again."""
    why = barred(work, queued.payments)
    if queued.restricted == (why is not None):
        return
    if queued.held:
        # Its debtor keeps it back anyhow: nothing changes that anybody could see.
        changed = replace(queued, restricted=why is not None)
        _swap(work, queued, changed)
        relive(work, row(work, queued.payments[0].uetr), changed)
    elif why is not None:
        alter(work, queued, replace(queued, restricted=True), HELD, why, instruction=instruction)
    else:
        requeue(work, queued, instruction=instruction)


def release(work: Work, queued: Queued) -> None:
    """The earliest time of an entry has come: from now on it waits, unless it is held."""
    assert queued.early
    changed = replace(queued, early=False, order=work.next_order())
    _swap(work, queued, changed)
    relive(work, row(work, queued.payments[0].uetr), changed)


def expire(work: Work, queued: Queued) -> None:
    """An entry may settle no more."""
    alter(work, queued, None, CANCELLED, SETTLEMENT_TIMEOUT)


def expire_before(work: Work, close: tuple[int, int], most: int | None) -> bool:
    """Let entries that came in before a close expire, held ones too: by account, in the order of
    the queue, with about `most` payments. Whether that was all. `close`: (height, instruction)."""
    left = most
    for account in work.queued_accounts():
        queue = work.queue(account)
        assert queue is not None
        old = [each for each in queue.in_order() if _place(work, each) < close]
        expired: list[Entry] = []
        for entry in old:
            if left is not None and left <= 0:
                break
            expired.append(entry)
            left = None if left is None else left - len(entry.credits)
        if expired:
            work.own_queue(account).remove_all([entry.uetr for entry in expired])
        for entry in expired:
            _tell(work, entry.queued, None, (CANCELLED, SETTLEMENT_TIMEOUT), None)
        if len(expired) < len(old):
            return False
    return True


def _place(work: Work, entry: Entry) -> tuple[int, int]:
    """Where the entry came in: (height, instruction)."""
    first = row(work, entry.uetr).first
    return first.height, first.instruction


def _swap(work: Work, before: Queued | None, after: Queued | None) -> None:
    """Replace an entry in its queue. An entry more or less in line may let others settle."""
    some = before if before is not None else after
    assert some is not None
    account = account_of(some)
    queue = work.own_queue(account)
    stirs = False
    if before is not None:
        stirs = queue.remove(before.payments[0].uetr).eligible
    if after is not None:
        entry = entry_of(after)
        queue.add(entry)
        stirs |= entry.eligible
    if stirs and any(queue.lines):
        work.stir(account[1])


def _tell(
    work: Work,
    queued: Queued,
    changed: Queued | None,
    outcome: tuple[str, str | None],
    instruction: int | None,
) -> None:
    """`outcome`: (status, reason) of each payment of the entry."""
    leader = queued.payments[0].uetr
    for payment in queued.payments:
        live = changed if changed is None or payment.uetr == leader else Grouped(leader)
        change(work, row(work, payment.uetr), *outcome, live, instruction=instruction)
    if changed is None:
        return_decided(work, queued, settled=False)


def return_decided(work: Work, queued: Queued, *, settled: bool) -> None:
    """A queued return settled, or never will: what it gives back is pending no longer."""
    if queued.returns is None:
        return
    payment = queued.payments[0]
    original, own, amount = row(work, queued.returns), work.uetrs[payment.uetr], payment.amount
    first = original.first
    if (first.height, first.instruction) > (own.height, own.instruction):
        return  # while it waited, the window ended and another payment took the original's UETR
    changed = replace(
        original,
        returned=original.returned + (amount if settled else 0),
        returning=original.returning - amount,
    )
    work.put(PAYMENTS, PaymentKey(queued.returns), changed)
