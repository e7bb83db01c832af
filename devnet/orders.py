"""Signed payment orders between a devnet's banks, for load and measurements."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass

from node.chain.build import build_pay, gross_payment
from node.chain.genesis import Genesis
from node.chain.genesis_file import GenesisParticipant
from node.chain.signature import Signer
from node.chain.uetr import uetr_text

VALID_MS = 3_600_000
"""How long an order may wait, milliseconds."""
MAX_AMOUNT = 1_000_00
"""Minor units of one payment."""


@dataclass(frozen=True, slots=True)
class Order:
    """One signed instruction and the UETRs of its payments, as text."""

    raw: bytes
    uetrs: list[str]


def sign_order(
    genesis: Genesis, bank: GenesisParticipant, signer: Signer, size: int, rng: random.Random
) -> Order:
    """An instruction of `size` payments to other banks in one currency, with new UETRs."""
    others = [
        each.lei
        for each in genesis.participants
        if "direct-participant" in each.roles and each.lei != bank.lei
    ]
    issuer = genesis.participants[0].lei
    currencies = [asset.code for asset in genesis.assets if asset.issuer == issuer]
    currency = currencies[rng.randrange(len(currencies))]
    payments = [
        gross_payment(
            uuid.uuid4().bytes, bank.lei, rng.choice(others), currency, rng.randint(1, MAX_AMOUNT)
        )
        for _ in range(size)
    ]
    raw = build_pay(
        genesis.chain_id,
        bank.lei,
        uuid.uuid4().hex,
        int(time.time() * 1000) + VALID_MS,
        payments=payments,
        signers=[signer],
    )
    return Order(raw, [uetr_text(payment.uetr) for payment in payments])
