"""Small gridlocks, and what resolution must make of them, found by looking at every possibility."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field, replace

from node.ledger.gridlock import EVERYONE, Account, Debtor

SETTLEMENT, CLIENT_RESERVE = 0, 1
MAX_VECTORS = 300
"""Prefix vectors of one case: keeps a case cheap to search in full."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A queue entry as it was sent."""

    priority: int
    credits: tuple[tuple[str, int, int], ...]
    """(creditor, account kind, amount) of each payment."""

    @property
    def amount(self) -> int:
        return sum(amount for _, _, amount in self.credits)


@dataclass(frozen=True, slots=True)
class Bank:
    """An account with its queue in order of entry."""

    balance: int
    line: int
    room: dict[str | None, int]
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Case:
    banks: dict[Account, Bank] = field(default_factory=dict)

    def queues(self) -> dict[Account, tuple[Entry, ...]]:
        """By priority, then in order of entry."""
        return {
            account: tuple(sorted(bank.entries, key=lambda each: each.priority))
            for account, bank in self.banks.items()
        }

    def debtors(self) -> dict[Account, Debtor]:
        """What the algorithm is given."""
        return {
            account: Debtor(
                self.banks[account].balance + self.banks[account].line,
                queue,
                dict(self.banks[account].room),
            )
            for account, queue in self.queues().items()
            if queue
        }

    def settled(self, included: dict[Account, int]) -> set[tuple[Account, int]]:
        """Which entries, each by its place in the order of entry, these prefixes are."""
        found = set()
        for account, count in included.items():
            entries = self.banks[account].entries
            order = sorted(range(len(entries)), key=lambda n: entries[n].priority)
            found |= {(account, number) for number in order[:count]}
        return found

    def without_limits(self) -> Case:
        return Case({account: replace(bank, room={}) for account, bank in self.banks.items()})

    def without_lines(self) -> Case:
        return Case({account: replace(bank, line=0) for account, bank in self.banks.items()})

    def without_priorities(self) -> Case:
        return Case(
            {
                account: replace(
                    bank, entries=tuple(replace(each, priority=0) for each in bank.entries)
                )
                for account, bank in self.banks.items()
            }
        )


def feasible_vectors(case: Case) -> list[dict[Account, int]]:
    """Every feasible prefix vector, by the definition and nothing cleverer."""
    queues = case.queues()
    accounts = list(queues)
    vectors = itertools.product(*(range(len(queues[account]) + 1) for account in accounts))
    found = (dict(zip(accounts, counts, strict=True)) for counts in vectors)
    return [vector for vector in found if _is_feasible(case, queues, vector)]


def _is_feasible(
    case: Case, queues: dict[Account, tuple[Entry, ...]], vector: dict[Account, int]
) -> bool:
    flows = [
        (debtor, (creditor, kind), amount)
        for debtor, count in vector.items()
        for entry in queues[debtor][:count]
        for creditor, kind, amount in entry.credits
    ]
    return all(_could_pay(case.banks[me], me, flows) for me, count in vector.items() if count)


def _could_pay(bank: Bank, me: Account, flows: list[tuple[Account, Account, int]]) -> bool:
    balance = bank.balance
    used = dict.fromkeys(bank.room, 0)
    for debtor, creditor, amount in flows:
        if me not in (debtor, creditor):
            continue
        out = amount if me == debtor else -amount
        balance -= out
        other = creditor[0] if me == debtor else debtor[0]
        whose = other if other in used else EVERYONE
        if whose in used and other != me[0]:
            used[whose] += out
    return balance >= -bank.line and all(used[each] <= bank.room[each] for each in used)


def greatest(vectors: list[dict[Account, int]]) -> dict[Account, int]:
    """The feasible vector that no other exceeds anywhere. Fails if there is none."""
    top = {account: max(vector[account] for vector in vectors) for account in vectors[0]}
    assert top in vectors, "no feasible vector is the greatest"
    return top


def random_case(rng: random.Random) -> Case:
    """A few banks in need of each other's money; often one with client money beside its own."""
    names = [f"BANK{number:016d}" for number in range(rng.choice((2, 3, 3, 4)))]
    accounts: list[Account] = [(name, SETTLEMENT) for name in names]
    if rng.random() < 0.2:
        accounts.append((names[0], CLIENT_RESERVE))
    sent: dict[Account, list[Entry]] = {account: [] for account in accounts}
    vectors = 1
    for _ in range(rng.randint(3, 11)):
        debtor = rng.choice(accounts)
        length = len(sent[debtor])
        if vectors // (length + 1) * (length + 2) > MAX_VECTORS:
            break
        vectors = vectors // (length + 1) * (length + 2)
        sent[debtor].append(_random_entry(rng, debtor, accounts))
    return Case(
        {account: _random_bank(rng, account, names, entries) for account, entries in sent.items()}
    )


def _random_entry(rng: random.Random, debtor: Account, accounts: list[Account]) -> Entry:
    others = [account for account in accounts if account != debtor]
    creditors = rng.sample(others, min(len(others), rng.choice((1, 1, 1, 1, 2))))
    credits = tuple((*each, rng.randint(1, 12)) for each in sorted(creditors))
    return Entry(rng.randrange(3), credits)


def _random_bank(
    rng: random.Random, account: Account, names: list[str], entries: list[Entry]
) -> Bank:
    name, kind = account
    if kind != SETTLEMENT:
        return Bank(rng.randint(0, 6), 0, {}, tuple(entries))
    room: dict[str | None, int] = {}
    for other in names:
        if other != name and rng.random() < 0.3:
            room[other] = rng.randint(0, 10)
    if rng.random() < 0.4:
        room[EVERYONE] = rng.randint(0, 12)
    line = rng.choice((0, rng.randint(1, 8)))
    # Below its floor: the line was lowered under what is drawn.
    balance = rng.randint(-line - 2, 0) if rng.random() < 0.2 else rng.randint(0, 7)
    return Bank(balance, line, room, tuple(entries))
