"""A dossier of a later epoch is proven from the genesis file on, by each epoch's own validators."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from node.audit.build import build_dossier
from node.audit.dossier import Dossier, encode_dossier
from node.audit.report import INVALID, UNDECIDED, VALID
from node.audit.verify import check_dossier
from node.chain.encoding import encode
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.dossiers import checked, failures, receipt
from tests.support.epoch_chain import sample_of_epochs
from tests.support.epoch_links import EpochWorld
from tests.support.evidence_world import CASES, case
from tests.support.forge_chain import Chain, rebuilt, validator_set
from tests.support.forgeries_chain import across, next_set_swapped, top, with_epoch
from tests.support.stored_chain import stored

# --- sound dossiers ---------------------------------------------------------------------------


@pytest.mark.parametrize("carriers", [0, 2])
@pytest.mark.parametrize("ends", [(1,), (5, 30), (2, 3, 4, 25, 50)])
@pytest.mark.parametrize("name", ["alone", "held", "link-eur", "net-waterfall", "disputed"])
def test_a_payment_of_any_epoch_is_proven(name: str, ends: tuple[int, ...], carriers: int) -> None:
    report = checked(rebuilt(case(name), Chain(ends=ends, carriers=carriers)))
    assert (report.verdict, report.status) == (VALID, CASES[name]), report.text()


def test_a_payment_in_the_sealing_block_itself_is_proven() -> None:
    height = case("held").steps[0].outcome.height
    for ends in ((height,), (height - 1,), (height, height + 1)):
        report = checked(rebuilt(case("held"), Chain(ends=ends)))
        assert report.verdict == VALID, report.text()


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_members_come_and_go_and_each_epochs_own_sign(number: int) -> None:
    chain = sample_of_epochs()
    store = stored(chain, MemoryStore())
    data = build_dossier(store, chain.uetrs[world.uetr(number)])
    report = check_dossier(data, chain.genesis)
    assert (report.verdict, report.status) == (VALID, "settled"), report.text()
    assert "of epoch 3" in report.text()


def test_a_receipt_of_any_epochs_member_so_far_is_known() -> None:
    chain = sample_of_epochs()
    store = stored(chain, MemoryStore())
    made = _decoded(build_dossier(store, chain.uetrs[world.uetr(1)]))
    for number, known in ((0, True), (4, True), (5, False)):
        signer = world.node_signer(number)
        kept = receipt(made, node=signer.public_key, signer=signer)
        report = check_dossier(encode_dossier(replace(made, receipt=kept)), chain.genesis)
        assert (failures(report) == []) is known, report.text()


def _decoded(data: bytes) -> Dossier:
    from node.audit.dossier import decode_dossier  # noqa: PLC0415

    return decode_dossier(data)


# --- forged dossiers --------------------------------------------------------------------------


def with_links(*numbers: int) -> Dossier:
    forged = across()
    return replace(forged, epochs=tuple(forged.epochs[number] for number in numbers))


def another_chains_link() -> Dossier:
    other = EpochWorld(world.genesis(7))
    for _ in range(3):
        other.end_epoch()
    return with_epoch(across(), 1, link=other.links[1])


def another_ledgers_link() -> Dossier:
    """The same genesis file, another history."""
    other = rebuilt(case("held"), Chain(ends=(4, 30, 40)))
    return with_epoch(across(), 0, link=other.epochs[0].link)


def below_the_seal() -> Dossier:
    """A checkpoint below where its epoch began."""
    sound = rebuilt(case("held"), Chain(ends=(3, 30), headers={30: {"height": 99}}))
    assert sound.blocks[-1].header.height < 99
    return sound


def of_the_epoch_before() -> Dossier:
    """Epoch 1's validators decide a height above the end of epoch 1."""
    ends, height = (3, 30), top(case("held"))
    return rebuilt(
        case("held"),
        Chain(
            ends=ends,
            headers={height: {"epoch": 1}},
            certificate={"epoch": 1, "keys": 1},
        ),
    )


STRUCTURED: dict[str, Callable[[], Dossier]] = {
    "the first link removed": lambda: with_links(1, 2),
    "a middle link removed": lambda: with_links(0, 2),
    "the last link removed": lambda: with_links(0, 1),
    "all links removed": with_links,
    "a link doubled": lambda: with_links(0, 1, 1, 2),
    "links reordered": lambda: with_links(1, 0, 2),
    "a link added": lambda: with_links(0, 1, 2, 2),
    "another chain's link": another_chains_link,
    "a link of another history": another_ledgers_link,
    "the next set swapped": next_set_swapped,
    "a height before the epoch": below_the_seal,
    "a height after the epoch's end": of_the_epoch_before,
    "a link to the epoch after the next": lambda: with_epoch(
        across(), 1, link=replace(across().epochs[1].link, validators=validator_set(3))
    ),
}


@pytest.mark.parametrize("forgery", STRUCTURED)
def test_links_stand_once_each_where_they_belong(forgery: str) -> None:
    report = checked(STRUCTURED[forgery]())
    assert report.verdict == INVALID, report.text()


def test_a_missing_finality_hides_no_forged_link() -> None:
    report = checked(replace(next_set_swapped(), finality=None))
    assert failures(report) == ["validators"]
    assert checked(replace(across(), finality=None)).verdict == UNDECIDED


def test_the_links_alone_grow_with_epochs() -> None:
    few = encode(rebuilt(case("alone"), Chain(ends=(5,))).epochs)
    many = encode(rebuilt(case("alone"), Chain(ends=tuple(range(5, 45)))).epochs)
    assert len(many) < 41 * len(few)
