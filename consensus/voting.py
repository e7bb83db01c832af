"""The signing guards, and the one path that every vote of this node takes.

The guards are the protocol's safety; each is one small function, and nothing signs without one.
They bar, each, a way in which a fork was once made:

- nullify(v), whatever the cause, only while v is the current view and v has no finalize of ours:
  else v could get both a nullification and a finalization.
- notarize(v) only in the current view (so: entered, not left), once, and not after nullify(v):
  else v could get two notarizations.
- finalize(v) only in a view that was entered, once, and only without a nullify of ours.
- nothing in a view at or below the finalized floor. The highest finalization held counts as the
  floor here, even while its block is still being fetched: no vote can matter below it.
- nothing in an epoch whose sealing block is known final, executed or not: its validators may be
  others by now, and a key that it outlives is about to be destroyed.
- nothing once `stopped`, and nothing before a quorum has answered the question of `startcheck`.

The signer behind them keeps its own record, as a second guard; where it refuses, no vote is
made and the operator is told.
"""

from __future__ import annotations

from consensus.interface import Alarm, Broadcast, Persist, Signer, SigningRefused
from consensus.messages import (
    Body,
    Content,
    Kind,
    OwnProposal,
    OwnVote,
    Proposal,
    View,
    Vote,
)
from consensus.state import State


class Voter:
    """This node's own votes."""

    def __init__(self, state: State, signer: Signer) -> None:
        self._state = state
        self._signer = signer

    # --- guards -----------------------------------------------------------------------------

    def _may_sign(self, view: int, kind: Kind) -> bool:
        """What holds for every kind: a live validator, above the floor, once a kind and view."""
        state = self._state
        if state.index is None or state.stopped is not None or not state.confirmed:
            return False
        if state.sealed:
            return False
        if view <= state.floor.info.view or view <= state.final_view:
            return False
        at = state.views.get(View(view))
        return at is None or (at.own[kind] is None and kind not in at.refused)

    def _signed(self, view: int, kind: Kind) -> bool:
        at = self._state.views.get(View(view))
        return at is not None and at.own[kind] is not None

    def may_notarize(self, view: int) -> bool:
        """In the current view only, once, and not after our nullify."""
        return (
            self._may_sign(view, Kind.NOTARIZE)
            and view == self._state.view
            and not self._signed(view, Kind.NULLIFY)
        )

    def may_nullify(self, view: int) -> bool:
        """In the current view only, once, and not after our finalize."""
        return (
            self._may_sign(view, Kind.NULLIFY)
            and view == self._state.view
            and not self._signed(view, Kind.FINALIZE)
        )

    def may_finalize(self, view: int) -> bool:
        """In a view that was entered, once, and not after our nullify."""
        return (
            self._may_sign(view, Kind.FINALIZE)
            and view <= self._state.view
            and not self._signed(view, Kind.NULLIFY)
        )

    # --- votes ------------------------------------------------------------------------------

    def notarize(self, view: View, content: Content) -> None:
        """Vote for a leader's block whose body is here and executed."""
        if not self.may_notarize(view):
            return
        vote = self._sign(view, Kind.NOTARIZE, content)
        if vote is None:
            return
        block = self._state.blocks.get(content.block)
        assert block is not None
        assert block.valid, "notarized a block that was not executed"
        if not block.durable:
            # Whoever counts on this vote counts on this node being able to serve the body.
            block.durable = True
            self._state.emit(Persist(Body(self._state.epoch, view, block.raw)))
        self._record(vote)
        self._state.emit(Broadcast(vote))

    def nullify(self, view: View, now: int) -> None:
        """Give the view up."""
        if not self.may_nullify(view):
            return
        vote = self._sign(view, Kind.NULLIFY, None)
        if vote is None:
            return
        self._record(vote)
        self._state.emit(Broadcast(vote))
        self._state.pace.arm_retry(now)

    def finalize(self, view: View, content: Content) -> None:
        """Vote that this notarized block be final."""
        if not self.may_finalize(view):
            return
        vote = self._sign(view, Kind.FINALIZE, content)
        if vote is None:
            return
        self._record(vote)
        self._state.emit(Broadcast(vote))

    def propose(self, view: View, content: Content, block: bytes) -> bool:
        """Sign and send our own block of this view; whether it was done."""
        if not self.may_notarize(view):
            return False
        vote = self._sign(view, Kind.NOTARIZE, content)
        if vote is None:
            return False
        state = self._state
        proposal = Proposal(vote, block)
        at = state.open(view)
        at.own_proposal = proposal
        at.proposal = vote
        own_block = state.blocks.get(content.block)
        assert own_block is not None
        # The record of the proposal holds the body too.
        own_block.durable = True
        state.emit(Persist(OwnProposal(proposal)))
        self._record(vote)
        state.emit(Broadcast(proposal))
        return True

    def _sign(self, view: View, kind: Kind, content: Content | None) -> Vote | None:
        state = self._state
        assert state.index is not None
        try:
            signature = self._signer.sign_vote(state.epoch, view, kind, content)
        except SigningRefused as refusal:
            # Its record holds a vote that ours lacks: a crash hit between the two fsyncs, or a
            # journal was restored from a copy. Silence in this view is always safe.
            state.open(view).refused.add(kind)
            state.emit(Alarm(f"view {view}: the signer refused to {kind.name.lower()}: {refusal}"))
            return None
        return Vote(state.epoch, view, kind, content, state.index, signature)

    def _record(self, vote: Vote) -> None:
        """Persist and count a vote just signed, before it is sent."""
        state = self._state
        at = state.open(vote.view)
        at.own[vote.kind] = vote
        state.emit(Persist(OwnVote(vote)))
        certificate = state.tally.count(at, vote)
        if certificate is not None:
            state.hold(at, certificate)
