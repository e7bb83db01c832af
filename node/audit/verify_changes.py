"""The part of a dossier that says what became of the payment, up to the checkpoint.

Four checks: the blocks hold the outcomes (`check_outcome`); they are this payment's and no other's
(`check_link`); each follows from the one before and from the order that brought it about
(`check_changes`); and they are all there are (`check_record`), because the checkpoint's state
counts and chains every outcome in a later block than the first, or holds none where there is none.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

from node.audit.dossier import Dossier, PaymentRow, Step
from node.audit.fault import Fault, Missing, same
from node.audit.verify_finality import BlocksByHeight, checkpoint, included
from node.audit.verify_order import Order, content_of, first_act, order_of, shares_act
from node.audit.wording import amount_text, time_text
from node.chain.block import outcome_leaf
from node.chain.encoding import encode
from node.chain.genesis import Genesis
from node.chain.merkle import ProofError
from node.chain.records import PaymentKey, PaymentRecord
from node.chain.state_map import verify_absent, verify_present
from node.chain.statuses import (
    ACCEPTED,
    CANCELLED,
    EXPIRED_REASON,
    HELD,
    POSTED,
    QUEUED,
    REJECTED,
    SETTLED,
    STATUSES,
    UNDECIDED,
    status_word,
)
from node.chain.types import (
    Approve,
    Cancel,
    Carried,
    Freeze,
    Hold,
    InstructionBody,
    Joined,
    LiftSuspension,
    Link,
    Mode,
    Outcome,
    OutcomePlace,
    Pay,
    Payment,
    Post,
    Posted,
    Propose,
    Release,
    Reprioritise,
    Reserve,
    Return,
    Returns,
    SuspendParticipant,
    Together,
    Void,
)

NO_CHANGES = bytes(32)
"""Where the hash chain of a payment's changes starts."""
DUPLICATE = "AM05"
"""ISO 20022 reason: the UETR was used before, for other content."""
USES_UP_NOTHING = frozenset({DUPLICATE, "AG08", "DS0G", "DS0H"})
"""Reasons of rejections that leave the UETR to whom it belongs: used before, or sent by somebody
who had no say over the payment."""

# --- in the blocks ------------------------------------------------------------------------------


def check_outcome(dossier: Dossier, genesis: Genesis) -> str:
    """That the blocks hold these outcomes, in this order."""
    blocks, below = BlocksByHeight(dossier), (-1, -1)
    for number, step in enumerate(dossier.steps):
        where, outcome = f"steps[{number}]", step.outcome
        header = blocks.at(outcome.height, f"{where}.outcome.height").header
        included(
            f"{where}.place",
            outcome_leaf(encode(outcome)),
            step.place,
            size=header.outcomes_count,
            root=header.outcomes_root,
            meaning="The block does not hold this outcome here.",
        )
        same(f"{where}.outcome.time", header.timestamp, outcome.time, "It is of another block.")
        at = outcome.height, step.place.index
        if at <= below:
            meaning = "Outcomes stand in the order in which they came about, each once."
            raise Fault(f"{where}.place", f"above {below}", at, meaning)
        below = at
        if outcome.status not in STATUSES:
            meaning = "It is no known status."
            raise Fault(f"{where}.outcome.status", " or ".join(STATUSES), outcome.status, meaning)
    last = dossier.steps[-1].outcome
    earlier = [_word(step.outcome) for step in dossier.steps[:-1]]
    told = f"{', '.join(earlier[-5:])}, then " if earlier else ""
    told += f"{_word(last)} ({last.status}"
    told += f", reason {last.reason})" if last.reason else ")"
    for party, balance in (("debtor", last.debtor_balance), ("creditor", last.creditor_balance)):
        if balance is not None:
            told += f", {party}'s balance then {balance} minor units"
    return f"{told}, in block {last.height} at {time_text(last.time)}"


def _word(outcome: Outcome) -> str:
    return status_word(outcome.status, outcome.reason)


def place_of(dossier: Dossier) -> OutcomePlace:
    """What later outcomes, and the payment's record, call it by: the place of the first one."""
    first = dossier.steps[0].outcome
    instruction = first_act(dossier).place.index
    return OutcomePlace(first.height, instruction, first.payment)


def check_link(dossier: Dossier, genesis: Genesis) -> str:
    """That the outcomes are this payment's and not another one's of the same blocks."""
    order, part, first = order_of(dossier), dossier.payment, dossier.steps[0].outcome
    meaning = "The outcome belongs to another payment."
    number = 0 if part is None else part.place.index
    if isinstance(first_act(dossier).signed.envelope.body, Link):
        number = first.payment  # that this leg is the sender's own is for `check_payment`
    same("steps[0].outcome.payment", number, first.payment, meaning)
    instruction = first_act(dossier).place.index
    same("steps[0].outcome.instruction", instruction, first.instruction, meaning)
    same("steps[0].outcome.uetr", order.uetr, first.uetr, meaning)
    same("steps[0].outcome.content", None, first.content, "It is a later one, not the first.")
    place, content = place_of(dossier), content_of(order)
    for index, step in enumerate(dossier.steps[1:], 1):
        outcome, where = step.outcome, f"steps[{index}].outcome"
        same(f"{where}.uetr", order.uetr, outcome.uetr, meaning)
        same(f"{where}.original", place, outcome.original, meaning)
        same(f"{where}.payment", number, outcome.payment, meaning)
        if content is None or outcome.content != content:
            raise Fault(f"{where}.content", content, outcome.content, meaning)
    return f"{len(dossier.steps)} outcome(s) of [{instruction}, {number}] under this UETR"


