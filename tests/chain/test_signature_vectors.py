"""Published vectors: this verifier accepts exactly what the chain's rules say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node.chain.signature import BadKey, check_public_key, self_check, verify_bytes

VECTORS = Path(__file__).parent.parent / "vectors"

ACCEPTED_FLAGS = {
    # CCTV: what is accepted satisfies the cofactorless equation with a key that is canonical and
    # not of low order.
    (),
    ("low_order_component_A",),
    ("low_order_component_R", "low_order_component_A"),
}


def wycheproof() -> list[tuple[str, dict[str, Any]]]:
    document = json.loads((VECTORS / "wycheproof_ed25519.json").read_text())
    tests = [
        (group["publicKey"]["pk"], test)
        for group in document["testGroups"]
        for test in group["tests"]
    ]
    assert len(tests) == document["numberOfTests"] == 151
    return tests


def cctv() -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((VECTORS / "cctv_ed25519.json").read_text())
    assert len(vectors) == 914
    return vectors


def test_every_wycheproof_result_is_matched() -> None:
    assert {test["result"] for _, test in wycheproof()} == {"valid", "invalid"}
    for key, test in wycheproof():
        accepted = verify_bytes(
            bytes.fromhex(key), bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
        )
        assert accepted is (test["result"] == "valid"), test


def test_of_the_914_edge_points_exactly_libsodiums_43_are_accepted() -> None:
    accepted = [
        v
        for v in cctv()
        if verify_bytes(bytes.fromhex(v["key"]), v["msg"].encode(), bytes.fromhex(v["sig"]))
    ]
    assert len(accepted) == 43
    assert {tuple(v["flags"] or ()) for v in accepted} == ACCEPTED_FLAGS
    # And nothing with these flags is refused: the rule is the flags, not a list.
    allowed = [v for v in cctv() if tuple(v["flags"] or ()) in ACCEPTED_FLAGS]
    assert allowed == accepted


def test_keys_of_low_order_mixed_order_or_odd_encoding_are_not_registered() -> None:
    sound = set()
    for key in {v["key"] for v in cctv()}:
        try:
            check_public_key(bytes.fromhex(key))
        except BadKey:
            continue
        sound.add(key)
    # The one prime-order point among them.
    assert sound == {"ef75b20e7540e3dff77404193652ba2bd13df99c1508eee1515e27ae25f28076"}


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_of_another_length_is_refused_and_never_read_past_its_end(length: int) -> None:
    with pytest.raises(BadKey, match="32 bytes"):
        check_public_key(bytes(length))
    assert verify_bytes(bytes(length), b"message", bytes(64)) is False


@pytest.mark.parametrize("length", [0, 1, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    key = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    assert verify_bytes(key, b"message", bytes(length)) is False


def test_this_libsodium_passes_the_start_up_check() -> None:
    self_check()
