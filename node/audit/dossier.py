"""The dossier of one payment: all that a third party needs besides the genesis file.

Parts carry the names of ISO/IEC 13888: origin (NRO) is the signed envelope with the payment,
and the proof that the keys were the sender's; transport (NRT) is the block's finality and the
inclusion of instruction and outcome; submission (NRS) is the receipt of the node that accepted
it. Every byte is signed, committed to by a header, or recomputed: none can be changed unseen.

Indexes stand beside their paths, tree sizes do not: an RFC 6962 root does not bind its size, so
the verifier takes it from the header or from what the sender signed.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from consensus.messages import Certificate
from node.chain.encoding import Malformed, decode, encode
from node.chain.merkle import MAX_PROOF
from node.chain.records import ParticipantRecord
from node.chain.state_map import MapProof
from node.chain.types import (
    Bytes32,
    Header,
    Outcome,
    Payment,
    Receipt,
    SignedEnvelope,
    Unsigned,
    ValidatorSet,
    _Canonical,
)

MAX_DOSSIER_BYTES = 1 << 20
"""Bytes. The largest honest dossier (256 validators, 256 keys of the sender) has a tenth."""

Path = Annotated[tuple[Bytes32, ...], Meta(max_length=MAX_PROOF)]
"""RFC 6962 audit path, lowest sibling first."""


class Place(_Canonical, frozen=True):
    """Where a leaf stands in its tree."""

    index: Unsigned
    path: Path


class PaymentPart(_Canonical, frozen=True):
    """One payment of an instruction, without the others."""

    payment: Payment
    place: Place
    """Under `Pay.payments_root`."""


class Authority(_Canonical, frozen=True):
    """Whose the signing keys were: the sender's record in the state before the block."""

    parent: Header
    sender: ParticipantRecord
    proof: MapProof
    """Of the record under the parent's `state_root`."""


class Ancestry(_Canonical, frozen=True):
    """A later block of the same epoch, and the block's place in its history."""

    header: Header
    path: Path
    """Of the block's header digest, at index = its height, under this header's
    `history_root`."""


class Finality(_Canonical, frozen=True):
    """Why the block is final: a finalization of itself, or of a later block built on it."""

    certificate: Certificate
    validators: ValidatorSet
    later: Ancestry | None


class Dossier(_Canonical, frozen=True, tag="dossier/1"):
    """Evidence of one payment, issue or redemption. Blocks of epoch 0 only."""

    header: Header
    """Of the block that the outcome stands in."""
    signed: SignedEnvelope
    instruction: Place
    """Of the signed envelope under `instructions_root`."""
    payment: PaymentPart | None
    """Of a `Pay` body; None for issue and redeem."""
    outcome: Outcome
    outcome_place: Place
    """Under `outcomes_root`."""
    authority: Authority | None
    """Mandatory for a verdict; without it the verifier cannot decide."""
    finality: Finality | None
    """Mandatory for a verdict."""
    receipt: Receipt | None
    """The accepting node's, if the client kept one."""


class BadDossier(ValueError):
    """The file is no dossier; the text says what it is instead."""


def encode_dossier(dossier: Dossier) -> bytes:
    """The bytes of a dossier file."""
    return encode(dossier)


def decode_dossier(data: bytes) -> Dossier:
    """Read a dossier file. Raises BadDossier."""
    if not data:
        raise BadDossier("the file is empty")
    if len(data) > MAX_DOSSIER_BYTES:
        raise BadDossier(
            f"the file has {len(data):,} bytes, no dossier has more than {MAX_DOSSIER_BYTES:,}"
        )
    try:
        return decode(data, Dossier)
    except Malformed as error:
        raise BadDossier(str(error)) from error


def attach_receipt(data: bytes, receipt: bytes) -> bytes:
    """The dossier with the submission receipt that the client kept. Raises BadDossier.

    Whether it fits is for the verifier to say.
    """
    try:
        kept = decode(receipt, Receipt)
    except Malformed as error:
        raise BadDossier(f"the receipt: {error}") from error
    return encode(replace(decode_dossier(data), receipt=kept))
