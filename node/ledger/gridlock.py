"""Which queued payments can settle together: Bech and Soramäki's algorithm, with limits.

Every debtor account offers a queue of candidates in its order. A *prefix vector* says how many of
each queue's first candidates are included. It is feasible if every debtor with a candidate
included could pay: available + incoming − outgoing ≥ 0, and none of its limits is broken.
Feasible vectors are closed under the componentwise maximum, because what others include only
brings a debtor more money and more room. So there is one greatest feasible vector, and dropping
the last included candidate of any failing debtor, again and again, ends there in whatever order.

That holds only while each condition belongs to one debtor and can only be loosened by others: no
cap on what a creditor receives, no liquidity or limit that two queues share, no skipping of a
candidate that blocks its queue. Without the order of the queue the problem is NP-hard.

Source: M. L. Bech, K. Soramäki, "Gridlock resolution in interbank payment systems", Bank of
Finland discussion paper 9/2001. Pure: plain structures in, plain structures out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

Account = tuple[str, int]
"""(participant's LEI, account kind); the asset is one and the same for all."""
EVERYONE = None
"""Stands for all counterparties without a limit of their own, in `Debtor.room`."""


class Candidate(Protocol):
    """An entry of a queue: one payment, or several that settle only together."""

    @property
    def amount(self) -> int:
        """Minor units that its debtor pays."""

    @property
    def credits(self) -> tuple[tuple[str, int, int], ...]:
        """(creditor, account kind, amount) of each payment; these sum to `amount`."""


@dataclass(slots=True)
class Debtor:
    """An account with candidates, or with limits that others' candidates make room under."""

    available: int
    """Balance − reserved + credit line; below zero where the line was lowered under its use."""
    candidates: Sequence[Candidate]
    """In the order of the queue."""
    room: dict[str | None, int] = field(default_factory=dict)
    """By counterparty: how much more may go out than comes in, its limit less what is used;
    under `EVERYONE` that of all others together."""


class Resolution(NamedTuple):
    """The greatest feasible prefix vector and what it moves."""

    included: dict[Account, int]
    """How many candidates settle, for each debtor of which any does."""
    gained: dict[Account, int]
    """Incoming − outgoing of each account that pays or receives."""
    used: dict[Account, dict[str | None, int]]
    """By how much less room each limit leaves, where it leaves another one."""


Choose = Callable[[Sequence[Account]], int]
"""Index of the failing debtor that drops a candidate next."""


def resolve_queues(debtors: Mapping[Account, Debtor], choose: Choose | None = None) -> Resolution:
    """The greatest feasible prefix vector. Linear in the candidates and their credits.

    A creditor that is none of `debtors` has no condition to meet. `choose` is for showing that it
    makes no difference; without it the debtor found last goes first.
    """
    included = _Included(debtors)
    failing = [account for account in debtors if included.fails(account)]
    known = set(failing)
    while failing:
        account = failing.pop() if choose is None else failing.pop(choose(failing))
        known.discard(account)
        for touched in included.drop_last(account):
            if touched not in known and included.fails(touched):
                failing.append(touched)
                known.add(touched)
    return included.resolution()


class _Included:
    """A prefix vector, and what every debtor would have left with it: money, and room under its
    limits. Each removal keeps these up; they are never summed again."""

    __slots__ = ("_available", "_broken", "_counts", "_debtors", "_others", "_room")

    def __init__(self, debtors: Mapping[Account, Debtor]) -> None:
        """Include every candidate."""
        self._debtors = debtors
        self._counts = {account: len(each.candidates) for account, each in debtors.items()}
        self._room = {account: dict(each.room) for account, each in debtors.items() if each.room}
        available = self._available = {account: each.available for account, each in debtors.items()}
        others: dict[Account, int] = {}
        self._others = others
        """What creditors that are no debtors receive."""
        for account, debtor in debtors.items():
            paid = 0
            for candidate in debtor.candidates:
                paid += candidate.amount
                for lei, kind, amount in candidate.credits:
                    creditor = lei, kind
                    if creditor in available:
                        available[creditor] += amount
                    else:
                        others[creditor] = others.get(creditor, 0) + amount
            available[account] -= paid
        if self._room:
            self._include_in_limits()
        self._broken = {
            account: sum(left < 0 for left in room.values()) for account, room in self._room.items()
        }
        """How many limits of an account are broken; accounts without limits are not in it."""

    def _include_in_limits(self) -> None:
        """Count every candidate in the limits of both sides: `_use_limits`, all at once."""
        rooms = self._room
        for account, debtor in self._debtors.items():
            holder, own = account[0], rooms.get(account)
            for candidate in debtor.candidates:
                for lei, kind, amount in candidate.credits:
                    if lei == holder:
                        continue
                    if own is not None:
                        whose = lei if lei in own else EVERYONE
                        if whose in own:
                            own[whose] -= amount
                    theirs = rooms.get((lei, kind))
                    if theirs is not None:
                        whose = holder if holder in theirs else EVERYONE
                        if whose in theirs:
                            theirs[whose] += amount

    def fails(self, account: Account) -> bool:
        """Whether this is a debtor with a candidate included that could not pay."""
        return bool(self._counts.get(account)) and (
            self._available[account] < 0 or bool(self._broken.get(account))
        )

    def drop_last(self, account: Account) -> list[Account]:
        """Drop the account's last included candidate. Returns the accounts it concerned."""
        last = self._counts[account] - 1
        assert last >= 0, "a debtor without candidates can not fail"
        self._counts[account] = last
        candidate = self._debtors[account].candidates[last]
        available = self._available
        available[account] += candidate.amount
        touched = [account]
        for lei, kind, amount in candidate.credits:
            creditor = lei, kind
            if creditor in available:
                available[creditor] -= amount
                touched.append(creditor)
            else:
                self._others[creditor] -= amount
            if self._room:
                self._use_limits(account, creditor, -amount)
        return touched

    def _use_limits(self, debtor: Account, creditor: Account, amount: int) -> None:
        """Count an amount in the limits of both sides; a negative one: take it back."""
        if debtor[0] != creditor[0]:  # nobody is its own counterparty
            self._use_limit(debtor, creditor[0], amount)
            self._use_limit(creditor, debtor[0], -amount)

    def _use_limit(self, holder: Account, counterparty: str, amount: int) -> None:
        room = self._room.get(holder)
        if room is None:
            return
        whose = counterparty if counterparty in room else EVERYONE
        before = room.get(whose)
        if before is not None:
            after = room[whose] = before - amount
            self._broken[holder] += (after < 0) - (before < 0)

    def resolution(self) -> Resolution:
        """What is included now."""
        included = {account: count for account, count in self._counts.items() if count}
        gained = {
            account: gain
            for account, left in self._available.items()
            if (gain := left - self._debtors[account].available) or account in included
        }
        gained.update((account, gain) for account, gain in self._others.items() if gain)
        used = {
            account: changed
            for account, room in self._room.items()
            if (changed := _taken(self._debtors[account].room, room))
        }
        return Resolution(included, gained, used)


def _taken(before: dict[str | None, int], after: dict[str | None, int]) -> dict[str | None, int]:
    return {whose: left - after[whose] for whose, left in before.items() if left != after[whose]}
