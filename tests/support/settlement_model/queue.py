"""Orders about queued payments, what time and restrictions do to them, and resolution."""

from __future__ import annotations

from dataclasses import replace

from node.chain.encoding import RESOLUTION, digest, encode
from node.chain.instruction import payment_digest
from node.chain.types import (
    AccountPosition,
    Cancel,
    Hold,
    Payment,
    Release,
    Reprioritise,
    Resolved,
    SetLimit,
    SetPolicy,
    Together,
)

from .book import (
    Book,
)
from .entry import (
    note_returned,
    outflows,
    restriction,
    transfer,
    waits_for,
)
from .rows import (
    CANCELLED,
    HELD,
    QUEUED,
    SETTLED,
    SETTLEMENT,
    AccountId,
    Limit,
    Member,
    Refused,
    Waiting,
    credit_account,
    debit_account,
)
from .telling import (
    change,
    standing,
)
from .trees import tree_root


def find(book: Book, sender: str, uetr: bytes) -> tuple[bytes, Waiting]:
    """The queue entry that an order of its debtor is about, with its leader."""
    found = standing(book, uetr)
    if found is None:
        raise Refused("NOOR")
    if found.payment is None or found.place is None:
        raise Refused("ARDT")
    if found.payment.debtor != sender:
        raise Refused("DS0F")
    if isinstance(found.place, Member):
        uetr, found = found.place.leader, book.payments[found.place.leader]
    if not isinstance(found.place, Waiting):
        raise Refused("ARDT")
    return uetr, found.place


def alter(
    book: Book,
    leader: bytes,
    entry: Waiting | None,
    status: str,
    reason: str | None,
    *,
    by: int | None,
) -> None:
    """A change of all payments of an entry; None: it is gone."""
    before = book.payments[leader].place
    assert isinstance(before, Waiting)
    for payment in before.payments:
        place = None if entry is None else entry if payment.uetr == leader else Member(leader)
        change(book, payment.uetr, status, reason, place=place, instruction=by)
    if entry is None:
        note_returned(book, before.returns, pending=-before.payments[0].amount)


def back_to_line(book: Book, leader: bytes, entry: Waiting, instruction: int | None) -> None:
    """An entry waits again, at the end of its priority."""
    first = entry.payments[0]
    early = first.earliest is not None and book.time < first.earliest
    why = restriction(book, entry.payments)
    entry = replace(entry, early=early, restricted=why is not None, held=False)
    if not early:
        entry = replace(entry, order=book.take_order())
    status, reason = (
        (HELD, why) if why is not None else (QUEUED, reason_to_wait(book, leader, entry))
    )
    alter(book, leader, entry, status, reason, by=instruction)


def reason_to_wait(book: Book, leader: bytes, entry: Waiting) -> str:
    """What an entry that is back in line waits for: at least for the resolution."""
    without = book.copy()
    without.payments[leader] = replace(without.payments[leader], place=None)
    return waits_for(without, entry.payments, entry.priority) or "AM19"


def cancel(book: Book, index: int, sender: str, body: Cancel) -> None:
    leader, _ = find(book, sender, body.uetr)
    alter(book, leader, None, CANCELLED, "CUST", by=index)


def hold(book: Book, index: int, sender: str, body: Hold) -> None:
    leader, entry = find(book, sender, body.uetr)
    if entry.held:
        raise Refused("DU05")
    alter(book, leader, replace(entry, held=True), HELD, "CUST", by=index)


def release(book: Book, index: int, sender: str, body: Release) -> None:
    leader, entry = find(book, sender, body.uetr)
    if not entry.held:
        raise Refused("DU05")
    back_to_line(book, leader, entry, index)


def reprioritise(book: Book, index: int, sender: str, body: Reprioritise) -> None:
    leader, entry = find(book, sender, body.uetr)
    if entry.priority == body.priority:
        raise Refused("DU05")
    changed = replace(entry, priority=body.priority)
    if entry.held or entry.restricted:
        found = book.payments[leader]
        changed = replace(changed, order=changed.order if entry.early else book.take_order())
        alter(book, leader, changed, found.status, found.reason, by=index)
    else:
        back_to_line(book, leader, changed, index)


