"""Linked settlement: up to sixteen payments of different debtors and assets that settle in one step
or not at all (payment versus payment, delivery versus payment).

Every debtor signs all legs, and so agrees to its own; with the last agreement the link is complete.
Legs never wait in a queue and set nothing aside: after the instructions of a block each complete
link is tried once, in order of completion. What counts is what each account gains or loses by the
link as a whole, so one that pays and receives needs only the difference, and payments that wait may
be passed: they could not have used the other legs' money. A link that cannot settle waits for the
next block in which something happened, until it expires.
"""

from __future__ import annotations

from msgspec.structs import replace

from node.chain.build import link_id
from node.chain.carried import carried_payments
from node.chain.instruction import CheckedInstruction
from node.chain.records import Legged, LinkKey, LinkRecord, PaymentKey, PaymentRecord
from node.chain.types import (
    MAX_BALANCE,
    AccountKind,
    Link,
    LinkClosed,
    Mode,
    Payment,
    PaymentClass,
    Phase,
    Together,
)
from node.ledger import limits
from node.ledger.due import DueKind
from node.ledger.entry import owner_refusal, refusal
from node.ledger.lifecycle import Origin, begin, change
from node.ledger.queue import AccountId
from node.ledger.reasons import (
    ACCEPTED,
    BAD_EXPIRY,
    CANCELLED,
    DUPLICATE,
    LIMIT_REACHED,
    NO_NETTING,
    NOT_THE_PARTY,
    SAID_ALREADY,
    SETTLED,
    SETTLEMENT_TIMEOUT,
    WRONG_ACCOUNT_KIND,
)
from node.ledger.reservations import good_expiry
from node.ledger.tables import LINKS, PAYMENTS
from node.ledger.work import Work

SETTLEMENT = int(AccountKind.SETTLEMENT)
MAX_OPEN_LINKS = 1_000
"""Open links that one participant may have opened."""
MAX_TRIED = 10_000
"""Complete links that one block tries, those that were complete first."""


# --- agreement ------------------------------------------------------------------------------------


def link(work: Work, index: int, checked: CheckedInstruction, body: Link) -> None:
    """Take the sender's agreement to its legs, or reject it: then it uses up no UETR."""
    sender = checked.instruction.envelope.sender
    key = LinkKey(link_id(body.legs, body.expires))
    record = work.get(LINKS, key)
    own = [Origin(index, *carried) for carried in carried_payments(checked)]
    reason = _refusal(work, sender, body, own, record)
    if reason is not None:
        work.note(index, reason)
        return
    if record is None:
        record = LinkRecord(body.legs, body.expires, sender, (), None)
        work.opened_links()[sender] += 1
        work.remind([(body.expires, DueKind.LINK, key.id)])
    for origin in own:
        live = Legged(origin.payment, key.id)
        begin(work, origin, ACCEPTED, None, live, event=Together(key.id))
    signed = tuple(sorted((*record.signed, sender)))
    is_complete = {leg.debtor for leg in body.legs} <= set(signed)
    complete = work.next_order() if is_complete else None
    work.put(LINKS, key, replace(record, signed=signed, complete=complete))


def _refusal(
    work: Work, sender: str, body: Link, own: list[Origin], record: LinkRecord | None
) -> str | None:
    if not own:
        return NOT_THE_PARTY
    if record is not None and sender in record.signed:
        return SAID_ALREADY
    # Its time may be over in a block with more that is due than it can do.
    if body.expires <= work.context.time:
        return BAD_EXPIRY
    if record is None:
        if not good_expiry(work, body.expires):
            return BAD_EXPIRY
        if work.opened_links()[sender] >= MAX_OPEN_LINKS:
            return LIMIT_REACHED
    for origin in own:
        reason = _leg_refusal(work, sender, origin)
        if reason is not None:
            return reason
    return None


def _leg_refusal(work: Work, sender: str, origin: Origin) -> str | None:
    leg, standing = origin.payment, work.standing(origin.payment.uetr)
    reason = owner_refusal(work, sender, origin, standing)
    if reason is not None:
        return reason
    if standing is not None:
        return DUPLICATE  # a payment by itself, or a leg that was signed with other legs
    reason = refusal(work, origin)
    if reason is not None:
        return reason
    if leg.debtor_account != SETTLEMENT or leg.creditor_account != SETTLEMENT:
        return WRONG_ACCOUNT_KIND
    if leg.mode is not Mode.GROSS:
        return NO_NETTING
    # The link's own expiry is the only time that its legs have.
    return BAD_EXPIRY if leg.earliest is not None or leg.latest is not None else None


# --- settlement -----------------------------------------------------------------------------------


