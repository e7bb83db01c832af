"""A payment is made once, however often, in whatever way and however late it is sent."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from node.chain.instruction import CheckedInstruction
from node.chain.types import Freeze, OutcomePlace
from node.ledger.apply import BadBlock
from tests.support.ledger_world import BLOCK_MS, DAY_MS, Chain, World, uetr

U = uetr(7)


@pytest.fixture
def world() -> World:
    return World.make()


@pytest.fixture
def chain(world: World) -> Chain:
    chain = Chain(world)
    chain.fund(1_000, "BANKA", "BANKB")
    return chain


def freezing(world: World, *, debit: bool) -> CheckedInstruction:
    return world.order("WATCHDOG", Freeze(world.lei("BANKA"), debit, False, "LEGL"))


def test_a_retry_under_a_new_id_gets_the_original_outcome_and_moves_nothing(
    world: World, chain: Chain
) -> None:
    payment = world.payment("BANKA", "BANKB", 100, uetr=U)
    first = chain.block(world.pay("BANKA", world.payment("BANKA", "BANKB", 1), payment))
    assert first.outcomes[1].debtor_balance == 899
    again = chain.block(world.pay("BANKA", payment))
    (outcome,) = again.outcomes
    assert (outcome.status, outcome.reason) == ("ACSC", None)
    assert (outcome.debtor_balance, outcome.creditor_balance) == (None, None)
    assert outcome.original == OutcomePlace(first.header.height, 0, 1)
    assert outcome.height == again.header.height
    assert again.applied.state_root == first.applied.state_root
    assert again.applied.uetrs == [], "the first outcome stays the one that is looked up"


def test_a_retry_of_a_rejected_payment_is_rejected_again_even_if_it_could_settle_now(
    world: World, chain: Chain
) -> None:
    payment = world.payment("BANKA", "BANKB", 100, uetr=U)
    chain.block(freezing(world, debit=True))
    first = chain.block(world.pay("BANKA", payment))
    chain.block(freezing(world, debit=False))
    (outcome,) = chain.block(world.pay("BANKA", payment)).outcomes
    assert (outcome.status, outcome.reason) == ("RJCT", "AC06")
    assert outcome.original == OutcomePlace(first.header.height, 0, 0)
    (other,) = chain.block(world.pay("BANKA", world.payment("BANKA", "BANKB", 100))).outcomes
    assert other.status == "ACSC"


def test_a_retry_of_a_payment_that_waits_is_told_how_it_stands(world: World, chain: Chain) -> None:
    payment = world.payment("BANKA", "BANKB", 2_000, uetr=U)
    first = chain.block(world.pay("BANKA", payment))
    waiting = chain.state.map.root
    place = OutcomePlace(first.header.height, 0, 0)
    (again,) = chain.block(world.pay("BANKA", payment)).outcomes
    assert (again.status, again.reason, again.original) == ("PDNG", "AM04", place)
    assert chain.state.map.root == waiting, "it stands in the queue once"
    chain.fund(5_000, "BANKA")
    (settled,) = chain.block(world.pay("BANKA", payment)).outcomes
    assert (settled.status, settled.reason, settled.original) == ("ACSC", None, place)
    assert chain.balance("BANKB") == 3_000


@pytest.mark.parametrize("committed", [True, False], ids=["final before", "not yet final"])
def test_a_used_uetr_is_found_in_final_blocks_and_in_those_before_them(
    world: World, chain: Chain, committed: bool
) -> None:
    payment = world.payment("BANKA", "BANKB", 100, uetr=U)
    first = chain.make(world.pay("BANKA", payment))
    if committed:
        chain.commit(first)
    second = chain.make(world.pay("BANKA", payment), parent=first.state)
    other = chain.make(
        world.pay("BANKA", world.payment("BANKA", "BANKB", 101, uetr=U)), parent=second.state
    )
    assert second.outcomes[0].original == OutcomePlace(first.header.height, 0, 0)
    assert other.outcomes[0].reason == "AM05"


def test_two_instructions_of_one_block_with_one_uetr_pay_once(world: World, chain: Chain) -> None:
    same = world.payment("BANKA", "BANKB", 100, uetr=U)
    other = world.payment("BANKA", "BANKB", 200, uetr=U)
    block = chain.block(*(world.pay("BANKA", payment) for payment in (same, same, other)))
    assert [(o.status, o.reason, o.original) for o in block.outcomes] == [
        ("ACSC", None, None),
        ("ACSC", None, OutcomePlace(block.header.height, 0, 0)),
        ("RJCT", "AM05", None),
    ]
    assert (chain.balance("BANKA"), chain.balance("BANKB")) == (900, 1_100)


def test_issue_and_redeem_are_made_once_too(world: World, chain: Chain) -> None:
    chain.block(world.issue("CENTRALBANK", "CENTRALBANK", 50, uetr=U))
    (again,) = chain.block(world.issue("CENTRALBANK", "CENTRALBANK", 50, uetr=U)).outcomes
    assert (again.status, again.original) == ("ACSC", OutcomePlace(2, 0, 0))
    chain.block(world.redeem("CENTRALBANK", 20, uetr=uetr(8)))
    (again,) = chain.block(world.redeem("CENTRALBANK", 20, uetr=uetr(8))).outcomes
    assert (again.status, again.original) == ("ACSC", OutcomePlace(4, 0, 0))
    assert chain.balance("CENTRALBANK") == 30


def test_a_uetr_is_used_up_until_the_end_of_its_window(world: World, chain: Chain) -> None:
    payment = world.payment("BANKA", "BANKB", 100, uetr=U)
    used = chain.block(world.pay("BANKA", payment)).header.timestamp
    last = used + 35 * DAY_MS
    retry = world.pay("BANKA", payment, valid_until=last)
    assert chain.block(retry, time=last).outcomes[0].original is not None
    # The retry's own outcome does not make the window longer.
    renewed = world.pay("BANKA", payment, valid_until=last + 1)
    assert chain.block(renewed, time=last + 1).outcomes[0].original is None
    assert chain.balance("BANKB") == 1_200


def test_an_id_may_be_used_again_only_once_its_instruction_has_expired(
    world: World, chain: Chain
) -> None:
    ends = chain.state.time + 5 * BLOCK_MS
    chain.block(world.pay("BANKA", world.payment("BANKA", "BANKB", 1), id="x", valid_until=ends))
    other = world.pay(
        "BANKA", world.payment("BANKA", "BANKB", 2), id="x", valid_until=ends + DAY_MS
    )
    with pytest.raises(BadBlock, match="already-executed"):
        chain.make(other, time=ends)
    chain.block(other, time=ends + 1)
    with pytest.raises(BadBlock, match="already-executed"):
        chain.make(other)
    assert chain.balance("BANKB") == 1_003


def test_sending_a_copy_of_anothers_payment_first_does_not_stop_it(
    world: World, chain: Chain
) -> None:
    """BANKB sees BANKA's payment on its way and sends the same one itself."""
    payment = world.payment("BANKA", "BANKC", 100, uetr=U)
    block = chain.block(world.pay("BANKB", payment), world.pay("BANKA", payment))
    assert [(o.status, o.reason) for o in block.outcomes] == [("RJCT", "DS0H"), ("ACSC", None)]
    late = chain.block(world.pay("BANKB", payment), world.pay("BANKA", payment))
    assert [(o.reason, o.original) for o in late.outcomes] == [
        ("DS0H", None),
        (None, OutcomePlace(block.header.height, 1, 0)),
    ]
    assert chain.balance("BANKC") == 100


