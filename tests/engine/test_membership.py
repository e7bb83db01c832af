"""A node's place in the validator set: whose keys these are, and what it says by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from node.chain.types import ValidatorSet
from node.engine.following import CUT_OFF_SECONDS, Apart
from node.engine.membership import check_identity, index_of
from node.storage.errors import HomeError
from tests.support import world

SET = world.genesis().validator_set
HERE = Path("home")


def key(index: int) -> bytes:
    return world.node_signer(index).public_key


def test_a_node_is_who_its_node_key_is_in_the_set() -> None:
    for index, validator in enumerate(SET.validators):
        check_identity(SET, validator.name, key(index), HERE)
        assert index_of(SET, key(index)) == index
    check_identity(SET, "watch", bytes(32), HERE)  # an observer
    assert index_of(SET, bytes(32)) is None


def test_two_homes_that_were_mixed_up_are_told_apart() -> None:
    with pytest.raises(HomeError, match="calls this node node0, but its node key is that of node1"):
        check_identity(SET, "node0", key(1), HERE)


def test_a_node_key_that_the_member_no_longer_has_is_refused() -> None:
    renewed = tuple(
        replace(each, node_key=bytes(32)) if each.name == "node2" else each
        for each in SET.validators
    )
    with pytest.raises(HomeError, match="not the one that the validator set of epoch 3 names"):
        check_identity(ValidatorSet(3, renewed), "node2", key(2), HERE)
    # One with sources to follow may hold the key of an epoch that it has not reached.
    check_identity(ValidatorSet(3, renewed), "node2", key(2), HERE, follows=True)


@dataclass
class Standing:
    index: int | None


def test_a_member_without_any_link_asks_its_sources_after_a_while() -> None:
    now = [0.0]
    place = Standing(2)
    apart = Apart(place, lambda: now[0])
    assert not apart()
    now[0] = CUT_OFF_SECONDS
    assert apart(), "nobody has linked to it since its start"
    apart.link(True)
    apart.link(True)
    apart.link(False)
    assert not apart()
    apart.link(False)
    assert not apart(), "links come and go"
    now[0] = 2 * CUT_OFF_SECONDS
    assert apart()
    apart.link(True)
    assert not apart()
    place.index = None
    assert apart(), "an observer always does"
