"""The validator set from one epoch to the next: who is in it, who is ready, and when it begins.

An approved proposal makes the next epoch *pending*. Each member's node then makes a vote key that
no epoch has used and says so on the ledger. The epoch ends with the block after whose
instructions all members are ready, or, once the deadline has passed, a quorum of them: the set
that starts must be able to finalize, and a member that is down cannot hold the others up.

No key ever serves twice: a vote key that was a node's, a participant's or another epoch's could
make one signature mean two things, and a quorum count one holder twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from consensus.messages import MAX_VALIDATORS, quorum
from node.chain.instruction import CheckedInstruction
from node.chain.records import EpochRecord, PendingEpoch, ValidatorKeyRecord
from node.chain.signature import ROLE_NODE, ROLE_VOTE, BadKey, check_possession
from node.chain.types import (
    AddValidator,
    ReadyValidator,
    RekeyValidator,
    RemoveValidator,
    Validator,
    ValidatorChange,
    ValidatorSet,
)
from node.ledger.reasons import (
    KEY_IN_USE,
    NOT_ELIGIBLE,
    NOT_ITS_NODE,
    NOT_PENDING,
    READY_ALREADY,
    REPEATED_NAME,
    SET_SIZE,
    UNKNOWN_VALIDATOR,
    UNSOUND_KEY,
)
from node.ledger.work import Work

OPERATING_ROLES = frozenset({"validator", "operator"})
"""Roles of a participant that may answer for a validator."""


class ChangeRejected(Exception):
    """Changes that cannot be carried out: they give no sound validator set, or something else that
    may not be."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# --- changes ------------------------------------------------------------------------------------


def check_possessions(work: Work, changes: Iterable[ValidatorChange]) -> None:
    """Raise ChangeRejected unless each new key is sound and its possession proven for the
    validator's operator."""
    for change in changes:
        if isinstance(change, RemoveValidator):
            continue
        validator = change.validator
        for key, role, possession in (
            (validator.vote_key, ROLE_VOTE, change.vote_possession),
            (validator.node_key, ROLE_NODE, change.node_possession),
        ):
            _check_possession(work, key, role, validator.operator, possession)


def _check_possession(work: Work, key: bytes, role: str, operator: str, possession: bytes) -> None:
    try:
        check_possession(key, role, operator, work.parent.chain_id, possession)
    except BadKey as error:
        raise ChangeRejected(UNSOUND_KEY) from error


def next_members(work: Work, changes: Iterable[ValidatorChange]) -> tuple[Validator, ...]:
    """The members of the next epoch's set: those of the pending one, or else of the one in force,
    with these changes. Raises ChangeRejected unless they make a sound set."""
    pending = work.pending_epoch
    before = work.validator_set.validators if pending is None else pending.members
    members = {validator.name: validator for validator in before}
    changed: set[str] = set()
    fresh: set[bytes] = set()
    for change in changes:
        name = change.name if isinstance(change, RemoveValidator) else change.validator.name
        held = members.get(name)
        if name in changed or (held is not None and isinstance(change, AddValidator)):
            raise ChangeRejected(REPEATED_NAME)
        if held is None and not isinstance(change, AddValidator):
            raise ChangeRejected(UNKNOWN_VALIDATOR)
        changed.add(name)
        if isinstance(change, RemoveValidator):
            del members[name]
            continue
        _check_member(work, change, held, fresh)
        members[name] = change.validator
    if not 1 <= len(members) <= MAX_VALIDATORS:
        raise ChangeRejected(SET_SIZE)
    return tuple(members.values())


def _check_member(
    work: Work, change: AddValidator | RekeyValidator, held: Validator | None, fresh: set[bytes]
) -> None:
    validator = change.validator
    operator = work.participant(validator.operator)
    if operator is None or operator.record.closed:
        raise ChangeRejected(NOT_ELIGIBLE)
    if OPERATING_ROLES.isdisjoint(operator.record.roles):
        raise ChangeRejected(NOT_ELIGIBLE)
    for key, own in (
        (validator.vote_key, None if held is None else held.vote_key),
        (validator.node_key, None if held is None else held.node_key),
    ):
        if key == own:
            continue
        if key in fresh or work.key_holder(key) is not None:
            raise ChangeRejected(KEY_IN_USE)
        fresh.add(key)


