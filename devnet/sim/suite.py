"""The exhaustive parts in worker processes: every persistence point, every twins schedule."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from devnet.sim import twins
from devnet.sim.crashes import SCENARIOS, crash_everywhere
from devnet.sim.stage import SIZE
from devnet.sim.world import Violation

PARTS = 8
"""Shares of one member's points."""
TWIN_PARTS = 64
"""Shares of one enumeration of twins schedules."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one share of an exhaustive part did."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    failure: tuple[str, ...] = ()
    """A broken rule, and how it came to be."""


Task = tuple[Callable[..., Share], tuple[int, ...]]


def points() -> list[Task]:
    """Every persistence point of every member in every scenario."""
    return [
        (_points, (scenario, victim, part))
        for scenario in range(len(SCENARIOS))
        for victim in range(SIZE)
        for part in range(PARTS)
    ]


def twin_schedules() -> list[Task]:
    """Three rounds of every division, also with both twins on one side."""
    return [(_twins, (part,)) for part in range(TWIN_PARTS)]


def perform(tasks: list[Task], workers: int) -> Iterator[Share]:
    """All of these, in `workers` processes; with one, in this."""
    if workers == 1:
        yield from map(_one, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(_one, tasks)


def _one(task: Task) -> Share:
    work, arguments = task
    try:
        return work(*arguments)
    except Violation as violation:
        notes = tuple(getattr(violation, "__notes__", ()))
        return Share(work.__name__.strip("_"), failure=(str(violation), *notes))


def _points(scenario: int, victim: int, part: int) -> Share:
    done = crash_everywhere(SCENARIOS[scenario], victim, (part, PARTS))
    counts = Counter({f"crash {name}": count for name, count in done.kinds.items()})
    counts["persistence points"] = sum(done.kinds.values())
    counts["crash runs"] = done.runs
    return Share("points", counts)


def _twins(part: int) -> Share:
    divisions = twins.apart() + twins.together()
    done = twins.enumerate_twins(twins.ROUNDS, divisions, (part, TWIN_PARTS))
    return Share(
        "twins",
        Counter(
            {
                "twins scenarios": done.scenarios,
                "twins scenarios with conflicting votes": done.equivocations,
                "twins equivocations reported": done.reported,
                "twins views": done.views,
            }
        ),
    )
