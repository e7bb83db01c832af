"""Where in a block's bytes the first bad one stands, where that can be told.

Bytes that are no MessagePack, that end early or go on, whose fields are of another type, or that
are a longer encoding of the right value: all of these have a place. A value that is well formed
and wrong has not: its field is named instead.
"""

from __future__ import annotations

import re

import msgspec

from node.chain.block import BodyMismatch, inspect_block
from node.chain.encoding import UNDECODABLE, encode
from node.chain.instruction import InstructionRefused, parse_instruction
from node.chain.types import Block, Instruction

MAX_DEPTH = 32
"""Arrays in arrays; a block has five."""
_PATH = re.compile(r" - at `\$((?:\[(?:\d+|\.\.\.)\]|\.[a-z_]+)*)`")
_FIXED = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
"""First byte → bytes that follow, for values of one length."""
_SIZED = {
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),
    0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
}  # fmt: skip
"""First byte → (bytes of the length, bytes beside what it counts)."""
_COUNTED = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
"""First byte of an array or map → bytes of its count."""


class _Broken(Exception):
    """No MessagePack from here on."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


def first_bad_byte(raw: bytes) -> int | None:
    """Offset in a block's bytes; None where every byte could stand there."""
    offset = _first_bad(raw, Block)
    if offset is not None:
        return offset
    try:
        block = inspect_block(raw)
    except BodyMismatch:
        return None
    for number, instruction in enumerate(block.instructions):
        try:
            parse_instruction(instruction)
        except InstructionRefused:
            inside = _first_bad(instruction, Instruction)
            # array → instructions → this one → its bytes, after their length
            end = _end(raw, _enter(raw, [2, number]), 0)
            start = end - len(instruction)
            return start if inside is None else start + inside
    return None


def _first_bad(raw: bytes, kind: type[msgspec.Struct]) -> int | None:
    try:
        end = _end(raw, 0, 0)
    except _Broken as broken:
        return broken.offset
    if end < len(raw):
        return end
    try:
        value = msgspec.msgpack.decode(raw, type=kind)
    except UNDECODABLE as error:
        return _of_path(raw, str(error), kind)
    again = encode(value)
    if again == raw:
        return None
    return next(
        (at for at, (one, other) in enumerate(zip(raw, again, strict=False)) if one != other),
        min(len(raw), len(again)),
    )


def _of_path(raw: bytes, error: str, kind: type[msgspec.Struct]) -> int:
    """Where the value stands that an error of msgspec names."""
    found = _PATH.search(error)
    steps = [] if found is None else re.findall(r"\[(\d+|\.\.\.)\]", found[1])
    indices = [int(step) for step in steps if step.isdigit()]
    try:
        return _enter(raw, indices)
    except _Broken as broken:
        return broken.offset


def _enter(raw: bytes, indices: list[int]) -> int:
    """Offset of the value at these places of arrays in arrays."""
    offset = 0
    for index in indices:
        count, offset = _array(raw, offset)
        if index >= count:
            break
        for _ in range(index):
            offset = _end(raw, offset, 0)
    return offset


def _array(raw: bytes, offset: int) -> tuple[int, int]:
    """(elements, offset of the first)."""
    lead = raw[offset]
    if 0x90 <= lead <= 0x9F:
        return lead & 0x0F, offset + 1
    if lead in (0xDC, 0xDD):
        size = _COUNTED[lead]
        return int.from_bytes(raw[offset + 1 : offset + 1 + size], "big"), offset + 1 + size
    raise _Broken(offset)


def _end(raw: bytes, offset: int, depth: int) -> int:
    """Where the value that begins at `offset` ends. Raises _Broken."""
    if offset >= len(raw) or depth > MAX_DEPTH:
        raise _Broken(offset)
    lead = raw[offset]
    if lead < 0x80 or lead >= 0xE0:
        return offset + 1
    if 0xA0 <= lead <= 0xBF:
        return _within(raw, offset, offset + 1 + (lead & 0x1F))
    if lead in _FIXED:
        return _within(raw, offset, offset + 1 + _FIXED[lead])
    if lead in _SIZED:
        size, beside = _SIZED[lead]
        length = int.from_bytes(raw[offset + 1 : offset + 1 + size], "big")
        return _within(raw, offset, offset + 1 + size + beside + length)
    if lead == 0xC1:
        raise _Broken(offset)
    if lead < 0xA0:
        count, is_map, offset = lead & 0x0F, lead < 0x90, offset + 1
    else:
        size = _COUNTED[lead]
        count = int.from_bytes(raw[offset + 1 : offset + 1 + size], "big")
        is_map, offset = lead >= 0xDE, offset + 1 + size
    for _ in range(count * 2 if is_map else count):
        offset = _end(raw, offset, depth + 1)
    return offset


def _within(raw: bytes, offset: int, end: int) -> int:
    """The end of a value, if the bytes reach that far; else the value itself is what is wrong."""
    if end > len(raw):
        raise _Broken(offset)
    return end
