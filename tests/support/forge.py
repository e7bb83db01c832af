"""Forged dossiers by someone who holds every key: consistent but for the one thing changed.

An outsider's forgery breaks on the first signature. To show that each check of the verifier is
needed, the forger here makes senders sign whatever a test wants; `forge_chain` makes a chain that
commits to it.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from node.audit.dossier import (
    Act,
    Dossier,
    PaymentPart,
    Place,
)
from node.chain.encoding import encode
from node.chain.instruction import payment_digest
from node.chain.records import KeyRecord
from node.chain.signature import INSTRUCTION_DOMAIN, Ed25519Signer, Signer
from node.chain.types import (
    Envelope,
    InstructionBody,
    KeySignature,
    Pay,
    SignedEnvelope,
)
from tests.support.evidence_world import evidence_world

FIRST = Place(0, ())
"""The only leaf of a tree of one."""
FLIPPED = bytes((1,)) + bytes(31)
"""A hash that is nowhere."""


def genesis() -> Any:
    """Of the ledger whose dossiers are forged."""
    return evidence_world().chain.genesis


def key_of(lei: str) -> Ed25519Signer:
    """The signing key of a participant."""
    return next(
        bank.signers[0] for bank in evidence_world().members.banks.values() if bank.lei == lei
    )


def lei(name: str) -> str:
    return evidence_world().lei(name)


# --- what is signed -----------------------------------------------------------------------------


def sign(envelope: Envelope, *signers: Signer) -> SignedEnvelope:
    """Signed for the ledger's chain, whatever chain the envelope names; by its sender if nobody
    else is named."""
    payload, chain_id = encode(envelope), genesis().chain_id
    chosen = signers or (key_of(envelope.sender),)
    signatures = (
        KeySignature(s.public_key, s.sign(INSTRUCTION_DOMAIN, chain_id, payload)) for s in chosen
    )
    return SignedEnvelope(envelope, tuple(sorted(signatures, key=lambda s: s.public_key)))


def act_of(dossier: Dossier, step: int = 0) -> Act:
    act = dossier.steps[step].act
    assert act is not None
    return act


def with_step(dossier: Dossier, index: int, **fields: Any) -> Dossier:
    """With other fields in a step."""
    steps = list(dossier.steps)
    steps[index] = replace(steps[index], **fields)
    return replace(dossier, steps=tuple(steps))


def with_outcome(dossier: Dossier, index: int, **fields: Any) -> Dossier:
    """With other fields in a step's outcome."""
    return with_step(dossier, index, outcome=replace(dossier.steps[index].outcome, **fields))


def with_act(dossier: Dossier, index: int, **fields: Any) -> Dossier:
    """With other fields in a step's instruction."""
    return with_step(dossier, index, act=replace(act_of(dossier, index), **fields))


def with_envelope(dossier: Dossier, index: int, *signers: Signer, **fields: Any) -> Dossier:
    """With other fields in the envelope of a step's instruction, signed anew."""
    envelope = replace(act_of(dossier, index).signed.envelope, **fields)
    return with_act(dossier, index, signed=sign(envelope, *signers))


def with_sender(dossier: Dossier, index: int = 0, **fields: Any) -> Dossier:
    """With other fields in the sender's record."""
    authority = act_of(dossier, index).authority
    assert authority is not None
    sender = replace(authority.sender, **fields)
    return with_act(dossier, index, authority=replace(authority, sender=sender))


def sent_by(dossier: Dossier, index: int, name: str, **fields: Any) -> Dossier:
    """With a step's instruction sent, and signed, by another participant, whose keys are proven."""
    sender = lei(name)
    key = key_of(sender).public_key
    changed = with_envelope(dossier, index, sender=sender, **fields)
    return with_sender(changed, index, lei=sender, name=name, keys=(KeyRecord(key, 0, None),))


def of_heights(dossier: Dossier, *without: int) -> Dossier:
    """Without the blocks of these heights."""
    kept = tuple(each for each in dossier.blocks if each.header.height not in without)
    return replace(dossier, blocks=kept)


def alone(dossier: Dossier) -> Dossier:
    """With nothing else in the block of its only step."""
    height = dossier.steps[0].outcome.height
    blocks = tuple(
        replace(each, header=replace(each.header, instructions_count=1, outcomes_count=1))
        if each.header.height == height
        else each
        for each in dossier.blocks
    )
    changed = replace(dossier, blocks=blocks)
    changed = with_outcome(changed, 0, instruction=0)
    act = replace(act_of(changed), place=FIRST)
    return with_step(changed, 0, place=FIRST, act=act)


def with_body(dossier: Dossier, body: InstructionBody, *signers: Signer) -> Dossier:
    """With another order in the first instruction."""
    return with_envelope(dossier, 0, *signers, body=body)


def with_payment(dossier: Dossier, **fields: Any) -> Dossier:
    """The only payment of its instruction, with other fields, signed and told of everywhere."""
    assert dossier.payment is not None
    payment = replace(dossier.payment.payment, **fields)
    leaf = payment_digest(payment)
    changed = with_body(dossier, Pay(1, leaf, all_or_none=False))
    changed = replace(changed, payment=PaymentPart(payment, FIRST))
    changed = with_outcome(changed, 0, uetr=payment.uetr, payment=0)
    for index in range(1, len(changed.steps)):
        original = changed.steps[index].outcome.original
        assert original is not None
        changed = with_outcome(
            changed,
            index,
            uetr=payment.uetr,
            payment=0,
            content=leaf,
            original=replace(original, payment=0),
        )
    return changed


def with_record(dossier: Dossier, **fields: Any) -> Dossier:
    """With other fields in the payment's record."""
    assert dossier.row is not None
    assert dossier.row.record is not None
    record = replace(dossier.row.record, **fields)
    return replace(dossier, row=replace(dossier.row, record=record))
