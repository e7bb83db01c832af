"""A small world with real keys: a central bank, two banks, four validators and their genesis.

Everything is derived from names, so that the same test always sees the same bytes. LEIs and BICs
carry valid check digits (the ledger demands them).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256

from node.chain.build import gross_payment
from node.chain.genesis import Genesis, dump_genesis, genesis_key, genesis_validator, load_genesis
from node.chain.genesis_file import GenesisAsset, GenesisParticipant
from node.chain.signature import Ed25519Signer
from node.chain.types import Payment, PaymentClass

NETWORK = "test"
GENESIS_TIME = 1_750_000_000_000
EUR = "EUR"
CNY = "CNY"


def signer(name: str) -> Ed25519Signer:
    """The key that belongs to this name."""
    return Ed25519Signer(sha256(b"nostro test key " + name.encode()).digest())


def lei(number: int) -> str:
    """A well-formed LEI (ISO 17442) with its ISO 7064 mod 97-10 check digits."""
    body = f"NOSTR0TEST{number:08d}"
    digits = "".join(str(int(c, 36)) for c in body + "00")
    return f"{body}{98 - int(digits) % 97:02d}"


def uetr(number: int) -> bytes:
    """A UUID version 4 that belongs to this number."""
    raw = bytearray(sha256(b"nostro test uetr %d" % number).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


@dataclass(frozen=True)
class Bank:
    """A participant with one key."""

    name: str
    lei: str
    bic: str
    roles: tuple[str, ...]

    @property
    def key(self) -> Ed25519Signer:
        return signer(self.name)


CENTRALBANK = Bank("CENTRALBANK", lei(0), "CBNKDEFF", ("issuer", "operator", "validator"))
BANKA = Bank("BANKA", lei(1), "BNKADEFF", ("direct-participant", "validator"))
BANKB = Bank("BANKB", lei(2), "BNKBCNSH", ("direct-participant", "validator"))
BANKC = Bank("BANKC", lei(3), "BNKCCNBJ", ("direct-participant", "validator"))
BANKS = (CENTRALBANK, BANKA, BANKB, BANKC)


def vote_signer(index: int) -> Ed25519Signer:
    return signer(f"vote {index}")


def node_signer(index: int) -> Ed25519Signer:
    return signer(f"node {index}")


@cache
def genesis_bytes(validators: int = 4) -> bytes:
    """The genesis file of this world."""
    return dump_genesis(
        network=NETWORK,
        devnet=True,
        time=GENESIS_TIME,
        assets=[GenesisAsset(EUR, 2, CENTRALBANK.lei), GenesisAsset(CNY, 2, CENTRALBANK.lei)],
        participants=[
            GenesisParticipant(
                bank.name,
                bank.lei,
                bank.bic,
                bank.roles,
                1,
                (genesis_key(bank.key, NETWORK, bank.lei),),
            )
            for bank in BANKS
        ],
        validators=[
            genesis_validator(
                f"node{index}",
                BANKS[index % len(BANKS)].lei,
                network=NETWORK,
                vote=vote_signer(index),
                node=node_signer(index),
            )
            for index in range(validators)
        ],
    )


@cache
def genesis(validators: int = 4) -> Genesis:
    return load_genesis(genesis_bytes(validators))


def payment(
    number: int,
    *,
    debtor: Bank = BANKA,
    creditor: Bank = BANKB,
    asset: str = EUR,
    amount: int = 125_000,
    latest: int | None = None,
) -> Payment:
    """A payment whose UETR belongs to `number`."""
    return gross_payment(
        uetr(number),
        debtor.lei,
        creditor.lei,
        asset,
        amount,
        payment_class=PaymentClass.CUSTOMER,
        latest=latest,
    )
