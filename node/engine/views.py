"""From ledger state, headers and outcomes to the documents that the API answers with.

Pure functions of final data, so the API's test twin gives the very same documents. Payments:
`node.engine.payment_views`.
"""

from __future__ import annotations

from node.api.amounts import format_amount
from node.api.service import (
    AccountsView,
    AssetView,
    BalanceView,
    BlockView,
    CertificateView,
    EventView,
    KeyView,
    ParametersView,
    ParticipantView,
    SweepView,
    UnknownParticipant,
)
from node.chain.records import ParticipantRecord
from node.chain.types import Header, Outcome
from node.chain.uetr import uetr_text
from node.engine.wording import Wording, account_word, word
from node.ledger.reasons import SETTLED, status_word
from node.ledger.state import State


def outcome_word(outcome: Outcome) -> str:
    """The ledger's word for an outcome: `done` for what is no payment."""
    if outcome.uetr is None and outcome.status == SETTLED:
        return "done"
    return status_word(outcome.status, outcome.reason)


def event_view(position: int, outcome: Outcome, state: State) -> EventView:
    """One outcome, at `position` among its block's."""
    return EventView(
        height=outcome.height,
        index=position,
        instruction=outcome.instruction,
        payment=outcome.payment,
        time=outcome.time,
        uetr=None if outcome.uetr is None else uetr_text(outcome.uetr),
        status=outcome_word(outcome),
        iso_status=outcome.status,
        reason=outcome.reason,
        event=None if outcome.event is None else Wording(state).event(outcome.event),
    )


def holder_of(state: State, participant: str) -> ParticipantRecord:
    """The participant with this short name, LEI or BIC. Raises UnknownParticipant."""
    found = state.find_participant(participant)
    if found is None:
        raise UnknownParticipant(participant)
    return found.record


def accounts_view(state: State, participant: str | None) -> AccountsView:
    """Balances of one participant (short name, LEI or BIC) or of all. Raises UnknownParticipant."""
    holder = None if participant is None else holder_of(state, participant)
    wording = Wording(state)
    balances = []
    for account in state.accounts():
        if holder is not None and account.participant != holder.lei:
            continue
        reserved, line = state.holding(account.participant, account.asset, account.kind)

        def text(minor: int, asset: str = account.asset) -> str:
            return wording.amount(minor, asset)

        balances.append(
            BalanceView(
                participant=wording.name(account.participant),
                lei=account.participant,
                account=account_word(account.kind),
                asset=account.asset,
                amount=text(account.balance),
                available=text(account.balance - reserved + line),
                reserved=text(reserved),
                line=text(line),
                drawn=text(max(0, -account.balance)),
            )
        )
    balances.sort(key=lambda b: (b.participant, b.account, b.asset))
    return AccountsView(height=state.height, balances=balances)


def participants_view(state: State) -> list[ParticipantView]:
    """All participants, ascending by short name."""
    records = sorted((each.record for each in state.participants()), key=lambda r: r.name)
    return [_participant(record) for record in records]


def _participant(record: ParticipantRecord) -> ParticipantView:
    return ParticipantView(
        name=record.name,
        lei=record.lei,
        bic=record.bic,
        roles=list(record.roles),
        threshold=record.threshold,
        keys=[
            KeyView(
                public_key=key.public_key.hex(),
                valid_from=key.valid_from,
                revoked_from=key.revoked_from,
            )
            for key in record.keys
        ],
        approvals=record.approvals,
        sponsor=record.sponsor,
        suspended=record.suspended,
        closed=record.closed,
        debit_frozen=record.debit_frozen,
        credit_frozen=record.credit_frozen,
        fifo_bypass=record.fifo_bypass,
        sweeps=[SweepView(asset=sweep.asset, to=sweep.to) for sweep in record.sweeps],
    )


def assets_view(state: State) -> list[AssetView]:
    """All assets, ascending by code."""
    return [
        AssetView(
            code=r.code,
            exponent=r.exponent,
            issuer=r.issuer,
            issued=format_amount(r.issued, r.exponent),
            redeemed=format_amount(r.redeemed, r.exponent),
            security=r.security,
        )
        for r in state.assets()
    ]


def parameters_view(state: State) -> ParametersView:
    """What the ledger goes by from the next block on."""
    parameters = state.parameters
    return ParametersView(
        height=state.height,
        uetr_window_ms=parameters.uetr_window_ms,
        governance_threshold=parameters.governance_threshold,
        readiness_ms=parameters.readiness_ms,
        close_rule=word(parameters.close_rule),
        rules=state.rules_version,
    )


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
