"""A payment of every kind and fate has a sound dossier, from a real store, for each reader."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from node.audit.build import EvidenceUnavailable, OpenBlocks, build_dossier
from node.audit.build_together import CHUNK_LEAVES, read_once
from node.audit.dossier import Dossier, Gridlocked, Linked, Netted, decode_dossier
from node.audit.report import VALID
from node.audit.verify import check_dossier
from node.chain.merkle import inclusion_proof, leaf_hash, root
from node.chain.types import (
    Hold,
    InstructionBody,
    OpenDispute,
    Payment,
    Recall,
    SubmitEvidence,
)
from node.ledger.entries import JoinedEntry
from tests.support.evidence_world import CASES, EvidenceWorld, case, case_bytes, evidence_world
from tests.support.ledger_world import DAY_MS
from tests.support.netting_world import netting_world
from tests.support.small_chain import SmallChain

READERS = (None, "all", "BANKA", "OUTSIDER")
TOGETHER = ("gridlock-first", "gridlock-last", "net-settled", "net-waterfall", "net-unwound")


def built(chain: SmallChain, name: str, clear: str | None = None) -> Dossier:
    return decode_dossier(build_dossier(chain, evidence_world().entry(name), clear=clear))


# --- what is in it --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_it_proves_what_became_of_the_payment_whoever_reads_it(name: str) -> None:
    genesis = evidence_world().members.genesis
    for reader in READERS:
        report = check_dossier(case_bytes(name, reader), genesis)
        assert (report.verdict, report.status) == (VALID, CASES[name]), report.text()


@pytest.mark.parametrize("name", CASES)
def test_the_store_gives_what_the_chain_itself_gives(name: str) -> None:
    made = evidence_world()
    assert case_bytes(name) == build_dossier(made.chain, made.entry(name))


@pytest.mark.parametrize("most", [1, 8])
def test_blocks_that_are_kept_open_change_nothing(most: int) -> None:
    made = evidence_world()
    blocks = OpenBlocks(made.store, most)
    for name in CASES:
        assert build_dossier(made.store, made.entry(name), blocks=blocks) == case_bytes(name)


@pytest.mark.parametrize("name", CASES)
def test_payments_of_others_are_not_in_it(name: str) -> None:
    made, data = evidence_world(), case_bytes(name)
    shown = {made.entry(name).uetr, made.uetrs.get("own")}
    # What is given back stands in the return, a link's legs in each agreement, what a hold or a
    # cancellation names in the order itself.
    pairs = {
        "return": ("returned",),
        "returned": ("return",),
        "return-queued": ("given",),
        "link-eur": ("link-cny",),
        "link-cny": ("link-eur",),
        "link-open": ("link-other", "link-third"),
        "link-expired": ("link-never",),
        "group-1": ("group-2",),
    }
    shown |= {made.uetrs[other] for other in pairs.get(name, ())}
    assert not [other for other, uetr in made.uetrs.items() if uetr in data and uetr not in shown]


@pytest.mark.parametrize("name", TOGETHER)
def test_a_reader_sees_the_whole_set_and_of_it_what_is_its_own(name: str) -> None:
    made, alone = evidence_world(), case(name).together
    assert isinstance(alone, Gridlocked | Netted)
    assert alone.place is not None
    assert not alone.members
    every = case(name, "all").together
    assert isinstance(every, Gridlocked | Netted)
    assert every.place is None
    payments = [member for member in every.members if isinstance(member, Payment)]
    assert len(payments) == len(every.members) >= 2
    for bank in ("BANKA", "BANKB", "BANKC", "BANKD"):
        together = case(name, bank).together
        assert isinstance(together, Gridlocked | Netted)
        seen = [x.uetr for x in together.members if isinstance(x, Payment)]
        own = made.lei(bank)
        assert seen == [x.uetr for x in payments if own in (x.debtor, x.creditor)]
        assert len(together.members) == len(payments)


def test_a_link_shows_who_agreed_and_how_it_ended() -> None:
    for name in ("link-eur", "link-cny"):
        together = case(name).together
        assert isinstance(together, Linked)
        assert len(together.agreements) == 1
        assert together.closed is not None
    waits = case("link-open").together
    assert isinstance(waits, Linked)
    senders = [each.act.signed.envelope.sender for each in waits.agreements]
    assert senders == [evidence_world().lei("BANKC")]
    assert waits.closed is None


def test_cycles_came_to_all_their_ends() -> None:
    ends = {}
    for name in CASES:
        together = case(name).together
        if isinstance(together, Netted):
            ends[name] = together.record.status
    assert ends == {
        "net-settled": "settled",
        "net-waterfall": "settled",
        "net-unwound": "unwound",
        "net-unsettled": "unsettled",
        "net-funding": "funding",
        "net-open": "open",
        "net-recalled": "settled",
    }


def test_what_was_said_about_a_payment_is_there_if_it_was_accepted() -> None:
    said = {
        name: [type(each.act.signed.envelope.body).__name__ for each in case(name).related]
        for name in ("returned", "recalled", "disputed", "acknowledged", "part", "nothing", "alone")
    }
    assert said == {
        "returned": ["Recall", "Return"],
        "recalled": ["Recall", "RefuseRecall"],
        "disputed": ["OpenDispute", "SubmitEvidence", "SubmitEvidence", "DecideDispute"],
        "acknowledged": ["Acknowledge"],
        "part": ["Acknowledge"],
        "nothing": ["Acknowledge"],
        "alone": [],
    }
    assert [name for name in CASES if case(name).dispute is not None] == ["disputed"]


def test_an_instruction_that_brought_two_outcomes_about_stands_once() -> None:
    """A held payment is released and settles in the same block; the release is the act of the
    first of the two alone, and nobody's of the second."""
    steps = case("gridlock-last").steps
    assert [step.act is not None for step in steps] == [True, False]
    many = case("many").steps
    assert [step.outcome.height for step in many][2:4] == [many[2].outcome.height] * 2
    assert all(step.act is not None for step in many)  # released and reprioritised: two orders


