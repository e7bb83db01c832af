"""A certificate proves itself, or is refused with the reason."""

from __future__ import annotations

import pytest

from consensus.certificate import BadCertificate, assemble, check, votes_of
from consensus.messages import Certificate, Content, Kind, quorum
from tests.support.consensus_harness import Chain, Verifier

CHAIN = Chain(7)
BLOCK = CHAIN.block(3)
NOTARIZATION = CHAIN.notarization(BLOCK)


def changed(**fields: object) -> Certificate:
    values = {name: getattr(NOTARIZATION, name) for name in NOTARIZATION.__struct_fields__}
    return Certificate(**(values | fields))


def refused(certificate: Certificate, chain: Chain = CHAIN) -> str:
    with pytest.raises(BadCertificate) as caught:
        check(certificate, chain.keys, Verifier())
    return caught.value.reason


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("validators", [1, 2, 3, 4, 5, 7, 10])
def test_a_quorum_and_more_of_every_kind_is_accepted(kind: Kind, validators: int) -> None:
    chain = Chain(validators)
    content = None if kind is Kind.NULLIFY else Content(0, bytes(32))
    for signers in range(quorum(validators), validators + 1):
        check(chain.certificate(1, kind, content, range(signers)), chain.keys, Verifier())


@pytest.mark.parametrize("validators", [4, 5, 6, 7, 10])
def test_any_two_quorums_share_an_honest_validator(validators: int) -> None:
    faulty = (validators - 1) // 3
    assert 2 * quorum(validators) - validators > faulty


def test_one_signature_short_is_refused() -> None:
    short = changed(signatures=NOTARIZATION.signatures[1:])
    assert refused(short) == "fewer signatures than a quorum"


def test_a_signer_counted_twice_is_refused() -> None:
    twice = (*NOTARIZATION.signatures[1:], NOTARIZATION.signatures[-1])
    assert refused(changed(signatures=twice)) == "signers are not strictly ascending"


def test_signers_out_of_order_are_refused() -> None:
    swapped = tuple(reversed(NOTARIZATION.signatures))
    assert refused(changed(signatures=swapped)) == "signers are not strictly ascending"


def test_a_signer_outside_the_set_is_refused() -> None:
    stranger = (*NOTARIZATION.signatures[:-1], (7, bytes(64)))
    assert refused(changed(signatures=stranger)) == "a signer is not in the validator set"


@pytest.mark.parametrize("bit", [0, 100, 511])
def test_a_flipped_bit_in_a_signature_is_refused(bit: int) -> None:
    voter, signature = NOTARIZATION.signatures[2]
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8
    signatures = list(NOTARIZATION.signatures)
    signatures[2] = (voter, bytes(flipped))
    assert refused(changed(signatures=tuple(signatures))) == "a signature does not verify"


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 1},
        {"view": 4},
        {"kind": Kind.FINALIZE},
        {"content": Content(1, BLOCK.info.digest)},
        {"content": Content(0, bytes(32))},
    ],
)
def test_signatures_over_another_statement_are_refused(change: dict[str, object]) -> None:
    assert refused(changed(**change)) == "a signature does not verify"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"content": None}, "a notarize or finalize names a block"),
        ({"kind": Kind.NULLIFY}, "a nullify has no content"),
        ({"view": 0}, "nothing is voted on in view 0"),
        ({"content": Content(3, bytes(32))}, "the parent's view is not below the block's"),
    ],
)
def test_a_statement_that_cannot_be_is_refused_before_any_verification(
    change: dict[str, object], reason: str
) -> None:
    verifier = Verifier()
    with pytest.raises(BadCertificate, match=reason):
        check(changed(**change), CHAIN.keys, verifier)
    assert verifier.count == 0


def test_signatures_verified_before_are_not_verified_again() -> None:
    verifier = Verifier()
    known = dict(NOTARIZATION.signatures[:3])
    check(NOTARIZATION, CHAIN.keys, verifier, known)
    assert verifier.count == len(NOTARIZATION.signatures) - 3


def test_another_signature_than_the_one_known_is_verified() -> None:
    voter, _ = NOTARIZATION.signatures[0]
    forged = changed(signatures=((voter, bytes(64)), *NOTARIZATION.signatures[1:]))
    with pytest.raises(BadCertificate):
        check(forged, CHAIN.keys, Verifier(), dict(NOTARIZATION.signatures))


def test_a_certificate_is_assembled_in_order_of_signers_whatever_the_order_of_votes() -> None:
    votes = votes_of(NOTARIZATION)
    assert assemble(reversed(votes)) == NOTARIZATION
