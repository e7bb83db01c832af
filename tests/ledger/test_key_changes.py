"""A key counts from the height after its registration up to the one of its revocation."""

from __future__ import annotations

import pytest

from node.chain.instruction import CheckedInstruction
from node.chain.records import ParticipantRecord
from node.chain.state_map import verify_present
from node.ledger.apply import BadBlock
from node.ledger.state import participant_key
from tests.support.ledger_world import Chain, World, signer

SPARE = signer("spare")


@pytest.fixture
def world() -> World:
    return World.make(keys={"BANKB": (3, 2)})


@pytest.fixture
def chain(world: World) -> Chain:
    chain = Chain(world)
    chain.fund()
    return chain


def by_spare(world: World) -> CheckedInstruction:
    return world.pay("BANKA", world.payment("BANKA", "BANKB", 1), signers=[SPARE])


def test_a_key_signs_from_the_height_after_its_registration(world: World, chain: Chain) -> None:
    register = world.register_key("BANKA", SPARE)
    with pytest.raises(BadBlock, match="valid from"):
        chain.make(register, by_spare(world))
    block = chain.block(register)
    (outcome,) = block.outcomes
    assert (outcome.status, outcome.uetr) == ("ACSC", None)
    assert chain.block(by_spare(world)).outcomes[0].status == "ACSC"


def test_a_key_signs_up_to_the_height_of_its_revocation(world: World, chain: Chain) -> None:
    chain.block(world.register_key("BANKA", SPARE))
    revoke = world.revoke_key("BANKA", SPARE.public_key, signers=[SPARE])
    block = chain.block(revoke, by_spare(world))
    assert [o.status for o in block.outcomes] == ["ACSC", "ACSC"]
    with pytest.raises(BadBlock, match="revoked from"):
        chain.make(by_spare(world))


def test_what_is_valid_at_a_height_is_proven_by_the_state_root_below_it(
    world: World, chain: Chain
) -> None:
    below = chain.block(world.register_key("BANKA", SPARE))
    chain.block(by_spare(world))
    participant = below.state.participant(world.lei("BANKA"))
    assert participant is not None
    key = participant_key(world.lei("BANKA"))
    record, proof = below.state.map.prove(key)
    assert record is not None
    verify_present(below.header.state_root, key, record, proof)
    assert [(k.public_key, k.valid_from) for k in participant.record.keys] == sorted(
        [(world.banks["BANKA"].signers[0].public_key, 0), (SPARE.public_key, 3)]
    )


def test_a_key_can_be_replaced_and_the_old_one_signs_no_more(world: World, chain: Chain) -> None:
    old = world.banks["BANKA"].signers[0]
    block = chain.block(
        world.register_key("BANKA", SPARE), world.revoke_key("BANKA", old.public_key)
    )
    assert [o.reason for o in block.outcomes] == [None, None]
    with pytest.raises(BadBlock, match="revoked from"):
        chain.make(world.pay("BANKA", world.payment("BANKA", "BANKB", 1)))
    assert chain.block(by_spare(world)).outcomes[0].status == "ACSC"


def test_a_threshold_stays_within_reach(world: World, chain: Chain) -> None:
    """BANKB signs with two of three."""
    first, second, third = world.banks["BANKB"].signers
    assert _reason(chain, world.revoke_key("BANKB", first.public_key)) is None
    left = [second, third]
    refused = world.revoke_key("BANKB", second.public_key, signers=left)
    assert _reason(chain, refused) == "DS0A"
    chain.block(world.register_key("BANKB", SPARE, signers=left))
    revoke = world.revoke_key("BANKB", second.public_key, signers=left)
    assert _reason(chain, revoke) is None


def test_two_revocations_of_one_block_cannot_together_pass_the_threshold(
    world: World, chain: Chain
) -> None:
    first, second, _ = world.banks["BANKB"].signers
    block = chain.block(
        world.revoke_key("BANKB", first.public_key), world.revoke_key("BANKB", second.public_key)
    )
    assert [o.reason for o in block.outcomes] == [None, "DS0A"]


def test_a_key_revoked_in_the_block_of_its_registration_never_signs(
    world: World, chain: Chain
) -> None:
    block = chain.block(
        world.register_key("BANKA", SPARE), world.revoke_key("BANKA", SPARE.public_key)
    )
    assert [o.reason for o in block.outcomes] == [None, None]
    with pytest.raises(BadBlock, match="invalid-key"):
        chain.make(by_spare(world))


def test_two_participants_cannot_register_one_key_in_one_block(world: World, chain: Chain) -> None:
    block = chain.block(world.register_key("BANKA", SPARE), world.register_key("BANKC", SPARE))
    assert [o.reason for o in block.outcomes] == [None, "DS15"]


def test_records_list_keys_in_ascending_order(world: World, chain: Chain) -> None:
    chain.block(*(world.register_key("BANKA", signer("more", n)) for n in range(8)))
    participant = chain.state.participant(world.lei("BANKA"))
    assert participant is not None
    record: ParticipantRecord = participant.record
    keys = [key.public_key for key in record.keys]
    assert keys == sorted(keys)
    assert len(keys) == 9


def _reason(chain: Chain, checked: CheckedInstruction) -> str | None:
    return chain.block(checked).outcomes[0].reason
