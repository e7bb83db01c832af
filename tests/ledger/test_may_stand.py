"""What may not stand: refused at admission, left out by proposers, a bad block otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.ledger.apply import BadBlock, BlockContext
from node.ledger.check import NotAdmissible
from tests.support.ledger_world import BLOCK_MS, DAY_MS, Bank, Chain, World, lei, signer

SPARE = signer("spare")


class Case(NamedTuple):
    name: str
    code: str
    make: Callable[[Chain, World], CheckedInstruction]


def unknown_sender(_: Chain, w: World) -> CheckedInstruction:
    stranger = Bank("STRANGER", lei(999), "NOSADEZZ", (), [signer("stranger")])
    w.banks["STRANGER"] = stranger
    return w.pay("STRANGER", w.payment("STRANGER", "BANKA", 1))


def executed(c: Chain, w: World) -> CheckedInstruction:
    checked = w.pay("BANKA", w.payment("BANKA", "BANKB", 1))
    c.block(checked)
    return checked


def executed_id_with_other_content(c: Chain, w: World) -> CheckedInstruction:
    c.block(w.pay("BANKA", w.payment("BANKA", "BANKB", 1), id="x"))
    return w.pay("BANKA", w.payment("BANKA", "BANKB", 2), id="x")


def executed_and_rejected(c: Chain, w: World) -> CheckedInstruction:
    checked = w.pay("BANKA", w.payment("BANKA", "BANKB", 0))
    assert c.block(checked).outcomes[0].status == "RJCT"
    return checked


def revoked_key(c: Chain, w: World) -> CheckedInstruction:
    c.block(w.register_key("BANKA", SPARE))
    c.block(w.revoke_key("BANKA", SPARE.public_key))
    return w.pay("BANKA", w.payment("BANKA", "BANKB", 1), signers=[SPARE])


def revoked_key_beside_a_valid_one(c: Chain, w: World) -> CheckedInstruction:
    revoked_key(c, w)
    both = [SPARE, *w.banks["BANKA"].signers]
    return w.pay("BANKA", w.payment("BANKA", "BANKB", 1), signers=both)


CASES = [
    Case("an unknown sender", "unknown-sender", unknown_sender),
    Case(
        "expired a millisecond ago",
        "expired",
        lambda c, w: w.pay(
            "BANKA", w.payment("BANKA", "BANKB", 1), valid_until=c.state.time + BLOCK_MS - 1
        ),
    ),
    Case(
        "valid a millisecond longer than 7 days",
        "valid-too-long",
        lambda c, w: w.pay(
            "BANKA",
            w.payment("BANKA", "BANKB", 1),
            valid_until=c.state.time + BLOCK_MS + 7 * DAY_MS + 1,
        ),
    ),
    Case(
        "valid for ever",
        "valid-too-long",
        lambda c, w: w.pay("BANKA", w.payment("BANKA", "BANKB", 1), valid_until=2**64 - 1),
    ),
    Case(
        "a key that was never registered",
        "unknown-key",
        lambda c, w: w.pay("BANKA", w.payment("BANKA", "BANKB", 1), signers=[SPARE]),
    ),
    Case(
        "another participant's key",
        "unknown-key",
        lambda c, w: w.pay(
            "BANKA", w.payment("BANKA", "BANKB", 1), signers=w.banks["BANKC"].signers
        ),
    ),
    Case(
        "a stranger's key beside a valid one",
        "unknown-key",
        lambda c, w: w.pay(
            "BANKA",
            w.payment("BANKA", "BANKB", 1),
            signers=[SPARE, *w.banks["BANKA"].signers],
        ),
    ),
    Case("a revoked key", "invalid-key", revoked_key),
    Case("a revoked key beside a valid one", "invalid-key", revoked_key_beside_a_valid_one),
    Case(
        "one signature where two are needed",
        "too-few-signatures",
        lambda c, w: w.pay(
            "BANKB", w.payment("BANKB", "BANKA", 1), signers=w.banks["BANKB"].signers[:1]
        ),
    ),
    Case("executed before", "already-executed", executed),
    Case("executed before with a rejection", "already-executed", executed_and_rejected),
    Case(
        "another content under an executed id", "already-executed", executed_id_with_other_content
    ),
]


def world_and_chain() -> tuple[World, Chain]:
    world = World.make(keys={"BANKB": (3, 2)})
    chain = Chain(world)
    chain.fund(1_000_000)
    return world, chain


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_may_not_stand_is_named_everywhere(case: Case) -> None:
    world, chain = world_and_chain()
    checked = case.make(chain, world)
    good = world.pay("BANKC", world.payment("BANKC", "BANKA", 1))
    context = BlockContext(chain.state.height + 1, chain.state.time + BLOCK_MS)

    with pytest.raises(NotAdmissible) as refusal:
        chain.ledger.check(checked, context.time)
    assert refusal.value.code == case.code
    assert refusal.value.detail

    with pytest.raises(BadBlock, match=case.code) as bad:
        chain.ledger.apply(chain.state, context, [good, checked])
    assert bad.value.index == 1

    proposal = chain.ledger.propose(chain.state, context, [checked, good], 1 << 20, 100)
    assert proposal.chosen == [good]
    assert [(each, why.code) for each, why in proposal.dropped] == [(checked, case.code)]
    assert proposal.applied.outcomes == chain.make(good).applied.outcomes


def test_validity_includes_both_ends() -> None:
    world, chain = world_and_chain()
    time = chain.state.time + BLOCK_MS
    for valid_until in (time, time + 7 * DAY_MS):
        payment = world.payment("BANKA", "BANKB", 1)
        block = chain.make(world.pay("BANKA", payment, valid_until=valid_until), time=time)
        assert block.outcomes[0].status == "ACSC"


def test_one_instruction_stands_once_in_a_block() -> None:
    world, chain = world_and_chain()
    checked = world.pay("BANKA", world.payment("BANKA", "BANKB", 1))
    with pytest.raises(BadBlock, match="already-executed") as bad:
        chain.make(checked, checked)
    assert bad.value.index == 1


def test_two_senders_may_use_one_id() -> None:
    world, chain = world_and_chain()
    block = chain.block(
        world.pay("BANKA", world.payment("BANKA", "BANKC", 1), id="same"),
        world.pay("BANKC", world.payment("BANKC", "BANKA", 1), id="same"),
    )
    assert [o.status for o in block.outcomes] == ["ACSC", "ACSC"]


def test_more_signatures_than_needed_are_welcome() -> None:
    world, chain = world_and_chain()
    every = world.banks["BANKB"].signers
    block = chain.block(world.pay("BANKB", world.payment("BANKB", "BANKA", 1), signers=every))
    assert block.outcomes[0].status == "ACSC"


@pytest.mark.parametrize("step", [0, -1])
def test_a_block_whose_time_is_not_above_its_parents_is_bad(step: int) -> None:
    _, chain = world_and_chain()
    with pytest.raises(BadBlock, match="timestamp"):
        chain.ledger.apply(
            chain.state, BlockContext(chain.state.height + 1, chain.state.time + step), []
        )


def test_verify_names_the_first_header_field_that_is_wrong() -> None:
    world, chain = world_and_chain()
    block = chain.make(world.pay("BANKA", world.payment("BANKA", "BANKB", 1)))
    verified = chain.ledger.verify(chain.state, block.header, block.instructions)
    assert verified.state.digest == block.digest
    wrong = bytes(31) + b"\x01"
    for field, value in {
        "height": 9,
        "parent": wrong,
        "outcomes_count": 2,
        "outcomes_root": wrong,
        "state_root": wrong,
        "history_root": wrong,
    }.items():
        header = replace(block.header, **{field: value})
        with pytest.raises(BadBlock, match=f"^{field}: .*expected"):
            chain.ledger.verify(chain.state, header, block.instructions)


def test_a_senders_name_cannot_forge_a_line_of_the_log() -> None:
    """Admission asks before anything has judged the text: it is whatever a peer sent."""
    world = World.make()
    chain = Chain(world)
    checked = world.pay("BANKA", world.payment("BANKA", "BANKB", 1))
    envelope = replace(checked.instruction.envelope, sender="\n\x1b[2J" + "X" * 15)
    forged = replace(checked, instruction=replace(checked.instruction, envelope=envelope))
    with pytest.raises(NotAdmissible) as refused:
        chain.ledger.check(forged, chain.state.time + 1)
    assert refused.value.detail.isprintable()
