"""The part of a dossier that says what was ordered, by whom, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from node.audit.dossier import Dossier
from node.audit.fault import Absent, Fault, Missing, same
from node.audit.verify_finality import included, members
from node.chain.block import header_digest, outcome_leaf
from node.chain.bodies import body_payments
from node.chain.encoding import encode
from node.chain.genesis import Genesis
from node.chain.instruction import envelope_digest, payment_digest, signed_envelope_leaf
from node.chain.merkle import ProofError
from node.chain.records import ParticipantKey
from node.chain.signature import INSTRUCTION_DOMAIN, RECEIPT_DOMAIN, verify
from node.chain.state_map import verify_present
from node.chain.statuses import REJECTED, STATUSES, UNDECIDED, status_word
from node.chain.types import Issue, MoveOwn, Pay, Payment, Redeem, Return
from node.chain.uetr import is_uuid4, uetr_text

NO_PAYMENT = "the payment is not in the dossier"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DUPLICATE = "AM05"
"""ISO 20022 reason: the UETR was used before, for other content."""

# --- what was ordered, and by whom ------------------------------------------------------------


def check_signatures(dossier: Dossier, genesis: Genesis) -> str:
    envelope = dossier.signed.envelope
    payload = encode(envelope)
    previous = b""
    for signature in dossier.signed.signatures:
        key = signature.public_key
        if key <= previous:
            raise Fault(
                "envelope.signatures",
                "strictly ascending keys",
                key,
                "A key is counted twice or out of order.",
            )
        previous = key
        if not verify(key, INSTRUCTION_DOMAIN, genesis.chain_id, payload, signature.signature):
            raise Fault(
                "envelope.signatures",
                f"a signature by {key.hex()}",
                signature.signature,
                "The holder of this key did not sign this envelope.",
            )
    return f"instruction {envelope.id} signed by {len(dossier.signed.signatures)} key(s)"


def check_authority(dossier: Dossier, genesis: Genesis) -> str:
    authority, header = dossier.authority, dossier.header
    if authority is None:
        raise Missing("there is no proof of whose the signing keys were")
    parent, sender = authority.parent, authority.sender
    meaning = "The keys are proven in a state that this block does not build on."
    same("header.parent", header_digest(parent), header.parent, meaning)
    same("parent.height", header.height - 1, parent.height, meaning)
    key = encode(ParticipantKey(dossier.signed.envelope.sender))
    try:
        verify_present(parent.state_root, key, encode(sender), authority.proof)
    except ProofError as error:
        raise Fault(
            "authority.proof",
            f"the record of {dossier.signed.envelope.sender} under the parent's state_root",
            error,
            "The ledger did not hold this record for the sender.",
        ) from error
    known = {record.public_key: record for record in sender.keys}
    for signature in dossier.signed.signatures:
        record = known.get(signature.public_key)
        if record is None or not record.is_valid(header.height):
            raise Fault(
                "envelope.signatures",
                f"a key of {sender.name} valid at height {header.height}",
                signature.public_key,
                "The signer had no authority for this sender at that height.",
            )
    if len(dossier.signed.signatures) < sender.threshold:
        raise Fault(
            "envelope.signatures",
            f"at least {sender.threshold} keys",
            len(dossier.signed.signatures),
            "The sender's policy asks for more signatures.",
        )
    return f"valid keys of {sender.name} ({sender.lei}, {sender.bic}) at height {header.height}"


def check_payment(dossier: Dossier, genesis: Genesis) -> str:
    body, part = dossier.signed.envelope.body, dossier.payment
    if isinstance(body, Pay):
        if part is None:
            raise Missing(NO_PAYMENT)
        included(
            "payment.path",
            payment_digest(part.payment),
            part.place,
            size=body.payments_count,
            root=body.payments_root,
            meaning="This payment is not one that the sender signed.",
        )
        ordered = f"payment {part.place.index} of {body.payments_count}"
    else:
        same("payment", None, part, "This instruction orders no payment of a list.")
        ordered = type(body).__name__.lower()
    order = _order(dossier)
    if order is None:
        raise Fault(
            "envelope.body", "an order about money", type(body).__name__, "It moves no money."
        )
    if not is_uuid4(order.uetr):
        raise Fault("payment.uetr", "a UUID of version 4", order.uetr, "It is no UETR.")
    if dossier.outcome.status != REJECTED:
        sender = dossier.signed.envelope.sender
        meaning = "It was accepted without the order of whose money it is."
        same("envelope.sender", _payer(dossier, genesis) or sender, sender, meaning)
    amount = _amount(order.amount, order.asset, genesis)
    return f"{ordered}: {amount} {_parties(order)}, UETR {uetr_text(order.uetr)}"


Order = Payment | Issue | Redeem | MoveOwn


def _order(dossier: Dossier) -> Order | None:
    """The order that the outcome is of; None: there is none in this instruction."""
    body, part = dossier.signed.envelope.body, dossier.payment
    if isinstance(body, Pay):
        return None if part is None else part.payment
    if isinstance(body, Issue | Redeem | MoveOwn):
        return body
    # Of a return the first is the payment itself, the second what it gives back.
    payments = body_payments(body)[:1] if isinstance(body, Return) else body_payments(body)
    number = dossier.outcome.payment
    return payments[number] if number < len(payments) else None


def _parties(order: Order) -> str:
    if isinstance(order, Payment):
        return f"from {order.debtor} to {order.creditor}"
    if isinstance(order, Issue):
        return f"to {order.creditor}"
    return "of the sender's own"


def _payer(dossier: Dossier, genesis: Genesis) -> str | None:
    """Whose order it takes: the debtor's, or the issuer's of what is issued or redeemed."""
    order = _order(dossier)
    if isinstance(order, Issue | Redeem):
        return next((a.issuer for a in genesis.assets if a.code == order.asset), None)
    return order.debtor if isinstance(order, Payment) else None


# --- what became of it ------------------------------------------------------------------------


def check_instruction(dossier: Dossier, genesis: Genesis) -> str:
    header, place = dossier.header, dossier.instruction
    included(
        "instruction.path",
        signed_envelope_leaf(dossier.signed),
        place,
        size=header.instructions_count,
        root=header.instructions_root,
        meaning="The block does not hold this signed instruction here.",
    )
    return f"instruction {place.index} of {header.instructions_count} in block {header.height}"


def check_outcome(dossier: Dossier, genesis: Genesis) -> str:
    header, outcome, place = dossier.header, dossier.outcome, dossier.outcome_place
    included(
        "outcome.path",
        outcome_leaf(encode(outcome)),
        place,
        size=header.outcomes_count,
        root=header.outcomes_root,
        meaning="The block does not hold this outcome here.",
    )
    if outcome.status not in STATUSES:
        raise Fault(
            "outcome.status", " or ".join(STATUSES), outcome.status, "It is no known status."
        )
    said = f"{status_word(outcome.status, outcome.reason)} ({outcome.status}"
    said += f", reason {outcome.reason})" if outcome.reason else ")"
    for party, balance in (
        ("debtor", outcome.debtor_balance),
        ("creditor", outcome.creditor_balance),
    ):
        if balance is not None:
            said += f", {party}'s balance then {balance} minor units"
    return f"{said}, in block {outcome.height} at {_time(outcome.time)}"


def check_link(dossier: Dossier, genesis: Genesis) -> str:
    """That the outcome is this payment's and not another one's of the same block."""
    outcome, part, body = dossier.outcome, dossier.payment, dossier.signed.envelope.body
    if isinstance(body, Pay) and part is None:
        raise Missing(NO_PAYMENT)
    meaning = "The outcome belongs to another payment."
    same("outcome.height", dossier.header.height, outcome.height, meaning)
    same("outcome.time", dossier.header.timestamp, outcome.time, meaning)
    same("outcome.instruction", dossier.instruction.index, outcome.instruction, meaning)
    if part is not None:
        same("outcome.payment", part.place.index, outcome.payment, meaning)
    order = _order(dossier)
    same("outcome.uetr", None if order is None else order.uetr, outcome.uetr, meaning)
    same("outcome.content", None, outcome.content, "It is a later outcome of another instruction.")
    return f"the outcome is that of [{outcome.instruction}, {outcome.payment}] under this UETR"


def check_receipt(dossier: Dossier, genesis: Genesis) -> str:
    receipt = dossier.receipt
    if receipt is None:
        raise Absent("none of an accepting node is here; inclusion needs none")
    body = receipt.body
    same(
        "receipt.instruction",
        envelope_digest(dossier.signed.envelope),
        body.instruction,
        "The receipt is for another instruction.",
    )
    names = {v.node_key: v.name for v in members(dossier, genesis)}
    if body.node not in names:
        raise Fault(
            "receipt.node",
            "the node key of a validator of an epoch up to the block's",
            body.node,
            "No validator set so far names this key, as that of a node that only observed: whose "
            "statement it is, nothing here can tell.",
        )
    if not verify(body.node, RECEIPT_DOMAIN, genesis.chain_id, encode(body), receipt.signature):
        raise Fault(
            "receipt.signature",
            f"a signature of {names[body.node]}",
            receipt.signature,
            "That node did not sign this receipt.",
        )
    return (
        f"{names[body.node]} stated to have it, not before block {body.height} was final "
        f"(by its clock {_time(body.time)})"
    )


def notes(dossier: Dossier, genesis: Genesis) -> Iterator[tuple[str, str]]:
    yield (
        "checkpoint",
        "none given. Shown: a quorum of each epoch's validators, from the genesis file's on, "
        "signed this history and this inclusion. Not shown: that none of their keys was ever "
        "stolen, that this is the latest state of the payment, nor, without a replay, that "
        "execution was right",
    )
    yield "delivery", "no acknowledgement of the receiving institution; finality needs none"
    if (original := dossier.outcome.original) is not None:
        yield (
            "retry",
            "this order repeated a payment already decided, and moved no money itself; the "
            f"outcome that stands is [{original.instruction}, {original.payment}] in block "
            f"{original.height}",
        )
    if _payer(dossier, genesis) not in (None, dossier.signed.envelope.sender):
        text = "not given by whose money it is: tells nothing of their own order under this UETR"
        yield "order", text
    if dossier.outcome.status in UNDECIDED:
        yield (
            "undecided",
            "this is the payment's first outcome; what became of it later is not in this dossier",
        )
    if dossier.outcome.reason == DUPLICATE:
        yield "duplicate", "another payment stands under this UETR, which may have settled"


def _time(ms: int) -> str:
    try:
        return (EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    except OverflowError:
        return f"{ms} ms since 1970"


def _amount(minor: int, asset: str, genesis: Genesis) -> str:
    exponent = next((a.exponent for a in genesis.assets if a.code == asset), None)
    if exponent is None:
        return f"{minor} minor units of {asset}, which the genesis file does not know,"
    digits = f"{minor:0{exponent + 1}d}"
    return f"{digits[:-exponent]}.{digits[-exponent:]} {asset}" if exponent else f"{digits} {asset}"
