"""Final blocks as views read them: outcomes, and the payments behind them.

A change of a payment stands in a later block than the payment itself, so reading one outcome may
mean opening another block. The last few that were opened are kept decoded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from node.chain.encoding import decode
from node.chain.types import (
    Block,
    Instruction,
    Issue,
    Link,
    MoveOwn,
    Outcome,
    OutcomePlace,
    Pay,
    Payment,
    Redeem,
    Reserve,
    Return,
)
from node.ledger.entries import UetrEntry

MAX_OPEN = 8
"""Blocks kept decoded; one may hold some megabytes."""

_instruction = msgspec.msgpack.Decoder(Instruction)
_outcome = msgspec.msgpack.Decoder(Outcome)


class Records(Protocol):
    """What storage holds of final blocks (`node.storage.chain_store.ChainStore`)."""

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        """The latest outcome under this UETR."""

    def changes(self, uetr: bytes) -> list[tuple[int, int]]:
        """(height, index) of a payment's outcomes, in order."""

    def following(self, uetr: bytes) -> list[bytes]:
        """UETRs of the payments that carry it on or give it back."""

    def outcomes(self, height: int) -> Sequence[bytes] | None:
        """A block's outcomes; None: not held."""

    def block(self, height: int) -> bytes | None:
        """A block's bytes; None: not held."""

    def rows(self, prefix: bytes, after: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """(state key, record) of the final state under keys with this prefix, after a key."""


class Carried(NamedTuple):
    """What an instruction carries under a UETR."""

    kind: str
    """`pay`, `reserve`, `return`, `link`, `issue`, `redeem` or `move`."""
    sender: str
    payment: Payment | None
    """None for the last three, which are themselves what they move."""
    body: Issue | Redeem | MoveOwn | None


class OpenBlock:
    """A decoded block."""

    __slots__ = ("_decoded", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = decode(raw, Block).instructions
        self._decoded: dict[int, Instruction] = {}

    def instruction(self, index: int) -> Instruction:
        found = self._decoded.get(index)
        if found is None:
            found = self._decoded[index] = _instruction.decode(self.raw[index])
        return found

    def carried(self, index: int, number: int) -> Carried:
        """What stands at [instruction, payment]; whoever asks knows that something does."""
        instruction = self.instruction(index)
        body, sender = instruction.envelope.body, instruction.envelope.sender
        match body:
            case Pay():
                return Carried("pay", sender, instruction.payments[number], None)
            case Link():
                return Carried("link", sender, body.legs[number], None)
            case Reserve():
                return Carried("reserve", sender, body.payment, None)
            case Return():
                return Carried("return", sender, body.payment, None)
            case Issue():
                return Carried("issue", sender, None, body)
            case Redeem():
                return Carried("redeem", sender, None, body)
            case MoveOwn():
                return Carried("move", sender, None, body)
            case other:
                raise AssertionError(f"{type(other).__name__} has no UETR")


class Recorded:
    """Records with the blocks that were opened last. May be used from several threads."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._open: OrderedDict[int, OpenBlock] = OrderedDict()
        self._lock = threading.Lock()

    def outcome(self, height: int, index: int) -> tuple[bytes, Outcome] | None:
        """An outcome and its bytes; None: this node no longer holds it."""
        raw = self.records.outcomes(height)
        if raw is None or index >= len(raw):
            return None
        return raw[index], _outcome.decode(raw[index])

    def outcomes(self, height: int) -> list[Outcome] | None:
        """Every outcome of a block, decoded; None: not held."""
        raw = self.records.outcomes(height)
        return None if raw is None else [_outcome.decode(each) for each in raw]

    def block(self, height: int) -> OpenBlock | None:
        """A block; None: not held."""
        with self._lock:
            found = self._open.get(height)
            if found is not None:
                self._open.move_to_end(height)
                return found
        raw = self.records.block(height)
        if raw is None:
            return None
        opened = OpenBlock(raw)
        with self._lock:
            self._open[height] = opened
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return opened

    def carried(self, place: OutcomePlace | UetrEntry) -> Carried | None:
        """What stands at a place; None: its block is not held."""
        block = self.block(place.height)
        return None if block is None else block.carried(place.instruction, place.payment)
