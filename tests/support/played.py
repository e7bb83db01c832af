"""Chains of everything that the settlement engine does: a played history, with certificates."""

from __future__ import annotations

from functools import cache
from random import Random

from tests.support.settlement_actions import Chance
from tests.support.settlement_machine import DECK, World
from tests.support.settlement_world import Driver
from tests.support.small_chain import SmallChain

STEPS = 120


@cache
def played(seed: int) -> tuple[SmallChain, bytes]:
    """(chain, its genesis file). Shared: copy it before damaging it."""
    world, choice, driver = World(), Chance(Random(seed)), Driver()
    world.driver = driver
    world.begin(choice)
    for _ in range(STEPS):
        getattr(world, choice.pick(DECK))(choice)
    driver.block(1_000)
    members = driver.chain.world
    chain = SmallChain(members.genesis)
    for vote in members.votes:
        chain.know(vote)
    for made in driver.chain.blocks:
        raws = [each.raw for each in made.instructions]
        chain.add(*raws, after_ms=made.header.timestamp - chain.state.time)
    return chain, members.genesis_bytes
