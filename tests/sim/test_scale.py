"""The simulation of scale counts what the protocol implies; how long things take is no test's."""

from __future__ import annotations

import pytest

from consensus.messages import quorum
from devnet.bench.costs import Costs
from devnet.bench.scaling import Scaling
from devnet.sim.scale import PARTS, Line, simulate

BLOCKS = 6
FREE = Costs(block_bytes=2_000, payments=1)
"""Nothing takes time but the links."""
SLOW = Costs(
    verify=50.0,
    sign=20.0,
    encode_vote=1.0,
    decode_vote=2.0,
    decode_signature=1.0,
    send=20.0,
    receive=20.0,
    check=60.0,
    build=500.0,
    execute=500.0,
    commit=200.0,
    sync=1_000.0,
    block_bytes=2_000,
    payments=1,
)


@pytest.mark.parametrize("n", [4, 10])
def test_a_block_takes_a_vote_and_a_certificate_of_each_kind_from_everybody_to_everybody(
    n: int,
) -> None:
    run = simulate(n, Line(10.0, 0.0), FREE, BLOCKS, {})
    others = n - 1
    assert {kind: count // BLOCKS for kind, count in run.messages.items()} == {
        "proposal": others,
        "notarize": others * others,  # the leader's is in its proposal
        "notarization": n * others,
        "finalize": n * others,
        "finalization": n * others,
    }
    assert run.abandoned == 0


@pytest.mark.parametrize("n", [4, 10])
def test_blocks_come_every_two_delays_and_are_final_after_three_at_every_node(n: int) -> None:
    run = simulate(n, Line(10.0, 0.0), FREE, BLOCKS, {})
    assert set(run.finality_ms) == {30.0}
    assert len(run.finality_ms) == n * BLOCKS
    assert run.blocks_per_s == pytest.approx(50.0)


@pytest.mark.parametrize("n", [4, 10])
def test_a_node_verifies_a_quorum_of_votes_of_each_kind_and_no_more(n: int) -> None:
    run = simulate(n, Line(10.0, 0.0), FREE, BLOCKS, {})
    assert run.per_node(run.verified) == 2 * (quorum(n) - 1), "its own vote needs no check"


def test_the_same_run_twice_is_the_same_and_costs_only_slow_it_down() -> None:
    free = simulate(4, Line(1.0), FREE, BLOCKS, {})
    slow, again = (simulate(4, Line(1.0), SLOW, BLOCKS, {"notarize": 10.0}) for _ in range(2))
    assert slow == again
    assert slow.finality_ms[0] > free.finality_ms[-1]
    assert slow.messages == free.messages
    assert all(slow.cpu_us[part] > 0 for part in PARTS)
    assert not any(free.cpu_us.values())


def test_the_line_is_shared_by_the_copies_of_a_block() -> None:
    """At 100 Mbit/s the three copies of a block of 2,000 bytes leave one after the other."""
    run = simulate(4, Line(1.0, 0.1), FREE, BLOCKS, {})
    copy_ms = 2_000 * 8 / 100_000
    assert run.finality_ms[-1] > 3 * run.line.latency_ms + 3 * copy_ms
    # Two receivers and the leader are a quorum: the next block waits for two copies only.
    assert 1_000 / run.blocks_per_s > 2 * run.line.latency_ms + 2 * copy_ms


def test_the_core_is_measured_kind_by_kind_and_the_report_has_every_table() -> None:
    measured = simulate(4, Line(1.0), FREE, 1, None).core_us
    assert {"proposal", "notarize", "finalize", "notarization", "finalization"} <= set(measured)
    runs = {}
    for n in (4, 10):
        for latency in (1.0, 10.0):
            runs[n, latency] = simulate(n, Line(latency), SLOW, 1, measured)
            runs[n, latency].core_us = measured
    text = "\n".join(Scaling(SLOW, runs).lines())
    assert text.count("\n| 10 |") == 1 + 2 + 1
    assert "Where it bends:" in text
