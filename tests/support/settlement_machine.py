"""The settlement machine: all actions together, driven by Hypothesis or by seeds.

`python -m tests.support.settlement_machine --steps 50000` runs for long by seeds; a failing seed is
printed and runs again with `--seed N`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.support.settlement_actions import Actions, Chance, Choice
from tests.support.settlement_governing import Governing
from tests.support.settlement_model.rows import Bounds
from tests.support.settlement_orders import Claims, Conditions, Orders

T = TypeVar("T")

STEPS = 100
"""Of one run from the beginning."""
PROGRESS_RUNS = 50


class World(Orders, Conditions, Claims, Governing):
    """Everybody and everything."""


WEIGHTS: dict[str, int] = {
    "next_block": 22,
    "block_much_later": 2,
    "restart": 1,
    "pay_plainly": 8,
    "pay_in_a_ring": 3,
    "pay_oddly": 5,
    "pay_all_or_none": 3,
    "retry": 2,
    "send_an_instruction_again": 1,
    "issue": 2,
    "redeem": 1,
    "order": 6,
    "pay_net": 6,
    "set_limit": 6,
    "set_policy": 1,
    "post_price": 1,
    "pledge_or_release": 2,
    "move_own": 2,
    "order_cycle": 4,
    "link": 5,
    "agree_to_a_link": 2,
    "reserve": 4,
    "post_or_void": 5,
    "recall_or_refuse": 2,
    "give_back": 3,
    "dispute": 2,
    "acknowledge": 1,
    "consent": 1,
    "use_client_reserve": 2,
    "freeze": 1,
    "suspend_or_lift": 1,
    "propose": 4,
    "approve": 1,
    "found_a_net_system": 1,
    "publish_days": 1,
    "order_day": 5,
    "register_key": 1,
    "revoke_key": 1,
}
"""How often each action is tried, in runs by seeds."""
DECK = tuple(name for name, weight in WEIGHTS.items() for _ in range(weight))


class Tally:
    """What the runs of this process did."""

    def __init__(self) -> None:
        self.steps = 0
        self.blocks = 0
        self.counts: Counter[str] = Counter()

    def add(self, world: Actions) -> None:
        """Count a run."""
        self.counts.update(world.driver.counts)
        self.blocks += len(world.driver.chain.blocks)

    def __str__(self) -> str:
        lines = [f"{self.steps:,} steps, {self.blocks:,} blocks"]
        lines += [f"  {count:>8,}  {name}" for name, count in sorted(self.counts.items())]
        return "\n".join(lines)


# --- by seeds -------------------------------------------------------------------------------------


def play(seed: int, tally: Tally, steps: int = STEPS, bounds: Bounds | None = None) -> World:
    """One run: the same seed does the same. Raises AssertionError on any disagreement. `bounds`:
    of the ledger, where they are not the usual ones."""
    choice = Chance(Random(seed))
    world = World(bounds)
    world.begin(choice)
    for _ in range(steps):
        tally.steps += 1
        getattr(world, choice.pick(DECK))(choice)
    world.driver.block(1_000)
    tally.add(world)
    return world


def digests(seeds: Iterable[int]) -> list[str]:
    """Digest of the last block of each run: it commits to all that the run did."""
    return [play(seed, Tally()).driver.chain.blocks[-1].digest.hex() for seed in seeds]


# --- by Hypothesis --------------------------------------------------------------------------------


class Drawn:
    """Choices by Hypothesis, which makes them simpler when something fails."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def pick(self, options: Sequence[T]) -> T:
        return self._data.draw(st.sampled_from(options))

    def number(self, least: int, most: int) -> int:
        return self._data.draw(st.integers(least, most))


def machine(tally: Tally) -> type[RuleBasedStateMachine]:
    """The state machine of all actions, which counts in `tally`."""

    class SettlementMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.world = World()

        @initialize(data=st.data())
        def begin(self, data: st.DataObject) -> None:
            self.world.begin(Drawn(data))

        def teardown(self) -> None:
            tally.add(self.world)

    def named(name: str) -> Callable[[SettlementMachine, st.DataObject], None]:
        def act(self: SettlementMachine, data: st.DataObject) -> None:
            tally.steps += 1
            getattr(self.world, name)(Drawn(data))

        act.__name__ = act.__qualname__ = name
        return act

    for name in WEIGHTS:
        setattr(SettlementMachine, name, rule(data=st.data())(named(name)))
    return SettlementMachine


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if ledger and model agreed throughout, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--quiet", action="store_true", help="no counts")
    parser.add_argument("--digests", action="store_true", help="of the last blocks, and no more")
    options = parser.parse_args(arguments)
    if options.digests:
        print(json.dumps(digests(range(options.seed, options.seed + options.steps // STEPS))))
        return 0
    tally, seed = Tally(), options.seed
    while tally.steps < options.steps:
        try:
            play(seed, tally, min(STEPS, options.steps - tally.steps))
        except Exception as error:
            print(f"FAIL seed {seed}: {error}", file=sys.stderr)
            print(f"     replay: python -m {__spec__.name} --seed {seed} --steps {STEPS}")
            raise
        seed += 1
        if seed % PROGRESS_RUNS == 0:
            print(f"{tally.steps:,} steps", file=sys.stderr, flush=True)
    print(str(tally).splitlines()[0] if options.quiet else tally)
    return 0


__all__ = ["Choice", "Tally", "World", "machine", "main", "play"]

if __name__ == "__main__":
    sys.exit(main())
