"""A crash at every persistence point, with every outcome, breaks no rule and stops no progress."""

from __future__ import annotations

import random

import pytest

from devnet.sim.crashes import SCENARIOS, Scenario, crash_everywhere, play
from devnet.sim.points import MAX_ANSWERS, Fate, PersistencePoints, next_plan
from devnet.sim.stage import SIZE

PLAYED = [(scenario, victim) for scenario in range(len(SCENARIOS)) for victim in range(SIZE)]
"""(scenario, member that dies): among them are those that follow and those that come back through a
sync chunk, on the harsh model and on the node's own storage code."""
PARTS = 4
"""Tests that share one member's points."""
POINTS = {
    "after append",
    "before sync",
    "during sync",
    "after sync",
    "between sends",
    "before commit",
    "during commit",
    "after commit",
    "during rotation",
    "after rotation",
    "during recovery",
    "before accepting",
    "after accepting",
}


@pytest.mark.parametrize(("scenario", "victim"), PLAYED)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_crash_at_any_persistence_point_breaks_no_rule(
    scenario: int, victim: int, part: int
) -> None:
    campaign = crash_everywhere(SCENARIOS[scenario], victim, (part, PARTS))
    tried = sum(campaign.kinds.values())
    print(f"{tried} of {campaign.points} persistence points, {campaign.runs} runs")
    assert campaign.runs >= tried >= campaign.points // PARTS > 0


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_scenarios_write_in_every_way(scenario: Scenario) -> None:
    plays = [play(scenario, victim, PersistencePoints(), trace=True) for victim in range(4)]
    assert min(played.views for played in plays) >= 8
    assert sum(played.nullified for played in plays) >= 1
    assert plays[scenario.away].synced >= 1
    assert min(played.rotations for played in plays) >= 1
    assert {name for played in plays for name in played.points.names} == POINTS
    assert min(played.points.count for played in plays) >= 100


def test_the_same_scenario_passes_the_same_points_every_time() -> None:
    once, again = (play(SCENARIOS[0], 0, PersistencePoints()).points.names for _ in range(2))
    assert once == again


def test_plans_visit_every_combination_of_answers_once() -> None:
    seen: list[tuple[int, bool]] = []
    plan: list[int] | None = []
    while plan is not None:
        fate = Fate(plan)
        kept = fate.randint(3, 5)
        # A question may depend on the answer before it.
        seen.append((kept, kept > 3 and fate.random() < 0.5))
        plan = next_plan(fate)
    assert sorted(seen) == [(3, False), (4, False), (4, True), (5, False), (5, True)]


def test_a_question_with_many_answers_is_asked_for_its_ends_and_middle() -> None:
    answers = {Fate([answer]).randint(0, 1_000) for answer in range(MAX_ANSWERS)}
    assert answers == {0, 1, 500, 999, 1_000}


def test_beyond_the_plan_answers_are_drawn_from_the_rest() -> None:
    drawn = {Fate([], random.Random(seed)).randint(0, 3) for seed in range(50)}
    assert drawn == {0, 1, 2, 3}
