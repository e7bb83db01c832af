"""Building and signing instructions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consensus.messages import Vote
from node.chain.encoding import LINK, digest, encode
from node.chain.instruction import payments_root
from node.chain.signature import INSTRUCTION_DOMAIN, Signer
from node.chain.types import (
    MAX_PAYMENTS,
    MAX_SIGNATURES,
    NODE_ID_PREFIX,
    AccountKind,
    Envelope,
    Instruction,
    InstructionBody,
    KeySignature,
    Mode,
    Pay,
    Payment,
    PaymentClass,
    Priority,
    ReadyValidator,
    ReportEquivocation,
)


def assemble(
    envelope: Envelope, payments: Sequence[Payment], signatures: Iterable[KeySignature]
) -> bytes:
    """The instruction's bytes from signatures made anywhere, put into their order."""
    ordered = tuple(sorted(signatures, key=lambda s: s.public_key))
    return encode(Instruction(envelope, ordered, tuple(payments)))


def sign_instruction(
    envelope: Envelope, payments: Sequence[Payment], signers: Sequence[Signer]
) -> bytes:
    """The instruction's bytes, signed by all signers."""
    assert 0 < len(signers) <= MAX_SIGNATURES
    payload = encode(envelope)
    signatures = [
        KeySignature(s.public_key, s.sign(INSTRUCTION_DOMAIN, envelope.chain_id, payload))
        for s in signers
    ]
    return assemble(envelope, payments, signatures)


def build(  # noqa: PLR0917 - an envelope in the order of its fields, and who signs
    chain_id: bytes,
    sender: str,
    id: str,
    valid_until: int,
    body: InstructionBody,
    signers: Sequence[Signer],
) -> bytes:
    """The signed bytes of any instruction but a `Pay`, whose payments travel beside the body.

    `sender`: LEI. `valid_until`: milliseconds since the Unix epoch.
    """
    assert not isinstance(body, Pay), "build_pay makes these"
    return sign_instruction(Envelope(chain_id, sender, id, valid_until, body), (), signers)


# --- payments ---------------------------------------------------------------------------------


def gross_payment(
    uetr: bytes,
    debtor: str,
    creditor: str,
    asset: str,
    amount: int,
    *,
    debtor_account: AccountKind = AccountKind.SETTLEMENT,
    creditor_account: AccountKind = AccountKind.SETTLEMENT,
    payment_class: PaymentClass = PaymentClass.INTERBANK,
    priority: Priority = Priority.NORMAL,
    mode: Mode = Mode.GROSS,
    ultimate_debtor: str | None = None,
    ultimate_creditor: str | None = None,
    debtor_agent: str | None = None,
    creditor_agent: str | None = None,
    earliest: int | None = None,
    latest: int | None = None,
    remittance_digest: bytes | None = None,
    debtor_indirect: str | None = None,
    creditor_indirect: str | None = None,
    previous: bytes | None = None,
) -> Payment:
    """A payment of `amount` minor units, parties named by LEI; unless told otherwise a gross one
    between settlement accounts. Times are milliseconds since the Unix epoch."""
    return Payment(
        uetr=uetr,
        debtor=debtor,
        debtor_account=debtor_account,
        creditor=creditor,
        creditor_account=creditor_account,
        asset=asset,
        amount=amount,
        payment_class=payment_class,
        priority=priority,
        mode=mode,
        ultimate_debtor=ultimate_debtor,
        ultimate_creditor=ultimate_creditor,
        debtor_agent=debtor_agent,
        creditor_agent=creditor_agent,
        earliest=earliest,
        latest=latest,
        remittance_digest=remittance_digest,
        debtor_indirect=debtor_indirect,
        creditor_indirect=creditor_indirect,
        previous=previous,
    )


def link_id(legs: Sequence[Payment], expires: int) -> bytes:
    """The 32 bytes that name a linked settlement: the same for all that sign the same legs, in the
    same order, until the same time (milliseconds since the Unix epoch)."""
    return digest(LINK, encode((tuple(legs), expires)))


def build_pay(
    chain_id: bytes,
    sender: str,
    id: str,
    valid_until: int,
    *,
    payments: Sequence[Payment],
    signers: Sequence[Signer],
    all_or_none: bool = False,
) -> bytes:
    """A signed payment order. `valid_until`: milliseconds since the Unix epoch."""
    if not 0 < len(payments) <= MAX_PAYMENTS:
        raise ValueError(f"an instruction holds 1 to {MAX_PAYMENTS:,} payments")
    body = Pay(len(payments), payments_root(payments), all_or_none)
    return sign_instruction(Envelope(chain_id, sender, id, valid_until, body), payments, signers)


# --- what nodes say ---------------------------------------------------------------------------


def build_ready(
    chain_id: bytes,
    sender: str,
    id: str,
    valid_until: int,
    *,
    name: str,
    epoch: int,
    vote_key: bytes,
    possession: bytes,
    node: Signer,
) -> bytes:
    """A node's word that its validator has the vote key of the next epoch.

    `sender`: LEI of its operator. `id` without NODE_ID_PREFIX, which is put before it here.
    `possession`: `prove_possession(new vote key, "vote", sender, chain_id)`.
    """
    body = ReadyValidator(name, epoch, vote_key, possession)
    return build(chain_id, sender, NODE_ID_PREFIX + id, valid_until, body, [node])


def build_report(
    chain_id: bytes,
    sender: str,
    id: str,
    valid_until: int,
    *,
    first: Vote,
    second: Vote,
    node: Signer,
) -> bytes:
    """A node's report of an equivocation. `sender` and `id` as for `build_ready`."""
    body = ReportEquivocation(first, second)
    return build(chain_id, sender, NODE_ID_PREFIX + id, valid_until, body, [node])
