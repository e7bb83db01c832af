"""The golden checkpoint: fixed keys, fixed content, fixed bytes.

`python -m tests.support.golden_notes` prints the vector of docs/reference/checkpoints.md. Ed25519
is deterministic (RFC 8032), so whoever writes these formats anew comes to the same bytes.
"""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from node.audit.note import (
    SIGNER,
    WITNESS,
    Checkpoint,
    Note,
    NoteKey,
    NoteSignature,
    cosigned_message,
    origin_of,
)
from node.chain.signature import Ed25519Signer

SIGNER_SEED = sha256(b"nostro golden signer").digest()
WITNESS_SEED = sha256(b"nostro golden witness").digest()
TIME = 1_800_000_000
CHECKPOINT = Checkpoint(
    origin_of("example-net", sha256(b"nostro golden chain").digest()),
    1234,
    sha256(b"nostro golden root").digest(),
    sha256(b"nostro golden block").digest(),
)


class Golden(NamedTuple):
    """A signed and cosigned checkpoint, and its keys."""

    cosigned: bytes
    signer: NoteKey
    witness: NoteKey


def golden() -> Golden:
    """Made anew."""
    first, second = Ed25519Signer(SIGNER_SEED), Ed25519Signer(WITNESS_SEED)
    signer = NoteKey(CHECKPOINT.origin, SIGNER, first.public_key)
    witness = NoteKey("auditor.example/nostro", WITNESS, second.public_key)
    text = CHECKPOINT.text
    over = TIME.to_bytes(8, "big") + second.sign_note(cosigned_message(text, TIME))
    signatures = (
        NoteSignature(signer.name, signer.id, first.sign_note(text)),
        NoteSignature(witness.name, witness.id, over),
    )
    return Golden(Note(text, signatures).data, signer, witness)


def page() -> str:
    """The vector as it stands in the reference page."""
    made = golden()
    return (
        f"signer seed   {SIGNER_SEED.hex()}\n"
        f"signer vkey   {made.signer.text}\n"
        f"witness seed  {WITNESS_SEED.hex()}\n"
        f"witness vkey  {made.witness.text}\n"
        f"witness time  {TIME}\n"
        f"SHA-256       {sha256(made.cosigned).hexdigest()}\n"
        "\n"
        f"{made.cosigned.decode()}"
    )


if __name__ == "__main__":
    print(page(), end="")
