"""What `acknowledge --watch` keeps and believes: its position, and what a dossier proves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta

from node.cli.errors import CommandError
from node.cli.files import write_whole

if TYPE_CHECKING:
    from node.audit.dossier import Dossier
    from node.chain.types import Outcome, Payment

FORMAT = "nostro-acknowledge/1"
MAX_CYCLES = 1_000
"""Numbers of clearing cycles that are remembered, the latest ones."""
MAX_POSITION_BYTES = 1024 * 1024
Natural = Annotated[int, Meta(ge=0, le=2**62)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    chain_id: str
    participant: str
    place: tuple[Natural, Natural]
    cycles: dict[str, tuple[Natural, Natural]]


@dataclass
class Position:
    """How far one participant's acknowledgements came, in a file."""

    chain_id: bytes
    lei: str
    place: tuple[int, int] = (0, 0)
    """(height, index) of the last outcome that was dealt with."""
    cycles: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Number of a clearing cycle → the place before the first payment that joined it."""

    @classmethod
    def load(cls, path: Path, chain_id: bytes, lei: str) -> Position:
        """What the file says, or the beginning of the chain where there is none. Raises
        CommandError for a file that is damaged, or of another chain or participant."""
        try:
            with path.open("rb") as opened:
                data = opened.read(MAX_POSITION_BYTES)
        except FileNotFoundError:
            return cls(chain_id, lei)
        except OSError as error:
            raise CommandError(f"cannot read {path}: {error.strerror or error}") from error
        try:
            file = msgspec.json.decode(data, type=_File)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise CommandError(
                f"{path} holds no position ({error}); without it all payments are gone through "
                "anew, which acknowledges none twice"
            ) from error
        for what, expected, found in (
            ("format", FORMAT, file.format),
            ("chain", chain_id.hex(), file.chain_id),
            ("participant", lei, file.participant),
        ):
            if expected != found:
                raise CommandError(f"{path} is of another {what}: {found[:80]!a}, not {expected}")
        return cls(chain_id, lei, file.place, dict(file.cycles))

    def save(self, path: Path) -> None:
        """Make it durable. Raises CommandError."""
        while len(self.cycles) > MAX_CYCLES:
            del self.cycles[min(self.cycles, key=lambda each: self.cycles[each])]
        file = _File(FORMAT, self.chain_id.hex(), self.lei, self.place, self.cycles)
        write_whole(path, msgspec.json.encode(file) + b"\n")


class Refused(Exception):
    """What a node gave does not prove that the payment settled; the text says why."""


class Proven(NamedTuple):
    """What a verified dossier says of a payment to us that settled."""

    payment: Payment
    outcome: bytes
    """Leaf hash of the outcome with which it settled."""
    block: bytes
    """Digest of the header of that outcome's block."""
    acknowledged: bool
    """Whether the dossier itself shows our acknowledgement of this."""


def proven(data: bytes, genesis_file: bytes, uetr: str, lei: str) -> Proven:
    """Verify a dossier and take from it what is to be acknowledged. Raises Refused."""
    from node.audit.report import FAIL, NOTE, VALID  # noqa: PLC0415
    from node.audit.verify import verify_file  # noqa: PLC0415
    from node.audit.verify_order import order_of  # noqa: PLC0415
    from node.chain.block import header_digest, outcome_leaf  # noqa: PLC0415
    from node.chain.encoding import encode  # noqa: PLC0415
    from node.chain.types import Payment  # noqa: PLC0415
    from node.chain.uetr import uetr_text  # noqa: PLC0415

    report = verify_file(data, genesis_file)
    if report.verdict != VALID:
        lines = [line for line in report.lines if line.result == FAIL]
        lines += [line for line in report.lines if line.result == NOTE]
        raise Refused(f"is {report.verdict}: {lines[0] if lines else 'nothing could be checked'}")
    dossier = report.dossier
    if dossier is None:
        raise Refused(f"is evidence of another kind ({report.kind})")
    payment = order_of(dossier)
    if not isinstance(payment, Payment) or uetr_text(payment.uetr) != uetr:
        raise Refused("is of another payment")
    if payment.creditor != lei:
        raise Refused(f"is of a payment to {payment.creditor}")
    if report.status not in {"settled", "posted"}:
        raise Refused(f"proves the payment {report.status}, not settled")
    if dossier.steps[0].outcome.original is not None:
        raise Refused("is of a retry, which repeats what became of the payment before")
    outcome = _settling(dossier)
    block = next(b.header for b in dossier.blocks if b.header.height == outcome.height)
    leaf, digest = outcome_leaf(encode(outcome)), header_digest(block)
    return Proven(payment, leaf, digest, _is_said(dossier, lei, leaf, digest))


def _settling(dossier: Dossier) -> Outcome:
    """The outcome with which it settled: of a net payment, its cycle's."""
    from node.audit.dossier import Netted  # noqa: PLC0415

    together = dossier.together
    if isinstance(together, Netted) and together.decided is not None:
        return together.decided.outcome
    return dossier.steps[-1].outcome


def _is_said(dossier: Dossier, lei: str, outcome: bytes, block: bytes) -> bool:
    from node.chain.types import Acknowledge  # noqa: PLC0415

    for related in dossier.related:
        envelope = related.act.signed.envelope
        body = envelope.body
        if (
            isinstance(body, Acknowledge)
            and envelope.sender == lei
            and (body.outcome, body.block) == (outcome, block)
        ):
            return True
    return False
