"""What an executor lets go of, and what it must keep until a block is final."""

from __future__ import annotations

from consensus.interface import Build
from consensus.messages import Epoch, Milliseconds, ValidatorIndex, View
from node.chain.encoding import decode
from node.chain.instruction import CheckedInstruction
from node.chain.types import Block
from node.engine.executor import Executor, block_info
from node.engine.mempool import Mempool
from node.ledger.genesis import genesis_state
from tests.support.ledger_world import DAY_MS, GENESIS_TIME, MemoryIndex, World, signer


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
