"""The life of a payment: entry, waiting, settlement, and each outcome on its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from node.chain.instruction import payment_digest
from node.chain.types import (
    AccountKind,
    Instruction,
    Joined,
    Mode,
    Pay,
    Payment,
    PaymentClass,
    Phase,
    Returns,
)

from .book import (
    Book,
)
from .rows import (
    ACCEPTED,
    HELD,
    LARGEST,
    POSTED,
    QUEUED,
    REJECTED,
    SETTLED,
    SETTLEMENT,
    Cycle,
    Member,
    Party,
    Refused,
    Tracked,
    Waiting,
    credit_account,
    debit_account,
)
from .telling import (
    Origin,
    Retry,
    begin,
    repeat,
    standing,
    word,
)

RESERVE = AccountKind.CLIENT_RESERVE


# --- what keeps a payment from entering -----------------------------------------------------------


def check(book: Book, sender: str, payment: Payment, *, returns: bool = False) -> None:
    """Refused with the first reason that holds, or Retry."""
    if payment.debtor != sender:
        raise Refused("DS0H")
    debtor = book.parties[sender]
    if not debtor.holds_accounts():
        raise Refused("AG08")
    found = standing(book, payment.uetr)
    if found is not None:
        if found.content != payment_digest(payment):
            raise Refused("AM05")
        raise Retry(found)
    if debtor.suspended:
        raise Refused("AG01")
    if debtor.debit_frozen:
        raise Refused("AC06")
    if debtor.closed:
        raise Refused("AC04")
    if payment.asset not in book.assets:
        raise Refused("AM03")
    if payment.amount == 0:
        raise Refused("AM01")
    if payment.amount > LARGEST:
        raise Refused("AM02")
    if payment.latest is not None and book.time > payment.latest:
        raise Refused("AB03")
    if None not in (payment.earliest, payment.latest) and payment.latest < payment.earliest:  # type: ignore[operator]
        raise Refused("DT02")
    if debit_account(payment) == credit_account(payment):
        raise Refused("AG12")
    if payment.creditor not in book.parties:
        raise Refused("CNOR")
    creditor = book.parties[payment.creditor]
    if not creditor.holds_accounts():
        raise Refused("AC03")
    if creditor.closed:
        raise Refused("AC04")
    _check_kinds(book, payment, debtor, creditor, returns)
    _check_indirect(book, payment)
    if book.phase == Phase.CLEARING or (
        book.phase in (Phase.CUSTOMER_CUTOFF, Phase.INTERBANK)
        and payment.payment_class == PaymentClass.CUSTOMER
    ):
        raise Refused("DT05")
    if book.balance(credit_account(payment)) + payment.amount > LARGEST:
        raise Refused("AM02")


def _check_kinds(
    book: Book, payment: Payment, debtor: Party, creditor: Party, returns: bool
) -> None:
    source, target = payment.debtor_account, payment.creditor_account
    for kind, party in ((source, debtor), (target, creditor)):
        if kind not in (SETTLEMENT, RESERVE):
            raise Refused("AC14")
        if kind == RESERVE and "payment-institution" not in party.roles:
            raise Refused("AC14")
    if source == SETTLEMENT or target == RESERVE:
        return
    if debtor.lei != creditor.lei:
        if payment.payment_class == PaymentClass.CUSTOMER and payment.ultimate_debtor:
            return
        if returns:
            return
    by_expires = book.consents.get(payment_digest(payment))
    if by_expires is None or by_expires[1] <= book.time:
        raise Refused("AG03")


def _check_indirect(book: Book, payment: Payment) -> None:
    for indirect, sponsor in (
        (payment.debtor_indirect, payment.debtor),
        (payment.creditor_indirect, payment.creditor),
    ):
        if indirect is None:
            continue
        party = book.parties.get(indirect)
        if party is None or "indirect-participant" not in party.roles or party.sponsor != sponsor:
            raise Refused("BE05")
        if party.suspended:
            raise Refused("AG01")
        if party.closed:
            raise Refused("AC04")


def restriction(book: Book, payments: Sequence[Payment]) -> str | None:
    """Why payments in a queue are held, if a party is restricted."""
    debtor = book.parties[payments[0].debtor]
    creditors = [book.parties[each.creditor] for each in payments]
    if debtor.suspended or any(each.suspended for each in creditors):
        return "AG01"
    if debtor.debit_frozen or any(each.credit_frozen for each in creditors):
        return "AC06"
    return None


# --- settle or wait -------------------------------------------------------------------------------


def outflows(payments: Sequence[Payment]) -> dict[str, int]:
    """What goes to each party."""
    totals: dict[str, int] = {}
    for payment in payments:
        totals[payment.creditor] = totals.get(payment.creditor, 0) + payment.amount
    return totals


def waits_for(book: Book, payments: Sequence[Payment], priority: int) -> str | None:
    """Why these could not settle if they entered now; None: they can."""
    first = payments[0]
    account = debit_account(first)
    if first.earliest is not None and book.time < first.earliest:
        return "DT06"
    if not book.class_settles(first.payment_class):
        return "DT05"
    before = any(
        debit_account(entry.payments[0]) == account
        and entry.priority <= priority
        and book.waiting(entry)
        for _, entry in book.entries()
    )
    if before and not book.policies[first.debtor][0]:
        return "AM19"
    if sum(each.amount for each in payments) > book.available(account):
        return "AM04"
    if account.kind == SETTLEMENT and not book.limits_allow(account, outflows(payments)):
        return "AM14"
    return None


def transfer(book: Book, payment: Payment, amount: int | None = None) -> None:
    """Move a payment's money and let the limits count it."""
    amount = payment.amount if amount is None else amount
    book.move(debit_account(payment), credit_account(payment), amount)
    count(book, payment, amount)


