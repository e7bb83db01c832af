"""Proofs of equivocation on the ledger: judged by the set of their epoch, kept for ever."""

from __future__ import annotations

import pytest

from consensus.messages import Content, Kind
from node.chain.instruction import CheckedInstruction
from node.ledger.apply import BadBlock
from node.ledger.equivocations import MAX_REPORTS
from node.ledger.ledger import load_state
from tests.support.council import Council, content, epoch_vote
from tests.support.ledger_world import DAY_MS

KINDS = [
    (Kind.NOTARIZE, content(1), Kind.NOTARIZE, content(2)),
    (Kind.FINALIZE, content(1), Kind.FINALIZE, content(2)),
    (Kind.FINALIZE, content(1), Kind.FINALIZE, content(1, parent=4)),
    (Kind.NULLIFY, None, Kind.FINALIZE, content(1)),
    (Kind.FINALIZE, content(1), Kind.NULLIFY, None),
]


@pytest.mark.parametrize(("kind", "what", "other", "other_what"), KINDS)
def test_what_no_correct_signer_makes_is_kept(
    kind: Kind, what: Content | None, other: Kind, other_what: Content | None
) -> None:
    council = Council.make()
    key = council.world.votes[2]
    votes = council.vote(key, 2, kind, what), council.vote(key, 2, other, other_what)
    block = council.block(council.report(*votes))
    assert block.outcomes[0].reason is None
    (proven,) = council.chain.state.equivocations()
    assert (proven.first, proven.second) == votes
    assert proven.height == block.header.height
    assert proven.reporter == council.world.lei("CENTRALBANK")


def test_a_report_of_an_ended_epoch_is_judged_by_that_epochs_keys() -> None:
    council = Council.make()
    council.pend(council.remove("node3"))
    council.advance(*council.founders()[:3])
    council.pend()
    council.advance(*council.founders()[:3])
    assert council.chain.state.validator_set.epoch == 2
    old = (council.vote(council.world.votes[3], 3, Kind.FINALIZE, content(n)) for n in (1, 2))
    assert council.reason(council.report(*old)) is None, "node3 has left long ago"
    key = epoch_vote("node1", 1)
    later = (council.vote(key, 1, Kind.FINALIZE, content(n), epoch=1) for n in (1, 2))
    assert council.reason(council.report(*later)) is None
    assert [(e.first.epoch, e.first.voter) for e in council.chain.state.equivocations()] == [
        (0, 3),
        (1, 1),
    ]


def test_a_member_of_the_next_epoch_may_report_too() -> None:
    council = Council.make()
    joining = council.member("node4")
    key = council.world.votes[1]
    report = council.report(
        *(council.vote(key, 1, Kind.FINALIZE, content(n)) for n in (1, 2)), reporter=joining
    )
    with pytest.raises(BadBlock, match="unknown-key"):
        council.chain.make(report)
    council.pend(council.add(joining))
    assert council.reason(report) is None


def test_one_block_proves_a_view_once() -> None:
    council = Council.make()
    key = council.world.votes[1]
    votes = [council.vote(key, 1, Kind.FINALIZE, content(n)) for n in (1, 2, 3)]
    block = council.block(council.report(votes[0], votes[1]), council.report(votes[1], votes[2]))
    assert [o.reason for o in block.outcomes] == [None, "DUPL"]
    assert len(council.chain.state.equivocations()) == 1


def test_each_view_and_each_voter_counts_for_itself() -> None:
    council = Council.make()
    reports = [
        council.report(
            *(
                council.vote(council.world.votes[voter], voter, Kind.FINALIZE, content(n), view=v)
                for n in (1, 2)
            )
        )
        for voter in (1, 2)
        for v in (8, 9)
    ]
    council.block(*reports)
    found = [(e.first.view, e.first.voter) for e in council.chain.state.equivocations()]
    assert found == [(8, 1), (8, 2), (9, 1), (9, 2)]


def test_the_bound_is_on_one_key_and_a_new_epoch_has_a_new_key() -> None:
    council = Council.make()

    def report(voter: int, view: int, epoch: int = 0) -> CheckedInstruction:
        key = council.world.votes[voter] if not epoch else epoch_vote(f"node{voter}", epoch)
        return council.report(
            *(
                council.vote(key, voter, Kind.FINALIZE, content(n), view=view, epoch=epoch)
                for n in (1, 2)
            )
        )

    block = council.block(*(report(1, view) for view in range(4, 5 + MAX_REPORTS)))
    assert [o.reason for o in block.outcomes] == [None] * MAX_REPORTS + ["AM21"]
    assert council.reason(report(2, 4)) is None
    council.pend()
    council.advance(*council.founders())
    assert council.reason(report(1, 4, epoch=1)) is None


def test_proofs_outlive_restarts() -> None:
    council = Council.make()
    key = council.world.votes[1]
    for view in (5, 6):
        votes = (council.vote(key, 1, Kind.FINALIZE, content(n), view=view) for n in (1, 2))
        council.block(council.report(*votes))
    block = council.chain.blocks[-1]
    again = load_state(
        council.chain.records.items(),
        block.header,
        block.state.history,
        council.chain.index,
        council.chain.nodes.__getitem__,
    )
    assert again.equivocations() == council.chain.state.equivocations()
    assert again.reports_against(0, 1) == council.chain.state.reports_against(0, 1) == 2
    assert again.reports_against(0, 2) == 0


def test_a_false_report_is_a_rejection_and_no_bad_block() -> None:
    council = Council.make()
    key = council.world.votes[1]
    same = council.vote(key, 1, Kind.FINALIZE, content(1))
    block = council.block(council.report(same, same))
    assert block.outcomes[0].status == "RJCT"


def test_reports_expire_like_any_instruction() -> None:
    council = Council.make()
    key = council.world.votes[1]
    report = council.report(*(council.vote(key, 1, Kind.FINALIZE, content(n)) for n in (1, 2)))
    with pytest.raises(BadBlock, match="expired"):
        council.chain.make(report, time=council.chain.state.time + 2 * DAY_MS)
