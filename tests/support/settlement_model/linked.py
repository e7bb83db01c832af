"""Links and reservations: money that moves on a condition."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from node.chain.build import link_id
from node.chain.types import (
    Link,
    LinkClosed,
    Mode,
    Payment,
    Phase,
    Post,
    Posted,
    Reserve,
    Together,
    Void,
)

from .book import (
    Book,
)
from .entry import (
    check,
    restriction,
    transfer,
    use_consent,
    waits_for,
)
from .rows import (
    ACCEPTED,
    CANCELLED,
    POSTED,
    REJECTED,
    RESERVED,
    SETTLED,
    SETTLEMENT,
    WEEK_MS,
    AccountId,
    Leg,
    OpenLink,
    Refused,
    SetAside,
    Tracked,
    credit_account,
    debit_account,
)
from .telling import (
    Origin,
    Retry,
    begin,
    change,
    repeat,
    standing,
)


def good_expiry(book: Book, expires: int) -> bool:
    """Within a week, and while UETRs are remembered."""
    return book.time < expires <= book.time + min(WEEK_MS, book.parameters.window)


# --- reservations ---------------------------------------------------------------------------------


def reserve(book: Book, index: int, sender: str, body: Reserve) -> None:
    """Set an amount aside now, or not at all."""
    payment = body.payment
    origin = Origin(index, 0, payment)
    try:
        check(book, sender, payment)
        if payment.mode != Mode.GROSS:
            raise Refused("AG02")
        if body.poster is None and body.hash_lock is None:
            raise Refused("DS0F")
        if body.poster is not None and body.poster not in book.parties:
            raise Refused("BE06")
        reach = min(WEEK_MS, book.parameters.window)
        if not book.time < body.expires <= book.time + reach:
            raise Refused("DT02")
        if payment.latest is not None and body.expires > payment.latest + 1:
            raise Refused("DT02")
        why = restriction(book, [payment]) or waits_for(book, [payment], payment.priority)
        if why is not None:
            raise Refused(why)
    except Refused as refused:
        begin(book, origin, REJECTED, refused.reason)
    except Retry as retry:
        repeat(book, index, 0, payment.uetr, retry.standing)
    else:
        use_consent(book, payment)
        count_debtor(book, payment, payment.amount)
        place = SetAside(payment, body.poster, body.hash_lock, body.expires)
        begin(book, origin, RESERVED, place=place)


def count_debtor(book: Book, payment: Payment, amount: int) -> None:
    """Let the debtor's limits count what it sets aside."""
    if payment.debtor != payment.creditor:
        book.count(debit_account(payment), payment.creditor, amount)


def _aside(book: Book, uetr: bytes) -> tuple[Tracked, SetAside]:
    found = standing(book, uetr)
    if found is None:
        raise Refused("NOOR")
    if not isinstance(found.place, SetAside):
        raise Refused("ARDT")
    return found, found.place


def post(book: Book, index: int, sender: str, body: Post) -> None:
    """By the party named, or whoever knows the preimage."""
    _, place = _aside(book, body.uetr)
    payment = place.payment
    if sender != place.poster:
        if place.hash_lock is None:
            raise Refused("DS0F")
        if body.preimage is None or sha256(body.preimage).digest() != place.hash_lock:
            raise Refused("DS0B" if body.preimage is not None or place.poster is None else "DS0F")
    amount = payment.amount if body.amount is None else body.amount
    if amount == 0:
        raise Refused("AM01")
    if amount > payment.amount or (sender != place.poster and amount != payment.amount):
        raise Refused("AM09")
    if book.balance(credit_account(payment)) + amount > 2**63 - 1:
        raise Refused("AM02")
    book.move(debit_account(payment), credit_account(payment), amount)
    if payment.debtor != payment.creditor:
        book.count(credit_account(payment), payment.debtor, -amount)
    count_back(book, body.uetr, payment.amount - amount)
    change(
        book,
        body.uetr,
        POSTED,
        instruction=index,
        debtor=book.balance(debit_account(payment)),
        creditor=book.balance(credit_account(payment)),
        event=Posted(amount),
        posted=amount,
    )


def count_back(book: Book, uetr: bytes, amount: int) -> None:
    """What was not paid after all makes room under limits, if it used those of the same day."""
    found = book.payments[uetr]
    if book.day is not None:
        opened = book.days[book.day.date].begins[Phase.OPEN]
        if found.first.height <= book.day.closed_at or found.since < opened:
            return
    assert found.payment is not None
    count_debtor(book, found.payment, -amount)


