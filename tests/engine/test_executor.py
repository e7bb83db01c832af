"""What an executor lets go of, and what it must keep until a block is final."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from consensus.interface import BodyMismatch, Build
from consensus.messages import Epoch, Milliseconds, ValidatorIndex, View
from node.chain.block import encode_block, instructions_root
from node.chain.encoding import decode
from node.chain.instruction import CheckedInstruction
from node.chain.types import Block, Header
from node.engine.executor import Executor, block_info
from node.engine.mempool import Mempool
from node.ledger.genesis import genesis_state
from tests.support.desk import Desk
from tests.support.ledger_world import DAY_MS, GENESIS_TIME, Chain, MemoryIndex, World, signer


def build(
    executor: Executor, request: Build, *candidates: CheckedInstruction
) -> tuple[bytes, list[bytes], list[bytes]]:
    return executor.build(request, candidates)


def make() -> tuple[World, Executor, Build]:
    """An executor at height 0 and the request to build the first block."""
    world = World.make()
    start = genesis_state(world.genesis, MemoryIndex())
    executor = Executor(world.genesis, start.applied.state, Mempool())
    request = Build(
        epoch=Epoch(0),
        view=View(1),
        parent=block_info(start.header),
        timestamp=Milliseconds(GENESIS_TIME + 1_000),
        proposer=ValidatorIndex(1),
        empty=False,
    )
    return world, executor, request


def test_what_stands_in_a_block_that_is_not_final_is_not_forgotten() -> None:
    """The block below may be abandoned: whoever forgot the instruction would have lost it."""
    world, executor, first = make()
    payment = world.pay("BANKA", world.payment("BANKA", "BANKC", 100))
    raw, chosen, dropped = build(executor, first, payment)
    assert (chosen, dropped) == ([payment.digest], [])
    second = Build(
        epoch=Epoch(0),
        view=View(3),
        parent=executor.inspect(raw),
        timestamp=Milliseconds(GENESIS_TIME + 2_000),
        proposer=ValidatorIndex(3),
        empty=False,
    )
    raw, standing, dropped = build(executor, second, payment)
    assert decode(raw, Block).instructions == ()
    assert (standing, dropped) == ([payment.digest], [])


def test_what_may_stand_a_little_later_is_not_forgotten() -> None:
    world, executor, request = make()
    early = world.pay(
        "BANKA",
        world.payment("BANKA", "BANKC", 100),
        valid_until=request.timestamp + 7 * DAY_MS + 1,
    )
    _, chosen, dropped = build(executor, request, early)
    assert (chosen, dropped) == ([], [])


def test_what_the_final_state_refuses_is_forgotten() -> None:
    world, executor, request = make()
    stranger = world.pay(
        "BANKA", world.payment("BANKA", "BANKC", 100), signers=[signer("stranger")]
    )
    _, chosen, dropped = build(executor, request, stranger)
    assert (chosen, dropped) == ([], [stranger.digest])


# --- other leaders' blocks ------------------------------------------------------------------------


def verdict(executor: Executor, header: Header, *instructions: CheckedInstruction) -> str | None:
    raw = encode_block(header, [each.raw for each in instructions])
    return executor.execute(executor.inspect(raw), raw)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("chain_id", bytes(32)),
        ("height", 2),
        ("outcomes_count", 0),
        ("outcomes_root", bytes(32)),
        ("state_root", bytes(32)),
        ("history_root", bytes(32)),
        ("validator_set", bytes(32)),
        ("next_validator_set", bytes(32)),
    ],
)
def test_every_wrong_field_of_a_header_is_named(field: str, value: int | bytes) -> None:
    world, executor, _ = make()
    issue = world.issue("CENTRALBANK", "BANKA", 100)
    good = Chain(world).make(issue)
    reason = verdict(executor, replace(good.header, **{field: value}), issue)
    assert reason is not None
    assert reason.startswith(f"{field}:"), reason
    assert verdict(executor, good.header, issue) is None, "the right one is good after all that"


def test_a_block_beside_the_final_chain_is_bad() -> None:
    world, executor, _ = make()
    good = Chain(world).make()
    reason = verdict(executor, replace(good.header, parent=bytes(32)))
    assert reason is not None
    assert "does not extend the final chain" in reason


def test_an_instruction_that_may_not_stand_makes_the_block_bad() -> None:
    world, executor, _ = make()
    good = Chain(world).make()
    for bad in (
        world.issue("CENTRALBANK", "BANKA", 1, valid_until=good.header.timestamp - 1),
        world.pay("BANKA", world.payment("BANKA", "BANKB", 1), signers=[signer("stranger")]),
    ):
        header = replace(
            good.header, instructions_count=1, instructions_root=instructions_root([bad])
        )
        assert verdict(executor, header, bad) is not None


def test_a_body_that_is_not_the_headers_is_the_senders_fault() -> None:
    world, executor, _ = make()
    issue, other = (world.issue("CENTRALBANK", "BANKA", 100) for _ in range(2))
    good = Chain(world).make(issue)
    for raw in (
        b"",
        good.raw[:-1],
        good.raw + b"\0",
        encode_block(good.header, [other.raw]),
        encode_block(good.header, []),
        encode_block(good.header, [issue.raw, issue.raw]),
        encode_block(good.header, [b"nonsense"]),
        encode_block(replace(good.header, instructions_count=2), [issue.raw]),
        encode_block(replace(good.header, instructions_root=bytes(32)), [issue.raw]),
    ):
        with pytest.raises(BodyMismatch):
            executor.inspect(raw)


def test_a_block_with_too_many_payments_or_bytes_is_bad() -> None:
    world, executor, _ = make()
    good = Chain(world).make()
    one = world.payment("BANKA", "BANKB", 1)

    def order(payments: int, text: str | None = None) -> CheckedInstruction:
        uetrs = (world.payment("BANKA", "BANKB", 1).uetr for _ in range(payments))
        made = (replace(one, uetr=uetr, ultimate_debtor=text) for uetr in uetrs)
        return world.pay("BANKA", *made)

    many = [order(10_000), order(10_000), order(1)]
    long = [order(10_000, "x" * 140), order(10_000, "x" * 140)]
    for instructions, what in ((many, "20000 payments"), (long, "4194304 bytes")):
        header = replace(
            good.header,
            instructions_count=len(instructions),
            instructions_root=instructions_root(instructions),
        )
        reason = verdict(executor, header, *instructions)
        assert reason is not None
        assert what in reason, reason


def test_a_bad_leaders_block_does_not_fill_the_pool_with_strangers_instructions() -> None:
    desk = Desk(World.make())
    world = desk.world
    known = desk.pay()
    stranger = world.pay("BANKA", world.payment("BANKA", "BANKB", 1), signers=[signer("stranger")])
    good = Chain(world).make(known)
    header = replace(
        good.header,
        instructions_count=2,
        instructions_root=instructions_root([known, stranger]),
    )
    assert verdict(desk.executor, header, known, stranger) is not None
    assert desk.pool.digests() == [known.digest], "but a failed block loses nothing"
    desk.io.shutdown()


async def test_a_block_that_can_no_longer_be_final_holds_no_instruction_back() -> None:
    desk = Desk(World.make())
    abandoned, final, above = desk.pay(), desk.pay(), desk.pay()
    await desk.intake.submit([each.raw for each in (abandoned, final, above)])
    desk.build(abandoned, time=desk.floor.timestamp + 500)
    block, _ = desk.build(final)
    desk.build(above, parent=block)
    assert set(desk.executor.unfinalized_instructions()) == set(desk.pool.digests())
    desk.finalize(final)
    assert desk.executor.unfinalized_instructions() == [above.digest]
    desk.pool.replace_in_flight(desk.executor.unfinalized_instructions())
    assert [c.digest for c in desk.pool.candidates()] == [abandoned.digest]
    assert desk.pool.pending
    desk.io.shutdown()
