"""Bugs planted in the ledger are caught by the settlement machine, each within its short run. On a
ledger whose bounds are so small that they are met, it still finds no difference to the model.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.planted import BUGS, StalePatch, patched

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.planted", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("caught after "), done.stdout


def test_the_ledger_keeps_to_its_model_where_its_bounds_are_met() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.planted"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for full in ("Pay", "SetLimit", "Link", "Propose"):
        assert f"{full} RJCT AM21" in done.stdout, full


def test_a_patch_that_does_not_fit_the_source_is_an_error() -> None:
    with pytest.raises(StalePatch, match="stands 0 times in queue"):
        patched(BUGS["a payment passes others of its own priority"], "")
