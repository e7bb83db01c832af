"""Who verifies the signatures of an audited chain: the replay itself, or processes beside it.

With processes the replay goes on while signatures are verified. What fails is found all the same in
the order in which the signatures were handed over: `raise_failed` and `settle` tell the first one,
and nothing counts as sound before all signatures up to it do (`sound`).

What is under way is bounded by what the pipes to the processes hold, so that handing over never
waits for a process; when all pipes are full, the replay verifies a batch itself. A process that
ends, stands still or cannot be started costs time, nothing else: what it was given is verified
here.
"""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from node.audit.signature_worker import LENGTH_BYTES, Job, answer
from node.chain.encoding import encode
from node.chain.signature import verify

START_AFTER = 2_000
"""Signatures that the replay verifies itself before it starts processes: a short chain needs
none."""
BATCH_SIGNATURES = 64
BATCH_BYTES = 32 * 1024
"""Signatures and bytes of payload after which a batch is sent."""
PIPE_BYTES = 1024 * 1024
"""What each pipe is asked to hold; Linux grants this much to anybody, unless told otherwise."""
PATIENCE_SECONDS = 60.0
"""Without an answer for so long a process counts as gone: a batch takes milliseconds."""
_ROOT = Path(__file__).parents[2]

Failure = Callable[[bytes], Exception]
"""What to raise about a signature by this public key that does not verify."""


class Checks(Protocol):
    """Signatures of one chain, to be verified now or later."""

    given: int
    """Handed over so far."""
    sound: int
    """The first so many verify."""

    def about(self, failure: Failure) -> None:
        """What the signatures handed over from now on are of."""

    def verify(
        self, public_key: bytes, domain: str, chain_id: bytes, payload: bytes, signature: bytes
    ) -> bool:
        """As `node.chain.signature.verify`, or True at once."""

    def raise_failed(self) -> None:
        """Raise the failure of the first signature that does not verify, if one is known."""

    def settle(self) -> None:
        """Wait for all that were handed over, and raise the failure of the first bad one."""

    def close(self) -> None:
        """Let go of what is under way."""


class AtOnce:
    """Every signature verified where it is met."""

    def __init__(self) -> None:
        self.given = self.sound = 0

    def about(self, failure: Failure) -> None:
        """See `Checks`: whoever asks is told at once."""

    def verify(
        self, public_key: bytes, domain: str, chain_id: bytes, payload: bytes, signature: bytes
    ) -> bool:
        """See `Checks`."""
        self.given += 1
        self.sound += 1
        return verify(public_key, domain, chain_id, payload, signature)

    def raise_failed(self) -> None:
        """See `Checks`."""

    def settle(self) -> None:
        """See `Checks`."""

    def close(self) -> None:
        """See `Checks`."""


class _Batch:
    """Signatures that are verified together."""

    __slots__ = ("bytes", "failures", "jobs", "verdicts")

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.failures: list[Failure] = []
        self.bytes = 0
        self.verdicts: bytes | None = None
        """One byte a signature; None while they are not known."""


