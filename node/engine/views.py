"""From ledger state, headers and outcomes to the documents that the API answers with.

Pure functions of final data, so the API's test twin gives the very same documents.
"""

from __future__ import annotations

import msgspec

from node.api.amounts import format_amount
from node.api.service import (
    AccountsView,
    AssetView,
    BalanceView,
    BlockView,
    CertificateView,
    ChangeView,
    EventView,
    KeyView,
    ParticipantView,
    PaymentView,
    UnknownParticipant,
)
from node.chain.types import (
    AccountKind,
    Header,
    Instruction,
    Issue,
    Outcome,
    Pay,
    Redeem,
)
from node.chain.uetr import uetr_text
from node.ledger.entries import UetrEntry
from node.ledger.state import State

WORDS = {"ACSC": "settled", "RJCT": "rejected"}
"""ISO 20022 status → the word of a payment's life that interfaces use."""


def payment_view(entry: UetrEntry) -> PaymentView:
    """What the UETR index alone tells."""
    status = WORDS[entry.status]
    index = (entry.instruction, entry.payment)
    change = ChangeView(
        status=status,
        iso_status=entry.status,
        reason=entry.reason,
        height=entry.height,
        index=index,
        time=entry.time,
    )
    return PaymentView(
        uetr=uetr_text(entry.uetr),
        status=status,
        reason=entry.reason,
        height=entry.height,
        index=index,
        settled_at=entry.time if status == "settled" else None,
        digest=entry.digest.hex(),
        changes=[change],
    )


def payment_with_parties(entry: UetrEntry, instruction: Instruction, state: State) -> PaymentView:
    """The same, with what the instruction tells."""
    debtor: str | None = None
    creditor: str | None = None
    match instruction.envelope.body:
        case Pay():
            payment = instruction.payments[entry.payment]
            kind, debtor, creditor = "pay", payment.debtor, payment.creditor
            asset, amount = payment.asset, payment.amount
        case Issue() as issue:
            kind, creditor, asset, amount = "issue", issue.creditor, issue.asset, issue.amount
        case Redeem() as redeem:
            kind, debtor = "redeem", instruction.envelope.sender
            asset, amount = redeem.asset, redeem.amount
        case other:
            raise AssertionError(f"{type(other).__name__} has no UETR")
    record = state.asset(asset)
    return msgspec.structs.replace(
        payment_view(entry),
        kind=kind,
        debtor=debtor,
        creditor=creditor,
        currency=asset,
        amount=None if record is None else format_amount(amount, record.exponent),
    )


def event_view(position: int, outcome: Outcome) -> EventView:
    """One outcome, at `position` among its block's."""
    word = WORDS[outcome.status]
    if outcome.uetr is None and word == "settled":
        word = "done"
    return EventView(
        height=outcome.height,
        index=position,
        instruction=outcome.instruction,
        payment=outcome.payment,
        time=outcome.time,
        uetr=None if outcome.uetr is None else uetr_text(outcome.uetr),
        status=word,
        iso_status=outcome.status,
        reason=outcome.reason,
    )


def accounts_view(state: State, participant: str | None) -> AccountsView:
    """Balances of one participant (short name, LEI or BIC) or of all. Raises UnknownParticipant."""
    holder = None if participant is None else state.find_participant(participant)
    if participant is not None and holder is None:
        raise UnknownParticipant(participant)
    balances = []
    for account in state.accounts():
        if holder is not None and account.participant != holder.record.lei:
            continue
        owner, asset = state.participant(account.participant), state.asset(account.asset)
        assert owner is not None
        assert asset is not None
        amount = format_amount(account.balance, asset.exponent)
        balances.append(
            BalanceView(
                participant=owner.record.name,
                lei=owner.record.lei,
                account=AccountKind(account.kind).name.lower(),
                asset=account.asset,
                amount=amount,
                available=amount,
            )
        )
    balances.sort(key=lambda b: (b.participant, b.account, b.asset))
    return AccountsView(height=state.height, balances=balances)


def participants_view(state: State) -> list[ParticipantView]:
    """All participants, ascending by short name."""
    return [
        ParticipantView(
            name=r.name,
            lei=r.lei,
            bic=r.bic,
            roles=list(r.roles),
            threshold=r.threshold,
            keys=[
                KeyView(
                    public_key=k.public_key.hex(),
                    valid_from=k.valid_from,
                    revoked_from=k.revoked_from,
                )
                for k in r.keys
            ],
        )
        for r in sorted((each.record for each in state.participants()), key=lambda r: r.name)
    ]


def assets_view(state: State) -> list[AssetView]:
    """All assets, ascending by code."""
    return [
        AssetView(
            code=r.code,
            exponent=r.exponent,
            issuer=r.issuer,
            issued=format_amount(r.issued, r.exponent),
            redeemed=format_amount(r.redeemed, r.exponent),
        )
        for r in state.assets()
    ]


def block_view(header: Header, digest: bytes, certificate: CertificateView | None) -> BlockView:
    """A final block's header, with what proves it final."""
    return BlockView(
        height=header.height,
        digest=digest.hex(),
        version=header.version,
        chain_id=header.chain_id.hex(),
        epoch=header.epoch,
        view=header.view,
        parent=header.parent.hex(),
        timestamp=header.timestamp,
        proposer=header.proposer,
        instructions_count=header.instructions_count,
        instructions_root=header.instructions_root.hex(),
        outcomes_count=header.outcomes_count,
        outcomes_root=header.outcomes_root.hex(),
        state_root=header.state_root.hex(),
        history_root=header.history_root.hex(),
        validator_set=header.validator_set.hex(),
        next_validator_set=header.next_validator_set.hex(),
        certificate=certificate,
    )
