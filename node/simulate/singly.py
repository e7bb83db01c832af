"""What a queue does without resolution: its first payment settles as soon as it alone can.

This is no part of the ledger's rules. It is what a scenario is compared with: an RTGS that serves
every queue in order and offsets nothing.
"""

from __future__ import annotations

from node.chain.statuses import SETTLED
from node.ledger import limits
from node.ledger.entry import settle
from node.ledger.lifecycle import change
from node.ledger.queue import AccountId, Entry
from node.ledger.waiting import row
from node.ledger.work import Work


def settle_singly(work: Work) -> None:
    """Settle first payments of queues, one after the other, until none can."""
    for asset in sorted(work.stirred):
        accounts = [(lei, asset, kind) for lei, kind in sorted(work.queued_in(asset))]
        progress = True
        while progress:
            # Every account is served once before the first is again.
            progress = sum(_serve(work, account) for account in accounts) > 0
    work.stirred.clear()


def _serve(work: Work, account: AccountId) -> bool:
    """Settle the account's first payments as far as they can; whether any did."""
    served = False
    while (entry := _first(work, account)) is not None and _can_settle(work, account, entry):
        work.own_queue(account).remove(entry.uetr)
        for payment in entry.queued.payments:
            debtor, creditor = settle(work, payment)
            change(
                work,
                row(work, payment.uetr),
                SETTLED,
                None,
                None,
                debtor_balance=debtor,
                creditor_balance=creditor,
            )
        served = True
    return served


def _first(work: Work, account: AccountId) -> Entry | None:
    queue = work.queue(account)
    return None if queue is None else next(queue.waiting(work.phase), None)


def _can_settle(work: Work, account: AccountId, entry: Entry) -> bool:
    lei, asset, kind = account
    return work.book(asset, kind).available(lei) >= entry.amount and limits.allows(
        work, account, entry.credits
    )
