"""Making the dossier of one payment from a chain's store.

Nothing here is trusted by anybody: a dossier proves itself (`verify`). What this must get right
is to find the parts, and to say what storage lacks. The checkpoint is the last final block, so the
dossier tells what is true as of now.
"""

from __future__ import annotations

from node.audit.build_chain import (
    EvidenceTooLarge,
    EvidenceUnavailable,
    history_path,
    prove_blocks,
)
from node.audit.build_parts import DossierSource, OpenBlocks, Parts
from node.audit.build_related import NOTHING_SAID, what_was_said
from node.audit.build_together import ALL, settled_together
from node.audit.dossier import (
    MAX_DOSSIER_BYTES,
    MAX_STEPS,
    AccountRow,
    Balances,
    Dossier,
    PaymentPart,
    PaymentRow,
    Pinned,
    Step,
    encode_dossier,
)
from node.chain.block import header_digest
from node.chain.bodies import body_payments
from node.chain.records import AccountKey, AccountRecord, PaymentKey, PaymentRecord
from node.chain.statuses import FINAL_SETTLED
from node.chain.types import (
    AccountKind,
    CycleSettled,
    Issue,
    MoveOwn,
    Outcome,
    OutcomePlace,
    Pay,
    Payment,
    Redeem,
    Return,
    SignedEnvelope,
)
from node.ledger.entries import UetrEntry
from node.ledger.reasons import DUPLICATE, WITHOUT_AUTHORITY

__all__ = [
    "ALL",
    "DossierSource",
    "EvidenceTooLarge",
    "EvidenceUnavailable",
    "OpenBlocks",
    "build_dossier",
]

SETTLEMENT = AccountKind.SETTLEMENT
CHANGES_NOT_HERE = (
    "A node that began with a snapshot knows nothing of what was before; an archive node does"
)


def build_dossier(
    source: DossierSource,
    entry: UetrEntry,
    *,
    clear: str | None = None,
    checkpoint: int | None = None,
    blocks: OpenBlocks | None = None,
) -> bytes:
    """The dossier of what `entry` says where to find: a payment, issue, redemption or move.

    `clear`: who reads it, if the payments that settled together with it are to be shown: the LEI of
    a participant, which sees its own in clear, or `all`. `checkpoint`: height of a block whose
    place in this history is to be shown, for a reader who knows it. `blocks`: of this source, kept
    open from one dossier to the next.

    Raises EvidenceUnavailable."""
    parts = Parts(OpenBlocks(source) if blocks is None else blocks)
    data = encode_dossier(_assemble(parts, entry, clear, checkpoint))
    if len(data) > MAX_DOSSIER_BYTES:
        raise EvidenceTooLarge(
            f"the dossier would have {len(data):,} bytes, more than the {MAX_DOSSIER_BYTES:,} that "
            "one may have; ask for it without the other payments in clear"
        )
    return data


def _assemble(parts: Parts, entry: UetrEntry, clear: str | None, checkpoint: int | None) -> Dossier:
    steps = _steps(parts, entry)
    act = steps[0].act
    assert act is not None, "a first outcome is of an instruction"
    part = None
    if isinstance(act.signed.envelope.body, Pay):
        part = parts.payment_part(OutcomePlace(entry.height, entry.instruction, entry.payment))
    payment = _payment(act.signed, part, entry.payment)
    stands = _stands(steps[0].outcome)
    row = _row(parts, entry, steps) if stands else None
    together, decided, said = None, None, NOTHING_SAID
    if payment is not None and stands:
        together, decided = settled_together(parts, entry, payment, steps, clear)
        outcomes = [*(step.outcome for step in steps), *([] if decided is None else [decided])]
        said = what_was_said(parts, entry, payment, outcomes, _used_anew(entry, row))
    moved = _moved_at(steps[-1].outcome, decided)
    debtor, creditor = None, None
    if moved is not None:
        debtor, creditor = (_balances(parts, moved, key) for key in _accounts(act.signed, payment))
    pinned = None if checkpoint is None else _pinned(parts, checkpoint)
    # Last: by now it is known of which heights something is shown.
    proven = prove_blocks(parts.source, parts.checkpoint, parts.needed)
    return Dossier(
        blocks=proven.blocks,
        epochs=proven.epochs,
        finality=proven.finality,
        payment=part,
        steps=tuple(steps),
        row=row,
        debtor=debtor,
        creditor=creditor,
        together=together,
        related=said.related,
        dispute=said.dispute,
        receipt=None,
        pinned=pinned,
    )


# --- what was ordered -----------------------------------------------------------------------------


def _payment(signed: SignedEnvelope, part: PaymentPart | None, number: int) -> Payment | None:
    """The payment that the first outcome is of; None: the body itself is what it moves."""
    if part is not None:
        return part.payment
    body = signed.envelope.body
    if isinstance(body, Issue | Redeem | MoveOwn):
        return None
    # Of a return the first is the payment itself, the second what it gives back.
    payments = body_payments(body)[:1] if isinstance(body, Return) else body_payments(body)
    if number < len(payments):
        return payments[number]
    raise EvidenceUnavailable(
        f"a {type(body).__name__} has no payment {number}: the index and the block disagree"
    )


