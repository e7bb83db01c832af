"""What single steps of the chain cost on this machine, without network, disk or processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256

from node.chain.build import build_pay, gross_payment
from node.chain.instruction import check_instruction, parse_instruction
from node.chain.signature import Ed25519Signer
from node.chain.state_map import StateMap
from node.chain.types import Payment, PaymentClass

ROUNDS = 5
"""Of which the best counts: the others were disturbed by something else on the machine."""
CHAIN_ID = bytes(32)
SENDER = "BENCH000000000000001"
RECEIVER = "BENCH000000000000002"


def chain_figures() -> dict[str, float]:
    """Name → microseconds, each the best of a few rounds."""
    one, many = _instruction(1), _instruction(1_000)
    figures = {
        "check_instruction, 1 payment": _best(lambda: check_instruction(one, CHAIN_ID), 500),
        "  of it all but the signature": _best(lambda: parse_instruction(one), 2_000),
        "check_instruction, 1,000 payments": _best(lambda: check_instruction(many, CHAIN_ID), 10),
    }
    for accounts in (100, 100_000):
        keys = [b"account %d" % n for n in range(accounts)]
        state = StateMap.empty().update(dict.fromkeys(keys, b"before"))
        changes = dict.fromkeys(keys[:: accounts // 100], b"after")
        name = f"state_map.update, 100 of {accounts:,}"
        figures[name] = _best(partial(state.update, changes), 20)
    return figures


def _instruction(count: int) -> bytes:
    return build_pay(
        CHAIN_ID,
        SENDER,
        "BENCH",
        0,
        payments=[_payment(n) for n in range(count)],
        signers=[Ed25519Signer(bytes(32))],
    )


def _payment(number: int) -> Payment:
    uetr = bytearray(sha256(b"%d" % number).digest()[:16])
    uetr[6], uetr[8] = uetr[6] & 0x0F | 0x40, uetr[8] & 0x3F | 0x80
    return gross_payment(
        bytes(uetr),
        SENDER,
        RECEIVER,
        "EUR",
        100_000 + number,
        payment_class=PaymentClass.CUSTOMER,
    )


def _best(step: Callable[[], object], count: int) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(count):
            step()
        best = min(best, time.perf_counter() - started)
    return best / count * 1e6


if __name__ == "__main__":
    for name, figure in chain_figures().items():
        print(f"{name:40} {figure:10.1f} µs")
