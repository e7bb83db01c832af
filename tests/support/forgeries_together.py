"""Forgeries of dossiers, each with the one check that catches it: what settled together.

Made by `forge`, who holds every key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace

from node.audit.dossier import (
    Agreement,
    Dossier,
    Gridlocked,
    Linked,
    Netted,
    Place,
    Placed,
)
from node.chain.instruction import payment_digest
from node.chain.merkle import root
from node.chain.types import (
    CycleClosed,
    CycleSettled,
    CycleUnwound,
    Link,
    LinkClosed,
    Payment,
    Resolved,
    Together,
)
from tests.support.evidence_world import case, evidence_world
from tests.support.forge import (
    FLIPPED,
    act_of,
    lei,
    sent_by,
    sign,
    with_outcome,
)
from tests.support.forge_chain import rebuilt
from tests.support.forgeries_chain import PATHS, Forgery, Hashes

GRIDLOCK, LINKED, NET, SHORT = "gridlock-first", "link-eur", "net-settled", "net-waterfall"

# --- queue resolution ---------------------------------------------------------------------------


def gridlocked(clear: str | None = None) -> tuple[Dossier, Gridlocked, Resolved]:
    sound = case(GRIDLOCK, clear)
    assert isinstance(sound.together, Gridlocked)
    event = sound.together.summary.outcome.event
    assert isinstance(event, Resolved)
    return sound, sound.together, event


def summary_says(clear: str | None = None, **fields: Any) -> Dossier:
    sound, part, event = gridlocked(clear)
    return with_summary(sound, part, event=replace(event, **fields))


def with_summary(sound: Dossier, part: Gridlocked, **fields: Any) -> Dossier:
    outcome = replace(part.summary.outcome, **fields)
    summary = replace(part.summary, outcome=outcome)
    return rebuilt(replace(sound, together=replace(part, summary=summary)))


def positions(change: Callable[[list[Any]], list[Any]], clear: str | None = None) -> Dossier:
    _, _, event = gridlocked(clear)
    return summary_says(clear, positions=tuple(change(list(event.positions))))


def unbalanced(listed: list[Any]) -> list[Any]:
    return [replace(listed[0], credits=listed[0].credits + 1), *listed[1:]]


def larger(listed: list[Any]) -> list[Any]:
    first = listed[0]
    return [replace(first, debits=first.debits + 1, credits=first.credits + 1), *listed[1:]]


def without_own(listed: list[Any]) -> list[Any]:
    own = lei("BANKA")
    return [
        replace(each, debits=1, credits=1) if each.participant == own else each for each in listed
    ]


def members(change: Callable[[list[Any]], list[Any]], clear: str = "all") -> Dossier:
    """Other members, and the root and count of the set still those of the true ones."""
    sound, part, _ = gridlocked(clear)
    chosen = tuple(change(list(part.members)))
    return rebuilt(replace(sound, together=replace(part, members=chosen)))


def set_of(*listed: Any) -> Dossier:
    """Members under a root of their own."""
    sound, part, event = gridlocked("all")
    leaves = [payment_digest(each) if isinstance(each, Payment) else each for each in listed]
    event = replace(event, payments=len(leaves), payments_root=root(leaves))
    return with_summary(sound, replace(part, members=tuple(listed)), event=event)


def in_set(change: Callable[[Hashes], Hashes]) -> Dossier:
    sound, part, _ = gridlocked()
    assert part.place is not None
    place = replace(part.place, path=change(part.place.path))
    return rebuilt(replace(sound, together=replace(part, place=place)))


def summary_first() -> Dossier:
    """The sum stands before the payments that it sums up."""
    sound, part, _ = gridlocked()
    index = sound.steps[-1].place.index
    steps = (*sound.steps[:-1], replace(sound.steps[-1], place=Place(index + 9, ())))
    return rebuilt(replace(sound, steps=steps, together=part))


def together_for_nothing() -> Dossier:
    sound, (_, part, _) = case("alone"), gridlocked()
    height = sound.steps[0].outcome.height
    outcome = replace(part.summary.outcome, height=height, time=sound.steps[0].outcome.time)
    summary = Placed(outcome, Place(9, ()))
    return rebuilt(replace(sound, together=replace(part, summary=summary)))


def place_and_members() -> Dossier:
    sound, part, _ = gridlocked()
    _, full, _ = gridlocked("all")
    return rebuilt(replace(sound, together=replace(part, members=full.members)))


# --- linked settlement --------------------------------------------------------------------------


def linked(name: str = LINKED) -> tuple[Dossier, Linked]:
    sound = case(name)
    assert isinstance(sound.together, Linked)
    return sound, sound.together


def agreeing(change: Callable[[tuple[Agreement, ...]], tuple[Agreement, ...]]) -> Dossier:
    sound, part = linked()
    agreements = change(part.agreements)
    return rebuilt(replace(sound, together=replace(part, agreements=agreements)))


def other_legs(agreement: Agreement) -> Agreement:
    envelope = agreement.act.signed.envelope
    body = envelope.body
    assert isinstance(body, Link)
    changed = replace(envelope, body=replace(body, expires=body.expires + 1))
    return replace(agreement, act=replace(agreement.act, signed=sign(changed)))


def by_another(agreement: Agreement) -> Agreement:
    """Nobody's leg is of this sender."""
    step = sent_by(
        replace(case("alone"), steps=(replace(case("alone").steps[0], act=agreement.act),)),
        0,
        "BANKC",
    )
    return replace(agreement, act=act_of(step))


