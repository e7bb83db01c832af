"""What verification found: a line a check, and the verdict over all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from node.audit.dossier import Dossier
from node.audit.fault import Absent, Fault, Missing

VALID, INVALID, UNDECIDED = "VALID", "INVALID", "UNDECIDED"
PASS, FAIL, NOTE = "PASS", "FAIL", "NOTE"
EXIT_CODES = {VALID: 0, INVALID: 1, UNDECIDED: 2}


@dataclass(frozen=True)
class Line:
    """The result of one check."""

    result: str
    """PASS, FAIL or NOTE."""
    check: str
    text: str

    def __str__(self) -> str:
        # Names in a forged file must not be able to move the cursor or hide a line.
        text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in self.text)
        return f"{self.result}  {self.check}: {text}"


@dataclass(frozen=True)
class Culprit:
    """A validator whose key signed two votes that no correct validator signs both of."""

    epoch: int
    validator: int
    """Index in its epoch's validator set."""
    name: str
    operator: str
    """LEI of the participant that answers for it."""
    vote_key: bytes
    view: int
    fault: str
    """What the two votes say, in words."""


@dataclass(frozen=True)
class PaymentFacts:
    """What a VALID dossier is of, and as of when it speaks."""

    uetr: str
    amount_minor: int
    """Minor units."""
    amount: str | None
    """In the asset's own decimals; None: the genesis file does not know the asset."""
    currency: str
    """Or security: the asset's code."""
    debtor: str | None
    """LEI; None: money that was issued."""
    creditor: str | None
    """LEI; None: money that was redeemed."""
    height: int
    """Of the block of its first outcome."""
    decided_height: int | None
    """Of the block in which its money moved; None: none did, up to the checkpoint."""
    settled_minor: int | None
    """Minor units that moved: of a reservation that was posted, perhaps only a part."""
    checkpoint_height: int
    checkpoint_digest: str
    """Of the header, hexadecimal."""


@dataclass(frozen=True)
class BalanceFacts:
    """What a VALID proof of balance is of."""

    participant: str
    """LEI."""
    currency: str
    """Or security: the asset's code."""
    account: str
    height: int
    """Of the block after which it held this."""
    time: int
    """Of that block, milliseconds since the Unix epoch."""
    exists: bool
    balance_minor: int
    """Minor units; negative: drawn credit."""
    balance: str | None
    """In the asset's own decimals; None: the genesis file does not know the asset."""
    reserved_minor: int
    line_minor: int
    checkpoint_height: int
    checkpoint_digest: str
    """Of the header, hexadecimal."""


@dataclass(frozen=True)
class AbsenceFacts:
    """What a VALID proof of absence is of."""

    uetr: str
    first_height: int
    last_height: int
    """No outcome of these blocks names the UETR."""
    after_time: int
    """Of the block below the first one, milliseconds since the Unix epoch."""
    through_time: int
    """Of the last block, milliseconds since the Unix epoch."""
    checkpoint_height: int
    checkpoint_digest: str
    """Of the header, hexadecimal."""


@dataclass
class Report:
    """What a file of evidence proves."""

    lines: list[Line] = field(default_factory=list)
    undecided: bool = False
    """A mandatory part is missing."""
    kind: str | None = None
    """What the file is: "dossier", "balance", "absence", "equivocation" or "fork"; None if it is
    none of them."""
    status: str | None = None
    """The proved status of a dossier's payment, one of `statuses.WORDS`; None unless VALID."""
    payment: PaymentFacts | None = None
    """None unless VALID, and of a payment."""
    state: BalanceFacts | AbsenceFacts | None = None
    """None unless VALID, and of a state."""
    dossier: Dossier | None = None
    """The dossier, if the file is one."""
    culprits: list[Culprit] = field(default_factory=list)
    """Whom an equivocation or a fork is proven of; empty unless VALID."""

    @property
    def verdict(self) -> str:
        if any(line.result == FAIL for line in self.lines):
            return INVALID
        return UNDECIDED if self.undecided else VALID

    @property
    def exit_code(self) -> int:
        """0 for a sound proof of whatever, 1 INVALID, 2 UNDECIDED."""
        return EXIT_CODES[self.verdict]

    def text(self) -> str:
        """One line a check, then the verdict."""
        return "\n".join([*map(str, self.lines), self.verdict]) + "\n"

    def run(self, name: str, check: Callable[[], str]) -> bool:
        """Do one check and note what it says. Whether it passed."""
        try:
            self.lines.append(Line(PASS, name, check()))
        except Fault as fault:
            self.lines.append(Line(FAIL, name, str(fault)))
        except Missing as missing:
            self.lines.append(Line(NOTE, name, f"cannot be decided: {missing}"))
            self.undecided = True
        except Absent as absent:
            self.lines.append(Line(NOTE, name, str(absent)))
        else:
            return True
        return False
