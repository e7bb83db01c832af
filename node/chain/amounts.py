"""How an amount of minor units is written. One place, so that it is never written in two ways."""

from __future__ import annotations


def format_amount(minor: int, exponent: int) -> str:
    """The decimal text of minor units, always with all of the asset's decimals."""
    if exponent == 0:
        return str(minor)
    sign = "-" if minor < 0 else ""
    digits = str(abs(minor)).rjust(exponent + 1, "0")
    return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}"
