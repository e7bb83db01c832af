"""What validators sign, send and keep: votes, certificates, proposals, requests.

Every type is MessagePack, array-like and tagged with its name and format version, and is
decoded with unknown fields forbidden. MessagePack decoders accept integers and lengths that
are longer than needed, so `decode` also demands that the bytes are the ones `encode` gives:
two different byte strings never mean the same message.

Source: Chan & Pass, "Simplex Consensus: A Simple and Fast Consensus Protocol" (TCC 2023);
the names of votes and certificates follow the published production variants.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, NewType, TypeVar

import msgspec
from msgspec import Meta

Epoch = NewType("Epoch", int)
"""A period with one validator set, from 0."""
View = NewType("View", int)
"""One leader's turn within an epoch. View 0 is the epoch's starting block, final by definition."""
Height = NewType("Height", int)
"""Number of a block in the chain; genesis is 0."""
ValidatorIndex = NewType("ValidatorIndex", int)
"""Position of a validator in its validator set, from 0."""
Digest = NewType("Digest", bytes)
"""SHA-256 digest of a block header, 32 bytes."""
Milliseconds = NewType("Milliseconds", int)

DIGEST_BYTES = 32
SIGNATURE_BYTES = 64
MAX_VALIDATORS = 256
"""Bound on a validator set, and so on the signatures of a certificate."""
MAX_OWN_VOTES = 256
"""Bound on the votes of an `OwnVotesResponse`; honest nodes are a few views above the floor."""

MAX_CARRIERS = 16_384
"""Bound on the carriers that may lie between a sealing block and its finalization: views of one
outage. At the cap of the timers that is days without a single finalization."""

VOTE_DOMAIN = "nostro.vote/1"
"""Signature domain of votes: what keeps a vote from ever being read as anything else."""

Unsigned = Annotated[int, Meta(ge=0)]
"""MessagePack itself bounds it to 64 bits."""
Carriers = Annotated[tuple[bytes, ...], Meta(max_length=MAX_CARRIERS)]
"""Blocks without instructions between a sealing block and what makes it final, ascending."""
DigestBytes = Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
SignatureBytes = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class Kind(IntEnum):
    """What a vote says about its view."""

    NOTARIZE = 0
    """The content is valid and extends a block I know notarized or final."""
    NULLIFY = 1
    """I gave up on this view. Has no content."""
    FINALIZE = 2
    """I saw this content notarized and never nullified its view."""


class Content(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """c = (parent view, block digest): what a notarize or finalize vote names."""

    parent_view: Unsigned
    block: DigestBytes


class VoteBody(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="vote-body/1"
):
    """The signed part of a vote. The chain id and the domain join it in the signature."""

    epoch: Unsigned
    view: Unsigned
    kind: Kind
    content: Content | None


class Vote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="vote/1"):
    """One validator's signed statement about one view."""

    epoch: Unsigned
    view: Unsigned
    kind: Kind
    content: Content | None
    voter: Unsigned
    signature: SignatureBytes


class Certificate(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="certificate/1"
):
    """A quorum of votes of one kind for one content: notarization, nullification, finalization.

    Signatures stand strictly ascending by validator index. A certificate can be checked alone
    (`consensus.certificate.check`); its bytes are hashed into nothing, since different quorums
    prove the same.
    """

    epoch: Unsigned
    view: Unsigned
    kind: Kind
    content: Content | None
    signatures: Annotated[
        tuple[tuple[Unsigned, SignatureBytes], ...], Meta(max_length=MAX_VALIDATORS)
    ]


class Proposal(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="proposal/1"
):
    """A leader's block, carried by the leader's own notarize vote for it."""

    vote: Vote
    block: bytes


class BlockRequest(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="block-request/1"
):
    """Ask for the body of a block above the asker's floor. `view` is where it was proposed."""

    epoch: Unsigned
    view: Unsigned
    block: DigestBytes


class BlockResponse(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="block-response/1"
):
    """The body asked for. That it hashes to a digest that was asked for is its only authority."""

    epoch: Unsigned
    block: bytes


class CertificateRequest(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    forbid_unknown_fields=True,
    tag="certificate-request/1",
):
    """Ask for what is known of the views first..last: notarizations, nullifications, finalizations.

    Answered with plain `Certificate` messages, at most `MAX_CERTIFICATES_PER_ANSWER`; a request
    at or below the floor is answered with the floor's finalization.
    """

    epoch: Unsigned
    first: Unsigned
    last: Unsigned


