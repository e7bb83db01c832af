"""The part of a dossier that says what was ordered, and by whom (ISO/IEC 13888: origin).

Every signed instruction of the dossier is held to the same three questions: do the signatures fit
(`check_signatures`), were the keys the sender's when the block was made (`check_authority`), does
the block hold it (`check_instruction`). The first one ordered the payment (`check_payment`); what
the others did to it is for `verify_changes`, `verify_together` and `verify_related`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from node.audit.dossier import Act, Authority, Dossier, Linked, Step
from node.audit.fault import Fault, Missing, same
from node.audit.verify_finality import BlocksByHeight, included
from node.audit.wording import amount_text, party_text
from node.chain.encoding import encode
from node.chain.genesis import Genesis
from node.chain.instruction import payment_digest, signed_envelope_leaf
from node.chain.merkle import ProofError
from node.chain.records import ParticipantKey
from node.chain.signature import INSTRUCTION_DOMAIN, verify
from node.chain.state_map import verify_present
from node.chain.statuses import REJECTED
from node.chain.types import (
    Header,
    Issue,
    Link,
    MoveOwn,
    Pay,
    Payment,
    Redeem,
    Reserve,
    Return,
    SignedEnvelope,
)
from node.chain.uetr import is_uuid4, uetr_text

NO_PAYMENT = "the payment is not in the dossier"
MAX_UNCOMMITTED = 2_048
"""Signatures that are checked whether or not a final block holds what they sign. Anybody can sign
by the hundred thousand with keys of his own; to put that on the ledger is another matter."""

Order = Payment | Issue | Redeem | MoveOwn


class PlacedAct(NamedTuple):
    """A signed instruction of the dossier, and the height of the block that it stands in."""

    where: str
    act: Act
    height: int


def acts(dossier: Dossier) -> Iterator[PlacedAct]:
    """Every signed instruction of the dossier, each once."""
    for number, step in enumerate(dossier.steps):
        if step.act is not None:
            yield PlacedAct(f"steps[{number}].act", step.act, step.outcome.height)
    if isinstance(dossier.together, Linked):
        for number, agreement in enumerate(dossier.together.agreements):
            where = f"together.agreements[{number}].act"
            yield PlacedAct(where, agreement.act, agreement.height)
    for number, related in enumerate(dossier.related):
        yield PlacedAct(f"related[{number}].act", related.act, related.outcome.height)


# --- every instruction: whose it is, and where it stands --------------------------------------


def check_envelopes(dossier: Dossier, genesis: Genesis) -> None:
    """That every instruction was signed for this chain. Raises Fault."""
    meaning = "It was signed for another chain than the genesis file describes."
    for where, act, _ in acts(dossier):
        same(f"{where}.chain_id", genesis.chain_id, act.signed.envelope.chain_id, meaning)


def count_signatures(dossier: Dossier) -> int:
    """How many signatures all instructions bear together."""
    return sum(len(act.signed.signatures) for _, act, _ in acts(dossier))


def check_signatures(dossier: Dossier, genesis: Genesis) -> str:
    """That whoever is said to have signed did sign, each key once."""
    instructions = keys = 0
    for where, act, _ in acts(dossier):
        _check_signed(f"{where}.signatures", act.signed, genesis)
        instructions, keys = instructions + 1, keys + len(act.signed.signatures)
    return f"{instructions} instruction(s), signed by {keys} key(s) in all"


def _check_signed(where: str, signed: SignedEnvelope, genesis: Genesis) -> None:
    payload, previous = encode(signed.envelope), b""
    for signature in signed.signatures:
        key = signature.public_key
        if key <= previous:
            meaning = "A key is counted twice or out of order."
            raise Fault(where, "strictly ascending keys", key, meaning)
        previous = key
        if not verify(key, INSTRUCTION_DOMAIN, genesis.chain_id, payload, signature.signature):
            raise Fault(
                where,
                f"a signature by {key.hex()}",
                signature.signature,
                "The holder of this key did not sign this envelope.",
            )


def check_authority(dossier: Dossier, genesis: Genesis) -> str:
    """That the keys were the sender's, as many as its policy asks for, when the block was made."""
    blocks, missing, senders = BlocksByHeight(dossier), "", dict[str, str]()
    for where, act, height in acts(dossier):
        authority = act.authority
        if authority is None:
            missing = missing or where
            continue
        block = blocks.at(height, where)
        if block.parent is None:
            raise Fault(
                f"{where}.authority",
                "the block below, in whose state the keys stood",
                None,
                "Keys are proven in the state that their block builds on.",
            )
        _check_authority(where, act.signed, authority, block.header, block.parent)
        sender = authority.sender
        senders[sender.lei] = f"{sender.name} ({sender.lei}, {sender.bic})"
    if missing:
        raise Missing(f"there is no proof of whose the keys were that signed {missing}")
    return f"valid keys of {', '.join(list(senders.values())[:4])} at the height of each block"


def _check_authority(
    where: str, signed: SignedEnvelope, authority: Authority, header: Header, parent: Header
) -> None:
    sender = authority.sender
    key = encode(ParticipantKey(signed.envelope.sender))
    try:
        verify_present(parent.state_root, key, encode(sender), authority.proof)
    except ProofError as error:
        raise Fault(
            f"{where}.authority",
            f"the record of {signed.envelope.sender} under the parent's state_root",
            error,
            "The ledger did not hold this record for the sender.",
        ) from error
    same(f"{where}.authority.lei", signed.envelope.sender, sender.lei, "It is another's record.")
    known = {record.public_key: record for record in sender.keys}
    for signature in signed.signatures:
        record = known.get(signature.public_key)
        if record is None or not record.is_valid(header.height):
            raise Fault(
                f"{where}.signatures",
                f"a key of {sender.name} valid at height {header.height}",
                signature.public_key,
                "The signer had no authority for this sender at that height.",
            )
    if len(signed.signatures) < sender.threshold:
        raise Fault(
            f"{where}.signatures",
            f"at least {sender.threshold} keys",
            len(signed.signatures),
            "The sender's policy asks for more signatures.",
        )


