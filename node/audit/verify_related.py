"""The part of a dossier that says what was said about the payment afterwards: recalls, returns,
disputes, and the creditor's acknowledgement (ISO/IEC 13888: delivery).

None of it changes what became of the payment. Whatever is there is held to what was signed and
committed all the same; that there was nothing else, nothing shows.
"""

from __future__ import annotations

from node.audit.dossier import (
    Dossier,
    Netted,
    Related,
)
from node.audit.fault import Absent, Fault, Missing, same
from node.audit.verify_changes import used_anew
from node.audit.verify_finality import BlocksByHeight, check_row, checkpoint, included
from node.audit.verify_order import order_of
from node.audit.wording import amount_text, party_text
from node.chain.block import header_digest, outcome_leaf
from node.chain.encoding import encode
from node.chain.genesis import Genesis
from node.chain.instruction import payment_digest
from node.chain.records import DisputeKey
from node.chain.statuses import REJECTED, UNDECIDED, status_word
from node.chain.types import (
    Acknowledge,
    DecideDispute,
    OpenDispute,
    Payment,
    Recall,
    RefuseRecall,
    Return,
    SubmitEvidence,
)


def check_related(dossier: Dossier, genesis: Genesis) -> str:
    """That what is said to be about the payment is, was accepted, and agrees with its dispute."""
    blocks, told, below, late = BlocksByHeight(dossier), list[str](), (-1, -1), ""
    first, anew = dossier.steps[0].outcome.height, used_anew(dossier)
    for number, related in enumerate(dossier.related):
        where, outcome = f"related[{number}]", related.outcome
        at = outcome.height, related.act.place.index
        if at <= below:
            meaning = "They stand in the order of the chain, each once."
            raise Fault(where, f"above {below}", at, meaning)
        below = at
        if outcome.height < first:
            meaning = "It is about a payment that the UETR named before."
            raise Fault(f"{where}.outcome.height", f"at least {first}", outcome.height, meaning)
        header = blocks.at(outcome.height, f"{where}.outcome.height").header
        included(
            f"{where}.place",
            outcome_leaf(encode(outcome)),
            related.place,
            size=header.outcomes_count,
            root=header.outcomes_root,
            meaning="The block does not hold this outcome here.",
        )
        _check_accepted(where, related)
        told.append(_about(dossier, where, related, genesis))
        late = late or (where if anew is not None and outcome.height >= anew else "")
    told += _check_dispute(dossier, genesis)
    if late:
        raise Missing(f"{late} may be about the payment that took the UETR in block {anew}")
    if not told:
        raise Absent("nothing is shown that was said about it; whether something was, is not shown")
    return "; ".join(told[:8])


def _check_accepted(where: str, related: Related) -> None:
    """That the outcome is the instruction's own, and no rejection. Raises Fault."""
    outcome, body = related.outcome, related.act.signed.envelope.body
    meaning = "The outcome belongs to another instruction."
    for field, expected in (
        ("instruction", related.act.place.index),
        ("payment", 0),
        ("uetr", body.payment.uetr if isinstance(body, Return) else None),
        ("original", None),
        ("content", None),
    ):
        same(f"{where}.outcome.{field}", expected, getattr(outcome, field), meaning)
    if outcome.status == REJECTED:
        meaning = "The ledger did not accept it."
        raise Fault(f"{where}.outcome.status", "an acceptance", outcome.status, meaning)


def _about(dossier: Dossier, where: str, related: Related, genesis: Genesis) -> str:
    """What was said, in words. Raises Fault unless it is about this payment, by a party of it."""
    order, envelope = order_of(dossier), related.act.signed.envelope
    body, sender = envelope.body, envelope.sender
    if not isinstance(order, Payment):
        raise Fault(where, "nothing", type(body).__name__, "Only payments are spoken of later.")
    shown: Payment | None = None
    match body:
        case Recall(original=shown) | RefuseRecall(original=shown) | Return(original=shown):
            by = {order.debtor} if isinstance(body, Recall) else {order.creditor}
        case OpenDispute(original=shown):
            by = {order.debtor, order.creditor}
        case Acknowledge(payment=shown):
            by = {order.creditor}
        case SubmitEvidence():
            by = {order.debtor, order.creditor}
        case DecideDispute():
            by = {sender} - {order.debtor, order.creditor}
        case _:
            meaning = "Such an instruction is about no payment of others."
            raise Fault(f"{where}.act.body", "something about it", type(body).__name__, meaning)
    meaning = "It is about another payment."
    if shown is not None:
        same(f"{where}.act.body", payment_digest(order), payment_digest(shown), meaning)
    else:
        assert isinstance(body, SubmitEvidence | DecideDispute)
        same(f"{where}.act.body.uetr", order.uetr, body.uetr, meaning)
    if sender not in by:
        meaning = "It was not this participant's to say."
        raise Fault(f"{where}.act.sender", " or ".join(sorted(by)) or "no party", sender, meaning)
    said = _WORDS[type(body)]
    if isinstance(body, Return):
        outcome = related.outcome
        said += (
            f" of {amount_text(body.payment.amount, body.payment.asset, genesis)} "
            f"({status_word(outcome.status, outcome.reason)} at first)"
        )
    return f"{said} by {party_text(sender, genesis)} in block {related.outcome.height}"


