"""Whatever parts of sound dossiers are put together, the verifier judges it, and never as VALID.

Each mix is of one type with a dossier, so it passes the decoder: what is tried is that no check
takes for granted what another one says.
"""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from node.audit.dossier import Dossier, Step
from node.audit.report import VALID
from tests.support.dossiers import checked
from tests.support.evidence_world import CASES, case

NAMES = list(CASES)
MIXES = 800
"""Of each kind of mix."""
SHOWN_BY_CHOICE = ("debtor", "creditor", "related", "dispute")
"""What nobody has to show: without it the rest may prove what it proved."""


def judged(mixed: Dossier, *sources: Dossier) -> None:
    """It is not VALID, unless it is a sound one without what nobody has to show."""
    report = checked(mixed)
    if report.verdict != VALID:
        return
    fields = [name for name in Dossier.__struct_fields__ if name not in SHOWN_BY_CHOICE]
    assert any(
        all(getattr(mixed, name) == getattr(source, name) for name in fields) for source in sources
    ), report.text()


@pytest.mark.parametrize("seed", range(2))
def test_fields_of_several_dossiers_prove_nothing_together(seed: int) -> None:
    chosen = random.Random(seed)
    fields = Dossier.__struct_fields__
    for _ in range(MIXES):
        base, *others = (case(name) for name in chosen.sample(NAMES, 4))
        taken = {
            name: getattr(chosen.choice(others), name)
            for name in chosen.sample(fields, chosen.randint(1, 8))
        }
        judged(replace(base, **taken), base, *others)


@pytest.mark.parametrize("seed", range(2))
def test_steps_of_several_dossiers_prove_nothing_together(seed: int) -> None:
    chosen = random.Random(100 + seed)
    for _ in range(MIXES):
        base, other = (case(name) for name in chosen.sample(NAMES, 2))
        pool = [*base.steps, *other.steps]
        steps = tuple(chosen.choices(pool, k=chosen.randint(1, 4)))
        if chosen.random() < 0.5:
            act = chosen.choice(pool).act
            steps = (Step(steps[0].outcome, steps[0].place, act), *steps[1:])
        mixed = replace(base, steps=steps)
        if chosen.random() < 0.5:
            mixed = replace(mixed, together=other.together, row=other.row)
        if mixed != base:
            judged(mixed, base, other)
