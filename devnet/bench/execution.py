"""What the ledger alone costs: a block of one instruction with 1,000 gross payments, executed on
one core, with the look-up of each UETR, the outcomes' tree and the new `state_root`.

The index of used UETRs is a real database, on disk; nothing is mocked but the blocks around.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from devnet.bench.books import CHAIN_ID, SIGNER, committed, holder
from node.chain.build import build_pay, gross_payment
from node.chain.encoding import encode
from node.chain.instruction import CheckedInstruction, check_instruction
from node.chain.records import (
    AssetRecord,
    EpochRecord,
    ParametersRecord,
)
from node.chain.types import CloseRule, ValidatorSet
from node.ledger.apply import BlockContext, apply
from node.ledger.governed import Governed
from node.ledger.state import Base, State, account_key, account_record
from node.storage.chain_store import ChainStore
from node.storage.level import LevelStore

BATCH = 1_000
CREDITORS = 99
"""Distinct ones in a batch, whatever the number of accounts."""
ROUNDS = 80
"""Of which the best counts: the others were disturbed by something else on the machine."""
TIME = 1_750_000_000_000
ISSUER = "BENCH000000000000000"
WRITE_BATCH = 20_000
"""UETRs written to the index at once."""


def figures(directory: Path, uetrs: int = 1_000_000) -> dict[str, float]:
    """Name → µs per payment, or a ratio. `directory` is made and filled; `uetrs`: in the window."""
    rng = random.Random(uetrs)
    with closing(LevelStore(directory, create=True)) as kv:
        store = ChainStore(kv)
        store.warm()
        few = make_state(100, store)
        empty = _best(few, rng)
        many = make_state(100_000, store)
        wide = _best(many, rng)
        del many
        _fill(kv, uetrs)
        store.warm()
        full = _best(few, rng)
    return {
        "µs per gross payment, no UETR in the window": empty,
        f"µs per gross payment, {uetrs:,} UETRs in the window": full,
        "µs per gross payment, 100,000 accounts": wide,
        "100,000 accounts ÷ 100 accounts": wide / empty,
    }


def participant(number: int) -> str:
    """The LEI of an account's holder."""
    return f"BENCH{number:015d}"


def make_state(accounts: int, store: ChainStore) -> State:
    """A committed state in which so many participants hold euros."""
    leis = [participant(number) for number in range(accounts)]
    balance = 10**15
    total = balance * accounts
    records: dict[bytes, bytes | None] = {
        account_key(lei, "EUR", 0): account_record(balance) for lei in leis
    }
    parameters = ParametersRecord(35 * 24 * 3600 * 1000, 1, 0, CloseRule.EXPIRE)
    governed = Governed()
    governed.epoch = EpochRecord(epoch=0, pending=None)
    governed.sets[0] = ValidatorSet(0, ())
    base = Base(
        parameters,
        {lei: holder(lei) for lei in leis},
        {"EUR": AssetRecord("EUR", 2, ISSUER, security=False, issued=total, redeemed=0)},
        {("EUR", 0): dict.fromkeys(leis, balance)},
        governed=governed,
        recent=store,
    )
    return committed(base, TIME, records)


def _best(state: State, rng: random.Random) -> float:
    """µs per payment. Every round has UETRs that nobody used: each look-up goes to the disk."""
    best = float("inf")
    gc.collect()
    gc.freeze()  # what was made for the measurement is not to be looked through during it
    for number in range(ROUNDS):
        instruction = _instruction(number, rng)
        started = time.perf_counter()
        applied = apply(state, BlockContext(1, TIME + 1), [instruction])
        best = min(best, time.perf_counter() - started)
        assert len(applied.uetrs) == BATCH
    return best / BATCH * 1e6


def _instruction(number: int, rng: random.Random) -> CheckedInstruction:
    raw = build_pay(
        CHAIN_ID,
        participant(0),
        f"BENCH{number}",
        TIME + 1_000,
        payments=[
            gross_payment(
                _uetr(rng.randbytes(16)),
                participant(0),
                participant(1 + n % CREDITORS),
                "EUR",
                n + 1,
            )
            for n in range(BATCH)
        ],
        signers=[SIGNER],
    )
    return _admitted(raw)


def _admitted(raw: bytes) -> CheckedInstruction:
    return check_instruction(raw, CHAIN_ID)


def _fill(kv: LevelStore, count: int) -> None:
    """Put so many used UETRs into the index, as final blocks would have left them."""
    value = encode((bytes(32), TIME, 1, 0, 0, "ACSC", None, 1, None))
    for first in range(0, count, WRITE_BATCH):
        kv.write(
            [(b"u" + uetr, value) for uetr in _uetrs(first, min(count, first + WRITE_BATCH))],
            sync=False,
        )


def _uetrs(first: int, stop: int) -> Iterator[bytes]:
    for number in range(first, stop):
        yield _uetr(sha256(b"used" + number.to_bytes(8, "big")).digest()[:16])


def _uetr(raw: bytes) -> bytes:
    made = bytearray(raw)
    made[6], made[8] = made[6] & 0x0F | 0x40, made[8] & 0x3F | 0x80
    return bytes(made)
