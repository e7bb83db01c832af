"""What governance decides on: each kind of change, judged and carried out.

The changes of a proposal are one step: they are judged in their order, each on what those before it
leave, and carried out in that order, all or none. Judging puts rows and takes them back; it is done
when they are proposed and again when they are decided on, since the ledger may have changed
meanwhile. Afterwards nothing can stop halfway.

Changes of the validator set are judged together, last: they make one set, that of the next epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from node.chain import types as t
from node.ledger import netting, participants, restriction, rules, schedule
from node.ledger.reasons import BAD_PARAMETER
from node.ledger.validators import (
    ChangeRejected,
    check_possessions,
    make_pending,
    next_members,
)
from node.ledger.work import Work

OPERATOR = "operator"
"""The role that proposes and approves."""


class Kind(NamedTuple):
    """What the ledger does about one kind of change."""

    refusal: Callable[[Work, Any], str | None]
    """Why it cannot be carried out now; None: it can."""
    put: Callable[[Work, Any], None]
    """Puts its rows, and does nothing else: that can be taken back."""
    follow: Callable[[Work, int, Any], None] | None = None
    """What follows from it in the block, by the instruction at this index."""
    possession: Callable[[Work, Any], str | None] | None = None
    """Whether the keys in it lack a proof of possession."""


def _put_parameters(work: Work, change: t.SetParameters) -> None:
    changed = replace(
        work.next_parameters,
        governance_threshold=change.governance_threshold,
        readiness_ms=change.readiness_ms,
        close_rule=change.close_rule,
    )
    work.put_parameters(changed)


def _never(work: Work, change: t.Change) -> str | None:
    return None


_KINDS: dict[type[msgspec.Struct], Kind] = {
    t.AdmitParticipant: Kind(
        participants.admission_refusal,
        participants.admit,
        possession=lambda work, c: participants.possession_refusal(work, c.lei, c.keys),
    ),
    t.ReplaceKeys: Kind(
        participants.replacement_refusal,
        participants.replace_keys,
        possession=lambda work, c: participants.possession_refusal(work, c.lei, c.register),
    ),
    t.CloseParticipant: Kind(participants.closing_refusal, participants.close),
    t.SuspendParticipant: Kind(
        lambda work, c: restriction.suspension_refusal(work, c.lei, suspend=True),
        lambda work, c: restriction.put_suspension(work, c.lei, suspend=True),
        lambda work, index, c: restriction.follow(work, index, c.lei),
    ),
    t.LiftSuspension: Kind(
        lambda work, c: restriction.suspension_refusal(work, c.lei, suspend=False),
        lambda work, c: restriction.put_suspension(work, c.lei, suspend=False),
        lambda work, index, c: restriction.follow(work, index, c.lei),
    ),
    t.AddAsset: Kind(participants.asset_refusal, participants.add_asset),
    t.SetNetting: Kind(netting.judge, netting.put),
    t.SetMember: Kind(netting.judge, netting.put),
    t.SetParameters: Kind(_never, _put_parameters),
    t.PublishSchedule: Kind(schedule.refusal, schedule.publish),
    t.ActivateRules: Kind(rules.refusal, rules.put),
}
"""All kinds but those of the validator set."""

_VALIDATORS = (t.AddValidator, t.RemoveValidator, t.RekeyValidator)
_POWER = (t.AdmitParticipant, t.CloseParticipant, t.SuspendParticipant, t.ReplaceKeys)
"""Changes that decide, with the parameters, who can still govern."""


def judge(work: Work, changes: Sequence[t.Change], *, proofs: bool) -> None:
    """Raise ChangeRejected unless these changes could all be carried out now. Changes nothing.

    `proofs`: verify the possession of new keys, too; what was proposed stays proven."""
    mark = work.mark()
    try:
        for change in _others(changes):
            kind = _KINDS[type(change)]
            reason = kind.refusal(work, change)
            if reason is not None:
                raise ChangeRejected(reason)
            kind.put(work, change)
        if _renews(changes):
            next_members(work, _of_validators(changes))
        _check_reachable(work, changes)
    finally:
        work.take_back(mark)
    if proofs:
        _check_possessions(work, changes)


def carry_out(work: Work, index: int, changes: Sequence[t.Change]) -> None:
    """Carry out changes that were judged on the same state, for the instruction at `index`."""
    for change in _others(changes):
        kind = _KINDS[type(change)]
        kind.put(work, change)
        if kind.follow is not None:
            kind.follow(work, index, change)
    if _renews(changes):
        make_pending(work, next_members(work, _of_validators(changes)))


def _others(changes: Iterable[t.Change]) -> Iterable[t.Change]:
    return (change for change in changes if not isinstance(change, _VALIDATORS))


def _of_validators(changes: Iterable[t.Change]) -> list[t.ValidatorChange]:
    return [change for change in changes if isinstance(change, _VALIDATORS)]


def _renews(changes: Sequence[t.Change]) -> bool:
    """Whether a new epoch follows: from any change of the set, and from a proposal of nothing."""
    return not changes or any(isinstance(change, _VALIDATORS) for change in changes)


def _check_possessions(work: Work, changes: Sequence[t.Change]) -> None:
    check_possessions(work, _of_validators(changes))
    for change in _others(changes):
        possession = _KINDS[type(change)].possession
        reason = None if possession is None else possession(work, change)
        if reason is not None:
            raise ChangeRejected(reason)


def _check_reachable(work: Work, changes: Sequence[t.Change]) -> None:
    """A threshold above all approvals that operators can give would end governance for ever."""
    if not any(isinstance(change, (t.SetParameters, *_POWER)) for change in changes):
        return
    if reachable(work, work.context.height + 1) < work.next_parameters.governance_threshold:
        raise ChangeRejected(BAD_PARAMETER)


def reachable(work: Work, height: int) -> int:
    """How many approvals all operators together can give at this height."""
    return sum(
        min(each.record.approvals, sum(key.is_valid(height) for key in each.record.keys))
        for each in work.participants()
        if OPERATOR in each.record.roles and not (each.record.suspended or each.record.closed)
    )
