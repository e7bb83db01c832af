"""Evidence: what accuses a key, what never does, and that votes are verified once."""

from __future__ import annotations

import msgspec
import pytest

from consensus.interface import Rejected, ReportEquivocation
from consensus.messages import Certificate, Equivocation, Kind, Vote, Witnessed
from tests.support.consensus_harness import Chain, Solo, kept, only, said

CHAIN = Chain()
ONE, OTHER = (CHAIN.block(1, payload=payload) for payload in (b"one", b"other"))


def accusations(effects: list[object]) -> list[Equivocation]:
    reported = [effect.equivocation for effect in only(effects, ReportEquivocation)]
    persisted = [record.equivocation for record in kept(effects, Witnessed)]
    assert reported == persisted
    return reported


FAULTS = [
    (CHAIN.vote(2, 1, Kind.NOTARIZE, ONE.content), CHAIN.vote(2, 1, Kind.NOTARIZE, OTHER.content)),
    (CHAIN.vote(2, 1, Kind.FINALIZE, ONE.content), CHAIN.vote(2, 1, Kind.FINALIZE, OTHER.content)),
    (CHAIN.vote(2, 1, Kind.NULLIFY), CHAIN.vote(2, 1, Kind.FINALIZE, ONE.content)),
    (CHAIN.vote(2, 1, Kind.FINALIZE, ONE.content), CHAIN.vote(2, 1, Kind.NULLIFY)),
]


@pytest.mark.parametrize(("first", "second"), FAULTS)
def test_two_votes_that_no_correct_signer_makes_are_evidence_once(
    first: Vote, second: Vote
) -> None:
    solo = Solo()
    effects = solo.get_all([first, second, second, first, second])
    assert accusations(list(effects)) == [Equivocation(first, second)]


@pytest.mark.parametrize(("first", "second"), FAULTS)
def test_votes_hidden_in_a_certificate_accuse_too(first: Vote, second: Vote) -> None:
    for alone, inside in ((first, second), (second, first)):
        for certificate_first in (True, False):
            solo = Solo(None)
            certificate = solo.chain.certificate(1, inside.kind, inside.content)
            pair: list[Vote | Certificate] = [certificate, alone]
            effects = solo.get_all(pair if certificate_first else reversed(pair))
            assert [e.first.voter for e in accusations(list(effects))] == [2]


def test_a_vote_that_came_after_its_certificate_still_accuses() -> None:
    solo = Solo(None)
    solo.get(solo.chain.nullification(1, (0, 1, 3)))
    late, rival = FAULTS[2]
    effects = solo.get_all([late, rival])
    assert accusations(list(effects)) == [Equivocation(late, rival)]


def test_notarize_with_nullify_is_no_fault_and_neither_is_finalize_after_notarize() -> None:
    solo = Solo()
    effects = solo.get_all(
        [
            CHAIN.vote(2, 1, Kind.NOTARIZE, ONE.content),
            CHAIN.vote(2, 1, Kind.NULLIFY),
            CHAIN.vote(3, 1, Kind.NOTARIZE, ONE.content),
            CHAIN.vote(3, 1, Kind.FINALIZE, OTHER.content),
        ]
    )
    assert not accusations(list(effects))


def test_votes_of_different_views_or_voters_accuse_nobody() -> None:
    solo = Solo()
    effects = solo.get_all(
        [
            CHAIN.vote(2, 1, Kind.NOTARIZE, ONE.content),
            CHAIN.vote(2, 2, Kind.NOTARIZE, OTHER.content),
            CHAIN.vote(3, 1, Kind.NOTARIZE, OTHER.content),
        ]
    )
    assert not accusations(list(effects))


@pytest.mark.parametrize(("first", "second"), FAULTS)
def test_a_forged_vote_accuses_nobody_and_hides_nothing(first: Vote, second: Vote) -> None:
    solo = Solo()
    forged = msgspec.structs.replace(second, signature=first.signature)
    effects = solo.get_all([first, forged])
    assert not accusations(list(effects))
    assert accusations(list(solo.get(second))) == [Equivocation(first, second)]


