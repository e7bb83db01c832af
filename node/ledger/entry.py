"""One payment at entry, by all the rules: what is wrong with it, what it must wait for, and how it
settles or goes into the queue.

The order of the checks is fixed: authority first, since nobody learns or uses up anything about
others' payments; then the UETR; then what is wrong with the payment; then what it must wait for.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from node.chain.records import ConsentKey, Grouped, PaymentKey, Queued
from node.chain.types import (
    MAX_BALANCE,
    AccountKind,
    Event,
    Mode,
    Payment,
    PaymentClass,
    Phase,
    Returns,
)
from node.ledger import limits, netting
from node.ledger.entries import UetrEntry
from node.ledger.lifecycle import Origin, begin, decide, reject, repeat, standing_status
from node.ledger.queue import MAX_QUEUED, Entry, entry_of
from node.ledger.reasons import (
    AMOUNT_TOO_LARGE,
    BAD_EXPIRY,
    BEHIND_OTHERS,
    CLIENT_RESERVE_RULE,
    CLOSED_PARTICIPANT,
    DUPLICATE,
    EARLY,
    FROZEN,
    HELD,
    INSUFFICIENT_FUNDS,
    LIMIT,
    LIMIT_REACHED,
    NO_ACCESS_RIGHT,
    NOT_OWN_ACCOUNT,
    QUEUED,
    SAME_ACCOUNT,
    SETTLED,
    SETTLEMENT_TIMEOUT,
    SUSPENDED,
    UNKNOWN_ACCOUNT,
    UNKNOWN_ASSET,
    UNKNOWN_CREDITOR,
    UNKNOWN_INDIRECT,
    WRONG_ACCOUNT_KIND,
    WRONG_PHASE,
    ZERO_AMOUNT,
)
from node.ledger.state import Participant
from node.ledger.tables import CONSENTS, PAYMENTS
from node.ledger.work import Work

CLIENT_RESERVE = int(AccountKind.CLIENT_RESERVE)
PAYMENT_INSTITUTION = "payment-institution"
INDIRECT = "indirect-participant"


def enter(
    work: Work,
    sender: str,
    origin: Origin,
    standing: UetrEntry | None,
    *,
    returns: bytes | None = None,
) -> bool:
    """Record what becomes of one payment at entry; False: it was rejected or sent before.

    `standing`: the outcome that uses up its UETR. `returns`: UETR of the payment that it gives
    back."""
    if answered(work, sender, origin, standing):
        return False
    reason = refusal(work, origin, returns=returns is not None)
    if reason is not None:
        reject(work, origin, reason)
        return False
    if origin.payment.mode is Mode.NET:
        return netting.join_cycle(work, origin)
    return settle_or_queue(work, [origin], returns)


def answered(work: Work, sender: str, origin: Origin, standing: UetrEntry | None) -> bool:
    """Reject a payment of an account that is not the sender's or cannot be, and one whose UETR was
    used; repeat the outcome of one that was sent before. False: it is a fresh one."""
    reason = owner_refusal(work, sender, origin, standing)
    if reason is not None:
        reject(work, origin, reason, standing)
    elif standing is not None:
        repeat(work, origin, standing, *standing_status(work, standing, origin.payment.asset))
    else:
        return False
    return True


def owner_refusal(
    work: Work, sender: str, origin: Origin, standing: UetrEntry | None
) -> str | None:
    """Why this sender cannot make this payment, or not again."""
    if origin.payment.debtor != sender:
        return NOT_OWN_ACCOUNT
    if not work.may_hold(sender):
        return NO_ACCESS_RIGHT
    if standing is None:
        return DUPLICATE if _is_overdue(work, origin.payment.uetr) else None
    return DUPLICATE if standing.digest != origin.content else None


def _is_overdue(work: Work, uetr: bytes) -> bool:
    """Whether a payment under this UETR is still undecided though the window has passed, in a block
    with more that is due than it can do. By its row alone: a node that began with a snapshot may
    not know its entry."""
    if not work.is_behind:
        return False
    row = work.get(PAYMENTS, PaymentKey(uetr))
    return row is not None and row.live is not None


def refusal(work: Work, origin: Origin, *, returns: bool = False) -> str | None:
    """What is wrong with a fresh payment of its debtor's, whatever the balances and the queue.

    `returns`: it gives back another, which client reserve may always do."""
    payment, time = origin.payment, work.context.time
    debtor = work.participant(payment.debtor)
    assert debtor is not None, "an unknown sender's instruction may not stand"
    reason = _barred(debtor)
    if reason is not None:
        return reason
    if work.asset(payment.asset) is None:
        return UNKNOWN_ASSET
    if payment.amount == 0:
        return ZERO_AMOUNT
    if payment.amount > MAX_BALANCE:
        return AMOUNT_TOO_LARGE
    if payment.latest is not None:
        if payment.latest < time:
            return SETTLEMENT_TIMEOUT
        if payment.earliest is not None and payment.latest < payment.earliest:
            return BAD_EXPIRY
    if payment.debtor == payment.creditor and payment.debtor_account is payment.creditor_account:
        return SAME_ACCOUNT
    creditor = work.participant(payment.creditor)
    if creditor is None:
        return UNKNOWN_CREDITOR
    if not creditor.holds_accounts:
        return UNKNOWN_ACCOUNT
    if creditor.record.closed:
        return CLOSED_PARTICIPANT
    reason = _account_refusal(work, origin, debtor, creditor, returns=returns)
    reason = reason or _indirect_refusal(work, payment)
    if reason is not None:
        return reason
    phase = work.phase
    if phase is Phase.CLEARING or (
        payment.payment_class is PaymentClass.CUSTOMER
        and phase in (Phase.CUSTOMER_CUTOFF, Phase.INTERBANK)
    ):
        return WRONG_PHASE
    book = work.book(payment.asset, int(payment.creditor_account))
    if (book.load(payment.creditor) or 0) + payment.amount > MAX_BALANCE:
        return AMOUNT_TOO_LARGE
    return None


def _barred(debtor: Participant) -> str | None:
    record = debtor.record
    if record.suspended:
        return SUSPENDED
    if record.debit_frozen:
        return FROZEN
    return CLOSED_PARTICIPANT if record.closed else None


def _account_refusal(
    work: Work, origin: Origin, debtor: Participant, creditor: Participant, *, returns: bool
) -> str | None:
    payment = origin.payment
    source, target = int(payment.debtor_account), int(payment.creditor_account)
    if source > CLIENT_RESERVE or target > CLIENT_RESERVE:
        return WRONG_ACCOUNT_KIND
    for kind, holder in ((source, debtor), (target, creditor)):
        if kind == CLIENT_RESERVE and PAYMENT_INSTITUTION not in holder.record.roles:
            return WRONG_ACCOUNT_KIND
    if source != CLIENT_RESERVE or target == CLIENT_RESERVE:
        return None
    # Whoever holds clients' money takes none of it for itself, not even what it put there.
    to_others = payment.creditor != payment.debtor
    to_a_customer = (
        payment.payment_class is PaymentClass.CUSTOMER and payment.ultimate_debtor is not None
    )
    if (to_others and (to_a_customer or returns)) or _is_consented(work, origin.content):
        return None
    return CLIENT_RESERVE_RULE


def _is_consented(work: Work, content: bytes) -> bool:
    """Whether a supervisor consented to this payment."""
    consent = work.get(CONSENTS, ConsentKey(content))
    return consent is not None and consent.expires > work.context.time


def _indirect_refusal(work: Work, payment: Payment) -> str | None:
    for named, direct in (
        (payment.debtor_indirect, payment.debtor),
        (payment.creditor_indirect, payment.creditor),
    ):
        if named is None:
            continue
        found = work.participant(named)
        if found is None or INDIRECT not in found.record.roles or found.record.sponsor != direct:
            return UNKNOWN_INDIRECT
        if found.record.suspended:
            return SUSPENDED
        if found.record.closed:
            return CLOSED_PARTICIPANT
    return None


# --- settling or queueing -------------------------------------------------------------------------


def blocked(work: Work, entry: Entry, *, restricted: str | None) -> tuple[str, str] | None:
    """(status, reason) with which an entry that comes in must wait; None: it settles now."""
    account, queued = entry.account, entry.queued
    if restricted is not None:
        return HELD, restricted
    if queued.early:
        return QUEUED, EARLY
    phase = work.phase
    if phase is Phase.CLOSED or (
        phase is Phase.INTERBANK and entry.payment_class != PaymentClass.INTERBANK
    ):
        return QUEUED, WRONG_PHASE
    queue = work.queue(account)
    if queue is not None and queue.waits_before(entry.priority, phase):
        # A policy that this block sets is in force from the next.
        debtor = work.parent.participant(account[0])
        if debtor is None or not debtor.record.fifo_bypass:
            return QUEUED, BEHIND_OTHERS
    if work.book(account[1], account[2]).available(account[0]) < entry.amount:
        return QUEUED, INSUFFICIENT_FUNDS
    if not limits.allows(work, account, entry.credits):
        return QUEUED, LIMIT
    return None


def restriction(work: Work, payments: Sequence[Payment]) -> str | None:
    """Why a party of these payments keeps them from settling now, of those that could be the
    creditor's; None: nothing does. A suspension is named before a freeze, as in the queue."""
    frozen = False
    for payment in payments:
        creditor = work.participant(payment.creditor)
        assert creditor is not None
        if creditor.record.suspended:
            return SUSPENDED
        frozen |= creditor.record.credit_frozen
    return FROZEN if frozen else None


