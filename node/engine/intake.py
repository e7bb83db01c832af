"""How instructions come in: from the API with a receipt, from other validators without.

Signatures are checked once, here, before anything else knows of the instruction. The work is cut
into slices so that a flood of instructions never keeps the consensus core waiting for more than
`SLICE_SECONDS`.

A receipt is a promise that outlives a crash, so an instruction of our own API is in the database
before its receipt is signed. Passing it on does not wait for that: consensus makes it durable on
its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from node.api.service import Finality, SubmissionRefused
from node.chain.encoding import Malformed, encode
from node.chain.instruction import (
    CheckedInstruction,
    InstructionRefused,
    ParsedInstruction,
    check_parsed,
    parse_instruction,
)
from node.chain.signature import RECEIPT_DOMAIN, Signer
from node.chain.types import Receipt, ReceiptBody
from node.engine.clock import WallClock
from node.engine.gossip import Offer, Push, Want, decode_gossip, offers, pushes
from node.engine.mempool import Mempool, PoolRefused
from node.engine.metrics import Metrics
from node.engine.peer_log import PeerLog
from node.engine.pool_store import PoolStore
from node.ledger.check import NotAdmissible
from node.network.frames import Channel
from node.network.links import PeerLinks
from node.storage.errors import StorageError

log = logging.getLogger("nostro.intake")

SLICE_SECONDS = 0.002
"""Longest stretch of checking signatures before the event loop gets to run."""
MAX_QUEUED_BYTES_PER_PEER = 32 * 1024 * 1024
"""Pushed instructions of one peer not yet checked; beyond it a push is dropped, and offered again
by whoever still waits for it."""
PUSHED_OVERHEAD_BYTES = 256
"""What waiting costs us besides a pushed instruction's bytes: empty ones are not free."""
MAX_WANTED_BYTES = 8 * 1024 * 1024
"""Bytes of pushes that may wait for a peer when its wants are answered: a digest costs it 32 bytes,
what it names may cost us megabytes."""


@dataclass(frozen=True, slots=True)
class Tip:
    """What a receipt says about the chain."""

    height: int
    digest: bytes


