"""What a block does of itself: first what time has made due, in (time, kind, id) order; at its end
whatever waits and can settle now.

Each entry goes to the module of its subject, unless it is void by now. What an entry puts on the
agenda lies after the block's time, so one walk is enough.
"""

from __future__ import annotations

from node.chain.records import ConsentKey, LinkKey, PaymentKey, Queued
from node.chain.types import Phase
from node.ledger import day, links, netting, orders, resolution, rules
from node.ledger.close import MAX_EXPIRED, expire_queues
from node.ledger.due import Due, DueKind, cycle_of, holds
from node.ledger.tables import CONSENTS, LINKS, PAYMENTS
from node.ledger.work import Work

MAX_DUE = 10_000
"""Entries of the agenda, each payment of an entry of the queue counted, that one block does. The
rest waits for the next, which is due at once; meanwhile no queued payment and no link settles, so
that none settles after it should have expired."""


def run_due(work: Work) -> None:
    """Do what has become due, up to the block's time."""
    rules.activate(work)
    expire_queues(work, MAX_EXPIRED)
    _run_agenda(work)
    # What the last block's resolution may have enabled.
    record = work.ledger_record
    if record.stirred:
        for asset in record.stirred:
            work.stir(asset)
        work.put_stirred(())


def _run_agenda(work: Work) -> None:
    left = MAX_DUE
    reached: Due | None = None
    for item in work.parent.agenda(work.context.time):
        # A void entry must leave no trace: a node that started since does not have it.
        if not holds(item, work.resident, work.window):
            continue
        if left <= 0:
            work.put_reached(reached)
            return
        left -= _size(work, item)
        _run(work, item)
        reached = item
    work.put_reached(None)


def _size(work: Work, item: Due) -> int:
    """How many payments an entry concerns, roughly."""
    _, kind, id = item
    if kind not in (DueKind.RELEASE, DueKind.EXPIRE):
        return 1
    record = work.resident(PAYMENTS, PaymentKey(id))
    return len(record.live.payments) if isinstance(record.live, Queued) else 1


def settle_waiting(work: Work) -> None:
    """Steps 3 and 4: links, what closed cycles still lack, queues. Not while something that is due
    has not been done: it is noted for the block that gets there."""
    if work.ledger_record.reached is not None:
        work.put_stirred(work.stirred)
        return
    links.settle_complete(work)
    netting.top_up(work)
    resolution.resolve(work)


def _run(work: Work, item: Due) -> None:
    time, kind, id = item
    match DueKind(kind):
        case DueKind.PHASE:
            beginning = day.Beginning(int.from_bytes(id[:4], "big"), Phase(id[4]), time)
            day.phase_due(work, beginning)
        case DueKind.CYCLE_CLOSE:
            netting.close_due(work, id[4:].decode())
        case DueKind.FUNDING_END:
            netting.funding_due(work, *cycle_of(id))
        case DueKind.CYCLE_AGE:
            netting.too_old(work, *cycle_of(id))
        case DueKind.RELEASE:
            record = work.get(PAYMENTS, PaymentKey(id))
            assert record is not None
            orders.release_due(work, record)
        case DueKind.EXPIRE:
            record = work.get(PAYMENTS, PaymentKey(id))
            assert record is not None
            orders.expire(work, record)
        case DueKind.LINK:
            link = work.get(LINKS, LinkKey(id))
            assert link is not None
            links.expire(work, id, link)
        case DueKind.CONSENT:
            work.put(CONSENTS, ConsentKey(id), None)
