"""What a simulated node needs of a core, and how its machine behaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from consensus.interface import (
    BlockCodec,
    Effect,
    Event,
    Floor,
    Now,
    Signer,
    Timing,
    Verify,
)
from consensus.messages import Epoch, Record


class CoreLike(Protocol):
    """What the simulator needs of a consensus core."""

    @property
    def floor(self) -> Floor: ...

    @property
    def ended(self) -> bool: ...

    def start(self, now: Now) -> list[Effect]: ...

    def handle(self, event: Event, now: Now) -> list[Effect]: ...

    def next_deadline(self) -> int | None: ...

    def live_records(self) -> list[Record]: ...


class CoreFactory(Protocol):
    """How a node's consensus is made; the real one is `consensus.epochs.Epochs`."""

    def __call__(
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
    ) -> CoreLike: ...


@dataclass(frozen=True, slots=True)
class Habits:
    """How the machines of a run behave; times in virtual milliseconds, probabilities per point."""

    sync: tuple[int, int] = (1, 5)
    """Shortest and longest sync of journal and guard."""
    store: tuple[int, int] = (1, 8)
    """Shortest and longest synced commit of the database."""
    execute: tuple[int, int] = (0, 5)
    """Shortest and longest execution or building of a block."""
    hazard: float = 0.0
    """Probability of a crash at each point between two durable steps."""
    downtime: tuple[int, int] = (10, 3_000)
    """Shortest and longest time between a crash and the restart."""
    skew: int = 0
    """Wall clocks are at most this far from true time."""
    rate_ppm: int = 0
    """Monotonic clocks run at most this much too fast or too slow, in parts per million."""
    waits_for_sync: bool = True
    """Whether events wait while a sync is under way; else they are handled, and their effects
    wait for a sync of their own."""
    certificates_wait: bool = False
    """Whether a turn without a vote, proposal or body leaves its records to the next sync: a
    certificate is no promise, and those who signed it are bound to be able to show it again."""
    commit_blocks_sends: bool = False
    """Whether later sends wait for the database, or only for the journal."""
    rotate_every: int = 4
    """Commits between rotations of the journal."""

    def healed(self) -> Habits:
        """The same machine with a quick disk and without crashes."""
        return replace(
            self, sync=(1, 5), store=(1, 8), execute=(0, 5), hazard=0.0, downtime=(10, 50)
        )
