"""`python -m devnet.sim`: run seeds, replay one, exhaust what can be, or let the mutants loose."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from devnet.sim import suite
from devnet.sim.attacks import ATTACKS
from devnet.sim.batch import Failure, attempt_all
from devnet.sim.mutant import hunt
from devnet.sim.mutants import MUTANTS
from devnet.sim.run import FAULT_SECONDS, Result, validators_of

WRONG_USAGE = 64
ALL_ATTACKS = "all"
MAX_SEEDS = 10_000_000
"""Seeds of one invocation."""
SUITE_SEEDS = (0, 20_000)
SUITE_BYZANTINE = 100
"""Seeds of the whole suite: without Byzantine members, and with those of each kind."""
PROGRESS_SECONDS = 15


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if every rule held (or every mutant was caught), 1 if not, 64 on wrong usage."""
    options = _options(arguments)
    if options.mutants:
        return _run_mutants(options)
    totals = Totals()
    if options.suite:
        _seeds(totals, options, range(*SUITE_SEEDS), None)
        for name in ATTACKS:
            _seeds(totals, options, range(SUITE_BYZANTINE), name)
    elif not (options.points or options.twins):
        for attack in _attacks(options.byzantine):
            _seeds(totals, options, range(options.seeds[0], options.seeds[1] + 1), attack)
    if options.points or options.suite:
        _exhaust(totals, options, "persistence points", suite.points())
    if options.twins or options.suite:
        _exhaust(totals, options, "twins", suite.twin_schedules())
    _report(totals, options.json)
    return 1 if totals.failures else 0


def _attacks(named: str | None) -> Sequence[str | None]:
    """The attacks to run the seeds with; None stands for no Byzantine members."""
    return tuple(ATTACKS) if named == ALL_ATTACKS else (named,)


