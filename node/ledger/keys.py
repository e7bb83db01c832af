"""Registering and revoking a participant's signing keys, effective at the next height.

So what is valid at height h is proven by `state_root` of h − 1, and no instruction of a block
depends on another one's place in it. Revoked keys stay in the record: a key that came back
under another name could be claimed to have signed what it signed before.
"""

from __future__ import annotations

from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.records import KeyRecord, ParticipantRecord
from node.chain.signature import ROLE_PARTICIPANT, BadKey, check_possession
from node.chain.types import RegisterKey, RevokeKey
from node.ledger.reasons import (
    KEY_ALREADY_REVOKED,
    KEY_IN_USE,
    NO_SUCH_KEY,
    TOO_FEW_KEYS_LEFT,
    TOO_MANY_KEYS,
    UNSOUND_KEY,
)
from node.ledger.state import Participant
from node.ledger.work import Work

MAX_KEYS = 256
"""Keys of one participant over its life, revoked ones too: they make up one state record."""


def register_key(work: Work, index: int, checked: CheckedInstruction, body: RegisterKey) -> None:
    """Add a signing key to the sender."""
    reason = _register(work, _sender(work, checked), body)
    work.note(index, reason)


def _register(work: Work, sender: Participant, body: RegisterKey) -> str | None:
    record = sender.record
    if len(record.keys) >= MAX_KEYS:
        return TOO_MANY_KEYS
    if work.key_holder(body.public_key) is not None:
        return KEY_IN_USE
    try:
        check_possession(
            body.public_key, ROLE_PARTICIPANT, record.lei, work.parent.chain_id, body.possession
        )
    except BadKey:
        return UNSOUND_KEY
    added = KeyRecord(body.public_key, valid_from=work.context.height + 1, revoked_from=None)
    _put_keys(work, record, (*record.keys, added))
    work.put_key(body.public_key, record.lei)
    return None


def revoke_key(work: Work, index: int, checked: CheckedInstruction, body: RevokeKey) -> None:
    """End a key of the sender's."""
    reason = _revoke(work, _sender(work, checked), body)
    work.note(index, reason)


def _revoke(work: Work, sender: Participant, body: RevokeKey) -> str | None:
    record, effective = sender.record, work.context.height + 1
    revoked = sender.keys.get(body.public_key)
    if revoked is None:
        return NO_SUCH_KEY
    if revoked.revoked_from is not None:
        return KEY_ALREADY_REVOKED
    left = sum(key.is_valid(effective) for key in record.keys if key is not revoked)
    if left < record.threshold:
        # A participant that cannot sign could not even register a new key.
        return TOO_FEW_KEYS_LEFT
    keys = (replace(key, revoked_from=effective) if key is revoked else key for key in record.keys)
    _put_keys(work, record, tuple(keys))
    return None


def _put_keys(work: Work, record: ParticipantRecord, keys: tuple[KeyRecord, ...]) -> None:
    ascending = tuple(sorted(keys, key=lambda key: key.public_key))
    work.put_participant(Participant(replace(record, keys=ascending)))


def _sender(work: Work, checked: CheckedInstruction) -> Participant:
    sender = work.participant(checked.instruction.envelope.sender)
    assert sender is not None, "an unknown sender's instruction may not stand"
    return sender
