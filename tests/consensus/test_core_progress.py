"""A whole validator set on a loopback network finalizes blocks."""

from __future__ import annotations

import pytest

from consensus.interface import Pending
from tests.support.consensus_harness import Chain, Loopback


@pytest.mark.parametrize("validators", [1, 2, 3, 4, 7])
def test_validators_with_pending_instructions_finalize_the_same_blocks(validators: int) -> None:
    net = Loopback(Chain(validators))
    net.put(Pending(True))
    net.run()
    heights = [blocks[-1].height for blocks in net.commits]
    assert min(heights) > 5
    shortest = min(heights)
    for blocks in net.commits:
        assert [b.height for b in blocks[:shortest]] == list(range(1, shortest + 1))
        assert blocks[:shortest] == net.commits[0][:shortest]
    assert not net.alarms


def test_one_instruction_is_final_and_then_the_chain_is_idle() -> None:
    net = Loopback()
    net.put(Pending(True))
    net.run(60)
    net.put(Pending(False))
    net.wait(1_500)
    heights = [blocks[-1].height for blocks in net.commits]
    assert len(set(heights)) == 1
    net.wait(300)
    assert [blocks[-1].height for blocks in net.commits] == heights


def test_an_idle_chain_makes_one_empty_block_an_idle_interval_and_no_nullification() -> None:
    net = Loopback()
    net.wait(10 * net.timing.idle_interval + 50)
    assert [len(blocks) for blocks in net.commits] == [10] * 4
    assert [blocks[-1].view for blocks in net.commits] == [10] * 4


def test_three_of_four_go_on_without_the_fourth() -> None:
    net = Loopback(down=frozenset({2}))
    net.put(Pending(True))
    net.wait(5_000)
    for node in net.up:
        assert len(net.commits[node]) > 10
    assert not net.alarms


def test_two_of_four_finalize_nothing() -> None:
    net = Loopback(down=frozenset({2, 3}))
    net.put(Pending(True))
    net.wait(5_000)
    assert not any(net.commits)