# --- one from the other -------------------------------------------------------------------------


def check_changes(dossier: Dossier, genesis: Genesis) -> str:
    """That each outcome can follow from the one before, and from the order that it names."""
    order, first, act = order_of(dossier), dossier.steps[0], first_act(dossier)
    _check_event("steps[0].outcome", dossier, order, first)
    for index, (before, step) in enumerate(pairwise(dossier.steps), 1):
        where, status = f"steps[{index}]", before.outcome.status
        if status not in UNDECIDED or is_silent(first.outcome):
            meaning = "Nothing changes a payment that is decided."
            expected = " or ".join(sorted(UNDECIDED))
            raise Fault(f"steps[{index - 1}].outcome.status", expected, status, meaning)
        _check_event(f"{where}.outcome", dossier, order, step)
        if step.outcome.instruction is None:
            _check_by_itself(where, step.outcome)
            continue
        act = act if step.act is None and shares_act(before, step) else step.act or act
        _check_apt(where, dossier, order, act.signed.envelope.sender, act.signed.envelope.body)
        _check_result(where, act.signed.envelope.body, step.outcome)
    count, last = len(dossier.steps) - 1, dossier.steps[-1].outcome.event
    if not count:
        return "its first outcome is its only one"
    ordered = sum(step.outcome.instruction is not None for step in dossier.steps[1:])
    told = f"{count} change(s), {ordered} of them by an order that is shown"
    if isinstance(last, Posted):
        told += f"; {amount_text(last.amount, order.asset, genesis)} settled"
    return told


def _check_by_itself(where: str, outcome: Outcome) -> None:
    """The block itself settles what waits, or lets it expire, and does nothing else to it."""
    said = (outcome.status, outcome.reason)
    if said not in ((SETTLED, None), (CANCELLED, EXPIRED_REASON)):
        meaning = "Without an order a payment only settles or expires."
        raise Fault(f"{where}.outcome.status", "settled or expired", _word(outcome), meaning)


def _check_apt(where: str, dossier: Dossier, order: Order, sender: str, body: object) -> None:
    """That this order could be about this payment, and came from who may give it."""
    if not isinstance(order, Payment):
        meaning = "Only a payment has later outcomes."
        raise Fault(f"{where}.outcome", "none", f"one of {type(order).__name__}", meaning)
    ordered = first_act(dossier).signed.envelope.body
    # Payments that settle all or none wait as one entry: an order about any is about all.
    grouped = isinstance(ordered, Pay) and ordered.all_or_none
    parties = {order.debtor, order.creditor}
    match body:
        case Cancel() | Hold() | Release() | Reprioritise():
            apt = (grouped or body.uetr == order.uetr) and sender == order.debtor
        case Post() if isinstance(ordered, Reserve):
            shown = body.preimage is not None and ordered.hash_lock is not None
            opened = shown and sha256(body.preimage or b"").digest() == ordered.hash_lock
            apt = body.uetr == order.uetr and (opened or sender == ordered.poster)
        case Void() if isinstance(ordered, Reserve):
            apt = body.uetr == order.uetr and sender == order.creditor
        case Freeze():
            apt = grouped or body.participant in parties
        case Propose():
            apt = any(
                isinstance(each, SuspendParticipant | LiftSuspension)
                and (grouped or each.lei in parties)
                for each in body.changes
            )
        case Approve():
            apt = True  # of which proposal, its digest says; what that was, the whole chain
        case _:
            apt = False
    if not apt:
        raise Fault(
            f"{where}.act.body",
            "an order that is about this payment, by who may give it",
            f"{type(body).__name__} by {sender}",
            "This instruction cannot have brought the change about.",
        )


def _check_result(where: str, body: InstructionBody, outcome: Outcome) -> None:
    """That the change is one that this kind of order makes."""
    match body:
        case Cancel() | Void():
            expected: tuple[str, ...] = (CANCELLED,)
        case Hold():
            expected = (HELD,)
        case Post():
            expected = (POSTED,)
        case _:
            expected = (QUEUED, HELD)
    if outcome.status not in expected:
        meaning = f"A {type(body).__name__} makes no such change."
        raise Fault(f"{where}.outcome.status", " or ".join(expected), outcome.status, meaning)


