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
from node.audit.epochs import MAX_EPOCHS, Carriers, EpochLink
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
    _Canonical,
)

MAX_DOSSIER_BYTES = 64 << 20
"""Bytes: a century of monthly epochs with 256 validators each. An epoch takes about 0.16 kB a
validator; one that needed every carrier it may have takes 2 MB."""

OLD_TAG = b"\xa9dossier/1"
"""How a dossier of the first format begins, after the byte that counts its fields."""

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


class EndedEpoch(_Canonical, frozen=True):
    """An epoch before the block's: its hand-over, and that history kept it."""

    link: EpochLink
    path: Path
    """Of the sealing block, at index = its height, under the `history_root` of the next epoch's
    sealing block; the last one's under that of the block which the certificate is for."""


class Finality(_Canonical, frozen=True):
    """Why the block is final: a finalization of itself, or of a later block built on it."""

    certificate: Certificate
    """By the validators of the block's epoch."""
    later: Ancestry | None
    carriers: Carriers
    """From the block (or `later`) to what the certificate names, if that block ends the epoch
    and became final through carriers."""


class Dossier(_Canonical, frozen=True, tag="dossier/2"):
    """Evidence of one payment, issue or redemption."""

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
    epochs: Annotated[tuple[EndedEpoch, ...], Meta(max_length=MAX_EPOCHS)]
    """All epochs before the block's, from 0 on."""
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
    if data[1:11] == OLD_TAG:
        raise BadDossier("it has format 1, which no node makes any more; have it made anew")
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
