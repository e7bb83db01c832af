"""One plain sentence says whether payments become final, and if not, what is missing."""

from __future__ import annotations

import pytest

from node.api.service import GivenUpView, MempoolView, PeerView, StatusView
from node.cli.stall import IDLE_STALL_MS, WAITING_STALL_MS, Progress, explain, explain_all

NOW = 1_795_299_300_000  # 2026-11-21 22:15:00 UTC
DOWN_SINCE = NOW - 57_000
UP_SINCE = NOW - 3_600_000
DAY = 86_400_000
MINUTE = 60_000


def status(
    *,
    node: str = "node0",
    down: tuple[str, ...] = (),
    validators: int = 4,
    waiting: int = 0,
    finalized_at: int | None = NOW - 1_000,
    given_up: tuple[tuple[int, str], ...] = (),
    validator: int | None = 0,
    alarm: str | None = None,
    since: int | None = DOWN_SINCE,
    detail: str = "cannot connect: [Errno 111] Connection refused",
) -> StatusView:
    """What a node tells; its own name is not among its peers'."""
    names = [f"node{index}" for index in range(validators)]
    peers = [
        PeerView(
            name=name,
            index=index,
            connected=name not in down,
            detail=detail if name in down else "",
            since=since if name in down else UP_SINCE,
        )
        for index, name in enumerate(names)
        if validator is None or name != node
    ]
    return StatusView(
        node=node,
        chain_id="00" * 32,
        network="test",
        devnet=True,
        version="0",
        height=12,
        block="00" * 32,
        time=NOW - 1_100,
        epoch=0,
        view=19,
        leader="node3",
        validator=validator,
        signing=alarm is None,
        alarm=alarm,
        peers=peers,
        mempool=MempoolView(instructions=waiting, payments=waiting, bytes=100 * waiting),
        finalized_at=finalized_at,
        given_up=[GivenUpView(view=view, leader=leader) for view, leader in given_up],
    )


