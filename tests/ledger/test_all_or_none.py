"""All payments of an all-or-none instruction settle, or none of those that had not before."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from node.chain.types import PaymentClass, Priority
from tests.support.ledger_world import DAY_MS, Chain, World, uetr


@pytest.fixture
def world() -> World:
    return World.make()


@pytest.fixture
def chain(world: World) -> Chain:
    chain = Chain(world)
    chain.fund(100, "BANKA")
    return chain


def test_all_settle(world: World, chain: Chain) -> None:
    block = chain.block(
        world.pay(
            "BANKA",
            *(world.payment("BANKA", "BANKB", 25) for _ in range(4)),
            all_or_none=True,
        )
    )
    assert [o.status for o in block.outcomes] == ["ACSC"] * 4
    assert (chain.balance("BANKA"), chain.balance("BANKB")) == (0, 100)


@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("reason", ["AM01", "AM02", "CNOR", "AM03", "DS0H"])
def test_one_that_cannot_settle_takes_the_others_back(
    world: World, chain: Chain, at: int, reason: str
) -> None:
    bad = {
        "AM01": world.payment("BANKA", "BANKB", 0),
        "AM02": world.payment("BANKA", "BANKB", 2**63),
        "CNOR": world.payment("BANKA", "0" * 20, 1),
        "AM03": world.payment("BANKA", "BANKB", 1, "USD"),
        "DS0H": world.payment("BANKB", "BANKA", 1),
    }[reason]
    payments = [world.payment("BANKA", name, 20) for name in ("BANKB", "BANKC", "BANKB")]
    payments.insert(at, bad)
    before = chain.state
    block = chain.block(world.pay("BANKA", *payments, all_or_none=True))
    assert [o.reason for o in block.outcomes] == [
        reason if number == at else "ED05" for number in range(4)
    ]
    assert all(o.debtor_balance is None and o.creditor_balance is None for o in block.outcomes)
    assert block.applied.state_root == before.map.root
    assert block.applied.records == {}
    assert chain.balance("BANKB") is None, "not even the account was opened"


def test_what_the_balance_does_not_cover_together_waits_together(
    world: World, chain: Chain
) -> None:
    block = chain.block(
        world.pay("BANKA", world.payment("BANKA", "BANKB", 30)),
        world.pay(
            "BANKA",
            world.payment("BANKA", "BANKB", 70),
            world.payment("BANKA", "BANKC", 1),
            all_or_none=True,
        ),
        world.pay("BANKA", world.payment("BANKA", "BANKC", 70)),
    )
    assert [(o.status, o.reason) for o in block.outcomes] == [
        ("ACSC", None),
        ("PDNG", "AM04"),
        ("PDNG", "AM04"),
        ("PDNG", "AM19"),
    ], "one of them could settle, but not both; what comes later does not pass them"
    assert [chain.balance(name) for name in ("BANKA", "BANKB", "BANKC")] == [70, 30, None]

    paid = chain.fund(1, "BANKA")
    assert [(o.status, o.original and o.original.payment) for o in paid.outcomes[1:]] == [
        ("ACSC", 0),
        ("ACSC", 1),
        ("ACSC", None),
    ]
    assert [chain.balance(name) for name in ("BANKA", "BANKB", "BANKC")] == [0, 100, 1]


def test_payments_that_cannot_be_one_entry_of_the_queue_are_rejected(
    world: World, chain: Chain
) -> None:
    one = world.payment("BANKA", "BANKB", 1)
    for other in (
        world.payment("BANKA", "BANKB", 1, latest=chain.state.time + DAY_MS),
        replace(world.payment("BANKA", "BANKB", 1), priority=Priority.URGENT),
        replace(world.payment("BANKA", "BANKB", 1), payment_class=PaymentClass.INTERBANK),
        world.payment("BANKA", "BANKB", 1, "CNY"),
    ):
        before = chain.state
        block = chain.block(world.pay("BANKA", one, other, all_or_none=True))
        assert [o.reason for o in block.outcomes] == ["FF02", "FF02"]
        assert block.applied.state_root == before.map.root
        one = world.payment("BANKA", "BANKB", 1)


def test_money_that_comes_in_later_in_the_block_settles_what_waits(
    world: World, chain: Chain
) -> None:
    block = chain.block(
        world.pay("BANKB", world.payment("BANKB", "BANKC", 10), all_or_none=True),
        world.pay("BANKA", world.payment("BANKA", "BANKB", 10)),
    )
    assert [(o.status, o.reason, o.instruction) for o in block.outcomes] == [
        ("PDNG", "AM04", 0),
        ("ACSC", None, 1),
        ("ACSC", None, None),
        ("ACSC", None, None),
    ]
    assert chain.balance("BANKC") == 10


def test_a_retry_that_has_settled_does_not_keep_the_rest_from_settling(
    world: World, chain: Chain
) -> None:
    done = world.payment("BANKA", "BANKB", 60, uetr=uetr(1))
    chain.block(world.pay("BANKA", done))
    fresh = world.payment("BANKA", "BANKC", 40)
    block = chain.block(world.pay("BANKA", done, fresh, all_or_none=True))
    assert [(o.status, o.original is not None) for o in block.outcomes] == [
        ("ACSC", True),
        ("ACSC", False),
    ]
    assert [chain.balance(name) for name in ("BANKA", "BANKB", "BANKC")] == [0, 60, 40]


@pytest.mark.parametrize(
    ("amount", "status", "reason"), [(0, "RJCT", "AM01"), (101, "PDNG", "AM04")]
)
def test_a_retry_that_was_rejected_or_waits_does(
    world: World, chain: Chain, amount: int, status: str, reason: str
) -> None:
    before = world.payment("BANKA", "BANKB", amount, uetr=uetr(1))
    chain.block(world.pay("BANKA", before))
    fresh = world.payment("BANKA", "BANKC", 40)
    block = chain.block(world.pay("BANKA", before, fresh, all_or_none=True))
    assert [(o.status, o.reason, o.original is not None) for o in block.outcomes] == [
        (status, reason, True),
        ("RJCT", "ED05", False),
    ]


@pytest.mark.parametrize(
    ("amounts", "reasons"), [((60, 0), ["ED05", "AM01"]), ((60, 60), ["AM04", "AM04"])]
)
def test_the_whole_instruction_sent_again_gets_every_original_outcome(
    world: World, chain: Chain, amounts: tuple[int, int], reasons: list[str]
) -> None:
    payments = [world.payment("BANKA", "BANKB", amount) for amount in amounts]
    first = chain.block(world.pay("BANKA", *payments, all_or_none=True))
    before = chain.state
    again = chain.block(world.pay("BANKA", *payments, all_or_none=True))
    assert [o.reason for o in first.outcomes] == reasons
    assert [(o.reason, o.original and o.original.payment) for o in again.outcomes] == [
        (reasons[0], 0),
        (reasons[1], 1),
    ]
    assert again.applied.state_root == before.map.root
