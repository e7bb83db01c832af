"""What of a governance instruction is refused before any state is asked: names, addresses, ids."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from consensus.messages import Kind, Vote
from node.chain.build import (
    build,
    build_ready,
    build_report,
    sign_instruction,
)
from node.chain.encoding import encode
from node.chain.instruction import (
    InstructionRefused,
    Refusal,
    check_instruction,
    envelope_digest,
    parse_instruction,
)
from node.chain.types import (
    MAX_CHANGES,
    AddValidator,
    Approve,
    Envelope,
    Propose,
    ReadyValidator,
    RemoveValidator,
    ReportEquivocation,
    Validator,
)
from tests.support import world

VALID_UNTIL = world.GENESIS_TIME + 60_000
CHAIN = world.genesis().chain_id
BANK = world.BANKA


def validator(name: str = "node4", address: str = "", operator: str = BANK.lei) -> Validator:
    return Validator(name, operator, bytes(32), bytes(31) + b"\x01", address)


def proposed(*validators: Validator) -> bytes:
    changes = [AddValidator(each, bytes(64), bytes(64)) for each in validators]
    return build(CHAIN, BANK.lei, "P1", VALID_UNTIL, Propose(tuple(changes), 1), [BANK.key])


def refusal(raw: bytes) -> Refusal:
    with pytest.raises(InstructionRefused) as refused:
        check_instruction(raw, CHAIN)
    return refused.value.code


def test_each_body_comes_back_as_it_was_built() -> None:
    checked = check_instruction(proposed(validator()), CHAIN)
    body = checked.instruction.envelope.body
    assert body == Propose((AddValidator(validator(), bytes(64), bytes(64)),), 1)
    assert checked.digest == envelope_digest(checked.instruction.envelope)
    assert checked.payment_digests == []

    raw = build(CHAIN, BANK.lei, "A1", VALID_UNTIL, Approve(checked.digest), [BANK.key])
    assert check_instruction(raw, CHAIN).instruction.envelope.body == Approve(checked.digest)

    node = world.node_signer(1)
    raw = build_ready(
        CHAIN,
        BANK.lei,
        "R1",
        VALID_UNTIL,
        name="node1",
        epoch=1,
        vote_key=bytes(32),
        possession=bytes(64),
        node=node,
    )
    instruction = check_instruction(raw, CHAIN).instruction
    assert instruction.envelope.body == ReadyValidator("node1", 1, bytes(32), bytes(64))
    assert instruction.envelope.id == "~R1"
    assert [each.public_key for each in instruction.signatures] == [node.public_key]

    votes = [Vote(0, 1, Kind.NULLIFY, None, voter, bytes(64)) for voter in (0, 1)]
    raw = build_report(
        CHAIN, BANK.lei, "E1", VALID_UNTIL, first=votes[0], second=votes[1], node=node
    )
    instruction = check_instruction(raw, CHAIN).instruction
    assert instruction.envelope.body == ReportEquivocation(*votes)
    assert instruction.envelope.id == "~E1"


@pytest.mark.parametrize("id", ["~P1", "~"])
def test_a_participant_may_not_use_the_ids_of_nodes(id: str) -> None:
    envelope = Envelope(CHAIN, BANK.lei, id, VALID_UNTIL, Propose((), 1))
    assert refusal(sign_instruction(envelope, (), [BANK.key])) is Refusal.IDENTIFIER


@pytest.mark.parametrize("id", ["R1", "r~1"])
def test_a_node_may_not_use_the_ids_of_its_operator(id: str) -> None:
    """It could use up the id of a payment that the operator is about to send."""
    body = ReadyValidator("node1", 1, bytes(32), bytes(64))
    envelope = Envelope(CHAIN, BANK.lei, id, VALID_UNTIL, body)
    assert refusal(sign_instruction(envelope, (), [world.node_signer(1)])) is Refusal.IDENTIFIER


@pytest.mark.parametrize(
    "address",
    [
        "",
        "10.0.0.1:4100",
        "node4.banka.example:65535",
        "localhost:1",
        "[::1]:4100",
        "[2001:db8::4]:443",
        "[::ffff:10.0.0.1]:443",
    ],
)
def test_an_address_is_a_host_and_a_port_or_nothing(address: str) -> None:
    check_instruction(proposed(validator(address=address)), CHAIN)


@pytest.mark.parametrize(
    "address",
    [
        "node4",
        ":4100",
        "node4:",
        "node4:0",
        "node4:65536",
        "node4:99999",
        "node4:04100",
        "node4:4100 ",
        "node4:4100\n",
        "http://node4:4100",
        "::1:4100",
        "[]:4100",
        "no de:4100",
        "nöde4:4100",
        "-node4:4100",
        "x" * 254 + ":4100",
    ],
)
def test_what_no_node_could_read_as_an_address_stands_in_no_block(address: str) -> None:
    assert refusal(proposed(validator(address=address))) is Refusal.MALFORMED


@pytest.mark.parametrize(
    "name", ["", "x" * 33, ".node", "-node", "node 4", "node\n", "nödé", "../node4", "node/4"]
)
def test_names_of_validators_are_plain(name: str) -> None:
    """They are shown, logged, and name files and metrics."""
    assert refusal(proposed(validator(name))) is Refusal.MALFORMED
    removing = build(
        CHAIN, BANK.lei, "P1", VALID_UNTIL, Propose((RemoveValidator(name),), 1), [BANK.key]
    )
    assert refusal(removing) is Refusal.MALFORMED


def test_the_operator_of_a_change_is_an_identifier() -> None:
    assert refusal(proposed(validator(operator="NOSTR0 TEST0000000198"[:20]))) is Refusal.IDENTIFIER


def test_a_proposal_has_a_bounded_number_of_changes() -> None:
    check_instruction(proposed(*(validator(f"n{n}") for n in range(MAX_CHANGES))), CHAIN)
    many = proposed(*(validator(f"n{n}") for n in range(MAX_CHANGES + 1)))
    assert refusal(many) is Refusal.MALFORMED


def test_a_validator_has_one_encoding_also_without_an_address() -> None:
    """A decoder that filled in the last field would take two byte strings for one validator."""
    checked = parse_instruction(proposed(validator()))
    raw = checked.raw
    whole, cut = encode(validator()), encode(validator())[:-1]
    assert whole.endswith(b"\xa0")
    shorter = raw.replace(whole, bytes([whole[0] - 1]) + cut[1:])
    assert shorter != raw
    assert refusal(shorter) is Refusal.MALFORMED


def test_what_a_signature_approves_is_named_by_the_whole_envelope() -> None:
    envelope = Envelope(CHAIN, BANK.lei, "P1", VALID_UNTIL, Propose((), 1))
    others = (
        replace(envelope, body=Propose((), 2)),
        replace(envelope, body=Propose((RemoveValidator("node3"),), 1)),
        replace(envelope, id="P2"),
        replace(envelope, sender=world.BANKB.lei),
        replace(envelope, chain_id=bytes(32)),
    )
    assert len({envelope_digest(each) for each in (envelope, *others)}) == 6
