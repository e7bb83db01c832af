"""A process that verifies signatures for another one, and ends with it.

It reads frames from standard input, each a batch, and answers each with one byte for each
signature: 1 where it verifies. A frame is its length (4 bytes, big-endian) and so many bytes. When
the other side is gone, however it ended, reading gives nothing and the process ends.
"""

from __future__ import annotations

import os
import signal
import sys

import msgspec

from node.chain.signature import self_check, verify

LENGTH_BYTES = 4
Job = tuple[bytes, str, bytes, bytes]
"""(public key, domain, payload, signature)."""
Batch = tuple[bytes, list[Job]]
"""(chain id, signatures)."""

_decoder = msgspec.msgpack.Decoder(Batch)


def answer(batch: bytes) -> bytes:
    """One byte a signature."""
    chain_id, jobs = _decoder.decode(batch)
    return bytes(
        verify(key, domain, chain_id, payload, signature)
        for key, domain, payload, signature in jobs
    )


def read_exactly(descriptor: int, count: int) -> bytes:
    """So many bytes; fewer only where the other side is gone."""
    pieces = bytearray()
    while len(pieces) < count:
        piece = os.read(descriptor, count - len(pieces))
        if not piece:
            break
        pieces += piece
    return bytes(pieces)


def serve(source: int, sink: int) -> None:
    """Answer batch after batch until the source ends."""
    while True:
        head = read_exactly(source, LENGTH_BYTES)
        if len(head) < LENGTH_BYTES:
            return
        count = int.from_bytes(head, "big")
        batch = read_exactly(source, count)
        if len(batch) < count:
            return
        flags = memoryview(answer(batch))
        while flags:
            flags = flags[os.write(sink, flags) :]


def main() -> None:
    """What the process runs."""
    # Ctrl-C is for the one that asks; this one ends when that one does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    self_check()
    try:
        serve(sys.stdin.fileno(), sys.stdout.fileno())
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
