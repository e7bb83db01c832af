"""A peer decides how often it misbehaves, not how much we write about it."""

from __future__ import annotations

import logging

import pytest

from node.engine.peer_log import MAX_LINES, WINDOW_SECONDS, PeerLog


def test_lines_about_one_peer_are_bounded_and_the_rest_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    log = PeerLog(logging.getLogger("test.peers"), lambda: now)
    with caplog.at_level(logging.INFO):
        for number in range(MAX_LINES + 7):
            log.write(logging.INFO, 3, "sent nonsense %d", number)
        log.write(logging.INFO, 2, "sent %s", "something else")
        assert caplog.messages[MAX_LINES - 1 :] == [
            f"validator 3 sent nonsense {MAX_LINES - 1}",
            "validator 2 sent something else",
        ]
        now = WINDOW_SECONDS
        log.write(logging.INFO, 3, "sent nonsense again")
    assert caplog.messages[-2:] == [
        "validator 3: 7 more such lines",
        "validator 3 sent nonsense again",
    ]
