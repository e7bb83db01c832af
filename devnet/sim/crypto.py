"""Real Ed25519 votes at simulator speed: each signature is made and checked once per process.

Signing is deterministic and a check depends on its arguments alone, so remembering both changes
no run. The key is the whole argument list: a forged signature can never borrow a verdict.
"""

from __future__ import annotations

import hashlib
from functools import cache

from consensus.messages import VOTE_DOMAIN, Content, Kind, vote_payload
from node.chain.signature import Ed25519Signer, verify

CHAIN_ID = hashlib.sha256(b"nostro simulator chain").digest()

MAX_REMEMBERED = 200_000
"""Signatures, and verdicts, remembered by a process; then all are forgotten at once."""

_signatures: dict[tuple[int, int, bytes], bytes] = {}
_verdicts: dict[tuple[bytes, str, bytes, bytes], bool] = {}


@cache
def _signer(index: int, generation: int) -> Ed25519Signer:
    name = b"nostro simulator key %d" % index
    if generation:
        name += b", generation %d" % generation
    return Ed25519Signer(hashlib.sha256(name).digest())


@cache
def vote_key(index: int, generation: int) -> bytes:
    """The public vote key of a simulated machine; it has one of each generation, from 0."""
    return _signer(index, generation).public_key


def vote_keys(validators: int) -> tuple[bytes, ...]:
    """The first vote keys of the simulated machines 0 … n−1."""
    return tuple(vote_key(index, 0) for index in range(validators))


def sign(
    index: int, epoch: int, view: int, kind: Kind, content: Content | None, *, generation: int = 0
) -> bytes:
    """The signature of simulated machine `index` on a vote, guarded by nothing."""
    return _sign(index, generation, vote_payload(epoch, view, kind, content))


def _sign(index: int, generation: int, payload: bytes) -> bytes:
    known = _signatures.get((index, generation, payload))
    if known is None:
        if len(_signatures) >= MAX_REMEMBERED:
            _signatures.clear()
        known = _signer(index, generation).sign(VOTE_DOMAIN, CHAIN_ID, payload)
        _signatures[(index, generation, payload)] = known
    return known


class MemoisedSigner:
    """A simulated vote key as a node.chain signer, for the node's own guarded signer."""

    def __init__(self, index: int, generation: int = 0) -> None:
        self._index = index
        self._generation = generation
        self.public_key = vote_key(index, generation)

    def sign(self, domain: str, chain_id: bytes, payload: bytes) -> bytes:
        assert (domain, chain_id) == (VOTE_DOMAIN, CHAIN_ID)
        return _sign(self._index, self._generation, payload)


def verify_memoised(key: bytes, domain: str, payload: bytes, signature: bytes) -> bool:
    """The chain's verify function bound to the simulated chain, each question asked once."""
    question = (key, domain, payload, signature)
    known = _verdicts.get(question)
    if known is None:
        if len(_verdicts) >= MAX_REMEMBERED:
            _verdicts.clear()
        known = _verdicts[question] = verify(key, domain, CHAIN_ID, payload, signature)
    return known
