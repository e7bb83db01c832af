"""No element of a dossier can be removed, added, doubled, exchanged, changed or taken from another.

What remains VALID is what leaves out what nobody has to show, and it proves the same.
"""

from __future__ import annotations

import pytest

from node.audit.dossier import Dossier
from node.audit.report import INVALID, VALID
from tests.support import wire
from tests.support.dossiers import checked, failures
from tests.support.evidence_world import CASES, case_bytes
from tests.support.mutations import Mutant, exchanged, mutants

FIELDS = Dossier.__struct_fields__
OPTIONAL = {"debtor", "creditor", "related", "together"}
"""Fields of which something may be left out: balances; what was said in a block that is needed for
something else; the agreements to a link that is still open."""
EVERY = 13
"""Of so many damaged elements one is tried here; `tests.support.evidence_flips` tries them all."""
NAMES = list(CASES)


def judge(name: str, mutant: Mutant) -> None:
    """The verdict is not VALID, or nothing is proven but what the whole dossier proves."""
    report = checked(mutant.data)
    if report.verdict != VALID:
        return
    field = FIELDS[mutant.at[0] - 1]
    assert field in OPTIONAL, f"{mutant.what} at {mutant.at}: {report.text()}"
    sound = checked(case_bytes(name))
    assert (report.status, report.payment) == (sound.status, sound.payment), mutant
    assert len(mutant.data) < len(case_bytes(name)), "nothing that is added is valid"


@pytest.mark.parametrize("name", NAMES)
def test_no_element_is_there_for_nothing(name: str) -> None:
    for number, mutant in enumerate(mutants(case_bytes(name))):
        if number % EVERY == NAMES.index(name) % EVERY and mutant.data != case_bytes(name):
            judge(name, mutant)


@pytest.mark.parametrize("name", NAMES)
def test_no_field_of_another_payments_dossier_fits(name: str) -> None:
    for step in (1, 5, 17):
        other = NAMES[NAMES.index(name) - step]
        for mutant in exchanged(case_bytes(name), case_bytes(other)):
            judge(name, mutant)


BITS = 160
"""Flipped bits of each kind of dossier: more than 5,000 in all."""


@pytest.mark.parametrize("name", NAMES)
def test_no_sampled_flipped_bit_is_valid(name: str) -> None:
    assert BITS * len(NAMES) >= 5_000
    data = case_bytes(name)
    for number in range(BITS):
        # A stride that is prime to eight: every position within a byte comes up.
        position = (number * (len(data) * 8 // BITS) + 3 * number) % (len(data) * 8)
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        report = checked(bytes(flipped))
        assert report.verdict == INVALID, f"bit {position}: {report.text()}"


@pytest.mark.parametrize("name", ["alone", "many", "net-waterfall", "link-eur"])
def test_another_encoding_of_the_same_dossier_is_invalid(name: str) -> None:
    for longer in wire.widened(case_bytes(name)):
        report = checked(longer)
        assert failures(report) == ["file"], report.text()
