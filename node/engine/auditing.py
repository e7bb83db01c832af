"""An auditor's follower: its own verified copy, and every source held against it.

One task fetches: from the source that has more than the copy, fails least and was quickest the last
time, one answer at a time.
One task a source asks for its head, a small answer, and compares: a head that the copy has must be
the copy's. If it is not, the source is asked where the two part (by bisection over heights), and
for its block there with the finalization: if a quorum of that height's validators stands behind it,
the network has forked, and both branches are written down as a proof; if not, the source lied.

No source is trusted. Of blocks one answer is in memory at a time, and one of another branch while
that is judged; each source has two requests under way at most, and `finds` takes few files.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from consensus.messages import Certificate, SyncResponse, encode
from node.audit.build_chain import EvidenceUnavailable
from node.audit.fork import NoFork
from node.engine.alarms import GRAVE, Alarms, AuditMetrics, Kind
from node.engine.asking import Asking
from node.engine.remote_branch import prove_fork
from node.engine.sources import Source, SourceLied, Sources, SourceUnavailable
from node.engine.verified_copy import Unsound, VerifiedCopy

log = logging.getLogger("nostro.auditing")

MAX_SOURCES = 32
LOOK_SECONDS = 5.0
"""Between two looks at a source's head."""
WAIT_SECONDS = 5.0
"""One long poll for more: so long a source that is stuck holds up that others are asked."""
FETCH_SECONDS = 120.0
"""For one answer of blocks: a source that drips is left for another."""
PROOF_SECONDS = 10.0
"""For the certificates of one branch that a proof of a fork is to name culprits by."""
STALL_SECONDS = 120.0
"""Default: an idle network makes a block every ten seconds."""


T = TypeVar("T")


@dataclass
class Watched:
    """One source, and what it says."""

    source: Source
    head: int | None = None
    """Height that it says it has."""
    moved: float = 0.0
    """When `head` last rose, or the watch began; monotonic seconds."""
    answered: float = 0.0
    """When it last answered, or the watch began."""
    shown: int = 0
    """The highest height at which its head was the copy's."""
    apart: bool = False
    """Its chain is another one: it is watched, and nothing is taken from it."""
    ahead: tuple[int, str] | None = None
    """A head above the copy's, to be compared once the copy is there."""
    took: float = 0.0
    """Seconds that its last answer with blocks took."""
    lying_until: float = 0.0
    """Monotonic seconds before which it is not asked, because it lied."""

    @property
    def lying(self) -> bool:
        return time.monotonic() < self.lying_until


@dataclass(frozen=True)
class Report:
    """What a follower saw."""

    height: int
    digest: str
    epoch: int
    alarms: int
    exit_code: int


