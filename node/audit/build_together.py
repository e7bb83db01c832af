"""What settled together with a payment: by queue resolution, as a linked settlement, in a clearing
cycle.

The other payments are shown as their leaf hashes, or not at all: only their root and the positions
of the accounts are needed to check what settled. Who may see more asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from itertools import count, islice
from typing import Any, NamedTuple

from node.audit.build_chain import EvidenceTooLarge, EvidenceUnavailable, required
from node.audit.build_parts import Parts
from node.audit.dossier import (
    MAX_DOSSIER_BYTES,
    MAX_MEMBERS,
    MAX_STEPS,
    Agreement,
    Gridlocked,
    Linked,
    Members,
    Netted,
    Place,
    Step,
)
from node.chain.build import link_id
from node.chain.encoding import RESOLUTION, digest, encode
from node.chain.merkle import EMPTY_ROOT, PAYMENT_LEAF, inclusion_proof, node_hash, root
from node.chain.records import CycleKey, CycleRecord
from node.chain.statuses import FINAL_SETTLED
from node.chain.types import (
    CycleClosed,
    CycleSettled,
    CycleUnwound,
    Event,
    Joined,
    Link,
    LinkClosed,
    Outcome,
    OutcomePlace,
    Payment,
    Resolved,
    Together,
)
from node.ledger.entries import UetrEntry

CHUNK_LEAVES = 1 << 14
"""Leaves of a set that are held at once."""
ALL = "all"
"""A reader who may see every payment in clear: a supervisor, an auditor."""


class Own(NamedTuple):
    """The payment whose dossier it is, and who reads it."""

    payment: Payment
    leaf: bytes
    clear: str | None
    """LEI of a participant, or `ALL`: may see payments in clear. None: needs none."""


class Member(NamedTuple):
    """A payment that settled together with others."""

    leaf: bytes
    place: OutcomePlace


def settled_together(
    parts: Parts, entry: UetrEntry, payment: Payment, steps: Sequence[Step], clear: str | None
) -> tuple[Gridlocked | Linked | Netted | None, Outcome | None]:
    """What the payment settled or waits together with, and the outcome that decided its clearing
    cycle. Raises EvidenceUnavailable."""
    last, own = steps[-1].outcome, Own(payment, entry.digest, clear)
    match last.event:
        case Together(group=group) if group == digest(RESOLUTION, encode(payment.asset)):
            return _gridlocked(parts, own, steps[-1], group), None
        case Together(group=group):
            return _linked(parts, payment, steps, group), None
        case Joined(cycle=cycle):
            netted = _netted(parts, own, CycleKey(payment.asset, cycle))
            return netted, None if netted.decided is None else netted.decided.outcome
    return None, None


# --- queue resolution -----------------------------------------------------------------------------


def _gridlocked(parts: Parts, own: Own, step: Step, group: bytes) -> Gridlocked:
    asset, height = own.payment.asset, step.outcome.height
    before, at, event = _resolution(parts, asset, step)
    members = []
    for index, outcome in parts.outcomes_where(height, group):
        if before < index < at and outcome.event == Together(group):
            assert outcome.content is not None
            assert outcome.original is not None
            members.append(Member(outcome.content, outcome.original))
    what = f"block {height} has other payments of the {asset} resolution than it says"
    leaves = (member.leaf for member in members)
    place, shown = _set(parts, own, leaves, members, _Expected(event.payments_root, what))
    return Gridlocked(parts.placed(height, at), place, shown)


def _resolution(parts: Parts, asset: str, step: Step) -> tuple[int, int, Resolved]:
    """Where the resolution before that of this outcome is told of in its block (−1: nowhere), where
    its own is, and that: a block that closes a day may have two. Raises EvidenceUnavailable."""
    height, before = step.outcome.height, -1
    for index, outcome in parts.outcomes_where(height, encode(Resolved.__struct_config__.tag)):
        event = outcome.event
        if isinstance(event, Resolved) and event.asset == asset:
            if index > step.place.index:
                return before, index, event
            before = index
    raise EvidenceUnavailable(f"block {height} does not tell of the resolution of {asset}")


# --- linked settlement ----------------------------------------------------------------------------


def _linked(parts: Parts, payment: Payment, steps: Sequence[Step], id: bytes) -> Linked:
    act = steps[0].act
    assert act is not None
    body, last = act.signed.envelope.body, steps[-1].outcome
    if not isinstance(body, Link) or link_id(body.legs, body.expires) != id:
        raise EvidenceUnavailable("the link and its outcomes disagree: the store is damaged")
    others = sorted({leg.debtor for leg in body.legs} - {payment.debtor})
    found = [_agreement(parts, body, debtor, id) for debtor in others]
    agreements = tuple(each for each in found if each is not None)
    if last.status not in FINAL_SETTLED:
        return Linked(agreements, None)
    if len(agreements) < len(others):
        raise EvidenceUnavailable("the agreement of a debtor to the link is not known here")
    at, _ = _event_at(
        parts, last.height, (LinkClosed,), lambda event: event.link == id, "end of the link"
    )
    return Linked(agreements, parts.placed(last.height, at))


def _agreement(parts: Parts, link: Link, debtor: str, id: bytes) -> Agreement | None:
    """The debtor's own order of this link; None: it has given none yet."""
    leg = next(leg for leg in link.legs if leg.debtor == debtor)
    for height, index in islice(parts.source.outcomes_of(leg.uetr, 0), MAX_STEPS):
        if height > parts.checkpoint.height:
            break
        outcome = parts.outcome(height, index)
        if outcome.content is None and outcome.event == Together(id):
            assert outcome.instruction is not None
            return Agreement(height, parts.act(height, outcome.instruction))
    return None


