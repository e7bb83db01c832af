"""ISINs (ISO 6166) with their check digit, and which assets are the securities that they name.

Written here because a genesis file must be readable with the base dependencies alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_ISIN = re.compile(r"[A-Z]{2}[A-Z0-9]{9}[0-9]", re.ASCII)


def has_isin_form(code: str) -> bool:
    """Whether the code looks like an ISIN: two letters, nine letters or digits, a digit."""
    return _ISIN.fullmatch(code) is not None


def is_isin(code: str) -> bool:
    """Whether the code is an ISIN with the right check digit.

    Letters count as 10 … 35, digit by digit; every second digit from the right, the last but one
    first, counts double, and the digits of all sum to a multiple of ten (Luhn's formula).
    """
    if not has_isin_form(code):
        return False
    digits = [int(digit) for character in code for digit in str(int(character, 36))]
    doubled = [2 * digit for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(sum(divmod(each, 10)) for each in doubled)) % 10 == 0


def is_security(code: str, roles: Collection[str]) -> bool:
    """Whether an asset of an issuer with these roles is a security: what a depository issues is. If
    that issues currencies too, the form of the code decides."""
    return "depository" in roles and ("issuer" not in roles or has_isin_form(code))
