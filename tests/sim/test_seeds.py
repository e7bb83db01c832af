"""Five hundred seeds of the simulator, with loss, delay, reorder, partition, crash and restart.

A failing seed prints the command that replays it, goes into `KEPT`, and stays there.
"""

from __future__ import annotations

from collections import Counter

import pytest

from devnet.sim.batch import Failure, attempt
from devnet.sim.run import ROTTEN, Result, validators_of

SEEDS = 500
SHARD = 10
"""Seeds of one test: small enough to spread over workers."""

KEPT: tuple[tuple[int, int], ...] = ((37, 4), (210, 4), (2130, 4), (5084, 4), (5203, 7))
"""(seed, validators) that broke a rule once."""


@pytest.mark.parametrize("first", range(0, SEEDS, SHARD))
def test_no_seed_breaks_a_rule(first: int) -> None:
    jobs = [(seed, validators_of(seed)) for seed in range(first, first + SHARD)]
    assert not failures(jobs)


def test_no_kept_seed_breaks_a_rule_again() -> None:
    assert not failures(list(KEPT))


def failures(jobs: list[tuple[int, int]]) -> list[str]:
    outcomes = [attempt(job) for job in jobs]
    return [f"{o.text}\nreplay: {o.replay}" for o in outcomes if isinstance(o, Failure)]


def test_the_seeds_mix_both_sizes() -> None:
    sizes = [validators_of(seed) for seed in range(SEEDS)]
    assert set(sizes) == {4, 7}
    assert min(sizes.count(4), sizes.count(7)) >= SEEDS // 4


def test_media_that_fail_are_refused_by_name_and_their_nodes_restored() -> None:
    faults: Counter[str] = Counter()
    for seed in [seed for seed in range(90) if seed % 6 in ROTTEN]:
        outcome = attempt((seed, validators_of(seed)))
        assert isinstance(outcome, Result), outcome.text
        faults.update(outcome.faults)
    for named in ("StoreCorrupt", "JournalCorrupt", "SignerUnusable"):
        assert faults[f"damage refused: {named}"] > 0
    assert faults["older database restored"] > 0
