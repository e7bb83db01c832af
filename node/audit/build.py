"""Making the dossier of one payment from a chain's store.

Nothing here is trusted by anybody: a dossier proves itself (`verify`). What this must get right
is to find the parts; storage that lacks one is named.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from consensus.messages import Certificate
from node.audit.dossier import (
    Ancestry,
    Authority,
    Dossier,
    Finality,
    PaymentPart,
    Place,
    encode_dossier,
)
from node.chain.block import InspectedBlock, inspect_block, outcome_leaf
from node.chain.encoding import decode, encode
from node.chain.genesis import Genesis
from node.chain.instruction import parse_instruction, signed_envelope_leaf
from node.chain.merkle import inclusion_proof, stored_inclusion_proof
from node.chain.records import ParticipantKey, ParticipantRecord
from node.chain.state_map import StateMap
from node.chain.types import Envelope, Header, Outcome, Signatures, SignedEnvelope
from node.ledger.entries import UetrEntry


class DossierSource(Protocol):
    """What is read of a chain; `node.storage.chain_store.ChainStore` has all of it."""

    def block(self, height: int) -> bytes | None:
        """The exact bytes of a final block."""

    def header(self, height: int) -> Header | None: ...

    def outcomes(self, height: int) -> list[bytes] | None:
        """Canonical bytes of a block's outcomes, in tree order."""

    def finalization_at_or_above(self, height: int) -> tuple[int, Certificate] | None:
        """The nearest finalization that makes `height` final, with the height it names."""

    def state_node(self, hash: bytes) -> bytes | None:
        """A node of any height's state map."""

    def history_node(self, level: int, index: int) -> bytes | None:
        """A completed node of the history tree."""


class EvidenceUnavailable(Exception):
    """The store lacks a part of the evidence; the text names it."""


class _Parts(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="instruction/1"
):
    """An `Instruction` whose payments are not looked at: there may be thousands."""

    envelope: Envelope
    signatures: Signatures
    payments: msgspec.Raw


_parts = msgspec.msgpack.Decoder(_Parts)
T = TypeVar("T")


def build_dossier(source: DossierSource, genesis: Genesis, entry: UetrEntry) -> bytes:
    """The dossier of the payment, issue or redemption that `entry` says where to find.

    Raises EvidenceUnavailable; `BrokenState` where a stored state node is damaged.
    """
    height = entry.height
    raw = _required(source.block(height), f"block {height}")
    block = inspect_block(raw)
    parsed = parse_instruction(block.instructions[entry.instruction])
    envelope, signatures = parsed.instruction.envelope, parsed.instruction.signatures
    payment = None
    if parsed.payment_digests:
        payment = PaymentPart(
            parsed.instruction.payments[entry.payment],
            _place(parsed.payment_digests, entry.payment),
        )
    outcome, outcome_place = _outcome(source, entry)
    return encode_dossier(
        Dossier(
            header=block.header,
            signed=SignedEnvelope(envelope, signatures),
            instruction=_place(_instruction_leaves(block), entry.instruction),
            payment=payment,
            outcome=outcome,
            outcome_place=outcome_place,
            authority=_authority(source, height, envelope.sender),
            epochs=(),
            finality=_finality(source, height),
            receipt=None,
        )
    )


def _place(leaves: list[bytes], index: int) -> Place:
    return Place(index, tuple(inclusion_proof(leaves, index)))


def _instruction_leaves(block: InspectedBlock) -> list[bytes]:
    leaves = []
    for raw in block.instructions:
        parts = _parts.decode(raw)
        leaves.append(signed_envelope_leaf(SignedEnvelope(parts.envelope, parts.signatures)))
    return leaves


def _outcome(source: DossierSource, entry: UetrEntry) -> tuple[Outcome, Place]:
    stored = _required(source.outcomes(entry.height), f"the outcomes of block {entry.height}")
    for index, raw in enumerate(stored):
        if entry.uetr not in raw:
            continue  # a cheap test before decoding: blocks have thousands of outcomes
        outcome = decode(raw, Outcome)
        if (outcome.instruction, outcome.payment) == (entry.instruction, entry.payment):
            return outcome, _place([outcome_leaf(each) for each in stored], index)
    raise EvidenceUnavailable(
        f"block {entry.height} has no outcome [{entry.instruction}, {entry.payment}] under UETR "
        f"{entry.uetr.hex()}: the index and the block disagree"
    )


def _authority(source: DossierSource, height: int, sender: str) -> Authority:
    parent = _required(source.header(height - 1), f"header {height - 1}")
    state = StateMap.load(parent.state_root, source.state_node)
    record, proof = state.prove(encode(ParticipantKey(sender)))
    found = _required(record, f"the record of {sender} in the state of height {height - 1}")
    return Authority(parent, decode(found, ParticipantRecord), proof)


def _finality(source: DossierSource, height: int) -> Finality:
    at, certificate = _required(
        source.finalization_at_or_above(height), f"a finalization of block {height} or above"
    )
    if at == height:
        return Finality(certificate, None, ())
    header = _required(source.header(at), f"header {at}")

    def node(level: int, index: int) -> bytes:
        return _required(source.history_node(level, index), f"history node {level}/{index}")

    path = tuple(stored_inclusion_proof(node, height, at))
    return Finality(certificate, Ancestry(header, path), ())


def _required(value: T | None, what: str) -> T:
    if value is None:
        raise EvidenceUnavailable(f"{what} is not stored here")
    return value