# --- clearing cycles ------------------------------------------------------------------------------


def _netted(parts: Parts, own: Own, key: CycleKey) -> Netted:
    found, proof = parts.proven(parts.checkpoint.height, key, CycleRecord)
    record = required(found, f"clearing cycle {key.cycle} of {key.asset}")
    if record.status == "open":
        return Netted(record, proof, None, None, None, ())
    name = f"clearing cycle {key.cycle} of {key.asset}"
    at = required(parts.source.cycle_closed(key.asset, key.cycle), f"the close of {name}")
    closed = parts.placed(*at)
    event = closed.outcome.event
    if not isinstance(event, CycleClosed):
        raise EvidenceUnavailable(f"the close of {name} is not where the index has it")
    what = f"not all of the {record.payments:,} payments of {name} are known here"
    leaves = parts.source.joined_leaves(key.asset, key.cycle)
    members = (
        Member(each.leaf, OutcomePlace(each.height, each.instruction, each.payment))
        for each in parts.source.joined(key.asset, key.cycle)
    )
    place, shown = _set(parts, own, leaves, members, _Expected(event.payments_root, what))
    decided = None
    if record.decided is not None:
        where, _ = _event_at(
            parts,
            record.decided,
            (CycleSettled, CycleUnwound),
            lambda event: (event.asset, event.cycle) == (key.asset, key.cycle),
            f"decision of {name}",
        )
        decided = parts.placed(record.decided, where)
    return Netted(record, proof, closed, decided, place, shown)


# --- the set --------------------------------------------------------------------------------------


class _Expected(NamedTuple):
    root: bytes
    """Over the leaf hashes of the set."""
    otherwise: str
    """What it means that what is found has another one."""


