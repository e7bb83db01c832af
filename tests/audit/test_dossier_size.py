"""How large a dossier is: small for one payment of ten thousand, logarithmic in blocks, linear in
epochs. What it takes to make and verify one `make bench ARGS=--evidence` measures."""

from __future__ import annotations

from itertools import pairwise

from devnet.bench.chains import BenchChain
from node.audit.build import build_dossier
from node.audit.report import VALID
from node.audit.verify import check_dossier
from node.storage.memory import MemoryStore

MAX_BYTES = 8 * 1024
"""With four validators, in the first epoch."""
HASH = 34
"""Bytes of a hash in a path."""


def size(ledger: BenchChain, uetr: bytes) -> int:
    """Of the payment's dossier, which is VALID."""
    ledger.commit()
    entry = ledger.store.uetr(uetr)
    assert entry is not None
    data = build_dossier(ledger.store, entry)
    report = check_dossier(data, ledger.genesis)
    assert (report.verdict, report.status) == (VALID, "settled"), report.text()
    return len(data)


def test_one_of_ten_thousand_payments_and_one_alone_fit_eight_kib() -> None:
    ledger = BenchChain(MemoryStore(), banks=100)
    batch, alone = ledger.pay(10_000), ledger.pay(1)
    ledger.add([batch, alone])
    ledger.add([ledger.recall(payment) for payment in batch.instruction.payments[:50]])
    assert size(ledger, batch.instruction.payments[7_777].uetr) <= MAX_BYTES
    assert size(ledger, alone.instruction.payments[0].uetr) <= MAX_BYTES


def test_it_grows_with_the_logarithm_of_the_blocks() -> None:
    ledger = BenchChain(MemoryStore(), banks=4)
    order = ledger.pay(1)
    ledger.add([order])
    sizes = []
    for height in (16, 128, 1024):
        while ledger.tip.height < height:
            ledger.add()
        sizes.append(size(ledger, order.instruction.payments[0].uetr))
    for smaller, larger in pairwise(sizes):
        # Eight times the blocks: three hashes, and a few bytes that larger numbers take.
        assert 0 < larger - smaller <= 3 * HASH + 16


def test_it_grows_by_the_same_with_every_epoch() -> None:
    ledger = BenchChain(MemoryStore(), banks=4)
    order = ledger.pay(1)
    ledger.add([order])
    sizes = []
    for _ in range(8):
        ledger.end_epoch()
        ledger.add()
        sizes.append(size(ledger, order.instruction.payments[0].uetr))
    grown = [larger - smaller for smaller, larger in pairwise(sizes)]
    assert max(grown) <= 1_400
    assert max(grown) - min(grown) <= 10 * HASH