def set_limit(book: Book, index: int, sender: str, body: SetLimit) -> None:
    if sender != body.participant and not book.operator(sender):
        raise Refused("DS20")
    holder = book.party(body.participant)
    if not holder.holds_accounts():
        raise Refused("AC03")
    if body.asset not in book.assets:
        raise Refused("AM03")
    account = AccountId(body.participant, body.asset, SETTLEMENT)
    if body.counterparty is not None:
        if body.counterparty == body.participant:
            raise Refused("AG12")
        book.party(body.counterparty)
    key = account, body.counterparty
    if body.limit is None:
        if key not in book.limits:
            raise Refused("DU05")
        del book.limits[key]
    elif key in book.limits:
        if book.used(*key) > body.limit:
            raise Refused("AM12")
        book.limits[key] = replace(book.limits[key], amount=body.limit)
    else:
        own = [party for holder_, party in book.limits if holder_ == account and party]
        if body.counterparty is not None and len(own) >= book.bounds.bilateral:
            raise Refused("AM21")
        book.limits[key] = Limit(body.limit, len(book.flows))
    book.say(index, SETTLED)


def set_policy(book: Book, index: int, sender: str, body: SetPolicy) -> None:
    if not book.parties[sender].holds_accounts():
        raise Refused("AG08")
    assets = [each.asset for each in body.sweeps]
    if assets != sorted(set(assets)):
        raise Refused("FF03")
    for sweep in body.sweeps:
        if sweep.asset not in book.assets:
            raise Refused("AM03")
        target = book.party(sweep.to)
        if sweep.to == sender:
            raise Refused("AG12")
        if not target.holds_accounts():
            raise Refused("AC03")
        if target.closed:
            raise Refused("AC04")
    book.change(sender, fifo_bypass=body.fifo_bypass, sweeps=body.sweeps)
    book.say(index, SETTLED)


# --- time and restrictions ------------------------------------------------------------------------


def come_due(book: Book, leader: bytes) -> None:
    """The earliest time of an entry has come."""
    entry = book.payments[leader].place
    assert isinstance(entry, Waiting)
    entry = replace(entry, early=False, order=book.take_order())
    for payment in entry.payments:
        found = book.payments[payment.uetr]
        place = entry if payment.uetr == leader else Member(leader)
        book.payments[payment.uetr] = replace(found, place=place)


def expire(book: Book, leader: bytes) -> None:
    """An entry may settle no more."""
    alter(book, leader, None, CANCELLED, "AB03", by=None)


def restrict(book: Book, lei: str, index: int) -> None:
    """A participant's standing changed: its queued payments and others' to it follow."""
    concerned = [
        (_old_place(book, leader, entry), leader, entry)
        for leader, entry in book.entries()
        if lei in (entry.payments[0].debtor, *(each.creditor for each in entry.payments))
    ]
    for _, leader, entry in sorted(concerned, key=lambda each: each[0]):
        why = restriction(book, entry.payments)
        if why is not None and not entry.restricted:
            if entry.held:
                _quietly(book, leader, replace(entry, restricted=True))
            else:
                alter(book, leader, replace(entry, restricted=True), HELD, why, by=index)
        elif why is None and entry.restricted:
            if entry.held:
                _quietly(book, leader, replace(entry, restricted=False))
            else:
                back_to_line(book, leader, entry, index)


def _old_place(book: Book, leader: bytes, entry: Waiting) -> tuple[bool, int, int, int, int]:
    """Where it stood in line; what never did comes last, as it came in."""
    found = book.payments[leader]
    never = entry.restricted and not entry.order and not found.changes
    return never, entry.order, found.first.height, found.first.instruction, found.first.payment


def _quietly(book: Book, leader: bytes, entry: Waiting) -> None:
    book.payments[leader] = replace(book.payments[leader], place=entry)


# --- resolution -----------------------------------------------------------------------------------