# --- a UETR that is used again --------------------------------------------------------------------


def used_again() -> tuple[EvidenceWorld, SmallChain]:
    """BANKD's payment waits for ever and ends; days later another one has its UETR."""
    made = EvidenceWorld(netting_world(uetr_window_days=1))
    chain = made.chain
    chain.add(made.issue("funds", "BANKA", 10_000))
    first = made.draft("first", "BANKD", "BANKA", 5, latest=chain.state.time + 60_000)
    chain.add(made.members.pay("BANKD", first).raw)
    chain.add(made.order("BANKD", Hold(first.uetr)))
    chain.add(after_ms=70_000)
    made.entries["first"] = chain.uetrs[first.uetr]
    chain.add(after_ms=2 * DAY_MS)
    until = chain.state.time + DAY_MS
    second = replace(first, debtor=made.lei("BANKA"), creditor=made.lei("BANKB"), latest=None)
    chain.add(made.members.pay("BANKA", second, valid_until=until).raw)
    made.entries["second"] = chain.uetrs[first.uetr]
    return made, chain


def test_the_outcomes_of_an_earlier_payment_are_not_the_new_ones() -> None:
    made, chain = used_again()
    new = build_dossier(chain, made.entries["second"])
    report = check_dossier(new, chain.genesis)
    assert (report.verdict, report.status) == (VALID, "settled"), report.text()
    assert len(decode_dossier(new).steps) == 1
    old = decode_dossier(build_dossier(chain, made.entries["first"]))
    assert [step.outcome.reason for step in old.steps] == ["AM04", "CUST", "AB03"]
    row = decode_dossier(new).row
    assert row is not None
    assert row.record is not None
    assert row.record.first == old.steps[1].outcome.original


def test_a_dispute_of_an_earlier_payment_is_not_the_new_ones() -> None:
    """The ledger remembers the earlier one for ever, since it was recalled."""
    made = EvidenceWorld(netting_world(uetr_window_days=1))
    chain = made.chain

    def until() -> int:
        return chain.state.time + DAY_MS

    def send(sender: str, body: InstructionBody) -> bytes:
        return made.members.order(sender, body, valid_until=until()).raw

    chain.add(made.issue("funds", "BANKA", 10_000))
    old = made.draft("old", "BANKA", "BANKB", 5)
    chain.add(made.members.pay("BANKA", old).raw)
    chain.add(made.order("BANKA", Recall(old, "DUPL")))
    chain.add(after_ms=2 * DAY_MS)
    new = replace(old, creditor=made.lei("BANKC"))
    chain.add(made.members.pay("BANKA", new, valid_until=until()).raw)
    entry = chain.uetrs[old.uetr]
    chain.add(after_ms=2 * DAY_MS)
    chain.add(send("BANKA", OpenDispute(old, "FRAD")))
    chain.add(send("BANKB", SubmitEvidence(old.uetr, bytes(32))))
    assert len(chain.spoken) == 3
    data = build_dossier(chain, entry)
    report = check_dossier(data, chain.genesis)
    assert (report.verdict, report.status) == (VALID, "settled"), report.text()
    found = decode_dossier(data)
    assert (found.related, found.dispute) == ((), None)


# --- what is not stored ---------------------------------------------------------------------------


def lacking(change: Callable[[SmallChain], object]) -> SmallChain:
    chain = copy.copy(evidence_world().chain)
    for name in ("blocks", "stored_outcomes", "nodes", "applied"):
        setattr(chain, name, dict(getattr(chain, name)))
    chain.changes = list(chain.changes)
    change(chain)
    return chain


def height_of(name: str, step: int = -1) -> int:
    return case(name).steps[step].outcome.height


def closed_at(name: str) -> int:
    together = case(name).together
    assert isinstance(together, Netted)
    assert together.closed is not None
    return together.closed.outcome.height


