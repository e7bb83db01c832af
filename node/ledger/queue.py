"""The queue of an account: who waits, in which order.

Entries stand by (priority, order); an entry's order is given when it becomes eligible and grows
over the whole ledger. Held, restricted and too early entries are in the queue but in no line: they
neither settle nor keep others from it.

A block that touches a queue works on a copy of its own (`Work.own_queue`), so that competing blocks
never see each other; queues that nobody touches are shared. The rows of the `PAYMENTS` table are
what `state_root` commits to; a queue is built from them and holds nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

from node.chain.records import PaymentRecord, Queued
from node.chain.types import PaymentClass, Phase, Priority

AccountId = tuple[str, str, int]
"""(participant, asset, account kind)."""

MAX_QUEUED = 100_000
"""Payments in the queue of one account, each of those that settle only together counted; beyond it
they are rejected."""

_order = attrgetter("order")
INTERBANK = int(PaymentClass.INTERBANK)


class Entry(NamedTuple):
    """One payment, or several that settle only together."""

    order: int
    uetr: bytes
    """Of its first payment: names the entry."""
    priority: int
    amount: int
    """Sum of its payments, minor units."""
    credits: tuple[tuple[str, int, int], ...]
    """(creditor, account kind, amount) of each payment."""
    payment_class: int
    eligible: bool
    """Neither held nor restricted nor early."""
    queued: Queued

    @property
    def account(self) -> AccountId:
        """Whose queue it stands in."""
        first = self.queued.payments[0]
        return first.debtor, first.asset, int(first.debtor_account)


def entry_of(queued: Queued) -> Entry:
    """The entry that a record describes."""
    payments = queued.payments
    first = payments[0]
    return Entry(
        queued.order,
        first.uetr,
        int(queued.priority),
        sum(p.amount for p in payments),
        tuple((p.creditor, int(p.creditor_account), p.amount) for p in payments),
        int(first.payment_class),
        not (queued.held or queued.restricted or queued.early),
        queued,
    )


class Queue:
    """All undecided entries of one account."""

    __slots__ = ("_interbank", "entries", "lines", "payments")

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        """By UETR of the first payment, eligible or not."""
        self.lines: tuple[list[Entry], ...] = tuple([] for _ in Priority)
        """The eligible ones by priority, each ascending by order."""
        self.payments = 0
        """In all entries, eligible or not."""
        self._interbank = [0 for _ in Priority]
        """How many of each line are of class interbank: asked for with every payment that comes in
        while only those settle."""

    def copy(self) -> Queue:
        """One that can be changed without changing this."""
        new = Queue()
        new.entries = self.entries.copy()
        new.lines = tuple(line.copy() for line in self.lines)
        new.payments = self.payments
        new._interbank = self._interbank.copy()
        return new

    def add(self, entry: Entry) -> None:
        """Put an entry in; also in its line, if it is eligible."""
        assert entry.uetr not in self.entries
        self.entries[entry.uetr] = entry
        self._count(entry, 1)
        if entry.eligible:
            line = self.lines[entry.priority]
            if not line or line[-1].order < entry.order:
                line.append(entry)
            else:
                line.insert(bisect_left(line, entry.order, key=_order), entry)

    def remove(self, uetr: bytes) -> Entry:
        """Take an entry out. The caller knows that it is there."""
        entry = self.entries.pop(uetr)
        self._count(entry, -1)
        if entry.eligible:
            line = self.lines[entry.priority]
            place = bisect_left(line, entry.order, key=_order)
            assert line[place].uetr == uetr
            del line[place]
        return entry

    def remove_all(self, gone: Iterable[bytes]) -> None:
        """Take many entries out at once: linear in the queue, not in each."""
        names = set(gone)
        for entry in map(self.entries.pop, names):
            self.payments -= len(entry.credits)
            if entry.eligible and entry.payment_class == INTERBANK:
                self._interbank[entry.priority] -= 1
        self.lines = tuple([each for each in line if each.uetr not in names] for line in self.lines)

    def waiting(self, phase: Phase | None) -> Iterator[Entry]:
        """The entries that wait in this phase, in order. None: there is no operating day."""
        if phase is Phase.CLOSED:
            return
        interbank_only = phase is Phase.INTERBANK
        for line in self.lines:
            for entry in line:
                if not interbank_only or entry.payment_class == PaymentClass.INTERBANK:
                    yield entry

    def waits_before(self, priority: int, phase: Phase | None) -> bool:
        """Whether any entry of this or a higher priority waits."""
        if phase is Phase.CLOSED:
            return False
        if phase is Phase.INTERBANK:
            return any(self._interbank[: priority + 1])
        return any(self.lines[: priority + 1])

    def _count(self, entry: Entry, sign: int) -> None:
        self.payments += sign * len(entry.credits)
        if entry.eligible and entry.payment_class == PaymentClass.INTERBANK:
            self._interbank[entry.priority] += sign

    def in_order(self) -> list[Entry]:
        """Every entry, as people list them: by priority and order."""
        return sorted(self.entries.values(), key=lambda e: (e.priority, e.order, e.uetr))


def build_queues(payments: Iterable[PaymentRecord]) -> dict[AccountId, Queue]:
    """Every account's queue, from the records of all undecided payments."""
    entries = [entry_of(each.live) for each in payments if isinstance(each.live, Queued)]
    queues: dict[AccountId, Queue] = {}
    for entry in sorted(entries, key=_order):
        queues.setdefault(entry.account, Queue()).add(entry)
    return queues
