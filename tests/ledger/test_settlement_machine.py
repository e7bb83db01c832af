"""The whole settlement engine and its slow, obvious model agree on every outcome and on every byte
of the state, block by block.

Hypothesis and seeds mix all kinds of instructions among few banks with little money, so that
payments queue, limits bind, links wait and cycles are short. On a difference Hypothesis prints the
shortest script that shows it; a seed is run again by `python -m tests.support.settlement_machine`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support import settlement_model
from tests.support.settlement_machine import STEPS, Tally, machine, play

DRAWN_STEPS = 2_000
SEEDED_STEPS = 6_000
MODULES = 10
"""Of the model, at least."""


def test_ledger_and_model_agree_whatever_hypothesis_draws(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tally = Tally()
    run_state_machine_as_test(
        machine(tally),
        settings=settings(
            max_examples=DRAWN_STEPS // 50,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    with capsys.disabled():
        print(f"\n{tally.steps:,} steps by Hypothesis, {tally.blocks:,} blocks")


def test_ledger_and_model_agree_in_seeded_runs(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    for seed in range(SEEDED_STEPS // STEPS):
        play(seed, tally)
    with capsys.disabled():
        print(f"\n{tally.steps:,} steps by seeds, {tally.blocks:,} blocks")


def test_the_model_shares_nothing_with_the_ledger_but_message_types() -> None:
    files = sorted(Path(settlement_model.__file__).parent.glob("*.py"))
    assert len(files) > MODULES
    assert [file.name for file in files if "node.ledger" in file.read_text("utf-8")] == []
