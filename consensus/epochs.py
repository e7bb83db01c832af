"""One core after the other: what happens when a validator set ends and the next one begins.

Owned here: which epoch this node is in, and what it has to do with messages of any other.

An epoch ends when its sealing block is committed. From then on its core does nothing; the driver
stores the block, works out the next set from the ledger, and says `EpochStarted`. The next core
starts from the sealing block as its view 0, with nothing of the old one: no vote, certificate or
record of an epoch has a meaning in another.

Peers change epochs within moments of each other, or days:

- *early* messages, of the epoch after this one, are kept (a bounded number of each peer) and
  given to the next core; they also show that this node is behind, so their sender is asked;
- *stragglers*, who still talk in an epoch before this one, are told what sealed it, from storage,
  at most once a `retry` each. Nothing else is ever done for an old epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from consensus import recovery
from consensus.core import Core
from consensus.interface import (
    BlockCodec,
    Effect,
    EpochStarted,
    Event,
    Floor,
    Now,
    Pending,
    Received,
    Rejected,
    ReportEquivocation,
    Send,
    Signer,
    Straggler,
    Timing,
    Verify,
)
from consensus.messages import (
    BlockRequest,
    BlockResponse,
    Certificate,
    CertificateRequest,
    Epoch,
    Kind,
    Message,
    OwnVotesRequest,
    OwnVotesResponse,
    Proposal,
    Record,
    ValidatorIndex,
    View,
    Vote,
    Witnessed,
)
from consensus.state import KEPT_EVIDENCE

MAX_EARLY = 16
"""Messages of the next epoch kept of one peer; more are dropped, as a lossy link would."""
MAX_EARLY_PROPOSALS = 2
"""Proposals of the next epoch kept in all: they may be megabytes each."""


def epoch_of(message: Message) -> int | None:
    """The epoch in which a message is said; None for those that carry their own proof."""
    match message:
        case Proposal(vote=vote):
            return vote.epoch
        case (
            Vote()
            | Certificate()
            | BlockRequest()
            | BlockResponse()
            | CertificateRequest()
            | OwnVotesRequest()
            | OwnVotesResponse()
        ):
            return message.epoch
        case _:
            return None


def _asks_for_answer(message: Message) -> bool:
    """Whether its sender of an ended epoch is still in it. Answers, and the finalization with
    which everybody leaves an epoch, come from those who have left it, too."""
    match message:
        case BlockResponse() | OwnVotesResponse():
            return False
        case Certificate(kind=kind) | Vote(kind=kind):
            return kind is not Kind.FINALIZE
        case _:
            return True


class Epochs:
    """A node's consensus, through all epochs. Used like a `Core`, whose duties it passes on.

    Where this class and a `Core` differ: `handle` also takes `EpochStarted`, and may give
    `Straggler`.
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
        """`epoch`, `validators`, `index`: of the epoch that follows what the database holds.
        `floor`: the block that it holds, or that block's `starting_floor` if it seals an epoch.

        Raises what `Core` raises."""
        self._timing = timing
        self._codec = codec
        self._verify = verify
        self._signer = signer
        self._epoch = epoch
        self._pending = False
        self._early: dict[ValidatorIndex, list[Message]] = {}
        self._told_at: dict[ValidatorIndex, int] = {}
        """When a peer of another epoch was last answered or asked, monotonic ms."""
        records = list(records)
        self._ahead = [record for record in records if recovery.epoch_of(record) > epoch]
        """Of epochs that the database, replaced by an older copy, has yet to come to again: what
        was signed in them stays signed."""
        self._witnessed = deque(
            (
                record.equivocation
                for record in records
                if isinstance(record, Witnessed) and recovery.epoch_of(record) < epoch
            ),
            maxlen=KEPT_EVIDENCE,
        )
        """Of epochs that ended: the crash may have come before the application had stored it."""
        self._core = self._make(index, validators, floor, records)

    def _make(
        self,
        index: int | None,
        validators: Sequence[bytes],
        floor: Floor,
        records: Iterable[Record],
    ) -> Core:
        return Core(
            index=index,
            validators=validators,
            epoch=self._epoch,
            floor=floor,
            timing=self._timing,
            codec=self._codec,
            verify=self._verify,
            signer=self._signer,
            records=records,
        )

    # --- what others may read ---------------------------------------------------------------

    @property
    def epoch(self) -> Epoch:
        """The current epoch."""
        return self._epoch

    @property
    def ended(self) -> bool:
        """Whether the current epoch is sealed and the next one has not started here yet."""
        return self._core.ended

    @property
    def view(self) -> View:
        """The current view of the current epoch."""
        return self._core.view

    @property
    def floor(self) -> Floor:
        """See `Core.floor`."""
        return self._core.floor

    @property
    def stopped(self) -> str | None:
        """See `Core.stopped`."""
        return self._core.stopped

    def stop(self, reason: str) -> None:
        """See `Core.stop`."""
        self._core.stop(reason)

    def leader(self, view: int) -> ValidatorIndex:
        """Who leads a view of the current epoch."""
        return self._core.leader(view)

    def live_records(self) -> list[Record]:
        """See `Core.live_records`."""
        before = [Witnessed(evidence) for evidence in self._witnessed]
        return before + self._core.live_records() + self._ahead

    def next_deadline(self) -> int | None:
        """See `Core.next_deadline`."""
        return self._core.next_deadline()

    # --- events -----------------------------------------------------------------------------

    def start(self, now: Now) -> list[Effect]:
        """See `Core.start`."""
        before = [ReportEquivocation(evidence) for evidence in self._witnessed]
        return before + self._core.start(now)

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """One turn."""
        match event:
            case EpochStarted():
                return self._start_epoch(event, now)
            case Received(sender, message):
                epoch = epoch_of(message)
                if epoch is not None:
                    if epoch > self._epoch:
                        return self._early_message(sender, message, epoch, now)
                    if epoch < self._epoch or self._core.ended:
                        return self._late_message(sender, message, epoch, now)
            case Pending(pending):
                self._pending = pending
        return [] if self._core.ended else self._core.handle(event, now)

    def _start_epoch(self, event: EpochStarted, now: Now) -> list[Effect]:
        assert self._core.ended, "an epoch starts when the one before has been sealed"
        assert event.epoch == self._epoch + 1, "epochs follow one another"
        stopped = None if self._core.retired else self._core.stopped
        self._epoch = event.epoch
        self._told_at = {}
        self._witnessed += self._core.evidence
        ahead = self._ahead
        self._ahead = [record for record in ahead if recovery.epoch_of(record) > event.epoch]
        self._core = self._make(event.index, event.validators, event.floor, ahead)
        if stopped is not None:
            # What made this node doubt its own state has not changed with the validators.
            self._core.stop(stopped)
        effects = self._core.start(now)
        effects += self._core.handle(Pending(self._pending), now)
        early, self._early = self._early, {}
        for sender, messages in early.items():
            moved = event.moved.get(sender)
            for message in messages if moved is not None else ():
                assert moved is not None
                effects += self.handle(Received(moved, message), now)
        return effects

    def _early_message(
        self, sender: ValidatorIndex, message: Message, epoch: int, now: Now
    ) -> list[Effect]:
        """Of an epoch that has not begun here: to be kept, and a reason to ask."""
        effects: list[Effect] = []
        kept = self._early.setdefault(sender, [])
        if epoch == self._epoch + 1 and len(kept) < MAX_EARLY and self._may_keep(message):
            kept.append(message)
        else:
            effects.append(Rejected(sender, "message: of an epoch that has not begun here"))
        if not self._core.ended and self._may_tell(sender, now):
            view = self._core.view
            effects.append(Send(sender, CertificateRequest(self._epoch, view, view)))
        return effects

    def _may_keep(self, message: Message) -> bool:
        if isinstance(message, Proposal):
            proposals = (
                each for kept in self._early.values() for each in kept if isinstance(each, Proposal)
            )
            return sum(1 for _ in proposals) < MAX_EARLY_PROPOSALS
        return isinstance(message, Vote | Certificate | OwnVotesRequest)

    def _late_message(
        self, sender: ValidatorIndex, message: Message, epoch: int, now: Now
    ) -> list[Effect]:
        """Of an epoch that has ended here: its sender is told what ended it."""
        effects: list[Effect] = [Rejected(sender, "message: of an epoch that has ended")]
        if _asks_for_answer(message) and self._may_tell(sender, now):
            effects.append(Straggler(sender, Epoch(epoch)))
        return effects

    def _may_tell(self, peer: ValidatorIndex, now: Now) -> bool:
        told_at = self._told_at.get(peer)
        if told_at is not None and now.monotonic - told_at < self._timing.retry:
            return False
        self._told_at[peer] = now.monotonic
        return True
