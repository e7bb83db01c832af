"""Liars make real cores finalize conflicting blocks; what the honest ones keep names the liars."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

import pytest

from consensus.messages import Kind, Message
from node.audit.accountability import check_equivocation, enough_culprits
from node.audit.fork import build_fork
from node.audit.report import UNDECIDED, VALID, Report
from node.audit.verify_accountability import check_fork
from node.engine.prune import DAY_MS, make_pruner
from node.storage.config import Retention
from node.storage.horizon import load_horizon
from tests.support.split import ONE, OTHER, Half, Split, is_vote

SPLITS = {
    4: lambda: Split(4, liars=(1, 2), other=(3,)),
    7: lambda: Split(7, liars=(1, 2, 4), other=(5, 6)),
}
"""f+1 liars, and half of the honest ones on either side: each has exactly a quorum."""
MANY = 30


def same_view(net: Split) -> int:
    """The leader is a liar, and shows another block to each side."""
    view = net.until_led_by(net.liars)
    net.split()
    return view


def by_nullification(net: Split) -> int:
    """The leader is honest and on one side. The other side gives the view up."""
    view = net.until_led_by(tuple(half.index for half in net.side(ONE)))
    net.split()
    return view


def by_notarizations(net: Split) -> int:
    """On the other side the liars do not finalize their second block, but one that builds on it."""
    view = same_view(net)
    net.drop = lambda sender, to, message: (
        sender.side == OTHER and is_vote(message, Kind.FINALIZE, view)
    )
    return view


CASES: dict[str, tuple[Callable[[Split], int], tuple[str, str]]] = {
    "same view": (same_view, ("finalize", "finalize")),
    "nullification": (by_nullification, ("nullify", "finalize")),
    "notarizations": (by_notarizations, ("notarize", "notarize")),
}


def forked(validators: int, case: str) -> tuple[Split, int]:
    """The network once every honest node has a final block since it was split; the view."""
    net = SPLITS[validators]()
    view = CASES[case][0](net)
    grow(net, 1)
    return net, view


def grow(net: Split, blocks: int) -> None:
    """Until every honest node has so many more final blocks."""
    heights = [half.height + blocks for half in net.honest]
    net.until(lambda: all(half.height >= h for half, h in zip(net.honest, heights, strict=True)))


def proven(net: Split, halves: Iterable[Half], journals: Iterable[Half] = ()) -> Report:
    journaled = [each for half in journals for each in half.journaled()]
    proof = build_fork([half.store for half in halves], net.genesis, journaled)
    return check_fork(proof, net.genesis)


def assert_liars_named(net: Split, report: Report) -> None:
    assert report.verdict == VALID, report.text()
    named = {culprit.validator for culprit in report.culprits}
    assert named <= set(net.liars), report.text()
    assert len(named) >= enough_culprits(net.genesis.validator_set), report.text()


@pytest.mark.parametrize("validators", SPLITS)
@pytest.mark.parametrize("case", CASES)
def test_any_two_nodes_of_the_two_sides_name_the_liars(validators: int, case: str) -> None:
    net, view = forked(validators, case)
    for pair in product(net.side(ONE), net.side(OTHER)):
        report = proven(net, pair)
        assert_liars_named(net, report)
        kinds = CASES[case][1]
        for culprit in report.culprits:
            assert culprit.view == view
            assert [word for word in culprit.fault.split() if word in kinds] == list(kinds)


@pytest.mark.parametrize("validators", SPLITS)
@pytest.mark.parametrize("case", CASES)
def test_they_are_named_long_after_and_when_old_blocks_are_gone(validators: int, case: str) -> None:
    net, _ = forked(validators, case)
    parted = max(half.height for half in net.honest)
    grow(net, MANY)
    net.sleep(400 * DAY_MS)
    grow(net, 2)
    for half in net.honest:
        pruner = make_pruner(Retention("pruned", 100), half.store, half.kv)
        assert pruner is not None
        while pruner.step():
            pass
        assert load_horizon(half.kv).blocks > parted
        assert half.store.block(parted) is None
    for pair in product(net.side(ONE), net.side(OTHER)):
        assert_liars_named(net, proven(net, pair))


@pytest.mark.parametrize("validators", SPLITS)
@pytest.mark.parametrize("case", CASES)
def test_when_the_sides_meet_again_one_of_them_stops_and_no_honest_node_is_accused(
    validators: int, case: str
) -> None:
    """Whoever is shown the other branch above its own stops; the others are shown nothing new."""
    net, _ = forked(validators, case)
    net.parted = False
    net.drop = lambda sender, to, message: False
    net.until(lambda: any(all(half.alarms for half in net.side(s)) for s in (ONE, OTHER)))
    net.wait(2_000)
    genesis = net.genesis
    found = [pair for half in net.honest for pair in half.evidence]
    assert found
    for pair in found:
        check_equivocation(pair, genesis.validator_set, genesis.chain_id, "evidence")
        assert pair.first.voter in net.liars
    for two in product(net.side(ONE), net.side(OTHER)):
        assert_liars_named(net, proven(net, two))


def test_what_a_node_acted_on_but_has_no_final_block_above_stands_in_its_journal() -> None:
    """Four of seven lie, so one honest node is enough for a quorum. Node 5 gives the view up, and
    never learns of what its votes made final. Node 6 learns that, and never that the view was
    given up: no database has a certificate of the view, and nothing names anybody."""
    net = Split(7, liars=(1, 2, 3, 4), other=(5, 6))
    view = by_nullification(net)
    one, given_up, final = net.honest
    before = one.height

    def drop(sender: Half, to: Half, message: Message) -> bool:
        if to is given_up:
            return is_vote(message, Kind.FINALIZE)
        if to is final and is_vote(message, Kind.NULLIFY, view):
            return True
        return to in (one, final) and to.height > before  # one block on either side is enough

    net.drop = drop
    net.until(lambda: final.height > before and one.height > before)
    assert given_up.height == before
    report = proven(net, (one, final, given_up))
    assert (report.verdict, report.culprits) == (UNDECIDED, []), report.text()
    assert_liars_named(net, proven(net, (one, final, given_up), journals=net.honest))
    assert_liars_named(net, proven(net, (one, final), journals=[given_up]))
