"""What the audit of a chain found, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from node.audit.fault import Fault, shown
from node.audit.report import EXIT_CODES, INVALID, UNDECIDED, VALID


class Finding(NamedTuple):
    """The first thing that is not as it must be."""

    height: int
    where: str
    """The field."""
    expected: str
    found: str

    def __str__(self) -> str:
        return f"block {self.height}, {self.where}: expected {self.expected}, found {self.found}"


@dataclass
class AuditReport:
    """What an audit saw."""

    height: int = -1
    """The last height that is sound."""
    digest: bytes = b""
    """Of its header."""
    instructions: int = 0
    payments: int = 0
    """Outcomes: payments, instructions without payments, and what else happened."""
    signatures: int = 0
    """Of senders and of validators, verified."""
    certificates: int = 0
    """Finalizations, and the notarizations and nullifications that are stored with them."""
    epochs: int = 1
    """Begun; all but the last one ended."""
    equivocations: int = 0
    """Proven against validators, on the ledger or seen by the node itself."""
    statements: int = 0
    """Business days of accounts that tied out."""
    totals: dict[str, int] = field(default_factory=dict)
    """Sum of all balances = issued − redeemed, minor units, by asset."""
    resumed: int | None = None
    """The height that an earlier run had come to: what is up to it was not read again."""
    compared: bool = True
    """Whether the source holds outcomes of its own, and they are those that the replay made."""
    finding: Finding | None = None
    undecided: str | None = None
    """Why the audit could not be done, if it could not."""

    @property
    def verdict(self) -> str:
        if self.finding is not None:
            return INVALID
        return VALID if self.undecided is None else UNDECIDED

    @property
    def exit_code(self) -> int:
        """0 VALID, 1 INVALID, 2 UNDECIDED."""
        return EXIT_CODES[self.verdict]

    def text(self) -> str:
        """For people; the last line is the verdict."""
        lines = []
        if self.height >= 0:
            lines = [
                f"replayed to height {self.height}, block {self.digest.hex()}",
                f"{self.instructions:,} instructions, {self.payments:,} outcomes, "
                f"{self.signatures:,} signatures, {self.certificates:,} certificates, "
                f"{self.epochs:,} epoch(s), {self.equivocations:,} equivocation(s) proven",
                *(
                    f"{asset}: {total:,} minor units = issued − redeemed = sum of balances"
                    for asset, total in sorted(self.totals.items())
                ),
            ]
            if self.statements:
                lines.append(f"{self.statements:,} statements of business days tie out")
        if self.resumed is not None:
            lines.append(
                f"NOTE  went on from height {self.resumed}, which an earlier run had come to"
            )
        if not self.compared:
            lines.append("NOTE  the source holds no outcomes: those replayed have the roots")
        if self.finding is not None:
            lines.append(f"FAIL  {self.finding}")
        if self.undecided is not None:
            lines.append(f"NOTE  {self.undecided}")
        return "\n".join([*lines, self.verdict]) + "\n"


class Damaged(Exception):
    """What is read is no chain: raised by a source whose form tells (an archive)."""

    def __init__(self, height: int, where: str, expected: object, found: object) -> None:
        super().__init__(f"block {height}, {where}: expected {expected}, found {found}")
        self.height, self.where, self.expected, self.found = height, where, expected, found


class Stop(Exception):
    """Carries the finding out of the replay."""

    def __init__(self, height: int, where: str, expected: object, found: object) -> None:
        self.finding = Finding(height, where, shown(expected), shown(found))
        super().__init__(str(self.finding))

    @classmethod
    def at(cls, height: int, fault: Fault) -> Stop:
        """For a fault of a block's certificates."""
        return cls(height, fault.where, fault.expected, fault.found)

    @classmethod
    def of(cls, damaged: Damaged) -> Stop:
        """For what a source itself found."""
        return cls(damaged.height, damaged.where, damaged.expected, damaged.found)
