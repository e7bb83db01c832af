"""Asking at each start what the others hold of this node's key, before it signs anything.

Owned here: a node whose record is older than its key's last vote (a journal restored from a copy,
a disk that lost a write) finds out before it can contradict itself. A quorum of validators, this
one counted, must have answered: among them is an honest one of every quorum that a vote of this
key ever completed. Until then the node follows but does not sign; fewer validators than that
could not make progress with it either. Others are answered from memory at once, also while this
node itself still asks: so a whole network can start together.

No answer can accuse falsely, since it must show this key's own signature. An answer that keeps
silent hides something, which is why it takes a quorum of them.
"""

from __future__ import annotations

from consensus.certificate import verify_vote
from consensus.interface import Broadcast, Effect, Now, Send
from consensus.messages import (
    MAX_OWN_VOTES,
    OwnVotesRequest,
    OwnVotesResponse,
    ValidatorIndex,
    View,
    Vote,
)
from consensus.state import State


class StartCheck:
    """The question of this start, and the answers to others' questions."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._request: OwnVotesRequest | None = None
        self._answered: set[ValidatorIndex] = set()
        self.ask_at: int | None = None
        """Monotonic ms at which those who have not answered are asked again; None once enough
        have."""

    def begin(self, now: Now) -> None:
        """Ask everybody. The wall clock tells this start's answers from an earlier one's."""
        state = self._state
        if state.index is None:
            return
        self._request = OwnVotesRequest(state.epoch, max(now.wall, 0))
        if not self._complete():
            state.emit(Broadcast(self._request))
            self.ask_at = now.monotonic + state.timing.retry

    def tick(self, now: int) -> None:
        """Ask those again who have not answered."""
        if self.ask_at is None or now < self.ask_at:
            return
        for peer in range(len(self._state.validators)):
            self.ask(ValidatorIndex(peer))
        self.ask_at = now + self._state.timing.retry

    def ask(self, peer: ValidatorIndex) -> None:
        """Ask one validator, if its answer is still waited for: at a retry or when its link
        comes up."""
        waited_for = peer != self._state.index and peer not in self._answered
        if self.ask_at is not None and self._request is not None and waited_for:
            self._state.emit(Send(peer, self._request))

    def receive(self, sender: ValidatorIndex, answer: OwnVotesResponse) -> bool:
        """Take an answer; whether it is the last one that was needed."""
        request = self._request
        if request is None or (answer.epoch, answer.nonce) != (request.epoch, request.nonce):
            return False  # to an earlier start
        for vote in answer.votes:
            self.compare(sender, vote)
        self._answered.add(sender)
        return not self._state.confirmed and self._complete()

    def _complete(self) -> bool:
        if len(self._answered) + 1 < self._state.quorum:
            return False
        self._state.confirmed = True
        self.ask_at = None
        return True

    def compare(self, sender: ValidatorIndex, vote: Vote) -> None:
        """A vote in our name as others hold it. One that we do not know means a lost record."""
        state = self._state
        if vote.epoch != state.epoch:
            return
        if vote.view <= max(state.floor.info.view, state.recorded_view):
            return  # what is final is cut off from the record
        at = state.views.get(View(vote.view))
        own = None if at is None else at.own[vote.kind]
        if own is not None and own.content == vote.content:
            return
        if vote.voter == state.index and verify_vote(vote, state.validators, state.verify):
            state.stop_for_unknown_vote(vote.view)
        else:
            state.reject(sender, "vote: the signature does not verify")

    def answer(self, sender: ValidatorIndex, request: OwnVotesRequest) -> list[Effect]:
        """What is held here of the asker's votes, the newest first. Looks at every view above
        the floor, but is asked at starts only."""
        state = self._state
        if request.epoch != state.epoch:
            state.reject(sender, "own votes request: of another epoch")
            return []
        votes: list[Vote] = []
        for view in sorted(state.views, reverse=True):
            votes += state.tally.verified_by(state.views[view], sender)
            if len(votes) >= MAX_OWN_VOTES:
                break
        shown = tuple(votes[:MAX_OWN_VOTES])
        latest = state.latest_finalization
        return [Send(sender, OwnVotesResponse(state.epoch, request.nonce, latest, shown))]
