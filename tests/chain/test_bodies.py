"""Whatever a body names is checked, however deep it stands and whichever body it is."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from node.chain import bodies
from node.chain import types as t
from node.chain.build import build, build_pay, gross_payment, link_id
from node.chain.carried import CarriedPayment, carried_payment, carried_payments
from node.chain.encoding import encode
from node.chain.instruction import (
    CheckedInstruction,
    InstructionRefused,
    Refusal,
    check_instruction,
    payment_digest,
)
from tests.support import golden_settlement, wire, world
from tests.support.body_strategies import hints, kinds, replaced, values
from tests.support.world import BANKA, BANKB, BANKC, EUR

CHAIN = bytes(range(32))
LATER = world.GENESIS_TIME + 3_600_000
IDENTIFIER = (t.LeiText, t.AssetCode)
BODIES: list[type[Any]] = [each for each in typing.get_args(t.InstructionBody) if each is not t.Pay]
SAMPLES: list[Any] = [
    *(body for body in golden_settlement.bodies().values() if type(body) in BODIES),
    *(
        t.Propose((change,), LATER)
        for change in golden_settlement.changes().values()
        if isinstance(change, typing.get_args(t.Change))
    ),
    t.Issue(world.uetr(1), EUR, BANKA.lei, 1),
    t.Redeem(world.uetr(1), EUR, 1),
]


def named(value: Any) -> str:
    inner = value.changes[0] if isinstance(value, t.Propose) and value.changes else value
    return type(inner).__name__


def signed(body: t.InstructionBody, sender: str = BANKA.lei) -> bytes:
    id = "~N-1" if type(body) in t.NODE_SIGNED else "N-1"
    return build(CHAIN, sender, id, LATER, body, [BANKA.key])


def check(body: t.InstructionBody, sender: str = BANKA.lei) -> CheckedInstruction:
    return check_instruction(signed(body, sender), CHAIN)


def refusal(body: t.InstructionBody) -> InstructionRefused:
    with pytest.raises(InstructionRefused) as caught:
        check(body)
    return caught.value


def leg(number: int, **fields: Any) -> t.Payment:
    return replace(gross_payment(world.uetr(number), BANKA.lei, BANKB.lei, EUR, 100), **fields)


# --- nothing is left out ----------------------------------------------------------------------


def _reachable() -> list[type[Any]]:
    found: list[type[Any]] = []
    waiting: list[object] = list(typing.get_args(t.InstructionBody))
    while waiting:
        kind = waiting.pop()
        if (
            isinstance(kind, type)
            and issubclass(kind, msgspec.Struct)
            and kind.__module__ == t.__name__
            and kind not in found
        ):
            found.append(kind)
            waiting += [part for hint in hints(kind).values() for part in kinds(hint)]
    return found


def _parts(kind: type[Any]) -> list[Any]:
    inner = (part for hint in hints(kind).values() for part in kinds(hint))
    return [part for part in inner if part in REACHABLE]


def _tells(kind: type[Any]) -> bool:
    """Whether it, or something in it, has a row of its own."""
    return kind in bodies.IDENTIFIERS or kind in bodies.ORDERS or any(map(_tells, _parts(kind)))


REACHABLE = [kind for kind in _reachable() if kind is not t.Payment]


@pytest.mark.parametrize("kind", REACHABLE, ids=lambda kind: kind.__name__)
def test_the_tables_of_names_hold_every_field_that_is_a_name(kind: type[Any]) -> None:
    declared = {name: tuple(kinds(hint)) for name, hint in hints(kind).items()}
    identifiers = {name for name, of in declared.items() if any(k in IDENTIFIER for k in of)}
    uetrs = {name for name, of in declared.items() if t.Bytes16 in of}
    assert set(bodies.IDENTIFIERS.get(kind, ())) == identifiers
    assert set(bodies.UETRS.get(kind, ())) == uetrs
    assert (kind in bodies.PAYMENTS) == any(t.Payment in of for of in declared.values())
    assert (kind in bodies.PARTS) == any(map(_tells, _parts(kind)))


def test_a_text_in_a_body_is_a_name_or_bound_to_a_pattern() -> None:
    """A free text would need the checks that payments' texts have."""
    for kind in REACHABLE:
        for name, hint in hints(kind).items():
            found = tuple(kinds(hint))
            if str in found and not any(each in IDENTIFIER for each in found):
                patterns = [
                    meta.pattern
                    for each in found
                    for meta in getattr(each, "__metadata__", ())
                    if meta.pattern is not None
                ]
                assert patterns, (kind.__name__, name)


# --- round trip -------------------------------------------------------------------------------