def own_too(agreements: tuple[Agreement, ...]) -> tuple[Agreement, ...]:
    """The own instruction once more, as another's agreement."""
    sound, _ = linked()
    own = Agreement(sound.steps[0].outcome.height, act_of(sound))
    return tuple(sorted((*agreements, own), key=lambda a: a.act.signed.envelope.sender))


def closed_says(**fields: Any) -> Dossier:
    sound, part = linked()
    assert part.closed is not None
    event = part.closed.outcome.event
    assert isinstance(event, LinkClosed)
    outcome = replace(part.closed.outcome, event=replace(event, **fields))
    closed = replace(part.closed, outcome=outcome)
    return rebuilt(replace(sound, together=replace(part, closed=closed)))


def closed_while_open() -> Dossier:
    sound, part = linked("link-open")
    _, other = linked()
    assert other.closed is not None
    height = sound.steps[0].outcome.height
    outcome = replace(other.closed.outcome, height=height)
    closed = Placed(outcome, Place(9, ()))
    return rebuilt(replace(sound, together=replace(part, closed=closed)))


# --- clearing cycles ----------------------------------------------------------------------------


def netted(name: str = NET, clear: str | None = None) -> tuple[Dossier, Netted]:
    sound = case(name, clear)
    assert isinstance(sound.together, Netted)
    return sound, sound.together


def cycle_record(name: str = NET, **fields: Any) -> Dossier:
    sound, part = netted(name)
    record = replace(part.record, **fields)
    return rebuilt(replace(sound, together=replace(part, record=record)))


def cycle_closed(change: Callable[[CycleClosed], Any]) -> Dossier:
    sound, part = netted()
    assert part.closed is not None
    event = part.closed.outcome.event
    assert isinstance(event, CycleClosed)
    closed = replace(part.closed, outcome=replace(part.closed.outcome, event=change(event)))
    return rebuilt(replace(sound, together=replace(part, closed=closed)))


def cycle_decided(change: Callable[[Any], Any], name: str = SHORT) -> Dossier:
    sound, part = netted(name)
    assert part.decided is not None
    event = change(part.decided.outcome.event)
    decided = replace(part.decided, outcome=replace(part.decided.outcome, event=event))
    return rebuilt(replace(sound, together=replace(part, decided=decided)))


def otherwise_shared(settled: CycleSettled) -> CycleSettled:
    """One minor unit more from the first payer, one less from the second."""
    shortfall = settled.shortfalls[0]
    one, other, *rest = shortfall.covers
    covers = (replace(one, amount=one.amount - 1), replace(other, amount=other.amount + 1), *rest)
    return replace(settled, shortfalls=(replace(shortfall, covers=covers),))


def cycle_balanced(change: Callable[[list[Any]], list[Any]]) -> Dossier:
    """Other positions, in the record and at the close."""
    sound, part = netted()
    assert part.closed is not None
    event = part.closed.outcome.event
    assert isinstance(event, CycleClosed)
    listed = tuple(change(list(event.positions)))
    outcome = replace(part.closed.outcome, event=replace(event, positions=listed))
    changed = replace(
        part,
        record=replace(part.record, positions=listed),
        closed=replace(part.closed, outcome=outcome),
    )
    return rebuilt(replace(sound, together=changed))


def decided_for_nothing() -> Dossier:
    sound, part = netted("net-unsettled")
    assert part.closed is not None
    event = CycleUnwound("EUR", 4)
    decided = Placed(replace(part.closed.outcome, event=event), Place(9, ()))
    return rebuilt(replace(sound, together=replace(part, decided=decided)))


def more_of_an_open_cycle() -> Dossier:
    sound, part = netted("net-open")
    return rebuilt(replace(sound, together=replace(part, place=Place(0, ()))))


def in_cycle(change: Callable[[Hashes], Hashes]) -> Dossier:
    sound, part = netted()
    assert part.place is not None
    place = replace(part.place, path=change(part.place.path))
    return rebuilt(replace(sound, together=replace(part, place=place)))


def with_cycle_proof() -> Dossier:
    sound, _ = netted()
    sound = rebuilt(sound)
    assert isinstance(sound.together, Netted)
    proof = sound.together.proof
    proof = replace(proof, siblings=(*proof.siblings, FLIPPED))
    return replace(sound, together=replace(sound.together, proof=proof))


def another_group() -> Dossier:
    return rebuilt(with_outcome(case(GRIDLOCK), -1, event=Together(FLIPPED)))


