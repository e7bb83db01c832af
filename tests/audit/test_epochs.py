"""Validator history is followed from genesis, only through hand-overs right in every field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from consensus.messages import VOTE_DOMAIN, Kind, vote_payload
from node.audit.epochs import EpochLink, ValidatorHistory, follow
from node.audit.fault import Fault
from node.chain.block import header_digest, validator_set_digest
from node.chain.encoding import encode
from node.chain.types import ValidatorSet
from tests.support import world
from tests.support.epoch_links import EpochWorld, ended_epochs, validator_set, vote_signer

FLIPPED = bytes((1,)) + bytes(31)
MALLORY = world.signer("mallory").public_key


# --- sound histories --------------------------------------------------------------------------


def test_without_links_there_are_the_validators_of_the_genesis_file() -> None:
    assert follow(world.genesis(), []) == [world.genesis().validator_set]


@pytest.mark.parametrize("carriers", [0, 1, 3])
def test_each_link_leads_to_the_next_set(carriers: int) -> None:
    made = ended_epochs(3, carriers=carriers)
    assert follow(made.genesis, made.links) == made.sets
    assert [len(link.carriers) for link in made.links] == [carriers] * 3


def test_members_come_and_go_and_quorums_with_them() -> None:
    made = EpochWorld()
    made.end_epoch(members=(0, 1, 2, 3, 4))
    made.end_epoch(members=(1, 2, 3, 4, 5, 6, 7))
    made.end_epoch(members=(7,))
    made.end_epoch(members=(7, 0, 1, 2))
    assert [len(each.validators) for each in follow(made.genesis, made.links)] == [4, 5, 7, 1, 4]


def test_the_first_block_of_an_epoch_may_be_its_last() -> None:
    made = EpochWorld()
    for _ in range(3):
        made.end_epoch(blocks=1)
    assert follow(made.genesis, made.links) == made.sets


def test_a_hundred_epochs_take_three_hundred_signatures_and_no_more() -> None:
    made = ended_epochs(100)
    assert len(follow(made.genesis, made.links)) == 101
    assert sum(len(link.finalization.signatures) for link in made.links) == 300


def test_a_refused_link_leaves_what_was_known() -> None:
    made = ended_epochs(2)
    history = ValidatorHistory(made.genesis)
    history.add(made.links[0])
    with pytest.raises(Fault):
        history.add(made.links[0])
    assert history.sets == made.sets[:2]
    assert history.first_height == 3
    assert history.add(made.links[1]) == made.sets[2]
    assert history.first_height == 5


# --- forged histories -------------------------------------------------------------------------


def faulty(links: list[EpochLink]) -> str:
    """The field at which following fails."""
    with pytest.raises(Fault) as caught:
        follow(world.genesis(), links)
    assert caught.value.meaning.endswith(".")
    return caught.value.where


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda links: links[1:], "epochs[0].seal.epoch"),
        (lambda links: [links[0], links[2]], "epochs[1].seal.epoch"),
        (lambda links: [links[0], *links], "epochs[1].seal.epoch"),
        (lambda links: [links[1], links[0], links[2]], "epochs[0].seal.epoch"),
        (lambda links: [*links, links[2]], "epochs[3].seal.epoch"),
    ],
    ids=["first removed", "middle removed", "duplicated", "reordered", "last repeated"],
)
def test_links_stand_once_each_in_their_order(
    change: Callable[[list[EpochLink]], list[EpochLink]], where: str
) -> None:
    assert faulty(change(ended_epochs(3).links)) == where


def test_a_link_of_another_chain_is_refused() -> None:
    other = EpochWorld(world.genesis(7))
    other.end_epoch()
    assert faulty(other.links) == "epochs[0].seal.chain_id"


def forged(**options: Any) -> list[EpochLink]:
    """Two epochs; in the second something is other than it must be, and signed for all the same."""
    made = EpochWorld()
    made.end_epoch()
    made.end_epoch(**options)
    return made.links


SEAL: dict[str, tuple[dict[str, Any], str]] = {
    "another chain": ({"chain_id": FLIPPED}, "chain_id"),
    "other rules": ({"version": 9}, "version"),
    "an earlier epoch": ({"epoch": 0}, "epoch"),
    "a later epoch": ({"epoch": 2}, "epoch"),
    "other validators": ({"validator_set": FLIPPED}, "validator_set"),
    "another leader": ({"proposer": 9}, "proposer"),
    "a height of the epoch before": ({"height": 2}, "height"),
    "a time before the epoch": ({"timestamp": world.GENESIS_TIME}, "timestamp"),
}


@pytest.mark.parametrize("forgery", SEAL)
def test_every_field_of_a_sealing_block_is_checked(forgery: str) -> None:
    fields, where = SEAL[forgery]
    assert faulty(forged(seal=fields)) == f"epochs[1].seal.{where}"


def test_view_0_is_nobodys_block() -> None:
    links = forged(blocks=1, carriers=1, seal={"view": 0})
    assert faulty(links) == "epochs[1].seal.view"


CARRIER: dict[str, tuple[dict[str, Any], str]] = {
    "another parent": ({"parent": FLIPPED}, "parent"),
    "other rules": ({"version": 2}, "version"),
    "another chain": ({"chain_id": FLIPPED}, "chain_id"),
    "another epoch": ({"epoch": 2}, "epoch"),
    "a height of its own": ({"height": 5}, "height"),
    "a time step": ({"timestamp": world.GENESIS_TIME + 60_000}, "timestamp"),
    "another leader": ({"proposer": 9}, "proposer"),
    "a count of instructions": ({"instructions_count": 1}, "instructions_count"),
    "instructions": ({"instructions_root": FLIPPED}, "instructions_root"),
    "a count of outcomes": ({"outcomes_count": 1}, "outcomes_count"),
    "outcomes": ({"outcomes_root": FLIPPED}, "outcomes_root"),
    "another state": ({"state_root": FLIPPED}, "state_root"),
    "another history": ({"history_root": FLIPPED}, "history_root"),
    "other validators": ({"validator_set": FLIPPED}, "validator_set"),
    "other next validators": ({"next_validator_set": FLIPPED}, "next_validator_set"),
    "a view that does not ascend": ({"view": 2, "proposer": 3}, "view"),
}


@pytest.mark.parametrize("carriers", [1, 2])
@pytest.mark.parametrize("forgery", CARRIER)
def test_every_field_of_a_carrier_is_checked(forgery: str, carriers: int) -> None:
    fields, where = CARRIER[forgery]
    links = forged(carriers=carriers, carrier=fields)
    assert faulty(links) == f"epochs[1].carriers[{carriers - 1}].{where}"


def test_carriers_stand_once_each_in_their_order_up_to_what_is_certified() -> None:
    sound = forged(carriers=3)
    link = sound[1]
    a, b, c = link.carriers

    def with_carriers(*carriers: Any) -> list[EpochLink]:
        return [sound[0], replace(link, carriers=carriers)]

    assert faulty(with_carriers(b, c)) == "epochs[1].carriers[0].parent"
    assert faulty(with_carriers(a, c)) == "epochs[1].carriers[1].parent"
    assert faulty(with_carriers(a, a, b, c)) == "epochs[1].carriers[1].parent"
    assert faulty(with_carriers(b, a, c)) == "epochs[1].carriers[0].parent"
    assert faulty(with_carriers(a, b)) == "epochs[1].finalization.view"
    made = EpochWorld()
    made.end_epoch()
    unused = made.carrier(made.header())
    assert faulty([replace(made.links[0], carriers=(unused,))]) == "epochs[0].carriers[0].parent"


CERTIFICATE: dict[str, tuple[dict[str, Any], str]] = {
    "a notarization": ({"kind": Kind.NOTARIZE}, "kind"),
    "another epoch's": ({"epoch": 0}, "epoch"),
    "another view's": ({"view": 3}, "view"),
    "another chain's": ({"chain_id": FLIPPED}, "signatures"),
    "one short of a quorum": ({"voters": (0, 1)}, "signatures"),
    "a voter twice": ({"voters": (0, 1, 1)}, "signatures"),
    "out of order": ({"voters": (0, 2, 1)}, "signatures"),
}


@pytest.mark.parametrize("forgery", CERTIFICATE)
def test_every_field_of_a_sealing_certificate_is_checked(forgery: str) -> None:
    options, where = CERTIFICATE[forgery]
    assert faulty(forged(certificate=options)) == f"epochs[1].finalization.{where}"


def test_a_sealing_certificate_for_another_block_is_refused() -> None:
    sound, other = forged(), forged(seal={"state_root": FLIPPED})
    links = [sound[0], replace(sound[1], finalization=other[1].finalization)]
    assert faulty(links) == "epochs[1].finalization.block"


def test_a_carriers_certificate_names_the_view_of_its_parent() -> None:
    links = forged(carriers=1, certificate={"parent_view": 1})
    assert faulty(links) == "epochs[1].finalization.parent_view"


def test_only_the_epochs_own_keys_end_it() -> None:
    """Neither the set before, nor the set that is to come, nor a member that has left."""
    made = EpochWorld()
    made.end_epoch(members=(0, 1, 2, 4))
    made.end_epoch()
    for epoch, members in ((0, (0, 1, 2, 3)), (2, (0, 1, 2, 4)), (1, (0, 1, 3, 4))):
        signatures = tuple(
            (i, _signature(made, vote_signer(member, epoch)))
            for i, member in enumerate(members[:3])
        )
        link = made.links[1]
        forgery = replace(link, finalization=replace(link.finalization, signatures=signatures))
        assert faulty([made.links[0], forgery]) == "epochs[1].finalization.signatures"


def _signature(made: EpochWorld, signer: Any) -> bytes:
    vote = made.links[1].finalization
    payload = vote_payload(vote.epoch, vote.view, vote.kind, vote.content)
    return bytes(signer.sign(VOTE_DOMAIN, made.genesis.chain_id, payload))


def test_another_next_set_is_refused_even_one_that_was_once_in_force() -> None:
    sound = forged()
    for other in (
        validator_set(2, (0, 1, 2)),
        validator_set(2, (0, 1, 2, 4)),
        validator_set(2, (1, 0, 2, 3)),
        replace(sound[0].validators, epoch=2),
    ):
        assert faulty([sound[0], replace(sound[1], validators=other)]) == "epochs[1].validators"


def handing_over_to(validators: ValidatorSet) -> list[EpochLink]:
    return forged(validators=validators)


def test_the_next_set_is_that_of_the_next_epoch() -> None:
    for epoch in (0, 1, 3):
        assert faulty(handing_over_to(validator_set(epoch))) == "epochs[1].validators.epoch"


def test_a_set_in_which_a_key_stands_twice_is_refused() -> None:
    sound = validator_set(2)
    a, b, c, d = sound.validators
    for member, where in (
        (replace(d, name="node0"), "name"),
        (replace(d, vote_key=a.vote_key), "vote_key"),
        (replace(d, node_key=b.node_key), "node_key"),
        (replace(d, vote_key=c.node_key), "vote_key"),
        (replace(d, node_key=c.vote_key), "node_key"),
        (replace(d, node_key=d.vote_key), "node_key"),
    ):
        links = handing_over_to(replace(sound, validators=(a, b, c, member)))
        assert faulty(links) == f"epochs[1].validators[3].{where}"
    assert handing_over_to(replace(sound, validators=(a, b, c, replace(d, node_key=MALLORY))))


def test_no_flipped_bit_of_a_header_or_a_set_is_followed() -> None:
    """Whatever is not named by a field's own check is bound by the digests that were signed."""
    sound = forged(carriers=1)
    link = sound[1]
    for name in link.seal.__struct_fields__:
        value = getattr(link.seal, name)
        other = FLIPPED if isinstance(value, bytes) else value + 1
        faulty([sound[0], replace(link, seal=replace(link.seal, **{name: other}))])
    assert header_digest(link.seal) == link.carriers[0].parent
    assert validator_set_digest(link.validators) == link.seal.next_validator_set
    assert len(encode(link)) < 2_500
