"""Every single change to a dossier is caught, by the check that exists for it.

The forgeries are made by a forger who holds all keys and differ from a sound dossier in one
respect only: no other check may notice them, so each check is shown to be needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from consensus.messages import Kind
from node.audit.dossier import Ancestry, Dossier
from node.audit.report import INVALID, VALID
from node.audit.verify import CHECKS
from node.chain.block import header_digest
from node.chain.encoding import encode
from node.chain.instruction import payment_digest
from node.chain.records import KeyRecord
from node.chain.types import Issue, Pay, Redeem, RevokeKey, SignedEnvelope
from tests.support import forge, world
from tests.support.dossiers import (
    GENESIS,
    authority,
    checked,
    dossier,
    failures,
    finality,
    part,
    receipt,
    with_payment,
)
from tests.support.small_chain import finalization
from tests.support.world import BANKA, BANKB, EUR

SECOND = world.signer("second key")


def with_certificate(**options: Any) -> Dossier:
    """Dossier 20 with another certificate for the same block."""
    sound = dossier(20)
    return forge.finalized(sound, sound.header, **options)


def with_signatures(change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Dossier:
    """Dossier 20 with other signatures in its certificate."""
    sound = dossier(20)
    assert sound.finality is not None
    certificate = sound.finality.certificate
    changed = replace(certificate, signatures=change(certificate.signatures))
    return replace(sound, finality=replace(sound.finality, certificate=changed))


def with_later(**fields: Any) -> Dossier:
    """Dossier 6 with another later header, finalized."""
    sound = dossier(6)
    assert sound.finality is not None
    later = sound.finality.later
    assert later is not None
    header = replace(later.header, **fields)
    certificate = finalization(
        header_digest(header), view=header.view, parent_view=0, epoch=header.epoch
    )
    return replace(
        sound,
        finality=replace(
            sound.finality, certificate=certificate, later=Ancestry(header, later.path)
        ),
    )


def with_later_path(change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> Dossier:
    sound = dossier(6)
    assert sound.finality is not None
    later = sound.finality.later
    assert later is not None
    return replace(
        sound, finality=replace(sound.finality, later=replace(later, path=change(later.path)))
    )


def with_parent(**fields: Any) -> Dossier:
    sound = dossier(20)
    assert sound.authority is not None
    authority = replace(sound.authority, parent=replace(sound.authority.parent, **fields))
    return replace(sound, authority=authority)


def with_sender(**fields: Any) -> Dossier:
    """Dossier 20 on a state in which the sender's record has other fields."""
    sound = dossier(20)
    assert sound.authority is not None
    return forge.rebuilt(sound, sender=replace(sound.authority.sender, **fields))


def with_key(valid_from: int, revoked_from: int | None) -> Dossier:
    return with_sender(keys=(KeyRecord(BANKA.key.public_key, valid_from, revoked_from),))


def with_bad_signature(*, domain: str = "nostro.instruction/1", chain: bytes = b"") -> Dossier:
    sound = dossier(20)
    signed = sound.signed
    signature = BANKA.key.sign(domain, chain or GENESIS.chain_id, encode(signed.envelope))
    forged = replace(signed.signatures[0], signature=signature)
    return forge.rebuilt(sound, signed=SignedEnvelope(signed.envelope, (forged,)))


def signed_by(*signers: Any, order: int = 1) -> Dossier:
    """Dossier 20 signed anew; the record knows both keys, and asks for one."""
    signed = forge.sign(dossier(20).signed.envelope, *signers)
    return forge.rebuilt(
        with_sender(keys=both_keys()),
        signed=SignedEnvelope(signed.envelope, signed.signatures[::order]),
        sender=with_sender_record(keys=both_keys()),
    )


def with_sender_record(**fields: Any) -> Any:
    authority = dossier(20).authority
    assert authority is not None
    return replace(authority.sender, **fields)