def _set(
    parts: Parts,
    own: Own,
    leaves: Iterable[bytes],
    members: Iterable[Member],
    expected: _Expected,
) -> tuple[Place | None, Members]:
    """The payment's place in the set, or the whole set for a reader who may see (part of) it.
    Either `leaves` or `members` is read."""
    if own.clear is None:
        computed, place = read_once(leaves, own.leaf)
        if computed != expected.root or place is None:
            raise EvidenceUnavailable(expected.otherwise)
        return place, ()
    listed = list(islice(members, MAX_MEMBERS + 1))
    if len(listed) > MAX_MEMBERS:
        raise EvidenceTooLarge(
            f"more than {MAX_MEMBERS:,} payments settled together; ask for a dossier without them"
        )
    if root([member.leaf for member in listed]) != expected.root:
        raise EvidenceUnavailable(expected.otherwise)
    return None, _in_clear(parts, listed, own.clear)


def _in_clear(parts: Parts, members: Sequence[Member], clear: str) -> Members:
    """The payments that this reader may see, and the leaf hashes of the others."""
    shown: list[Payment | bytes] = [member.leaf for member in members]
    size = 0
    # Block by block: only a few are open at a time.
    for at in sorted(range(len(members)), key=lambda each: members[each].place.height):
        leaf, place = members[at]
        payment = parts.carried(place)
        if clear != ALL and clear not in parties(payment):
            continue
        raw = encode(payment)
        if sha256(PAYMENT_LEAF + raw).digest() != leaf:
            raise EvidenceUnavailable(
                f"block {place.height} has another payment at [{place.instruction}, "
                f"{place.payment}] than settled from there"
            )
        size += len(raw)
        if size > MAX_DOSSIER_BYTES:
            raise EvidenceTooLarge(
                f"the payments that settled together have more than {MAX_DOSSIER_BYTES:,} bytes in "
                "clear; ask for a dossier without them, or for that of a participant"
            )
        shown[at] = payment
    return tuple(shown)


def parties(payment: Payment) -> tuple[str | None, ...]:
    """Whose payment it is: LEIs of those that pay, are paid, or have it done for them."""
    return (
        payment.debtor,
        payment.creditor,
        payment.debtor_indirect,
        payment.creditor_indirect,
    )


def read_once(
    leaves: Iterable[bytes], wanted: bytes, held: int = CHUNK_LEAVES
) -> tuple[bytes, Place | None]:
    """(root, place of the first leaf that is as wanted) of a tree that is read once and never held
    whole: a cycle may have millions. None: it is not among them. `held`: leaves at once, a power of
    two."""
    each, path = iter(leaves), list[bytes]()
    peaks: list[tuple[bytes, bool]] = []
    found: int | None = None
    # A chunk is a complete subtree, but for the last one: the tree over their roots is the tree.
    for number in count():
        chunk = list(islice(each, held))
        if not chunk:
            break
        here = found is None and wanted in chunk
        if here:
            index = chunk.index(wanted)
            found, path = number * held + index, inclusion_proof(chunk, index)
        node, size = root(chunk), number
        while size & 1:
            node, here = _joined(peaks.pop(), (node, here), path)
            size >>= 1
        peaks.append((node, here))
    if not peaks:
        return EMPTY_ROOT, None
    right = peaks.pop()
    while peaks:
        right = _joined(peaks.pop(), right, path)
    return right[0], None if found is None else Place(found, tuple(path))


def _joined(
    left: tuple[bytes, bool], right: tuple[bytes, bool], path: list[bytes]
) -> tuple[bytes, bool]:
    """Two neighbouring subtrees, each with whether the leaf is below, become one."""
    if left[1] or right[1]:
        path.append(right[0] if left[1] else left[0])
    return node_hash(left[0], right[0]), left[1] or right[1]


def _event_at(
    parts: Parts,
    height: int,
    kinds: tuple[type[Event], ...],
    wanted: Callable[[Any], bool],
    what: str,
) -> tuple[int, Outcome]:
    """(index, outcome) of the one event of these kinds in a block. Raises EvidenceUnavailable."""
    for kind in kinds:
        for index, outcome in parts.outcomes_where(height, encode(kind.__struct_config__.tag)):
            if isinstance(outcome.event, kind) and wanted(outcome.event):
                return index, outcome
    raise EvidenceUnavailable(f"block {height} does not tell of the {what}")
