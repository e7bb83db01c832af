"""A signature counts for one key, domain, chain and payload, and for nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.chain.signature import (
    NO_CHAIN,
    BadKey,
    Ed25519Signer,
    check_possession,
    preimage,
    prove_possession,
    verify,
)
from tests.support import world
from tests.support.wire import flipped

CHAIN = bytes(range(32))
KEY = world.signer("a key")


def test_a_signature_verifies_and_signing_again_gives_the_same_bytes() -> None:
    signature = KEY.sign("nostro.test/1", CHAIN, b"payload")
    assert verify(KEY.public_key, "nostro.test/1", CHAIN, b"payload", signature)
    assert KEY.sign("nostro.test/1", CHAIN, b"payload") == signature


def test_a_signature_never_counts_for_another_domain_chain_payload_or_key() -> None:
    signature = KEY.sign("nostro.test/1", CHAIN, b"payload")
    other = world.signer("another key").public_key
    assert not verify(KEY.public_key, "nostro.test/2", CHAIN, b"payload", signature)
    assert not verify(KEY.public_key, "nostro.test/1", bytes(32), b"payload", signature)
    assert not verify(KEY.public_key, "nostro.test/1", CHAIN, b"payloae", signature)
    assert not verify(other, "nostro.test/1", CHAIN, b"payload", signature)


def test_no_flipped_bit_of_signature_or_key_verifies() -> None:
    signature = KEY.sign("nostro.test/1", CHAIN, b"payload")
    for changed in flipped(signature):
        assert not verify(KEY.public_key, "nostro.test/1", CHAIN, b"payload", changed)
    for changed in flipped(KEY.public_key):
        assert not verify(changed, "nostro.test/1", CHAIN, b"payload", signature)


@given(st.binary(max_size=100), st.binary(max_size=70), st.binary(max_size=100))
@settings(max_examples=100)
def test_no_bytes_make_verify_raise(key: bytes, signature: bytes, payload: bytes) -> None:
    assert verify(key, "nostro.test/1", CHAIN, payload, signature) is False


@given(
    st.tuples(st.text(max_size=8), st.binary(max_size=8), st.binary(max_size=8)),
    st.tuples(st.text(max_size=8), st.binary(max_size=8), st.binary(max_size=8)),
)
def test_two_different_things_never_have_the_same_preimage(
    one: tuple[str, bytes, bytes], other: tuple[str, bytes, bytes]
) -> None:
    assert (preimage(*one) == preimage(*other)) is (one == other)


def test_possession_is_bound_to_key_role_holder_and_chain() -> None:
    proof = prove_possession(KEY, "vote", "test/LEI", NO_CHAIN)
    check_possession(KEY.public_key, "vote", "test/LEI", NO_CHAIN, proof)
    wrong: list[tuple[bytes, str, str, bytes]] = [
        (world.signer("another key").public_key, "vote", "test/LEI", NO_CHAIN),
        (KEY.public_key, "node", "test/LEI", NO_CHAIN),
        (KEY.public_key, "vote", "test/ANOTHER", NO_CHAIN),
        (KEY.public_key, "vote", "test/LEI", CHAIN),
    ]
    for key, role, holder, chain in wrong:
        with pytest.raises(BadKey, match="no valid proof of possession"):
            check_possession(key, role, holder, chain, proof)


def test_a_low_order_key_is_refused_whatever_its_possession_proof() -> None:
    with pytest.raises(BadKey, match="prime-order"):
        check_possession(b"\x01" + bytes(31), "vote", "test/LEI", NO_CHAIN, bytes(64))


def test_a_seed_of_another_length_is_refused_and_no_text_form_shows_the_secret() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Ed25519Signer(bytes(31))
    seed = b"\x5a" * 32
    assert seed.hex() not in repr(Ed25519Signer(seed))
