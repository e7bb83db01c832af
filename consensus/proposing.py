"""Rules 2 and 3: proposing a block, and notarizing another leader's.

Owned here: what must be known before a block is built or voted for. Whatever is missing is
named (`missing`), so that it can be fetched; missing ancestry is never held against a leader.
A header that its leader signed and that is wrong by itself costs the leader its view.
"""

from __future__ import annotations

from enum import Enum

from consensus.blocks import Block, follows
from consensus.fetching import CERTIFICATE_WINDOW
from consensus.interface import BodyMismatch, Build, Built, Execute, Now
from consensus.messages import Content, Milliseconds, Proposal, View
from consensus.state import State
from consensus.voting import Voter


class Verdict(Enum):
    """What can be said of a leader's block now."""

    WAIT = "wait"
    """Something is missing or running; nobody's fault yet."""
    BAD = "bad"
    """Its leader signed what no honest leader signs."""
    GOOD = "good"


class Proposing:
    """The current view's block: ours, or its leader's."""

    def __init__(self, state: State, voter: Voter) -> None:
        self._state = state
        self._voter = voter
        self._building: Build | None = None
        """The block asked of the application, for this view only."""
        self._building_on: View | None = None
        self.missing: tuple[View, View] | None = None
        """The views whose certificates this view's block waits for."""

    # --- rule 2: propose --------------------------------------------------------------------

    def try_propose(self, now: Now) -> None:
        """Ask for a block once this view's leader, if it is this node, has what it takes."""
        state = self._state
        view = state.view
        if state.leader(view) != state.index or not state.pace.started:
            return
        if not self._voter.may_notarize(view):
            return
        if self._building is not None and self._building.view == view:
            return
        parent_view = state.ready_view
        if state.gap(parent_view) is not None:
            self._miss_nullifications(parent_view)
            return
        digest = state.certified_digest(parent_view)
        assert digest is not None
        parent = state.blocks.info(digest)
        assert parent is not None
        unfinalized = parent.height - state.floor.info.height
        self._building_on = parent_view
        self._building = Build(
            epoch=state.epoch,
            view=view,
            parent=parent,
            # A carrier takes no step in time: no clock decides when an epoch can be finalized.
            timestamp=(
                parent.timestamp
                if parent.seals
                else Milliseconds(max(now.wall, parent.timestamp + 1))
            ),
            proposer=state.leader(view),
            empty=(
                not state.pending or parent.seals or unfinalized >= state.timing.max_unfinalized
            ),
        )
        state.emit(self._building)

    def built(self, event: Built) -> None:
        """The application's block, executed here. Dropped if its view was left or given up."""
        state, build, parent_view = self._state, self._building, self._building_on
        if build is None or event.view != build.view or event.view != state.view:
            return
        if not self._voter.may_notarize(event.view):
            return
        assert parent_view is not None
        info = state.codec.inspect(event.block)
        if info.epoch != state.epoch:
            return  # asked for in the epoch before
        asked = (build.epoch, build.view, build.parent.digest, build.timestamp, build.proposer)
        given = (info.epoch, info.view, info.parent, info.timestamp, info.proposer)
        assert given == asked, f"built a block other than asked for: {given} != {asked}"
        assert follows(info, build.parent), "built a block that does not follow its parent"
        block = state.blocks.add(info, event.block)
        block.requested = True
        block.valid = True
        if self._voter.propose(event.view, Content(parent_view, info.digest), event.block):
            state.pace.proposed()

    # --- the leader's proposal --------------------------------------------------------------

    def take(self, proposal: Proposal, arrival: int) -> Block | None:
        """The block of a proposal whose vote is verified and its leader's, if it is the view's
        first and the view is neither left nor decided. `arrival`: wall clock, ms.

        Raises BodyMismatch as `body_of` does.
        """
        state = self._state
        vote = proposal.vote
        at = state.open(vote.view)
        if vote.view < state.view or at.certified is not None:
            return None
        if at.proposal is None:
            at.proposal = vote
            if vote.view == state.view:
                state.pace.proposed()
        if at.proposal.content != vote.content or at.arrival is not None:
            return None
        block = self.body_of(proposal)
        at.arrival = arrival
        return block

    def body_of(self, proposal: Proposal) -> Block:
        """Keep a proposal's body. Raises BodyMismatch if it is not the one that the vote names:
        that is its sender's fault, since the leader signed for another."""
        assert proposal.vote.content is not None
        info = self._state.codec.inspect(proposal.block)
        if info.digest != proposal.vote.content.block:
            raise BodyMismatch("the block is not the one that the vote names")
        return self._state.blocks.add(info, proposal.block)

    # --- rule 3: notarize -------------------------------------------------------------------

    def consider(self, now: Now) -> None:
        """Vote for the current view's proposal once everything about it is known and right."""
        state = self._state
        view = state.view
        if not self._voter.may_notarize(view):
            return
        at = state.open(view)
        if at.proposal is None or at.proposal.content is None:
            return
        content = at.proposal.content
        block = state.blocks.get(content.block)
        if block is None:
            return  # its body did not match and is being fetched
        if at.arrival is None:
            at.arrival = now.wall
        verdict = self._judge(view, content, block, at.arrival, now)
        if verdict is Verdict.BAD:
            self._voter.nullify(view, now.monotonic)
        elif verdict is Verdict.GOOD:
            self._voter.notarize(view, content)

    def _judge(self, view: View, content: Content, block: Block, arrival: int, now: Now) -> Verdict:
        state = self._state
        info = block.info
        if (info.view, info.epoch, info.proposer) != (view, state.epoch, state.leader(view)):
            return Verdict.BAD
        if not state.floor.info.view <= content.parent_view < view:
            return Verdict.BAD
        parent_view = View(content.parent_view)
        complete = state.gap(parent_view) is None
        if not complete:
            self._miss_nullifications(parent_view)
        named = state.certified_digest(parent_view)
        if named is None:
            if self.missing is None:
                self.missing = (parent_view, parent_view)
            return Verdict.WAIT
        if named != info.parent:
            return Verdict.BAD
        if not state.blocks.is_executed(named):
            return Verdict.WAIT
        parent = state.blocks.info(named)
        assert parent is not None
        if not follows(info, parent):
            return Verdict.BAD
        if not block.requested:
            block.requested = True
            state.emit(Execute(info, block.raw))
        if block.valid is not True:
            return Verdict.WAIT if block.valid is None else Verdict.BAD
        if not complete:
            return Verdict.WAIT
        if parent.seals:
            return Verdict.GOOD  # its time is the sealing block's, which was judged then
        return self._judge_timestamp(info.timestamp, arrival, now)

    def _judge_timestamp(self, timestamp: int, arrival: int, now: Now) -> Verdict:
        """Only a voter's own notarize looks at its clock: judging a certified block by it would
        let one node's wrong clock, or a replay years later, undo what a quorum decided."""
        drift = self._state.timing.drift
        if arrival - timestamp > drift:
            return Verdict.BAD
        early = timestamp - now.wall - drift
        if early > 0:
            self._state.pace.hold_until = now.monotonic + early
            return Verdict.WAIT
        self._state.pace.hold_until = None
        return Verdict.GOOD

    def _miss_nullifications(self, parent_view: View) -> None:
        gap = self._state.gap(parent_view)
        assert gap is not None
        # From the parent's own view on: its certificate may be what is missing.
        first = max(parent_view, gap - CERTIFICATE_WINDOW + 1, self._state.floor.info.view + 1)
        self.missing = (View(first), gap)
