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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from node.api.amounts import BadAmount, parse_amount
from node.chain.build import build, build_pay, gross_payment
from node.chain.encoding import digest, encode, framed
from node.chain.instruction import payment_digest, payments_root
from node.chain.signature import Signer
from node.chain.types import (
    InstructionBody,
    Issue,
    Mode,
    MoveOwn,
    Payment,
    PaymentClass,
    Priority,
    Redeem,
    Reserve,
    Return,
)
from node.chain.uetr import parse_uetr, uetr_text
from node.cli.common import account_kind
from node.cli.errors import CommandError, Exit
from node.ledger.movements import movement_digest
from node.ledger.state import ACCOUNT_ROLES

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
CLASSES: Final = {"customer": PaymentClass.CUSTOMER, "interbank": PaymentClass.INTERBANK}
MODES: Final = {"gross": Mode.GROSS, "net": Mode.NET}
DUPLICATE = "AM05"
MAX_TIME = 2**63 - 1
"""Milliseconds since the Unix epoch: later than any."""

W = TypeVar("W")

CODES = {
    "settled": Exit.DONE,
    "posted": Exit.DONE,
    "done": Exit.DONE,
    "rejected": Exit.REFUSED,
    "refused": Exit.REFUSED,
    "cancelled": Exit.REFUSED,
    "expired": Exit.REFUSED,
    "voided": Exit.REFUSED,
    "unknown": Exit.UNKNOWN,
}
"""Exit code by status; any other is final but not settled."""


def exit_code(status: str) -> Exit:
    """The exit code that tells of one payment's status."""
    return CODES.get(status, Exit.NOT_SETTLED)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A payment as a person asks for it: participants by short name, LEI or BIC, the amount in
    decimals, kinds of account as they are written."""

    debtor: str
    creditor: str
    amount: str
    currency: str
    priority: str = "normal"
    payment_class: str = "interbank"
    mode: str = "gross"
    from_account: str = "settlement"
    to_account: str = "settlement"
    earliest: int | None = None
    """Milliseconds since the Unix epoch."""
    latest: int | None = None
    previous: str | None = None
    """UETR of the payment that it carries on."""
    on_behalf_of: str | None = None
    to_indirect: str | None = None
    ultimate_debtor: str | None = None
    ultimate_creditor: str | None = None


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

    def amount(self, text: str, asset: AssetView, *, zero: bool = False) -> int:
        """Minor units; `zero`: none at all is an amount, too. Raises CommandError."""
        try:
            return parse_amount(text, asset.exponent, asset.code, zero=zero)
        except BadAmount as error:
            raise CommandError(str(error)) from error

    def payment(self, uetr: bytes, terms: Terms) -> Payment:
        """The payment that the terms ask for. Raises CommandError."""
        sender, receiver = self.participant(terms.debtor), self.participant(terms.creditor)
        if sender.lei == receiver.lei and terms.from_account == terms.to_account:
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
        asset = self.asset(terms.currency)
        if (terms.earliest or 0) > (terms.latest or MAX_TIME):
            raise CommandError("the latest time of settlement lies before the earliest")
        return gross_payment(
            uetr,
            sender.lei,
            receiver.lei,
            asset.code,
            self.amount(terms.amount, asset),
            debtor_account=account_kind(terms.from_account),
            creditor_account=account_kind(terms.to_account),
            payment_class=_word(CLASSES, terms.payment_class, "class"),
            priority=_word(PRIORITIES, terms.priority, "priority"),
            mode=_word(MODES, terms.mode, "mode"),
            ultimate_debtor=terms.ultimate_debtor,
            ultimate_creditor=terms.ultimate_creditor,
            earliest=terms.earliest,
            latest=terms.latest,
            debtor_indirect=self._lei(terms.on_behalf_of),
            creditor_indirect=self._lei(terms.to_indirect),
            previous=None if terms.previous is None else read_uetr(terms.previous),
        )

    def _lei(self, given: str | None) -> str | None:
        return None if given is None else self.participant(given).lei

    def name(self, lei: str) -> str:
        """The short name of a LEI; the LEI itself where the ledger does not know it."""
        return next((p.name for p in self.participants if p.lei == lei), lei)


def _word(words: Mapping[str, W], given: str, what: str) -> W:
    if given not in words:
        raise CommandError(f"{what} {given!r} is none of {', '.join(words)}")
    return words[given]


@dataclass(frozen=True, slots=True)
class Order:
    """A signed instruction and what must come back for it."""

    sender: str
    """LEI."""
    id: str
    raw: bytes
    uetrs: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    """What the ledger compares a retry by, of each UETR, hex."""


def client_id(prefix: str, content: bytes) -> str:
    """The id of an instruction: a function of what it asks for."""
    return f"{prefix}-{digest(CLIENT_ID, content).hex()[:ID_HEX]}"


def pay_order(
    chain_id: bytes,
    payments: Sequence[Payment],
    valid_until: int,
    signers: Sequence[Signer],
    *,
    all_or_none: bool = False,
) -> Order:
    """The signed instruction of one debtor's payments. `valid_until`: ms since the epoch."""
    identifier = client_id("pay", payments_root(payments))
    raw = build_pay(
        chain_id,
        payments[0].debtor,
        identifier,
        valid_until,
        payments=payments,
        signers=signers,
        all_or_none=all_or_none,
    )
    return Order(
        payments[0].debtor,
        identifier,
        raw,
        tuple(uetr_text(p.uetr) for p in payments),
        tuple(payment_digest(p).hex() for p in payments),
    )


Moving = Issue | Redeem | MoveOwn | Reserve | Return
"""Bodies with a UETR of their own: its outcome is theirs."""


def moving_order(
    chain_id: bytes, sender: str, body: Moving, valid_until: int, signers: Sequence[Signer]
) -> Order:
    """The signed instruction of one of these; its id follows from what it asks for."""
    if isinstance(body, Reserve | Return):
        uetr, content = body.payment.uetr, payment_digest(body.payment)
    else:
        uetr, content = body.uetr, movement_digest(sender, body)
    identifier = client_id(type(body).__name__.lower()[:3], encode(body))
    raw = build(chain_id, sender, identifier, valid_until, body, signers)
    return Order(sender, identifier, raw, (uetr_text(uetr),), (content.hex(),))


def plain_order(
    chain_id: bytes,
    sender: str,
    body: InstructionBody,
    valid_until: int,
    signers: Sequence[Signer],
    *,
    reference: str,
) -> Order:
    """The signed instruction of a body without a UETR of its own.

    The same thing may be ordered twice on purpose (hold, release, hold), so the id follows from
    what is asked for *and* from a reference: the same under the same reference executes once.
    """
    prefix = type(body).__name__.lower()[:3]
    identifier = client_id(prefix, encode((encode(body), reference)))
    return Order(
        sender, identifier, build(chain_id, sender, identifier, valid_until, body, signers)
    )


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
