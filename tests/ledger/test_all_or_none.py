"""All payments of an all-or-none instruction settle, or none of those that had not before."""

from __future__ import annotations

import pytest

from tests.support.ledger_world import Chain, World, uetr


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
@pytest.mark.parametrize("reason", ["AM04", "CNOR", "AM03", "DS0H"])
def test_one_that_cannot_settle_takes_the_others_back(
    world: World, chain: Chain, at: int, reason: str
) -> None:
    bad = {
        "AM04": world.payment("BANKA", "BANKB", 101),
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


def test_what_came_before_it_in_the_block_stays(world: World, chain: Chain) -> None:
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
    assert [o.reason for o in block.outcomes] == [None, "ED05", "AM04", None]
    assert [chain.balance(name) for name in ("BANKA", "BANKB", "BANKC")] == [0, 30, 70]


def test_money_that_comes_in_from_outside_the_instruction_is_not_waited_for(
    world: World, chain: Chain
) -> None:
    block = chain.block(
        world.pay("BANKB", world.payment("BANKB", "BANKC", 10), all_or_none=True),
        world.pay("BANKA", world.payment("BANKA", "BANKB", 10)),
    )
    assert [o.reason for o in block.outcomes] == ["AM04", None]


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


def test_a_retry_that_was_rejected_does(world: World, chain: Chain) -> None:
    rejected = world.payment("BANKA", "BANKB", 101, uetr=uetr(1))
    chain.block(world.pay("BANKA", rejected))
    fresh = world.payment("BANKA", "BANKC", 40)
    block = chain.block(world.pay("BANKA", rejected, fresh, all_or_none=True))
    assert [(o.reason, o.original is not None) for o in block.outcomes] == [
        ("AM04", True),
        ("ED05", False),
    ]


def test_the_whole_instruction_sent_again_gets_every_original_outcome(
    world: World, chain: Chain
) -> None:
    payments = [world.payment("BANKA", "BANKB", amount) for amount in (60, 60)]
    first = chain.block(world.pay("BANKA", *payments, all_or_none=True))
    again = chain.block(world.pay("BANKA", *payments, all_or_none=True))
    assert [o.reason for o in first.outcomes] == ["ED05", "AM04"]
    assert [(o.reason, o.original and o.original.payment) for o in again.outcomes] == [
        ("ED05", 0),
        ("AM04", 1),
    ]
