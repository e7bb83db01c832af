"""Blocks that are not final yet: several children of one state, of which one is committed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from node.chain.merkle import Frontier
from node.chain.state_map import StateMap
from node.ledger.ledger import Ledger, load_state
from node.ledger.state import (
    ConservationBroken,
    State,
    StateDamaged,
    account_key,
    account_record,
    asset_key,
    participant_key,
    recount,
)
from node.ledger.work import BlockContext, Work
from tests.support.ledger_world import Chain, MadeBlock, World, signer, uetr


@pytest.fixture
def world() -> World:
    return World.make()


@pytest.fixture
def chain(world: World) -> Chain:
    chain = Chain(world)
    chain.fund(100)
    return chain


def balances(state: State) -> list[int]:
    return [account.balance for account in state.accounts()]


def test_two_children_see_their_own_changes_and_neither_changes_the_parent(
    world: World, chain: Chain
) -> None:
    parent = chain.state
    left = chain.make(world.pay("BANKA", world.payment("BANKA", "BANKB", 10, uetr=uetr(1))))
    right = chain.make(
        world.pay("BANKA", world.payment("BANKA", "BANKC", 99, uetr=uetr(1))),
        world.register_key("BANKC", signer("spare")),
    )
    assert balances(parent) == [100, 100, 100]
    assert balances(left.state) == [90, 110, 100]
    assert balances(right.state) == [1, 100, 199]
    assert left.state.key_holder(signer("spare").public_key) is None
    assert right.state.key_holder(signer("spare").public_key) == world.lei("BANKC")
    chain.commit(left)
    assert balances(chain.state) == [90, 110, 100]
    assert chain.state.key_holder(signer("spare").public_key) is None
    chain.block(world.pay("BANKB", world.payment("BANKB", "BANKC", 110)))
    assert balances(chain.state) == [90, 0, 210]
    recount(chain.state)


def test_a_block_gives_the_same_result_on_a_final_and_on_an_unfinalized_parent(
    world: World, chain: Chain
) -> None:
    script = [
        [world.pay("BANKA", world.payment("BANKA", "BANKB", 10, uetr=uetr(1)))],
        [],
        [world.register_key("BANKB", signer("spare"))],
        [
            world.pay("BANKA", world.payment("BANKA", "BANKB", 10, uetr=uetr(1))),
            world.pay("BANKB", world.payment("BANKB", "BANKC", 110), signers=[signer("spare")]),
        ],
        [world.issue("CENTRALBANK", "BANKB", 5), world.redeem("CENTRALBANK", 1)],
    ]
    speculative: list[MadeBlock] = []
    parent = chain.state
    for instructions in script:
        block = chain.make(*instructions, parent=parent)
        speculative.append(block)
        parent = block.state
    digests = []
    for instructions in script:
        digests.append(chain.block(*instructions).digest)
    assert [block.digest for block in speculative] == digests


def test_blocks_executed_far_ahead_are_committed_one_by_one(world: World, chain: Chain) -> None:
    blocks: list[MadeBlock] = []
    parent = chain.state
    for number in range(10):
        block = chain.make(
            world.pay("BANKA", world.payment("BANKA", "BANKB", 1 + number)), parent=parent
        )
        blocks.append(block)
        parent = block.state
    expected = [balances(block.state) for block in blocks]
    for number, block in enumerate(blocks):
        chain.commit(block)
        assert balances(chain.state) == expected[number]
        assert balances(blocks[-1].state) == expected[-1], "later states read on undisturbed"
    assert chain.state.layers == ()


def test_a_sibling_does_not_see_what_storage_already_holds_of_the_block_being_committed(
    world: World, chain: Chain
) -> None:
    pay = world.pay("BANKA", world.payment("BANKA", "BANKB", 10, uetr=uetr(1)))
    other = world.pay("BANKA", world.payment("BANKA", "BANKC", 20, uetr=uetr(1)))
    block = chain.make(pay)
    sibling = chain.make(pay, other)
    chain.index.store(block.applied)  # durable, while the ledger is still one block behind
    again = chain.make(pay, other)
    assert again.digest == sibling.digest
    child = chain.make(other, parent=block.state)
    assert child.outcomes[0].reason == "AM05"
    chain.commit(block)
    assert chain.make(other).digest == child.digest


def test_hundreds_of_unfinalized_empty_blocks_cost_nothing_to_read(
    world: World, chain: Chain
) -> None:
    block = chain.make(world.pay("BANKA", world.payment("BANKA", "BANKB", 1)))
    blocks = [block]
    for _ in range(2_000):
        block = chain.make(parent=block.state)
        blocks.append(block)
    assert len(block.state.layers) == 1
    last = chain.make(world.pay("BANKB", world.payment("BANKB", "BANKC", 101)), parent=block.state)
    for each in [*blocks, last]:
        chain.commit(each)
    assert balances(chain.state) == [99, 0, 201]


def test_committed_layers_are_left_out_of_later_states(world: World, chain: Chain) -> None:
    """As in a running node: the next block is always executed before the last one is final."""
    ahead = chain.make(world.pay("BANKA", world.payment("BANKA", "BANKB", 1)))
    for _ in range(20):
        following = chain.make(
            world.pay("BANKA", world.payment("BANKA", "BANKB", 1)), parent=ahead.state
        )
        assert len(following.state.layers) <= 2
        chain.commit(ahead)
        ahead = following
    assert balances(ahead.state) == [79, 121, 100]


def test_an_abandoned_sibling_cannot_be_extended_or_committed(world: World, chain: Chain) -> None:
    left, right = chain.make(), chain.make(time=chain.state.time + 7)
    grandchild = chain.make(parent=right.state)
    chain.commit(left)
    for state in (right.state, grandchild.state):
        with pytest.raises(AssertionError, match="does not descend"):
            chain.make(parent=state)
    with pytest.raises(AssertionError, match="in order"):
        right.state.commit()


def test_a_state_below_the_committed_one_cannot_be_extended(chain: Chain) -> None:
    old = chain.state
    chain.block()
    with pytest.raises(AssertionError, match="does not descend"):
        chain.make(parent=old)


def test_blocks_are_not_committed_out_of_order(chain: Chain) -> None:
    first = chain.make()
    second = chain.make(parent=first.state)
    with pytest.raises(AssertionError, match="in order"):
        second.state.commit()


def test_a_state_without_a_header_has_no_children(chain: Chain) -> None:
    applied = chain.ledger.apply(
        chain.state, BlockContext(chain.state.height + 1, chain.state.time + 1), []
    )
    with pytest.raises(AssertionError, match="seal"):
        chain.make(parent=applied.state)
    with pytest.raises(AssertionError, match="header"):
        applied.state.commit()


def test_history_holds_every_header_below(world: World, chain: Chain) -> None:
    frontier = Frontier.load(
        chain.state.height + 1, lambda level, index: chain.history[level, index]
    )
    assert frontier == chain.state.history
    assert chain.make().header.history_root == frontier.root()


# --- conservation -----------------------------------------------------------------------------


def test_money_that_appears_is_caught_before_the_block_has_a_root(
    world: World, chain: Chain
) -> None:
    work = Work(chain.state, BlockContext(chain.state.height + 1, chain.state.time + 1))
    book = work.book("EUR", 0)
    book.load(world.lei("BANKA"))
    book.balances[world.lei("BANKA")] = 101
    with pytest.raises(ConservationBroken, match="accounts gained 1"):
        work.seal()


def test_a_debit_below_zero_is_caught(world: World, chain: Chain) -> None:
    work = Work(chain.state, BlockContext(chain.state.height + 1, chain.state.time + 1))
    book = work.book("EUR", 0)
    for name, balance in (("BANKA", -1), ("BANKB", 201)):
        book.load(world.lei(name))
        book.balances[world.lei(name)] = balance
    with pytest.raises(ConservationBroken, match="pays out EUR that it has not"):
        work.seal()


# --- loading ------------------------------------------------------------------------------------


def reloaded(chain: Chain, records: dict[bytes, bytes] | None = None) -> State:
    last = chain.blocks[-1]
    return load_state(
        (records or chain.records).items(),
        last.header,
        Frontier.load(last.header.height + 1, lambda *place: chain.history[place]),
        chain.index,
        chain.nodes.get,
    )


def test_a_state_loaded_from_storage_goes_on_as_the_one_in_memory(
    world: World, chain: Chain
) -> None:
    chain.block(world.pay("BANKA", world.payment("BANKA", "BANKB", 10, uetr=uetr(1))))
    chain.block(world.register_key("BANKA", signer("spare")))
    state = reloaded(chain)
    assert list(state.accounts()) == list(chain.state.accounts())
    assert (state.height, state.time, state.digest, state.history, state.chain_id) == (
        chain.state.height,
        chain.state.time,
        chain.state.digest,
        chain.state.history,
        chain.state.chain_id,
    )
    following = chain.make(
        world.pay(
            "BANKA",
            world.payment("BANKA", "BANKB", 10, uetr=uetr(1)),
            world.payment("BANKA", "CENTRALBANK", 10),
            signers=[signer("spare")],
        ),
        world.register_key("BANKB", signer("spare")),
    )
    ledger = Ledger(state)
    verified = ledger.verify(state, following.header, following.instructions)
    assert verified.records == following.applied.records
    ledger.commit(verified.state)
    assert ledger.info() == (
        following.header.height,
        following.digest,
        following.header.timestamp,
        following.header.state_root,
    )


def with_balance(world: World, balance: int) -> dict[bytes, bytes | None]:
    return {account_key(world.lei("BANKA"), "EUR", 0): account_record(balance)}


DAMAGES: dict[str, Callable[[World], dict[bytes, bytes | None]]] = {
    "another balance": lambda w: with_balance(w, 101),
    "an account gone": lambda w: {account_key(w.lei("BANKA"), "EUR", 0): None},
    "a participant gone": lambda w: {participant_key(w.lei("WATCHDOG")): None},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_stored_records_that_are_not_the_headers_are_refused(
    world: World, chain: Chain, damage: str
) -> None:
    records: dict[bytes, bytes | None] = {**chain.records, **DAMAGES[damage](world)}
    damaged = {key: record for key, record in records.items() if record is not None}
    with pytest.raises(StateDamaged, match=r"state root .* the header of height 1"):
        reloaded(chain, damaged)


@pytest.mark.parametrize(
    ("key", "record", "match"),
    [
        (b"\xff", account_record(1), "state key ff"),
        (account_key("0" * 20, "EUR", 0), b"\x00", "state key"),
        (asset_key("EUR"), account_record(1), "another kind of record"),
    ],
)
def test_records_that_make_no_sense_are_named(
    chain: Chain, key: bytes, record: bytes, match: str
) -> None:
    records = {**chain.records, key: record}
    header = replace(
        chain.blocks[-1].header, state_root=StateMap.empty().update(dict(records)).root
    )
    with pytest.raises(StateDamaged, match=match):
        load_state(records.items(), header, Frontier(), chain.index, chain.nodes.get)


def test_stored_balances_that_do_not_add_up_are_refused_even_under_the_right_root(
    world: World, chain: Chain
) -> None:
    bank = account_key(world.lei("BANKA"), "EUR", 0)
    records = {**chain.records, bank: account_record(101)}
    header = replace(
        chain.blocks[-1].header, state_root=StateMap.empty().update(dict(records)).root
    )
    history = chain.state.history
    with pytest.raises(ConservationBroken, match="EUR at height 1"):
        load_state(records.items(), header, history, chain.index, chain.nodes.get)
