"""Step 1 of a block: what time has made due, in (time, kind, id) order.

Each entry goes to the module of its subject, unless it is void by now. What an entry puts on the
agenda lies after the block's time, so one walk is enough.
"""

from __future__ import annotations

from node.chain.records import ConsentKey, LinkKey, PaymentKey
from node.chain.types import Phase
from node.ledger import day, links, netting, orders, rules
from node.ledger.due import Due, DueKind, cycle_of, holds
from node.ledger.tables import CONSENTS, LINKS, PAYMENTS
from node.ledger.work import Work


def run_due(work: Work) -> None:
    """Do what has become due since the parent's time, up to the block's."""
    rules.activate(work)
    for item in work.parent.agenda(work.context.time):
        if holds(item, work.resident, work.window):
            _run(work, item)
    # What the last block's resolution may have enabled.
    record = work.ledger_record
    if record.stirred:
        for asset in record.stirred:
            work.stir(asset)
        work.put_stirred(())


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