class Intake:
    """Checks, pools and passes on instructions."""

    def __init__(
        self,
        *,
        chain_id: bytes,
        pool: Mempool,
        kept: PoolStore,
        links: PeerLinks,
        node_key: Signer,
        may_stand: Callable[[ParsedInstruction], None],
        is_hopeless: Callable[[ParsedInstruction], bool],
        pool_changed: Callable[[], None],
        view: Callable[[], int],
        tip: Callable[[], Tip],
        clock: WallClock,
        metrics: Metrics,
    ) -> None:
        self._chain_id = chain_id
        self._pool = pool
        self._kept = kept
        self._links = links
        self._node_key = node_key
        self._may_stand = may_stand
        self._is_hopeless = is_hopeless
        self._pool_changed = pool_changed
        self._view = view
        self._tip = tip
        self._clock = clock
        self._metrics = metrics
        self._peer_log = PeerLog(log)
        self._pushed: dict[int, deque[bytes]] = {}
        """By validator, the one whose turn it is first; no queue is empty."""
        self._queued_bytes: dict[int, int] = {}
        self._wake = asyncio.Event()
        self._failure: StorageError | None = None
        self.arrivals: dict[bytes, float] = {}
        """When this node's API accepted an instruction (monotonic seconds), until it is final."""

    # --- from the API ------------------------------------------------------------------------

    async def submit(self, raws: Sequence[bytes]) -> list[Receipt | SubmissionRefused]:
        """Take in instructions; a receipt for each that is pooled (again) and durable here.

        Where the disk fails nobody gets a receipt, and `run` raises what storage raised."""
        answers: list[SubmissionRefused | CheckedInstruction] = []
        try:
            await self._take_in(raws, answers)
        except StorageError as error:
            self._failure = error
            self._wake.set()
            # Some may have reached other validators before the disk failed here.
            lost = SubmissionRefused(
                "storage-failed",
                f"this node could not make it durable ({error.what}) and stops; it may still "
                "become final: ask another node for it, or send the same bytes again there",
                "unknown",
            )
            refused: list[Receipt | SubmissionRefused]
            refused = [a if isinstance(a, SubmissionRefused) else lost for a in answers]
            return refused + [lost] * (len(raws) - len(answers))
        tip = self._tip()
        now = self._clock.now_ms()
        return [
            a if isinstance(a, SubmissionRefused) else self._receipt(a.digest, tip, now)
            for a in answers
        ]

    async def _take_in(
        self, raws: Sequence[bytes], answers: list[SubmissionRefused | CheckedInstruction]
    ) -> None:
        """Pool, pass on and keep; `answers` grows in the order of `raws`."""
        fresh: list[CheckedInstruction] = []
        slice_end = time.perf_counter() + SLICE_SECONDS
        for raw in raws:
            answer = self._admit(raw, fresh)
            answers.append(answer)
            if time.perf_counter() > slice_end:
                self._spread(fresh)
                fresh = []
                await asyncio.sleep(0)
                slice_end = time.perf_counter() + SLICE_SECONDS
        self._spread(fresh)
        accepted = [a for a in answers if not isinstance(a, SubmissionRefused)]
        await self._kept.keep([(a.digest, a.raw) for a in accepted])
        # What became final during the write was forgotten before it was kept.
        self._kept.forget([a.digest for a in accepted if a.digest not in self._pool])

    def _admit(
        self, raw: bytes, fresh: list[CheckedInstruction]
    ) -> SubmissionRefused | CheckedInstruction:
        known = self._pool.checked(raw)
        if known is not None:
            self._pool.add(known, view=self._view(), local=True)
            return known
        try:
            parsed = parse_instruction(raw)
            checked = self._check(parsed)
            if self._pool.add(checked, view=self._view(), local=True):
                fresh.append(checked)
                self.arrivals[checked.digest] = time.perf_counter()
        except (InstructionRefused, PoolRefused) as error:
            return SubmissionRefused(error.code, error.detail)
        except NotAdmissible as error:
            # Final is this very instruction, not another one that used up its id.
            same = error.executed is not None and error.executed.digest == parsed.digest
            outcome: Finality = "final" if same else "not submitted"
            return SubmissionRefused(error.code, error.detail, outcome)
        return checked

    def _check(self, parsed: ParsedInstruction) -> CheckedInstruction:
        """Raises InstructionRefused, NotAdmissible. The signatures, which cost most, come last:
        a stranger's or an executed instruction is refused without them."""
        self._may_stand(parsed)
        return check_parsed(parsed, self._chain_id)

    def _spread(self, fresh: Sequence[CheckedInstruction]) -> None:
        """Tell our own core and every validator, before anything waits for a disk."""
        if not fresh:
            return
        for frame in pushes(checked.raw for checked in fresh):
            self._links.broadcast(Channel.MEMPOOL, frame)
        self._pool_changed()

    def _receipt(self, digest: bytes, tip: Tip, now: int) -> Receipt:
        body = ReceiptBody(digest, self._node_key.public_key, tip.height, tip.digest, now)
        signature = self._node_key.sign(RECEIPT_DOMAIN, self._chain_id, encode(body))
        return Receipt(body, signature)

    # --- from other validators ---------------------------------------------------------------

    def on_message(self, sender: int, payload: bytes) -> None:
        """A mempool frame from an authenticated validator. Never raises."""
        try:
            message = decode_gossip(payload)
        except Malformed as error:
            self._metrics.refused.labels("malformed").inc()
            self._peer_log.write(logging.WARNING, sender, "sent %s", error)
            return
        match message:
            case Push(instructions):
                self._queue(sender, instructions)
            case Offer(digests):
                wanted = [d for d in digests if d not in self._pool]
                if wanted:
                    self._links.send(sender, Channel.MEMPOOL, encode(Want(tuple(wanted))))
            case Want(digests):
                self._push_wanted(sender, digests)

    def _push_wanted(self, sender: int, digests: Sequence[bytes]) -> None:
        """What does not go out now is offered again later."""
        found = (c.raw for d in dict.fromkeys(digests) if (c := self._pool.get(d)) is not None)
        for frame in pushes(found):
            waiting = self._links.queued(sender, Channel.MEMPOOL)
            if waiting + len(frame) > MAX_WANTED_BYTES:
                self._metrics.refused.labels("wants-too-much").inc()
                return
            self._links.send(sender, Channel.MEMPOOL, frame)

    def _queue(self, sender: int, instructions: Sequence[bytes]) -> None:
        for raw in instructions:
            queued = self._queued_bytes.get(sender, 0) + len(raw) + PUSHED_OVERHEAD_BYTES
            if queued > MAX_QUEUED_BYTES_PER_PEER:
                self._metrics.refused.labels("intake-full").inc()
                return
            self._queued_bytes[sender] = queued
            self._pushed.setdefault(sender, deque()).append(raw)
        self._wake.set()

    def _next_pushed(self) -> tuple[int, bytes]:
        """One of each peer in turn: what one pushes never waits for what another one floods."""
        sender = next(iter(self._pushed))
        queue = self._pushed.pop(sender)
        raw = queue.popleft()
        self._queued_bytes[sender] -= len(raw) + PUSHED_OVERHEAD_BYTES
        if queue:
            self._pushed[sender] = queue
        return sender, raw

    async def run(self) -> None:
        """Check what peers pushed, in slices, until cancelled. Raises what storage raised when
        an instruction of our own API could not be kept."""
        while True:
            if self._failure is not None:
                raise self._failure
            if not self._pushed:
                self._wake.clear()
                await self._wake.wait()
            slice_end = time.perf_counter() + SLICE_SECONDS
            while self._pushed and time.perf_counter() < slice_end:
                self._admit_pushed(*self._next_pushed())
            self._pool_changed()
            await asyncio.sleep(0)

    def _admit_pushed(self, sender: int, raw: bytes) -> None:
        if self._pool.checked(raw) is not None:
            return
        try:
            checked = self._check(parse_instruction(raw))
            self._pool.add(checked, view=self._view(), local=False)
        except NotAdmissible as error:
            # Ordinary: it became final before its push was looked at.
            log.debug("validator %d pushed %s: %s", sender, error.code, error.detail)
        except (InstructionRefused, PoolRefused) as error:
            self._metrics.refused.labels(error.code).inc()
            self._peer_log.write(logging.INFO, sender, "pushed %s: %s", error.code, error.detail)

    # --- links and restarts ------------------------------------------------------------------

    def link_up(self, peer: int) -> None:
        """Offer everything that waits to a validator that was away."""
        for frame in offers(self._pool.digests()):
            self._links.send(peer, Channel.MEMPOOL, frame)

    def reoffer(self, digests: list[bytes]) -> None:
        """Offer what waits too long to everyone again."""
        for frame in offers(digests):
            self._links.broadcast(Channel.MEMPOOL, frame)

    def restore(self) -> int:
        """Pool again what receipts were given for before a restart; how many still wait.

        Only what can never stand is forgotten. This node's clock has no say in that, nor has a
        pool that is smaller than it was: both may be right again at the next start."""
        restored = 0
        obsolete = []
        for digest, raw in self._kept.load():
            try:
                parsed = parse_instruction(raw)
                if self._is_hopeless(parsed):
                    obsolete.append(digest)
                    continue
                checked = check_parsed(parsed, self._chain_id)
                restored += self._pool.add(checked, view=self._view(), local=True)
            except (InstructionRefused, PoolRefused) as error:
                log.warning(
                    "accepted instruction %s stays kept, but does not wait: %s", digest.hex(), error
                )
        self._kept.forget(obsolete)
        return restored

    def dropped(self, digests: Sequence[bytes]) -> None:
        """The pool dropped these instructions of ours, which can never stand."""
        self._kept.forget(digests)
        for digest in digests:
            self.arrivals.pop(digest, None)