def test_a_forged_late_vote_in_anothers_place_does_not_hide_the_real_one() -> None:
    solo = Solo(None)
    solo.get(solo.chain.nullification(1, (0, 1, 3)))
    nullify, finalize = FAULTS[2]
    solo.get(msgspec.structs.replace(nullify, signature=finalize.signature))
    effects = solo.get_all([finalize, nullify])
    assert accusations(list(effects)) == [Equivocation(finalize, nullify)]


def test_a_forged_late_copy_of_a_vote_does_not_keep_the_real_one_out() -> None:
    solo = Solo(None)
    solo.get(solo.chain.nullification(1, (0, 1, 3)))
    nullify, finalize = FAULTS[2]
    solo.get(msgspec.structs.replace(nullify, signature=finalize.signature))
    effects = solo.get_all([nullify, finalize])
    assert accusations(list(effects)) == [Equivocation(nullify, finalize)]


def test_the_first_vote_stays_counted_when_its_voter_equivocates() -> None:
    solo = Solo(None)
    effects = solo.get_all(
        [
            CHAIN.vote(2, 1, Kind.NOTARIZE, ONE.content),
            CHAIN.vote(2, 1, Kind.NOTARIZE, OTHER.content),
            CHAIN.vote(0, 1, Kind.NOTARIZE, ONE.content),
            CHAIN.vote(1, 1, Kind.NOTARIZE, ONE.content),
        ]
    )
    assert [c.content for c in said(effects, Certificate)] == [ONE.content]


# --- verification --------------------------------------------------------------------------------


def test_a_vote_is_verified_once_however_often_it_comes() -> None:
    solo = Solo()
    for _ in range(5):
        solo.get(CHAIN.vote(2, 1, Kind.NOTARIZE, ONE.content))
    assert solo.verify.count == 1


def test_votes_after_their_certificate_are_not_verified() -> None:
    solo = Solo(None)
    solo.get_all(CHAIN.vote(i, 1, Kind.NULLIFY) for i in (0, 1, 2))
    before = solo.verify.count
    solo.get(CHAIN.vote(3, 1, Kind.NULLIFY))
    assert solo.verify.count == before == 3


def test_a_certificate_of_votes_already_seen_costs_only_the_unseen() -> None:
    solo = Solo(None)
    solo.get_all(CHAIN.vote(i, 1, Kind.NULLIFY) for i in (1, 2))
    solo.get(CHAIN.nullification(1, (1, 2, 3)))
    assert solo.verify.count == 3
    assert solo.core.view == 2


def test_a_certificate_that_is_held_is_not_verified_again() -> None:
    solo = Solo(None)
    solo.get(CHAIN.nullification(1))
    solo.get(CHAIN.nullification(1, (0, 1, 2)))
    assert solo.verify.count == 3


@pytest.mark.parametrize(
    "vote",
    [
        Vote(0, 1, Kind.NULLIFY, ONE.content, 2, bytes(64)),
        Vote(0, 1, Kind.NOTARIZE, None, 2, bytes(64)),
        Vote(0, 1, Kind.NULLIFY, None, 4, bytes(64)),
        Vote(1, 1, Kind.NULLIFY, None, 2, bytes(64)),
    ],
)
def test_what_cannot_be_a_vote_is_refused_before_any_verification(vote: Vote) -> None:
    solo = Solo()
    assert [type(effect) for effect in solo.get(vote, sender=3)] == [Rejected]
    assert solo.verify.count == 0


@pytest.mark.parametrize(
    ("view", "refused"),
    [(0, []), (3, ["vote: of a view far ahead"]), (1_000_000, ["vote: of a view far ahead"])],
)
def test_votes_of_views_not_near_are_dropped_unverified(view: int, refused: list[str]) -> None:
    solo = Solo()
    effects = solo.get(Vote(0, view, Kind.NULLIFY, None, 2, bytes(64)))
    assert [each.reason for each in only(effects, Rejected)] == refused
    assert len(effects) == len(refused)
    assert solo.verify.count == 0
