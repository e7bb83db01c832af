"""What state sync rebuilds of a block is what executing it remembers, for random histories of all
kinds of instructions."""

from __future__ import annotations

import pytest

from node.engine.window import WindowBlock, rebuild
from tests.support.settlement_machine import Tally, play

SEEDS = range(100, 106)


@pytest.mark.parametrize("seed", SEEDS)
def test_ids_uetrs_changes_and_what_follows_are_those_that_execution_noted(seed: int) -> None:
    blocks = play(seed, Tally()).driver.chain.blocks
    assert blocks
    for block in blocks:
        rebuilt = rebuild(WindowBlock(block.raw, tuple(block.applied.outcomes)))
        assert rebuilt.ids == block.applied.ids
        assert rebuilt.used.uetrs == block.applied.uetrs
        assert rebuilt.used.changes == block.applied.changes
        assert rebuilt.used.following == block.applied.following
        assert rebuilt.used.joined == block.applied.joined
        assert rebuilt.used.closed == block.applied.closed
