"""Every twins scenario of three rounds: one key, two instances, each division in each round."""

from __future__ import annotations

import pytest

from devnet.sim import twins
from devnet.sim.stage import SIZE

PARTS = 16


@pytest.mark.parametrize("part", range(PARTS))
def test_no_twins_scenario_breaks_a_rule(part: int) -> None:
    seen = twins.enumerate_twins(twins.ROUNDS, twins.apart(), (part, PARTS))
    print(f"{seen.scenarios} twins scenarios, conflicting votes in {seen.equivocations}")
    assert seen.scenarios == 1_024 // PARTS
    assert seen.equivocations == seen.scenarios
    assert seen.reported > 0


def test_the_schedules_are_all_there_are_but_for_the_twins_names() -> None:
    apart, together = twins.apart(), twins.together()
    assert len(apart) == len(together) == 2 ** (SIZE - 1)
    assert all(not one & other and len(one | other) == SIZE - 1 for one, other in apart)
    assert len(set(twins.schedules(twins.ROUNDS, apart))) == SIZE * 8**twins.ROUNDS // 2
    both = len(set(twins.schedules(2, apart + together)))
    # With both on one side throughout, swapping their names changes nothing at all.
    assert both == SIZE * (16**2 + 8**2) // 2


def test_a_schedule_says_who_was_with_whom() -> None:
    schedule = twins.Schedule(3, ((frozenset({1}), frozenset({2, 3})),))
    assert str(schedule) == "twin 3, rounds [0] [1, 2]"
