"""Of each view one line and a few numbers tell where its time went; idle views tell at DEBUG."""

from __future__ import annotations

import logging

import pytest

from consensus.interface import BlockInfo
from consensus.messages import (
    Certificate,
    Content,
    Digest,
    Epoch,
    Height,
    Kind,
    Milliseconds,
    OwnVote,
    ValidatorIndex,
    View,
    Vote,
)
from node.engine.metrics import Metrics
from node.engine.view_log import MAX_GIVEN_UP, MAX_OPEN_VIEWS, ViewLog
from node.ledger.entries import InstructionEntry, UetrEntry
from node.storage.chain_store import CommittedBlock
from tests.support.cluster import Cluster
from tests.support.ledger_world import World

NAMES = ["node0", "node1", "node2", "node3"]
CONTENT = Content(0, bytes(32))


def certificate(view: int, kind: Kind, voters: tuple[int, ...] = (0, 1, 2)) -> Certificate:
    content = None if kind is Kind.NULLIFY else CONTENT
    return Certificate(0, view, kind, content, tuple((index, bytes(64)) for index in voters))


def block(view: int, height: int, instructions: int = 0) -> CommittedBlock:
    info = BlockInfo(
        digest=Digest(bytes(32)),
        parent=Digest(bytes(32)),
        epoch=Epoch(0),
        view=View(view),
        height=Height(height),
        timestamp=Milliseconds(0),
        proposer=ValidatorIndex(view % 4),
    )
    ids = [InstructionEntry("LEI", str(i), 0, bytes(32), height, i) for i in range(instructions)]
    uetrs = [
        UetrEntry(bytes(16), bytes(32), 0, height, i, 0, "ACSC", None, height, None)
        for i in range(instructions)
    ]
    return CommittedBlock(info=info, raw=b"", outcomes=(), records={}, ids=ids, uetrs=uetrs)


