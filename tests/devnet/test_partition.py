"""What a partition is written as, and which links follow from it."""

from __future__ import annotations

import pytest

from devnet.partition import (
    BadFault,
    BadPartition,
    Faults,
    LinkFault,
    describe_clocks,
    describe_held,
    describe_links,
    parse_groups,
    parse_link_fault,
    parse_offset,
)
from node.network.faults import Faults as NodeFaults

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


def test_a_slow_link_is_slow_at_both_ends_and_each_node_draws_its_own_losses() -> None:
    faults = Faults(NAMES, seed=7)
    assert faults.order("node1") == NodeFaults(seed=8)
    faults.set_link("node1", "node0", LinkFault(50, 10, 0.1))
    faults.disconnect("node3")
    faults.set_clock("node1", -2_000)
    assert faults.order("node0") == NodeFaults(
        held=("node3",),
        delay_ms={"node1": 50},
        jitter_ms={"node1": 10},
        loss={"node1": 0.1},
        seed=7,
    )
    assert faults.order("node1") == NodeFaults(
        held=("node3",),
        delay_ms={"node0": 50},
        jitter_ms={"node0": 10},
        loss={"node0": 0.1},
        seed=8,
        clock_offset_ms=-2_000,
    )
    assert faults.order("node2") == NodeFaults(held=("node3",), seed=9)
    with pytest.raises(BadFault, match="node2 has no link to itself"):
        faults.set_link("node2", "node2", LinkFault(1))


def test_faults_are_absolute_and_healing_undoes_them_all() -> None:
    faults = Faults(NAMES)
    faults.set_links(LinkFault(50))
    faults.set_link("node0", "node1", LinkFault(0, 0, 0.05))
    document = faults.document()
    assert len(document["links"]) == 6
    assert describe_links(document["links"]) == (
        "node0–node1: 0 ms, 5 % lost; node0–node2, node0–node3, node1–node2, node1–node3, "
        "node2–node3: 50 ms"
    )
    # No fault is none, not a fault of 0 ms.
    faults.set_links(LinkFault())
    assert faults.document()["links"] == []
    faults.set_clock("node2", 1_500)
    faults.set_clock("node1", -3)
    assert describe_clocks(faults.document()["clocks"]) == "node1 -3 ms, node2 +1500 ms"
    faults.set_clock("node1", 0)
    assert faults.document()["clocks"] == {"node2": 1_500}
    faults.set_link("node3", "node2", LinkFault(5, 5, 0))
    assert describe_links(faults.document()["links"]) == "node2–node3: 5 ms to 10 ms"
    faults.partition(parse_groups("0,1|2,3", NAMES))
    faults.heal()
    assert [faults.order(name) for name in NAMES] == [NodeFaults(seed=n) for n in range(4)]
    assert describe_links([]) == describe_clocks({}) == "none"


def test_faults_written_as_text_are_read_strictly() -> None:
    assert parse_link_fault("50", None, "0.05") == LinkFault(50, 0, 0.05)
    assert parse_link_fault(None, "60000", "1") == LinkFault(0, 60_000, 1.0)
    assert (parse_offset("+2000"), parse_offset("-500"), parse_offset("0")) == (2_000, -500, 0)
    for delay in ("-1", "60001", "1.5", "", "١"):
        with pytest.raises(BadFault, match="delay"):
            parse_link_fault(delay, None, None)
    for loss in ("1.1", "-0.1", "5%", "nan", "1e-3", ""):
        with pytest.raises(BadFault, match="loss"):
            parse_link_fault(None, None, loss)
    for offset in ("", "1s", "1.5", "99999999999", "--1"):
        with pytest.raises(BadFault, match="offset"):
            parse_offset(offset)
