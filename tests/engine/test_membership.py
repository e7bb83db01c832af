"""A node's place in the validator set: whose keys these are, and what it says by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from node.chain.types import ValidatorSet
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