def check_instruction(dossier: Dossier, genesis: Genesis) -> str:
    """That the blocks hold the instructions, and that no change lacks its own or has another's."""
    blocks = BlocksByHeight(dossier)
    for where, act, height in acts(dossier):
        header = blocks.at(height, where).header
        included(
            f"{where}.place",
            signed_envelope_leaf(act.signed),
            act.place,
            size=header.instructions_count,
            root=header.instructions_root,
            meaning="The block does not hold this signed instruction here.",
        )
    for number, (before, step) in enumerate(pairwise((None, *dossier.steps))):
        assert step is not None
        _check_given(f"steps[{number}]", before, step)
    first = first_act(dossier)
    return (
        f"{first.signed.envelope.id} is instruction {first.place.index} of block "
        f"{dossier.steps[0].outcome.height}"
    )


def _check_given(where: str, before: Step | None, step: Step) -> None:
    """That the step has its instruction exactly if it names one that the step before has not."""
    outcome, act = step.outcome, step.act
    named = outcome.instruction
    if named is not None and before is not None and shares_act(before, step):
        named = None
    if named is None:
        meaning = "No instruction of its own brought this change about."
        same(f"{where}.act", None, None if act is None else "an instruction", meaning)
        return
    meaning = "It was brought about by an instruction that is not shown."
    same(f"{where}.act", f"instruction {named}", _told(act), meaning)


def _told(act: Act | None) -> str:
    return "none" if act is None else f"instruction {act.place.index}"


def shares_act(before: Step, step: Step) -> bool:
    """Whether the instruction of the step before brought this one about, too."""
    one, other = before.outcome, step.outcome
    return (one.height, one.instruction) == (other.height, other.instruction)


# --- what was ordered ---------------------------------------------------------------------------


def first_act(dossier: Dossier) -> Act:
    """The instruction that ordered the payment. Raises Fault."""
    act = dossier.steps[0].act
    if act is None:
        meaning = "A payment begins with the instruction that orders it."
        raise Fault("steps[0].act", "the instruction", None, meaning)
    return act


def order_of(dossier: Dossier) -> Order:
    """What the first instruction ordered under this UETR. Raises Fault, Missing."""
    body, number = first_act(dossier).signed.envelope.body, dossier.steps[0].outcome.payment
    if isinstance(body, Pay):
        if dossier.payment is None:
            raise Missing(NO_PAYMENT)
        return dossier.payment.payment
    if isinstance(body, Issue | Redeem | MoveOwn):
        return body
    if isinstance(body, Reserve | Return) and number == 0:
        return body.payment
    if isinstance(body, Link) and number < len(body.legs):
        return body.legs[number]
    raise Fault(
        "steps[0].act.body",
        "an order about money",
        f"payment {number} of a {type(body).__name__}",
        "It orders no such payment.",
    )


def sender_of(dossier: Dossier) -> str:
    """LEI of whoever sent the first instruction. Raises Fault."""
    return first_act(dossier).signed.envelope.sender


def content_of(order: Order) -> bytes | None:
    """By what later outcomes name the payment; None: what is no payment never changes."""
    return payment_digest(order) if isinstance(order, Payment) else None


def payer(order: Order, genesis: Genesis) -> str | None:
    """Whose order it takes: the debtor's, or the issuer's of what is issued or redeemed; None: the
    sender's own, or nothing here tells."""
    if isinstance(order, Issue | Redeem):
        return next((a.issuer for a in genesis.assets if a.code == order.asset), None)
    return order.debtor if isinstance(order, Payment) else None


def check_payment(dossier: Dossier, genesis: Genesis) -> str:
    """That the payment is one that the sender signed, and its own to order."""
    body, part = first_act(dossier).signed.envelope.body, dossier.payment
    if isinstance(body, Pay):
        if part is None:
            raise Missing(NO_PAYMENT)
        included(
            "payment.place",
            payment_digest(part.payment),
            part.place,
            size=body.payments_count,
            root=body.payments_root,
            meaning="This payment is not one that the sender signed.",
        )
        ordered = f"payment {part.place.index} of {body.payments_count}"
    else:
        meaning = "This instruction orders no payment of a list."
        same("payment", None, None if part is None else "a payment", meaning)
        ordered = type(body).__name__.lower()
    order = order_of(dossier)
    if not is_uuid4(order.uetr):
        raise Fault("payment.uetr", "a UUID of version 4", order.uetr, "It is no UETR.")
    sender = sender_of(dossier)
    if dossier.steps[0].outcome.status != REJECTED:
        meaning = "It was accepted without the order of whose money it is."
        same("steps[0].act.sender", payer(order, genesis) or sender, sender, meaning)
    amount = amount_text(order.amount, order.asset, genesis)
    return f"{ordered}: {amount} {_parties(order, genesis)}, UETR {uetr_text(order.uetr)}"


def _parties(order: Order, genesis: Genesis) -> str:
    if isinstance(order, Payment):
        debtor, creditor = party_text(order.debtor, genesis), party_text(order.creditor, genesis)
        return f"from {debtor} to {creditor}"
    if isinstance(order, Issue):
        return f"to {party_text(order.creditor, genesis)}"
    return "of the sender's own"
