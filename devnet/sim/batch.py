"""Many runs, in one process or several; a broken rule becomes a value that crosses processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from devnet.sim.run import Result, run_seed
from devnet.sim.world import Violation

Job = tuple[int, int]
"""(seed, validators)."""

MAX_PENDING = 1_000
"""Runs handed to worker processes at one time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that broke a rule."""

    seed: int
    validators: int
    rule: str
    text: str
    trace: tuple[str, ...]
    attack: str | None = None

    @property
    def replay(self) -> str:
        """The command that shows it again."""
        byzantine = f" --byzantine {self.attack}" if self.attack else ""
        return (
            f"python -m devnet.sim --seeds {self.seed}..{self.seed} --n {self.validators}"
            f"{byzantine} --trace"
        )


def attempt(job: Job, keep_trace: bool = False, attack: str | None = None) -> Result | Failure:
    """Run one job, its Byzantine members (if `attack` names some) included.

    A broken rule is returned, not raised.
    """
    seed, validators = job
    try:
        return run_seed(seed, validators, keep_trace=keep_trace, attack=attack)
    except Violation as violation:
        trace = tuple(getattr(violation, "__notes__", ()))
        return Failure(seed, validators, violation.rule, str(violation), trace, attack)


def attempt_all(
    jobs: Sequence[Job], workers: int, keep_trace: bool, attack: str | None = None
) -> Iterator[Result | Failure]:
    """Run all jobs in `workers` processes, in order; with one worker, in this process.

    Raises concurrent.futures.process.BrokenProcessPool when a worker dies.
    """
    run = partial(attempt, keep_trace=keep_trace, attack=attack)
    if workers == 1:
        yield from map(run, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for start in range(0, len(jobs), MAX_PENDING):
            yield from pool.map(run, jobs[start : start + MAX_PENDING], chunksize=4)