def make_pending(work: Work, members: tuple[Validator, ...]) -> None:
    """Make the next epoch pending with these members, or replace the one that is.

    Who was ready and keeps both keys stays so: its node has no reason to say it again."""
    record = work.epoch_record
    keys: set[tuple[str, bytes, bytes]] = set()
    if record.pending is not None:
        ready = frozenset(record.pending.ready)
        keys = {(v.name, v.vote_key, v.node_key) for v in record.pending.members if v.name in ready}
    still = sorted(v.name for v in members if (v.name, v.vote_key, v.node_key) in keys)
    deadline = work.context.time + work.parent.parameters.readiness_ms
    work.put_epoch(replace(record, pending=PendingEpoch(members, tuple(still), deadline)))
    for validator in members:
        for use in key_records(validator):
            if work.key_holder(use.public_key) is None:
                work.put_validator_key(use)


def key_records(validator: Validator) -> tuple[ValidatorKeyRecord, ValidatorKeyRecord]:
    """What the state holds of a validator's keys."""
    return (
        ValidatorKeyRecord(validator.vote_key, validator.operator, ROLE_VOTE),
        ValidatorKeyRecord(validator.node_key, validator.operator, ROLE_NODE),
    )


# --- readiness ----------------------------------------------------------------------------------


def ready_validator(
    work: Work, index: int, checked: CheckedInstruction, body: ReadyValidator
) -> None:
    """Note a member's vote key for the next epoch."""
    reason: str | None = None
    try:
        _ready(work, checked, body)
    except ChangeRejected as rejected:
        reason = rejected.reason
    work.note(index, reason)


def _ready(work: Work, checked: CheckedInstruction, body: ReadyValidator) -> None:
    record = work.epoch_record
    pending = record.pending
    if pending is None or body.epoch != record.epoch + 1:
        raise ChangeRejected(NOT_PENDING)
    member = next((v for v in pending.members if v.name == body.name), None)
    if member is None:
        raise ChangeRejected(UNKNOWN_VALIDATOR)
    instruction = checked.instruction
    signed_by = instruction.envelope.sender, instruction.signatures[0].public_key
    if signed_by != (member.operator, member.node_key):
        raise ChangeRejected(NOT_ITS_NODE)
    if member.name in pending.ready:
        raise ChangeRejected(READY_ALREADY)
    _check_fresh(work, member, body.vote_key)
    _check_possession(work, body.vote_key, ROLE_VOTE, member.operator, body.vote_possession)
    ready_member = replace(member, vote_key=body.vote_key)
    work.put_epoch(
        replace(
            record,
            pending=PendingEpoch(
                tuple(ready_member if v is member else v for v in pending.members),
                tuple(sorted((*pending.ready, member.name))),
                pending.deadline,
            ),
        )
    )
    work.put_validator_key(ValidatorKeyRecord(body.vote_key, member.operator, ROLE_VOTE))


def _check_fresh(work: Work, member: Validator, vote_key: bytes) -> None:
    """A key named for this very member by the pending changes has voted in no epoch yet, unless
    it is the one in force."""
    in_force = {validator.vote_key for validator in work.validator_set.validators}
    if vote_key == member.vote_key and vote_key not in in_force:
        return
    if work.key_holder(vote_key) is not None:
        raise ChangeRejected(KEY_IN_USE)


# --- the end of an epoch ------------------------------------------------------------------------


def end_epoch(work: Work) -> ValidatorSet | None:
    """After a block's last instruction: the next epoch's set if this block is the last of its own,
    which is then in force for the next one."""
    record = work.epoch_record
    pending = record.pending
    if pending is None or not _is_due(pending, work.context.time):
        return None
    validators = ValidatorSet(record.epoch + 1, pending.members)
    work.put_validator_set(validators)
    work.put_epoch(EpochRecord(record.epoch + 1, None))
    return validators


def _is_due(pending: PendingEpoch, time: int) -> bool:
    members, ready = len(pending.members), len(pending.ready)
    return ready == members or (ready >= quorum(members) and time >= pending.deadline)
