"""What an auditor's follower raises: to the log, to metrics, to a webhook.

An *event* happened and stays true: a fork, a block that does not verify, a lie. A *condition* holds
and may end: a rollback that is caught up with, a stall, a source that is behind or not reachable;
its end is told, too. Each is told once, however often it is seen.

The webhook never holds up following: what it has not taken waits in a queue of bounded length, is
tried again with growing pauses, and is given up, oldest first, when the queue is full.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

log = logging.getLogger("nostro.auditing")

MAX_QUEUED = 256
"""Alarms that wait for the webhook."""
MAX_KNOWN = 1024
"""Events that are remembered as told; an older one would be told again."""
MAX_TEXT = 1_000
"""Characters of an alarm: some are of what a source said."""
MAX_KEPT = 100
"""Alarms kept for the report at the end, the first ones."""
POST_SECONDS = 10.0
"""For the webhook to take one alarm."""
FLUSH_SECONDS = 10.0
"""For the webhook to take the rest when the follower ends."""
PAUSE_FIRST_SECONDS = 1.0
PAUSE_CAP_SECONDS = 60.0


class Kind(StrEnum):
    """Of an alarm."""

    FORK = "fork"
    """A quorum finalized two blocks that contradict each other."""
    INVALID = "invalid"
    """A quorum finalized a block that does not follow from the chain before it."""
    ROLLBACK = "rollback"
    """A source's head is below one that it showed before."""
    LIED = "lied"
    """A source sent what no honest node sends, and no quorum stands behind it."""
    STALL = "stall"
    """Nothing new is final anywhere."""
    BEHIND = "behind"
    """One source does not come on while others do."""
    UNREACHABLE = "unreachable"
    """A source, or all of them, do not answer."""


GRAVE = frozenset({Kind.FORK, Kind.INVALID, Kind.ROLLBACK})
"""What shows that the network, or a node's store, is not what it must be."""


@dataclass(frozen=True)
class Alarm:
    """Something that somebody must look at."""

    kind: str
    source: str
    """URL; empty: of all of them, or of none."""
    text: str
    height: int
    """Of the verified copy."""
    cleared: bool = False
    """The condition has ended."""
    file: str | None = None
    """What was written down of it."""
    at: int = 0
    """Milliseconds since the Unix epoch, by this machine's clock."""