def settle_or_queue(work: Work, origins: list[Origin], returns: bytes | None) -> bool:
    """Settle these payments together now, or put them in the queue as one entry; False if that is
    full and they are rejected."""
    first = origins[0].payment
    payments = tuple(origin.payment for origin in origins)
    restricted = restriction(work, payments)
    queued = Queued(
        payments,
        first.priority,
        0,
        held=False,
        restricted=restricted is not None,
        early=first.earliest is not None and first.earliest > work.context.time,
        returns=returns,
    )
    entry = entry_of(queued)
    wait = blocked(work, entry, restricted=restricted)
    if wait is None:
        event: Event | None = None if returns is None else Returns(returns)
        for origin in origins:
            debtor, creditor = settle(work, origin.payment)
            decide(
                work, origin, SETTLED, debtor_balance=debtor, creditor_balance=creditor, event=event
            )
        use_consents(work, origins)
        return True
    return _queue(work, origins, queued, *wait)


def use_consents(work: Work, origins: list[Origin]) -> None:
    """A consent serves one payment, once that is accepted."""
    for origin in origins:
        key = ConsentKey(origin.content)
        if origin.payment.debtor_account and work.get(CONSENTS, key) is not None:
            work.put(CONSENTS, key, None)


def _queue(work: Work, origins: list[Origin], queued: Queued, status: str, reason: str) -> bool:
    account = entry_of(queued).account
    waiting = work.queue(account)
    if waiting is not None and waiting.payments + len(origins) > MAX_QUEUED:
        for origin in origins:
            reject(work, origin, LIMIT_REACHED)
        return False
    use_consents(work, origins)
    if not (queued.early or queued.restricted):
        queued = replace(queued, order=work.next_order())
    event = None if queued.returns is None else Returns(queued.returns)
    leader = origins[0].payment.uetr
    for number, origin in enumerate(origins):
        live = queued if number == 0 else Grouped(leader)
        begin(work, origin, status, reason, live, event=event)
    entry = entry_of(queued)
    work.own_queue(account).add(entry)
    if entry.eligible:
        work.stir(account[1])
    return True


def settle(work: Work, payment: Payment) -> tuple[int, int]:
    """Move the money of one gross payment and count it against limits; (debtor's, creditor's
    balance after). The caller knows that it is covered and allowed."""
    source = work.book(payment.asset, int(payment.debtor_account))
    target = work.book(payment.asset, int(payment.creditor_account))
    debtor = (source.load(payment.debtor) or 0) - payment.amount
    source.balances[payment.debtor] = debtor
    creditor = (target.load(payment.creditor) or 0) + payment.amount
    assert creditor <= MAX_BALANCE, "supply is capped below what an account can hold"
    target.balances[payment.creditor] = creditor
    limits.count(work, payment)
    work.credited(payment.creditor, payment.asset, int(payment.creditor_account))
    return debtor, creditor
