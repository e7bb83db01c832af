"""The default waterfall of a net system, and how to check that a cycle settled by it. Pure.

What a short debtor lacks is paid by, in this order: its own margin; its own share of the default
fund; the operators' capital, by LEI; the survivors, pro rata to their required contributions. Short
debtors are served by LEI. Survivors are the members that are not short themselves: from each at
most its required contribution, at most what its fund account holds, both once a cycle, however many
are short. A share above that falls to the other survivors, pro rata again. Minor units that do not
divide go to the largest remainders, among equal ones to the lower LEI.

(CPMI-IOSCO, Principles for financial market infrastructures, principles 4 and 13: loss allocation
by rules that are known beforehand.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from node.chain.types import (
    AccountKind,
    Cover,
    CoverSource,
    CycleClosed,
    CycleSettled,
    Shortfall,
    SurvivorShare,
)

ACCOUNT_OF = {
    CoverSource.MARGIN: AccountKind.MARGIN,
    CoverSource.FUND: AccountKind.FUND,
    CoverSource.CAPITAL: AccountKind.CAPITAL,
    CoverSource.SURVIVOR: AccountKind.FUND,
}
"""From which account each source pays."""


class Short(NamedTuple):
    """A debtor that could not set aside all that it owes; minor units."""

    participant: str
    owed: int
    own: int
    """What its settlement account set aside."""


class Means(NamedTuple):
    """What a short debtor itself has for such a case; minor units."""

    margin: int
    fund: int


class Plan(NamedTuple):
    """A waterfall worked out to its end."""

    shortfalls: tuple[Shortfall, ...]
    """Ascending by LEI."""
    survivors: tuple[SurvivorShare, ...]
    """Who may have had to bear a loss, ascending by LEI, as it was before."""
    left: tuple[tuple[str, int], ...]
    """What still lacks, ascending; empty: all is covered."""


class NotReproducible(ValueError):
    """The events of a cycle's settlement contradict the rules; the text says where."""


def waterfall(
    short: Sequence[Short],
    means: Mapping[str, Means],
    capital: Sequence[tuple[str, int]],
    survivors: Sequence[SurvivorShare],
) -> Plan:
    """Who pays what for these debtors.

    `short`, `capital` and `survivors` ascend by LEI; `means` has every short debtor. A source that
    has nothing, or is not needed any more, leaves no trace."""
    remaining = dict(capital)
    capacity = {each.participant: min(each.contribution, each.held) for each in survivors}
    weights = {each.participant: each.contribution for each in survivors}
    shortfalls: list[Shortfall] = []
    left: list[tuple[str, int]] = []
    for lei, owed, own in short:
        lacks = owed - own
        covers: list[Cover] = []
        sources = [
            (CoverSource.MARGIN, lei, means[lei].margin),
            (CoverSource.FUND, lei, means[lei].fund),
            *((CoverSource.CAPITAL, each, has) for each, has in remaining.items()),
        ]
        for source, payer, available in sources:
            amount = min(lacks, available)
            if amount <= 0:
                continue
            covers.append(Cover(source, payer, available, amount))
            lacks -= amount
            if source is CoverSource.CAPITAL:
                remaining[payer] -= amount
        for payer, amount in split(lacks, weights, capacity).items():
            covers.append(Cover(CoverSource.SURVIVOR, payer, capacity[payer], amount))
            lacks -= amount
            capacity[payer] -= amount
        shortfalls.append(Shortfall(lei, owed, own, tuple(covers)))
        if lacks:
            left.append((lei, lacks))
    return Plan(tuple(shortfalls), tuple(survivors), tuple(left))


