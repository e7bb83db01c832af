"""What may not stand in any block is refused before any state is asked."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.chain.build import (
    assemble,
    build,
    build_pay,
    sign_instruction,
)
from node.chain.encoding import decode, digest, encode, framed
from node.chain.instruction import (
    MAX_INSTRUCTION_BYTES,
    InstructionRefused,
    Refusal,
    check_instruction,
    parse_instruction,
    payment_digest,
    payments_root,
    signed_envelope_leaf,
)
from node.chain.signature import INSTRUCTION_DOMAIN, prove_possession
from node.chain.types import (
    AccountKind,
    Envelope,
    Instruction,
    Issue,
    KeySignature,
    Mode,
    Pay,
    Payment,
    PaymentClass,
    Priority,
    Redeem,
    RegisterKey,
    RevokeKey,
    SignedEnvelope,
)
from node.chain.uetr import parse_uetr, uetr_text
from tests.support import wire, world
from tests.support.world import BANKA, BANKB, CENTRALBANK, EUR

CHAIN = bytes(range(32))
LATER = world.GENESIS_TIME + 3_600_000
SECOND = world.signer("second key")


def pay(
    *payments: Payment, id: str = "E2E-1", chain_id: bytes = CHAIN, all_or_none: bool = False
) -> bytes:
    return build_pay(
        chain_id,
        BANKA.lei,
        id,
        LATER,
        payments=payments,
        signers=[BANKA.key],
        all_or_none=all_or_none,
    )


def refusal(raw: bytes, chain_id: bytes = CHAIN) -> InstructionRefused:
    with pytest.raises(InstructionRefused) as caught:
        check_instruction(raw, chain_id)
    return caught.value


def changed(payment: Payment, **fields: object) -> Payment:
    return msgspec.structs.replace(payment, **fields)


def test_a_signed_batch_passes_with_the_digests_that_proofs_are_made_of() -> None:
    payments = [world.payment(n) for n in range(20)]
    raw = pay(*payments)
    checked = check_instruction(raw, CHAIN)
    instruction = checked.instruction
    assert checked.raw == raw == encode(instruction)
    assert checked.digest == digest(framed("nostro.instruction/1"), encode(instruction.envelope))
    assert checked.payment_digests == [payment_digest(p) for p in payments]
    signed = SignedEnvelope(instruction.envelope, instruction.signatures)
    assert checked.signed_leaf_hash == signed_envelope_leaf(signed)


def test_every_kind_of_body_passes() -> None:
    new_key = world.signer("new key")
    for raw in (
        pay(world.payment(1), all_or_none=True),
        build(
            CHAIN,
            CENTRALBANK.lei,
            "I-1",
            LATER,
            Issue(world.uetr(1), EUR, BANKA.lei, 1),
            [CENTRALBANK.key],
        ),
        build(
            CHAIN, CENTRALBANK.lei, "R-1", LATER, Redeem(world.uetr(2), EUR, 1), [CENTRALBANK.key]
        ),
        build(
            CHAIN,
            BANKA.lei,
            "K-1",
            LATER,
            RegisterKey(
                new_key.public_key, prove_possession(new_key, "participant", BANKA.lei, CHAIN)
            ),
            [BANKA.key],
        ),
        build(CHAIN, BANKA.lei, "K-2", LATER, RevokeKey(new_key.public_key), [BANKA.key, SECOND]),
    ):
        assert check_instruction(raw, CHAIN).raw == raw


def test_any_flipped_bit_is_refused() -> None:
    raw = pay(world.payment(1), world.payment(2))
    for damaged in wire.flipped(raw):
        refusal(damaged)


def test_another_encoding_of_the_same_instruction_is_refused() -> None:
    raw = pay(*(world.payment(n) for n in range(17)))
    for longer in wire.widened(raw):
        assert refusal(longer).code is Refusal.MALFORMED
    for wrong in (b"", b"\x94", raw[:-1], raw + b"\x00", b"\xff" * 100, b"\x91" * 100_000):
        assert refusal(wrong).code is Refusal.MALFORMED


def test_an_oversized_instruction_is_refused_before_it_is_decoded() -> None:
    assert refusal(bytes(MAX_INSTRUCTION_BYTES + 1)).code is Refusal.TOO_LARGE


def test_ten_thousand_ordinary_payments_fit_one_instruction() -> None:
    payments = [world.payment(n) for n in range(10_000)]
    assert len(check_instruction(pay(*payments), CHAIN).payment_digests) == 10_000


def test_another_chains_instruction_is_refused() -> None:
    raw = pay(world.payment(1), chain_id=bytes(32))
    assert refusal(raw).code is Refusal.WRONG_CHAIN


def _with_payments(raw: bytes, payments: tuple[Payment, ...]) -> bytes:
    instruction = parse_instruction(raw).instruction
    return encode(Instruction(instruction.envelope, instruction.signatures, payments))


def test_payments_other_than_the_signed_ones_are_refused() -> None:
    a, b = world.payment(1), world.payment(2)
    raw = pay(a, b)
    for payments in (
        (),
        (a,),
        (b, a),
        (a, b, world.payment(3)),
        (a, changed(b, amount=b.amount + 1)),
    ):
        assert refusal(_with_payments(raw, payments)).code is Refusal.PAYMENTS
    revoke = build(CHAIN, BANKA.lei, "K-2", LATER, RevokeKey(bytes(32)), [BANKA.key])
    assert refusal(_with_payments(revoke, (a,))).code is Refusal.PAYMENTS


def test_the_signed_count_is_binding_beside_the_root() -> None:
    payments = (world.payment(1), world.payment(2))
    body = Pay(3, payments_root(payments), False)
    envelope = Envelope(CHAIN, BANKA.lei, "E2E-1", LATER, body)
    raw = sign_instruction(envelope, payments, [BANKA.key])
    assert refusal(raw).code is Refusal.PAYMENTS


def test_signatures_must_ascend_without_repetition_and_all_be_valid() -> None:
    raw = pay(world.payment(1))
    parsed = parse_instruction(raw).instruction
    payload = encode(parsed.envelope)
    signatures = sorted(
        (
            KeySignature(k.public_key, k.sign(INSTRUCTION_DOMAIN, CHAIN, payload))
            for k in (BANKA.key, SECOND, world.signer("third key"))
        ),
        key=lambda s: s.public_key,
    )

    def signed_by(*chosen: KeySignature) -> bytes:
        return encode(Instruction(parsed.envelope, chosen, parsed.payments))

    one, two, three = signatures
    assert check_instruction(signed_by(one, two, three), CHAIN)
    assert assemble(parsed.envelope, parsed.payments, [three, one]) == signed_by(one, three)
    for order in ((two, one), (one, one), (one, three, two)):
        assert refusal(signed_by(*order)).code is Refusal.SIGNATURE_ORDER
    for forged in (
        KeySignature(three.public_key, two.signature),
        KeySignature(three.public_key, bytes(64)),
        KeySignature(b"\xff" * 32, three.signature),
    ):
        assert refusal(signed_by(one, two, forged)).code is Refusal.SIGNATURE
    assert refusal(signed_by()).code is Refusal.MALFORMED


def test_a_signature_for_another_purpose_is_refused() -> None:
    envelope = Envelope(CHAIN, BANKA.lei, "K-1", LATER, RevokeKey(bytes(32)))
    payload = encode(envelope)
    for domain in ("nostro.vote/1", "nostro.receipt/1"):
        signature = KeySignature(BANKA.key.public_key, BANKA.key.sign(domain, CHAIN, payload))
        assert refusal(assemble(envelope, (), [signature])).code is Refusal.SIGNATURE


def test_a_uetr_that_is_no_version_4_uuid_or_stands_twice_is_refused_by_position() -> None:
    good = world.payment(1)
    for uetr in (bytes(16), b"\xff" * 16, world.uetr(2)[:8] + b"\x00" + world.uetr(2)[9:]):
        found = refusal(pay(good, changed(good, uetr=uetr)))
        assert (found.code, "payment 1" in found.detail) == (Refusal.UETR, True)
    found = refusal(pay(good, world.payment(2), changed(good, amount=1)))
    assert (found.code, "payment 2" in found.detail) == (Refusal.REPEATED_UETR, True)
    issue = build(
        CHAIN, CENTRALBANK.lei, "I-1", LATER, Issue(bytes(16), EUR, BANKA.lei, 1), [CENTRALBANK.key]
    )
    assert refusal(issue).code is Refusal.UETR


@pytest.mark.parametrize(
    "text",
    [
        "line\nbreak",
        "tab\there",
        "escape \x1b[31m",
        "nul \x00",
        "right-to-left \u202e override",
        "zero\u200bwidth",
        "no-break\xa0space",
        "not composed: Ka\u0308ufer",
        "private \ue000 use",
        "newer than Unicode 3.2: \U0001f600",
    ],
)
def test_names_that_could_be_shown_as_another_are_refused(text: str) -> None:
    found = refusal(pay(changed(world.payment(1), ultimate_debtor=text)))
    assert found.code is Refusal.TEXT
    assert found.detail.isascii()  # so that showing the refusal is safe
    assert found.detail.isprintable()


@pytest.mark.parametrize(
    "text", ["Käufer GmbH", "收款人有限公司", "Société Générale", "山田\u3000太郎", "a " * 70]
)
def test_names_in_any_script_pass(text: str) -> None:
    assert check_instruction(pay(changed(world.payment(1), creditor_agent=text)), CHAIN)


def test_what_payments_say_is_judged_only_for_who_signed_them() -> None:
    """10,000 payments of long names cost half a second: not for anybody who sends them."""
    raw = pay(changed(world.payment(1), ultimate_debtor="nul \x00"))
    signature = decode(raw, Instruction).signatures[0].signature
    forged = raw.replace(signature, bytes(64))
    assert refusal(raw).code is Refusal.TEXT
    assert refusal(forged).code is Refusal.SIGNATURE


def test_identifiers_are_ascii_letters_and_digits() -> None:
    for field, value in (
        ("debtor", "Ä" + BANKA.lei[1:]),
        ("creditor", BANKB.lei[:-1] + " "),
        ("asset", "E-R"),
        ("asset", "EUR\n"),
    ):
        raw = pay(changed(world.payment(1), **{field: value}))
        assert refusal(raw).code is Refusal.IDENTIFIER


@pytest.mark.parametrize("id", ["", "x" * 36, "with space", "ümlaut", "new\nline", "E2E-1\n"])
def test_an_instruction_id_is_1_to_35_visible_ascii_characters(id: str) -> None:
    assert refusal(pay(world.payment(1), id=id)).code is Refusal.MALFORMED


def test_a_uetr_has_one_text_form() -> None:
    text = "eb6305c9-1f7f-49de-aed0-16487c27b42d"
    assert uetr_text(parse_uetr(text)) == text
    for wrong in (
        "",
        "x",
        text.upper(),
        text.replace("-", ""),
        text[:-1],
        text + "0",
        "eb6305c9-1f7f-19de-aed0-16487c27b42d",
        "eb6305c9-1f7f-49de-0ed0-16487c27b42d",
        text.replace("-", "\u2010"),
        f" {text}",
    ):
        with pytest.raises(ValueError, match="is no UETR"):
            parse_uetr(wrong)


PAYMENTS = st.builds(
    Payment,
    uetr=st.integers(0, 10**6).map(world.uetr),
    debtor=st.sampled_from([b.lei for b in world.BANKS]),
    debtor_account=st.sampled_from(AccountKind),
    creditor=st.sampled_from([b.lei for b in world.BANKS]),
    creditor_account=st.sampled_from(AccountKind),
    asset=st.sampled_from(["EUR", "CNY", "CNE100000X85"]),
    amount=st.integers(0, 2**64 - 1),
    payment_class=st.sampled_from(PaymentClass),
    priority=st.sampled_from(Priority),
    mode=st.sampled_from(Mode),
    ultimate_debtor=st.none() | st.sampled_from(["A", "Käufer", "收款人"]),
    ultimate_creditor=st.none(),
    debtor_agent=st.none(),
    creditor_agent=st.none() | st.just("x" * 140),
    earliest=st.none() | st.integers(0, 2**64 - 1),
    latest=st.none() | st.integers(0, 2**64 - 1),
    remittance_digest=st.none() | st.binary(min_size=32, max_size=32),
    debtor_indirect=st.none() | st.just(world.lei(9)),
    creditor_indirect=st.none() | st.just(world.lei(10)),
    previous=st.none() | st.just(world.uetr(10**6 + 1)),
)


@given(st.lists(PAYMENTS, min_size=1, max_size=40, unique_by=lambda p: p.uetr), st.data())
@settings(max_examples=50, deadline=None)
def test_any_payments_pass_as_sent_and_never_when_one_byte_differs(
    payments: list[Payment], data: st.DataObject
) -> None:
    raw = pay(*payments)
    checked = check_instruction(raw, CHAIN)
    assert list(checked.instruction.payments) == payments
    at = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != raw[at]))
    refusal(raw[:at] + bytes((byte,)) + raw[at + 1 :])
