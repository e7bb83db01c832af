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
from node.engine.gossip import Offer, Push, Want, decode_gossip, offers, pushes
from node.engine.mempool import Mempool, PoolRefused
from node.engine.metrics import Metrics
from node.engine.pool_store import PoolStore
from node.ledger.check import NotAdmissible
from node.network.frames import Channel
from node.network.links import PeerLinks

log = logging.getLogger("nostro.intake")

SLICE_SECONDS = 0.002
"""Longest stretch of checking signatures before the event loop gets to run."""
MAX_QUEUED_BYTES_PER_PEER = 32 * 1024 * 1024
"""Pushed instructions of one peer not yet checked; beyond it a push is dropped, and offered again
by whoever still waits for it."""


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
        pool_changed: Callable[[], None],
        view: Callable[[], int],
        tip: Callable[[], Tip],
        metrics: Metrics,
    ) -> None:
        self._chain_id = chain_id
        self._pool = pool
        self._kept = kept
        self._links = links
        self._node_key = node_key
        self._may_stand = may_stand
        self._pool_changed = pool_changed
        self._view = view
        self._tip = tip
        self._metrics = metrics
        self._pushed: deque[tuple[int, bytes]] = deque()
        self._queued_bytes: dict[int, int] = {}
        self._wake = asyncio.Event()
        self.arrivals: dict[bytes, float] = {}
        """When this node's API accepted an instruction (monotonic seconds), until it is final."""

    # --- from the API ------------------------------------------------------------------------

    async def submit(self, raws: Sequence[bytes]) -> list[Receipt | SubmissionRefused]:
        """Take in instructions; a receipt for each that is pooled (again) and durable here."""
        answers: list[SubmissionRefused | CheckedInstruction] = []
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
        tip = self._tip()
        now = int(time.time() * 1000)
        return [
            a if isinstance(a, SubmissionRefused) else self._receipt(a.digest, tip, now)
            for a in answers
        ]

    def _admit(
        self, raw: bytes, fresh: list[CheckedInstruction]
    ) -> SubmissionRefused | CheckedInstruction:
        known = self._pool.checked(raw)
        if known is not None:
            self._pool.add(known, view=self._view(), local=True)
            return known
        try:
            checked = self._check(raw)
            if self._pool.add(checked, view=self._view(), local=True):
                fresh.append(checked)
                self.arrivals[checked.digest] = time.perf_counter()
        except (InstructionRefused, PoolRefused) as error:
            return SubmissionRefused(error.code, error.detail)
        except NotAdmissible as error:
            outcome: Finality = "final" if error.code == "already-executed" else "not submitted"
            return SubmissionRefused(error.code, error.detail, outcome)
        return checked

    def _check(self, raw: bytes) -> CheckedInstruction:
        """Raises InstructionRefused, NotAdmissible. The signatures, which cost most, come last:
        a stranger's or an executed instruction is refused without them."""
        parsed = parse_instruction(raw)
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
            log.warning("validator %d: %s", sender, error)
            return
        match message:
            case Push(instructions):
                self._queue(sender, instructions)
            case Offer(digests):
                wanted = [d for d in digests if d not in self._pool]
                if wanted:
                    self._links.send(sender, Channel.MEMPOOL, encode(Want(tuple(wanted))))
            case Want(digests):
                found = (c.raw for d in digests if (c := self._pool.get(d)) is not None)
                for frame in pushes(found):
                    self._links.send(sender, Channel.MEMPOOL, frame)

    def _queue(self, sender: int, instructions: Sequence[bytes]) -> None:
        for raw in instructions:
            queued = self._queued_bytes.get(sender, 0)
            if queued + len(raw) > MAX_QUEUED_BYTES_PER_PEER:
                self._metrics.refused.labels("intake-full").inc()
                return
            self._queued_bytes[sender] = queued + len(raw)
            self._pushed.append((sender, raw))
        self._wake.set()

    async def run(self) -> None:
        """Check what peers pushed, in slices, until cancelled."""
        while True:
            if not self._pushed:
                self._wake.clear()
                await self._wake.wait()
            slice_end = time.perf_counter() + SLICE_SECONDS
            while self._pushed and time.perf_counter() < slice_end:
                sender, raw = self._pushed.popleft()
                self._queued_bytes[sender] -= len(raw)
                self._admit_pushed(sender, raw)
            self._pool_changed()
            await asyncio.sleep(0)

    def _admit_pushed(self, sender: int, raw: bytes) -> None:
        if self._pool.checked(raw) is not None:
            return
        try:
            checked = self._check(raw)
            self._pool.add(checked, view=self._view(), local=False)
        except NotAdmissible as error:
            # Ordinary: it became final before its push was looked at.
            log.debug("validator %d pushed %s: %s", sender, error.code, error.detail)
        except (InstructionRefused, PoolRefused) as error:
            self._metrics.refused.labels(error.code).inc()
            log.info("validator %d pushed %s: %s", sender, error.code, error.detail)

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
        """Pool again what receipts were given for before a restart; how many still wait."""
        restored = 0
        obsolete = []
        for digest, raw in self._kept.load():
            try:
                checked = self._check(raw)
                restored += self._pool.add(checked, view=self._view(), local=True)
            except (InstructionRefused, NotAdmissible, PoolRefused):
                obsolete.append(digest)
        self._kept.forget(obsolete)
        return restored
