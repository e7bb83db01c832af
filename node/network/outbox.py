"""What waits to be sent to one peer: bounded, consensus first, small before large.

Each frame takes small payloads in order of channel up to `SMALL_BYTES`, then one chunk of the
first large payload. So neither kind starves the other, and a vote given to the outbox leaves
with the next frame whatever else waits. When a channel's bound is reached the new payload is
dropped and the caller told: a slow peer costs a bounded amount of memory, never our time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from node.network.frames import (
    CHANNEL_LIMIT,
    CHUNK_BYTES,
    KIB,
    LAST_CHUNK,
    MAX_PARTS,
    MORE_CHUNKS,
    PART,
    SMALL_BYTES,
    Channel,
)

SEND_ORDER = (Channel.CONSENSUS, Channel.SYNC, Channel.MEMPOOL)
"""Consensus first: everything else only matters once blocks are agreed."""

MAX_QUEUED: dict[Channel, int] = {
    Channel.CONSENSUS: 8192,
    Channel.SYNC: 64,
    Channel.MEMPOOL: 32768,
}
"""Payloads waiting for one peer, by channel."""
MAX_QUEUED_BYTES: dict[Channel, int] = {
    Channel.CONSENSUS: 32 * KIB * KIB,
    Channel.SYNC: 56 * KIB * KIB,
    Channel.MEMPOOL: 16 * KIB * KIB,
}
"""Bytes waiting for one peer, by channel. Each has room for the largest payload of its channel and
some more."""
MAX_OUTBOX_BYTES = sum(MAX_QUEUED_BYTES.values())
"""Bytes waiting for one peer, over all channels."""


@dataclass(slots=True)
class _Queue:
    channel: Channel
    max_payloads: int
    max_bytes: int
    small: deque[bytes] = field(default_factory=deque)
    large: deque[bytes] = field(default_factory=deque)
    sent_of_large: int = 0
    """Bytes of `large[0]` that have left."""
    delayed: deque[tuple[float, bytes]] = field(default_factory=deque)
    """(when it may leave, payload), in order of both."""
    queued_bytes: int = 0

    def ready(self, payload: bytes) -> None:
        (self.small if len(payload) <= SMALL_BYTES else self.large).append(payload)


class Outbox:
    """The outbound queues of one link. Not aware of sockets: `next_frame` gives the bytes."""

    def __init__(
        self,
        max_queued: dict[Channel, int] = MAX_QUEUED,
        max_queued_bytes: dict[Channel, int] = MAX_QUEUED_BYTES,
    ) -> None:
        self._queues = {
            channel: _Queue(channel, max_queued[channel], max_queued_bytes[channel])
            for channel in SEND_ORDER
        }
        self._ordered = tuple(self._queues.values())

    @property
    def queued_bytes(self) -> int:
        """Bytes waiting, over all channels."""
        return sum(queue.queued_bytes for queue in self._ordered)

    def queued(self, channel: Channel) -> int:
        """Bytes waiting in one channel."""
        return self._queues[channel].queued_bytes

    @property
    def delayed(self) -> bool:
        """Whether anything waits for its time to leave."""
        return any(queue.delayed for queue in self._ordered)

    def next_due(self) -> float:
        """When the first of what is delayed may leave. Only while anything is."""
        return min(queue.delayed[0][0] for queue in self._ordered if queue.delayed)

    def put(self, channel: Channel, payload: bytes, due: float = 0.0) -> bool:
        """Queue a payload; False when the channel's bound is reached and it was dropped.

        `due`: it leaves only after a `release` at or after this time (any clock), 0 for now, and
        after what was put before it. What is delayed counts against the bounds like the rest."""
        size = len(payload)
        assert 0 < size <= CHANNEL_LIMIT[channel], f"{channel.name} payload of {size} bytes"
        queue = self._queues[channel]
        if (
            queue.queued_bytes + size > queue.max_bytes
            or len(queue.small) + len(queue.large) + len(queue.delayed) >= queue.max_payloads
        ):
            return False
        queue.queued_bytes += size
        if queue.delayed:
            queue.delayed.append((max(due, queue.delayed[-1][0]), payload))
        elif due:
            queue.delayed.append((due, payload))
        else:
            queue.ready(payload)
        return True

    def release(self, now: float) -> None:
        """Let go what is due at `now`."""
        for queue in self._ordered:
            while queue.delayed and queue.delayed[0][0] <= now:
                queue.ready(queue.delayed.popleft()[1])

    def next_frame(self) -> bytes | None:
        """The next frame to send, None when nothing waits."""
        pieces: list[bytes | memoryview] = []
        room = SMALL_BYTES
        for queue in self._ordered:
            small = queue.small
            channel = int(queue.channel)
            while small and room > 0 and len(pieces) < 2 * (MAX_PARTS - 1):
                payload = small.popleft()
                size = len(payload)
                queue.queued_bytes -= size
                room -= size
                pieces.append(PART.pack(channel, size))
                pieces.append(payload)
        for queue in self._ordered:
            if queue.large:
                self._take_chunk(queue, pieces)
                break
        return b"".join(pieces) if pieces else None

    @staticmethod
    def _take_chunk(queue: _Queue, pieces: list[bytes | memoryview]) -> None:
        payload = queue.large[0]
        start = queue.sent_of_large
        chunk = memoryview(payload)[start : start + CHUNK_BYTES]
        queue.sent_of_large += len(chunk)
        last = queue.sent_of_large == len(payload)
        pieces.append(PART.pack(queue.channel + (LAST_CHUNK if last else MORE_CHUNKS), len(chunk)))
        pieces.append(chunk)
        if last:
            queue.large.popleft()
            queue.sent_of_large = 0
            queue.queued_bytes -= len(payload)
