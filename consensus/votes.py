"""What is known of one view, and the counting of its votes.

Owned here: one vote per validator and kind is kept and counted, once; a quorum of equal votes
becomes a certificate, once; two votes that no correct signer makes become evidence, once.

Memory is bounded by construction: three votes a validator and view, and views are only opened
for votes up to the current view + 1 or by a certificate, which takes a quorum to forge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.certificate import assemble, content_fault, verify_vote, votes_of
from consensus.interface import Verify
from consensus.messages import (
    Certificate,
    Content,
    Equivocation,
    Kind,
    Proposal,
    View,
    Vote,
    quorum,
)

_RIVAL = {Kind.NULLIFY: Kind.FINALIZE, Kind.FINALIZE: Kind.NULLIFY}
"""Kinds that exclude each other for one key in one view. Notarize excludes neither."""


class ViewState:
    """Everything known of one view above the floor."""

    __slots__ = (
        "accused",
        "arrival",
        "certificates",
        "counts",
        "own",
        "own_proposal",
        "proposal",
        "refused",
        "unverified",
        "view",
        "votes",
    )

    def __init__(self, view: View) -> None:
        self.view = view
        self.votes: tuple[dict[int, Vote], dict[int, Vote], dict[int, Vote]] = ({}, {}, {})
        """By kind, then by voter: the first vote seen."""
        self.unverified: set[tuple[Kind, int]] = set()
        """Votes kept without having been verified, since their certificate was already there;
        verified only if they turn out to be half of an equivocation."""
        self.counts: dict[tuple[Kind, Content | None], int] = {}
        self.certificates: list[Certificate | None] = [None, None, None]
        """By kind."""
        self.own: list[Vote | None] = [None, None, None]
        """By kind: what this validator signed."""
        self.refused: set[Kind] = set()
        """Kinds for which the signer guard refused: it is not asked again in this view."""
        self.accused: set[int] = set()
        """Voters of whose equivocation in this view evidence is held."""
        self.proposal: Vote | None = None
        """The leader's first signed proposal: its notarize vote. The body is in the block tree."""
        self.arrival: int | None = None
        """Wall clock, ms, when that proposal was first here with its body."""
        self.own_proposal: Proposal | None = None

    @property
    def notarization(self) -> Certificate | None:
        """The notarization of this view, if held."""
        return self.certificates[Kind.NOTARIZE]

    @property
    def nullification(self) -> Certificate | None:
        """The nullification of this view, if held."""
        return self.certificates[Kind.NULLIFY]

    @property
    def finalization(self) -> Certificate | None:
        """The finalization of this view, if held."""
        return self.certificates[Kind.FINALIZE]

    @property
    def certified(self) -> Content | None:
        """The content that a notarization or finalization of this view names."""
        certificate = self.finalization or self.notarization
        return None if certificate is None else certificate.content

    def known_signatures(self, kind: Kind, content: Content | None) -> dict[int, bytes]:
        """Verified signatures over this statement, by voter."""
        return {
            voter: vote.signature
            for voter, vote in self.votes[kind].items()
            if vote.content == content and (kind, voter) not in self.unverified
        }


@dataclass(frozen=True, slots=True)
class Cast:
    """What became of a vote."""

    counted: bool = False
    """It is new, verified and counted."""
    conflicting: bool = False
    """It says something else than the voter's first one; it may be forged."""
    refused: str | None = None
    """It was not a vote of its voter; why."""
    certificate: Certificate | None = None
    """The certificate that it completed."""
    evidence: Equivocation | None = None
    """The equivocation that it revealed."""


_DUPLICATE = Cast()
_BAD_SIGNATURE = Cast(refused="vote: the signature does not verify")


