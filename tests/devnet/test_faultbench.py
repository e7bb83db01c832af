"""The bench of faults reads where time went from the very lines that nodes write."""

from __future__ import annotations

import logging

import pytest

from consensus.messages import Kind
from devnet.faultbench import read_views
from node.engine.metrics import Metrics
from node.engine.view_log import ViewLog

STORED = (
    "2026-11-22T01:28:15.541Z INFO    nostro.view: epoch=0 view=620 leader=node0 cause=notarized "
    "height=542 instructions=1 payments=3 total_ms=491.7 waited_ms=381.4 proposal_ms=0.1 "
    "execution_ms=0.2 sync_ms=4.9 notarization_ms=110.5 finalization_ms=57.5 commit_ms=5.9\n"
)


def test_a_view_with_a_block_tells_from_proposal_to_finalization() -> None:
    other = "2026-11-22T01:28:15.541Z INFO    node.network.peers: link to validator 1 is up\n"
    [view] = read_views([other, STORED, other])
    assert view.finalization == 168.0
    assert view.spent == pytest.approx(110.3)
    assert (view.leader, view.cause, view.payments) == ("node0", "notarized", 3)


def test_a_view_that_was_given_up_tells_how_long_it_took(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "nostro.view")
    now = 100.0
    log = ViewLog(["node0", "node1", "node2", "node3"], Metrics(), lambda: now)
    log.entered(7, 3, None, pending=False)
    now += 0.5
    log.pending()
    now += 0.04
    log.entered(8, 0, Kind.NULLIFY, pending=True)
    log.tell_left()
    [view] = read_views(caplog.text.splitlines())
    assert view.spent == pytest.approx(40.0)
    assert (view.leader, view.cause, view.payments) == ("node3", "nullified", 0)
    assert view.finalization is None
