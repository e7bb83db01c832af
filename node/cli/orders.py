"""From what a person asks for to signed instructions, and from outcomes to what is reported.

Exactly once rests on two things. An instruction's id is derived from its content, so the same
payments signed again under a later `valid_until` have the same (sender, id), which executes once.
And a UETR is used once by the ledger, whatever the id. Because the id follows the content and not
the UETR alone, another amount under a used UETR does reach the ledger and is rejected there
(AM05); the digest of what a node calls settled is compared with what was signed here, so the
first payment's success is never shown as the second's.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from node.api.amounts import BadAmount, parse_amount
from node.chain.build import build_issue, build_pay, build_redeem, gross_payment
from node.chain.encoding import digest, encode, framed
from node.chain.instruction import payment_digest, payments_root
from node.chain.signature import Signer
from node.chain.types import (
    Issue,
    Payment,
    Priority,
    Redeem,
)
from node.chain.uetr import parse_uetr, uetr_text
from node.cli.errors import CommandError, Exit
from node.ledger.state import ACCOUNT_ROLES
from node.ledger.supply import body_digest

if TYPE_CHECKING:
    from node.api.service import AssetView, ParticipantView, PaymentView

CLIENT_ID = framed("nostro.client-instruction-id/1")
ID_HEX = 30
"""Hexadecimal digits of a derived id: 120 bits; with its prefix it fits the 35 characters."""
VALIDITY_MS = 24 * 3600 * 1000
"""How long an order of ours may wait for execution."""
PRIORITIES: Final = {
    "urgent": Priority.URGENT,
    "high": Priority.HIGH,
    "normal": Priority.NORMAL,
}
DUPLICATE = "AM05"

CODES = {
    "settled": Exit.DONE,
    "rejected": Exit.REFUSED,
    "refused": Exit.REFUSED,
    "cancelled": Exit.REFUSED,
    "expired": Exit.REFUSED,
    "unknown": Exit.UNKNOWN,
}
"""Exit code by status; any other is final but not settled."""


def exit_code(status: str) -> Exit:
    """The exit code that tells of one payment's status."""
    return CODES.get(status, Exit.NOT_SETTLED)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_uetr() -> bytes:
    """A new UUID version 4 from the system's random source."""
    raw = bytearray(secrets.token_bytes(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def read_uetr(text: str) -> bytes:
    """The bytes of a UETR. Raises CommandError."""
    try:
        return parse_uetr(text)
    except ValueError as error:
        raise CommandError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Book:
    """The participants and assets of a ledger, as a node tells them."""

    participants: Sequence[ParticipantView]
    assets: Sequence[AssetView]

    def participant(self, given: str) -> ParticipantView:
        """By short name, LEI or BIC. Raises CommandError."""
        for field in ("name", "lei", "bic"):
            for participant in self.participants:
                if getattr(participant, field) == given:
                    return participant
        known = ", ".join(p.name for p in self.participants[:20])
        raise CommandError(
            f"no participant has the name, LEI or BIC {given!r}; the ledger has {known}"
            + (", …" if len(self.participants) > 20 else "")
        )

    def asset(self, code: str) -> AssetView:
        """Raises CommandError."""
        for asset in self.assets:
            if asset.code == code:
                return asset
        raise CommandError(
            f"the ledger has no currency {code!r}; it has "
            + ", ".join(asset.code for asset in self.assets)
        )

    def amount(self, text: str, asset: AssetView) -> int:
        """Minor units. Raises CommandError."""
        try:
            return parse_amount(text, asset.exponent, asset.code)
        except BadAmount as error:
            raise CommandError(str(error)) from error

    def payment(
        self,
        uetr: bytes,
        *,
        debtor: str,
        creditor: str,
        amount: str,
        currency: str,
        priority: str,
    ) -> Payment:
        """A payment on the participants' own account. Raises CommandError."""
        sender, receiver = self.participant(debtor), self.participant(creditor)
        if sender.lei == receiver.lei:
            raise CommandError(
                f"debtor and creditor are the same account, that of {sender.name}; nothing would "
                "move"
            )
        if ACCOUNT_ROLES.isdisjoint(sender.roles):
            # The ledger would reject it without using up the UETR: no outcome could be asked for.
            raise CommandError(
                f"{sender.name} has no account to pay from; its roles are "
                + (", ".join(sender.roles) or "none")
            )
        asset = self.asset(currency)
        if priority not in PRIORITIES:
            raise CommandError(f"priority {priority!r} is none of {', '.join(PRIORITIES)}")
        return gross_payment(
            uetr,
            sender.lei,
            receiver.lei,
            asset.code,
            self.amount(amount, asset),
            priority=PRIORITIES[priority],
        )


@dataclass(frozen=True, slots=True)
class Order:
    """A signed instruction and what must come back for it."""

    id: str
    raw: bytes
    uetrs: tuple[str, ...]
    digests: tuple[str, ...]
    """What the ledger compares a retry by, of each UETR, hex."""


def client_id(prefix: str, content: bytes) -> str:
    """The id of an instruction: a function of what it asks for."""
    return f"{prefix}-{digest(CLIENT_ID, content).hex()[:ID_HEX]}"


def pay_order(
    chain_id: bytes, payments: Sequence[Payment], valid_until: int, signer: Signer
) -> Order:
    """The signed instruction of one debtor's payments. `valid_until`: ms since the epoch."""
    identifier = client_id("pay", payments_root(payments))
    raw = build_pay(
        chain_id,
        payments[0].debtor,
        identifier,
        valid_until,
        payments=payments,
        signers=[signer],
    )
    return Order(
        identifier,
        raw,
        tuple(uetr_text(p.uetr) for p in payments),
        tuple(payment_digest(p).hex() for p in payments),
    )


def issue_order(
    chain_id: bytes, issuer: str, body: Issue, valid_until: int, signer: Signer
) -> Order:
    identifier = client_id("iss", encode(body))
    raw = build_issue(
        chain_id,
        issuer,
        identifier,
        valid_until,
        uetr=body.uetr,
        asset=body.asset,
        creditor=body.creditor,
        amount=body.amount,
        signers=[signer],
    )
    return _supply_order(identifier, raw, body)


def redeem_order(
    chain_id: bytes, issuer: str, body: Redeem, valid_until: int, signer: Signer
) -> Order:
    identifier = client_id("red", encode(body))
    raw = build_redeem(
        chain_id,
        issuer,
        identifier,
        valid_until,
        uetr=body.uetr,
        asset=body.asset,
        amount=body.amount,
        signers=[signer],
    )
    return _supply_order(identifier, raw, body)


def _supply_order(identifier: str, raw: bytes, body: Issue | Redeem) -> Order:
    return Order(identifier, raw, (uetr_text(body.uetr),), (body_digest(body).hex(),))


@dataclass(frozen=True, slots=True)
class Result:
    """What is reported of one payment; the fields of `pay --json`."""

    uetr: str
    status: str
    reason: str | None = None
    height: int | None = None
    index: tuple[int, int] | None = None
    settled_at: int | None = None
    latency_ms: int | None = None


def result_of(
    view: PaymentView, digest_hex: str | None = None, latency_ms: int | None = None
) -> Result:
    """The outcome of a payment that this side signed with this digest.

    What stands under the UETR may be another payment's outcome: then ours is rejected as AM05.
    """
    if digest_hex is not None and view.digest is not None and view.digest != digest_hex:
        return Result(
            view.uetr, "rejected", DUPLICATE, view.height, view.index, latency_ms=latency_ms
        )
    return Result(
        uetr=view.uetr,
        status=view.status,
        reason=view.reason,
        height=view.height,
        index=view.index,
        settled_at=view.settled_at,
        latency_ms=latency_ms,
    )