def _ordered(body: Any) -> Any:
    """The body with its ordered lists in order."""
    if isinstance(body, t.SetPolicy):
        by_asset = {sweep.asset: sweep for sweep in body.sweeps}
        return replace(body, sweeps=tuple(by_asset[asset] for asset in sorted(by_asset)))
    if isinstance(body, t.Propose):
        return replace(body, changes=tuple(map(_ordered, body.changes)))
    if isinstance(body, t.AdmitParticipant):
        by_key = {key.public_key: key for key in body.keys}
        return replace(
            body,
            roles=tuple(sorted(set(body.roles))),
            keys=tuple(by_key[key] for key in sorted(by_key)),
        )
    return body


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_any_body_passes_as_it_was_built_and_in_no_longer_encoding(
    kind: type[Any], data: st.DataObject
) -> None:
    body = _ordered(data.draw(values(kind)))
    payments = bodies.body_payments(body)
    assume(len({payment.uetr for payment in payments}) == len(payments))
    assume(all(payment.previous != payment.uetr for payment in payments))
    raw = signed(body)
    checked = check_instruction(raw, CHAIN)
    assert checked.raw == raw
    assert checked.instruction.envelope.body == body
    assert checked.payment_digests == []
    longer = list(wire.widened(raw))
    with pytest.raises(InstructionRefused) as caught:
        check_instruction(longer[data.draw(st.integers(0, len(longer) - 1))], CHAIN)
    assert caught.value.code is Refusal.MALFORMED


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("body", SAMPLES, ids=named)
def test_a_name_that_is_none_is_refused_wherever_it_stands(body: Any) -> None:
    check(body)
    for kind, wrong in ((t.LeiText, "NOSTR0 TEST000000019"), (t.AssetCode, "E-R")):
        for other in replaced(body, (kind,), wrong):
            assert refusal(other).code is Refusal.IDENTIFIER


@pytest.mark.parametrize("body", SAMPLES, ids=named)
def test_a_uetr_that_is_none_is_refused_wherever_it_stands(body: Any) -> None:
    for other in replaced(body, (t.Bytes16,), bytes(16)):
        assert refusal(other).code is Refusal.UETR


@pytest.mark.parametrize("body", SAMPLES, ids=named)
def test_a_name_in_clear_that_could_be_shown_as_another_is_refused(body: Any) -> None:
    for other in replaced(body, (t.Payment,), leg(1, ultimate_debtor="a\u202eb")):
        assert refusal(other).code is Refusal.TEXT


def test_the_further_names_of_a_payment_are_checked_too() -> None:
    full = leg(
        1, debtor_indirect=world.lei(9), creditor_indirect=world.lei(10), previous=world.uetr(5)
    )

    def code(payment: t.Payment) -> Refusal | None:
        raw = build_pay(CHAIN, BANKA.lei, "N-1", LATER, payments=[payment], signers=[BANKA.key])
        try:
            check_instruction(raw, CHAIN)
        except InstructionRefused as refused:
            return refused.code
        return None

    assert code(full) is None
    assert code(replace(full, debtor_indirect="NOSTR0 TEST000000019")) is Refusal.IDENTIFIER
    assert code(replace(full, creditor_indirect="NOSTR0-TEST000000019")) is Refusal.IDENTIFIER
    assert code(replace(full, previous=bytes(16))) is Refusal.UETR


def test_a_payment_cannot_carry_on_itself() -> None:
    assert refusal(t.Reserve(leg(1, previous=world.uetr(1)), None, bytes(32), LATER)).code is (
        Refusal.REPEATED_UETR
    )


def test_no_two_payments_of_a_body_share_a_uetr() -> None:
    found = refusal(t.Link((leg(1), leg(2), leg(1, amount=5)), LATER))
    assert (found.code, "payment 2" in found.detail) == (Refusal.REPEATED_UETR, True)
    back = gross_payment(world.uetr(1), BANKB.lei, BANKA.lei, EUR, 50)
    assert refusal(t.Return(back, leg(1), "FOCR")).code is Refusal.REPEATED_UETR


def test_a_link_has_2_to_16_legs() -> None:
    assert refusal(t.Link((leg(1),), LATER)).code is Refusal.MALFORMED
    check(t.Link(tuple(leg(n) for n in range(t.MAX_LEGS)), LATER))
    many = t.Link(tuple(leg(n) for n in range(t.MAX_LEGS + 1)), LATER)
    assert refusal(many).code is Refusal.MALFORMED


