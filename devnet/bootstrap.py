"""The first money of a devnet, and the sample payment that shows that it settles."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from devnet import identity
from devnet.network import Network
from devnet.profiles import BOND, BOND_OPENING
from node.api.amounts import format_amount
from node.api.client import ApiClient
from node.api.problems import Problem
from node.api.service import PaymentView
from node.chain.build import build, build_pay, gross_payment
from node.chain.types import Issue, PostPrice

OPENING = 1_000_000_000_00
"""Minor units of each currency that each bank is issued."""
VALID_MS = 24 * 3600 * 1000
"""How long an instruction made here may wait."""
FINALITY_SECONDS = 60.0
"""How long the first payments may take; ordinarily it is a fraction of a second."""
SAMPLE_AMOUNT = 1_250_00
BOND_PRICE = 1_000_00
"""Minor units of the sample currency for one bond."""
BOND_HAIRCUT = 500
"""Basis points."""
SAMPLE_CURRENCY = "EUR"


class BootstrapFailed(Exception):
    """The nodes run but a first payment did not settle; the text says what is known."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The sample payment, settled."""

    view: PaymentView
    debtor: str
    creditor: str
    text: str
    """Amount and currency, for people."""
    latency_ms: float
    """From submission to known finality, here."""


def derived_uetr(network: Network, purpose: str) -> bytes:
    """A UETR determined by chain and purpose: an `up` that was interrupted and runs again asks
    for the very same payment, so that no bank is issued its opening balance twice."""
    raw = bytearray(hashlib.sha256(network.genesis.chain_id + purpose.encode()).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


async def issue_opening_balances(client: ApiClient, network: Network) -> list[PaymentView]:
    """Issue each bank its opening balances, unless that was done; returns once all are final.

    Raises BootstrapFailed, ApiError.
    """
    names = {each.lei: each.name for each in network.genesis.participants}
    # The same all day, for the same reason as the UETRs: byte for byte the same instruction.
    valid_until = (_now() // VALID_MS + 2) * VALID_MS
    wanted: dict[str, bytes] = {}
    for bank in network.banks:
        for asset in network.genesis.assets:
            purpose = f"opening-{bank.name}-{asset.code}"
            uetr = derived_uetr(network, purpose)
            wanted[str(uuid.UUID(bytes=uetr))] = build(
                network.genesis.chain_id,
                asset.issuer,
                purpose,
                valid_until,
                Issue(uetr, asset.code, bank.lei, BOND_OPENING if asset.code == BOND else OPENING),
                [network.signer(names[asset.issuer])],
            )
    if network.profile.bond:
        await _post_bond_price(client, network, valid_until)
    known = await client.lookup(list(wanted))
    missing = [raw for raw, view in zip(wanted.values(), known, strict=True) if view is None]
    if missing:
        _refuse_problems(await client.submit_batch(missing), "the opening balances")
    return [await _settled(client, uetr, "an opening balance") for uetr in wanted]


async def _post_bond_price(client: ApiClient, network: Network, valid_until: int) -> None:
    """Value the bond as collateral for credit in euros: at par, less five percent."""
    raw = build(
        network.genesis.chain_id,
        identity.lei(identity.CENTRAL_BANK),
        "bond-price",
        valid_until,
        PostPrice(BOND, SAMPLE_CURRENCY, BOND_PRICE, 1, BOND_HAIRCUT),
        [network.signer(identity.CENTRAL_BANK)],
    )
    _refuse_problems(await client.submit_batch([raw]), "the price of the bond")


async def sample_payment(client: ApiClient, network: Network) -> Sample:
    """Settle BANKA's sample payment to BANKB. Raises BootstrapFailed, ApiError."""
    debtor, creditor = network.genesis.participants[1:3]
    asset = next(a for a in network.genesis.assets if a.code == SAMPLE_CURRENCY)
    uetr = uuid.uuid4()
    payment = gross_payment(
        uetr.bytes,
        debtor.lei,
        creditor.lei,
        asset.code,
        SAMPLE_AMOUNT,
    )
    raw = build_pay(
        network.genesis.chain_id,
        debtor.lei,
        uetr.hex,
        _now() + VALID_MS,
        payments=[payment],
        signers=[network.signer(debtor.name)],
    )
    started = time.monotonic()
    await client.submit(raw)
    view = await _settled(client, str(uetr), "the sample payment")
    latency = (time.monotonic() - started) * 1000
    text = f"{format_amount(SAMPLE_AMOUNT, asset.exponent)} {asset.code}"
    return Sample(view, debtor.name, creditor.name, text, latency)


async def _settled(client: ApiClient, uetr: str, what: str) -> PaymentView:
    view = await client.payment(uetr, wait=FINALITY_SECONDS)
    if view is None:
        raise BootstrapFailed(
            f"{what} ({uetr}) was not final within {FINALITY_SECONDS:.0f} s; the nodes' logs tell "
            "whether they agree, and `nostro devnet status` whether they see each other"
        )
    if view.status != "settled":
        raise BootstrapFailed(f"{what} ({uetr}) is {view.status} with reason {view.reason}")
    return view


def _refuse_problems(answers: Sequence[object], what: str) -> None:
    for answer in answers:
        # Executed before: its outcome is asked for next.
        if isinstance(answer, Problem) and answer.outcome != "final":
            raise BootstrapFailed(f"{what} were refused ({answer.code}): {answer.detail}")


def _now() -> int:
    return int(time.time() * 1000)
