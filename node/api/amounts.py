"""Amounts between people and the ledger: decimal text outside, minor units inside.

The text is ASCII digits with an optional point and never passes through a float: a float has
already lost cents at 90 trillion. No sign, no exponent notation, no thousands separator: each
of these is read differently somewhere.
"""

from __future__ import annotations

import re

from node.chain.amounts import format_amount
from node.chain.types import MAX_AMOUNT

__all__ = ["MAX_AMOUNT_TEXT", "BadAmount", "format_amount", "parse_amount"]

_AMOUNT = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)
MAX_AMOUNT_TEXT = 64
"""Characters of an amount; bounds the work on a hostile text."""


class BadAmount(ValueError):
    """The text is not an amount that can be paid in this asset; the message says why."""


def parse_amount(text: str, exponent: int, code: str, *, zero: bool = False) -> int:
    """Minor units of a decimal text in an asset with this exponent. `zero`: may be zero (a limit).

    Raises BadAmount: not a number, zero, negative, more decimals than the asset has, or more
    than an amount can hold.
    """
    text = text.strip()
    if text.startswith(("-", "−")):
        raise BadAmount(f"amount {text[:MAX_AMOUNT_TEXT]!r} is negative; amounts are above zero")
    match = _AMOUNT.fullmatch(text) if len(text) <= MAX_AMOUNT_TEXT else None
    if match is None:
        raise BadAmount(
            f"amount {text[:MAX_AMOUNT_TEXT]!r} is not a decimal number; write digits with an "
            "optional point, such as 1250.00"
        )
    whole, fraction = match[1], match[2] or ""
    if len(fraction) > exponent:
        raise BadAmount(
            f"amount {text} is too precise: {code} has {exponent} decimal "
            f"place{'' if exponent == 1 else 's'}"
        )
    minor = int(whole + fraction.ljust(exponent, "0"))
    if minor == 0 and not zero:
        raise BadAmount(f"amount {text} is zero; amounts are above zero")
    if minor > MAX_AMOUNT:
        raise BadAmount(
            f"amount {text} is too large: at most {format_amount(MAX_AMOUNT, exponent)} {code}"
        )
    return minor
