"""The executor where an epoch ends: a sealing block's carriers do nothing, and are no trouble."""

from __future__ import annotations

from node.engine.executor import Executor
from node.engine.mempool import Mempool
from node.ledger.genesis import genesis_state
from tests.support.epoch_chain import end_epoch
from tests.support.ledger_world import MemoryIndex
from tests.support.small_chain import SmallChain


def sealed(carriers: int) -> tuple[SmallChain, Executor]:
    """A chain whose first epoch is sealed, and an executor that executed it up to the seal."""
    chain = SmallChain()
    end_epoch(chain, carriers=carriers)
    start = genesis_state(chain.genesis, MemoryIndex())
    executor = Executor(chain.genesis, start.applied.state, Mempool())
    for height in range(1, chain.seals[0].height + 1):
        raw = chain.blocks[height]
        assert executor.execute(executor.inspect(raw), raw) is None
    return chain, executor


def test_a_carrier_is_executed_and_holds_no_instruction_back() -> None:
    chain, executor = sealed(carriers=2)
    for raw in chain.seals[0].carriers:
        info = executor.inspect(raw)
        assert executor.execute(info, raw) is None
        assert executor.instruction_digests(info.digest) == []
