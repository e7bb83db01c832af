"""A chain read over a node's API, in order, for who replays it from genesis.

Blocks come by the resource from which other nodes get them (`GET /v1/sync`), with the certificate
that finalizes each answer. A node gives out no outcomes, no state and no certificates beside those:
an audit over the API recomputes the first two and compares roots. What the node says is checked by
the replay alone; here it is only bounded in bytes and time.

One answer is held and the next is fetched meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self, TypeVar

from consensus.messages import (
    Certificate,
    Equivocation,
    MalformedMessage,
    SyncResponse,
    decode_message,
)
from node.audit.audit_report import Damaged
from node.chain.block import BodyMismatch, encode_block, inspect_block
from node.chain.genesis import BadGenesis, load_genesis
from node.engine.sources import SourceLacks, SourceLied, Sources, SourceUnavailable
from node.ledger.entries import InstructionEntry, UetrEntry
from node.ledger.genesis import genesis_state
from node.network.frames import CHANNEL_LIMIT, Channel

MAX_GENESIS_BYTES = 16 * 1024 * 1024
TRIES = 6
"""For one answer, with a pause in between that grows to 5 s: a node that starts anew is waited
for."""
T = TypeVar("T")


class RemoteFailed(Exception):
    """The node cannot be read on; the text says why."""


class _Seal(NamedTuple):
    """How an epoch ended."""

    height: int
    carriers: tuple[bytes, ...]
    finalization: Certificate


class _Answer(NamedTuple):
    """Blocks from `first` on."""

    first: int
    response: SyncResponse

    @property
    def last(self) -> int:
        return self.first + len(self.response.blocks) - 1


class RemoteChain:
    """A source for `node.audit.chain_audit`. A context manager; its calls raise RemoteFailed."""

    def __init__(self, url: str, *, tries: int = TRIES) -> None:
        """`url`: of the node's API. `tries`: for one answer."""
        self._url = url
        self._tries = tries
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="remote-chain")
        self._runner = asyncio.Runner()
        self._sources = Sources([url])
        self._tip: _Answer | None = None
        """The answer in which the height is that the node said at first."""
        self._held: _Answer | None = None
        self._coming: tuple[int, Future[_Answer]] | None = None

    def __enter__(self) -> Self:
        self._do(self._sources.open)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._sources.close)
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()

    # --- the source -------------------------------------------------------------------------------

    def height(self) -> int | None:
        """Height of the last block that the node had a certificate for when it was asked first."""
        if self._tip is None:
            first, claimed = self._do(self._claimed)
            if first is None:
                return 0
            # What it says of itself is not relied on where its own answer says more.
            self._tip = first if claimed <= first.last else self._do(lambda: self._get(claimed))
        return self._tip.last

    def block(self, height: int) -> bytes | None:
        """The exact bytes of a block; from a node of a chain with the same genesis file, block 0 is
        computed."""
        if height == 0:
            return self._do(self._genesis)
        if height > (self.height() or 0):
            return None
        held = self._held
        if held is None or not held.first <= height <= held.last:
            held = self._held = self._fetch(height)
        if height == held.first and held.last < (self.height() or 0):
            following = held.last + 1
            self._coming = following, self._start(lambda: self._get(following))
        return held.response.blocks[height - held.first]

    def finalization(self, height: int) -> Certificate | None:
        """The certificate that the node gave with this height as the last of an answer."""
        for answer in (self._held, self._tip):
            if answer is not None and answer.last == height:
                return answer.response.finalization
        return None

    def seal(self, epoch: int) -> _Seal | None:
        """How the epoch of the present answer ended, if it ends with it."""
        held = self._held
        if held is None or held.response.finalization.epoch != epoch or not _seals(held):
            return None
        return _Seal(held.last, held.response.carriers, held.response.finalization)

    def certificates(self, epoch: int, first_view: int, last_view: int) -> list[Certificate]:
        """None: a node gives out none beside finalizations."""
        return []

    def evidence(self) -> list[Equivocation]:
        """None: what a node has seen itself it does not give out here."""
        return []

    def outcomes(self, height: int) -> list[bytes] | None:
        """None: a node gives out no outcomes by the block."""
        return None

    def state_records(self) -> Iterable[tuple[bytes, bytes]]:
        """None: a node gives out no state by the record."""
        return ()

    # --- own ------------------------------------------------------------------------------------

    def _fetch(self, height: int) -> _Answer:
        coming, self._coming = self._coming, None
        if coming is not None and coming[0] == height:
            return self._wait(coming[1])
        return self._do(lambda: self._get(height))

    async def _claimed(self) -> tuple[_Answer | None, int]:
        """The first answer, and the last height that the node says it has."""
        [source] = self._sources.all
        # Whoever does not answer at all is said so at once; one that ends midway is waited for.
        raw = await self._ask(1, tries=1)
        return None if raw is None else _answer(1, raw), source.claimed

    async def _get(self, first: int) -> _Answer:
        raw = await self._ask(first)
        if raw is None:
            raise RemoteFailed(f"{self._url} no longer has block {first}")
        return _answer(first, raw)

    async def _ask(self, first: int, tries: int | None = None) -> bytes | None:
        limit = CHANNEL_LIMIT[Channel.SYNC]
        query = {"first": str(first)}
        return await self._patiently("/v1/sync", limit=limit, query=query, tries=tries)

    async def _genesis(self) -> bytes:
        data = await self._patiently("/v1/genesis", limit=MAX_GENESIS_BYTES)
        try:
            start = genesis_state(load_genesis(data or b""), _Nothing())
        except BadGenesis as error:
            raise Damaged(0, "genesis file of the node", "a valid one", error) from error
        return encode_block(start.header, ())

    async def _patiently(
        self,
        path: str,
        *,
        limit: int,
        query: dict[str, str] | None = None,
        tries: int | None = None,
    ) -> bytes | None:
        [source] = self._sources.all
        for left in reversed(range(tries or self._tries)):
            try:
                body = await self._sources.get(source, path, limit=limit, query=query)
            except SourceLacks as error:
                raise RemoteFailed(f"{self._url}: {error}") from None
            except SourceLied as error:
                raise RemoteFailed(f"{self._url} is no node to rely on: {error}") from None
            except SourceUnavailable as error:
                self._sources.failed(source, str(error))
                if not left:
                    raise RemoteFailed(f"{self._url} cannot be reached: {error}") from None
                await self._sources.rest()
            else:
                self._sources.worked(source)
                return body
        raise AssertionError("the last try returns or raises")

    def _start(self, call: Callable[[], Awaitable[T]]) -> Future[T]:
        async def made() -> T:
            return await call()

        # The loop belongs to the thread: all that touches the session happens there.
        return self._thread.submit(lambda: self._runner.run(made()))

    def _do(self, call: Callable[[], Awaitable[T]]) -> T:
        return self._wait(self._start(call))

    def _wait(self, future: Future[T]) -> T:
        return future.result()


class _Nothing:
    """What was executed before genesis."""

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        return None

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        return None

    def uetrs_between(self, after: int, through: int) -> Iterable[bytes]:
        return ()


def _answer(first: int, raw: bytes) -> _Answer:
    try:
        response = decode_message(raw)
    except MalformedMessage as error:
        raise Damaged(first, "answer", "blocks with their finalization", error) from error
    if not isinstance(response, SyncResponse) or not response.blocks:
        raise Damaged(first, "answer", "blocks", type(response).__name__)
    return _Answer(first, response)


def _seals(answer: _Answer) -> bool:
    try:
        header = inspect_block(answer.response.blocks[-1]).header
    except BodyMismatch:
        return False
    return header.next_validator_set != header.validator_set
