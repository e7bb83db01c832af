"""A header names its body: any other body is told apart from a leader's fault."""

from __future__ import annotations

import msgspec
import pytest

from node.chain.block import (
    BodyMismatch,
    check_body,
    encode_block,
    genesis_header,
    header_digest,
    inspect_block,
    instructions_root,
    outcome_leaf,
    outcomes_root,
    parse_body,
    validator_set_digest,
)
from node.chain.build import build_pay
from node.chain.encoding import encode
from node.chain.instruction import parse_instruction
from node.chain.merkle import EMPTY_ROOT, root
from node.chain.types import Header, Instruction
from tests.support import wire, world

CHAIN = world.genesis().chain_id
RAWS = [
    build_pay(
        CHAIN,
        world.BANKA.lei,
        f"E2E-{n}",
        world.GENESIS_TIME + 3_600_000,
        payments=[world.payment(2 * n), world.payment(2 * n + 1)],
        signers=[world.BANKA.key],
    )
    for n in range(3)
]


def header_for(raws: list[bytes]) -> Header:
    return msgspec.structs.replace(
        genesis_header(world.genesis(), bytes(32)),
        view=1,
        height=1,
        instructions_count=len(raws),
        instructions_root=instructions_root(parse_instruction(raw) for raw in raws),
    )


def test_a_block_is_inspected_to_its_header_digest_and_instructions() -> None:
    header = header_for(RAWS)
    block = inspect_block(encode_block(header, RAWS))
    assert block == (header, header_digest(header), tuple(RAWS))
    assert [parsed.raw for parsed in parse_body(block)] == RAWS


def test_any_other_body_under_a_header_is_a_mismatch() -> None:
    header = header_for(RAWS)
    one = parse_instruction(RAWS[0]).instruction
    swapped = encode(Instruction(one.envelope, one.signatures, one.payments[::-1]))
    unsigned = encode(
        Instruction(
            one.envelope,
            (msgspec.structs.replace(one.signatures[0], signature=bytes(64)),),
            one.payments,
        )
    )
    for raws in (
        RAWS[:2],
        [*RAWS, RAWS[0]],
        RAWS[::-1],
        [RAWS[0]] * 3,
        [swapped, *RAWS[1:]],
        [unsigned, *RAWS[1:]],
        [b"", *RAWS[1:]],
        [next(wire.widened(RAWS[0])), *RAWS[1:]],
    ):
        with pytest.raises(BodyMismatch):
            parse_body(inspect_block(encode_block(header, raws)))


def test_no_flipped_bit_leaves_a_block_with_its_digest_and_a_fitting_body() -> None:
    raw = encode_block(header_for(RAWS[:1]), RAWS[:1])
    digest = inspect_block(raw).digest
    for damaged in wire.flipped(raw):
        try:
            block = inspect_block(damaged)
            parse_body(block)
        except BodyMismatch:
            continue
        assert block.digest != digest


def test_a_body_can_be_checked_with_instructions_parsed_before() -> None:
    header = header_for(RAWS)
    parsed = [parse_instruction(raw) for raw in RAWS]
    check_body(header, parsed)
    with pytest.raises(BodyMismatch, match="counts 3 instructions, the body holds 2"):
        check_body(header, parsed[:2])
    with pytest.raises(BodyMismatch, match="have root"):
        check_body(header, parsed[::-1])


def test_what_is_no_block_is_a_mismatch_that_says_so() -> None:
    for raw in (b"", b"\x00", bytes(1000), b"\x93\xa7block/1", encode(header_for([]))):
        with pytest.raises(BodyMismatch, match="not a Block"):
            inspect_block(raw)
    with pytest.raises(BodyMismatch, match="canonical"):
        inspect_block(next(wire.widened(encode_block(header_for([]), []))))


def test_the_genesis_header_follows_from_the_genesis_file() -> None:
    genesis = world.genesis()
    header = genesis_header(genesis, b"s" * 32)
    assert (header.epoch, header.view, header.height, header.proposer) == (0, 0, 0, 0)
    assert (header.parent, header.timestamp) == (bytes(32), world.GENESIS_TIME)
    assert header.chain_id == genesis.chain_id
    assert header.state_root == b"s" * 32
    assert {header.instructions_root, header.outcomes_root, header.history_root} == {EMPTY_ROOT}
    assert header.validator_set == validator_set_digest(genesis.validator_set)
    assert header.next_validator_set == header.validator_set


def test_a_set_in_another_order_is_another_set() -> None:
    validators = world.genesis().validator_set
    turned = msgspec.structs.replace(validators, validators=validators.validators[::-1])
    assert validator_set_digest(turned) != validator_set_digest(validators)


def test_outcomes_are_leaves_in_order() -> None:
    outcomes = [b"one", b"two", b"three"]
    assert outcomes_root(outcomes) == root([outcome_leaf(o) for o in outcomes])
    assert outcomes_root([]) == EMPTY_ROOT
