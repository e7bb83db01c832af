"""Validator sets of the simulated chain: who is in, with which key, and how a set changes.

A machine is known by its number for ever; as a validator it has a place, which may differ from
epoch to epoch, and a vote key of some generation. A change is an instruction like any other, and
says all that there is to know in its number: so every node works out the same next set from the
blocks alone, as ledgers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.messages import ValidatorIndex
from devnet.sim.crypto import vote_key

Member = tuple[int, int]
"""(machine, generation of its vote key)."""
ValidatorSet = tuple[Member, ...]
"""Members by their place."""

CHANGES = 10**12
"""Instructions from here on change the validator set."""
BASE = 100
"""Of the digits in which a change is written."""


def genesis_set(size: int) -> ValidatorSet:
    """The first epoch's: machine i at place i, with its first key."""
    return tuple((machine, 0) for machine in range(size))


def keys_of(members: ValidatorSet) -> tuple[bytes, ...]:
    """Vote keys by place."""
    return tuple(vote_key(machine, generation) for machine, generation in members)


def place_of(members: ValidatorSet, machine: int) -> ValidatorIndex | None:
    """Where a machine is in a set; None if it is not in it."""
    for place, (member, _) in enumerate(members):
        if member == machine:
            return ValidatorIndex(place)
    return None


def generation_of(members: ValidatorSet, machine: int) -> int:
    """Which of its keys a member votes with; the first one of a machine that is no member."""
    return dict(members).get(machine, 0)


def moved(before: ValidatorSet, after: ValidatorSet) -> dict[ValidatorIndex, ValidatorIndex]:
    """The new place of each member that stays, by its old one."""
    places = {machine: ValidatorIndex(place) for place, (machine, _) in enumerate(after)}
    return {
        ValidatorIndex(place): places[machine]
        for place, (machine, _) in enumerate(before)
        if machine in places
    }


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the validator set; without any of it only a new epoch."""

    number: int
    """Tells it from all other changes of a run; at least 1."""
    smallest: int
    """No set becomes smaller than this: a removal that would make it so removes nobody."""
    add: int | None = None
    """The machine that becomes a member."""
    remove: int | None = None
    rekey: int | None = None
    """The member that gets a new key."""
    fresh: bool = False
    """Everybody gets a new key; otherwise who has one keeps it."""
    turn: int = 0
    """By how many places the members move."""

    @property
    def instruction(self) -> int:
        """The number that says all of this."""
        code = 0
        for field in (self.add, self.remove, self.rekey):
            code = code * BASE + (0 if field is None else field + 1)
        for value in (int(self.fresh), self.turn, self.smallest, self.number):
            code = code * BASE + value
        return CHANGES * BASE**2 + code

    @staticmethod
    def of(instruction: int) -> Change:
        """The change that an instruction says."""
        code = instruction - CHANGES * BASE**2
        digits = []
        for _ in range(7):
            code, digit = divmod(code, BASE)
            digits.append(digit)
        number, smallest, turn, fresh, *machines = digits
        rekey, remove, add = (None if code == 0 else code - 1 for code in machines)
        return Change(number, smallest, add, remove, rekey, bool(fresh), turn)

    def apply(self, members: ValidatorSet, epoch: int) -> ValidatorSet:
        """The set of `epoch`, from that of the epoch before."""
        kept = dict(members)
        if self.add is not None and self.add not in kept:
            kept[self.add] = epoch
        if self.remove in kept and len(kept) > self.smallest:
            del kept[self.remove]
        if self.rekey in kept:
            kept[self.rekey] = epoch
        if self.fresh:
            kept = dict.fromkeys(kept, epoch)
        order = list(kept.items())
        turn = self.turn % len(order)
        return tuple(order[turn:] + order[:turn])


def next_set(members: ValidatorSet, epoch: int, payload: Sequence[int]) -> ValidatorSet:
    """The set after a block of `epoch` with these instructions; empty if it seals nothing."""
    changes = [Change.of(number) for number in payload if number >= CHANGES]
    after = members
    for change in changes:
        after = change.apply(after, epoch + 1)
    return after if changes else ()