def count(book: Book, payment: Payment, amount: int) -> None:
    """Let both parties' limits count it; nobody is its own counterparty."""
    if payment.debtor == payment.creditor:
        return
    book.count(debit_account(payment), payment.creditor, amount)
    book.count(credit_account(payment), payment.debtor, -amount)


def note_returned(book: Book, returns: bytes | None, *, done: int = 0, pending: int = 0) -> None:
    """Keep the sums of what is given back of a payment in step."""
    if returns is None:
        return
    rows = book.payments if returns in book.kept else book.past
    found = rows[returns]
    rows[returns] = replace(
        found, returned=found.returned + done, returning=found.returning + pending
    )


def check_room(book: Book, payments: Sequence[Payment]) -> None:
    """Refused if these would have to wait and the queue has no room."""
    if (
        restriction(book, payments) is None
        and waits_for(book, payments, payments[0].priority) is None
    ):
        return
    account = debit_account(payments[0])
    queued = [
        payment
        for _, entry in book.entries()
        for payment in entry.payments
        if debit_account(payment) == account
    ]
    if len(queued) + len(payments) > book.bounds.queued:
        raise Refused("AM21")


def use_consent(book: Book, payment: Payment) -> None:
    """A consent serves one payment out of client reserve, once that is accepted."""
    if payment.debtor_account == RESERVE:
        book.consents.pop(payment_digest(payment), None)


def admit(book: Book, origins: Sequence[Origin]) -> None:
    """Settle or queue payments that may enter; several are one entry."""
    payments = tuple(each.payment for each in origins)
    for payment in payments:
        use_consent(book, payment)
    first, returns = payments[0], origins[0].returns
    event = None if returns is None else Returns(returns)
    restricted = restriction(book, payments)
    reason = waits_for(book, payments, first.priority)
    if restricted is None and reason is None:
        for origin in origins:
            transfer(book, origin.payment)
            begin(
                book,
                origin,
                SETTLED,
                debtor=book.balance(debit_account(origin.payment)),
                creditor=book.balance(credit_account(origin.payment)),
                event=event,
            )
        note_returned(book, returns, done=first.amount)
        return
    early = first.earliest is not None and book.time < first.earliest
    entry = Waiting(
        payments,
        first.priority,
        0 if early or restricted else book.take_order(),
        restricted=restricted is not None,
        early=early,
        returns=returns,
    )
    for number, origin in enumerate(origins):
        begin(
            book,
            origin,
            QUEUED if restricted is None else HELD,
            reason if restricted is None else restricted,
            place=entry if number == 0 else Member(first.uetr),
            event=event,
        )
    note_returned(book, returns, pending=first.amount)


# --- the instruction ------------------------------------------------------------------------------


