"""A seed alone decides a run: the same trace twice, in any process, whatever Python hashes to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from devnet.sim.run import run_seed

SEEDS = (3, 4, 5)
"""On the model disk and on the node's storage, with four and with seven validators."""

PRINT_HASHES = f"""
from devnet.sim.run import run_seed
for seed in {SEEDS}:
    print(run_seed(seed).trace_hash)
"""


def hashes_in_a_new_process(hash_seed: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PRINT_HASHES],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_the_same_seed_gives_the_same_trace_in_every_process() -> None:
    here = [run_seed(seed).trace_hash for seed in SEEDS]
    assert hashes_in_a_new_process("1") == here
    assert hashes_in_a_new_process("2") == here


def test_the_same_seed_gives_the_same_result_twice() -> None:
    assert run_seed(6) == run_seed(6)


def test_a_kept_trace_changes_nothing() -> None:
    assert run_seed(6, keep_trace=True).trace_hash == run_seed(6).trace_hash


@pytest.mark.parametrize("validators", [4, 7])
def test_another_seed_gives_another_trace(validators: int) -> None:
    assert run_seed(6, validators).trace_hash != run_seed(8, validators).trace_hash
