"""Participants under restriction: suspended by governance, frozen by a supervisor.

A suspended participant's instructions are refused and what it or others to it have in a queue is
held; frozen debits or credits hold the payments that would make them. What is set aside, in a
closed cycle or bound by a link stands. Once no party of an entry is restricted any more it waits
again, at the end of its priority, in the old order. The ledger tells each change of a standing.
"""

from __future__ import annotations

from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import ConsentKey, ConsentRecord, ParticipantRecord
from node.chain.types import (
    MAX_VALIDITY_MS,
    NODE_SIGNED,
    Acknowledge,
    Consent,
    Freeze,
    InstructionBody,
    Issue,
    MoveOwn,
    Pay,
    Redeem,
    RegisterKey,
    Reserve,
    RestrictionChanged,
    Return,
    RevokeKey,
)
from node.ledger import waiting
from node.ledger.due import DueKind
from node.ledger.queue import Entry
from node.ledger.reasons import (
    BAD_EXPIRY,
    CLOSED_PARTICIPANT,
    LIMIT_REACHED,
    NOTHING_TO_CHANGE,
    SAID_ALREADY,
    SETTLED,
    SUSPENDED,
    UNKNOWN_PARTICIPANT,
    WRONG_ROLE,
)
from node.ledger.state import Participant
from node.ledger.tables import CONSENTS, LINKS
from node.ledger.work import Work

SUPERVISOR = "supervisor"
MAX_CONSENTS = 10_000
"""Consents that wait for their payments; they lapse within a week."""

_JUDGED_ELSEWHERE = frozenset({Pay, Issue, Redeem, MoveOwn, Reserve, Return, *NODE_SIGNED})
"""Bodies that have a UETR, which their rejection uses up, and what nodes say by themselves."""
_NEVER_REFUSED = frozenset({Acknowledge, RegisterKey, RevokeKey})
"""What moves nothing and others rely on: proof of delivery, and the end of a stolen key."""


def refusal(work: Work, sender: str, body: InstructionBody) -> str | None:
    """Why nothing of the kind is executed for this sender now; None: its module says."""
    found = work.participant(sender)
    assert found is not None, "an unknown sender's instruction may not stand"
    record = found.record
    if not (record.suspended or record.closed) or type(body) in _JUDGED_ELSEWHERE:
        return None
    if record.closed:
        return CLOSED_PARTICIPANT
    return None if type(body) in _NEVER_REFUSED else SUSPENDED


def barred(record: ParticipantRecord) -> str | None:
    """Why a sender may not send what has a UETR of its own."""
    if record.suspended:
        return SUSPENDED
    return CLOSED_PARTICIPANT if record.closed else None


# --- suspension: by governance --------------------------------------------------------------------


def suspension_refusal(work: Work, lei: str, *, suspend: bool) -> str | None:
    """Why the participant cannot be suspended or its suspension lifted; None: it can."""
    found = work.participant(lei)
    if found is None:
        return UNKNOWN_PARTICIPANT
    if found.record.closed:
        return CLOSED_PARTICIPANT
    return NOTHING_TO_CHANGE if found.record.suspended is suspend else None


def put_suspension(work: Work, lei: str, *, suspend: bool) -> None:
    """Change the participant's record alone; `follow` does what follows from it."""
    found = work.participant(lei)
    assert found is not None, "judged before"
    work.put_participant(Participant(replace(found.record, suspended=suspend)))


# --- freezing: by a supervisor --------------------------------------------------------------------


def freeze(work: Work, index: int, checked: CheckedInstruction, body: Freeze) -> None:
    """Freeze a participant's debits, credits or both, or lift that, or reject the order."""
    reason = _freeze_refusal(work, checked.instruction.envelope.sender, body)
    if reason is not None:
        work.note(index, reason)
        return
    found = work.participant(body.participant)
    assert found is not None, "judged above"
    record = replace(found.record, debit_frozen=body.debit, credit_frozen=body.credit)
    work.put_participant(Participant(record))
    follow(work, index, body.participant)


def _freeze_refusal(work: Work, sender: str, body: Freeze) -> str | None:
    if not _is_supervisor(work, sender):
        return WRONG_ROLE
    found = work.participant(body.participant)
    if found is None:
        return UNKNOWN_PARTICIPANT
    record = found.record
    if record.closed:
        return CLOSED_PARTICIPANT
    standing = record.debit_frozen, record.credit_frozen
    return NOTHING_TO_CHANGE if standing == (body.debit, body.credit) else None


def follow(work: Work, index: int, lei: str) -> None:
    """Tell how a participant stands from now on, and hold or free the payments that this is
    about."""
    found = work.participant(lei)
    assert found is not None
    record = found.record
    standing = RestrictionChanged(lei, record.suspended, record.debit_frozen, record.credit_frozen)
    work.emit(index, SETTLED, event=standing)
    for entry in _entries_of(work, lei):
        waiting.restrict(work, entry.queued, instruction=index)
    for _, link in work.each_row(LINKS):
        if any(lei in (leg.debtor, leg.creditor) for leg in link.legs):
            for leg in link.legs:
                work.stir(leg.asset)


def _entries_of(work: Work, lei: str) -> list[Entry]:
    """Queue entries that the participant pays or is paid by, in the order in which they stood in
    line."""
    found: list[Entry] = []
    for account in work.queued_accounts():
        queue = work.queue(account)
        assert queue is not None
        if account[0] == lei:
            found += queue.entries.values()
        else:
            found += (
                entry
                for entry in queue.entries.values()
                if any(creditor == lei for creditor, _, _ in entry.credits)
            )
    places = {entry.uetr: _place(work, entry) for entry in found}
    return sorted(found, key=lambda entry: places[entry.uetr])


def _place(work: Work, entry: Entry) -> tuple[bool, int, int, int, int]:
    """Where an entry stood. One that has been held since it came never was in line: it comes after
    those that were."""
    record = waiting.row(work, entry.uetr)
    never = entry.queued.restricted and not entry.order and not record.changes
    first = record.first
    return never, entry.order, first.height, first.instruction, first.payment


# --- consent: by a supervisor ---------------------------------------------------------------------


def consent(work: Work, index: int, checked: CheckedInstruction, body: Consent) -> None:
    """Let one payment leave client reserve that otherwise could not, or reject the order."""
    sender = checked.instruction.envelope.sender
    reason = _consent_refusal(work, sender, body)
    if reason is None:
        record = ConsentRecord(sender, body.expires)
        work.put(CONSENTS, ConsentKey(body.payment), record)
        work.remind([(body.expires, DueKind.CONSENT, body.payment)])
    work.note(index, reason)


def _consent_refusal(work: Work, sender: str, body: Consent) -> str | None:
    if not _is_supervisor(work, sender):
        return WRONG_ROLE
    if not work.context.time < body.expires <= work.context.time + MAX_VALIDITY_MS:
        return BAD_EXPIRY
    if work.get(CONSENTS, ConsentKey(body.payment)) is not None:
        return SAID_ALREADY
    if sum(1 for _ in work.each_row(CONSENTS)) >= MAX_CONSENTS:
        return LIMIT_REACHED
    return None


def _is_supervisor(work: Work, lei: str) -> bool:
    found = work.participant(lei)
    return found is not None and SUPERVISOR in found.record.roles
