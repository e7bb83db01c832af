"""Where the time of each view went: one line a view left, and what metrics and status tell of it.

The replica calls in what it does anyway; nothing here decides anything. A line is written once
there is nothing more to wait for: at a nullification when the view is left, for a block when it is
in the database. Both are after the turn's messages have left, so that no vote waits for a log.

The line is `key=value` text. Milliseconds, `-` for what did not happen; the five phases follow one
another, and execution and sync lie within them:

    waited        nothing was pending here: an idle chain is left in peace
    proposal      until the leader's block came (or the leader built its own)
    notarization  until a quorum's votes for it were known
    finalization  until a quorum's second votes were known
    commit        until the database held the block
    execution     of the block; sync: durable writes before this node's promises in the view
    total         from entering the view to leaving it
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consensus.messages import (
    Certificate,
    Kind,
    OwnProposal,
    OwnVote,
    Record,
)
from node.engine.metrics import Metrics
from node.storage.chain_store import CommittedBlock

log = logging.getLogger("nostro.view")

MAX_OPEN_VIEWS = 128
"""Views whose line waits for finality. Beyond it the oldest is told as it stands: a chain that
finalizes nothing must not fill the memory with what it would tell."""
MAX_GIVEN_UP = 8
"""Views given up since the last finalization that the status names: two rounds of four leaders."""
SLOW_SECONDS = 1.0
"""A view that took longer, idle waiting aside, is told of at INFO even if its block is empty."""
NULLIFIED = "nullified"
NOTARIZED = "notarized"
_CAUSES = {Kind.NOTARIZE: NOTARIZED, Kind.NULLIFY: NULLIFIED, Kind.FINALIZE: "finalized"}
OVERTAKEN = "overtaken"
"""The cause told for a view that was left because a later one's certificate came."""


@dataclass(slots=True)
class _View:
    """One view's moments, in seconds of the log's clock; None for what did not happen so far."""

    entered: float | None = None
    leader: int = 0
    pending: float | None = None
    proposed: float | None = None
    notarized: float | None = None
    finalized: float | None = None
    stored: float | None = None
    left: float | None = None
    cause: str = ""
    execution: float = 0.0
    sync: float = 0.0


