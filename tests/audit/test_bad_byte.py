"""Where a damaged block stops being one, to the byte; and for no bytes an error of our own."""

from __future__ import annotations

from random import Random

import pytest

from node.audit.bad_byte import first_bad_byte
from node.audit.chain_audit import audit_chain
from node.chain.block import BodyMismatch, inspect_block, parse_body
from node.chain.encoding import encode
from tests.support import world
from tests.support.small_chain import SmallChain, issue, sample

BLOCK = sample().blocks[2]
FIRST = inspect_block(BLOCK).instructions[0]


def decodes(raw: bytes) -> bool:
    try:
        parse_body(inspect_block(raw))
    except BodyMismatch:
        return False
    return True


def test_a_sound_block_has_no_bad_byte() -> None:
    for raw in sample().blocks.values():
        assert first_bad_byte(raw) is None


def test_a_block_that_is_cut_off_ends_at_the_value_that_is_not_whole() -> None:
    for length in range(0, len(BLOCK), 37):
        offset = first_bad_byte(BLOCK[:length])
        assert offset is not None
        assert offset <= length


def test_what_follows_a_block_is_bad_from_its_first_byte_on() -> None:
    assert first_bad_byte(BLOCK + b"\x00") == len(BLOCK)
    assert first_bad_byte(BLOCK + BLOCK) == len(BLOCK)


def test_a_byte_that_no_value_begins_with_is_named_itself() -> None:
    height = BLOCK.index(encode(inspect_block(BLOCK).header.timestamp))
    assert first_bad_byte(BLOCK[:height] + b"\xc1" + BLOCK[height + 1 :]) == height


def test_a_value_of_another_type_is_named_where_it_begins() -> None:
    header = inspect_block(BLOCK).header
    at = BLOCK.index(b"\xc4\x20" + header.state_root)
    changed = BLOCK[:at] + b"\xd9\x20" + b"a" * 32 + BLOCK[at + 34 :]
    assert first_bad_byte(changed) == at


def test_a_longer_encoding_is_named_where_it_begins() -> None:
    timestamp = encode(inspect_block(BLOCK).header.timestamp)
    at = BLOCK.index(timestamp)
    view = BLOCK.index(b"\xc4\x20" + inspect_block(BLOCK).header.parent) - 2
    assert BLOCK[view] == inspect_block(BLOCK).header.view
    longer = BLOCK[:view] + b"\xcc" + BLOCK[view:]
    assert first_bad_byte(longer) == view
    assert at > view


def test_a_bad_byte_in_an_instruction_is_named_in_the_block() -> None:
    start = BLOCK.index(FIRST)
    inside = FIRST.index(world.BANKA.lei.encode())
    raw = bytearray(BLOCK)
    raw[start + inside] = 0xFF  # no UTF-8
    offset = first_bad_byte(bytes(raw))
    assert offset is not None
    assert start <= offset <= start + inside
    second = inspect_block(BLOCK).instructions[1]
    raw = bytearray(BLOCK)
    raw[BLOCK.index(second) + 1] ^= 0x40
    offset = first_bad_byte(bytes(raw))
    assert offset is not None
    assert 0 < offset - BLOCK.index(second) < len(second)


def test_a_well_formed_wrong_value_has_no_bad_byte() -> None:
    root = inspect_block(BLOCK).header.state_root
    assert first_bad_byte(BLOCK.replace(root, bytes(32))) is None


def test_no_bytes_whatever_are_an_error_of_our_own() -> None:
    chance = Random(5)
    found = 0
    for _ in range(400):
        raw = bytearray(BLOCK)
        for _ in range(chance.randrange(1, 4)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        del raw[chance.randrange(len(raw)) :: chance.randrange(1_000, 5_000)]
        offset = first_bad_byte(bytes(raw))
        assert offset is None or 0 <= offset <= len(raw)
        found += offset is not None
        if decodes(bytes(raw)):
            assert offset is None
    assert found > 300
    for junk in (
        b"",
        b"\x93" * 10_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff",
        b"\xdf\xff\xff\xff\xff",
    ):
        assert first_bad_byte(junk) is not None


@pytest.mark.parametrize("length", [0, 1, 100, 400])
def test_the_audit_names_block_and_byte(length: int) -> None:
    chain = SmallChain()
    chain.add(issue(chain, 1))
    chain.blocks[1] = chain.blocks[1][:length]
    report = audit_chain(chain, world.genesis_bytes())
    assert report.finding is not None
    assert report.finding.height == 1
    assert report.finding.where == f"block, byte {first_bad_byte(chain.blocks[1])}"
