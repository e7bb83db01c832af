"""Forged dossiers by someone who holds every key: consistent but for the one thing changed.

An outsider's forgery breaks on the first signature. To show that each check of the verifier is
needed, the forger here can make validators and senders sign whatever a test wants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from consensus.messages import Kind
from node.audit.dossier import Ancestry, Authority, Dossier, Finality, PaymentPart, Place
from node.chain.block import header_digest, outcome_leaf
from node.chain.encoding import encode
from node.chain.instruction import payment_digest, signed_envelope_leaf
from node.chain.merkle import root
from node.chain.records import ParticipantKey, ParticipantRecord
from node.chain.signature import INSTRUCTION_DOMAIN, Signer
from node.chain.state_map import StateMap
from node.chain.types import (
    Envelope,
    Header,
    InstructionBody,
    KeySignature,
    Outcome,
    Payment,
    SignedEnvelope,
)
from tests.support import small_chain, world
from tests.support.epoch_links import EpochWorld

FIRST = Place(0, ())
"""The only leaf of a tree of one."""


def finalized(dossier: Dossier, header: Header, **options: Any) -> Dossier:
    """The dossier with this header, finalized by itself. `options`: of `finalization`."""
    authority = dossier.authority
    assert authority is not None
    parent = authority.parent
    chosen = {
        "view": header.view,
        "parent_view": parent.view if parent.epoch == header.epoch else 0,
        "epoch": header.epoch,
        "kind": Kind.FINALIZE,
    } | options
    certificate = small_chain.finalization(header_digest(header), **chosen)
    return replace(dossier, header=header, finality=Finality(certificate, None, ()))


def changed_header(dossier: Dossier, **fields: Any) -> Dossier:
    """The block's header with other fields, finalized by the validators all the same."""
    return finalized(dossier, replace(dossier.header, **fields))


def sign(envelope: Envelope, *signers: Signer) -> SignedEnvelope:
    """Signed for the test chain, whatever chain the envelope names."""
    payload, chain_id = encode(envelope), world.genesis().chain_id
    signatures = (
        KeySignature(s.public_key, s.sign(INSTRUCTION_DOMAIN, chain_id, payload)) for s in signers
    )
    return SignedEnvelope(envelope, tuple(sorted(signatures, key=lambda s: s.public_key)))


def ordered(dossier: Dossier, body: InstructionBody, *signers: Signer) -> SignedEnvelope:
    """The dossier's envelope with another body, signed."""
    return sign(replace(dossier.signed.envelope, body=body), *(signers or (world.BANKA.key,)))


def rebuilt(
    dossier: Dossier,
    *,
    signed: SignedEnvelope | None = None,
    payment: PaymentPart | None = None,
    outcome: Mapping[str, Any] | None = None,
    sender: ParticipantRecord | None = None,
) -> Dossier:
    """A finalized block of one instruction and one outcome, on a parent whose state holds
    nothing but the sender's record."""
    authority = dossier.authority
    assert authority is not None
    signed = signed or dossier.signed
    part = payment or dossier.payment
    facts = {"instruction": 0, "payment": part.place.index if part else 0} | dict(outcome or {})
    told: Outcome = replace(dossier.outcome, **facts)
    record = sender or authority.sender
    key = encode(ParticipantKey(signed.envelope.sender))
    state = StateMap.empty().update({key: encode(record)})
    parent = replace(authority.parent, state_root=state.root)
    header = replace(
        dossier.header,
        parent=header_digest(parent),
        instructions_count=1,
        instructions_root=root([signed_envelope_leaf(signed)]),
        outcomes_count=1,
        outcomes_root=root([outcome_leaf(encode(told))]),
    )
    changed = replace(
        dossier,
        signed=signed,
        instruction=FIRST,
        payment=part,
        outcome=told,
        outcome_place=FIRST,
        authority=Authority(parent, record, state.prove(key)[1]),
    )
    return finalized(changed, header)


def in_epoch(made: EpochWorld, dossier: Dossier, *, later: int = 0, **header: Any) -> Dossier:
    """The dossier's instruction and outcome in a block of their own, the second of the last epoch
    of `made`; finalized by itself, or through a block `later` blocks above."""
    authority = dossier.authority
    assert authority is not None
    record = authority.sender
    key = encode(ParticipantKey(dossier.signed.envelope.sender))
    state = StateMap.empty().update({key: encode(record)})
    parent = made.add(made.header(state_root=state.root))
    facts = {"height": parent.height + 1, "time": parent.timestamp + 500, "instruction": 0}
    told: Outcome = replace(dossier.outcome, **facts)
    block = made.add(
        made.header(
            **{
                "instructions_count": 1,
                "instructions_root": root([signed_envelope_leaf(dossier.signed)]),
                "outcomes_count": 1,
                "outcomes_root": root([outcome_leaf(encode(told))]),
            }
            | header
        )
    )
    certified, below = block, parent.view
    for _ in range(later):
        below, certified = made.view, made.add()
    ancestry = Ancestry(certified, made.path(block.height, certified.height)) if later else None
    return replace(
        dossier,
        header=block,
        instruction=FIRST,
        outcome=told,
        outcome_place=FIRST,
        authority=Authority(parent, record, state.prove(key)[1]),
        epochs=made.ended(certified.height),
        finality=Finality(made.finalize(certified, below), ancestry, ()),
    )


def single(dossier: Dossier, payment: Payment) -> PaymentPart:
    """The payment as the only one under a root, which is its own leaf (`payment_digest`)."""
    assert dossier.payment is not None
    assert payment_digest(payment)
    return PaymentPart(payment, FIRST)
