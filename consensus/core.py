"""The Simplex core of one validator set: theory of operation first, then the transitions.

Source: Chan & Pass, "Simplex Consensus: A Simple and Fast Consensus Protocol" (TCC 2023), with
the names of its published production variants. n ≥ 3f+1 validators, up to f of them Byzantine;
q = n − ⌊(n−1)/3⌋. A block every two message delays, final after three, and no view change:
failing over to the next leader is one more certificate.

Votes: notarize(v, c) with c = (parent view, block digest); nullify(v); finalize(v, c). q votes
of one kind for one content are a certificate: notarization, nullification, finalization.

Two quorums share an honest validator, so: (a) a view has one notarization at most; (b) no view
has both a finalization and a nullification, as no honest validator signs both; (c) a block of a
later view that left out a finalized one would need that view's nullification, which is (b).

The rules, and where each lives:

1. Enter v, only forward (`state.State.enter`). Leader: round robin on (epoch, view). Timers:
   leader 2Δ, advance 3Δ (`pacemaker`).
2. Propose on p, the highest view below v with an executed, notarized or final block, if all of
   (p, v) is nullified (`proposing`).
3. Notarize the first block that v's leader signed, if its parent is exactly what view p's
   certificate names, all of (p, v) is nullified, and it executes here (`proposing`).
4. On notarization(v, c): broadcast it, fetch and execute the block; then enter v+1 and vote
   finalize(v, c) (`following`).
5. On nullification(v): broadcast it, enter v+1 (`following`).
6. On finalization(v, c): broadcast it, enter v+1; c and its ancestors are final (`following`).
7. On either timer, or the leader's own nullify(v): nullify(v); again at each retry, with the
   certificate that let us enter v (here).
8. Standstill: every T_s without a finalization, everything above the latest one is sent again,
   page by page (here, `serving`).

An epoch ends with a block that `seals` it. Its descendants are carriers, which only serve to
finalize it: at its height, with its time. Once it is committed this core is `ended`.

Every vote passes the guards of `voting`, which are the protocol's safety. `recovery` brings back
a crashed node.

Where this is stricter than the paper or its variants:
- notarize only in the current view; nothing at or below the highest finalization held;
- one leader's block is executed a view (its first), and an equivocating leader's block gets no
  finalize vote from those who saw it equivocate;
- timers do not run while an idle chain waits for its first instruction (rule 2);
- a node that is shown a vote of its own key that it has no record of stops signing for good;
  at each start it asks, and signs nothing until a quorum has answered (`startcheck`).

Each `handle` is one turn: the event is applied; certificates that it completed are acted upon in
order of arrival; then, if anything changed that they depend on, the current view's rules are
tried again. Effects come in an order that its caller must keep (`consensus.interface`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from consensus import serving
from consensus.blocks import Block
from consensus.fetching import Fetcher
from consensus.following import Following
from consensus.interface import (
    BlockCodec,
    BodyMismatch,
    Broadcast,
    Built,
    Effect,
    EpochStarted,
    Event,
    Executed,
    Floor,
    Linked,
    Now,
    Pending,
    Received,
    ReportEquivocation,
    Send,
    Signer,
    Tick,
    Timing,
    Verify,
)
from consensus.messages import (
    BlockRequest,
    BlockResponse,
    Certificate,
    CertificateRequest,
    Epoch,
    EpochSealed,
    Equivocation,
    Kind,
    Message,
    OwnVotesRequest,
    OwnVotesResponse,
    Proposal,
    Record,
    SyncRequest,
    SyncResponse,
    ValidatorIndex,
    View,
    Vote,
)
from consensus.pacemaker import Pacemaker, check_timing
from consensus.proposing import Proposing
from consensus.recovery import live_records, restore
from consensus.startcheck import StartCheck
from consensus.state import State
from consensus.voting import Voter

RESENT_VIEWS = 32
"""Views whose own votes are sent again at start; older ones follow at a standstill."""


class Core:
    """One validator (or, with `index` None, an observer) of one epoch; `consensus.epochs.Epochs`
    runs one after the other.

    Construct it from the floor that the database holds and all journal records, call `start`
    once, then `handle` for every event; `next_deadline` names when a `Tick` is due.
    """

    def __init__(
        self,
        *,
        index: int | None,
        validators: Sequence[bytes],
        epoch: Epoch,
        floor: Floor,
        timing: Timing,
        codec: BlockCodec,
        verify: Verify,
        signer: Signer,
        records: Iterable[Record],
    ) -> None:
        """Raises ValueError for impossible timing, RecordRefused for a journal not ours."""
        check_timing(timing)
        assert index is None or 0 <= index < len(validators)
        own = None if index is None else ValidatorIndex(index)
        state = self._state = State(
            index=own,
            validators=validators,
            epoch=epoch,
            floor=floor,
            timing=timing,
            codec=codec,
            verify=verify,
        )
        self._voter = Voter(state, signer)
        self._fetcher = Fetcher(own, len(validators), timing.fetch_timeout)
        self._following = Following(state, self._voter, self._fetcher)
        self._proposing = Proposing(state, self._voter)
        self._startcheck = StartCheck(state)
        self._certificates_wanted: CertificateRequest | None = None
        self._next_page = View(0)
        restore(state, records)

    # --- what others may read ---------------------------------------------------------------

    @property
    def view(self) -> View:
        """The current view."""
        return self._state.view

    @property
    def floor(self) -> Floor:
        """The last block committed; the database holds it once that `Commit` is performed."""
        return self._state.floor

    @property
    def stopped(self) -> str | None:
        """Why this node signs nothing any more; None while it does."""
        return self._state.stopped

    @property
    def retired(self) -> bool:
        """Whether it stopped because its key must not sign; with a fresh one it may go on."""
        return self._state.retired

    @property
    def ended(self) -> bool:
        """Whether the block that seals this epoch is committed: nothing is done here any more."""
        return self._state.ended

    @property
    def evidence(self) -> Collection[Equivocation]:
        """The newest equivocations of this epoch."""
        return self._state.evidence

    def stop(self, reason: str) -> None:
        """Sign nothing: the node has a reason that the protocol cannot see. No alarm is given."""
        if self._state.stopped is None:
            self._state.stopped = reason

    def leader(self, view: int) -> ValidatorIndex:
        """Who leads a view."""
        return self._state.leader(view)

    def live_records(self) -> list[Record]:
        """What a rotated journal must keep. Only to be used once the last `Commit` is durable."""
        return live_records(self._state)

    def next_deadline(self) -> int | None:
        """Monotonic ms at which a `Tick` is due; None if nothing is."""
        state = self._state
        if state.ended:
            return None
        fetch = self._fetcher.next_deadline()
        if state.index is None:
            return fetch
        pace = state.pace.next_deadline(may_nullify=self._voter.may_nullify(state.view))
        ask = self._startcheck.ask_at
        return min(due for due in (pace, fetch, ask) if due is not None)

    # --- events -----------------------------------------------------------------------------

    def start(self, now: Now) -> list[Effect]:
        """Resume: own votes go out again byte for byte, blocks above the floor are executed."""
        state = self._state
        state.pace = Pacemaker(state.timing, state.index, len(state.validators), now.monotonic)
        state.begin_view(None, now.monotonic)
        state.emit(*(ReportEquivocation(evidence) for evidence in state.evidence))
        self._startcheck.begin(now)
        self._send_own_again()
        at = state.open(state.view)
        if at.own[Kind.NULLIFY] is not None:
            state.pace.arm_retry(now.monotonic)
        for view in sorted(state.views):
            self._following.recheck(view, now.monotonic)
        self._following.execute_recovered()
        return self._finish_turn(now)

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """One turn."""
        match event:
            case Received(sender, message):
                self._state.pace.heard(sender, now.monotonic)
                self._receive(sender, message, now)
            case Linked(peer):
                self._link_up(peer)
            case Tick():
                self._tick(now)
            case Pending(pending):
                if pending != self._state.pending:
                    self._state.pending = pending
                    self._state.changed = True
            case Built():
                self._proposing.built(event)
            case Executed():
                self._following.executed(event, now.monotonic)
            case EpochStarted():
                raise AssertionError("a core lives in one epoch: see consensus.epochs")
        return self._finish_turn(now)

    def _finish_turn(self, now: Now) -> list[Effect]:
        state = self._state
        while (state.fresh or state.changed) and not state.ended:
            while state.fresh and not state.ended:
                self._following.act_on(state.fresh.popleft(), now.monotonic)
            if state.changed and not state.ended:
                state.changed = False
                self._try_rules(now)
        return state.take_effects()

    def _try_rules(self, now: Now) -> None:
        """What may be done in the current view, given all that is known."""
        state = self._state
        self._proposing.missing = None
        self._following.forget_left_proposals(now.monotonic)
        # On a sealed tip there is nothing to be proposed but what makes it final.
        state.pace.start_if_due(state.pending and not state.tip_seals(), now.monotonic)
        self._proposing.try_propose(now)
        self._proposing.consider(now)
        if self._leader_gave_up() or state.pace.expired(now.monotonic):
            self._voter.nullify(state.view, now.monotonic)
        self._fetch_certificates(now.monotonic)

    def _leader_gave_up(self) -> bool:
        at = self._state.open(self._state.view)
        leader = self._state.leader(at.view)
        return leader in at.votes[Kind.NULLIFY] and (Kind.NULLIFY, leader) not in at.unverified

    def _fetch_certificates(self, now: int) -> None:
        """Ask for the certificates that the current view's block waits for; only for them."""
        state, missing = self._state, self._proposing.missing
        wanted = None
        if missing is not None:
            wanted = CertificateRequest(state.epoch, missing[0], missing[1])
        if wanted == self._certificates_wanted:
            return
        if self._certificates_wanted is not None:
            state.emit(*self._fetcher.drop(self._certificates_wanted, now))
        self._certificates_wanted = wanted
        if wanted is not None:
            # The leader whose block needs them must have them.
            state.emit(*self._fetcher.want(wanted, now, first=state.leader(state.view)))

    # --- messages ---------------------------------------------------------------------------

    def _receive(self, sender: ValidatorIndex, message: Message, now: Now) -> None:
        state = self._state
        match message:
            case Vote():
                self._receive_vote(sender, message)
            case Certificate():
                self._following.receive(sender, message, now.monotonic)
            case Proposal():
                self._receive_proposal(sender, message, now)
            case BlockRequest():
                state.emit(*serving.answer_block(state, sender, message))
            case CertificateRequest():
                state.emit(*serving.answer_certificates(state, sender, message))
            case BlockResponse():
                self._following.receive_body(sender, message, now.monotonic)
            case SyncResponse():
                self._following.receive_chunk(sender, message, now.monotonic)
            case OwnVotesRequest():
                state.emit(*self._startcheck.answer(sender, message))
            case OwnVotesResponse():
                self._receive_answer(sender, message, now.monotonic)
            case EpochSealed():
                self._following.receive_sealed(sender, message, now.monotonic)
            case SyncRequest():
                state.reject(sender, "sync request: answered from storage, not by the core")

    def _receive_vote(self, sender: ValidatorIndex, vote: Vote) -> bool:
        """Count a vote; whether it is its voter's first word. Any peer may relay one."""
        state = self._state
        if vote.epoch != state.epoch:
            state.reject(sender, "vote: of another epoch")
            return False
        if vote.view > state.view + 1:
            # Honest nodes are early, too, when this one is behind; certificates take it there.
            state.reject(sender, "vote: of a view far ahead")
            return False
        if vote.view <= state.floor.info.view:
            return False  # late, as happens to honest nodes
        if vote.voter >= len(state.validators):
            state.reject(sender, "vote: the voter is not in the validator set")
            return False
        if vote.voter == state.index:
            self._startcheck.compare(sender, vote)
            return False
        if vote.view < state.final_view and View(vote.view) not in state.views:
            return False  # it decides nothing, and to a node far behind these views are countless
        at = state.open(vote.view)
        cast = state.tally.cast(at, vote)
        if cast.refused is not None:
            state.reject(sender, cast.refused)
            return False
        if cast.evidence is not None:
            state.report(cast.evidence)
        if cast.certificate is not None:
            state.hold(at, cast.certificate)
        if cast.counted and vote.kind is Kind.NULLIFY and vote.voter == state.leader(vote.view):
            state.changed = True
        return not cast.conflicting

    def _receive_answer(self, sender: ValidatorIndex, answer: OwnVotesResponse, now: int) -> None:
        """What a peer holds of our key. With the last answer needed, catch up on our votes."""
        if answer.finalization is not None:
            self._following.receive(sender, answer.finalization, now)
        if self._startcheck.receive(sender, answer):
            # Blocks executed meanwhile still lack our finalize votes.
            self._state.changed = True
            for view in sorted(self._state.views):
                self._following.recheck(view, now)

    def _receive_proposal(self, sender: ValidatorIndex, proposal: Proposal, now: Now) -> None:
        state = self._state
        vote = proposal.vote
        if vote.kind is not Kind.NOTARIZE or vote.content is None:
            state.reject(sender, "proposal: does not carry a notarize")
            return
        if vote.voter != state.leader(vote.view):
            state.reject(sender, "proposal: not signed by the leader of its view")
            return
        leaders = self._receive_vote(sender, vote)
        digest = vote.content.block
        wanted = self._following.is_wanted(digest)
        try:
            if wanted:
                # Its digest is all the authority that this body needs.
                block: Block | None = self._proposing.body_of(proposal)
            elif leaders:
                block = self._proposing.take(proposal, now.wall)
            else:
                return
        except BodyMismatch:
            state.reject(sender, "proposal: the body is not the one voted for")
            if not wanted:
                # So the vote is its leader's. A body that is asked for already is not asked for
                # again in whatever view this sender, whose vote may be forged, names for it.
                self._following.want_proposed_body(View(vote.view), digest, sender, now.monotonic)
            return
        if block is not None:
            self._following.arrived(block, now.monotonic)

    def _link_up(self, peer: ValidatorIndex) -> None:
        """A peer that was away: tell it how far we are, what we said in this view, which may have
        been before there was a link, and ask what it was too far to answer."""
        if self._state.latest_finalization is not None:
            self._state.emit(Send(peer, self._state.latest_finalization))
        self._state.emit(*(Send(peer, own) for own in self._own_messages(self._state.view)))
        self._startcheck.ask(peer)

    # --- time -------------------------------------------------------------------------------

    def _tick(self, now: Now) -> None:
        state, pace = self._state, self._state.pace
        state.emit(*self._fetcher.tick(now.monotonic))
        self._startcheck.tick(now.monotonic)
        if state.index is None:
            return
        state.changed = True
        if pace.hold_until is not None and now.monotonic >= pace.hold_until:
            pace.hold_until = None
        if pace.retry_at is not None and now.monotonic >= pace.retry_at:
            self._retry(now.monotonic)
        if now.monotonic >= pace.standstill_at:
            page, self._next_page = serving.standstill_page(state, self._next_page)
            state.emit(*(Broadcast(message) for message in page))
            pace.arm_standstill(now.monotonic)

    def _retry(self, now: int) -> None:
        """Rule 7: the same nullify again, for those who lost it, and what lets them get here."""
        state = self._state
        nullify = state.open(state.view).own[Kind.NULLIFY]
        assert nullify is not None
        state.emit(Broadcast(nullify))
        certificate = serving.entry_certificate(state)
        if certificate is not None:
            state.emit(Broadcast(certificate))
        state.pace.arm_retry(now)

    def _send_own_again(self) -> None:
        """After a restart: what was signed before may not have left."""
        state = self._state
        for view in sorted(state.views)[-RESENT_VIEWS:]:
            state.emit(*(Broadcast(own) for own in self._own_messages(view)))

    def _own_messages(self, view: View) -> list[Message]:
        """What this node said in a view, byte for byte: its proposal only while that is current."""
        state = self._state
        at = state.views.get(view)
        if at is None:
            return []
        votes: list[Message] = [vote for vote in at.own if vote is not None]
        if at.own_proposal is not None and view == state.view:
            votes.remove(at.own_proposal.vote)
            return [at.own_proposal, *votes]
        return votes
