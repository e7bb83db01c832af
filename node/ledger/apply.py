"""A block's execution, top-down: the order of steps that settlement.md fixes.

what time has made due
for each instruction, in block order: may it stand? → execute, record its outcomes
complete links, in order of completion
money that came in for the net debits of a closed cycle
resolution of queues, in each asset where something happened that may help
does this block end its epoch?
the UETRs that its outcomes name: counted, or committed in a tree
invariants, roots, the new state
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from node.chain import types as t
from node.chain.instruction import CheckedInstruction
from node.ledger import (
    acknowledgement,
    credit,
    day,
    disputes,
    links,
    netting,
    orders,
    own_accounts,
    reservations,
    restriction,
    returns,
    uetr_trees,
)
from node.ledger.agenda import run_due, settle_waiting
from node.ledger.check import NotAdmissible, may_stand
from node.ledger.entries import InstructionEntry
from node.ledger.equivocations import report_equivocation
from node.ledger.governance import approve, propose_changes
from node.ledger.keys import register_key, revoke_key
from node.ledger.payments import pay
from node.ledger.state import State
from node.ledger.supply import issue, redeem
from node.ledger.validators import end_epoch, ready_validator
from node.ledger.weight import weight
from node.ledger.work import Applied, BlockContext, Work

__all__ = ["Applied", "BadBlock", "BlockContext", "apply", "begin", "conclude", "execute"]


class BadBlock(Exception):
    """A block that no correct leader makes."""

    def __init__(self, reason: str, index: int | None = None) -> None:
        super().__init__(reason if index is None else f"instruction {index}: {reason}")
        self.reason = reason
        self.index = index
        """Of the instruction in the block, where one is at fault."""


def apply(
    parent: State,
    context: BlockContext,
    instructions: Sequence[CheckedInstruction],
    max_payments: int | None = None,
) -> Applied:
    """Execute a block on its parent's state, which stays as it is.

    `context.height` is the parent's plus one. `max_payments`: what it may take in all, in payments
    (`weight`); None: it is known to take no more. Raises BadBlock where it takes more, the time is
    not above the parent's or an instruction may not stand.
    """
    if context.time <= parent.time:
        raise BadBlock(f"timestamp {context.time} is not above the parent's {parent.time}")
    work = begin(parent, context)
    taken = 0
    for index, checked in enumerate(instructions):
        try:
            may_stand(work, checked, context.height, context.time)
        except NotAdmissible as refusal:
            raise BadBlock(str(refusal), index) from refusal
        if max_payments is not None:
            taken += weight(work, checked, max_payments)
            if taken > max_payments:
                raise BadBlock(f"up to here it takes {taken} of {max_payments} payments", index)
        execute(work, index, checked)
    return conclude(work)


def begin(parent: State, context: BlockContext) -> Work:
    """A block before its first instruction: what time has made due is done."""
    work = Work(parent, context)
    run_due(work)
    return work


def conclude(work: Work) -> Applied:
    """What follows a block's last instruction."""
    settle_waiting(work)
    next_validators = end_epoch(work)
    uetr_trees.keep(work)
    return work.seal(next_validators)


def execute(work: Work, index: int, checked: CheckedInstruction) -> None:
    """Execute an instruction that may stand, as number `index` of the block."""
    envelope = checked.instruction.envelope
    work.put_id(
        InstructionEntry(
            envelope.sender,
            envelope.id,
            envelope.valid_until,
            checked.digest,
            work.context.height,
            index,
        )
    )
    body = envelope.body
    barred = restriction.refusal(work, envelope.sender, body)
    if barred is not None:
        work.note(index, barred)
        return
    match body:
        case t.Pay():
            pay(work, index, checked, body)
        case t.Issue():
            issue(work, index, checked, body)
        case t.Redeem():
            redeem(work, index, checked, body)
        case t.RegisterKey():
            register_key(work, index, checked, body)
        case t.RevokeKey():
            revoke_key(work, index, checked, body)
        case t.Propose():
            propose_changes(work, index, checked, body)
        case t.Approve():
            approve(work, index, checked, body)
        case t.ReadyValidator():
            ready_validator(work, index, checked, body)
        case t.ReportEquivocation():
            report_equivocation(work, index, checked, body)
        case t.Cancel() | t.Hold() | t.Release() | t.Reprioritise():
            orders.order_payment(work, index, checked, body)
        case t.SetLimit():
            orders.set_limit(work, index, checked, body)
        case t.SetPolicy():
            orders.set_policy(work, index, checked, body)
        case t.PostPrice():
            credit.post_price(work, index, checked, body)
        case t.Pledge():
            credit.pledge(work, index, checked, body)
        case t.ReleaseCollateral():
            credit.release_collateral(work, index, checked, body)
        case t.OrderCycle():
            netting.order_cycle(work, index, checked, body)
        case t.MoveOwn():
            own_accounts.move_own(work, index, checked, body)
        case t.Link():
            links.link(work, index, checked, body)
        case t.Reserve():
            reservations.reserve(work, index, checked, body)
        case t.Post():
            reservations.post(work, index, checked, body)
        case t.Void():
            reservations.void(work, index, checked, body)
        case t.Recall():
            returns.recall(work, index, checked, body)
        case t.RefuseRecall():
            returns.refuse_recall(work, index, checked, body)
        case t.Return():
            returns.give_back(work, index, checked, body)
        case t.OpenDispute():
            disputes.open_dispute(work, index, checked, body)
        case t.SubmitEvidence():
            disputes.submit_evidence(work, index, checked, body)
        case t.DecideDispute():
            disputes.decide_dispute(work, index, checked, body)
        case t.Acknowledge():
            acknowledgement.acknowledge(work, index, checked, body)
        case t.DelayPhase():
            day.delay_phase(work, index, checked, body)
        case t.ProceedDay():
            day.proceed_day(work, index, checked, body)
        case t.Consent():
            restriction.consent(work, index, checked, body)
        case t.Freeze():
            restriction.freeze(work, index, checked, body)
        case _:
            assert_never(body)