@pytest.mark.parametrize("assets", ["EUR CNY", "CNY CNY", "CNY EUR EUR"])
def test_sweeps_ascend_by_asset_one_an_asset(assets: str) -> None:
    policy = t.SetPolicy(False, tuple(t.Sweep(each, BANKB.lei) for each in assets.split()))
    found = refusal(policy)
    assert (found.code, "SetPolicy.sweeps" in found.detail) == (Refusal.ORDER, True)
    check(replace(policy, sweeps=(t.Sweep("CNY", BANKB.lei), t.Sweep("EUR", BANKB.lei))))


def test_roles_and_keys_of_a_new_participant_ascend_none_of_them_twice() -> None:
    keys = tuple(t.ProvenKey(bytes((n,)) * 32, bytes(64)) for n in (1, 2))
    roles = ("direct-participant", "validator")
    good = t.AdmitParticipant(world.lei(9), "BNKDDEFF", "BANKD", roles, keys, 1, None, 0)
    check(t.Propose((good,), LATER))
    for field, wrong in (
        ("roles", roles[::-1]),
        ("roles", ("validator", "validator")),
        ("keys", keys[::-1]),
        ("keys", (keys[0], keys[0])),
    ):
        found = refusal(t.Propose((replace(good, **{field: wrong}),), LATER))
        assert (found.code, f"AdmitParticipant.{field}" in found.detail) == (Refusal.ORDER, True)


@pytest.mark.parametrize("role", ["", "King", "a role", "x" * 33, "röle", "role\n", "-role"])
def test_a_role_is_a_plain_word(role: str) -> None:
    """Proposals are shown to those who approve them."""
    key = t.ProvenKey(bytes(32), bytes(64))
    admit = t.AdmitParticipant(world.lei(9), "BNKDDEFF", "BANKD", (role,), (key,), 1, None, 0)
    assert refusal(t.Propose((admit,), LATER)).code is Refusal.MALFORMED


@pytest.mark.parametrize("body", SAMPLES, ids=named)
def test_no_other_body_brings_payments_beside_it(body: Any) -> None:
    checked = check(body)
    with_payment = encode(
        t.Instruction(
            checked.instruction.envelope, checked.instruction.signatures, (world.payment(1),)
        )
    )
    with pytest.raises(InstructionRefused) as caught:
        check_instruction(with_payment, CHAIN)
    assert caught.value.code is Refusal.PAYMENTS


# --- what an instruction carries --------------------------------------------------------------


def test_a_pay_carries_its_payments_in_order() -> None:
    payments = [world.payment(n) for n in range(3)]
    raw = build_pay(CHAIN, BANKA.lei, "N-1", LATER, payments=payments, signers=[BANKA.key])
    checked = check_instruction(raw, CHAIN)
    expected = [CarriedPayment(n, p, payment_digest(p)) for n, p in enumerate(payments)]
    assert list(carried_payments(checked)) == expected
    assert [carried_payment(checked, n) for n in range(4)] == [*expected, None]


def test_a_link_carries_the_legs_of_its_sender_by_their_place_among_all() -> None:
    mine, other = leg(1), leg(2, debtor=BANKC.lei)
    checked = check(t.Link((other, mine), LATER))
    assert list(carried_payments(checked)) == [CarriedPayment(1, mine, payment_digest(mine))]
    assert carried_payment(checked, 0) is None
    checked = check(t.Link((other, mine), LATER), sender=BANKC.lei)
    assert [each.number for each in carried_payments(checked)] == [0]


def test_a_reservation_and_a_return_carry_one_payment_other_bodies_none() -> None:
    back = gross_payment(world.uetr(2), BANKB.lei, BANKA.lei, EUR, 50)
    for body, carried in (
        (t.Reserve(leg(1), BANKC.lei, None, LATER), [leg(1)]),
        (t.Return(back, leg(1), "FOCR"), [back]),
        (t.Recall(leg(1), "DUPL"), []),
        (t.OpenDispute(leg(1), "AM09"), []),
        (t.Cancel(world.uetr(1)), []),
        (t.Issue(world.uetr(1), EUR, BANKA.lei, 1), []),
    ):
        found = [each.payment for each in carried_payments(check(body))]
        assert found == carried, body


def test_a_link_is_named_by_all_legs_their_order_and_its_end() -> None:
    legs = (leg(1), leg(2))
    others = (
        link_id(legs[::-1], LATER),
        link_id((leg(1), leg(2, amount=101)), LATER),
        link_id((*legs, leg(3)), LATER),
        link_id(legs, LATER + 1),
    )
    assert len({link_id(legs, LATER), *others}) == 5
    assert link_id(list(legs), LATER) == link_id(legs, LATER)
