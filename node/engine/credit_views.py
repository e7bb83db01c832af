"""Credit, netting, links, disputes and consents, from the ledger's state to documents."""

from __future__ import annotations

from collections.abc import Iterator

from node.api.problems import Refused
from node.api.settlement import (
    ConsentView,
    CycleView,
    DisputeView,
    DocumentView,
    LegView,
    LinkView,
    LoanView,
    NetMemberView,
    NetPositionView,
    NettingView,
    PledgeView,
    PriceView,
    ShortView,
)
from node.chain.encoding import decode, encode
from node.chain.records import (
    CycleKey,
    DisputeKey,
    DisputeRecord,
    LinkKey,
    LinkRecord,
    LoanKey,
    LoanRecord,
    MemberKey,
    MemberRecord,
    NettingRecord,
    PledgeKey,
    PledgeRecord,
    PositionRecord,
    PriceKey,
)
from node.chain.uetr import uetr_text
from node.engine.payment_views import cycle_outcome
from node.engine.recorded import Recorded
from node.engine.views import holder_of
from node.engine.wording import Wording, word
from node.ledger.credit import value
from node.ledger.state import State
from node.ledger.tables import (
    CONSENTS,
    CYCLES,
    LINKS,
    MEMBERS,
    NETTING,
    PLEDGES,
    POSITIONS,
    PRICES,
)

NO_DATE = 0


# --- credit ---------------------------------------------------------------------------------------


def prices_view(state: State) -> list[PriceView]:
    """Prices of collateral, by security and currency."""
    wording = Wording(state)
    return [
        PriceView(
            security=key.security,
            currency=key.currency,
            price=wording.amount(record.price, key.currency),
            lot=wording.amount(record.lot, key.security),
            haircut=record.haircut,
        )
        for key, record in state.rows(PRICES)
    ]


def pledges_view(state: State, participant: str | None) -> list[PledgeView]:
    """Pledges, by short name, currency and security. Raises UnknownParticipant."""
    lei = None if participant is None else holder_of(state, participant).lei
    found = [
        _pledge(state, key, record)
        for key, record in state.rows(PLEDGES)
        if lei in (None, key.participant)
    ]
    return sorted(found, key=lambda each: (each.participant, each.currency, each.security))


def _pledge(state: State, key: PledgeKey, record: PledgeRecord) -> PledgeView:
    wording = Wording(state)
    price = state.get(PRICES, PriceKey(key.security, key.currency))
    worth = None if price is None else value(record.quantity, price)
    return PledgeView(
        participant=wording.name(key.participant),
        lei=key.participant,
        security=key.security,
        currency=key.currency,
        quantity=wording.amount(record.quantity, key.security),
        value=None if worth is None else wording.amount(worth, key.currency),
    )


def loans_view(
    state: State, recorded: Recorded, participant: str | None, after: list[str] | None, limit: int
) -> tuple[list[LoanView], list[str] | None]:
    """Overnight loans, by LEI, asset and date. Raises UnknownParticipant, Refused."""
    wording = Wording(state)
    # One participant's stand together: the prefix of a key is as good as a list of its own.
    prefix = encode(LoanKey("", "", NO_DATE))[:-3]
    if participant is not None:
        prefix += encode(holder_of(state, participant).lei)
    start = None if after is None else _key(after)
    found: list[LoanView] = []
    last = b""
    for raw, record in recorded.records.rows(prefix, start):
        if len(found) == limit:
            return found, [last.hex()]
        key, loan, last = decode(raw, LoanKey), decode(record, LoanRecord), raw
        found.append(
            LoanView(
                participant=wording.name(key.participant),
                lei=key.participant,
                asset=key.asset,
                date=key.date,
                amount=wording.amount(loan.amount, key.asset),
                height=loan.height,
            )
        )
    return found, None


def _key(after: list[str]) -> bytes:
    try:
        [key] = after
        return bytes.fromhex(key)
    except ValueError as error:
        raise Refused(
            "bad-cursor", "the cursor was not given by this list; start again without one"
        ) from error


# --- netting --------------------------------------------------------------------------------------


def netting_view(state: State) -> list[NettingView]:
    """Net systems with their members, by asset."""
    members: dict[str, list[tuple[MemberKey, MemberRecord]]] = {}
    for key, record in state.rows(MEMBERS):
        members.setdefault(key.asset, []).append((key, record))
    return [
        _system(state, key.asset, record, members.get(key.asset, []))
        for key, record in state.rows(NETTING)
    ]


def _system(
    state: State, asset: str, record: NettingRecord, members: list[tuple[MemberKey, MemberRecord]]
) -> NettingView:
    wording, positions = Wording(state), _positions(state, asset)

    def text(minor: int) -> str:
        return wording.amount(minor, asset)

    rows = []
    for key, member in members:
        position = positions.get(key.participant, PositionRecord(0, 0))
        net = position.credits - position.debits
        rows.append(
            NetMemberView(
                participant=wording.name(key.participant),
                lei=key.participant,
                cap=text(member.cap),
                margin=text(member.margin),
                contribution=text(member.contribution),
                net=text(net),
                left=text(member.cap + net),
            )
        )
    return NettingView(
        asset=asset,
        enabled=record.enabled,
        funding_ms=record.funding_ms,
        open_cycle=record.open_cycle,
        members=sorted(rows, key=lambda each: each.participant),
    )


