"""Who takes part: participants are admitted, get other keys, and leave; assets are added.

All of it is decided by governance (`changes`). Each kind has two functions: why it is refused, and
the rows that it puts once nothing speaks against it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from msgspec.structs import replace

from node.chain.isin import is_isin, is_security
from node.chain.records import (
    ACCOUNT_ROLES,
    ROLES,
    AssetRecord,
    KeyRecord,
    ParticipantRecord,
    Queued,
    Reserved,
)
from node.chain.signature import ROLE_PARTICIPANT, BadKey, check_possession
from node.chain.types import (
    AccountKind,
    AddAsset,
    AdmitParticipant,
    CloseParticipant,
    ProvenKey,
    ReplaceKeys,
)
from node.ledger import netting
from node.ledger.identifiers import BadIdentifier, check_lei
from node.ledger.keys import MAX_KEYS
from node.ledger.reasons import (
    BAD_PARAMETER,
    CLOSED_PARTICIPANT,
    KEY_ALREADY_REVOKED,
    KEY_IN_USE,
    NO_SUCH_KEY,
    NOTHING_TO_CHANGE,
    REPEATED_NAME,
    STILL_IN_USE,
    TOO_FEW_KEYS_LEFT,
    TOO_MANY_KEYS,
    UNKNOWN_PARTICIPANT,
    UNSOUND_KEY,
)
from node.ledger.state import Participant
from node.ledger.tables import LINKS, MEMBERS, NETTING, PAYMENTS, PLEDGES
from node.ledger.work import Work

INDIRECT = "indirect-participant"
DIRECT = "direct-participant"
OPERATOR = "operator"
ISSUER = "issuer"

_CODE = re.compile(r"[A-Z][A-Z0-9]{2,11}", re.ASCII)


# --- keys -----------------------------------------------------------------------------------------


def possession_refusal(work: Work, lei: str, keys: Iterable[ProvenKey]) -> str | None:
    """Whether one of these keys is unsound, or its possession not proven for this participant."""
    for key in keys:
        try:
            check_possession(
                key.public_key, ROLE_PARTICIPANT, lei, work.parent.chain_id, key.possession
            )
        except BadKey:
            return UNSOUND_KEY
    return None


def _fresh_refusal(work: Work, keys: tuple[ProvenKey, ...]) -> str | None:
    named = [key.public_key for key in keys]
    if any(one >= other for one, other in pairwise(named)):
        return BAD_PARAMETER
    return KEY_IN_USE if any(work.key_holder(key) is not None for key in named) else None


def _ascending(keys: Iterable[KeyRecord]) -> tuple[KeyRecord, ...]:
    return tuple(sorted(keys, key=lambda key: key.public_key))


# --- admission ------------------------------------------------------------------------------------


def admission_refusal(work: Work, change: AdmitParticipant) -> str | None:
    """Why the participant cannot be admitted; None: it can."""
    try:
        check_lei(change.lei)
    except BadIdentifier:
        return BAD_PARAMETER
    # People name a participant by any of the three: what one has as any of them is nobody else's.
    named = {change.lei, change.bic, change.name}
    if any(not named.isdisjoint((r.lei, r.bic, r.name)) for r in _records(work)):
        return REPEATED_NAME
    roles = change.roles
    if not roles or not set(roles) <= set(ROLES) or len(set(roles)) != len(roles):
        return BAD_PARAMETER
    if (change.approvals > 0) is not (OPERATOR in roles):
        return BAD_PARAMETER
    # More approvals than keys would be for keys that it registers itself: one that is stolen could
    # make the others.
    if max(change.threshold, change.approvals) > len(change.keys):
        return BAD_PARAMETER
    return _sponsor_refusal(work, change) or _fresh_refusal(work, change.keys)


def _sponsor_refusal(work: Work, change: AdmitParticipant) -> str | None:
    if INDIRECT not in change.roles:
        return None if change.sponsor is None else BAD_PARAMETER
    if change.sponsor is None or not ACCOUNT_ROLES.isdisjoint(change.roles):
        return BAD_PARAMETER
    sponsor = work.participant(change.sponsor)
    if sponsor is None:
        return UNKNOWN_PARTICIPANT
    record = sponsor.record
    fit = DIRECT in record.roles and not (record.suspended or record.closed)
    return None if fit else BAD_PARAMETER


def _records(work: Work) -> Iterable[ParticipantRecord]:
    return (each.record for each in work.participants())


def admit(work: Work, change: AdmitParticipant) -> None:
    """Put the participant's record; it can sign from the next height on."""
    valid_from = work.context.height + 1
    keys = [KeyRecord(key.public_key, valid_from, None) for key in change.keys]
    record = ParticipantRecord(
        lei=change.lei,
        bic=change.bic,
        name=change.name,
        roles=tuple(sorted(change.roles)),
        keys=_ascending(keys),
        threshold=change.threshold,
        approvals=change.approvals,
        sponsor=change.sponsor,
        suspended=False,
        closed=False,
        debit_frozen=False,
        credit_frozen=False,
        fifo_bypass=False,
        sweeps=(),
    )
    _put(work, record)


def _put(work: Work, record: ParticipantRecord) -> None:
    work.put_participant(Participant(record))
    for key in record.keys:
        work.put_key(key.public_key, record.lei)


# --- other keys -----------------------------------------------------------------------------------


