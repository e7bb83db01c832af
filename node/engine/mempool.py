"""Instructions waiting to stand in a block. Bounded in count, bytes and per sender; no I/O.

Every validator pools every instruction, so that whichever leads next can include it. The pool
keeps order of arrival. It also keeps watch: an instruction that waits over `PATIENCE_VIEWS` is
reported with the leaders that passed it over, since censorship is only visible to those who hold
what was left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from node.chain.instruction import CheckedInstruction
from node.storage.config import MempoolLimits

PATIENCE_VIEWS = 10
"""Views an instruction may wait before the leaders that passed it over are named."""
REMEMBERED_VIEWS = 256
"""How many views' leaders are kept for those reports."""
NEVER = 2**64
"""A time that no instruction's `valid_until` reaches."""
MAX_REPORTS = 64
"""Reports of passed-over instructions at one view; the others follow at the next ones."""
REOFFER_VIEWS = 3
"""Views after which a waiting instruction is offered to all peers again; then after twice as many,
and so on: an offer may be lost, or come to nothing at a peer whose queues are full."""


class PoolRefused(Exception):
    """The pool does not take an instruction; `code` is stable, the text says what to do."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(slots=True)
class Entry:
    """A waiting instruction."""

    checked: CheckedInstruction
    view: int
    """The node's view at its arrival."""
    local: bool
    """Accepted by this node's own API: a receipt was given, it is kept durably."""
    offer_at: int
    """The view at which it is offered again."""
    reported: bool = False


@dataclass(frozen=True, slots=True)
class PassedOver:
    """An instruction that waits too long, and who led meanwhile without including it."""

    instruction: bytes
    views: int
    leaders: tuple[tuple[int, int], ...]
    """(view, validator index) of each view since its arrival that is still remembered."""