def _accounts(
    signed: SignedEnvelope, payment: Payment | None
) -> tuple[AccountKey | None, AccountKey | None]:
    """(debtor's, creditor's) account."""
    if payment is not None:
        return (
            AccountKey(payment.debtor, payment.asset, payment.debtor_account),
            AccountKey(payment.creditor, payment.asset, payment.creditor_account),
        )
    body, sender = signed.envelope.body, signed.envelope.sender
    match body:
        case Issue():
            return None, AccountKey(body.creditor, body.asset, SETTLEMENT)
        case Redeem():
            return AccountKey(sender, body.asset, SETTLEMENT), None
        case MoveOwn():
            return (
                AccountKey(sender, body.asset, body.source),
                AccountKey(sender, body.asset, body.target),
            )
        case other:
            raise AssertionError(f"{type(other).__name__} moves nothing itself")


# --- what became of it ----------------------------------------------------------------------------


def _steps(parts: Parts, entry: UetrEntry) -> list[Step]:
    """Every outcome up to the checkpoint, in order."""
    steps: list[Step] = []
    shown: tuple[int, int | None] | None = None
    for height, index in _places(parts, entry):
        placed = parts.placed(height, index)
        outcome, act = placed.outcome, None
        if outcome.instruction is not None and shown != (height, outcome.instruction):
            act = parts.act(height, outcome.instruction)
        shown = height, outcome.instruction
        steps.append(Step(outcome, placed.place, act))
    return steps


def _places(parts: Parts, entry: UetrEntry) -> list[tuple[int, int]]:
    """(height, index) of the payment's outcomes, the first one first."""
    first = _first(parts, entry)
    named = OutcomePlace(entry.height, entry.instruction, entry.payment)
    if not _stands(parts.outcome(*first)):
        return [first]
    changes: list[tuple[int, int]] = []
    for height, index in parts.source.outcomes_of(entry.uetr, entry.height):
        if height > parts.checkpoint.height:
            break  # it was not final when this began
        outcome = parts.outcome(height, index)
        if outcome.content is None or outcome.original != named:
            continue  # its first one, or one of a payment that has taken its UETR since
        if len(changes) + 1 == MAX_STEPS:
            raise EvidenceTooLarge(f"the payment has more than {MAX_STEPS:,} outcomes")
        changes.append((height, index))
    return [first, *changes]


def _first(parts: Parts, entry: UetrEntry) -> tuple[int, int]:
    for index, outcome in parts.outcomes_where(entry.height, entry.uetr):
        here = (outcome.instruction, outcome.payment) == (entry.instruction, entry.payment)
        if here and outcome.uetr == entry.uetr and outcome.content is None:
            return entry.height, index
    raise EvidenceUnavailable(
        f"block {entry.height} has no outcome [{entry.instruction}, {entry.payment}] under UETR "
        f"{entry.uetr.hex()}: the index and the block disagree"
    )


def _stands(first: Outcome) -> bool:
    """Whether this outcome used up the UETR. If not, the state under it is another order's."""
    if first.original is not None:
        return False
    return first.reason != DUPLICATE and first.reason not in WITHOUT_AUTHORITY


def _row(parts: Parts, entry: UetrEntry, steps: list[Step]) -> PaymentRow:
    checkpoint = parts.checkpoint.height
    record, proof = parts.proven(checkpoint, PaymentKey(entry.uetr), PaymentRecord)
    first = OutcomePlace(entry.height, entry.instruction, entry.payment)
    if record is not None and record.first == first:
        found = sum(step.outcome.height > entry.height for step in steps)
        if found != record.changes:
            raise EvidenceUnavailable(
                f"{record.changes} outcomes of the payment followed its first block, {found} are "
                f"known here. {CHANGES_NOT_HERE}"
            )
    return PaymentRow(record, proof)


def _used_anew(entry: UetrEntry, row: PaymentRow | None) -> int | None:
    """From which height on the UETR is another payment's; None: the record says nothing of one."""
    record = None if row is None else row.record
    anew = record is not None and record.first.height > entry.height
    return record.first.height if record is not None and anew else None


# --- what it did to the books ---------------------------------------------------------------------


def _moved_at(last: Outcome, decided: Outcome | None) -> int | None:
    """Height of the block in which money moved; None: none did."""
    if decided is not None:
        return decided.height if isinstance(decided.event, CycleSettled) else None
    repeats = last.original is not None and last.content is None
    return last.height if last.status in FINAL_SETTLED and not repeats else None


def _balances(parts: Parts, height: int, account: AccountKey | None) -> Balances | None:
    if account is None:
        return None
    parts.use(height, parent=True)
    before, after = (
        AccountRow(*parts.proven(each, account, AccountRecord)) for each in (height - 1, height)
    )
    return Balances(before, after)


def _pinned(parts: Parts, height: int) -> Pinned | None:
    """The place of an earlier block in the checkpoint's history; None: it is the checkpoint."""
    checkpoint = parts.checkpoint.height
    if height > checkpoint:
        raise EvidenceUnavailable(
            f"block {height} is not final here: the last one that is has height {checkpoint}"
        )
    if height == checkpoint:
        return None
    digest = header_digest(parts.header(height))
    return Pinned(height, digest, history_path(parts.source, height, checkpoint))
