"""Log lines about what peers do wrong: bounded, since it is the peer who decides how often.

A validator that floods us with nonsense must not fill the disk with our complaints about it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

MAX_LINES = 20
"""Lines about one peer in a window."""
WINDOW_SECONDS = 10.0


class PeerLog:
    """Passes lines on to a logger, at most `MAX_LINES` a peer and window, and counts the rest."""

    def __init__(self, log: logging.Logger, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now = now
        self._windows: dict[int, tuple[float, int]] = {}
        """By validator: when its window began, and the lines asked for since."""

    def write(self, level: int, peer: int, message: str, *args: object) -> None:
        """Log a line about this validator, whose index stands before it."""
        now = self._now()
        begun, lines = self._windows.get(peer, (now, 0))
        if now - begun >= WINDOW_SECONDS:
            if lines > MAX_LINES:
                self._log.warning("validator %d: %d more such lines", peer, lines - MAX_LINES)
            begun, lines = now, 0
        self._windows[peer] = begun, lines + 1
        if lines < MAX_LINES:
            self._log.log(level, f"validator %d {message}", peer, *args)