def settle_complete(work: Work) -> None:
    """Try each complete link once. A block in which nothing happened enables none."""
    if not (work.outcomes or work.stirred):
        return
    complete = sorted(
        (record.complete, key.id, record)
        for key, record in work.each_row(LINKS)
        if record.complete is not None and record.expires > work.context.time
    )
    settled = [record for _, id, record in complete[:MAX_TRIED] if _try_to_settle(work, id, record)]
    if settled:
        _look_again(work, settled)


def _look_again(work: Work, settled: list[LinkRecord]) -> None:
    """What links that settled may have enabled of those tried before them is for the next block."""
    moved = {leg.asset for record in settled for leg in record.legs}
    waits = {
        leg.asset
        for _, record in work.each_row(LINKS)
        if record.complete is not None
        for leg in record.legs
    }
    if moved & waits:
        work.put_stirred({*work.ledger_record.stirred, *(moved & waits)})


def _try_to_settle(work: Work, id: bytes, record: LinkRecord) -> bool:
    legs = record.legs
    gains: dict[AccountId, int] = {}
    for leg in legs:
        for lei, amount in ((leg.debtor, -leg.amount), (leg.creditor, leg.amount)):
            account = lei, leg.asset, SETTLEMENT
            gains[account] = gains.get(account, 0) + amount
    # Money first: it is what a link that waits mostly lacks.
    if not (_covered(work, gains) and _may_settle(work, legs) and _within_limits(work, legs)):
        return False
    for (lei, asset, kind), gain in gains.items():
        book = work.book(asset, kind)
        book.balances[lei] = (book.load(lei) or 0) + gain
    for (lei, asset), flows in _flows(legs).items():
        limits.use(work, lei, asset, flows)
    for leg in legs:
        work.credited(leg.creditor, leg.asset, SETTLEMENT)
        balances = work.book(leg.asset, SETTLEMENT).balances
        change(
            work,
            _row(work, leg),
            SETTLED,
            None,
            None,
            debtor_balance=balances[leg.debtor],
            creditor_balance=balances[leg.creditor],
            event=Together(id),
        )
    work.put(LINKS, LinkKey(id), None)
    work.emit(None, SETTLED, event=LinkClosed(id, settled=True))
    return True


def _may_settle(work: Work, legs: tuple[Payment, ...]) -> bool:
    """Whether the phase of the day and the standing of all parties allow it."""
    phase = work.phase
    for leg in legs:
        if phase is Phase.CLOSED or (
            phase is Phase.INTERBANK and leg.payment_class is not PaymentClass.INTERBANK
        ):
            return False
        debtor, creditor = work.participant(leg.debtor), work.participant(leg.creditor)
        assert debtor is not None
        assert creditor is not None
        payer, payee = debtor.record, creditor.record
        if payer.suspended or payer.debit_frozen or payee.suspended or payee.credit_frozen:
            return False
    return True


def _covered(work: Work, gains: dict[AccountId, int]) -> bool:
    """Whether every account that loses by the link as a whole has so much available, and every
    other can hold what it gains."""
    for (lei, asset, kind), gain in gains.items():
        book = work.book(asset, kind)
        if gain < 0 and book.available(lei) + gain < 0:
            return False
        if (book.load(lei) or 0) + gain > MAX_BALANCE:
            return False
    return True


def _within_limits(work: Work, legs: tuple[Payment, ...]) -> bool:
    """Whether the limits of all that pay bear what the link as a whole brings their
    counterparties."""
    payers = {(leg.debtor, leg.asset) for leg in legs}
    return all(
        limits.fits(work, *account, flows)
        for account, flows in _flows(legs).items()
        if account in payers
    )


def _flows(legs: tuple[Payment, ...]) -> dict[tuple[str, str], dict[str, int]]:
    """What the link as a whole brings each party's counterparties, out − in, by (party, asset).

    Limits count this at once and never leg by leg: legs that go there and back may be, one by one,
    far beyond what a limit or its record could bear."""
    flows: dict[tuple[str, str], dict[str, int]] = {}
    for leg in legs:
        for lei, other, amount in (
            (leg.debtor, leg.creditor, leg.amount),
            (leg.creditor, leg.debtor, -leg.amount),
        ):
            own = flows.setdefault((lei, leg.asset), {})
            own[other] = own.get(other, 0) + amount
    return flows


# --- expiry ---------------------------------------------------------------------------------------


def expire(work: Work, id: bytes, record: LinkRecord) -> None:
    """It did not come about in time: the legs that were agreed to are off."""
    for leg in record.legs:
        if leg.debtor in record.signed:
            change(work, _row(work, leg), CANCELLED, SETTLEMENT_TIMEOUT, None)
    work.put(LINKS, LinkKey(id), None)
    work.emit(None, CANCELLED, SETTLEMENT_TIMEOUT, event=LinkClosed(id, settled=False))


def _row(work: Work, leg: Payment) -> PaymentRecord:
    record = work.get(PAYMENTS, PaymentKey(leg.uetr))
    assert record is not None, "a leg that its debtor agreed to has no row"
    return record
