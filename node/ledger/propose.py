"""Choosing the instructions of a new block: by construction never a bad one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from node.chain.instruction import CheckedInstruction
from node.ledger.apply import begin, conclude, execute
from node.ledger.check import NotAdmissible, may_stand
from node.ledger.state import State
from node.ledger.weight import weight
from node.ledger.work import Applied, BlockContext

TOO_LARGE = "too-large"
"""Code of the refusal of an instruction that fits into no block."""

FRAME_BYTES = 5
"""What MessagePack adds to an instruction's bytes in a block, at most."""


class Proposal(NamedTuple):
    """A block's instructions, already executed."""

    chosen: list[CheckedInstruction]
    applied: Applied
    dropped: list[tuple[CheckedInstruction, NotAdmissible]]
    """Candidates that may not stand, now or ever on this parent, and why."""


def propose(
    parent: State,
    context: BlockContext,
    candidates: Iterable[CheckedInstruction],
    max_bytes: int,
    max_payments: int,
) -> Proposal:
    """Execute as many candidates as fit, in their order, on the parent's state.

    The block ends before the first one that does not fit, so that nothing small overtakes it
    for ever; an instruction without payments counts by its `weight`. What may not stand, or is
    larger than a whole block, is left out and named in `dropped`. `context.time` is above the
    parent's.
    """
    work = begin(parent, context)
    chosen: list[CheckedInstruction] = []
    dropped: list[tuple[CheckedInstruction, NotAdmissible]] = []
    bytes_left, payments_left = max_bytes, max_payments
    for checked in candidates:
        size = len(checked.raw) + FRAME_BYTES
        payments = weight(work, checked, max_payments)
        if size > max_bytes or payments > max_payments:
            detail = f"{size} bytes and {payments} payments; a block takes {max_bytes} and "
            dropped.append((checked, NotAdmissible(TOO_LARGE, f"{detail}{max_payments}")))
            continue
        if size > bytes_left or payments > payments_left:
            break
        try:
            may_stand(work, checked, context.height, context.time)
        except NotAdmissible as refusal:
            dropped.append((checked, refusal))
            continue
        execute(work, len(chosen), checked)
        chosen.append(checked)
        bytes_left -= size
        payments_left -= payments
    return Proposal(chosen, conclude(work), dropped)