def _positions(state: State, asset: str) -> dict[str, PositionRecord]:
    """Of the open cycle, by LEI."""
    return {key.participant: row for key, row in state.rows(POSITIONS) if key.asset == asset}


def cycle_keys(state: State, asset: str | None) -> list[tuple[str, int]]:
    """(asset, number) of every cycle, by asset, the newest first: they are numbered from 1 on, and
    the open one is there once a payment joined it."""
    found: list[tuple[str, int]] = []
    for key, record in state.rows(NETTING):
        if asset not in (None, key.asset):
            continue
        number = record.open_cycle
        if state.get(CYCLES, CycleKey(key.asset, number)) is None:
            number -= 1
        found += [(key.asset, each) for each in range(number, 0, -1)]
    return found


def cycle_view(state: State, recorded: Recorded, asset: str, number: int) -> CycleView:
    """A cycle that is there."""
    record = state.get(CYCLES, CycleKey(asset, number))
    assert record is not None, "asked for a cycle that is not there"
    wording = Wording(state)

    def text(minor: int) -> str:
        return wording.amount(minor, asset)

    sides = [(each.participant, each.debits, each.credits) for each in record.positions]
    if record.status == "open":
        sides = [(lei, row.debits, row.credits) for lei, row in _positions(state, asset).items()]
    outcome = None
    if record.decided is not None:
        outcome = cycle_outcome(recorded, number, asset, record.decided)
    event = None if outcome is None else outcome[1].event
    return CycleView(
        asset=asset,
        cycle=number,
        status=record.status,
        opened=record.opened,
        payments=record.payments,
        value=text(record.value),
        positions=[
            NetPositionView(
                participant=wording.name(lei),
                lei=lei,
                debits=text(debits),
                credits=text(credits),
                net=text(credits - debits),
            )
            for lei, debits, credits in sorted(sides)
        ],
        reserved=[
            ShortView(participant=wording.name(lei), lei=lei, amount=text(amount))
            for lei, amount in record.reserved
        ],
        until=record.until,
        decided=record.decided,
        result=None if event is None else wording.event(event),
    )


# --- links ----------------------------------------------------------------------------------------


def links_view(state: State) -> list[LinkView]:
    """Open links, by id."""
    wording = Wording(state)
    return [_link(wording, key, record) for key, record in state.rows(LINKS)]


def _link(wording: Wording, key: LinkKey, record: LinkRecord) -> LinkView:
    debtors = sorted({leg.debtor for leg in record.legs})
    return LinkView(
        id=key.id.hex(),
        legs=[
            LegView(
                uetr=uetr_text(leg.uetr),
                debtor=leg.debtor,
                debtor_name=wording.name(leg.debtor),
                creditor=leg.creditor,
                creditor_name=wording.name(leg.creditor),
                asset=leg.asset,
                amount=wording.amount(leg.amount, leg.asset),
                signed=leg.debtor in record.signed,
                payment=encode(leg).hex(),
            )
            for leg in record.legs
        ],
        expires=record.expires,
        opened_by=record.opened_by,
        opened_by_name=wording.name(record.opened_by),
        missing=[wording.name(each) for each in debtors if each not in record.signed],
        complete=record.complete is not None,
    )


# --- disputes and consents ------------------------------------------------------------------------


def dispute_view(state: State, uetr: bytes, record: DisputeRecord) -> DisputeView:
    """One dispute."""
    name = Wording(state).name
    return DisputeView(
        uetr=uetr_text(uetr),
        debtor=record.debtor,
        debtor_name=name(record.debtor),
        creditor=record.creditor,
        creditor_name=name(record.creditor),
        opened_by=record.opened_by,
        opened_by_name=name(record.opened_by),
        opened=record.opened,
        reason=record.reason,
        evidence=[
            DocumentView(by=by, by_name=name(by), document=document.hex())
            for by, document in record.evidence
        ],
        verdict=None if record.verdict is None else word(record.verdict),
    )


def disputes_view(
    state: State, recorded: Recorded, after: list[str] | None, limit: int
) -> tuple[list[DisputeView], list[str] | None]:
    """All disputes that ever were, by UETR. Raises Refused (bad-cursor)."""
    prefix = encode(DisputeKey(bytes(16)))[:-16]
    found: list[DisputeView] = []
    last = b""
    for raw, record in _rows(recorded, prefix, after):
        if len(found) == limit:
            return found, [last.hex()]
        key, last = decode(raw, DisputeKey), raw
        found.append(dispute_view(state, key.uetr, decode(record, DisputeRecord)))
    return found, None


def _rows(
    recorded: Recorded, prefix: bytes, after: list[str] | None
) -> Iterator[tuple[bytes, bytes]]:
    return recorded.records.rows(prefix, None if after is None else _key(after))


def consents_view(state: State) -> list[ConsentView]:
    """Consents that still hold, by digest of the payment."""
    name = Wording(state).name
    return [
        ConsentView(payment=key.payment.hex(), by=row.by, by_name=name(row.by), expires=row.expires)
        for key, row in state.rows(CONSENTS)
        if row.expires > state.time
    ]