_WORDS: dict[type, str] = {
    Recall: "recall",
    RefuseRecall: "refusal of a recall",
    Return: "return",
    OpenDispute: "dispute",
    SubmitEvidence: "document on record",
    DecideDispute: "verdict",
    Acknowledge: "acknowledgement",
}


def _check_dispute(dossier: Dossier, genesis: Genesis) -> list[str]:
    """That the dispute's record is this payment's and agrees with what was said. Raises Fault,
    Missing."""
    said = [
        (related.outcome.height, related.act.signed.envelope)
        for related in dossier.related
        if isinstance(
            related.act.signed.envelope.body, OpenDispute | SubmitEvidence | DecideDispute
        )
    ]
    row = dossier.dispute
    if row is None:
        if said:
            raise Missing("it is disputed, and how the dispute stands is not in the dossier")
        return []
    order, record = order_of(dossier), row.record
    check_row(
        "dispute",
        encode(DisputeKey(order.uetr)),
        encode(record),
        row.proof,
        checkpoint(dossier).state_root,
    )
    meaning = "It is the dispute of another payment."
    if not isinstance(order, Payment):
        raise Fault("dispute", "none", "a dispute", meaning)
    same("dispute.debtor", order.debtor, record.debtor, meaning)
    same("dispute.creditor", order.creditor, record.creditor, meaning)
    if record.opened < dossier.steps[0].outcome.height:
        expected = f"at or above {dossier.steps[0].outcome.height}"
        raise Fault("dispute.opened", expected, record.opened, meaning)
    meaning = "The state tells of the dispute otherwise than what was said."
    filed = frozenset(record.evidence)
    for height, envelope in said:
        match envelope.body:
            case OpenDispute(reason=reason):
                opened = (record.opened, record.opened_by, record.reason)
                same("dispute.opened", opened, (height, envelope.sender, reason), meaning)
            case SubmitEvidence(document=document):
                if (envelope.sender, document) not in filed:
                    raise Fault("dispute.evidence", document, "not there", meaning)
            case DecideDispute(verdict=verdict):
                same("dispute.verdict", record.verdict, verdict, meaning)
    if not any(isinstance(envelope.body, OpenDispute) for _, envelope in said):
        # The state knows disputes by UETR alone, and may know that of a later payment under it.
        raise Missing("which payment is disputed, only the opening of the dispute could show")
    verdict_text = "undecided" if record.verdict is None else record.verdict.name.lower()
    by = party_text(record.opened_by, genesis)
    return [f"disputed by {by} in block {record.opened} (reason {record.reason}): {verdict_text}"]


def delivery(dossier: Dossier, genesis: Genesis) -> str:
    """What the receiving institution acknowledged (ISO/IEC 13888 non-repudiation of delivery)."""
    digests = {block.header.height: header_digest(block.header) for block in dossier.blocks}
    outcomes = [step.outcome for step in dossier.steps]
    if isinstance(dossier.together, Netted) and dossier.together.decided is not None:
        outcomes.append(dossier.together.decided.outcome)
    seen = {
        (outcome_leaf(encode(each)), digests[each.height]): each
        for each in outcomes
        if each.height in digests
    }
    others = 0
    for related in reversed(dossier.related):
        envelope = related.act.signed.envelope
        if not isinstance(envelope.body, Acknowledge):
            continue
        outcome = seen.get((envelope.body.outcome, envelope.body.block))
        if outcome is not None:
            which = "latest" if outcome.status in UNDECIDED else "final"
            which = which if outcome is outcomes[-1] else "an earlier"
            return (
                f"{party_text(envelope.sender, genesis)} acknowledged in block "
                f"{related.outcome.height} to have seen its {which} outcome, of block "
                f"{outcome.height}"
            )
        others += 1
    if others:
        return "what the receiving institution acknowledged is none of the outcomes shown here"
    return "no acknowledgement of the receiving institution; finality needs none"