class AuditMetrics:
    """The follower's instruments, in Prometheus' text format."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.height = Gauge("nostro_audit_height", "Last verified height", registry=registry)
        self.epoch = Gauge("nostro_audit_epoch", "Epoch of the last block", registry=registry)
        self.since = Gauge(
            "nostro_audit_since_growth_seconds",
            "Since the copy last grew, or since the start",
            registry=registry,
        )
        self.source_height = Gauge(
            "nostro_audit_source_height",
            "Height that a source says it has; -1: it has not said",
            ["source"],
            registry=registry,
        )
        self.source_up = Gauge(
            "nostro_audit_source_up", "1 if a source answers", ["source"], registry=registry
        )
        self.alarms = Counter("nostro_audit_alarms", "Alarms, by kind", ["kind"], registry=registry)
        self.active = Gauge(
            "nostro_audit_conditions", "Conditions that hold, by kind", ["kind"], registry=registry
        )
        self.undelivered = Counter(
            "nostro_audit_webhook_dropped",
            "Alarms that the webhook did not take before the queue was full or the end",
            registry=registry,
        )
        for kind in Kind:
            self.alarms.labels(kind)
            self.active.labels(kind).set(0)

    def text(self) -> bytes:
        """What a scrape gets."""
        return generate_latest(self.registry)


class Alarms:
    """All alarms of one follower."""

    def __init__(
        self,
        metrics: AuditMetrics,
        webhook: str | None = None,
        *,
        height: Callable[[], int] = lambda: 0,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        pause: float = PAUSE_FIRST_SECONDS,
    ) -> None:
        """`webhook`: where alarms are posted to as JSON. `pause`: seconds after a first failure."""
        self._metrics = metrics
        self._webhook = webhook
        self._height = height
        self._now_ms = now_ms
        self._pause = pause
        self._known: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._conditions: dict[tuple[Kind, str], str] = {}
        self._queue: deque[Alarm] = deque()
        self._wake = asyncio.Event()
        self.kept: list[Alarm] = []
        """The first ones, without those that say that something ended."""
        self.count = 0
        """Of alarms raised."""
        self.raised: set[Kind] = set()
        self.told = asyncio.Event()
        """Set with every alarm; whoever waits for one clears it."""

    def event(
        self, kind: Kind, source: str, text: str, *, key: str = "", file: str | None = None
    ) -> None:
        """Something happened. `key`: what makes it another one than the last of its kind and
        source."""
        known = (str(kind), source, key)
        if known in self._known:
            return
        self._known[known] = None
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        self._raise(kind, source, text, file)

    def condition(self, kind: Kind, source: str, text: str | None) -> None:
        """Something holds, or (None) does not."""
        at = (kind, source)
        if text is None:
            if self._conditions.pop(at, None) is not None:
                self._metrics.active.labels(kind).dec()
                log.warning("%s is over%s", kind, _of(source))
                self._put(self._alarm(kind, source, "it is over", cleared=True))
        elif at not in self._conditions:
            self._conditions[at] = text
            self._metrics.active.labels(kind).inc()
            self._raise(kind, source, text, None)

    def holds(self, kind: Kind, source: str = "") -> bool:
        """Whether a condition holds."""
        return (kind, source) in self._conditions

    def _raise(self, kind: Kind, source: str, text: str, file: str | None) -> None:
        # What a stranger wrote must not move the cursor of who reads a log.
        text = "".join(c if c.isprintable() else "?" for c in text[:MAX_TEXT])
        alarm = self._alarm(kind, source, text, file=file)
        log.error("ALARM %s%s: %s%s", kind, _of(source), text, f" ({file})" if file else "")
        self._metrics.alarms.labels(kind).inc()
        self.count += 1
        self.raised.add(kind)
        if len(self.kept) < MAX_KEPT:
            self.kept.append(alarm)
        self._put(alarm)
        self.told.set()

    def _alarm(
        self, kind: Kind, source: str, text: str, *, cleared: bool = False, file: str | None = None
    ) -> Alarm:
        return Alarm(str(kind), source, text, self._height(), cleared, file, self._now_ms())

    # --- the webhook ----------------------------------------------------------------------------

    def _put(self, alarm: Alarm) -> None:
        if self._webhook is None:
            return
        self._queue.append(alarm)
        if len(self._queue) > MAX_QUEUED:
            self._queue.popleft()
            self._metrics.undelivered.inc()
        self._wake.set()

    async def deliver(self) -> None:
        """Post what is raised, for ever."""
        if self._webhook is None:
            return
        async with _session() as session:
            while True:
                if not self._queue:
                    self._wake.clear()
                    await self._wake.wait()
                await self._post_first(session)

    async def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Post what waits, for so long at most; `deliver` has ended."""
        if self._webhook is None or not self._queue:
            return
        try:
            async with asyncio.timeout(seconds), _session() as session:
                while self._queue:
                    await self._post_first(session)
        except TimeoutError:
            log.error("the webhook did not take %d alarm(s)", len(self._queue))
            self._metrics.undelivered.inc(len(self._queue))

    async def _post_first(self, session: aiohttp.ClientSession) -> None:
        pause = self._pause
        while self._queue:
            alarm = self._queue[0]
            reason = await self._post(session, alarm)
            if reason is None:
                # While it was posted the queue may have let go of it.
                if self._queue and self._queue[0] is alarm:
                    self._queue.popleft()
                return
            log.warning("the webhook did not take an alarm: %s", reason)
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_CAP_SECONDS)

    async def _post(self, session: aiohttp.ClientSession, alarm: Alarm) -> str | None:
        """Why the webhook did not take it; None: it did."""
        assert self._webhook is not None
        try:
            async with session.post(
                self._webhook,
                data=msgspec.json.encode(asdict(alarm)),
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as response:
                return None if response.status < 300 else f"it answered with {response.status}"
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return str(error) or type(error).__name__


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=POST_SECONDS),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _of(source: str) -> str:
    return f" of {source}" if source else ""