@dataclass(slots=True)
class Totals:
    """Sums over everything run so far."""

    began: float = field(default_factory=time.monotonic)
    seeds: int = 0
    seed_seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    exhausted: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    attacks: Counter[str] = field(default_factory=Counter)
    slowest: int = 0
    failures: list[dict[str, object]] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count a run in which every rule held."""
        self.counts.update(
            views=result.views,
            blocks=result.commits,
            instructions=result.instructions,
            packets=result.delivered,
            equivocations_reported=result.reported,
            changes_of_validators=result.epochs,
            carried_changes=result.carried,
        )
        self.faults.update(result.faults)
        self.attacks.update(result.attacks)
        self.slowest = max(self.slowest, result.healed_ms)


def _seeds(totals: Totals, options: argparse.Namespace, seeds: range, attack: str | None) -> None:
    sizes = options.n
    jobs = [(s, sizes[s % len(sizes)] if sizes else validators_of(s)) for s in seeds]
    progress = Progress(attack or "seeds", len(jobs), totals)
    began = time.monotonic()
    for done, outcome in enumerate(attempt_all(jobs, options.jobs, options.trace, attack), 1):
        totals.seeds += 1
        if isinstance(outcome, Failure):
            totals.failures.append(
                {
                    "seed": outcome.seed,
                    "n": outcome.validators,
                    "attack": outcome.attack,
                    "rule": outcome.rule,
                }
            )
            for line in outcome.trace:
                print(line, file=sys.stderr)
            print(f"FAIL {outcome.text}\n     replay: {outcome.replay}", file=sys.stderr)
        else:
            totals.add(outcome)
        progress.tell(done)
    totals.seed_seconds += time.monotonic() - began


def _exhaust(
    totals: Totals, options: argparse.Namespace, name: str, tasks: list[suite.Task]
) -> None:
    progress = Progress(name, len(tasks), totals)
    for done, share in enumerate(suite.perform(tasks, options.jobs), 1):
        totals.exhausted.update(share.counts)
        if share.failure:
            totals.failures.append({"part": share.name, "why": share.failure[0]})
            print("FAIL " + "\n     ".join(share.failure), file=sys.stderr)
        progress.tell(done)


class Progress:
    """Says on stderr, now and then, how far a long run is."""

    def __init__(self, name: str, total: int, totals: Totals) -> None:
        self._name = name
        self._total = total
        self._totals = totals
        self._began = self._told = time.monotonic()

    def tell(self, done: int) -> None:
        """So many are done; printed at most every `PROGRESS_SECONDS`."""
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            rate = done * 60 / (now - self._began)
            print(
                f"{self._name}: {done:,} of {self._total:,}, {rate:,.0f} a minute, "
                f"{len(self._totals.failures)} failed",
                file=sys.stderr,
                flush=True,
            )


def _report(totals: Totals, as_json: bool) -> None:
    summary: dict[str, object] = {
        "seeds": totals.seeds,
        "failures": totals.failures,
        "excluded": 0,
        "views": totals.counts["views"],
        "changes_of_validators": totals.counts["changes_of_validators"],
        "carried_changes": totals.counts["carried_changes"],
        "blocks": totals.counts["blocks"],
        "instructions": totals.counts["instructions"],
        "packets": totals.counts["packets"],
        "slowest_healing_ms": totals.slowest,
        "faults": dict(sorted(totals.faults.items())),
        "attacks": dict(sorted(totals.attacks.items())),
        "equivocations_reported": totals.counts["equivocations_reported"],
        "exhausted": dict(sorted(totals.exhausted.items())),
        "seconds": round(time.monotonic() - totals.began, 1),
        "seeds_per_minute": round(totals.seeds * 60 / max(totals.seed_seconds, 0.001)),
    }
    if as_json:
        print(json.dumps(summary))
        return
    for name, value in summary.items():
        if name == "exhausted":
            for kind, times in totals.exhausted.items():
                print(f"{kind}: {times:,}")
        elif isinstance(value, dict):
            print(f"{name}: {sum(value.values()):,}")
            for kind, times in value.items():
                print(f"  {times:9,} {kind}")
        elif isinstance(value, list):
            print(f"{name}: {len(value)}")
        else:
            print(f"{name.replace('_', ' ')}: {value:,}")


def _run_mutants(options: argparse.Namespace) -> int:
    survivors = 0
    for mutant in MUTANTS:
        first, last = options.seeds
        caught = hunt(mutant, range(first, last + 1), hinted=False)
        if caught is None:
            survivors += 1
            print(f"SURVIVED {mutant.name}", flush=True)
        else:
            needed = caught.seed - first + 1
            seeds = "1 seed" if needed == 1 else f"{needed} seeds"
            print(f"caught   {mutant.name}: {caught.rule}, after {seeds}", flush=True)
    return 1 if survivors else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m devnet.sim",
        description="Simulate the consensus core under faults, one seed a run, and judge it.",
    )
    parser.add_argument(
        "--seeds", type=_seed_range, default=(0, 299), metavar="A..B", help="default 0..299"
    )
    parser.add_argument("--n", type=_sizes, default=[], metavar="4,7", help="validators, in turn")
    parser.add_argument("--jobs", type=_positive, default=1, help="processes (default 1)")
    parser.add_argument("--trace", action="store_true", help="print the trace of a failing seed")
    parser.add_argument("--json", action="store_true", help="the summary as one JSON document")
    parser.add_argument(
        "--mutants", action="store_true", help="run broken cores instead; each must be caught"
    )
    parser.add_argument(
        "--points", action="store_true", help="crash at every persistence point instead"
    )
    parser.add_argument(
        "--twins", action="store_true", help="play every twins scenario of three rounds instead"
    )
    parser.add_argument(
        "--suite",
        action="store_true",
        help=f"{SUITE_SEEDS[1] - SUITE_SEEDS[0]:,} seeds, {SUITE_BYZANTINE} with each attack, "
        "all persistence points, all twins scenarios",
    )
    parser.add_argument(
        "--byzantine",
        nargs="?",
        const=ALL_ATTACKS,
        choices=(ALL_ATTACKS, *ATTACKS),
        metavar="ATTACK",
        help=f"up to f members lie; one of {', '.join(ATTACKS)}; without a name, each in turn",
    )
    try:
        return parser.parse_args(arguments)
    except SystemExit as stop:
        raise SystemExit(WRONG_USAGE if stop.code else 0) from None


def _seed_range(text: str) -> tuple[int, int]:
    first, separator, last = text.partition("..")
    try:
        bounds = (int(first), int(last if separator else first))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed or a range A..B") from None
    if bounds[0] < 0 or not 0 <= bounds[1] - bounds[0] < MAX_SEEDS:
        raise argparse.ArgumentTypeError(f"{text!r} is empty, negative or over {MAX_SEEDS:,} seeds")
    return bounds


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError:
        sizes = [0]
    if any(size not in FAULT_SECONDS for size in sizes):
        known = ", ".join(map(str, FAULT_SECONDS))
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {known}")
    return sizes


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