class SyncRequest(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="sync-request/1"
):
    """Ask for finalized blocks from `first` height on. Answered from storage, not by the core."""

    first: Unsigned


class SyncResponse(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="sync-response/1"
):
    """Finalized blocks of one epoch in ascending height, chained by parent digest, ending with
    the one that `finalization` names: one answer proves itself.

    Where the last block seals the epoch and became final through a carrier, `finalization` names
    the last of `carriers`, which chain from that block on; else there are none."""

    blocks: tuple[bytes, ...]
    carriers: Carriers
    finalization: Certificate


class EpochSealed(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="epoch-sealed/1"
):
    """To a peer that still talks in an epoch that has ended: what makes its sealing block final.
    The blocks up to it come from storage (`SyncRequest`)."""

    epoch: Unsigned
    carriers: Carriers
    """From the sealing block's child to the block that `finalization` names; empty if it names
    the sealing block itself."""
    finalization: Certificate


class OwnVotesRequest(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    forbid_unknown_fields=True,
    tag="own-votes-request/1",
):
    """Asked at each start, before anything is signed: which votes of mine do you hold?"""

    epoch: Unsigned
    nonce: Unsigned
    """Tells the answers to this start from those to an earlier one."""


class OwnVotesResponse(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    forbid_unknown_fields=True,
    tag="own-votes-response/1",
):
    """Votes by the asker's key above the answerer's floor, those of the newest views first; and
    the answerer's latest finalization, for what lies below."""

    epoch: Unsigned
    nonce: Unsigned
    finalization: Certificate | None
    votes: Annotated[tuple[Vote, ...], Meta(max_length=MAX_OWN_VOTES)]


class Equivocation(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="equivocation/1"
):
    """Two votes by one key in one (chain, epoch, view) that no correct signer can both have made.

    Two notarize or two finalize votes with different contents, or nullify with finalize.
    Notarize with nullify is no fault. It proves that the *key* signed twice.
    """

    first: Vote
    second: Vote


Message = (
    Vote
    | Certificate
    | Proposal
    | BlockRequest
    | BlockResponse
    | CertificateRequest
    | OwnVotesRequest
    | OwnVotesResponse
    | SyncRequest
    | SyncResponse
    | EpochSealed
)
"""Everything that validators send each other about consensus."""


# --- what is kept in the journal ------------------------------------------------------------


class OwnVote(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="own-vote/1"
):
    """A vote of ours. After a restart it is sent again byte for byte, never made anew."""

    vote: Vote


class OwnProposal(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="own-proposal/1"
):
    """Our proposal in full, so that a restarted leader sends this one again or none."""

    proposal: Proposal


class Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="body/1"):
    """The body of a block that we notarized or must be able to serve above the floor."""

    epoch: Unsigned
    view: Unsigned
    block: bytes


class Certified(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="certified/1"
):
    """A certificate above the floor, or the floor's finalization."""

    certificate: Certificate


class Witnessed(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="witnessed/1"
):
    """An equivocation that we hold both votes of."""

    equivocation: Equivocation


Record = OwnVote | OwnProposal | Body | Certified | Witnessed
"""Everything that the journal holds. All carry their epoch."""


# --- canonical bytes --------------------------------------------------------------------------

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
"""The canonical bytes of a message or record."""

_message_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_record_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


class MalformedMessage(ValueError):
    """The bytes are not the canonical encoding of a consensus message; the text says why."""


def _decode(decoder: msgspec.msgpack.Decoder[T], data: bytes) -> T:
    try:
        value = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"not a consensus message: {error}") from error
    if encode(value) != data:
        raise MalformedMessage("not the canonical encoding (over-long integer or length)")
    return value


def decode_message(data: bytes) -> Message:
    """Decode what a peer sent. Raises MalformedMessage."""
    return _decode(_message_decoder, data)


def decode_record(data: bytes) -> Record:
    """Decode a journal record. Raises MalformedMessage."""
    return _decode(_record_decoder, data)


def vote_payload(epoch: int, view: int, kind: Kind, content: Content | None) -> bytes:
    """The canonical bytes that a vote's signature covers (with suite, domain and chain id)."""
    return encode(VoteBody(epoch, view, kind, content))


def quorum(validators: int) -> int:
    """q = n − ⌊(n−1)/3⌋: any two quorums of n ≥ 3f+1 share an honest validator."""
    return validators - (validators - 1) // 3
