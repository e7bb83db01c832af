"""A dossier of a later epoch is proven from the genesis file on, through all changes of members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from node.audit.dossier import Ancestry, Dossier, Finality
from node.audit.report import INVALID, VALID
from node.audit.verify import CHECKS
from node.chain.block import validator_set_digest
from tests.support import forge, world
from tests.support.dossiers import checked, dossier, failures, receipt
from tests.support.epoch_links import EpochWorld, ended_epochs, validator_set

FLIPPED = bytes((1,)) + bytes(31)


def made_in(made: EpochWorld, **options: Any) -> Dossier:
    return forge.in_epoch(made, dossier(40), **options)


def with_links(forged: Dossier, *numbers: int) -> Dossier:
    return replace(forged, epochs=tuple(forged.epochs[number] for number in numbers))


def with_epoch(forged: Dossier, number: int, **fields: Any) -> Dossier:
    epochs = list(forged.epochs)
    epochs[number] = replace(epochs[number], **fields)
    return replace(forged, epochs=tuple(epochs))


# --- sound dossiers ---------------------------------------------------------------------------


@pytest.mark.parametrize("carriers", [0, 2])
@pytest.mark.parametrize("later", [0, 1, 3])
@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_a_payment_of_any_epoch_is_proven(epochs: int, later: int, carriers: int) -> None:
    report = checked(made_in(ended_epochs(epochs, carriers=carriers), later=later))
    assert (report.verdict, report.status) == (VALID, "settled"), report.text()


def test_it_is_the_epochs_own_members_who_decide() -> None:
    made = EpochWorld()
    made.end_epoch(members=(0, 4, 5, 6, 7, 8, 9))
    report = checked(made_in(made))
    assert report.verdict == VALID, report.text()
    assert "finalized by 5 of 7 validators" in report.text()


def sealed(carriers: int, *, later: bool, **fields: Any) -> Dossier:
    """A payment of an epoch that ended with its block, or with the next one, through carriers."""
    made = ended_epochs(1)
    following = validator_set(2)
    ends = {"next_validator_set": validator_set_digest(following)}
    sound = made_in(made, **({} if later else ends))
    seal, below = sound.header, made.view - 1
    ancestry = None
    if later:
        below, seal = made.view, made.add(made.header(**ends))
        ancestry = Ancestry(seal, made.path(sound.header.height, seal.height))
    chain = [seal]
    for number in range(carriers):
        chain.append(made.carrier(chain[-1], **(fields if number == carriers - 1 else {})))
    parent_view = chain[-2].view if carriers else below
    finality = Finality(made.finalize(chain[-1], parent_view), ancestry, tuple(chain[1:]))
    return replace(sound, epochs=made.ended(seal.height), finality=finality)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("carriers", [0, 1, 3])
def test_a_sealing_certificate_proves_its_epochs_last_blocks(carriers: int, later: bool) -> None:
    report = checked(sealed(carriers, later=later))
    assert report.verdict == VALID, report.text()


def test_a_receipt_of_any_epochs_member_so_far_is_known() -> None:
    made = EpochWorld()
    made.end_epoch(members=(0, 1, 2, 4))
    sound = made_in(made)
    for number in (3, 4):
        signer = world.node_signer(number)
        kept = receipt(sound, node=signer.public_key, signer=signer)
        assert checked(replace(sound, receipt=kept)).verdict == VALID
    stranger = world.node_signer(5)
    kept = receipt(sound, node=stranger.public_key, signer=stranger)
    assert failures(checked(replace(sound, receipt=kept))) == ["receipt"]


# --- forged dossiers --------------------------------------------------------------------------


def across(epochs: int = 3, **options: Any) -> Dossier:
    return made_in(ended_epochs(epochs), **options)


def certified_by(epoch: int, members: tuple[int, ...] = (0, 1, 2, 3), **options: Any) -> Dossier:
    """A dossier of epoch 2, from which member 3 is gone, with votes by the keys of another set."""
    made = EpochWorld()
    made.end_epoch()
    made.end_epoch(members=(0, 1, 2, 4))
    sound = made_in(made)
    assert sound.authority is not None
    own = made.finalize(sound.header, sound.authority.parent.view, **options)
    signed = made.finalize(
        sound.header, sound.authority.parent.view, signing_epoch=epoch, members=members, **options
    )
    forged = replace(own, signatures=signed.signatures)
    return replace(sound, finality=Finality(forged, None, ()))


def history_without(number: int) -> Dossier:
    """One sealing block is not in the history that the next epoch signed."""
    made = EpochWorld()
    for epoch in range(3):
        made.end_epoch()
        if epoch == number:
            made.leaves[-1] = FLIPPED
    return made_in(made)


def below_the_seal() -> Dossier:
    """Epoch 1's validators rewrite a block of epoch 0, in a history that keeps its end."""
    made = EpochWorld()
    made.end_epoch(blocks=4)
    kept, made.leaves = made.leaves, made.leaves[:1]
    links, made.links = made.links, []
    forged = made_in(made)
    made.leaves, made.links = [*made.leaves, *kept[3:]], links
    below, later = made.view, made.add()
    ancestry = Ancestry(later, made.path(forged.header.height, later.height))
    finality = Finality(made.finalize(later, below), ancestry, ())
    return replace(forged, epochs=made.ended(later.height), finality=finality)