def void(book: Book, index: int, sender: str, body: Void) -> None:
    """By the creditor."""
    _, place = _aside(book, body.uetr)
    if sender != place.payment.creditor:
        raise Refused("DS0F")
    let_go(book, body.uetr, "CN01", index)


def let_go(book: Book, uetr: bytes, reason: str, index: int | None) -> None:
    """The amount of a reservation is its debtor's again."""
    place = book.payments[uetr].place
    assert isinstance(place, SetAside)
    count_back(book, uetr, place.payment.amount)
    change(book, uetr, CANCELLED, reason, instruction=index)


# --- links ----------------------------------------------------------------------------------------


def link(book: Book, index: int, sender: str, body: Link) -> None:
    """The sender agrees to its legs."""
    id = link_id(body.legs, body.expires)
    mine = [(n, leg) for n, leg in enumerate(body.legs) if leg.debtor == sender]
    if not mine:
        raise Refused("DS0F")
    open_link = book.links.get(id)
    if open_link is not None and sender in open_link.signed:
        raise Refused("DU02")
    if open_link is None:
        if not book.time < body.expires <= book.time + min(WEEK_MS, book.parameters.window):
            raise Refused("DT02")
        opened = [each for each in book.links.values() if each.opened_by == sender]
        if len(opened) >= book.bounds.open_links:
            raise Refused("AM21")
        open_link = OpenLink(body, sender, (), None)
    for _, leg in mine:
        if standing(book, leg.uetr) is not None:
            raise Refused("AM05")
        try:
            check(book, sender, leg)
        except Retry as retry:
            raise Refused("AM05") from retry
        if (leg.debtor_account, leg.creditor_account) != (SETTLEMENT, SETTLEMENT):
            raise Refused("AC14")
        if leg.mode != Mode.GROSS:
            raise Refused("AG02")
        if leg.earliest is not None or leg.latest is not None:
            raise Refused("DT02")
    for number, leg in mine:
        begin(book, Origin(index, number, leg), ACCEPTED, place=Leg(leg, id), event=Together(id))
    signed = tuple(sorted((*open_link.signed, sender)))
    complete = None
    if {leg.debtor for leg in body.legs} <= set(signed):
        complete = book.take_order()
    book.links[id] = replace(open_link, signed=signed, complete=complete, new=complete is not None)


def settle_links(book: Book) -> None:
    """Every complete link once, in order of completion. Those that settled may have enabled others
    that were tried before them: then the next block looks again."""
    complete = [(each.complete, id) for id, each in book.links.items() if each.complete is not None]
    moved: set[str] = set()
    for _, id in sorted(complete):
        legs = book.links[id].link.legs
        if not _can_settle(book, legs):
            continue
        for leg in legs:
            transfer(book, leg)
        for leg in legs:
            change(
                book,
                leg.uetr,
                SETTLED,
                debtor=book.balance(debit_account(leg)),
                creditor=book.balance(credit_account(leg)),
                event=Together(id),
            )
            moved.add(leg.asset)
        del book.links[id]
        book.say(None, SETTLED, event=LinkClosed(id, True))
    book.again |= {asset for asset in moved if book.link_waits(asset)}


def _can_settle(book: Book, legs: tuple[Payment, ...]) -> bool:
    if any(restriction(book, [leg]) is not None for leg in legs):
        return False
    if not all(book.class_settles(leg.payment_class) for leg in legs):
        return False
    gain: dict[AccountId, int] = {}
    net: dict[AccountId, dict[str, int]] = {}
    for leg in legs:
        source, target = debit_account(leg), credit_account(leg)
        gain[source] = gain.get(source, 0) - leg.amount
        gain[target] = gain.get(target, 0) + leg.amount
        if leg.debtor != leg.creditor:
            for account, party, amount in (
                (source, leg.creditor, leg.amount),
                (target, leg.debtor, -leg.amount),
            ):
                flows = net.setdefault(account, {})
                flows[party] = flows.get(party, 0) + amount
    payers = {debit_account(leg) for leg in legs}
    return all(
        (book.available(account) + gain[account] >= 0 or gain[account] >= 0)
        and (
            account.kind != SETTLEMENT
            or account not in payers
            or book.limits_allow(account, net.get(account, {}))
        )
        for account in gain
    )


def expire_link(book: Book, id: bytes) -> None:
    """It did not come about in time."""
    for leg in book.links[id].link.legs:
        found = book.payments.get(leg.uetr)
        if found is not None and found.place == Leg(leg, id):
            change(book, leg.uetr, CANCELLED, "AB03")
    del book.links[id]
    book.say(None, CANCELLED, "AB03", event=LinkClosed(id, False))