def test_a_rejection_without_authority_is_never_told_as_the_outcome_of_that_uetr(
    world: World, chain: Chain
) -> None:
    """BANKA asks what became of its payment while it waits. Were it told of the rejection of
    BANKB's copy, which has the very same digest, it would pay again, and then both settle."""
    payment = world.payment("BANKA", "BANKC", 100, uetr=U)
    (copy,) = chain.block(world.pay("BANKB", payment)).outcomes
    assert (copy.uetr, copy.status, copy.reason) == (U, "RJCT", "DS0H")
    assert chain.index.uetr(U) is None
    chain.block(world.pay("BANKA", payment))
    found = chain.index.uetr(U)
    assert found is not None
    assert (found.status, found.height) == ("ACSC", chain.state.height)
    chain.block(world.pay("BANKB", payment))
    assert chain.index.uetr(U) == found


def test_an_issue_by_another_is_never_told_as_the_outcome_of_the_issuers(
    world: World, chain: Chain
) -> None:
    (copy,) = chain.block(world.issue("BANKB", "BANKA", 100, uetr=U)).outcomes
    assert (copy.uetr, copy.reason) == (U, "DS0G")
    assert chain.index.uetr(U) is None
    (own,) = chain.block(world.issue("CENTRALBANK", "BANKA", 100, uetr=U)).outcomes
    assert own.status == "ACSC"


def test_other_content_means_any_other_field(world: World, chain: Chain) -> None:
    payment = world.payment("BANKA", "BANKB", 100, uetr=U)
    chain.block(world.pay("BANKA", payment))
    for other in (
        replace(payment, amount=101),
        replace(payment, creditor=world.lei("BANKC")),
        replace(payment, asset="CNY"),
        replace(payment, latest=2**63),
        replace(payment, ultimate_creditor="Somebody"),
        replace(payment, remittance_digest=bytes(32)),
    ):
        (outcome,) = chain.block(world.pay("BANKA", other)).outcomes
        assert (outcome.reason, outcome.original) == ("AM05", None), other