def of_old_epoch() -> Dossier:
    """Epoch 1's validators decide a height above the end of epoch 1."""
    made = ended_epochs(2)
    late = made.sets.pop()
    made.members.pop()
    assert late.epoch == 2
    return made_in(made)


def carried_without_seal() -> Dossier:
    made = ended_epochs(1)
    sound = made_in(made)
    carrier = made.carrier(sound.header)
    certificate = made.finalize(carrier, sound.header.view)
    return replace(sound, finality=Finality(certificate, None, (carrier,)))


def next_set_swapped() -> Dossier:
    sound = across()
    link = replace(sound.epochs[1].link, validators=validator_set(2, (0, 1, 2, 4)))
    return with_epoch(sound, 1, link=link)


SOLE: dict[str, tuple[str, Callable[[], Dossier]]] = {
    "another next set": ("validators", next_set_swapped),
    "a height of the epoch before": ("seals", below_the_seal),
    "a history without the first seal": ("seals", lambda: history_without(0)),
    "a history without a later seal": ("seals", lambda: history_without(1)),
    "a history without the last seal": ("seals", lambda: history_without(2)),
    "a seal's path one short": (
        "seals",
        lambda: with_epoch(across(), 1, path=across().epochs[1].path[:-1]),
    ),
    "a seal's path one over": (
        "seals",
        lambda: with_epoch(across(), 1, path=(*across().epochs[1].path, FLIPPED)),
    ),
    "a seal's path swapped for another's": (
        "seals",
        lambda: with_epoch(across(), 1, path=across().epochs[2].path),
    ),
    "votes of the epoch before": ("finality", lambda: certified_by(1)),
    "votes of the first epoch": ("finality", lambda: certified_by(0)),
    "votes of a member that has left": (
        "finality",
        lambda: certified_by(2, (0, 1, 2, 3), voters=(0, 1, 3)),
    ),
    "one vote short of the new quorum": ("finality", lambda: certified_by(2, voters=(0, 1))),
    "a carrier that no block sealed": (
        "finality",
        carried_without_seal,
    ),
    "a carrier with another height": ("finality", lambda: sealed(1, later=False, height=9)),
    "a carrier with another time": ("finality", lambda: sealed(2, later=True, timestamp=9)),
    "a carrier with another root": (
        "finality",
        lambda: sealed(1, later=True, state_root=FLIPPED),
    ),
}


@pytest.mark.parametrize("forgery", SOLE)
def test_a_forgery_is_caught_by_the_check_that_exists_for_it_and_by_no_other(forgery: str) -> None:
    check, make = SOLE[forgery]
    report = checked(make())
    assert failures(report) == [check], report.text()
    assert (report.verdict, report.exit_code, report.status) == (INVALID, 1, None)


def unused_carrier() -> Dossier:
    sound = sealed(0, later=False)
    assert sound.finality is not None
    carrier = ended_epochs(1).carrier(sound.header)
    return replace(sound, finality=replace(sound.finality, carriers=(carrier,)))


def fewer_carriers() -> Dossier:
    sound = sealed(2, later=True)
    assert sound.finality is not None
    carriers = sound.finality.carriers[:1]
    return replace(sound, finality=replace(sound.finality, carriers=carriers))


def another_chains_link() -> Dossier:
    other = EpochWorld(world.genesis(7))
    for _ in range(3):
        other.end_epoch()
    return with_epoch(across(), 1, link=other.links[1])


STRUCTURED: dict[str, Callable[[], Dossier]] = {
    "the first link removed": lambda: with_links(across(), 1, 2),
    "a middle link removed": lambda: with_links(across(), 0, 2),
    "the last link removed": lambda: with_links(across(), 0, 1),
    "all links removed": lambda: with_links(across()),
    "a link doubled": lambda: with_links(across(), 0, 1, 1, 2),
    "links reordered": lambda: with_links(across(), 1, 0, 2),
    "a link added": lambda: with_links(across(), 0, 1, 2, 2),
    "another chain's link": another_chains_link,
    "the next set swapped": next_set_swapped,
    "an unused carrier": unused_carrier,
    "a certificate for a carrier that is not there": fewer_carriers,
    "a height after the epoch's end": of_old_epoch,
}


@pytest.mark.parametrize("forgery", STRUCTURED)
def test_links_and_carriers_stand_once_each_where_they_belong(forgery: str) -> None:
    report = checked(STRUCTURED[forgery]())
    assert report.verdict == INVALID, report.text()


def test_a_missing_finality_hides_no_forged_link() -> None:
    forged = replace(history_without(0), finality=None)
    assert "seals" in failures(checked(forged))
    assert failures(checked(replace(next_set_swapped(), finality=None))) == ["validators"]


def test_each_check_of_epochs_is_the_only_one_to_catch_something() -> None:
    caught = {check for check, _ in SOLE.values()}
    assert caught == {"validators", "seals", "finality"}
    assert caught <= {name for name, _ in CHECKS}
