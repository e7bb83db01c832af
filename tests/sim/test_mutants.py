"""The oracle catches broken cores: each mutant breaks one rule of the protocol."""

from __future__ import annotations

import pytest

from consensus.epochs import Epochs
from devnet.sim.mutant import Mutant, hunt
from devnet.sim.mutants import MUTANTS
from devnet.sim.patched import Patched, StalePatch

SEEDS = range(150)
"""Enough for each of them; most fall to their first."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_broken_core_is_caught_by_a_named_rule(mutant: Mutant) -> None:
    caught = hunt(mutant, SEEDS)
    assert caught is not None, "survived"
    assert caught.rule in mutant.rules


def test_an_unbroken_core_loaded_the_same_way_survives() -> None:
    unbroken = Mutant("unbroken", (), (("voting", "class Voter:", "class Voter:"),))
    assert Patched(unbroken.name, unbroken.patches).load() is not Epochs
    assert hunt(unbroken, range(3)) is None


@pytest.mark.parametrize(
    "patch", [("voting", "no such text", ""), ("voting", "state", ""), ("absent", "x", "")]
)
def test_a_patch_that_does_not_fit_is_an_error(patch: tuple[str, str, str]) -> None:
    with pytest.raises(StalePatch):
        Patched("stale", (patch,)).load()
