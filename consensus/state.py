"""What the rules read and write: the current view, the views above the floor, the blocks.

Owned here: the current view only moves forward, the floor only moves up, and everything at or
below the floor is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from consensus.blocks import BlockTree
from consensus.interface import (
    Alarm,
    BlockCodec,
    Effect,
    EnteredView,
    Floor,
    Persist,
    Rejected,
    ReportEquivocation,
    Timing,
    Verify,
)
from consensus.messages import (
    Certificate,
    Content,
    Epoch,
    Equivocation,
    Kind,
    ValidatorIndex,
    View,
    Witnessed,
    quorum,
)
from consensus.pacemaker import Pacemaker
from consensus.votes import Tally, ViewState

KEPT_EVIDENCE = 64
"""Equivocations kept for the journal beyond the floor; the newest. The application stores all."""


class State:
    """One validator's state in one epoch."""

    def __init__(
        self,
        *,
        index: ValidatorIndex | None,
        validators: Sequence[bytes],
        epoch: Epoch,
        floor: Floor,
        timing: Timing,
        codec: BlockCodec,
        verify: Verify,
    ) -> None:
        self.index = index
        self.validators = tuple(validators)
        self.quorum = quorum(len(self.validators))
        self.epoch = epoch
        self.timing = timing
        self.codec = codec
        self.verify = verify
        self.tally = Tally(self.validators, verify)
        self.floor = floor
        self.view = View(floor.info.view + 1)
        self.views: dict[View, ViewState] = {}
        self.blocks = BlockTree(floor.info)
        self.final_view = View(floor.info.view)
        """The highest view with a finalization, whether or not its block is here yet."""
        self.recorded_view = View(floor.info.view)
        """The highest view that the journal held a finalization of when this node started. Our
        votes up to it may have been cut off as final, though the database, if it was replaced by
        an older copy, has a lower floor: not knowing them says nothing."""
        self.latest_finalization = floor.finalization
        self.ready_view = View(floor.info.view)
        """The highest view whose certified block is executed here: what a leader builds on."""
        self.certified_view = View(floor.info.view)
        """The highest view with a notarization or finalization: the tip."""
        self.confirmed = False
        """Whether enough validators have said, since this start, what they hold of our key."""
        self.stopped: str | None = None
        """Why this node signs nothing any more; None while it does."""
        self.retired = False
        """Whether it was stopped because this key must not sign: a fresh one may."""
        self.sealed = False
        """Whether a block that seals this epoch, or a carrier of one, is known to be final."""
        self.ended = False
        """Whether this epoch's sealing block is final and committed: nothing is done any more."""
        self.pending = False
        """Whether the application has instructions waiting."""
        self.evidence: deque[Equivocation] = deque(maxlen=KEPT_EVIDENCE)
        self.fresh: deque[Certificate] = deque()
        """Certificates held but not yet acted upon, in order of arrival."""
        self.changed = False
        """Something that the proposing and voting rules depend on has changed."""
        self.pace = Pacemaker(timing, index, len(self.validators), 0)
        self._nullified_from = (self.view, self.view)
        """(v, u): all of [u, v) is nullified. Spares scanning the same run again."""
        self._effects: list[Effect] = []

    # --- effects ----------------------------------------------------------------------------

    def emit(self, *effects: Effect) -> None:
        """Add to this turn's effects, in the order in which they are to be performed."""
        self._effects.extend(effects)

    def take_effects(self) -> list[Effect]:
        """This turn's effects; the next turn starts with none."""
        effects, self._effects = self._effects, []
        return effects

    def reject(self, sender: int, reason: str) -> None:
        """`reason` is a fixed text, since it becomes the label of a counter."""
        self.emit(Rejected(ValidatorIndex(sender), reason))

    def stop(self, reason: str, *, retire_key: bool = False) -> None:
        """Sign nothing any more. Once: the first reason is the one that matters."""
        if self.stopped is None:
            self.stopped = reason
            self.retired = retire_key
            self.emit(Alarm(reason, retire_key))

    def stop_for_unknown_vote(self, view: int) -> None:
        """A vote by our key that our records lack: they are older than the key's last vote."""
        self.stop(
            f"peers hold a vote of this key in view {view} that this node has no record of: its "
            "journal was lost or restored from a copy, or the key is in use elsewhere",
            retire_key=True,
        )

    def report(self, evidence: Equivocation) -> None:
        """Keep an equivocation for good and tell the application."""
        self.evidence.append(evidence)
        self.emit(Persist(Witnessed(evidence)), ReportEquivocation(evidence))

    # --- views ------------------------------------------------------------------------------

    def leader(self, view: int) -> ValidatorIndex:
        """Round robin on (epoch, view)."""
        return ValidatorIndex((self.epoch + view) % len(self.validators))

    def open(self, view: int) -> ViewState:
        """The state of a view above the floor."""
        assert view > self.floor.info.view, "a view at or below the floor was opened"
        state = self.views.get(View(view))
        if state is None:
            state = self.views[View(view)] = ViewState(View(view))
        return state

    def enter(self, view: int, cause: Kind | None, now: int) -> None:
        """Rule 1: only forward; a certificate of a view that was left changes nothing here."""
        if view <= self.view:
            return
        self.view = View(view)
        self.begin_view(cause, now)

    def begin_view(self, cause: Kind | None, now: int) -> None:
        """Start the current view's timers and announce it."""
        at = self.open(self.view)
        self.pace.enter(self.leader(self.view), now)
        self.update_pace()
        if at.proposal is not None or at.own[Kind.NOTARIZE] is not None:
            self.pace.proposed()
        self.emit(EnteredView(self.view, self.leader(self.view), cause))
        self.changed = True

    def update_pace(self) -> None:
        """What the timers depend on has changed."""
        self.pace.steps = max(0, self.view - 1 - self.final_view)
        self.pace.tip_final = self.final_view >= self.certified_view

    def certified(self, view: int) -> Content | None:
        """The content notarized or final in a view above the floor."""
        state = self.views.get(View(view))
        return None if state is None else state.certified

    def certified_digest(self, view: int) -> bytes | None:
        """The block notarized or final in this view, the floor's included."""
        if view == self.floor.info.view:
            return self.floor.info.digest
        content = self.certified(view)
        return None if content is None else content.block

    def tip_seals(self) -> bool:
        """Whether what a leader would build on ends the epoch: then only carriers follow."""
        digest = self.certified_digest(self.ready_view)
        tip = None if digest is None else self.blocks.info(digest)
        return tip is not None and tip.seals

    def gap(self, parent_view: int) -> View | None:
        """The highest view between parent_view and the current view, both excluded, that has no
        nullification here; None if all are nullified."""
        view, lowest = self._nullified_from
        if view != self.view:
            lowest = self.view
        while lowest - 1 > parent_view:
            state = self.views.get(View(lowest - 1))
            if state is None or state.nullification is None:
                break
            lowest = View(lowest - 1)
        self._nullified_from = (self.view, lowest)
        return None if lowest - 1 <= parent_view else View(lowest - 1)

    # --- certificates -----------------------------------------------------------------------

    def hold(self, at: ViewState, certificate: Certificate) -> None:
        """Keep a checked certificate that is new here, to be acted upon in this turn.

        More than f faulty validators are needed for any of the contradictions looked for: then
        nothing this node signs can be relied on, and it says so instead of picking a side. A
        notarization beside a nullification is none of them.
        """
        kind = certificate.kind
        named = at.certified
        contradiction = None
        if kind is Kind.NULLIFY and at.finalization is not None:
            contradiction = "both a finalization and a nullification"
        elif kind is Kind.FINALIZE and at.nullification is not None:
            contradiction = "both a nullification and a finalization"
        elif kind is not Kind.NULLIFY and named is not None and named != certificate.content:
            contradiction = "certificates for two different blocks"
        if contradiction is not None:
            self.stop(f"view {at.view} has {contradiction}: more than f validators are faulty")
            return
        at.certificates[kind] = certificate
        if kind is not Kind.NULLIFY:
            self.certified_view = max(self.certified_view, at.view)
        self.fresh.append(certificate)

    # --- the floor --------------------------------------------------------------------------

    def raise_floor(self, floor: Floor) -> None:
        """The floor moves up; everything at or below it is forgotten."""
        assert floor.info.height > self.floor.info.height, "the floor moved down"
        assert floor.info.view > self.floor.info.view, "the floor moved down"
        self.floor = floor
        self.views = {v: state for v, state in self.views.items() if v > floor.info.view}
        self.blocks.raise_floor(floor.info)
        self.ready_view = max(self.ready_view, floor.info.view)
        self.certified_view = max(self.certified_view, floor.info.view)
        self.changed = True
