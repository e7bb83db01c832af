"""The part of a dossier that says with what the payment settled: by queue resolution, as a leg of a
linked settlement, or in a clearing cycle.

Of the others only what the reader may see is in clear. What is checked without it: that the payment
is in the set, that the positions of all accounts balance, that the payment fits into those of its
own two, and, of a cycle that somebody was short in, that the loss was shared by the rules. With
every member in clear the positions are worked out anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from node.audit.dossier import Dossier, Gridlocked, Linked, Netted, Placed
from node.audit.fault import Absent, Fault, Missing, same
from node.audit.verify_finality import BlocksByHeight, checkpoint, included
from node.audit.verify_order import first_act, order_of, sender_of
from node.audit.verify_sets import Sides, check_members, check_own, check_sums, sides_of
from node.audit.wording import amount_text, party_text
from node.chain.block import outcome_leaf
from node.chain.encoding import LINK, RESOLUTION, digest, encode
from node.chain.genesis import Genesis
from node.chain.merkle import Frontier, ProofError
from node.chain.records import CycleKey
from node.chain.state_map import verify_present
from node.chain.statuses import SETTLED
from node.chain.types import (
    AccountPosition,
    CycleClosed,
    CycleSettled,
    CycleUnwound,
    Joined,
    Link,
    LinkClosed,
    NetPosition,
    Payment,
    Resolved,
    Together,
)
from node.chain.waterfall import NotReproducible, recompute

MAX_SHARES = 100_000_000
"""Short debtors, times the square of those that may have to pay: what it takes to work a waterfall
out that a forger made as hard as can be."""

OPEN, SETTLED_CYCLE, UNWOUND = "open", "settled", "unwound"
"""States of a cycle that decide what a dossier shows of it."""


def called_for(dossier: Dossier) -> type[Gridlocked] | type[Linked] | type[Netted] | None:
    """What the payment's last outcome says that it settled, or waits, together with. Raises
    Fault."""
    event = dossier.steps[-1].outcome.event
    if isinstance(event, Joined):
        return Netted
    if not isinstance(event, Together):
        return None
    body = first_act(dossier).signed.envelope.body
    return Linked if isinstance(body, Link) else Gridlocked


def check_together(dossier: Dossier, genesis: Genesis) -> str:
    """That the payment is in the set that settled, and that the set comes out even."""
    expected, together = called_for(dossier), dossier.together
    if expected is None:
        meaning = "Its outcomes say of no other payment that it settled together with it."
        found = None if together is None else type(together).__name__.lower()
        same("together", None, found, meaning)
        raise Absent("it depends on no other payment")
    name = expected.__name__.lower()
    if together is None:
        raise Missing(f"the set that it settles together with ({name}) is not in the dossier")
    meaning = "Its last outcome says that it settled in another way."
    same("together", name, type(together).__name__.lower(), meaning)
    payment = order_of(dossier)
    if not isinstance(payment, Payment):
        raise Fault("together", "a payment", type(payment).__name__, meaning)
    match together:
        case Gridlocked():
            return _check_gridlocked(dossier, together, payment, genesis)
        case Linked():
            return _check_linked(dossier, together, genesis)
        case Netted():
            return _check_netted(dossier, together, payment, genesis)


# --- queue resolution ---------------------------------------------------------------------------


def _check_gridlocked(
    dossier: Dossier, part: Gridlocked, payment: Payment, genesis: Genesis
) -> str:
    last, summary = dossier.steps[-1], part.summary
    assert isinstance(last.outcome.event, Together)
    meaning = "It did not settle by resolution of its asset's queues."
    group = digest(RESOLUTION, encode(payment.asset))
    same("steps[-1].outcome.event.group", group, last.outcome.event.group, meaning)
    _check_placed(dossier, summary, "together.summary")
    event = summary.outcome.event
    meaning = "It tells of another settlement than that of this payment."
    if not isinstance(event, Resolved):
        raise Fault("together.summary.event", "a resolution", type(event).__name__, meaning)
    same("together.summary.asset", payment.asset, event.asset, meaning)
    same("together.summary.height", last.outcome.height, summary.outcome.height, meaning)
    if summary.place.index <= last.place.index:
        expected = f"above {last.place.index}"
        raise Fault("together.summary.place.index", expected, summary.place.index, meaning)
    sides = _account_sides(event.positions)
    check_own(payment, sides)
    shown = check_members(part.place, part.members, payment, event.payments, event.payments_root)
    check_sums(part.members, payment, sides)
    return (
        f"one of {event.payments} payments of {payment.asset} that settled at once between "
        f"{len(sides)} accounts, whose positions sum to zero; {shown}"
    )


def _account_sides(positions: Sequence[AccountPosition]) -> Sides:
    listed = [((each.participant, int(each.account)), each) for each in positions]
    return sides_of(listed, "together.summary.positions")


# --- linked settlement --------------------------------------------------------------------------


def _check_linked(dossier: Dossier, part: Linked, genesis: Genesis) -> str:
    body, last = first_act(dossier).signed.envelope.body, dossier.steps[-1].outcome
    assert isinstance(body, Link), "`called_for` says so"
    assert isinstance(last.event, Together)
    id = digest(LINK, encode((body.legs, body.expires)))
    for number, step in enumerate(dossier.steps):
        if isinstance(step.outcome.event, Together):
            meaning = "The outcome is of another link than the one that was signed."
            same(f"steps[{number}].outcome.event.group", id, step.outcome.event.group, meaning)
    own, debtors = sender_of(dossier), {leg.debtor for leg in body.legs}
    _check_agreements(part, body, own, debtors)
    if last.status != SETTLED:
        meaning = "The payment waits, so its link is not closed."
        found = None if part.closed is None else "the end of a link"
        same("together.closed", None, found, meaning)
        count = len(part.agreements) + 1
        return f"a leg of {len(body.legs)}; shown to have signed: {count} of {len(debtors)}"
    meaning = "It settled without the agreement of each debtor."
    agreed = [each.act.signed.envelope.sender for each in part.agreements]
    same("together.agreements", sorted(debtors - {own}), agreed, meaning)
    if part.closed is None:
        raise Missing("the outcome that closed its link is not in the dossier")
    _check_placed(dossier, part.closed, "together.closed")
    closed, meaning = part.closed.outcome, "It tells of the end of another link."
    same("together.closed.event", LinkClosed(id, settled=True), closed.event, meaning)
    same("together.closed.height", last.height, closed.height, meaning)
    return f"all {len(body.legs)} legs settled at once; {_net_text(body, genesis)}"


def _check_agreements(part: Linked, body: Link, own: str, debtors: set[str]) -> None:
    previous = ""
    for number, agreement in enumerate(part.agreements):
        where, envelope = f"together.agreements[{number}]", agreement.act.signed.envelope
        other, meaning = envelope.body, "Its sender did not sign these legs."
        if not isinstance(other, Link):
            raise Fault(f"{where}.act.body", "a link", type(other).__name__, meaning)
        if (other.legs, other.expires) != (body.legs, body.expires):
            raise Fault(f"{where}.act.body", "the same legs and expiry", "others", meaning)
        sender = envelope.sender
        if sender not in debtors - {own} or sender <= previous:
            expected = "another debtor of the link, ascending by LEI"
            meaning = "Each debtor agrees once; nobody else has to."
            raise Fault(f"{where}.act.sender", expected, sender, meaning)
        previous = sender


def _net_text(body: Link, genesis: Genesis) -> str:
    nets: dict[tuple[str, str], int] = {}
    for leg in body.legs:
        for lei, amount in ((leg.debtor, -leg.amount), (leg.creditor, leg.amount)):
            nets[lei, leg.asset] = nets.get((lei, leg.asset), 0) + amount
    told = [
        f"{party_text(lei, genesis)} {'+' if net > 0 else ''}{amount_text(net, asset, genesis)}"
        for (lei, asset), net in sorted(nets.items())
        if net
    ]
    return f"net {'; '.join(told)}" if told else "nobody's balance changed by it"


# --- clearing cycles ----------------------------------------------------------------------------


def _check_netted(dossier: Dossier, part: Netted, payment: Payment, genesis: Genesis) -> str:
    joined = dossier.steps[-1].outcome
    assert isinstance(joined.event, Joined)
    record, number = part.record, joined.event.cycle
    name = f"clearing cycle {number} of {payment.asset}"
    top = checkpoint(dossier)
    try:
        key = encode(CycleKey(payment.asset, number))
        verify_present(top.state_root, key, encode(record), part.proof)
    except ProofError as error:
        expected = f"{name} under {top.state_root.hex()}"
        meaning = "The checkpoint's state says something else of the cycle."
        raise Fault("together.record", expected, error, meaning) from error
    if record.status == OPEN:
        shown = (part.closed, part.decided, part.place)
        if any(each is not None for each in shown) or part.members:
            meaning = "Nothing more is settled of a cycle that is open."
            raise Fault("together", "the cycle's record alone", "more", meaning)
        return f"in {name}, which is open: {record.payments} payment(s) so far"
    if part.closed is None:
        raise Missing(f"the outcome that closed {name} is not in the dossier")
    _check_placed(dossier, part.closed, "together.closed")
    closed, meaning = part.closed.outcome.event, "It tells of the close of another cycle."
    if not isinstance(closed, CycleClosed):
        raise Fault("together.closed.event", "the close", type(closed).__name__, meaning)
    frontier = Frontier(record.payments, record.frontier)
    same("together.closed.asset", payment.asset, closed.asset, meaning)
    same("together.closed.cycle", number, closed.cycle, meaning)
    same("together.closed.positions", record.positions, closed.positions, meaning)
    same("together.closed.payments", record.payments, closed.payments, meaning)
    same("together.closed.payments_root", frontier.root(), closed.payments_root, meaning)
    sides = _net_sides(closed.positions)
    for field, total in (
        ("debits", sum(debits for debits, _ in sides.values())),
        ("credits", sum(credits for _, credits in sides.values())),
    ):
        meaning = "The positions are not those of its payments."
        same(f"together.closed.positions.{field}", record.value, total, meaning)
    check_own(payment, sides)
    shown_text = check_members(
        part.place, part.members, payment, closed.payments, closed.payments_root
    )
    check_sums(part.members, payment, sides)
    decision = _check_decided(dossier, part, closed)
    return (
        f"one of {closed.payments} payments of {name} between {len(sides)} participants, whose "
        f"positions sum to zero; {decision}; {shown_text}"
    )


def _net_sides(positions: Sequence[NetPosition]) -> Sides:
    return sides_of(
        [((each.participant, 0), each) for each in positions], "together.closed.positions"
    )


def _check_decided(dossier: Dossier, part: Netted, closed: CycleClosed) -> str:
    """What became of the closed cycle, in words. Raises Fault, Missing."""
    record, decided = part.record, part.decided
    if record.status not in (SETTLED_CYCLE, UNWOUND):
        meaning = "The cycle's record says that it is not decided."
        same("together.decided", None, None if decided is None else "a decision", meaning)
        return "not decided yet"
    if decided is None:
        raise Missing("the outcome that decided its clearing cycle is not in the dossier")
    _check_placed(dossier, decided, "together.decided")
    event, meaning = decided.outcome.event, "It is not the decision that the record tells of."
    kind = CycleSettled if record.status == SETTLED_CYCLE else CycleUnwound
    if not isinstance(event, CycleSettled | CycleUnwound) or type(event) is not kind:
        raise Fault("together.decided.event", kind.__name__, type(event).__name__, meaning)
    same("together.decided.height", record.decided, decided.outcome.height, meaning)
    same("together.decided.asset", closed.asset, event.asset, meaning)
    same("together.decided.cycle", closed.cycle, event.cycle, meaning)
    if isinstance(event, CycleUnwound):
        return f"unwound in block {record.decided}: none of them settled"
    _check_waterfall(closed, event)
    short = len(event.shortfalls)
    said = f"; what {short} of them lacked was paid by the rules" if short else ""
    return f"settled in block {record.decided}{said}"


def _check_waterfall(closed: CycleClosed, settled: CycleSettled) -> None:
    payers = {cover.participant for each in settled.shortfalls for cover in each.covers}
    payers |= {each.participant for each in settled.survivors}
    if len(settled.shortfalls) * len(payers) ** 2 > MAX_SHARES:
        raise Missing("the waterfall has too many payers to be worked out here; audit the chain")
    try:
        recompute(closed, settled)
    except NotReproducible as error:
        meaning = "The loss was not shared by the rules."
        raise Fault("together.decided.event", "the waterfall by the rules", error, meaning) from (
            error
        )


def _check_placed(dossier: Dossier, placed: Placed, where: str) -> None:
    """That the block of an outcome's height holds it. Raises Fault."""
    outcome = placed.outcome
    header = BlocksByHeight(dossier).at(outcome.height, f"{where}.outcome.height").header
    included(
        f"{where}.place",
        outcome_leaf(encode(outcome)),
        placed.place,
        size=header.outcomes_count,
        root=header.outcomes_root,
        meaning="The block does not hold this outcome here.",
    )
