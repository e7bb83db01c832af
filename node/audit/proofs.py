"""Files that accuse: a validator's two contradicting votes, and the proof of a fork.

Like a dossier they need nothing besides the genesis file, and hold no byte that is not signed,
committed or recomputed. The links of epochs lead to the validators whose votes they are.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from msgspec import Meta

from consensus.messages import Certificate, Equivocation
from node.audit.dossier import MAX_DOSSIER_BYTES, Path
from node.audit.epochs import Carriers, Links
from node.chain.encoding import Malformed, decode, encode
from node.chain.types import Bytes32, Header, _Canonical

MAX_PROOF_BYTES = MAX_DOSSIER_BYTES
"""Both have the same links of epochs; the rest is small."""
MAX_CERTIFICATES = 1_024
"""Certificates in the proof of a fork besides the two finalizations. Two always suffice."""


class Branch(_Canonical, frozen=True):
    """A final block of one side of a fork."""

    block: Header
    carriers: Carriers
    """From the block to what the certificate names, if it ends its epoch."""
    finalization: Certificate


class Rival(_Canonical, frozen=True):
    """What the higher branch has at the lower one's height."""

    digest: Bytes32
    """Of its header."""
    path: Path
    """At index = the lower block's height, under the higher block's `history_root`."""


class ForkProof(_Canonical, frozen=True, tag="fork/1"):
    """Two final blocks of one epoch of which neither has the other in its history, and what those
    contradicted themselves by who made them."""

    epochs: Links
    """Of all epochs before the fork's."""
    lower: Branch
    higher: Branch
    """By height; at one height, by header digest."""
    rival: Rival | None
    """None where both blocks have one height."""
    certificates: Annotated[tuple[Certificate, ...], Meta(max_length=MAX_CERTIFICATES)]
    """Notarizations and nullifications, ascending by view, kind and bytes; each contradicts
    another one or one of the finalizations."""


class EquivocationProof(_Canonical, frozen=True, tag="equivocation-proof/1"):
    """Two votes by one key that no correct validator signs both of."""

    epochs: Links
    """Of all epochs before the votes'."""
    equivocation: Equivocation


class BadProof(ValueError):
    """The file is no such proof; the text says what it is instead."""


Proof = TypeVar("Proof", ForkProof, EquivocationProof)


def encode_proof(proof: ForkProof | EquivocationProof) -> bytes:
    """The bytes of the file."""
    return encode(proof)


def decode_proof(data: bytes, kind: type[Proof]) -> Proof:
    """Read a file. Raises BadProof."""
    if len(data) > MAX_PROOF_BYTES:
        raise BadProof(f"no proof has more than {MAX_PROOF_BYTES:,} bytes, this file has")
    try:
        return decode(data, kind)
    except Malformed as error:
        raise BadProof(str(error)) from error


def tag_of(data: bytes) -> str | None:
    """The format that a file says it has; None if it says nothing of the kind."""
    if len(data) < 2 or not 0x91 <= data[0] <= 0x9F or not 0xA1 <= data[1] <= 0xBF:
        return None  # every tag is a string of 1 to 31 bytes, first in an array of 1 to 15
    name = data[2 : 2 + (data[1] & 0x1F)]
    return name.decode("ascii") if name.isascii() else None
