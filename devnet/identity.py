"""Who takes part in a devnet: names, identifiers and keys, all determined by its seed.

Anyone who knows the seed has every key, so they are worth nothing outside a devnet: the
keystores and the genesis file are marked, and a production node refuses both.
"""

from __future__ import annotations

import hashlib

from node.chain.encoding import encode, framed

DEVNET_KEY = framed("nostro.devnet-key/1")
CENTRAL_BANK = "CENTRALBANK"
OPERATORS = (CENTRAL_BANK, "BANKA")
"""Who proposes and approves changes of the validators; both must."""
READINESS_MS = 5_000
"""How long a new epoch waits for the last of its members."""
PASSPHRASE = "devnet"
"""Of every devnet keystore: it protects nothing, and nothing there is worth protecting."""
MAX_BANKS = 200
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LEI_PREFIX = "NSTR00"
"""No issuer of LEIs has this prefix."""


def node_name(index: int) -> str:
    """`node0`, `node1`, …: also the order of the validator set."""
    return f"node{index}"


def bank_name(index: int) -> str:
    """`BANKA` … `BANKZ`, `BANKAA`, …"""
    suffix = LETTERS[index % 26]
    while index >= 26:
        index = index // 26 - 1
        suffix = LETTERS[index % 26] + suffix
    return f"BANK{suffix}"


def participant_names(banks: int) -> list[str]:
    """The central bank, then the banks."""
    return [CENTRAL_BANK, *(bank_name(index) for index in range(banks))]


def key_seed(seed: int, role: str, holder: str) -> bytes:
    """The 32-byte Ed25519 seed of a key; `role` is participant, vote or node."""
    return hashlib.sha256(DEVNET_KEY + encode((seed, role, holder))).digest()


def lei(name: str) -> str:
    """A Legal Entity Identifier (ISO 17442) that spells the name, with valid check digits."""
    body = (LEI_PREFIX + name).ljust(18, "0")
    assert len(body) == 18, f"{name} is too long for a devnet LEI"
    # ISO 7064 MOD 97-10: letters count as 10 … 35.
    number = int("".join(str(int(character, 36)) for character in body + "00"))
    return f"{body}{98 - number % 97:02d}"


def bic(index: int) -> str:
    """BIC (ISO 9362) of participant `index`; the 0 at its end is how test BICs are told."""
    letters = LETTERS[index // 676 % 26] + LETTERS[index // 26 % 26] + LETTERS[index % 26]
    return f"N{letters}DEF0"
