"""Amounts: decimal text and minor units say the same, and nothing else is an amount."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.api.amounts import BadAmount, format_amount, parse_amount
from node.chain.types import MAX_AMOUNT


@given(st.integers(1, MAX_AMOUNT), st.integers(0, 8))
def test_every_amount_survives_the_way_to_text_and_back(minor: int, exponent: int) -> None:
    assert parse_amount(format_amount(minor, exponent), exponent, "EUR") == minor


@given(st.integers(-MAX_AMOUNT, MAX_AMOUNT), st.integers(0, 8))
def test_text_always_has_all_decimals(minor: int, exponent: int) -> None:
    _, point, fraction = format_amount(minor, exponent).partition(".")
    assert len(fraction) == exponent
    assert bool(point) == bool(exponent)


@pytest.mark.parametrize(
    ("text", "exponent", "minor"),
    [("1250.00", 2, 125_000), ("0.01", 2, 1), ("7", 2, 700), ("7.5", 2, 750), ("007", 0, 7)],
)
def test_what_people_write_is_read_exactly(text: str, exponent: int, minor: int) -> None:
    assert parse_amount(text, exponent, "EUR") == minor


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0", "zero"),
        ("0.00", "zero"),
        ("-1", "negative"),
        ("−1", "negative"),
        ("1.001", "too precise"),
        ("1.000", "too precise"),
        ("184467440737095516.16", "too large"),
        ("9" * 64, "too large"),
        ("9" * 65, "not a decimal"),
        ("1e3", "not a decimal"),
        ("1,000.00", "not a decimal"),
        ("1_000", "not a decimal"),
        ("+1", "not a decimal"),
        (".5", "not a decimal"),
        ("5.", "not a decimal"),
        ("", "not a decimal"),
        ("NaN", "not a decimal"),
        ("inf", "not a decimal"),
        ("١٢", "not a decimal"),
        ("12²", "not a decimal"),
        ("1 000", "not a decimal"),
    ],
)
def test_what_is_no_amount_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(BadAmount, match=why):
        parse_amount(text, 2, "EUR")


def test_a_currency_without_decimals_takes_none() -> None:
    with pytest.raises(BadAmount, match="0 decimal places"):
        parse_amount("1.0", 0, "JPY")