def resolve(book: Book, asset: str) -> None:
    """Settle the greatest set of prefixes of queues that can settle together. A link that waits in
    the asset may then settle, too: for that the next block looks again."""
    queues: dict[AccountId, list[tuple[bytes, Waiting]]] = {}
    for leader, entry in book.entries():
        if entry.payments[0].asset == asset and book.waiting(entry):
            queues.setdefault(debit_account(entry.payments[0]), []).append((leader, entry))
    candidates = book.bounds.candidates[book.version > 1]
    has_more = any(len(entries) > candidates for entries in queues.values())
    queues = {account: entries[:candidates] for account, entries in queues.items()}
    candidates_of = {account: list(entries) for account, entries in queues.items()}
    _drop_failing(book, queues)
    if not _countable(queues):
        queues, has_more = _worth_less(candidates_of), True
        _drop_failing(book, queues)
    settled = [each for account in sorted(queues) for each in queues[account]]
    for _, entry in settled:
        for payment in entry.payments:
            transfer(book, payment)
    for _, entry in settled:
        for payment in entry.payments:
            change(
                book,
                payment.uetr,
                SETTLED,
                debtor=book.balance(debit_account(payment)),
                creditor=book.balance(credit_account(payment)),
                event=Together(digest(RESOLUTION, encode(asset))),
            )
        first = entry.payments[0]
        note_returned(book, entry.returns, done=first.amount, pending=-first.amount)
    if settled:
        _sum_up(book, asset, [payment for _, entry in settled for payment in entry.payments])
    if settled and (has_more or book.link_waits(asset)):
        book.again.add(asset)


def _sum_up(book: Book, asset: str, payments: list[Payment]) -> None:
    """Say what each account paid and was paid, and commit to the payments."""
    accounts = {debit_account(each) for each in payments} | {credit_account(p) for p in payments}
    positions = tuple(
        AccountPosition(
            account.party,
            account.kind,
            total([each for each in payments if debit_account(each) == account]),
            total([each for each in payments if credit_account(each) == account]),
        )
        for account in sorted(accounts)
    )
    root = tree_root([payment_digest(each) for each in payments])
    book.say(None, SETTLED, event=Resolved(asset, positions, len(payments), root))


Queues = dict[AccountId, list[tuple[bytes, Waiting]]]
COUNTABLE = 2**64 - 1
"""What an account may pay or be paid in one resolution, minor units."""


def _drop_failing(book: Book, queues: Queues) -> None:
    """Drop last entries of those who could not bear it, until all can."""
    while True:
        included = [entry for entries in queues.values() for _, entry in entries]
        failing = [
            account
            for account, entries in queues.items()
            if entries and not _holds(book, account, included)
        ]
        if not failing:
            break
        queues[failing[0]].pop()


def _countable(queues: Queues) -> bool:
    payments = [p for entries in queues.values() for _, entry in entries for p in entry.payments]
    paid = [total([p for p in payments if debit_account(p) == account]) for account in queues]
    got = [
        total([p for p in payments if credit_account(p) == account])
        for account in {credit_account(p) for p in payments}
    ]
    return max(paid + got, default=0) <= COUNTABLE


def _value(entries: list[tuple[bytes, Waiting]]) -> int:
    return sum(total(list(entry.payments)) for _, entry in entries)


def _worth_less(queues: Queues) -> Queues:
    """Each account's even share, at least one entry; then those accounts with the least."""
    share = COUNTABLE // len(queues)
    cut = {}
    for account, entries in queues.items():
        count = 1
        while count < len(entries) and _value(entries[: count + 1]) <= share:
            count += 1
        cut[account] = entries[:count]
    by_value = sorted(cut, key=lambda account: (_value(cut[account]), account))
    while sum(_value(cut[account]) for account in by_value) > COUNTABLE:
        by_value.pop()
    return {account: cut[account] for account in by_value}


def _holds(book: Book, account: AccountId, included: list[Waiting]) -> bool:
    """Whether an account can bear all included payments, its own and others' to it."""
    payments = [each for entry in included for each in entry.payments]
    own = [each for each in payments if debit_account(each) == account]
    income = [each for each in payments if credit_account(each) == account]
    if book.available(account) + total(income) - total(own) < 0:
        return False
    net = outflows(own)
    for each in income:
        net[each.debtor] = net.get(each.debtor, 0) - each.amount
    return account.kind != SETTLEMENT or book.limits_allow(account, net)


def total(payments: list[Payment]) -> int:
    return sum(each.amount for each in payments)