class Auditor:
    """Follows until it is cancelled, or an alarm ends it."""

    def __init__(
        self,
        copy: VerifiedCopy,
        urls: Sequence[str],
        alarms: Alarms,
        metrics: AuditMetrics,
        *,
        stall: float = STALL_SECONDS,
        keep_going: bool = False,
        look: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sources: Sources | None = None,
    ) -> None:
        """`stall`: seconds without anything new. `keep_going`: no alarm ends it. `look`: seconds
        between two looks at a source."""
        assert 0 < len(urls) <= MAX_SOURCES
        self._copy = copy
        self._alarms = alarms
        self._metrics = metrics
        self._stall = stall
        self._keep_going = keep_going
        self._look = look
        self._clock = clock
        self._sources = Sources(urls) if sources is None else sources
        self._asking = Asking(self._sources, copy)
        self._branching = asyncio.Lock()
        now = clock()
        for each in self._sources.all:
            metrics.source_height.labels(each.url).set(-1)
            metrics.source_up.labels(each.url).set(0)
        self.watched = [
            Watched(each, moved=now, answered=now, shown=copy.shown(each.url))
            for each in self._sources.all
        ]
        self._grew = now
        self._grown = asyncio.Event()
        self._halted = False
        """The copy can go no further: what follows does not verify."""
        self._ended = asyncio.Event()
        # The copy belongs to one thread at a time.
        self._thread = ThreadPoolExecutor(1, "copy")

    # --- running --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow. Returns once an alarm ends it. Raises StorageError where the copy cannot be
        written, UnknownRules where this software is too old for the chain."""
        self._show()
        tasks: list[asyncio.Task[None]] = []
        try:
            async with self._sources:
                tasks = [
                    asyncio.create_task(self._fetch(), name="fetch"),
                    asyncio.create_task(self._watch_time(), name="time"),
                    asyncio.create_task(self._alarms.deliver(), name="webhook"),
                    asyncio.create_task(self._until_ended(), name="ended"),
                    *(
                        asyncio.create_task(self._watch(each), name=each.source.url)
                        for each in self.watched
                    ),
                ]
                running = {*tasks}
                while not self._ended.is_set():
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for each in done:
                        each.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # An answer that is being executed is stored or not: never half.
            await asyncio.to_thread(self._thread.shutdown)
            await self._alarms.flush()

    async def _until_ended(self) -> None:
        await self._ended.wait()

    def report(self) -> Report:
        """What is to be said at the end."""
        copy = self._copy
        digest = copy.head(copy.height).digest.hex()
        return Report(copy.height, digest, copy.epoch, self._alarms.count, self.exit_code)

    @property
    def exit_code(self) -> int:
        """1 after a fork, a rollback or an invalid block; 2 if it ended because nothing new came or
        nobody answered; else 0."""
        if self._alarms.raised & GRAVE:
            return 1
        return 2 if self._ended.is_set() else 0

    async def grown_to(self, height: int) -> None:
        """Return once the copy has this height."""
        while self._copy.height < height:
            self._grown.clear()
            await self._grown.wait()

    def _alarm(self, kind: Kind, source: str, text: str, **more: str | None) -> None:
        key, file = more.get("key") or "", more.get("file")
        self._alarms.event(kind, source, text, key=key, file=file)
        self._end(kind)

    def _end(self, kind: Kind) -> None:
        if not self._keep_going and kind is not Kind.LIED:
            self._ended.set()

    def _condition(self, kind: Kind, source: str, text: str | None) -> None:
        self._alarms.condition(kind, source, text)
        everybody = not source
        if text is not None and (kind in GRAVE or everybody):
            self._end(kind)

    # --- fetching -------------------------------------------------------------------------------

    async def _fetch(self) -> None:
        while not self._halted:
            watched = self._choose()
            if watched is None:
                await asyncio.sleep(min(self._look, max(0.05, self._sources.rest_seconds())))
                continue
            await self._fetch_from(watched)

    def _choose(self) -> Watched | None:
        """The one to ask for more: it has more than the copy, failed least, and does not drip.
        Sound answers that come just in time would keep the copy behind for ever."""
        now = time.monotonic()
        able = [w for w in self.watched if not w.apart and w.source.resting_until <= now]
        more = [w for w in able if w.head is None or w.head > self._copy.height]
        return min(
            more or able,
            key=lambda w: (w.source.failures, w.source.dropped, w.took),
            default=None,
        )

    async def _fetch_from(self, watched: Watched) -> None:
        source, first = watched.source, self._copy.height + 1
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                answer = await self._more(watched, first)
            if answer is not None:
                await self._take(watched, answer)
        except (SourceUnavailable, TimeoutError) as error:
            self._sources.failed(source, str(error) or "its answer took too long")
        except SourceLied as error:
            await self._refuse(watched, first - 1, str(error))
        else:
            self._sources.worked(source)

    async def _more(self, watched: Watched, first: int) -> SyncResponse | None:
        """Blocks from this height on; None if there are none yet."""
        more = watched.head is None or watched.head >= first
        began = self._clock()
        answer = await self._asking.blocks(watched.source, first, 0.0 if more else WAIT_SECONDS)
        if answer is not None:
            if more:  # else it waited for the block to be made
                watched.took = self._clock() - began
            return answer
        if watched.head is not None and more:
            raise SourceUnavailable(
                f"it says that it has height {watched.head}, and gives nothing above {first - 1}"
            )
        if self._clock() - began < WAIT_SECONDS / 2:
            await asyncio.sleep(min(1.0, self._look))
        return None

    async def _take(self, watched: Watched, answer: SyncResponse) -> None:
        """Have the copy take it. Raises SourceLied."""
        try:
            await self._in_thread(self._copy.take, answer)
        except Unsound as error:
            self._halted = True
            file = await self._keep(f"invalid-{error.height}.sync", answer)
            url, key = watched.source.url, str(error.height)
            self._alarm(Kind.INVALID, url, str(error), key=key, file=file)
            return
        self._grew = self._clock()
        self._grown.set()
        self._show()

    async def _refuse(self, watched: Watched, height: int, reason: str) -> None:
        """Its answer is none of the copy's chain: it forked, or it lied."""
        try:
            if not await self._parts(watched, height):
                self._lied(watched, reason)
        except SourceUnavailable as error:
            self._sources.failed(watched.source, f"{reason}; and {error}")
        except SourceLied as error:
            self._lied(watched, f"{reason}; and {error}")

    # --- watching -------------------------------------------------------------------------------

    async def _watch(self, watched: Watched) -> None:
        while True:
            if not watched.lying:
                await self._ask_head(watched)
            await asyncio.sleep(self._look)

    async def _ask_head(self, watched: Watched) -> None:
        source = watched.source
        try:
            head = await self._asking.last(source)
            self._heard(watched, head.height)
            await self._compare(watched, head.height, head.digest)
            if watched.ahead is not None and watched.ahead[0] <= self._copy.height:
                (height, digest), watched.ahead = watched.ahead, None
                await self._compare(watched, height, digest)
        except SourceUnavailable as error:
            self._sources.failed(source, str(error))
            self._metrics.source_up.labels(source.url).set(0)
        except SourceLied as error:
            self._lied(watched, str(error))

    def _heard(self, watched: Watched, height: int) -> None:
        now, url = self._clock(), watched.source.url
        watched.answered = now
        if watched.head is None or height > watched.head:
            watched.moved = now
        watched.head = height
        self._metrics.source_up.labels(url).set(1)
        self._metrics.source_height.labels(url).set(height)
        text = None
        if height < watched.shown:
            text = (
                f"its head is height {height}, and it showed height {watched.shown} of this chain "
                "before: its store was put back or rewritten"
            )
        self._condition(Kind.ROLLBACK, url, text)

    async def _compare(self, watched: Watched, height: int, digest: str) -> None:
        """Hold a head against the copy, now or once the copy is there."""
        if height > self._copy.height:
            # The lower of two: one that is made up, far above, must not keep others from being held
            # against the copy.
            if watched.ahead is None or height < watched.ahead[0]:
                watched.ahead = (height, digest)
            return
        if digest == self._own(height):
            if height > watched.shown:
                watched.shown = height
                await self._in_thread(self._copy.remember_shown, watched.source.url, height)
        elif not watched.apart and not await self._parts(watched, height):
            raise SourceLied(f"it tells of another block {height} now and then")

    # --- where two chains part ------------------------------------------------------------------

    async def _parts(self, watched: Watched, height: int) -> bool:
        """Whether the source's chain parts from the copy at this height or below. If so, it is
        raised that the network forked. Raises SourceUnavailable; SourceLied where no quorum stands
        behind the other chain."""
        source, below = watched.source, min(height, self._copy.height)
        if await self._asking.digest(source, below) == self._own(below):
            return False
        parted = await self._asking.parting(source, below)
        try:
            # One at a time: an answer may have tens of megabytes, and all sources may lie at once.
            async with self._branching, asyncio.timeout(FETCH_SECONDS):
                answer = await self._asking.branch(source, parted)
            await self._in_thread(self._copy.check_branch, parted, answer)
        except TimeoutError:
            raise SourceUnavailable("its other branch took too long") from None
        except SourceLied as error:
            if parted <= watched.shown:
                text = (
                    f"its history no longer holds block {parted}, which it showed before, and no "
                    f"quorum stands behind the block that it tells of instead: {error}"
                )
                self._alarm(Kind.ROLLBACK, source.url, text, key=str(parted))
            raise
        watched.apart = True
        file = await self._write_fork(watched, parted, answer)
        text = (
            f"a quorum finalized two chains that part at height {parted}: this copy holds block "
            f"{self._own(parted)}, the source one that ends in {_content(answer).hex()}. More than "
            "f validators are faulty; keep all nodes' stores, and name them with nostro audit fork"
        )
        self._alarm(Kind.FORK, source.url, text, key=str(parted), file=file)
        return True

    def _own(self, height: int) -> str:
        return self._copy.head(height).digest.hex()

    async def _write_fork(self, watched: Watched, parted: int, answer: SyncResponse) -> str | None:
        """The proof; what the source gave, where no proof can be made of it."""
        copy = self._copy
        last = parted + len(answer.blocks) - 1
        theirs = await self._finalizations([watched], parted, last)
        others = [each for each in self.watched if each is not watched and not each.apart]
        ours = await self._finalizations(others, parted, copy.height)
        mark = hashlib.sha256(_content(answer)).hexdigest()[:16]

        def prove() -> bytes:
            validators = copy.validators_after(parted - 1)
            return prove_fork(copy.store, answer, copy.genesis, validators, (ours, theirs))

        try:
            proof = await self._in_thread(prove)
        except (EvidenceUnavailable, NoFork) as error:
            log.error("no proof of the fork at height %d can be made: %s", parted, error)
            return await self._keep(f"fork-{parted}-{mark}.sync", answer)
        found = await self._in_thread(copy.keep_find, f"fork-{parted}-{mark}.fork", proof)
        return None if found is None else str(found)

    async def _finalizations(
        self, tellers: Sequence[Watched], first: int, last: int
    ) -> dict[int, Certificate]:
        """Those that the first of these sources that has any tells of."""
        found: dict[int, Certificate] = {}
        for each in tellers:
            if not found:
                with contextlib.suppress(SourceUnavailable, SourceLied, TimeoutError):
                    async with asyncio.timeout(PROOF_SECONDS):
                        await self._asking.finalizations(each.source, first, last, found)
        return found

    async def _keep(self, name: str, answer: SyncResponse) -> str | None:
        found = await self._in_thread(self._copy.keep_find, name, encode(answer))
        return None if found is None else str(found)

    def _lied(self, watched: Watched, reason: str) -> None:
        self._sources.drop(watched.source, reason)
        watched.lying_until = watched.source.resting_until
        self._metrics.source_up.labels(watched.source.url).set(0)
        self._alarm(Kind.LIED, watched.source.url, reason, key=reason)

    # --- time -----------------------------------------------------------------------------------

    async def _watch_time(self) -> None:
        while True:
            self._look_at_time()
            await asyncio.sleep(min(self._look, self._stall / 4))

    def _look_at_time(self) -> None:
        """Stalls, and who is behind or silent."""
        now = self._clock()
        self._metrics.since.set(now - self._grew)
        for each in self.watched:
            if each.lying:
                continue
            url, silent = each.source.url, now - each.answered > self._stall
            why = f"no answer for {self._stall:.0f} s: {each.source.reason}" if silent else None
            self._condition(Kind.UNREACHABLE, url, why)
            behind = None
            head = each.head
            still = now - each.moved > self._stall
            if not silent and head is not None and head < self._copy.height and still:
                behind = f"its head is height {head} for {self._stall:.0f} s, the copy's is higher"
            self._condition(Kind.BEHIND, url, behind)
        nobody = all(now - each.answered > self._stall for each in self.watched)
        why = f"no source has answered for {self._stall:.0f} s" if nobody else None
        self._condition(Kind.UNREACHABLE, "", why)
        stuck = None
        if now - self._grew > self._stall and not nobody:
            stuck = (
                f"nothing above height {self._copy.height} came for {self._stall:.0f} s; "
                + "; ".join(f"{w.source.url} says {_said(w)}" for w in self.watched)
            )
        self._condition(Kind.STALL, "", stuck)

    def _show(self) -> None:
        self._metrics.height.set(self._copy.height)
        self._metrics.epoch.set(self._copy.epoch)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _said(watched: Watched) -> str:
    if watched.source.reason:
        return watched.source.reason
    return "nothing yet" if watched.head is None else f"its head is height {watched.head}"


def _content(answer: SyncResponse) -> bytes:
    content = answer.finalization.content
    assert content is not None, "a finalization names a block"
    return content.block
