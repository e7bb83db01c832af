"""Checking and assembling certificates: q votes of one kind for one content.

A certificate proves itself to anyone who knows the validators' keys; nothing else in this file
or its imports is needed to check one. That is why an offline verifier can use it as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from consensus.interface import Verify
from consensus.messages import (
    VOTE_DOMAIN,
    Certificate,
    Content,
    Kind,
    Vote,
    quorum,
    vote_payload,
)

BAD_SIGNATURE = "a signature does not verify"


class BadCertificate(ValueError):
    """The certificate proves nothing. `reason` is a short fixed text, fit for a metric's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def content_fault(view: int, kind: Kind, content: Content | None) -> str | None:
    """Why a vote or certificate of this kind cannot have this content; None if it can.

    View 0 is the epoch's starting block, final by definition: nothing is ever signed in it.
    """
    if view < 1:
        return "nothing is voted on in view 0"
    if kind is Kind.NULLIFY:
        return None if content is None else "a nullify has no content"
    if content is None:
        return "a notarize or finalize names a block"
    if content.parent_view >= view:
        return "the parent's view is not below the block's"
    return None


def verify_vote(vote: Vote, validator_keys: Sequence[bytes], verify: Verify) -> bool:
    """Whether the vote's signature is its voter's. An index outside the set is nobody's."""
    if vote.voter >= len(validator_keys):
        return False
    payload = vote_payload(vote.epoch, vote.view, vote.kind, vote.content)
    return verify(validator_keys[vote.voter], VOTE_DOMAIN, payload, vote.signature)


def opposed(first: Vote | Certificate, second: Vote | Certificate) -> bool:
    """Whether no correct validator signs both statements: two notarize or two finalize with
    different contents, or nullify with finalize, in one view. Notarize with nullify is no fault."""
    if (first.epoch, first.view) != (second.epoch, second.view):
        return False
    if any(content_fault(each.view, each.kind, each.content) for each in (first, second)):
        return False
    if first.kind is second.kind:
        return first.content != second.content
    return {first.kind, second.kind} == {Kind.NULLIFY, Kind.FINALIZE}


def contradict(first: Vote, second: Vote) -> bool:
    """Whether no correct signer makes both votes. Says nothing about their signatures."""
    return first.voter == second.voter and opposed(first, second)


def check(
    certificate: Certificate,
    validator_keys: Sequence[bytes],
    verify: Verify,
    known: Mapping[int, bytes] | None = None,
) -> None:
    """Raise BadCertificate unless q..n validators of this set signed exactly this statement.

    `known` maps a voter to a signature over this same statement that the caller has verified
    before, which is then not verified again. The epoch is the caller's to compare: the keys
    given are those of one epoch.
    """
    fault = content_fault(certificate.view, certificate.kind, certificate.content)
    if fault is not None:
        raise BadCertificate(fault)
    signatures = certificate.signatures
    if len(signatures) < quorum(len(validator_keys)):
        raise BadCertificate("fewer signatures than a quorum")
    previous = -1
    for voter, _ in signatures:
        # Strictly ascending also means that no validator is counted twice.
        if voter <= previous:
            raise BadCertificate("signers are not strictly ascending")
        previous = voter
    if previous >= len(validator_keys):
        raise BadCertificate("a signer is not in the validator set")
    payload = vote_payload(
        certificate.epoch, certificate.view, certificate.kind, certificate.content
    )
    for voter, signature in signatures:
        if known is not None and known.get(voter) == signature:
            continue
        if not verify(validator_keys[voter], VOTE_DOMAIN, payload, signature):
            raise BadCertificate(BAD_SIGNATURE)


def assemble(votes: Iterable[Vote]) -> Certificate:
    """The certificate of these verified votes, which all say the same. At least one vote."""
    ordered = sorted(votes, key=lambda vote: vote.voter)
    first = ordered[0]
    return Certificate(
        epoch=first.epoch,
        view=first.view,
        kind=first.kind,
        content=first.content,
        signatures=tuple((vote.voter, vote.signature) for vote in ordered),
    )


def votes_of(certificate: Certificate) -> list[Vote]:
    """The votes that a certificate consists of."""
    return [
        Vote(
            certificate.epoch,
            certificate.view,
            certificate.kind,
            certificate.content,
            voter,
            signature,
        )
        for voter, signature in certificate.signatures
    ]
