"""A mutant, and the hunt for it: seeds are run until a rule of the oracle catches it.

A crash of the mutant does not count, and a patch that no longer fits the source is an error,
never a silent survivor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from devnet.sim.node import HonestNode
from devnet.sim.patched import Patched
from devnet.sim.run import run_seed
from devnet.sim.world import Violation


@dataclass(frozen=True, slots=True)
class Mutant:
    """A core with one rule broken."""

    name: str
    rules: tuple[str, ...]
    """The rules that may catch it: which one is first depends on the seed."""
    patches: tuple[tuple[str, str, str], ...]
    """As of `Patched`."""
    hint: int = 0
    """The first seed to try: one that is known to catch it."""
    node: type[HonestNode] = HonestNode
    """Whose driver or application goes wrong, where the fault is not the core's."""
    attack: str | None = None
    """What the Byzantine members of its runs do; None for runs without any."""


def hunt(mutant: Mutant, seeds: Iterable[int], *, hinted: bool = True) -> Violation | None:
    """Run seeds until one of its rules catches the mutant; None if it survives them all.
    `hinted`: the seed known to catch it first, else in their order.

    The signer guard is left out: it would refuse what the core's own guards must prevent.
    """
    core = Patched(mutant.name, mutant.patches).load()
    for seed in chain((mutant.hint,) if hinted else (), seeds):
        try:
            run_seed(
                seed,
                core=core,
                node=mutant.node,
                guarded=False,
                attack=mutant.attack,
            )
        except Violation as caught:
            if caught.rule in mutant.rules:
                return caught
    return None
