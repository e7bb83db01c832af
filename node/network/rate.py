"""Token bucket: an average rate with a burst, in units of the caller's choice."""

from __future__ import annotations


class TokenBucket:
    """Starts full. Whoever takes more than there is goes into debt and is told how long to wait.

    A debt instead of a refusal, because what is charged for has already been received.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_when")

    def __init__(self, rate: float, burst: float) -> None:
        """`rate` tokens a second are added, up to `burst`."""
        assert rate > 0
        assert burst > 0
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._when: float | None = None

    def take(self, tokens: float, now: float) -> float:
        """Take `tokens` at the monotonic time `now` (seconds); seconds to wait, 0 if none."""
        if self._when is not None:
            earned = max(0.0, now - self._when) * self._rate
            self._tokens = min(self._burst, self._tokens + earned)
        self._when = now
        self._tokens -= tokens
        return max(0.0, -self._tokens / self._rate)