def both_keys() -> tuple[KeyRecord, ...]:
    keys = sorted((BANKA.key.public_key, SECOND.public_key))
    return tuple(KeyRecord(key, 0, None) for key in keys)


def paying(payment: Any, *, count: int = 1, **outcome: Any) -> Dossier:
    """A block with one order to make this payment."""
    sound = dossier(20)
    body = Pay(count, payment_digest(payment), False)
    return forge.rebuilt(
        sound,
        signed=forge.ordered(sound, body),
        payment=forge.single(sound, payment),
        outcome={"uetr": payment.uetr} | outcome,
    )


def with_payment_path(change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> Dossier:
    found = part(6)
    place = replace(found.place, path=change(found.place.path))
    return replace(dossier(6), payment=replace(found, place=place))


def moving_no_money() -> Dossier:
    sound = replace(dossier(20), payment=None)
    revoke = forge.ordered(sound, RevokeKey(bytes(32)))
    return forge.rebuilt(sound, signed=revoke, outcome={"uetr": None})


def payment_beside_an_issue() -> Dossier:
    sound = dossier(20)
    found = part(20).payment
    issue = Issue(found.uetr, found.asset, found.creditor, found.amount)
    return forge.rebuilt(
        sound, signed=forge.ordered(sound, issue), payment=forge.single(sound, found)
    )


def supplied(body: Issue | Redeem) -> Dossier:
    """A block with BANKA's order to change the supply of money, executed."""
    sound = replace(dossier(20), payment=None)
    return forge.rebuilt(sound, signed=forge.ordered(sound, body))


def of_place(field: str, number: int, **fields: Any) -> Dossier:
    sound = dossier(number)
    return replace(sound, **{field: replace(getattr(sound, field), **fields)})


def outcome_of_another_payment() -> Dossier:
    other = dossier(5)
    return replace(dossier(6), outcome=other.outcome, outcome_place=other.outcome_place)


FLIPPED = bytes((1,)) + bytes(31)
OTHER_CHAIN = bytes(32)

SOLE: dict[str, tuple[str, Callable[[], Dossier]]] = {
    "another chain's block": (
        "chain",
        lambda: forge.changed_header(dossier(20), chain_id=OTHER_CHAIN),
    ),
    "another chain's instruction": (
        "chain",
        lambda: forge.rebuilt(
            dossier(20),
            signed=forge.sign(
                replace(dossier(20).signed.envelope, chain_id=OTHER_CHAIN), BANKA.key
            ),
        ),
    ),
    "rules of another version": ("chain", lambda: forge.changed_header(dossier(20), version=9)),
    "a block of another validator set": (
        "validators",
        lambda: forge.changed_header(dossier(20), validator_set=FLIPPED),
    ),
    "a block of another epoch": ("validators", lambda: forge.changed_header(dossier(20), epoch=1)),
    "a notarization": ("finality", lambda: with_certificate(kind=Kind.NOTARIZE)),
    "another epoch's certificate": ("finality", lambda: with_certificate(epoch=1)),
    "another view's certificate": (
        "finality",
        lambda: with_certificate(view=dossier(20).header.view + 1),
    ),
    "another parent view": ("finality", lambda: with_certificate(parent_view=1)),
    "another chain's certificate": ("finality", lambda: with_certificate(chain_id=OTHER_CHAIN)),
    "a quorum one short": ("finality", lambda: with_certificate(signers=(0, 1))),
    "a signer counted twice": ("finality", lambda: with_certificate(signers=(0, 1, 1))),
    "signers out of order": ("finality", lambda: with_certificate(signers=(0, 2, 1))),
    "a signer from outside the set": ("finality", lambda: with_certificate(signers=(0, 1, 4))),
    "a certificate with two signatures swapped": (
        "finality",
        lambda: with_signatures(lambda s: ((0, s[1][1]), (1, s[0][1]), s[2])),
    ),
    "a certificate with one more, false signature": (
        "finality",
        lambda: with_signatures(lambda s: (*s, (3, s[2][1]))),
    ),
    "a certificate for another block": (
        "finality",
        lambda: replace(dossier(20), finality=finality(30)),
    ),
    "a later block of another epoch": ("ancestry", lambda: with_later(epoch=1)),
    "a later block of another chain": ("ancestry", lambda: with_later(chain_id=OTHER_CHAIN)),
    "a later block with another history": (
        "ancestry",
        lambda: with_later(history_root=FLIPPED),
    ),
    "a later block of lower height": ("ancestry", lambda: with_later(height=2)),
    "a block that history does not hold": (
        "ancestry",
        lambda: replace(dossier(6), header=replace(dossier(6).header, proposer=99)),
    ),
    "a history path one short": ("ancestry", lambda: with_later_path(lambda p: p[:-1])),
    "a history path one over": ("ancestry", lambda: with_later_path(lambda p: (*p, FLIPPED))),
    "a history path reordered": ("ancestry", lambda: with_later_path(lambda p: p[::-1])),
    "a signature for another purpose": (
        "signatures",
        lambda: with_bad_signature(domain="nostro.receipt/1"),
    ),
    "a signature for another chain": (
        "signatures",
        lambda: with_bad_signature(chain=OTHER_CHAIN),
    ),
    "one key signing twice": ("signatures", lambda: signed_by(BANKA.key, BANKA.key)),
    "signatures out of order": ("signatures", lambda: signed_by(BANKA.key, SECOND, order=-1)),
    "a stranger's key": (
        "authority",
        lambda: forge.rebuilt(
            dossier(20), signed=forge.sign(dossier(20).signed.envelope, BANKB.key)
        ),
    ),
    "a key not yet valid": ("authority", lambda: with_key(dossier(20).header.height + 1, None)),
    "a key already revoked": ("authority", lambda: with_key(0, dossier(20).header.height)),
    "one signature where two are asked": ("authority", lambda: with_sender(threshold=2)),
    "a parent that this block does not have": (
        "authority",
        lambda: with_parent(timestamp=world.GENESIS_TIME),
    ),
    "a parent of the same height": (
        "authority",
        lambda: forge.changed_header(
            with_parent(height=4), parent=header_digest(replace(authority(20).parent, height=4))
        ),
    ),
    "a record that the state does not hold": (
        "authority",
        lambda: replace(
            dossier(20),
            authority=replace(authority(20), sender=with_sender_record(name="MALLORY")),
        ),
    ),
    "a state proof with an unused element": (
        "authority",
        lambda: replace(
            dossier(20),
            authority=replace(
                authority(20),
                proof=replace(
                    authority(20).proof, siblings=(*authority(20).proof.siblings, FLIPPED)
                ),
            ),
        ),
    ),
    "another amount": ("payment", lambda: with_payment(amount=1)),
    "another creditor": ("payment", lambda: with_payment(creditor=world.lei(3))),
    "a payment path one short": ("payment", lambda: with_payment_path(lambda p: p[:-1])),
    "a payment path one over": ("payment", lambda: with_payment_path(lambda p: (*p, FLIPPED))),
    "a payment path reordered": ("payment", lambda: with_payment_path(lambda p: p[::-1])),
    "more payments signed than the path shows": (
        "payment",
        lambda: paying(part(20).payment, count=2),
    ),
    "a reference that is no UETR": (
        "payment",
        lambda: paying(replace(part(20).payment, uetr=bytes(16))),
    ),
    "an order that moves no money": ("payment", moving_no_money),
    "a payment beside an issue": ("payment", payment_beside_an_issue),
    "another's money paid": (
        "payment",
        lambda: paying(replace(part(20).payment, debtor=BANKB.lei)),
    ),
    "money issued by another than the asset's issuer": (
        "payment",
        lambda: supplied(Issue(part(20).payment.uetr, EUR, BANKA.lei, 1)),
    ),
    "money redeemed by another than the asset's issuer": (
        "payment",
        lambda: supplied(Redeem(part(20).payment.uetr, EUR, 1)),
    ),
    "an instruction at another index": (
        "instruction",
        lambda: of_place("instruction", 40, path=dossier(1003).instruction.path),
    ),
    "an instruction path with an unused element": (
        "instruction",
        lambda: of_place("instruction", 20, path=(*dossier(20).instruction.path, FLIPPED)),
    ),
    "another count of instructions": (
        "instruction",
        lambda: forge.changed_header(dossier(20), instructions_count=7),
    ),
    "an outcome path with an unused element": (
        "outcome",
        lambda: of_place("outcome_place", 20, path=(*dossier(20).outcome_place.path, FLIPPED)),
    ),
    "an outcome at another index": ("outcome", lambda: of_place("outcome_place", 20, index=0)),
    "another count of outcomes": (
        "outcome",
        lambda: forge.changed_header(dossier(20), outcomes_count=9),
    ),
    "a rejection turned into a settlement": (
        "outcome",
        lambda: of_place("outcome", 10, status="ACSC", reason=None),
    ),
    "a status that no one knows": (
        "outcome",
        lambda: forge.rebuilt(dossier(40), outcome={"status": "ACTC"}),
    ),
    "the outcome of another payment": ("link", outcome_of_another_payment),
    "an outcome of another height": (
        "link",
        lambda: forge.rebuilt(dossier(40), outcome={"height": 5}),
    ),
    "an outcome of another time": ("link", lambda: forge.rebuilt(dossier(40), outcome={"time": 5})),
    "an outcome of another instruction": (
        "link",
        lambda: forge.rebuilt(dossier(40), outcome={"instruction": 1}),
    ),
    "an outcome of another payment index": (
        "link",
        lambda: forge.rebuilt(dossier(40), outcome={"payment": 1}),
    ),
    "an outcome under another UETR": (
        "link",
        lambda: forge.rebuilt(dossier(40), outcome={"uetr": world.uetr(41)}),
    ),
    "a receipt for another instruction": (
        "receipt",
        lambda: replace(dossier(6), receipt=receipt(dossier(6), instruction=FLIPPED)),
    ),
    "a receipt of an unknown node": (
        "receipt",
        lambda: replace(
            dossier(6),
            receipt=receipt(
                dossier(6),
                node=world.signer("mallory").public_key,
                signer=world.signer("mallory"),
            ),
        ),
    ),
    "a receipt signed by another node": (
        "receipt",
        lambda: replace(dossier(6), receipt=receipt(dossier(6), signer=world.node_signer(1))),
    ),
}


@pytest.mark.parametrize("forgery", SOLE)
def test_a_forgery_is_caught_by_the_check_that_exists_for_it_and_by_no_other(forgery: str) -> None:
    check, make = SOLE[forgery]
    report = checked(make())
    assert failures(report) == [check], report.text()
    assert (report.verdict, report.exit_code, report.status) == (INVALID, 1, None)


def test_every_check_is_the_only_one_to_catch_something() -> None:
    # What only later epochs have is in test_epoch_dossiers.
    assert {check for check, _ in SOLE.values()} == {name for name, _ in CHECKS} - {"seals"}


def test_the_forgers_tools_make_sound_dossiers_when_nothing_is_changed() -> None:
    for sound in (
        forge.changed_header(dossier(20)),
        forge.rebuilt(dossier(40)),
        with_later(),
        with_sender(),
        with_certificate(signers=(0, 1, 2, 3)),
        with_certificate(signers=(1, 2, 3)),
        signed_by(BANKA.key, SECOND),
        paying(part(20).payment),
        replace(dossier(6), receipt=receipt(dossier(6))),
    ):
        report = checked(sound)
        assert report.verdict == VALID, report.text()
