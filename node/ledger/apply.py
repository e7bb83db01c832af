"""A block's execution, top-down: the order of steps that settlement.md fixes.

    for each instruction, in block order: may it stand? → execute, record its outcomes
    does this block end its epoch?
    invariants, roots, the new state

What time makes due will come before the instructions, the completion of links and the
resolution of queues between them and the invariants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from node.chain.instruction import CheckedInstruction
from node.chain.types import (
    Approve,
    Issue,
    Pay,
    Propose,
    ReadyValidator,
    Redeem,
    RegisterKey,
    ReportEquivocation,
    RevokeKey,
)
from node.ledger.check import NotAdmissible, may_stand
from node.ledger.entries import InstructionEntry
from node.ledger.equivocations import report_equivocation
from node.ledger.governance import approve, propose_changes
from node.ledger.keys import register_key, revoke_key
from node.ledger.payments import pay
from node.ledger.state import State
from node.ledger.supply import issue, redeem
from node.ledger.validators import end_epoch, ready_validator
from node.ledger.work import Applied, BlockContext, Work

__all__ = ["Applied", "BadBlock", "BlockContext", "apply", "conclude", "execute"]


class BadBlock(Exception):
    """A block that no correct leader makes."""

    def __init__(self, reason: str, index: int | None = None) -> None:
        super().__init__(reason if index is None else f"instruction {index}: {reason}")
        self.reason = reason
        self.index = index
        """Of the instruction in the block, where one is at fault."""


def apply(
    parent: State, context: BlockContext, instructions: Sequence[CheckedInstruction]
) -> Applied:
    """Execute a block on its parent's state, which stays as it is.

    `context.height` is the parent's plus one. Raises BadBlock where the time is not above the
    parent's or an instruction may not stand.
    """
    if context.time <= parent.time:
        raise BadBlock(f"timestamp {context.time} is not above the parent's {parent.time}")
    work = Work(parent, context)
    for index, checked in enumerate(instructions):
        try:
            may_stand(work, checked, context.height, context.time)
        except NotAdmissible as refusal:
            raise BadBlock(str(refusal), index) from refusal
        execute(work, index, checked)
    return conclude(work)


def conclude(work: Work) -> Applied:
    """What follows a block's last instruction."""
    return work.seal(end_epoch(work))


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
    match body:
        case Pay():
            pay(work, index, checked, body)
        case Issue():
            issue(work, index, checked, body)
        case Redeem():
            redeem(work, index, checked, body)
        case RegisterKey():
            register_key(work, index, checked, body)
        case RevokeKey():
            revoke_key(work, index, checked, body)
        case Propose():
            propose_changes(work, index, checked, body)
        case Approve():
            approve(work, index, checked, body)
        case ReadyValidator():
            ready_validator(work, index, checked, body)
        case ReportEquivocation():
            report_equivocation(work, index, checked, body)
        case _:
            assert_never(body)