@pytest.mark.parametrize("step", [0, -1])
def test_a_pruned_block_of_any_outcome_is_named(step: int) -> None:
    height = height_of("many", step)
    with pytest.raises(EvidenceUnavailable, match=f"^block {height} is not stored here"):
        built(lacking(lambda chain: chain.blocks.pop(height)), "many")


def test_a_pruned_state_before_a_change_is_named() -> None:
    made = evidence_world().chain
    before = made.header(height_of("held") - 1)
    assert before is not None
    with pytest.raises(EvidenceUnavailable, match=f"the state of height {before.height}"):
        built(lacking(lambda chain: chain.nodes.pop(before.state_root)), "held")


def test_changes_below_a_snapshot_are_missed() -> None:
    """The record counts them."""
    with pytest.raises(EvidenceUnavailable, match=r"^5 outcomes .* followed .*, 4 are known here"):
        built(lacking(lambda chain: chain.changes.remove(held())), "many")


def held() -> tuple[bytes, int, int]:
    """Where the second outcome of `many` stands."""
    uetr = evidence_world().uetrs["many"]
    return [each for each in evidence_world().chain.changes if each[0] == uetr][1]


def test_a_pruned_close_of_a_cycle_is_named() -> None:
    height = closed_at("net-settled")
    with pytest.raises(EvidenceUnavailable, match=f"the outcomes of block {height} are not|block"):
        built(lacking(lambda chain: chain.stored_outcomes.pop(height)), "net-settled")


def test_a_cycle_that_closed_below_a_snapshot_is_named() -> None:
    def forget(chain: SmallChain) -> None:
        for height, applied in chain.applied.items():
            forgotten = copy.copy(applied)
            forgotten.closed = []
            chain.applied[height] = forgotten

    with pytest.raises(EvidenceUnavailable, match="the close of clearing cycle 1 of EUR"):
        built(lacking(forget), "net-settled")


@pytest.mark.parametrize("reader", [None, "all"])
def test_payments_that_joined_below_a_snapshot_are_missed(reader: str | None) -> None:
    first = case("net-settled").steps[0].outcome.height

    def forget(chain: SmallChain) -> None:
        forgotten = copy.copy(chain.applied[first])
        forgotten.joined = forgotten.joined[:1]
        chain.applied[first] = forgotten

    with pytest.raises(EvidenceUnavailable, match="not all of the 4 payments of clearing cycle 1"):
        built(lacking(forget), "net-settled", reader)


def test_another_payment_in_the_place_of_a_member_is_not_shown() -> None:
    """An index that a disk damaged, or a lying one: the leaf hashes are those of the cycle."""

    def swap(chain: SmallChain) -> None:
        chain.joined = lambda *asked: moved(SmallChain.joined(chain, *asked))  # type: ignore[method-assign]

    def moved(entries: Iterator[JoinedEntry]) -> Iterator[JoinedEntry]:
        found = list(entries)
        places = [(x.height, x.instruction, x.payment) for x in found]
        for entry, (height, instruction, payment) in zip(found, places[::-1], strict=True):
            yield entry._replace(height=height, instruction=instruction, payment=payment)

    with pytest.raises(EvidenceUnavailable, match="has another payment at"):
        built(lacking(swap), "net-settled", "all")


def test_a_pruned_agreement_of_another_debtor_is_named() -> None:
    together = case("link-cny").together
    assert isinstance(together, Linked)
    height = together.agreements[0].height
    with pytest.raises(EvidenceUnavailable, match=f"^block {height} is not stored here"):
        built(lacking(lambda chain: chain.blocks.pop(height)), "link-cny")


def test_an_agreement_below_a_snapshot_is_missed() -> None:
    uetr = evidence_world().uetrs["link-eur"]

    def forget(chain: SmallChain) -> None:
        chain.changes = [each for each in chain.changes if each[0] != uetr]

    with pytest.raises(EvidenceUnavailable, match="the agreement of a debtor to the link"):
        built(lacking(forget), "link-cny")


def test_a_pruned_block_of_what_was_said_is_named() -> None:
    height = case("disputed").related[-1].outcome.height
    with pytest.raises(EvidenceUnavailable, match=f"^block {height} is not stored here"):
        built(lacking(lambda chain: chain.blocks.pop(height)), "disputed")


# --- the path of one of many ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 31, 33, 64])
@pytest.mark.parametrize("held", [1, 4, 16, CHUNK_LEAVES])
def test_a_tree_that_is_read_once_gives_the_path_of_any_leaf(size: int, held: int) -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(size)]
    for index, wanted in enumerate(leaves):
        computed, place = read_once(iter(leaves), wanted, held)
        assert computed == root(leaves)
        assert place is not None
        assert (place.index, list(place.path)) == (index, inclusion_proof(leaves, index))


def test_a_leaf_that_is_not_in_a_tree_has_no_place() -> None:
    assert read_once([], leaf_hash(b"x")) == (root([]), None)
    assert read_once([leaf_hash(b"y")], leaf_hash(b"x")) == (leaf_hash(b"y"), None)