def pay(book: Book, index: int, instruction: Instruction) -> None:
    """Each payment for itself, or all or none."""
    body = instruction.envelope.body
    assert isinstance(body, Pay)
    sender = instruction.envelope.sender
    origins = [Origin(index, number, each) for number, each in enumerate(instruction.payments)]
    if body.all_or_none:
        _together(book, sender, origins)
        return
    for origin in origins:
        enter(book, sender, origin)


def enter(book: Book, sender: str, origin: Origin) -> None:
    """One payment."""
    payment = origin.payment
    try:
        check(book, sender, payment, returns=origin.returns is not None)
        if payment.mode == Mode.NET:
            join(book, origin)
            return
        check_room(book, [payment])
    except Refused as refused:
        begin(book, origin, REJECTED, refused.reason)
    except Retry as retry:
        repeat(book, origin.instruction, origin.number, payment.uetr, retry.standing)
    else:
        admit(book, [origin])


def _together(book: Book, sender: str, origins: list[Origin]) -> None:
    """All settle or wait as one, or none enters."""
    reasons: list[str | Tracked | None] = []
    for origin in origins:
        try:
            check(book, sender, origin.payment)
        except Refused as refused:
            reasons.append(refused.reason)
        except Retry as retry:
            reasons.append(retry.standing)
        else:
            reasons.append(None)
    fresh = [origin for origin, why in zip(origins, reasons, strict=True) if why is None]
    failed = any(
        isinstance(why, str)
        or (why is not None and fresh and word(book, why)[0] not in (SETTLED, POSTED))
        for why in reasons
    )
    if not failed and not _agree([each.payment for each in fresh]):
        reasons = ["FF02" if why is None else why for why in reasons]
        failed = True
    if not failed and fresh:
        try:
            check_room(book, [each.payment for each in fresh])
        except Refused as full:
            reasons = [full.reason if why is None else why for why in reasons]
            failed = True
    for origin, why in zip(origins, reasons, strict=True):
        if isinstance(why, Tracked):
            repeat(book, origin.instruction, origin.number, origin.payment.uetr, why)
        elif failed:
            begin(book, origin, REJECTED, why or "ED05")
        elif origin is fresh[0]:
            admit(book, fresh)


def _agree(payments: list[Payment]) -> bool:
    """One account, asset, priority, class and times, gross, and together no more than an account
    can hold."""
    if any(p.mode == Mode.NET for p in payments) or sum(p.amount for p in payments) > LARGEST:
        return False
    return all(
        (p.debtor, p.debtor_account, p.asset, p.priority, p.payment_class)
        == (q.debtor, q.debtor_account, q.asset, q.priority, q.payment_class)
        and (p.earliest, p.latest) == (q.earliest, q.latest)
        for p in payments[:1]
        for q in payments
    )


# --- net payments ---------------------------------------------------------------------------------


def position(book: Book, payment: Payment) -> None:
    """Refused unless the payment may join the open cycle."""
    netting = book.netting.get(payment.asset)
    if netting is None or not netting.enabled:
        raise Refused("AG02")
    for party in (payment.debtor, payment.creditor):
        if (party, payment.asset) not in book.members:
            raise Refused("AG02")
    if (payment.debtor_account, payment.creditor_account) != (SETTLEMENT, SETTLEMENT):
        raise Refused("AC14")
    why = restriction(book, [payment])
    if why is not None:
        raise Refused(why)
    if payment.earliest is not None and payment.earliest > book.time:
        raise Refused("DT06")
    cycle = book.cycles.get((payment.asset, netting.open_cycle))
    debits = payment.amount
    for each in () if cycle is None else cycle.payments:
        if each.debtor == payment.debtor:
            debits += each.amount
        if each.creditor == payment.debtor:
            debits -= each.amount
    if sum(each.amount for each in (payment, *(cycle.payments if cycle else ()))) > LARGEST:
        raise Refused("AM02")
    if debits > book.members[payment.debtor, payment.asset].cap:
        raise Refused("AM23")


def join(book: Book, origin: Origin) -> None:
    """Add a net payment to the open cycle of its asset."""
    payment = origin.payment
    position(book, payment)
    number = book.netting[payment.asset].open_cycle
    cycle = book.cycles.get((payment.asset, number), Cycle("open", book.time, ()))
    book.cycles[payment.asset, number] = replace(cycle, payments=(*cycle.payments, payment))
    begin(book, origin, ACCEPTED, cycle=number, event=Joined(number))
