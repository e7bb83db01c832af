"""A LEI or BIC has one spelling and right check digits, or it names nobody."""

from __future__ import annotations

import pytest

from node.ledger.identifiers import BadIdentifier, check_bic, check_lei


@pytest.mark.parametrize("lei", ["213800KUD8LAJWSQ9D15", "5493001KJTIIGC8Y1R12"])
def test_real_leis_pass(lei: str) -> None:
    check_lei(lei)


@pytest.mark.parametrize(
    ("lei", "reason"),
    [
        ("", "not a LEI"),
        ("213800KUD8LAJWSQ9D1", "not a LEI"),
        ("213800KUD8LAJWSQ9D150", "not a LEI"),
        ("213800KUD8LAJWSQ9D16", "check digits"),
        ("213800KUD8LJAWSQ9D15", "check digits"),
        ("213800kud8lajwsq9d15", "not a LEI"),
        ("2138 00KUD8LAJWSQ9D1", "not a LEI"),
        ("213800KUD8LAJWSQ9D15\n", "not a LEI"),
        ("213800KUD8LAJWSQ9DIS", "not a LEI"),
        ("２13800KUD8LAJWSQ9D15", "not a LEI"),
    ],
)
def test_anything_else_is_refused_as_lei(lei: str, reason: str) -> None:
    with pytest.raises(BadIdentifier, match=reason):
        check_lei(lei)


@pytest.mark.parametrize("bic", ["AGRIFRPP", "AGRIFRPP882", "DEUTDEFF", "NOSAXK2X"])
def test_real_bics_pass(bic: str) -> None:
    check_bic(bic)


@pytest.mark.parametrize(
    ("bic", "reason"),
    [
        ("", "not a BIC"),
        ("AGRIFRP", "not a BIC"),
        ("AGRIFRPP8", "not a BIC"),
        ("AGRIFRPP8820", "not a BIC"),
        ("AGRIF2PP", "not a BIC"),
        ("agrifrpp", "not a BIC"),
        ("AGRI FRPP", "not a BIC"),
        ("AGRIZZPP", "names no country: ZZ"),
    ],
)
def test_anything_else_is_refused_as_bic(bic: str, reason: str) -> None:
    with pytest.raises(BadIdentifier, match=reason):
        check_bic(bic)