class ViewLog:
    """What the replica tells of its views."""

    def __init__(
        self,
        names: Sequence[str],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`names`: of the validators, by index. `clock`: monotonic seconds."""
        self._epoch = 0
        self._names = tuple(names)
        self._metrics = metrics
        self._clock = clock
        self._view = 0
        self._open: dict[int, _View] = {}
        self._given_up: deque[tuple[int, str]] = deque(maxlen=MAX_GIVEN_UP)
        self._nullified: list[int] = []
        """Views left that are not told of yet, until the end of the turn."""
        self._show_names()

    def _show_names(self) -> None:
        for name in self._names:
            self._metrics.nullified.labels(name)  # a rate needs the zero from before the first

    @property
    def given_up(self) -> list[tuple[int, str]]:
        """The latest views nullified since the last finalization with their leaders' names."""
        return list(self._given_up)

    def begin_epoch(self, epoch: int, names: Sequence[str]) -> None:
        """Another validator set, whose views count from 1 again."""
        for gone in set(self._names) - set(names):
            with contextlib.suppress(KeyError):
                self._metrics.missing.remove(gone)
        self._epoch = epoch
        self._names = tuple(names)
        self._show_names()
        self._open.clear()
        self._given_up.clear()
        self._nullified.clear()
        self._view = 0

    # --- what happens in a view --------------------------------------------------------------

    def entered(self, view: int, leader: int, cause: Kind | None, *, pending: bool) -> None:
        """The core went on to `view`; `cause` is what ended the one before it."""
        now = self._clock()
        before = self._open.get(self._view)
        if before is not None and before.entered is not None and cause is not None:
            before.left = now
            before.cause = _CAUSES[cause] if view == self._view + 1 else OVERTAKEN
            if before.cause == NULLIFIED:
                name = self._names[before.leader]
                self._metrics.nullified.labels(name).inc()
                self._given_up.append((self._view, name))
                self._nullified.append(self._view)
        self._view = view
        current = self._at(view)
        current.entered = now
        current.leader = leader
        if pending:
            current.pending = now

    def pending(self) -> None:
        """Something waits for a block: from now on the leader is expected to propose."""
        current = self._open.get(self._view)
        if current is not None and current.pending is None:
            current.pending = self._clock()

    def proposal(self, sender: int, view: int) -> None:
        """A proposal came. Not checked yet, so only what its link vouches for counts: that the
        leader of the current view sent it."""
        current = self._open.get(self._view)
        if current is None or view != self._view or sender != current.leader:
            return
        if current.proposed is None:
            current.proposed = self._clock()

    def executed(self, view: int, seconds: float) -> None:
        """A block of `view` was executed or built, just now."""
        at = self._at(view)
        at.execution += seconds
        if at.proposed is None:
            at.proposed = self._clock() - seconds

    def synced(self, records: Sequence[Record], seconds: float) -> None:
        """These became durable, just now. Counted for the views that promises among them are of."""
        views = set()
        for record in records:
            if isinstance(record, OwnVote):
                views.add(record.vote.view)
            elif isinstance(record, OwnProposal):
                views.add(record.proposal.vote.view)
        for view in views:
            if view in self._open:
                self._open[view].sync += seconds

    def certified(self, certificate: Certificate) -> None:
        """A certificate is known."""
        now = self._clock()
        if certificate.kind is Kind.NOTARIZE:
            at = self._open.get(certificate.view)
            if at is not None and at.notarized is None:
                at.notarized = now
                if at.entered is not None:
                    self._metrics.notarization.observe(now - at.entered)
        elif certificate.kind is Kind.FINALIZE:
            self._finalized(certificate.view, now)

    def _finalized(self, view: int, now: float) -> None:
        """The block of `view` is final, and by ancestry those that it extends."""
        for number, at in self._open.items():
            if (
                number <= view
                and at.finalized is None
                and (number == view or at.notarized is not None)
            ):
                at.finalized = now
                if at.entered is not None:
                    self._metrics.finalization.observe(now - at.entered)

    def _at(self, view: int) -> _View:
        at = self._open.get(view)
        if at is None:
            at = self._open[view] = _View()
        return at

    # --- telling -----------------------------------------------------------------------------

    def stored(self, blocks: Sequence[CommittedBlock], finalization: Certificate | None) -> None:
        """The database holds these blocks: tell of their views, and of those between them."""
        now = self._clock()
        self._given_up.clear()
        if finalization is not None:
            voters = {index for index, _ in finalization.signatures}
            for index, name in enumerate(self._names):
                self._metrics.missing.labels(name).set(index not in voters)
        by_view: dict[int, CommittedBlock] = {block.info.view: block for block in blocks}
        last = blocks[-1].info.view
        for view in sorted(v for v in self._open if v <= last and v != self._view):
            at = self._open.pop(view)
            block = by_view.get(view)
            if block is not None:
                at.stored = now
            self._tell(view, at, block)

    def tell_left(self) -> None:
        """Tell of the views that were nullified, and of the oldest if too many are open."""
        if not self._nullified and len(self._open) <= MAX_OPEN_VIEWS:
            return
        surplus = sorted(self._open)[: max(0, len(self._open) - MAX_OPEN_VIEWS)]
        for view in sorted({*self._nullified, *surplus} - {self._view}):
            at = self._open.pop(view, None)
            if at is not None:
                self._tell(view, at, None)
        self._nullified.clear()

    def _tell(self, view: int, at: _View, block: CommittedBlock | None) -> None:
        if at.entered is None or at.left is None:
            return  # caught up with from other nodes' blocks: this node was never in it
        begun = min(t for t in (at.pending, at.proposed, at.left) if t is not None)
        begun = max(begun, at.entered)
        arrived = None if at.proposed is None else max(at.proposed, begun)
        ended = at.left if at.stored is None else at.stored
        # A view that is notarized and yet not on the final chain was abandoned.
        happened = len(block.ids) > 0 if block else at.cause in (NULLIFIED, NOTARIZED)
        happened = happened or ended - begun > SLOW_SECONDS
        level = logging.INFO if happened else logging.DEBUG
        if not log.isEnabledFor(level):
            return
        log.log(
            level,
            "epoch=%d view=%d leader=%s cause=%s height=%s instructions=%s payments=%s total_ms=%s "
            "waited_ms=%s proposal_ms=%s execution_ms=%s sync_ms=%s notarization_ms=%s "
            "finalization_ms=%s commit_ms=%s",
            self._epoch,
            view,
            self._names[at.leader],
            at.cause,
            "-" if block is None else block.info.height,
            "-" if block is None else len(block.ids),
            "-" if block is None else len(block.uetrs),
            _ms(at.entered, at.left),
            _ms(at.entered, begun),
            _ms(begun, arrived),
            _ms(0.0, at.execution),
            _ms(0.0, at.sync),
            _ms(arrived, at.notarized),
            _ms(at.notarized, at.finalized),
            _ms(at.finalized, at.stored),
        )


def _ms(start: float | None, end: float | None) -> str:
    """Milliseconds between two moments; what is known late (a certificate before the block that
    it is for) took no time."""
    if start is None or end is None:
        return "-"
    return f"{max(0.0, end - start) * 1000:.1f}"