def replacement_refusal(work: Work, change: ReplaceKeys) -> str | None:
    """Why the participant's keys cannot be replaced by these; None: they can."""
    found = work.participant(change.lei)
    if found is None:
        return UNKNOWN_PARTICIPANT
    if found.record.closed:
        return CLOSED_PARTICIPANT
    revoked: set[bytes] = set()
    for public_key in change.revoke:
        key = found.keys.get(public_key)
        if key is None:
            return NO_SUCH_KEY
        if key.revoked_from is not None or public_key in revoked:
            return KEY_ALREADY_REVOKED
        revoked.add(public_key)
    reason = _fresh_refusal(work, change.register)
    if reason is not None:
        return reason
    if len(found.keys) + len(change.register) > MAX_KEYS:
        return TOO_MANY_KEYS
    left = sum(key.is_valid(work.context.height + 1) for key in _replaced(work, found, change))
    return TOO_FEW_KEYS_LEFT if left < change.threshold else None


def replace_keys(work: Work, change: ReplaceKeys) -> None:
    """Put the participant's record with its keys from the next height on."""
    found = work.participant(change.lei)
    assert found is not None, "judged before"
    keys = _ascending(_replaced(work, found, change))
    _put(work, replace(found.record, keys=keys, threshold=change.threshold))


def _replaced(work: Work, found: Participant, change: ReplaceKeys) -> list[KeyRecord]:
    effective = work.context.height + 1
    gone = set(change.revoke)
    kept = (
        replace(key, revoked_from=effective) if key.public_key in gone else key
        for key in found.record.keys
    )
    return [*kept, *(KeyRecord(key.public_key, effective, None) for key in change.register)]


# --- leaving --------------------------------------------------------------------------------------


def closing_refusal(work: Work, change: CloseParticipant) -> str | None:
    """Why the participant cannot leave; None: it can."""
    found = work.participant(change.lei)
    if found is None:
        return UNKNOWN_PARTICIPANT
    if found.record.closed:
        return NOTHING_TO_CHANGE
    return STILL_IN_USE if _is_in_use(work, change.lei) else None


def _is_in_use(work: Work, lei: str) -> bool:
    """Whether money, an obligation or open business of the participant is left. The cheap ones to
    find come first."""
    return (
        _answers_for_others(work, lei)
        or _has_money(work, lei)
        or any(key.participant == lei for key, _ in work.each_row(PLEDGES))
        or _is_member(work, lei)
        or any(
            lei in (leg.debtor, leg.creditor)
            for _, link in work.each_row(LINKS)
            for leg in link.legs
        )
        or _has_payments(work, lei)
    )


def _answers_for_others(work: Work, lei: str) -> bool:
    pending = work.pending_epoch
    members = work.validator_set.validators + (() if pending is None else pending.members)
    return (
        any(validator.operator == lei for validator in members)
        or any(asset.issuer == lei for asset in work.assets())
        or any(each.sponsor == lei and not each.closed for each in _records(work))
    )


def _has_money(work: Work, lei: str) -> bool:
    for asset in work.assets():
        for kind in AccountKind:
            book = work.book(asset.code, int(kind))
            if book.load(lei) or book.holding(lei) != (0, 0):
                return True
    return False


def _is_member(work: Work, lei: str) -> bool:
    """Of a net system, with a cap or a contribution to speak of, or still in one of its cycles."""
    return any(netting.is_bound(work, lei, key.asset) for key, _ in work.rows(NETTING)) or any(
        key.participant == lei and (row.cap or row.margin or row.contribution)
        for key, row in work.each_row(MEMBERS)
    )


def _has_payments(work: Work, lei: str) -> bool:
    for _, record in work.each_row(PAYMENTS):
        live = record.live
        if isinstance(live, Queued):
            if any(lei in (each.debtor, each.creditor) for each in live.payments):
                return True
        elif isinstance(live, Reserved) and lei in (
            live.payment.debtor,
            live.payment.creditor,
            live.poster,
        ):
            return True
    return False


def close(work: Work, change: CloseParticipant) -> None:
    """Put the participant's record: closed, and none of its keys signs from the next height on."""
    found = work.participant(change.lei)
    assert found is not None, "judged before"
    effective = work.context.height + 1
    keys = (
        key if key.revoked_from is not None else replace(key, revoked_from=effective)
        for key in found.record.keys
    )
    work.put_participant(Participant(replace(found.record, closed=True, keys=tuple(keys))))


# --- assets ---------------------------------------------------------------------------------------


def asset_refusal(work: Work, change: AddAsset) -> str | None:
    """Why the asset cannot be added; None: it can."""
    if _CODE.fullmatch(change.code) is None:
        return BAD_PARAMETER
    if work.asset(change.code) is not None:
        return REPEATED_NAME
    issuer = work.participant(change.issuer)
    if issuer is None:
        return UNKNOWN_PARTICIPANT
    if issuer.record.closed:
        return CLOSED_PARTICIPANT
    if is_security(change.code, issuer.record.roles):
        return None if is_isin(change.code) else BAD_PARAMETER
    return None if ISSUER in issuer.record.roles else BAD_PARAMETER


def add_asset(work: Work, change: AddAsset) -> None:
    """Put the asset's record."""
    issuer = work.participant(change.issuer)
    assert issuer is not None, "judged before"
    security = is_security(change.code, issuer.record.roles)
    work.put_asset(
        AssetRecord(change.code, change.exponent, change.issuer, security, issued=0, redeemed=0)
    )