def _check_event(where: str, dossier: Dossier, order: Order, step: Step) -> None:
    """That what the outcome tells besides its status fits what was ordered."""
    outcome, body = step.outcome, first_act(dossier).signed.envelope.body
    event, is_first = outcome.event, step is dossier.steps[0]
    match event:
        case None:
            # A retry repeats the status alone.
            told = outcome.original is not None and is_first
            fits = told or outcome.status not in (POSTED, *((ACCEPTED,) if is_first else ()))
        case Joined():
            net = isinstance(order, Payment) and order.mode is Mode.NET
            fits = is_first and net and outcome.status == ACCEPTED
        case Together():
            agreed = is_first and isinstance(body, Link) and outcome.status == ACCEPTED
            fits = agreed or (not is_first and outcome.status == SETTLED)
        case Posted():
            fits = not is_first and outcome.status == POSTED and 0 < event.amount <= order.amount
        case Returns():
            is_return = isinstance(body, Return) and event.original == body.original.uetr
            fits = is_first and is_return and outcome.status != REJECTED
        case Carried():
            carries = isinstance(order, Payment) and event.previous == order.previous
            fits = is_first and carries and outcome.status != REJECTED
        case _:
            fits = False
    if not fits:
        found = f"{outcome.status} with {'nothing' if event is None else type(event).__name__}"
        meaning = "It is not what becomes of such an order."
        raise Fault(f"{where}.event", "what this payment's outcome tells", found, meaning)


# --- all of them --------------------------------------------------------------------------------


def check_record(dossier: Dossier, genesis: Genesis) -> str:
    """That the checkpoint's state knows of no change that the dossier leaves out."""
    order, row = order_of(dossier), dossier.row
    first, last = dossier.steps[0].outcome, dossier.steps[-1].outcome
    height = checkpoint(dossier).height
    if is_silent(first):
        meaning = "The state says nothing of an order that did not use up its UETR."
        same("row", None, None if row is None else "a row", meaning)
        if first.status in UNDECIDED:
            raise Missing("this repeats how the payment stood then, not what became of it later")
        return "this outcome used up no UETR: the state has nothing to say of it"
    if row is None:
        raise Missing("there is no proof of what became of the payment later")
    record = _recorded(dossier, order, row)
    decided = last.status not in UNDECIDED or isinstance(last.event, Joined)
    since = used_anew(dossier)
    if since is not None:
        anew = f"the UETR was used anew in block {since}"
        if not decided:
            raise Missing(
                f"{anew}: what became of this payment in between, the state does not tell any more"
            )
        return (
            f"nothing changes what is decided; {anew}: whether all changes before are shown, and "
            "whether it was given back, the state does not tell any more"
        )
    if record is None or record.first.height < first.height:
        later = [step for step in dossier.steps if step.outcome.height > first.height]
        meaning = "The state knows of no change in a later block."
        same("steps", 0, len(later), meaning)
        if not decided:
            meaning = "A payment that waits has a record: a later outcome is left out."
            raise Fault("row.record", "a record", None, meaning)
        return f"up to block {height} nothing changed after its first block"
    _check_complete(dossier, order, record)
    told = f"up to block {height} {record.changes} change(s) after its first block, all shown"
    for amount, words in ((record.returned, "given back"), (record.returning, "being returned")):
        if amount:
            told += f"; {amount_text(amount, order.asset, genesis)} {words}"
    return f"{told}; recall {record.recall}" if record.recall else told


def is_silent(first: Outcome) -> bool:
    """Whether the outcome left no trace in the state: a retry, or a rejection that used up no
    UETR."""
    rejected = first.status == REJECTED and first.reason in USES_UP_NOTHING
    return rejected or first.original is not None


def used_anew(dossier: Dossier) -> int | None:
    """From which height on the UETR is another payment's; None: the record says nothing of one."""
    record = None if dossier.row is None else dossier.row.record
    anew = record is not None and record.first.height > dossier.steps[0].outcome.height
    return record.first.height if record is not None and anew else None


def _recorded(dossier: Dossier, order: Order, row: PaymentRow) -> PaymentRecord | None:
    """The record under the UETR in the checkpoint's state. Raises Fault."""
    root, key = checkpoint(dossier).state_root, encode(PaymentKey(order.uetr))
    try:
        if row.record is None:
            verify_absent(root, key, row.proof)
        else:
            verify_present(root, key, encode(row.record), row.proof)
    except ProofError as error:
        expected = f"what the checkpoint's state has of this UETR, under {root.hex()}"
        meaning = "The checkpoint's state says something else of this payment."
        raise Fault("row", expected, error, meaning) from error
    return row.record


def _check_complete(dossier: Dossier, order: Order, record: PaymentRecord) -> None:
    """That the steps are those that the record counts and chains. Raises Fault."""
    first, last = dossier.steps[0].outcome, dossier.steps[-1].outcome
    meaning = "The record is another payment's."
    same("row.record.first", place_of(dossier), record.first, meaning)
    same("row.record.uetr", order.uetr, record.uetr, meaning)
    content = content_of(order)
    same("row.record.content", "none" if content is None else content, record.content, meaning)
    changes, chain = 0, NO_CHANGES
    for step in dossier.steps:
        if step.outcome.height > first.height:
            changes += 1
            chain = sha256(chain + outcome_leaf(encode(step.outcome))).digest()
    meaning = "A change is left out, or one is shown that there never was."
    same("row.record.changes", record.changes, changes, meaning)
    same("row.record.chain", record.chain, chain, meaning)
    same("row.record.status", record.status, last.status, meaning)
