"""Proofs that a validator's key signed twice, on the ledger for ever.

What contradicts what is consensus's rule: two notarize or two finalize votes with different
contents, or nullify with finalize, by one key in one view of one epoch. A report is judged by the
set of its own epoch, which the state keeps. A false one is a rejection like any other: a node
that was lied to must not make its leader's block bad.
"""

from __future__ import annotations

from consensus.certificate import contradict, verify_vote
from consensus.messages import Vote
from node.chain.instruction import CheckedInstruction
from node.chain.records import EquivocationRecord
from node.chain.signature import verify
from node.chain.types import ReportEquivocation
from node.ledger.reasons import (
    LIMIT_REACHED,
    NO_CONTRADICTION,
    REPORTED_ALREADY,
    UNKNOWN_VALIDATOR,
    VOTE_NOT_SIGNED,
)
from node.ledger.work import Work

MAX_REPORTS = 16
"""Equivocations kept of one key. One is proof enough; without a bound its holder could sign and
report pairs of votes for as many views as there are numbers, and fill every node's state."""


def report_equivocation(
    work: Work, index: int, checked: CheckedInstruction, body: ReportEquivocation
) -> None:
    """Judge a report and keep it."""
    reason = _judge(work, body.first, body.second)
    if reason is None:
        work.put_equivocation(
            EquivocationRecord(
                body.first, body.second, work.context.height, checked.instruction.envelope.sender
            )
        )
    work.note(index, reason)


def _judge(work: Work, first: Vote, second: Vote) -> str | None:
    """The reason to reject the report. Signatures last: they cost most."""
    if not contradict(first, second):
        return NO_CONTRADICTION
    validators = work.validator_set_of(first.epoch)
    if validators is None or first.voter >= len(validators.validators):
        return UNKNOWN_VALIDATOR
    if work.equivocation(first.epoch, first.view, first.voter) is not None:
        return REPORTED_ALREADY
    if work.reports_against(first.epoch, first.voter) >= MAX_REPORTS:
        return LIMIT_REACHED
    keys = [validator.vote_key for validator in validators.validators]
    chain_id = work.parent.chain_id
    for vote in (first, second):
        if not verify_vote(vote, keys, lambda k, d, p, s: verify(k, d, chain_id, p, s)):
            return VOTE_NOT_SIGNED
    return None