def split(loss: int, weights: Mapping[str, int], capacity: Mapping[str, int]) -> dict[str, int]:
    """`loss` minor units pro rata to the weights, nobody above its capacity: what each pays, if
    anything, ascending by LEI. All of it, or every capacity that has a weight.

    Those whose exact share reaches their capacity pay that and leave; the others share the rest.
    Once nobody leaves, every share is rounded down and the largest remainders get a unit each: none
    of them is at its capacity then, so no unit is left over."""
    able = {lei: weights[lei] for lei in sorted(weights) if weights[lei] and capacity[lei]}
    shares: dict[str, int] = {}
    while able:
        whole = sum(able.values())
        full = [lei for lei, weight in able.items() if loss * weight >= capacity[lei] * whole]
        if not full:
            break
        for lei in full:
            shares[lei] = capacity[lei]
            loss -= capacity[lei]
            del able[lei]
    if able:
        parts = {lei: divmod(loss * weight, whole) for lei, weight in able.items()}
        shares |= {lei: part for lei, (part, _) in parts.items()}
        units = loss - sum(part for part, _ in parts.values())
        for lei in sorted(able, key=lambda each: (-parts[each][1], each))[:units]:
            shares[lei] += 1
    return {lei: shares[lei] for lei in sorted(shares) if shares[lei]}


# --- for whoever does not believe it --------------------------------------------------------------


class Movement(NamedTuple):
    """What a cycle's settlement did to an account."""

    participant: str
    account: AccountKind
    amount: int
    """Minor units, signed: credit positive."""


def recompute(closed: CycleClosed, settled: CycleSettled) -> tuple[Movement, ...]:
    """Every movement of a settled cycle, from its two events alone: first each step of the
    waterfall, from the payer to the short debtor, then every position.

    Works the waterfall out again from the amounts that the events state as given: what each debtor
    set aside, what each source could have paid, contributions and fund shares. Raises
    NotReproducible where the result is another than the events say."""
    if (closed.asset, closed.cycle) != (settled.asset, settled.cycle):
        raise NotReproducible("the two events are of different cycles")
    nets = {each.participant: each.credits - each.debits for each in closed.positions}
    if list(nets) != sorted(nets) or len(nets) != len(closed.positions):
        raise NotReproducible("positions do not ascend by LEI")
    if sum(nets.values()):
        raise NotReproducible(f"positions sum to {sum(nets.values())}, not to zero")
    _check_shortfalls(nets, settled)
    plan = waterfall(
        [Short(each.participant, each.owed, each.own) for each in settled.shortfalls],
        {each.participant: _means(each) for each in settled.shortfalls},
        _capital(settled.shortfalls),
        settled.survivors,
    )
    if plan.left:
        raise NotReproducible(f"the waterfall leaves {plan.left} uncovered")
    if plan.shortfalls != settled.shortfalls:
        raise NotReproducible("the waterfall comes out otherwise")
    movements: list[Movement] = []
    for shortfall in plan.shortfalls:
        for cover in shortfall.covers:
            payer = Movement(cover.participant, ACCOUNT_OF[cover.source], -cover.amount)
            debtor = Movement(shortfall.participant, AccountKind.SETTLEMENT, cover.amount)
            movements += [payer, debtor]
    movements += [Movement(lei, AccountKind.SETTLEMENT, net) for lei, net in nets.items() if net]
    return tuple(movements)


def _check_shortfalls(nets: Mapping[str, int], settled: CycleSettled) -> None:
    short = [each.participant for each in settled.shortfalls]
    if short != sorted(set(short)):
        raise NotReproducible("shortfalls do not ascend by LEI")
    for each in settled.shortfalls:
        if each.owed != -nets.get(each.participant, 0) or not each.own < each.owed:
            raise NotReproducible(f"{each.participant} does not owe {each.owed}, or is not short")
    survivors = [each.participant for each in settled.survivors]
    if survivors != sorted(set(survivors)) or not set(survivors).isdisjoint(short):
        raise NotReproducible("survivors do not ascend by LEI, or one of them is short")
    if survivors and not short:
        raise NotReproducible("survivors are named where nobody was short")


def _means(shortfall: Shortfall) -> Means:
    own = {
        cover.source: cover.available
        for cover in shortfall.covers
        if cover.participant == shortfall.participant
    }
    return Means(own.get(CoverSource.MARGIN, 0), own.get(CoverSource.FUND, 0))


def _capital(shortfalls: Iterable[Shortfall]) -> list[tuple[str, int]]:
    """What operators' capital accounts held before the first step: as stated where each is first
    drawn on."""
    found: dict[str, int] = {}
    for shortfall in shortfalls:
        for cover in shortfall.covers:
            if cover.source is CoverSource.CAPITAL:
                found.setdefault(cover.participant, cover.available)
    return sorted(found.items())