class _Worker:
    """A process and what it has been given."""

    def __init__(self) -> None:
        """Raises OSError: no more processes or descriptors."""
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            # -P: not from where the audit is run, which may be what the auditor was handed.
            [sys.executable, "-P", "-m", "node.audit.signature_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.source = self.process.stdout.fileno()
        self._sink = self.process.stdin.fileno()
        with suppress(OSError):  # then it holds less
            fcntl.fcntl(self._sink, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        # Each write may leave the rest of a page unused.
        self._capacity = fcntl.fcntl(self._sink, fcntl.F_GETPIPE_SZ) // 2
        self._waiting = 0
        """Bytes that were sent and not answered."""
        self.given: deque[tuple[_Batch, int]] = deque()
        self._answer = bytearray()

    def take(self, batch: _Batch, frame: bytes) -> bool:
        """Whether the batch was sent: False if there is no room for it."""
        if self._waiting + len(frame) > self._capacity:
            return False
        view = memoryview(frame)
        while view:
            view = view[os.write(self._sink, view) :]
        self._waiting += len(frame)
        self.given.append((batch, len(frame)))
        return True

    def read(self) -> bool:
        """Take in what it answered; waits for at least a byte. False: it is gone."""
        piece = os.read(self.source, PIPE_BYTES)
        self._answer += piece
        while self.given and len(self._answer) >= len(self.given[0][0].jobs):
            batch, size = self.given.popleft()
            batch.verdicts = bytes(self._answer[: len(batch.jobs)])
            del self._answer[: len(batch.jobs)]
            self._waiting -= size
        return bool(piece)

    def end(self) -> None:
        """Stop the process; what it was given stays unanswered."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class InProcesses:
    """Signatures verified by processes of their own, in batches."""

    def __init__(
        self,
        chain_id: bytes,
        processes: int,
        *,
        start_after: int = START_AFTER,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """`processes`: at least one; started once so many signatures have been verified here.
        `patience`: seconds that one may take to answer."""
        assert processes > 0
        self._chain_id = chain_id
        self.given = self.sound = 0
        self._count = processes
        self._start_after = start_after
        self._patience = patience
        self._workers: list[_Worker] = []
        self._started = False
        self._batch = _Batch()
        self._order: deque[_Batch] = deque()
        """Sent, in order, from the first one that is not known to be sound."""
        self._failure: Failure | None = None
        self._failed: Exception | None = None
        """The first, once it is known."""

    def about(self, failure: Failure) -> None:
        """See `Checks`."""
        self._failure = failure

    def verify(
        self, public_key: bytes, domain: str, chain_id: bytes, payload: bytes, signature: bytes
    ) -> bool:
        """See `Checks`."""
        assert chain_id == self._chain_id, "one chain at a time"
        if self.given < self._start_after:
            self.given += 1
            self.sound += 1
            return verify(public_key, domain, chain_id, payload, signature)
        assert self._failure is not None, "what the signature is of was said"
        self.given += 1
        batch = self._batch
        batch.jobs.append((public_key, domain, payload, signature))
        batch.failures.append(self._failure)
        batch.bytes += len(payload)
        if len(batch.jobs) >= BATCH_SIGNATURES or batch.bytes >= BATCH_BYTES:
            self._flush()
        return True

    def raise_failed(self) -> None:
        """See `Checks`."""
        self._listen(wait=False)
        self._advance()

    def settle(self) -> None:
        """See `Checks`."""
        self._flush()
        while self._order:
            self._listen(wait=True)
            self._advance()

    def close(self) -> None:
        """See `Checks`."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    # --- own ------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Have the batch verified: by a process that has room for it, or here."""
        batch = self._batch
        if not batch.jobs:
            return
        self._batch = _Batch()
        self._order.append(batch)
        if not self._started:
            self._started = True
            with suppress(OSError):  # then there are fewer
                for _ in range(self._count):
                    self._workers.append(_Worker())
        body = encode((self._chain_id, batch.jobs))
        frame = len(body).to_bytes(LENGTH_BYTES, "big") + body
        self._listen(wait=False)
        for worker in sorted(self._workers, key=lambda worker: len(worker.given)):
            try:
                if worker.take(batch, frame):
                    return
            except OSError:
                self._lose(worker)
        batch.verdicts = answer(body)

    def _listen(self, *, wait: bool) -> None:
        """Take in what processes answered; with `wait`, until one did, if any has to."""
        busy = {worker.source: worker for worker in self._workers if worker.given}
        if not busy:
            return
        ready, _, _ = select.select(list(busy), [], [], self._patience if wait else 0)
        for source in ready:
            if not busy[source].read():
                self._lose(busy[source])
        if wait and not ready:
            for worker in busy.values():
                self._lose(worker)

    def _lose(self, worker: _Worker) -> None:
        """A process ended by itself, or stands still: what it had is verified here."""
        self._workers.remove(worker)
        worker.end()
        for batch, _ in worker.given:
            batch.verdicts = answer(encode((self._chain_id, batch.jobs)))

    def _advance(self) -> None:
        """Count what is sound, in order, up to the first batch that is not known. Raises the
        failure of the first bad one."""
        if self._failed is not None:
            raise self._failed
        while self._order and (verdicts := self._order[0].verdicts) is not None:
            batch = self._order[0]
            bad = verdicts.find(0)
            if bad >= 0:
                self.sound += bad
                self._failed = batch.failures[bad](batch.jobs[bad][0])
                raise self._failed
            self.sound += len(batch.jobs)
            self._order.popleft()
