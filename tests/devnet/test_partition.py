"""What a partition is written as, and which links follow from it."""

from __future__ import annotations

import pytest

from devnet.partition import BadPartition, Faults, describe_held, parse_groups

NAMES = ["node0", "node1", "node2", "node3"]


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("0,1|2,3", [["node0", "node1"], ["node2", "node3"]]),
        (" node1 , 0 | 3,node2 ", [["node0", "node1"], ["node2", "node3"]]),
        ("0|1|2|3", [["node0"], ["node1"], ["node2"], ["node3"]]),
        ("2", [["node2"], ["node0", "node1", "node3"]]),
        ("3|1", [["node3"], ["node1"], ["node0", "node2"]]),
    ],
)
def test_groups_are_read_and_who_is_not_named_is_a_group(
    text: str, groups: list[list[str]]
) -> None:
    assert parse_groups(text, NAMES) == groups


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "a place without a node"),
        ("0,1|", "a place without a node"),
        ("0,,1|2", "a place without a node"),
        ("0,1|2,4", "no node '4'; its nodes are node0, node1, node2, node3"),
        ("0,1|1,2", "node1 is named twice"),
        ("0,node0|1", "node0 is named twice"),
        ("0,1,2,3", "splits nothing"),
    ],
)
def test_what_splits_no_network_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(BadPartition, match=why):
        parse_groups(text, NAMES)


def all_held(faults: Faults) -> dict[str, list[str]]:
    return {name: faults.held(name) for name in NAMES}


def test_links_are_held_down_between_groups_and_of_the_disconnected_at_both_ends() -> None:
    faults = Faults(NAMES)
    assert describe_held(all_held(faults)) == "none"
    faults.partition(parse_groups("0,1|2,3", NAMES))
    assert all_held(faults) == {
        "node0": ["node2", "node3"],
        "node1": ["node2", "node3"],
        "node2": ["node0", "node1"],
        "node3": ["node0", "node1"],
    }
    faults.disconnect("node3")
    faults.disconnect("node3")
    assert faults.held("node2") == ["node0", "node1", "node3"]
    # Reconnected, it is in its group again.
    faults.reconnect("node3")
    assert faults.held("node2") == ["node0", "node1"]
    with pytest.raises(BadPartition, match="node3 is not disconnected; a partition is ended by"):
        faults.reconnect("node3")

    faults.partition(parse_groups("0", NAMES))
    assert describe_held(all_held(faults)) == "node0–node1, node0–node2, node0–node3"
    faults.disconnect("node1")
    faults.heal()
    assert describe_held(all_held(faults)) == "none"
    with pytest.raises(BadPartition, match=r"node1 is not disconnected$"):
        faults.reconnect("node1")
