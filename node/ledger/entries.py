"""What the ledger remembers of executed instructions and used UETRs, to keep both exactly-once.

Neither is under `state_root` (that keeps a payment cheap); both follow from the outcomes of the
blocks in the window, from which they can be rebuilt. Entries carry the times by which every
node forgets them at the same block.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class InstructionEntry(NamedTuple):
    """An executed instruction. Counts while the block time is ≤ `valid_until`."""

    sender: str
    id: str
    valid_until: int
    """Milliseconds since the Unix epoch."""
    digest: bytes
    """Digest of the envelope."""
    height: int
    instruction: int
    """Index in the block."""


class UetrEntry(NamedTuple):
    """A UETR that was used. Counts while block time − `time` ≤ the window; nothing stays undecided
    for longer than that."""

    uetr: bytes
    digest: bytes
    """The payment's leaf hash: the same canonical payment or another one."""
    time: int
    """Block time of the latest outcome, milliseconds since the Unix epoch."""
    height: int
    """Of the first outcome, and so of the payment itself; with the two that follow its place."""
    instruction: int
    payment: int
    status: str
    """Of the latest outcome."""
    reason: str | None
    changed: int
    """Height of the latest outcome."""
    cycle: int | None
    """The clearing cycle that decides the payment, of its asset."""


class JoinedEntry(NamedTuple):
    """A payment of a clearing cycle. Nothing is under `state_root` of a single one but what the
    cycle's root commits to, so storage keeps what evidence takes."""

    asset: str
    cycle: int
    leaf: bytes
    """The payment's leaf hash."""
    height: int
    instruction: int
    payment: int
    """With the two before: where it stands."""


class ClosedEntry(NamedTuple):
    """A clearing cycle that takes no more payments."""

    asset: str
    cycle: int
    height: int
    outcome: int
    """Index of the outcome that says so in the block of this height."""


class OutcomesGone(Exception):
    """A block's outcomes are asked for that are not held (any more)."""

    def __init__(self, height: int) -> None:
        super().__init__(f"the outcomes of block {height} are not held here")
        self.height = height


class RecentIndex(Protocol):
    """Entries of final blocks, as storage serves them (forgetting is the ledger's business)."""

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        """The latest executed instruction under (sender, id)."""

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        """The latest terminal outcome under this UETR."""

    def uetrs_between(self, after: int, through: int) -> Iterable[bytes]:
        """The UETR of each outcome that names one, of the blocks `after` + 1 to `through`. Raises
        OutcomesGone where the outcomes of one of them are not held."""