@dataclass(slots=True)
class Mempool:
    """The pool; see the module."""

    limits: MempoolLimits = field(default_factory=MempoolLimits)
    total_bytes: int = 0
    _earliest_expiry: int = NEVER
    _entries: dict[bytes, Entry] = field(default_factory=dict)
    _by_id: dict[tuple[str, str], bytes] = field(default_factory=dict)
    _by_raw: dict[bytes, CheckedInstruction] = field(default_factory=dict)
    _senders: dict[str, int] = field(default_factory=dict)
    _in_flight: set[bytes] = field(default_factory=set)
    _leaders: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=REMEMBERED_VIEWS))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._entries

    @property
    def payments(self) -> int:
        """Payments in all waiting instructions."""
        return sum(len(entry.checked.payment_digests) for entry in self._entries.values())

    def get(self, digest: bytes) -> CheckedInstruction | None:
        """The pooled instruction with this envelope digest."""
        entry = self._entries.get(digest)
        return entry.checked if entry else None

    def checked(self, raw: bytes) -> CheckedInstruction | None:
        """The instruction with exactly these bytes, whose signatures this node has verified."""
        return self._by_raw.get(raw)

    def add(self, checked: CheckedInstruction, *, view: int, local: bool) -> bool:
        """Pool an instruction; False if it is here already. Raises PoolRefused."""
        entry = self._entries.get(checked.digest)
        if entry is not None:
            entry.local = entry.local or local
            return False
        envelope = checked.instruction.envelope
        key = (envelope.sender, envelope.id)
        if key in self._by_id:
            raise PoolRefused(
                "duplicate-id",
                f"another instruction of {envelope.sender} with id {envelope.id!r} is waiting; "
                "an id is used once: send the first one again, or choose a new id",
            )
        waiting = self._senders.get(envelope.sender, 0)
        if waiting >= self.limits.per_sender:
            raise PoolRefused(
                "sender-quota",
                f"{waiting} instructions of {envelope.sender} are waiting, the most one sender may "
                "have; send this one again when some are final",
            )
        size = len(checked.raw)
        if (
            len(self._entries) >= self.limits.max_instructions
            or self.total_bytes + size > self.limits.max_bytes
        ):
            raise PoolRefused(
                "mempool-full",
                f"the node holds {len(self._entries)} waiting instructions and takes no more now; "
                "send this one again later, or to another node",
            )
        self._entries[checked.digest] = Entry(checked, view, local, view + REOFFER_VIEWS)
        self._by_id[key] = checked.digest
        self._by_raw[checked.raw] = checked
        self._senders[envelope.sender] = waiting + 1
        self.total_bytes += size
        self._earliest_expiry = min(self._earliest_expiry, envelope.valid_until)
        return True

    def _remove(self, digest: bytes) -> Entry | None:
        entry = self._entries.pop(digest, None)
        if entry is None:
            return None
        envelope = entry.checked.instruction.envelope
        del self._by_id[(envelope.sender, envelope.id)]
        self._by_raw.pop(entry.checked.raw, None)
        self._in_flight.discard(digest)
        self.total_bytes -= len(entry.checked.raw)
        waiting = self._senders[envelope.sender] - 1
        if waiting:
            self._senders[envelope.sender] = waiting
        else:
            del self._senders[envelope.sender]
        return entry

    def settle(self, executed: Iterable[CheckedInstruction], time: int) -> list[bytes]:
        """A block is final: forget what it executed, what shares an id with it, what expired.

        Gives the digests of the forgotten entries that were kept durably.
        """
        gone: list[bytes] = []
        for checked in executed:
            envelope = checked.instruction.envelope
            digest = self._by_id.get((envelope.sender, envelope.id))
            if digest is not None:
                gone.append(digest)
        if self._earliest_expiry < time:
            gone += self._expired(time)
        return self.drop(gone)

    def _expired(self, time: int) -> list[bytes]:
        expired = []
        self._earliest_expiry = NEVER
        for digest, entry in self._entries.items():
            valid_until = entry.checked.instruction.envelope.valid_until
            if valid_until < time:
                expired.append(digest)
            else:
                self._earliest_expiry = min(self._earliest_expiry, valid_until)
        return expired

    def drop(self, digests: Iterable[bytes]) -> list[bytes]:
        """Forget instructions that can never stand; the digests of those kept durably."""
        return [d for d in digests if (entry := self._remove(d)) is not None and entry.local]

    # --- proposing -------------------------------------------------------------------------

    def candidates(self) -> Iterator[CheckedInstruction]:
        """Waiting instructions in order of arrival, without those in a block not yet final."""
        in_flight = self._in_flight
        return (e.checked for d, e in list(self._entries.items()) if d not in in_flight)

    def mark_in_flight(self, digests: Iterable[bytes]) -> None:
        """These stand in an executed block that may become final."""
        entries = self._entries
        self._in_flight.update(d for d in digests if d in entries)

    def replace_in_flight(self, digests: Iterable[bytes]) -> None:
        """A block is final, and only these still stand in one that may become final.

        What else was held back is pending again: a block that can no longer be final must not
        keep its instructions waiting for the next nullified view."""
        self._in_flight.clear()
        self.mark_in_flight(digests)

    def clear_in_flight(self) -> None:
        """A view was nullified: its block may never be final, so everything is pending again.

        What does stand in a block that the next one extends is refused there as executed."""
        self._in_flight.clear()

    @property
    def pending(self) -> bool:
        """Whether something waits that stands in no block yet."""
        return len(self._entries) > len(self._in_flight)

    # --- the watch -------------------------------------------------------------------------

    def entered_view(self, view: int, leader: int) -> list[PassedOver]:
        """Note who leads `view`; gives what has newly waited over `PATIENCE_VIEWS`, at most
        `MAX_REPORTS`."""
        reports: list[PassedOver] = []
        for digest, entry in self._entries.items():
            if view - entry.view <= PATIENCE_VIEWS or len(reports) == MAX_REPORTS:
                break  # entries stand in order of arrival
            if not entry.reported and digest not in self._in_flight:
                entry.reported = True
                leaders = tuple(vl for vl in self._leaders if vl[0] > entry.view)
                reports.append(PassedOver(digest, view - entry.view, leaders))
        self._leaders.append((view, leader))
        return reports

    def begin_epoch(self) -> None:
        """Views count from 1 again, and the next validators' indexes are others."""
        self._leaders.clear()
        for entry in self._entries.values():
            entry.view = 0
            entry.offer_at = REOFFER_VIEWS

    def to_reoffer(self, view: int) -> list[bytes]:
        """Digests that have waited `REOFFER_VIEWS`, then twice as long each time: perhaps some
        leader lacks them."""
        again = []
        for digest, entry in self._entries.items():
            if view - entry.view < REOFFER_VIEWS:
                break
            if view >= entry.offer_at:
                entry.offer_at = view + 2 * (view - entry.view)
                again.append(digest)
        return again

    def digests(self) -> list[bytes]:
        """All waiting instructions, oldest first."""
        return list(self._entries)
