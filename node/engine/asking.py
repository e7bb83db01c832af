"""What an auditor's follower asks of a source, and what each answer must look like.

Every answer is bounded in bytes and checked as far as it can be by itself; nothing that is written
here decides what it means (see `auditing`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from consensus.messages import (
    Certificate,
    Content,
    Kind,
    MalformedMessage,
    SyncResponse,
    decode_message,
)
from node.chain.encoding import UNDECODABLE
from node.engine.sources import Source, SourceLied, Sources
from node.engine.verified_copy import VerifiedCopy
from node.network.frames import CHANNEL_LIMIT, Channel

MAX_HEAD_BYTES = 1024 * 1024
"""One header with its certificate, in JSON: 0.3 kB a validator."""
MAX_FINALIZATIONS = 16
"""Of one branch that are asked for where a fork is to be proven: as many as `audit fork` tries."""
MAX_BISECTION = 64
"""Requests to find where two chains part: heights have 63 bits."""


class BlockHead(msgspec.Struct, frozen=True):
    """What is read of a `BlockView`."""

    height: int
    digest: str
    chain_id: str


_Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Signature(msgspec.Struct, frozen=True):
    validator: _Number
    signature: Annotated[str, Meta(max_length=128)]


class _Certificate(msgspec.Struct, frozen=True):
    epoch: _Number
    view: _Number
    parent_view: _Number
    block: Annotated[str, Meta(max_length=64)]
    height: _Number
    signatures: list[_Signature]


class _Certified(msgspec.Struct, frozen=True):
    certificate: _Certificate | None


class _Page(msgspec.Struct, frozen=True):
    blocks: list[BlockHead]


class Asking:
    """Questions to the sources of one copy. Each raises SourceUnavailable, SourceLied."""

    def __init__(self, sources: Sources, copy: VerifiedCopy) -> None:
        self._sources = sources
        self._copy = copy

    async def blocks(self, source: Source, first: int, wait: float) -> SyncResponse | None:
        """Blocks from a height on; None if there are none yet. `wait`: seconds that the source may
        wait for one."""
        raw = await self._sources.get(
            source,
            "/v1/sync",
            limit=CHANNEL_LIMIT[Channel.SYNC],
            query={"first": str(first), "wait": f"{wait:.0f}"},
            wait=wait,
        )
        if raw is None:
            return None
        try:
            message = decode_message(raw)
        except MalformedMessage as error:
            raise SourceLied(f"its answer is no blocks: {error}") from None
        if not isinstance(message, SyncResponse) or not message.blocks:
            raise SourceLied("its answer is no blocks")
        return message

    async def last(self, source: Source) -> BlockHead:
        """Its last final block."""
        return await self._head(source, "/v1/blocks", {"limit": "1"})

    async def _head(
        self, source: Source, path: str, query: dict[str, str] | None = None
    ) -> BlockHead:
        raw = await self._sources.get(source, path, limit=MAX_HEAD_BYTES, query=query)
        try:
            if raw is None:
                raise SourceLied(f"{path}: it answers with nothing")
            if query is None:
                found = msgspec.json.decode(raw, type=BlockHead)
            else:
                page = msgspec.json.decode(raw, type=_Page)
                found = next(iter(page.blocks), BlockHead(-1, "", ""))
        except UNDECODABLE as error:
            raise SourceLied(f"{path}: its answer is no block: {error}") from None
        if not 0 <= found.height < 2**63:
            raise SourceLied(f"{path}: its answer is no block")
        if found.chain_id != self._copy.genesis.chain_id.hex():
            raise SourceLied(f"it serves another chain, {found.chain_id[:64]}")
        return found

    async def digest(self, source: Source, height: int) -> str:
        """Of its block of this height."""
        found = await self._head(source, f"/v1/blocks/{height}")
        if found.height != height:
            raise SourceLied(f"asked for block {height}, it gave block {found.height}")
        return found.digest

    async def parting(self, source: Source, other: int) -> int:
        """The lowest height at which the source's block is another, by bisection: it is another at
        `other`. Raises SourceLied if they part at genesis."""
        same = 0
        if await self.digest(source, 0) != self._own(0):
            raise SourceLied("its genesis block is another chain's")
        for _ in range(MAX_BISECTION):
            if other - same <= 1:
                break
            middle = (same + other) // 2
            if await self.digest(source, middle) == self._own(middle):
                same = middle
            else:
                other = middle
        return other

    async def branch(self, source: Source, parted: int) -> SyncResponse:
        """The source's blocks from where it parts."""
        answer = await self.blocks(source, parted, 0.0)
        if answer is None:
            raise SourceLied(f"it tells of another block {parted}, and does not give it")
        return answer

    async def finalizations(
        self, source: Source, first: int, last: int, found: dict[int, Certificate]
    ) -> None:
        """Put into `found` what the source says makes blocks of these heights final, by height.
        Nothing of it is checked."""
        height = first
        for _ in range(MAX_FINALIZATIONS):
            if height > last:
                break
            raw = await self._sources.get(source, f"/v1/blocks/{height}", limit=MAX_HEAD_BYTES)
            try:
                told = msgspec.json.decode(raw or b"", type=_Certified).certificate
                if told is not None:
                    found[told.height] = _certificate(told)
            except (*UNDECODABLE, ValueError) as error:
                raise SourceLied(f"its certificate of height {height} is none: {error}") from None
            height = 1 + (height if told is None else max(height, told.height))

    def _own(self, height: int) -> str:
        return self._copy.head(height).digest.hex()


def _certificate(told: _Certificate) -> Certificate:
    """Raises ValueError."""
    return Certificate(
        told.epoch,
        told.view,
        Kind.FINALIZE,
        Content(told.parent_view, bytes.fromhex(told.block)),
        tuple((each.validator, bytes.fromhex(each.signature)) for each in told.signatures),
    )
