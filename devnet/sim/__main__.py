"""`python -m devnet.sim`: run seeds, replay one, or let the mutants loose."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence

from devnet.sim.attacks import ATTACKS
from devnet.sim.batch import Failure, attempt_all
from devnet.sim.mutants import MUTANTS, hunt
from devnet.sim.run import FAULT_SECONDS, Result, validators_of

WRONG_USAGE = 64
ALL_ATTACKS = "all"
MAX_SEEDS = 10_000_000
"""Seeds of one invocation."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if every rule held (or every mutant was caught), 1 if not, 64 on wrong usage."""
    options = _options(arguments)
    if options.mutants:
        return _run_mutants(options)
    sizes = options.n
    jobs = [
        (seed, sizes[seed % len(sizes)] if sizes else validators_of(seed))
        for seed in range(options.seeds[0], options.seeds[1] + 1)
    ]
    began = time.monotonic()
    failures: list[Failure] = []
    results: list[Result] = []
    for attack in _attacks(options.byzantine):
        for outcome in attempt_all(jobs, options.jobs, options.trace, attack):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                for line in outcome.trace:
                    print(line, file=sys.stderr)
                print(f"FAIL {outcome.text}\n     replay: {outcome.replay}", file=sys.stderr)
            else:
                results.append(outcome)
    _report(results, failures, time.monotonic() - began, options.json)
    return 1 if failures else 0


def _attacks(named: str | None) -> Sequence[str | None]:
    """The attacks to run the seeds with; None stands for no Byzantine members."""
    return tuple(ATTACKS) if named == ALL_ATTACKS else (named,)


def _report(results: list[Result], failures: list[Failure], seconds: float, as_json: bool) -> None:
    faults: Counter[str] = Counter()
    attacks: Counter[str] = Counter()
    for result in results:
        faults.update(result.faults)
        attacks.update(result.attacks)
    summary = {
        "seeds": len(results) + len(failures),
        "failures": [
            {"seed": f.seed, "n": f.validators, "attack": f.attack, "rule": f.rule}
            for f in failures
        ],
        "views": sum(result.views for result in results),
        "blocks": sum(result.commits for result in results),
        "instructions": sum(result.instructions for result in results),
        "packets": sum(result.delivered for result in results),
        "slowest_healing_ms": max((result.healed_ms for result in results), default=0),
        "faults": {kind: faults[kind] for kind in sorted(faults)},
        "attacks": {kind: attacks[kind] for kind in sorted(attacks)},
        "equivocations_reported": sum(result.reported for result in results),
        "seconds": round(seconds, 1),
        "seeds_per_minute": round((len(results) + len(failures)) * 60 / max(seconds, 0.001)),
    }
    if as_json:
        print(json.dumps(summary))
        return
    for name, value in summary.items():
        if isinstance(value, dict):
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
        caught = hunt(mutant, range(options.seeds[0], options.seeds[1] + 1))
        if caught is None:
            survivors += 1
            print(f"SURVIVED {mutant.name}", flush=True)
        else:
            print(f"caught   {mutant.name}: {caught.rule} (seed {caught.seed})", flush=True)
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