STUCK = NOW - WAITING_STALL_MS - 1
SITUATIONS = [
    (
        "all well",
        status(),
        "ok",
        "4 of 4 validators connected, 3 are needed; block 12 is final since 22:14:59 UTC, "
        "no instruction waits",
    ),
    (
        "one down",
        status(down=("node2",), waiting=1),
        "warn",
        "3 of 4 validators connected, 3 are needed; node2 unreachable since 22:14:03 UTC "
        "(cannot connect); block 12 is final since 22:14:59 UTC, 1 instruction waits; with "
        "one more down nothing would become final",
    ),
    (
        "two down",
        status(down=("node2", "node3"), waiting=3, finalized_at=DOWN_SINCE - 2_000),
        "fail",
        "2 of 4 validators connected, 3 are needed; node2 unreachable since 22:14:03 UTC (cannot "
        "connect); node3 unreachable since 22:14:03 UTC (cannot connect); nothing final since "
        "22:14:01 UTC, 3 instructions wait",
    ),
    (
        "two down since the start, a day ago",
        status(down=("node2", "node3"), finalized_at=None, since=DOWN_SINCE - DAY, detail=""),
        "fail",
        "2 of 4 validators connected, 3 are needed; node2 unreachable since 2026-11-20 22:14:03 "
        "UTC; node3 unreachable since 2026-11-20 22:14:03 UTC; nothing final since this node "
        "started (block 12 is of 22:14:58 UTC), no instruction waits",
    ),
    (
        "a node of before these fields",
        status(down=("node1", "node2"), since=None),
        "fail",
        "2 of 4 validators connected, 3 are needed; node1 unreachable (cannot connect); node2 "
        "unreachable (cannot connect); nothing final since 22:14:59 UTC, no instruction waits",
    ),
    (
        "connected, not progressing",
        status(waiting=2, finalized_at=STUCK, given_up=((17, "node1"), (18, "node2"))),
        "fail",
        "4 of 4 validators connected, 3 are needed, but nothing final since 22:14:49 UTC, 2 "
        "instructions wait; views given up since: 17 of node1, 18 of node2",
    ),
    (
        "connected, not progressing, no view given up",
        status(waiting=2, finalized_at=STUCK),
        "fail",
        "4 of 4 validators connected, 3 are needed, but nothing final since 22:14:49 UTC, 2 "
        "instructions wait; no view was given up since, the current one is 19 of node3",
    ),
    (
        "connected, nothing final since its start an hour ago",
        status(waiting=1, finalized_at=None, given_up=((1, "node1"),)),
        "fail",
        "4 of 4 validators connected, 3 are needed, but nothing final since this node started "
        "(block 12 is of 22:14:58 UTC), 1 instruction waits; views given up since: 1 of node1",
    ),
    (
        "idle, a view given up lately",
        status(finalized_at=STUCK, given_up=((17, "node1"),)),
        "ok",
        "4 of 4 validators connected, 3 are needed; block 12 is final since 22:14:49 UTC, no "
        "instruction waits",
    ),
    (
        "idle, views given up for long",
        status(finalized_at=NOW - IDLE_STALL_MS - 1, given_up=((17, "node1"),)),
        "fail",
        "4 of 4 validators connected, 3 are needed, but nothing final since 22:13:59 UTC, no "
        "instruction waits; views given up since: 17 of node1",
    ),
    (
        "idle with a long interval between empty blocks",
        status(finalized_at=NOW - 10 * MINUTE),
        "ok",
        "4 of 4 validators connected, 3 are needed; block 12 is final since 22:05:00 UTC, no "
        "instruction waits",
    ),
    (
        "stopped itself",
        status(alarm="its votes are lost"),
        "ok",
        "4 of 4 validators connected, 3 are needed; this node does not sign; block 12 is final "
        "since 22:14:59 UTC, no instruction waits",
    ),
    (
        "an observer follows what answers",
        status(validator=None, node="watch", validators=2, down=("node0",)),
        "ok",
        "this node observes through node1; block 12 is final since 22:14:59 UTC, no instruction "
        "waits",
    ),
    (
        "an observer whose sources are silent",
        status(validator=None, node="watch", validators=1, down=("node0",)),
        "fail",
        "this node observes, and none of its 1 sources answers; node0 unreachable since 22:14:03 "
        "UTC (cannot connect); nothing final since 22:14:59 UTC, no instruction waits",
    ),
    (
        "a validator that was removed and has no source",
        status(validator=None, node="watch", validators=0),
        "fail",
        "this node is no validator and follows nobody: name a source under [join] urls; nothing "
        "final since 22:14:59 UTC, no instruction waits",
    ),
    (
        "an observer whose source has nothing new while instructions wait",
        status(
            validator=None,
            node="watch",
            validators=1,
            waiting=1,
            finalized_at=NOW - WAITING_STALL_MS - 1,
        ),
        "fail",
        "this node observes through node0, but nothing final since 22:14:49 UTC, 1 instruction "
        "waits",
    ),
    (
        "just started with what waited from before",
        status(validators=1, waiting=1, finalized_at=None),
        "ok",
        "1 of 1 validators connected, 1 is needed; block 12 is final of 22:14:58 UTC, 1 "
        "instruction waits",
    ),
]


@pytest.mark.parametrize(
    ("seen", "result", "text"), [row[1:] for row in SITUATIONS], ids=[row[0] for row in SITUATIONS]
)
def test_a_situation_is_explained(seen: StatusView, result: str, text: str) -> None:
    assert explain(seen, NOW) == Progress(result, text)


def test_nodes_that_all_see_the_same_are_told_of_once() -> None:
    nodes = [status(node=f"node{index}") for index in range(4)]
    assert explain_all(nodes, NOW) == explain(nodes[0], NOW)


def test_without_a_quorum_the_first_that_answers_is_quoted() -> None:
    nodes = [status(node=node, down=("node2", "node3")) for node in ("node0", "node1")]
    progress = explain_all(nodes, NOW)
    assert progress.result == "fail"
    assert progress.text.startswith("seen from node0: 2 of 4 validators connected, 3 are needed")
    assert "node1" not in progress.text


def test_a_node_cut_off_from_the_others_is_named_beside_what_they_see() -> None:
    others = [status(node=node, down=("node3",)) for node in ("node0", "node1", "node2")]
    alone = status(node="node3", down=("node0", "node1", "node2"))
    progress = explain_all([*others, alone], NOW)
    assert progress.result == "warn"
    assert progress.text.startswith("3 of 4 validators connected, 3 are needed; node3 unreachable")
    assert "but seen from node3: 1 of 4 validators connected, 3 are needed" in progress.text


def test_no_answer_is_no_good_news() -> None:
    assert explain_all([], NOW) == Progress("fail", "no node answers")


def test_an_observer_is_not_asked_while_a_validator_answers() -> None:
    silent = status(validator=None, node="watch", validators=0)
    assert explain_all([status(), silent], NOW).result == "ok"
    assert explain_all([silent], NOW).result == "fail"
