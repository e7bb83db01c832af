"""Nodes that another node gets the chain from over HTTP, none of which is trusted.

Owned here: a source can cost its reader neither memory nor time without bound, and one that lied
is dropped and named. Every answer has a bound in bytes and must keep flowing; whoever stops
sending is left for the next. What an answer says is the caller's to check: it calls `drop` with
what was wrong, and the source is not asked again for `DROPPED_SECONDS`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

from node.api.sync_routes import HEIGHT_HEADER

log = logging.getLogger("nostro.sources")

CONNECT_SECONDS = 5.0
STALL_SECONDS = 10.0
"""Without a byte for so long, beyond what a long poll asked for, a source counts as stuck."""
ANSWER_SECONDS = 300.0
"""For one whole answer: a source that sends a byte now and then must not hold its reader."""
POST_SECONDS = 15.0
"""For one batch of instructions to be taken in."""
DROPPED_SECONDS = 600.0
"""How long a source that lied is not asked again."""
BACKOFF_FIRST_SECONDS = 0.2
BACKOFF_CAP_SECONDS = 5.0
READ_BYTES = 256 * 1024
MAX_REASON = 200
"""Characters kept of what a source says of itself: they end in logs and in `/v1/status`."""


class SourceUnavailable(Exception):
    """The source did not answer, or said that it cannot: no fault, the next one is asked."""


class SourceLacks(SourceUnavailable):
    """The source says that it does not have this (any more)."""


class SourceLied(Exception):
    """The source sent what no honest node sends; the text says what."""


@dataclass(slots=True)
class Source:
    """One node by the URL of its API."""

    url: str
    connected: bool = False
    """Whether its last answer was of use."""
    since: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    """When `connected` became what it is, ms since the epoch."""
    reason: str = ""
    """Why it was left the last time; empty if it was not."""
    failures: int = 0
    """In a row."""
    resting_until: float = 0.0
    """Monotonic seconds before which it is not asked."""
    dropped: int = 0
    """How often it lied."""
    received_bytes: int = 0
    claimed: int = 0
    """The last final height that it says it has. Shown, never relied on."""
    answers: int = 0


class Sources:
    """The sources of one node in their order. An asynchronous context manager."""

    def __init__(self, urls: Sequence[str], *, stall: float = STALL_SECONDS) -> None:
        assert urls, "nothing to get the chain from"
        self._stall = stall
        self.all = [Source(url.rstrip("/")) for url in urls]
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Begin to use them."""
        # No proxy and no cookie: nothing of this process's environment leaks to a source.
        self._session = aiohttp.ClientSession(
            trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Sources:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- which one ----------------------------------------------------------------------------

    def best(self) -> Source | None:
        """The first that does not rest; None if all do."""
        now = time.monotonic()
        return next((source for source in self.all if source.resting_until <= now), None)

    def in_turn(self, turn: int, than: Source | None = None) -> tuple[Source | None, int]:
        """The first from index `turn` on that does not rest and is another one `than` this, and
        the turn after it; None if there is none."""
        now, count = time.monotonic(), len(self.all)
        for index in range(turn, turn + count):
            source = self.all[index % count]
            if source is not than and source.resting_until <= now:
                return source, index + 1
        return None, turn

    def rest_seconds(self) -> float:
        """Until one may be asked again."""
        return max(0.0, min(s.resting_until for s in self.all) - time.monotonic())

    def worked(self, source: Source) -> None:
        """Its answer was sound."""
        source.failures = 0
        source.reason = ""
        self._mark(source, True)

    def failed(self, source: Source, reason: str) -> None:
        """It did not answer: ask it again after a while that grows."""
        pause = min(BACKOFF_FIRST_SECONDS * 2.0 ** min(source.failures, 10), BACKOFF_CAP_SECONDS)
        source.failures += 1
        self._leave(source, reason, pause)
        log.log(
            logging.WARNING if source.failures == 1 else logging.DEBUG,
            "source %s: %s", source.url, source.reason,
        )  # fmt: skip

    def drop(self, source: Source, reason: str) -> None:
        """It lied."""
        source.dropped += 1
        self._leave(source, reason, DROPPED_SECONDS)
        log.error("source %s is dropped: %s", source.url, source.reason)

    def _leave(self, source: Source, reason: str, seconds: float) -> None:
        # What a stranger wrote must not move the cursor of who reads a log.
        source.reason = "".join(c if c.isprintable() else "?" for c in reason[:MAX_REASON])
        source.resting_until = time.monotonic() + seconds
        self._mark(source, False)

    def _mark(self, source: Source, connected: bool) -> None:
        if source.connected != connected:
            source.connected = connected
            source.since = time.time_ns() // 1_000_000

    # --- asking -------------------------------------------------------------------------------

    async def get(
        self,
        source: Source,
        path: str,
        *,
        limit: int,
        query: Mapping[str, str] | None = None,
        wait: float = 0.0,
    ) -> bytes | None:
        """The body of an answer of at most `limit` bytes; None for "nothing yet" (204).

        `wait`: seconds that the source was asked to wait before it answers. Raises
        SourceUnavailable, SourceLacks, SourceLied."""
        assert self._session is not None, "not open"
        timeout = aiohttp.ClientTimeout(
            total=ANSWER_SECONDS + wait,
            sock_connect=CONNECT_SECONDS,
            sock_read=self._stall + wait,
        )
        try:
            async with self._session.get(
                source.url + path, params=query, timeout=timeout, allow_redirects=False
            ) as response:
                claimed = response.headers.get(HEIGHT_HEADER, "")
                if claimed.isascii() and claimed.isdigit() and len(claimed) <= 15:
                    source.claimed = int(claimed)
                if response.status == 204:
                    return None
                if response.status != 200:
                    text = (await response.content.read(4 * MAX_REASON)).decode("utf-8", "replace")
                    kind = SourceLacks if response.status in (404, 410) else SourceUnavailable
                    raise kind(f"{path} answered with {response.status}: {text}")
                return await self._body(source, response, path, limit)
        except TimeoutError:
            raise SourceUnavailable(f"{path}: it stopped sending") from None
        except (aiohttp.ClientError, OSError) as error:
            raise SourceUnavailable(f"{path}: {error or type(error).__name__}") from None

    async def post(self, source: Source, path: str, body: bytes, content_type: str) -> None:
        """Send something whose answer does not matter. Raises SourceUnavailable."""
        assert self._session is not None, "not open"
        timeout = aiohttp.ClientTimeout(total=POST_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            async with self._session.post(
                source.url + path,
                data=body,
                headers={"Content-Type": content_type},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if response.status >= 500:
                    raise SourceUnavailable(f"{path} answered with {response.status}")
        except TimeoutError:
            raise SourceUnavailable(f"{path}: no answer") from None
        except (aiohttp.ClientError, OSError) as error:
            raise SourceUnavailable(f"{path}: {error or type(error).__name__}") from None

    async def _body(
        self, source: Source, response: aiohttp.ClientResponse, path: str, limit: int
    ) -> bytes:
        """Counted while it comes: a header that says little does not let much in."""
        if (response.content_length or 0) > limit:
            raise SourceLied(f"{path}: {response.content_length} bytes, at most {limit} make sense")
        pieces = bytearray()
        async for piece in response.content.iter_chunked(READ_BYTES):
            pieces += piece
            source.received_bytes += len(piece)
            if len(pieces) > limit:
                raise SourceLied(f"{path}: it sent more than the {limit} bytes that make sense")
        source.answers += 1
        return bytes(pieces)

    async def rest(self) -> None:
        """Return once a source may be asked again."""
        await asyncio.sleep(self.rest_seconds())
