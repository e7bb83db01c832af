"""The one place where signatures are made and checked.

Ed25519 (RFC 8032) as libsodium verifies it. Over the 914 published edge-case signatures of
C2SP/CCTV, libsodium accepts the 43 that OpenSSL and ZIP-215 accept too: what is accepted here,
no verifier anywhere will later refuse, which non-repudiation needs. Libraries differ in exactly
these cases and builds can be configured otherwise, so a process runs `self_check` before it
trusts any signature.

A signature covers the suite, a domain (what kind of thing is signed), the chain id and the
canonical bytes: one that was made for a vote, another chain or another key type never counts
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

from node.chain.encoding import encode

SUITE = ("nostro-signature/1", "ed25519")
"""Signature format and algorithm; the first two elements of every signed array."""

INSTRUCTION_DOMAIN = "nostro.instruction/1"
"""Payload: encode(Envelope)."""
RECEIPT_DOMAIN = "nostro.receipt/1"
"""Payload: encode(ReceiptBody)."""
POSSESSION_DOMAIN = "nostro.possession/1"
"""Payload: `possession_payload`."""

KEY_BYTES = 32
SEED_BYTES = 32
SIGNATURE_BYTES = 64

NO_CHAIN = bytes(32)
"""Stands for the chain id in the possession proofs of genesis keys: the chain id is the digest of
the file that holds them. Their holder names the network instead."""

ROLE_PARTICIPANT = "participant"
ROLE_VOTE = "vote"
ROLE_NODE = "node"


class BadKey(ValueError):
    """A public key that must not be registered; the text says why."""


class UnsafeLibsodium(RuntimeError):
    """This libsodium decides published edge cases otherwise than the chain's rules demand."""


class Signer(Protocol):
    """Someone who signs with one key: a key file now, a PKCS#11 token later."""

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key."""

    def sign(self, domain: str, chain_id: bytes, payload: bytes) -> bytes:
        """The 64-byte signature over `preimage(domain, chain_id, payload)`."""


class Ed25519Signer:
    """A signer that holds its key in memory."""

    __slots__ = ("_secret", "public_key")

    def __init__(self, seed: bytes) -> None:
        """`seed`: the 32-byte private key of RFC 8032."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
        self.public_key: bytes
        self.public_key, self._secret = crypto_sign_seed_keypair(seed)

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.public_key.hex()})"

    def sign(self, domain: str, chain_id: bytes, payload: bytes) -> bytes:
        """The 64-byte signature over `preimage(domain, chain_id, payload)`."""
        signed: bytes = crypto_sign(preimage(domain, chain_id, payload), self._secret)
        return signed[:SIGNATURE_BYTES]

    def sign_note(self, text: bytes) -> bytes:
        """The 64-byte signature over the plain text of a note (c2sp.org/signed-note), which no
        domain stands before: only for keys that sign nothing else."""
        signed: bytes = crypto_sign(text, self._secret)
        return signed[:SIGNATURE_BYTES]


def preimage(domain: str, chain_id: bytes, payload: bytes) -> bytes:
    """The bytes that a signature covers."""
    return encode((*SUITE, domain, chain_id, payload))


def verify(
    public_key: bytes, domain: str, chain_id: bytes, payload: bytes, signature: bytes
) -> bool:
    """Whether `signature` is `public_key`'s over this payload. Never raises on bad bytes.

    Keys of low order and non-canonical encodings of key or signature give False.
    """
    return verify_bytes(public_key, preimage(domain, chain_id, payload), signature)


Verify = Callable[[bytes, str, bytes, bytes, bytes], bool]
"""`verify`, or what puts it off: (public key, domain, chain id, payload, signature)."""


