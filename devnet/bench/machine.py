"""What the machine can do, and what the node processes take of it (Linux, /proc)."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path

from node.chain.signature import Ed25519Signer, verify

VERIFICATIONS = 4_000
MESSAGE_BYTES = 300
"""About the envelope of a single payment."""
SYNCS = 200


def verifications_per_second(cores: int) -> float:
    """Ed25519 verifications of one core with the node's own verify function, while all `cores` are
    at it: what else runs on the machine then costs this figure what it costs the nodes."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(cores) as pool:
        pool.map(_verify_all, [1] * cores, chunksize=1)  # the processes have started
        return sum(pool.map(_verify_all, [VERIFICATIONS] * cores, chunksize=1)) / cores


def _verify_all(count: int) -> float:
    signer = Ed25519Signer(bytes(32))
    chain, message = bytes(32), bytes(MESSAGE_BYTES)
    signature = signer.sign("nostro.bench/1", chain, message)
    started = time.perf_counter()
    for _ in range(count):
        assert verify(signer.public_key, "nostro.bench/1", chain, message, signature)
    return count / (time.perf_counter() - started)


def fsync_ms(directory: Path) -> float:
    """Median of an append of 500 bytes with fdatasync, on the devnet's own disk."""
    path = directory / "fsync-probe"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        times = []
        for _ in range(SYNCS):
            started = time.perf_counter()
            os.write(descriptor, bytes(500))
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - started)
    finally:
        os.close(descriptor)
        path.unlink()
    return sorted(times)[SYNCS // 2] * 1000


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process."""

    cpu_seconds: float
    resident_mib: float


def usage(pid: int) -> Usage:
    """CPU time so far and resident size now."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(stat[11]) + int(stat[12])
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