class Tally:
    """Counts votes of one validator set in one epoch."""

    def __init__(self, validators: Sequence[bytes], verify: Verify) -> None:
        self._validators = validators
        self._verify = verify
        self._quorum = quorum(len(validators))

    def cast(self, state: ViewState, vote: Vote) -> Cast:
        """Count a vote that someone sent. Verified at most once, and only if it can matter."""
        kind, voter = vote.kind, vote.voter
        votes = state.votes[kind]
        first = votes.get(voter)
        if first is not None and first.content == vote.content:
            self._prefer_verified(state, first, vote)
            return _DUPLICATE
        fault = content_fault(vote.view, kind, vote.content)
        if fault is not None:
            return Cast(refused=f"vote: {fault}")
        if first is not None:
            return Cast(conflicting=True, evidence=self._accuse(state, first, vote))
        rival = state.votes[_RIVAL[kind]].get(voter) if kind in _RIVAL else None
        if state.certificates[kind] is not None and rival is None:
            votes[voter] = vote
            state.unverified.add((kind, voter))
            return _DUPLICATE
        if not verify_vote(vote, self._validators, self._verify):
            return _BAD_SIGNATURE
        evidence = None if rival is None else self._accuse(state, rival, vote, verified=True)
        return Cast(counted=True, certificate=self.count(state, vote), evidence=evidence)

    def count(self, state: ViewState, vote: Vote) -> Certificate | None:
        """Count a verified vote of a voter not yet counted; the certificate it completes."""
        assert vote.voter not in state.votes[vote.kind], "own vote counted twice"
        state.votes[vote.kind][vote.voter] = vote
        statement = (vote.kind, vote.content)
        counted = state.counts[statement] = state.counts.get(statement, 0) + 1
        if counted < self._quorum or state.certificates[vote.kind] is not None:
            return None
        return assemble(
            other
            for voter, other in state.votes[vote.kind].items()
            if other.content == vote.content and (vote.kind, voter) not in state.unverified
        )

    def absorb(self, state: ViewState, certificate: Certificate) -> list[Equivocation]:
        """Keep the votes of a checked certificate; the equivocations that they reveal."""
        kind = certificate.kind
        votes = state.votes[kind]
        revealed = []
        for vote in votes_of(certificate):
            first = votes.get(vote.voter)
            if first is None:
                votes[vote.voter] = vote
            elif first.content != certificate.content:
                revealed.append(self._accuse(state, first, vote, verified=True))
            if kind in _RIVAL:
                rival = state.votes[_RIVAL[kind]].get(vote.voter)
                if rival is not None:
                    revealed.append(self._accuse(state, rival, vote, verified=True))
        return [evidence for evidence in revealed if evidence is not None]

    def _prefer_verified(self, state: ViewState, kept: Vote, other: Vote) -> None:
        """The same statement twice, signed differently, the first one never verified: a relay's
        forgery must not keep the real one out, which may be half of an equivocation."""
        place = (kept.kind, kept.voter)
        if place not in state.unverified or kept.signature == other.signature:
            return
        if verify_vote(other, self._validators, self._verify):
            state.unverified.discard(place)
            state.votes[kept.kind][kept.voter] = other

    def verified_by(self, state: ViewState, voter: int) -> list[Vote]:
        """The votes kept of one voter, in order of kind. One that was never verified is now: it
        may be a forgery, and whoever passes it on would be taken for the forger."""
        kept = []
        for kind in Kind:
            vote = state.votes[kind].get(voter)
            if vote is None:
                continue
            if (kind, voter) in state.unverified:
                state.unverified.discard((kind, voter))
                if not verify_vote(vote, self._validators, self._verify):
                    del state.votes[kind][voter]
                    continue
            kept.append(vote)
        return kept

    def _accuse(
        self, state: ViewState, first: Vote, second: Vote, *, verified: bool = False
    ) -> Equivocation | None:
        """Evidence that both votes are by one key, each verified before it may accuse.

        An unverified first vote may be a relay's forgery, made to hide the real one: then the
        second takes its place.
        """
        if first.voter in state.accused:
            return None
        if not verified and not verify_vote(second, self._validators, self._verify):
            return None
        place = (first.kind, first.voter)
        if place in state.unverified:
            if not verify_vote(first, self._validators, self._verify):
                state.unverified.discard(place)
                del state.votes[first.kind][first.voter]
                if first.kind is second.kind:
                    state.votes[second.kind][second.voter] = second
                return None
            state.unverified.discard(place)
        state.accused.add(first.voter)
        return Equivocation(first, second)
