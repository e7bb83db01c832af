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
    EndedEpoch,
    Finality,
    PaymentPart,
    Place,
    encode_dossier,
)
from node.audit.epochs import EpochLink
from node.chain.block import InspectedBlock, header_digest, inspect_block, outcome_leaf
from node.chain.encoding import decode, encode
from node.chain.instruction import parse_instruction, signed_envelope_leaf
from node.chain.merkle import inclusion_proof, stored_inclusion_proof
from node.chain.records import ParticipantKey, ParticipantRecord, ValidatorSetKey
from node.chain.state_map import StateMap
from node.chain.types import (
    Envelope,
    Header,
    Outcome,
    Signatures,
    SignedEnvelope,
    ValidatorSet,
)
from node.ledger.entries import UetrEntry


class Seal(Protocol):
    """How an epoch ended."""

    @property
    def height(self) -> int:
        """Of the sealing block."""

    @property
    def carriers(self) -> tuple[bytes, ...]:
        """The exact bytes of the blocks from its child to the one that `finalization` names."""

    @property
    def finalization(self) -> Certificate: ...


class EpochSource(Protocol):
    """What is read of the epochs of a chain."""

    def header(self, height: int) -> Header | None: ...

    def seal(self, epoch: int) -> Seal | None:
        """How this epoch ended; None while it has not."""

    def state_record(self, key: bytes) -> bytes | None:
        """A record of the last final block's state."""


class ProvenSource(EpochSource, Protocol):
    """What is read to prove that a block is final."""

    def finalization_at_or_above(self, height: int) -> tuple[int, Certificate] | None:
        """The nearest finalization that makes `height` final, with the height that it, or a
        carrier which it names, has."""

    def history_node(self, level: int, index: int) -> bytes | None:
        """A completed node of the history tree."""


class DossierSource(ProvenSource, Protocol):
    """What is read of a chain; `node.storage.chain_store.ChainStore` has all of it."""

    def block(self, height: int) -> bytes | None:
        """The exact bytes of a final block."""

    def outcomes(self, height: int) -> list[bytes] | None:
        """Canonical bytes of a block's outcomes, in tree order."""

    def state_node(self, hash: bytes) -> bytes | None:
        """A node of any height's state map."""


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


def build_dossier(source: DossierSource, entry: UetrEntry) -> bytes:
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
    certified, finality = prove_final(source, block.header)
    return encode_dossier(
        Dossier(
            header=block.header,
            signed=SignedEnvelope(envelope, signatures),
            instruction=_place(_instruction_leaves(block), entry.instruction),
            payment=payment,
            outcome=outcome,
            outcome_place=outcome_place,
            authority=_authority(source, height, envelope.sender),
            epochs=_ended_epochs(source, block.header.epoch, certified),
            finality=finality,
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


# --- finality and epochs ----------------------------------------------------------------------


def prove_final(source: ProvenSource, header: Header) -> tuple[Header, Finality]:
    """Why this final block is final, and the block of its epoch that the certificate is for.

    Raises EvidenceUnavailable."""
    certified, certificate, carriers = _certified(source, header)
    ancestry = None
    if certified.height != header.height:
        path = _history_path(source, header.height, certified.height)
        ancestry = Ancestry(certified, path)
    return certified, Finality(certificate, ancestry, carriers)


def _certified(
    source: ProvenSource, header: Header
) -> tuple[Header, Certificate, tuple[Header, ...]]:
    """The nearest certified block of the header's own epoch, at or above it."""
    found = source.finalization_at_or_above(header.height)
    if found is not None:
        at, certificate = found
        block = header if at == header.height else _header(source, at)
        names = None if certificate.content is None else certificate.content.block
        if block.epoch == header.epoch and names == header_digest(block):
            return block, certificate, ()
    seal = source.seal(header.epoch)
    if seal is None:
        raise EvidenceUnavailable(
            f"a finalization of block {header.height} or above is not stored here"
        )
    return _header(source, seal.height), seal.finalization, _carriers(seal)


def epoch_links(source: EpochSource, first: int, last: int) -> list[EpochLink]:
    """The links of the ended epochs `first` to `last`. Raises EvidenceUnavailable."""
    return [_epoch_link(source, epoch) for epoch in range(first, last + 1)]


def _epoch_link(source: EpochSource, epoch: int) -> EpochLink:
    seal = _required(source.seal(epoch), f"the end of epoch {epoch}")
    key = encode(ValidatorSetKey(epoch + 1))
    following = _required(source.state_record(key), f"the validator set of epoch {epoch + 1}")
    return EpochLink(
        _header(source, seal.height),
        _carriers(seal),
        seal.finalization,
        decode(following, ValidatorSet),
    )


def _ended_epochs(source: ProvenSource, epoch: int, certified: Header) -> tuple[EndedEpoch, ...]:
    links = epoch_links(source, 0, epoch - 1)
    sizes = [*(link.seal.height for link in links), certified.height][1:]
    return tuple(
        EndedEpoch(link, _history_path(source, link.seal.height, size))
        for link, size in zip(links, sizes, strict=True)
    )


def _carriers(seal: Seal) -> tuple[Header, ...]:
    return tuple(inspect_block(raw).header for raw in seal.carriers)


def _header(source: EpochSource, height: int) -> Header:
    return _required(source.header(height), f"header {height}")


def _history_path(source: ProvenSource, height: int, size: int) -> tuple[bytes, ...]:
    """That the block of `height` is in the history of the block of height `size`."""

    def node(level: int, index: int) -> bytes:
        return _required(source.history_node(level, index), f"history node {level}/{index}")

    return tuple(stored_inclusion_proof(node, height, size))


def _required(value: T | None, what: str) -> T:
    if value is None:
        raise EvidenceUnavailable(f"{what} is not stored here")
    return value