class Told:
    """A view log with a clock that the test sets, and what it told."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "nostro.view")
        self._caplog = caplog
        self.now = 100.0
        self.metrics = Metrics()
        self.log = ViewLog(NAMES, self.metrics, lambda: self.now)

    def after(self, milliseconds: int) -> ViewLog:
        self.now += milliseconds / 1000
        return self.log

    @property
    def lines(self) -> list[tuple[str, dict[str, str]]]:
        """Level and fields of each line."""
        told = []
        for record in self._caplog.records:
            text = record.getMessage()
            assert "\n" not in text
            told.append((record.levelname, dict(pair.split("=") for pair in text.split(" "))))
        return told

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def test_a_block_is_told_of_when_stored_with_all_phases_of_its_view(told: Told) -> None:
    vote = Vote(0, 5, Kind.NOTARIZE, CONTENT, ValidatorIndex(0), bytes(64))
    told.log.entered(5, 1, None, pending=False)
    told.after(200).pending()
    told.after(10).proposal(1, 5)
    told.after(3).executed(5, 0.003)
    told.after(4).synced([OwnVote(vote)], 0.004)
    told.after(8).certified(certificate(5, Kind.NOTARIZE))
    told.log.entered(6, 2, Kind.NOTARIZE, pending=False)
    told.after(20).certified(certificate(5, Kind.FINALIZE))
    assert told.lines == [], "not before it is in the database"
    told.after(7).stored([block(5, 4, instructions=2)], certificate(5, Kind.FINALIZE))
    assert told.lines == [
        (
            "INFO",
            {
                "epoch": "0",
                "view": "5",
                "leader": "node1",
                "cause": "notarized",
                "height": "4",
                "instructions": "2",
                "payments": "2",
                "total_ms": "225.0",
                "waited_ms": "200.0",
                "proposal_ms": "10.0",
                "execution_ms": "3.0",
                "sync_ms": "4.0",
                "notarization_ms": "15.0",
                "finalization_ms": "20.0",
                "commit_ms": "7.0",
            },
        )
    ]
    assert told.sample("nostro_notarization_seconds_sum") == pytest.approx(0.225)
    assert told.sample("nostro_finalization_seconds_sum") == pytest.approx(0.245)


def test_a_nullified_view_is_told_of_at_once_and_counted_for_its_leader(told: Told) -> None:
    told.log.entered(5, 1, None, pending=True)
    told.after(300).certified(certificate(5, Kind.NULLIFY))
    told.log.entered(6, 2, Kind.NULLIFY, pending=True)
    told.log.tell_left()
    told.log.tell_left()
    [(level, line)] = told.lines
    assert level == "INFO"
    assert (line["view"], line["leader"], line["cause"]) == ("5", "node1", "nullified")
    assert (line["total_ms"], line["waited_ms"], line["proposal_ms"]) == ("300.0", "0.0", "-")
    assert line["height"] == line["notarization_ms"] == line["commit_ms"] == "-"
    assert told.log.given_up == [(5, "node1")]
    counts = [told.sample("nostro_nullified_views_total", leader=name) for name in NAMES]
    assert counts == [0, 1, 0, 0]


@pytest.mark.parametrize(("waited", "took", "level"), [(10_000, 900, "DEBUG"), (0, 1_100, "INFO")])
def test_an_empty_block_is_worth_a_line_only_if_it_took_long_beside_waiting(
    told: Told, waited: int, took: int, level: str
) -> None:
    told.log.entered(5, 1, None, pending=False)
    told.after(waited).proposal(1, 5)
    told.after(took).certified(certificate(5, Kind.NOTARIZE))
    told.log.entered(6, 2, Kind.NOTARIZE, pending=False)
    told.log.certified(certificate(5, Kind.FINALIZE))
    told.log.stored([block(5, 4)], certificate(5, Kind.FINALIZE))
    assert [line[0] for line in told.lines] == [level]


def test_a_block_that_is_final_through_a_later_one_is_told_of_with_it(told: Told) -> None:
    told.log.entered(5, 1, None, pending=False)
    told.log.executed(5, 0.0)
    told.log.certified(certificate(5, Kind.NOTARIZE))
    told.log.entered(6, 2, Kind.NOTARIZE, pending=False)
    told.log.executed(6, 0.0)
    told.log.certified(certificate(6, Kind.NOTARIZE))
    told.log.entered(7, 3, Kind.NOTARIZE, pending=False)
    told.after(9).certified(certificate(6, Kind.FINALIZE))
    told.log.stored([block(5, 4, 1), block(6, 5, 1)], certificate(6, Kind.FINALIZE))
    assert [(f["view"], f["height"], f["finalization_ms"]) for _, f in told.lines] == [
        ("5", "4", "9.0"),
        ("6", "5", "9.0"),
    ]


def test_only_what_the_leader_of_the_current_view_sends_counts_as_its_proposal(told: Told) -> None:
    told.log.entered(5, 1, None, pending=True)
    told.after(10).proposal(2, 5)
    told.after(10).proposal(1, 9)
    told.after(10).executed(5, 0.005)
    told.log.certified(certificate(5, Kind.NOTARIZE))
    told.log.entered(6, 2, Kind.NOTARIZE, pending=True)
    told.log.stored([block(5, 4, 1)], certificate(5, Kind.FINALIZE))
    [(_, line)] = told.lines
    assert line["proposal_ms"] == "25.0", "fetched from others: until its execution began"


def test_a_view_left_for_a_later_ones_certificate_is_not_blamed_on_its_leader(told: Told) -> None:
    told.log.entered(5, 1, None, pending=True)
    told.after(2_000).entered(9, 1, Kind.NULLIFY, pending=True)
    told.log.stored([block(8, 4)], certificate(8, Kind.FINALIZE))
    [(_, line)] = told.lines
    assert (line["view"], line["cause"], line["height"]) == ("5", "overtaken", "-")
    assert told.sample("nostro_nullified_views_total", leader="node1") == 0
    assert told.log.given_up == []


def test_views_that_were_caught_up_with_are_not_told_of(told: Told) -> None:
    told.log.entered(1, 1, None, pending=False)
    for view in range(2, 6):
        told.log.executed(view, 0.001)
    told.log.entered(7, 3, Kind.FINALIZE, pending=False)
    told.log.stored([block(v, v, 1) for v in range(1, 7)], certificate(6, Kind.FINALIZE))
    assert [line["view"] for _, line in told.lines] == ["1"]


def test_a_chain_that_finalizes_nothing_does_not_fill_the_memory(told: Told) -> None:
    for view in range(1, 10 * MAX_OPEN_VIEWS):
        cause = Kind.NOTARIZE if view % 2 else Kind.NULLIFY
        told.log.entered(view, view % 4, cause, pending=True)
        told.log.tell_left()
    assert len(told.log._open) <= MAX_OPEN_VIEWS
    assert len(told.log.given_up) == MAX_GIVEN_UP
    views = [int(line["view"]) for _, line in told.lines]
    assert len(set(views)) == len(views) >= 8 * MAX_OPEN_VIEWS, "told of once each"


def test_who_is_missing_from_the_last_finalization_is_shown_by_name(told: Told) -> None:
    told.log.stored([block(1, 1)], certificate(1, Kind.FINALIZE, (0, 1, 3)))
    assert [told.sample("nostro_vote_missing", validator=name) for name in NAMES] == [0, 0, 1, 0]
    told.log.stored([block(2, 2)], certificate(2, Kind.FINALIZE, (0, 1, 2, 3)))
    assert [told.sample("nostro_vote_missing", validator=name) for name in NAMES] == [0, 0, 0, 0]


# --- with real validators -------------------------------------------------------------------------


async def test_a_settled_payment_has_its_line_and_the_status_its_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "nostro.view")
    async with Cluster(World.make()) as cluster:
        member = cluster.members[0]
        await cluster.fund("BANKA")
        lines = [record.getMessage() for record in caplog.records]
        [line, *_] = [line for line in lines if "instructions=1 payments=1" in line]
        assert line.startswith("epoch=0 view=")
        assert "=-" not in line, "a block that was stored has had every phase"
        status = member.service.status()
        assert status.finalized_at is not None
        assert all(peer.since is not None for peer in status.peers)
        text = member.service.metrics()
        assert (
            member.metrics.registry.get_sample_value("nostro_since_finalization_seconds")
            is not None
        )
        for name in ("nostro_notarization_seconds_count", "nostro_finalization_seconds_count"):
            assert (member.metrics.registry.get_sample_value(name) or 0) > 0
        assert 'nostro_vote_missing{validator="node0"}' in text


async def test_views_of_a_member_that_is_away_are_given_up_by_its_name() -> None:
    async with Cluster(World.make()) as cluster:
        await cluster.fund("BANKA")
        await cluster.stop(cluster.members[3])
        member = cluster.members[0]

        def given_up() -> float:
            sample = member.metrics.registry.get_sample_value
            return sample("nostro_nullified_views_total", {"leader": "node3"}) or 0

        await cluster.observe(lambda: given_up() > 0, "a view of node3 given up")
        others = [
            member.metrics.registry.get_sample_value("nostro_nullified_views_total", {"leader": n})
            for n in NAMES[:3]
        ]
        assert given_up() >= max(count or 0 for count in others)
        await cluster.until(
            lambda: (
                member.metrics.registry.get_sample_value(
                    "nostro_vote_missing", {"validator": "node3"}
                )
                == 1
            ),
            "finalized without node3",
        )
