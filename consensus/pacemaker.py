"""When this node stops waiting: the timers of a view, in monotonic milliseconds.

Owned here: when timers start, how they grow, and that only a finalization makes them short
again. What is done when one expires is for the rules in `consensus.core` to say.

A view's timers start when its leader may be expected to propose: at once if an instruction is
pending here, else when the tip has had 2Δ to become final and did not, else after
`idle_interval`. So an idle chain is left in peace, while an idle tip still becomes final.
"""

from __future__ import annotations

from consensus.interface import Timing
from consensus.messages import ValidatorIndex, quorum


def _grown(base: int, percent: int, cap: int) -> list[int]:
    """base, base × growth, … up to the cap; in integers, so that all nodes agree on a step."""
    values = [min(base, cap)]
    while values[-1] < cap:
        longer = min(values[-1] * percent // 100, cap)
        if longer <= values[-1]:
            break
        values.append(longer)
    return values


def check_timing(timing: Timing) -> None:
    """Raise ValueError, naming the field, for timing under which the rules do not hold."""
    for name in ("delta", "idle_interval", "retry", "fetch_timeout", "standstill"):
        if getattr(timing, name) < 1:
            raise ValueError(f"timing: {name} must be at least 1 ms")
    if timing.growth_percent < 100:
        raise ValueError("timing: growth_percent below 100 would make timers shrink")
    if timing.timer_cap < 3 * timing.delta:
        raise ValueError("timing: timer_cap must be at least 3 × delta")
    if timing.skip_timeout <= max(3 * timing.delta, timing.retry):
        raise ValueError("timing: skip_timeout must exceed 3 × delta and retry")
    if timing.drift < timing.timer_cap:
        raise ValueError("timing: drift must be at least timer_cap + 2 × clock skew")
    if timing.max_unfinalized < 1:
        raise ValueError("timing: max_unfinalized must be at least 1 block")


class Pacemaker:
    """The timers of the current view, and who has been heard from."""

    def __init__(
        self, timing: Timing, index: ValidatorIndex | None, validators: int, now: int
    ) -> None:
        self._timing = timing
        self._index = index
        self._quorum = quorum(validators)
        self._leader_timers = _grown(2 * timing.delta, timing.growth_percent, timing.timer_cap)
        self._advance_timers = _grown(3 * timing.delta, timing.growth_percent, timing.timer_cap)
        self._heard = [now] * validators
        """When each validator's last authenticated message came."""
        self._checked = now
        """The last time that expiry was looked at: a silence that is older was judged then."""
        self._leader = ValidatorIndex(0)
        self._entered = now
        self._started: int | None = None
        self._proposed = False
        self.steps = 0
        """Views since the last finalization before this one: how often timers have grown."""
        self.tip_final = True
        """Whether the highest certified block is final: what the idle wait depends on."""
        self.retry_at: int | None = None
        self.hold_until: int | None = None
        """When a proposal from the future may be voted for."""
        self.standstill_at = now + timing.standstill

    # --- the view ---------------------------------------------------------------------------

    def enter(self, leader: ValidatorIndex, now: int) -> None:
        """A new view: its timers are not started, those of the last view are gone."""
        self._leader = leader
        self._entered = now
        self._started = None
        self._proposed = False
        self.retry_at = None
        self.hold_until = None

    @property
    def started(self) -> bool:
        """Whether the leader may be expected to propose: a leader proposes from then on."""
        return self._started is not None

    def start_if_due(self, pending: bool, now: int) -> None:
        """Start the timers at the end of the idle wait or at the first pending instruction."""
        if self._started is None and (pending or now >= self._wait_ends()):
            self._started = now

    def _wait_ends(self) -> int:
        tip_wait = 2 * self._timing.delta
        wait = max(self._timing.idle_interval, tip_wait) if self.tip_final else tip_wait
        return self._entered + wait

    def proposed(self) -> None:
        """The leader's first signed proposal cancels the leader timer."""
        self._proposed = True

    # --- expiry -----------------------------------------------------------------------------

    def heard(self, sender: ValidatorIndex, now: int) -> None:
        """An authenticated message came."""
        self._heard[sender] = now

    def expired(self, now: int) -> bool:
        """Whether a timer of this view has run out, or its leader has been silent too long."""
        self._checked = now
        if self._started is None:
            return False
        if now >= self._next_timer():
            return True
        return now >= self._silent_at() and self._quorum_active(now)

    def _next_timer(self) -> int:
        assert self._started is not None
        timers = self._advance_timers if self._proposed else self._leader_timers
        return self._started + timers[min(self.steps, len(timers) - 1)]

    def _skip_timeout(self) -> int:
        """Grows in proportion to the advance timer, so that it stays longer, at the cap too."""
        advance = self._advance_timers[min(self.steps, len(self._advance_timers) - 1)]
        return self._timing.skip_timeout * advance // self._advance_timers[0]

    def _silent_at(self) -> int:
        """When the leader will have been silent for `skip_timeout`."""
        assert self._started is not None
        if self._leader == self._index or self._proposed:
            return self._next_timer()
        return self._heard[self._leader] + self._skip_timeout()

    def _quorum_active(self, now: int) -> bool:
        """Without it the silence may be ours: a partitioned node must not blame the leader."""
        oldest = now - self._skip_timeout()
        active = sum(1 for i, heard in enumerate(self._heard) if i == self._index or heard > oldest)
        return active >= self._quorum

    # --- the rest ---------------------------------------------------------------------------

    def arm_retry(self, now: int) -> None:
        """The next retry is one interval from now."""
        self.retry_at = now + self._timing.retry

    def arm_standstill(self, now: int) -> None:
        """The next standstill is one interval from now: after a page, and at a finalization."""
        self.standstill_at = now + self._timing.standstill

    def next_deadline(self, *, may_nullify: bool) -> int:
        """The earliest time at which something here is due."""
        due = [self.standstill_at]
        if self.retry_at is not None:
            due.append(self.retry_at)
        if self.hold_until is not None:
            due.append(self.hold_until)
        if self._started is None:
            due.append(self._wait_ends())
        elif may_nullify:
            due.append(self._next_timer())
            if self._silent_at() > self._checked:
                due.append(self._silent_at())
        return min(due)
