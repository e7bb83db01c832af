"""Keys that sign checkpoints, and a chain's heads as somebody who verified them has them."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from node.audit.checkpoint import (
    Signed,
    StoredHistory,
    cosign,
    create_record,
    make_checkpoint,
    sign,
)
from node.audit.note import SIGNER, WITNESS, Checkpoint, NoteKey, origin_of, parse_note
from node.chain.genesis import Genesis
from node.chain.signature import Ed25519Signer
from tests.support import world
from tests.support.small_chain import SmallChain

NOW = 1_800_000_000
"""Seconds since the Unix epoch, of every cosignature here."""


def seed(name: str) -> bytes:
    return sha256(f"nostro test note key {name}".encode()).digest()


def signer_key(genesis: Genesis, who: str = "a") -> tuple[NoteKey, Ed25519Signer]:
    """A key that signs this chain's checkpoints."""
    signer = Ed25519Signer(seed(who))
    origin = origin_of(genesis.network, genesis.chain_id)
    return NoteKey(origin, SIGNER, signer.public_key), signer


def witness_key(name: str = "auditor.example/w1") -> tuple[NoteKey, Ed25519Signer]:
    signer = Ed25519Signer(seed(name))
    return NoteKey(name, WITNESS, signer.public_key), signer


def record(directory: Path, key: NoteKey) -> Path:
    """The key's record, made where there is none."""
    path = directory / f"{key.id.hex()}.signed"
    if not path.exists():
        create_record(path, key)
    return path


def signed_note(chain: SmallChain, directory: Path, height: int | None = None) -> bytes:
    """A checkpoint of this chain, signed."""
    key, signer = signer_key(chain.genesis)
    checkpoint = make_checkpoint(chain, chain.genesis, height)
    with Signed(record(directory, key), key) as signed:
        return sign(checkpoint, key=key, signer=signer, signed=signed, source=chain)


def cosigned(
    note: bytes,
    chain: SmallChain,
    directory: Path,
    name: str = "auditor.example/w1",
    genesis: Genesis | None = None,
) -> bytes:
    """The note cosigned by a witness whose own copy of the chain this is."""
    key, signer = witness_key(name)
    with Signed(record(directory, key), key) as signed:
        return cosign(
            parse_note(note),
            genesis or world.genesis(),
            key=key,
            signer=signer,
            signed=signed,
            history=StoredHistory(chain),
            clock=lambda: NOW,
        )


def unsigned_note(checkpoint: Checkpoint) -> bytes:
    """A note whose only signature is a stranger's and no signature at all."""
    return checkpoint.text + "\n— a.stranger AAAAAAA=\n".encode()
