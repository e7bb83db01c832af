"""Which payments of others the accepted instructions of a block are about: an index for evidence.

What is recalled, given back, disputed or acknowledged gets no outcome of its own by that, so that
nothing else leads from a payment to what was said about it. It follows from a block and its
outcomes alone: who executes a block and who takes it over from others index the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from node.chain import types as t
from node.chain.instruction import ParsedInstruction
from node.chain.statuses import REJECTED

NAMED: dict[type[t.InstructionBody], Callable[[Any], bytes]] = {
    t.Recall: lambda body: body.original.uetr,
    t.RefuseRecall: lambda body: body.original.uetr,
    t.Return: lambda body: body.original.uetr,
    t.OpenDispute: lambda body: body.original.uetr,
    t.SubmitEvidence: lambda body: body.uetr,
    t.DecideDispute: lambda body: body.uetr,
    t.Acknowledge: lambda body: body.payment.uetr,
}
"""UETR of the payment that an instruction is about."""


class _Said(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """An `Outcome`, as far as it tells of which instruction it is and whether that was accepted."""

    tag: str
    height: msgspec.Raw
    time: msgspec.Raw
    instruction: int | None
    payment: msgspec.Raw
    uetr: bytes | None
    status: str
    reason: msgspec.Raw
    debtor_balance: msgspec.Raw
    creditor_balance: msgspec.Raw
    original: msgspec.Raw
    content: msgspec.Raw
    event: msgspec.Raw


_said = msgspec.msgpack.Decoder(_Said)
_NIL = b"\xc0"


def about(
    instructions: Sequence[ParsedInstruction], outcomes: Sequence[bytes]
) -> list[tuple[bytes, int]]:
    """(UETR, index of the instruction) of each accepted instruction about a payment, ascending by
    index. `outcomes`: canonical, of the same block."""
    asked: dict[int, t.InstructionBody] = {
        index: each.instruction.envelope.body
        for index, each in enumerate(instructions)
        if type(each.instruction.envelope.body) in NAMED
    }
    if not asked:
        return []
    accepted = set()
    for raw in outcomes:
        said = _said.decode(raw)
        body = None if said.instruction is None else asked.get(said.instruction)
        if body is None or said.status == REJECTED:
            continue
        own = body.payment.uetr if isinstance(body, t.Return) else None
        # Neither a change that it brought about, nor the answer to a retry.
        if said.uetr == own and bytes(said.original) == _NIL == bytes(said.content):
            accepted.add(said.instruction)
    return [(NAMED[type(body)](body), index) for index, body in asked.items() if index in accepted]