TOGETHER: dict[str, Forgery] = {
    "a set that another asset settled": ("together", lambda: summary_says(asset="EUR")),
    "positions that make money": ("together", lambda: positions(unbalanced)),
    "positions out of order": ("together", lambda: positions(lambda p: p[::-1])),
    "a position twice": ("together", lambda: positions(lambda p: [p[0], *p])),
    "positions without the payment": ("together", lambda: positions(without_own)),
    "positions beyond the payments": ("together", lambda: positions(larger, "all")),
    "another count of the set": ("together", lambda: summary_says(payments=9)),
    "another root of the set": ("together", lambda: summary_says(payments_root=FLIPPED)),
    **{
        f"a path in the set {what}": ("together", partial(in_set, change))
        for what, change in PATHS.items()
    },
    "a member left out": ("together", lambda: members(lambda m: m[:-1])),
    "a member added": ("together", lambda: members(lambda m: [*m, FLIPPED])),
    "a member twice": ("together", lambda: members(lambda m: [m[0], m[0], *m[2:]])),
    "members reordered": ("together", lambda: members(lambda m: m[::-1])),
    "a member changed": (
        "together",
        lambda: members(lambda m: [*m[:-1], replace(m[-1], amount=399)]),
    ),
    "a set without the payment": (
        "together",
        lambda: set_of(FLIPPED, *case(GRIDLOCK, "all").together.members[1:]),  # type: ignore[union-attr]
    ),
    "a set with a payment of another asset": (
        "together",
        lambda: set_of(
            *case(GRIDLOCK, "all").together.members,  # type: ignore[union-attr]
            evidence_world().payments["alone"],
        ),
    ),
    "a place and the members": ("together", place_and_members),
    "a sum before what it sums up": ("together", summary_first),
    "a sum that is none": (
        "together",
        lambda: with_summary(*gridlocked()[:2], event=LinkClosed(FLIPPED, settled=True)),
    ),
    "a set of a payment that settled alone": ("together", together_for_nothing),
    "the resolution of another asset": ("together", another_group),
    "a link without a debtor's agreement": ("together", lambda: agreeing(lambda a: ())),
    "an agreement to other legs": (
        "together",
        lambda: agreeing(lambda a: tuple(map(other_legs, a))),
    ),
    "an agreement by nobody's debtor": (
        "together",
        lambda: agreeing(lambda a: tuple(map(by_another, a))),
    ),
    "an agreement twice": ("together", lambda: agreeing(lambda a: a + a)),
    "the own agreement as another's": ("together", lambda: agreeing(own_too)),
    "the end of another link": ("together", lambda: closed_says(link=FLIPPED)),
    "the end of a link that did not settle": ("together", lambda: closed_says(settled=False)),
    "the end of a link that is open": ("together", closed_while_open),
    "a leg of another link": (
        "together",
        lambda: rebuilt(with_outcome(case(LINKED), -1, event=Together(FLIPPED))),
    ),
    "a cycle's proof with an unused element": ("together", with_cycle_proof),
    "a cycle of other value": ("together", lambda: cycle_record(value=1)),
    "a cycle that is not settled": ("together", lambda: cycle_record(status="funding")),
    "a cycle decided elsewhere": ("together", lambda: cycle_record(decided=30)),
    "a cycle of more payments": ("together", lambda: cycle_record(payments=7)),
    "a cycle with another tree": (
        "together",
        lambda: cycle_record(frontier=(FLIPPED,)),
    ),
    "the close of another cycle": (
        "together",
        lambda: cycle_closed(lambda e: replace(e, cycle=2)),
    ),
    "the close of another asset's cycle": (
        "together",
        lambda: cycle_closed(lambda e: replace(e, asset="CNY")),
    ),
    "a close with other positions": (
        "together",
        lambda: cycle_closed(lambda e: replace(e, positions=e.positions[1:])),
    ),
    "a close that is none": (
        "together",
        lambda: cycle_closed(lambda e: LinkClosed(FLIPPED, settled=True)),
    ),
    "a cycle's positions that make money": ("together", lambda: cycle_balanced(unbalanced)),
    "a cycle's positions out of order": ("together", lambda: cycle_balanced(lambda p: p[::-1])),
    "a cycle's positions beyond its payments": ("together", lambda: cycle_balanced(larger)),
    **{
        f"a path in the cycle {what}": ("together", partial(in_cycle, change))
        for what, change in PATHS.items()
    },
    "the settlement of another cycle": (
        "together",
        lambda: cycle_decided(lambda e: replace(e, cycle=1)),
    ),
    "a loss that is shared otherwise": ("together", lambda: cycle_decided(otherwise_shared)),
    "a loss that nobody bore": (
        "together",
        lambda: cycle_decided(
            lambda e: replace(e, survivors=(), shortfalls=(replace(e.shortfalls[0], covers=()),))
        ),
    ),
    "an unwound cycle that is said to have settled": (
        "together",
        lambda: cycle_record("net-unwound", status="settled"),
    ),
    "a decision of a cycle that waits": ("together", decided_for_nothing),
    "more of a cycle that is open": ("together", more_of_an_open_cycle),
}