def verify_bytes(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Plain Ed25519 over `message`. For `verify` and published vectors; call `verify` instead."""
    # PyNaCl hands the key to C without looking at its length: a short one would be read past
    # its end.
    if len(public_key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


def check_public_key(public_key: bytes) -> None:
    """Raise BadKey unless the key is a canonical point of the prime-order subgroup.

    A key with a low-order component verifies with some libraries and not with others, and has
    several encodings that act as one key; such keys never enter the ledger.
    """
    if len(public_key) != KEY_BYTES:
        raise BadKey(f"a public key has {KEY_BYTES} bytes, not {len(public_key)}")
    if not crypto_core_ed25519_is_valid_point(public_key):
        raise BadKey(
            f"{public_key.hex()} is not a canonical Ed25519 point of the prime-order subgroup"
        )


def possession_payload(role: str, holder: str, public_key: bytes) -> bytes:
    """What a new key signs to show that its holder has it (RFC 4211's proof of possession).

    Bound to role and holder, so that nobody registers somebody else's key as their own.
    """
    return encode((role, holder, public_key))


def genesis_holder(network: str, lei: str) -> str:
    """The holder named in the possession proof of a key in the genesis file."""
    return f"{network}/{lei}"


def prove_possession(signer: Signer, role: str, holder: str, chain_id: bytes) -> bytes:
    """The possession proof of the signer's own key; 64 bytes."""
    payload = possession_payload(role, holder, signer.public_key)
    return signer.sign(POSSESSION_DOMAIN, chain_id, payload)


def check_possession(
    public_key: bytes, role: str, holder: str, chain_id: bytes, possession: bytes
) -> None:
    """Raise BadKey unless the key is sound and its possession was proven for role and holder."""
    check_public_key(public_key)
    payload = possession_payload(role, holder, public_key)
    if not verify(public_key, POSSESSION_DOMAIN, chain_id, payload, possession):
        raise BadKey(
            f"{public_key.hex()} has no valid proof of possession as {role} key of {holder}"
        )


_EDGE_CASES: tuple[tuple[str, bool, str, str, str], ...] = (
    # What it shows, whether it is valid, key, message, signature.
    (
        "an ordinary signature (RFC 8032, 7.1, test 2)",
        True,
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "the same with S + L: one signature, two encodings",
        False,
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "f52db7415978abc61b2c2eb6aeebfca0387b2eaeb4302aeeb00d291612bb0c10",
    ),
    (
        "a mixed-order key, cofactorless equation satisfied (CCTV 50)",
        True,
        "10eb7c3acfb2bed3e0d6ab89bf5a3d6afddd1176ce4812e38d9fd485058fdb1f",
        "65643235353139766563746f72732035",
        "b62cf890de42c413b11b1411c9f01f1c4d77aa87ef182258d1251f69af2a3506"
        "08f32d206a7c0b7efa9a59e66546e8f1f599ef843fb502c9cc3c4ae8b7c11e05",
    ),
    (
        "a signature that only the cofactored equation accepts (CCTV 51)",
        False,
        "10eb7c3acfb2bed3e0d6ab89bf5a3d6afddd1176ce4812e38d9fd485058fdb1f",
        "65643235353139766563746f72732033",
        "b62cf890de42c413b11b1411c9f01f1c4d77aa87ef182258d1251f69af2a3506"
        "030b03796b78f7afeadfccaedc9d09ce6d487d1ece1f16b1ae2b59b7e5c40603",
    ),
    (
        "a key of low order (CCTV 303)",
        False,
        "0100000000000000000000000000000000000000000000000000000000000000",
        "65643235353139766563746f72732035",
        "b62cf890de42c413b11b1411c9f01f1c4d77aa87ef182258d1251f69af2a3506"
        "05ba9a796274d80437afa36f1236563f2f3b0aa84cecddc3d20914615ba4fe02",
    ),
    (
        "an R of low order (CCTV 304)",
        False,
        "ef75b20e7540e3dff77404193652ba2bd13df99c1508eee1515e27ae25f28076",
        "65643235353139766563746f72732037",
        "0100000000000000000000000000000000000000000000000000000000000000"
        "330b30d6c1f07511e2208d233b6a34d4ed7109da2dea615bcd97daee3a842704",
    ),
    (
        "a non-canonical key (CCTV 307)",
        False,
        "0100000000000000000000000000000000000000000000000000000000000080",
        "65643235353139766563746f72732031",
        "b62cf890de42c413b11b1411c9f01f1c4d77aa87ef182258d1251f69af2a3506"
        "05ba9a796274d80437afa36f1236563f2f3b0aa84cecddc3d20914615ba4fe02",
    ),
    (
        "a non-canonical R (CCTV 316)",
        False,
        "ef75b20e7540e3dff77404193652ba2bd13df99c1508eee1515e27ae25f28076",
        "65643235353139766563746f72732035",
        "0100000000000000000000000000000000000000000000000000000000000080"
        "2d32f9eeccaa31dba2ff4ab4e196b61e2ee1648073bbb5f599dcff4f7ea02900",
    ),
)


_UNSOUND_KEYS = (
    _EDGE_CASES[2][2],  # mixed order
    _EDGE_CASES[4][2],  # low order
    _EDGE_CASES[6][2],  # not canonical
)


def self_check() -> None:
    """Raise UnsafeLibsodium unless this build decides known edge cases as the chain demands."""
    for what, valid, key, message, signature in _EDGE_CASES:
        found = verify_bytes(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))
        if found is not valid:
            raise UnsafeLibsodium(
                f"libsodium {'accepts' if found else 'refuses'} {what}; install the PyNaCl wheel "
                "of the lock file instead of a build against a system library"
            )
    for key in _UNSOUND_KEYS:
        try:
            check_public_key(bytes.fromhex(key))
        except BadKey:
            continue
        raise UnsafeLibsodium(f"libsodium takes {key} for a sound public key")
