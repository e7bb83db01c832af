"""Every single change to a dossier is caught, by the check that exists for it.

The forgeries are made by a forger who holds all keys and differ from a sound dossier in one
respect only: no other check may notice them, so each check is shown to be needed.
"""

from __future__ import annotations

import pytest

from node.audit.report import INVALID, VALID
from node.audit.verify import CHECKS
from tests.support.dossiers import checked, failures
from tests.support.evidence_world import CASES, case
from tests.support.forge import with_payment
from tests.support.forge_chain import Chain, rebuilt
from tests.support.forgeries import SOLE
from tests.support.forgeries_around import moved
from tests.support.forgeries_chain import top
from tests.support.forgeries_order import own_key, signed_by


@pytest.mark.parametrize("forgery", SOLE)
def test_a_forgery_is_caught_by_the_check_that_exists_for_it_and_by_no_other(forgery: str) -> None:
    check, make = SOLE[forgery]
    report = checked(make())
    assert failures(report) == [check], report.text()
    assert (report.verdict, report.exit_code) == (INVALID, 1)
    assert (report.status, report.payment) == (None, None)


def test_every_check_is_the_only_one_to_catch_something() -> None:
    assert {check for check, _ in SOLE.values()} == {name for name, _ in CHECKS}
    assert len(SOLE) >= 60


@pytest.mark.parametrize("name", CASES)
def test_the_forgers_tools_make_sound_dossiers_when_nothing_is_changed(name: str) -> None:
    sound = case(name)
    for chain in (
        Chain(),
        Chain(ends=(5, 30)),
        Chain(ends=(1, 12, top(sound)), carriers=2),
        Chain(signers=(0, 1, 2, 3)),
        Chain(signers=(1, 2, 3)),
    ):
        report = checked(rebuilt(sound, chain))
        assert (report.verdict, report.status) == (VALID, CASES[name]), report.text()


def test_what_forgeries_begin_with_is_sound() -> None:
    for sound in (
        signed_by(own_key()),
        rebuilt(with_payment(case("alone"))),
        moved((1000, 875), (0, 125)),
    ):
        report = checked(sound)
        assert report.verdict == VALID, report.text()


def test_a_failure_names_field_expected_found_and_meaning() -> None:
    _, make = SOLE["a debtor that paid less"]
    assert (
        "FAIL  balances: debtor.after.balance: expected 875, found 876. Nothing else happened in "
        "the block, and yet the balance is another."
    ) in checked(make()).text()
