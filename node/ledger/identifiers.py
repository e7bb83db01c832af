"""Identifiers of institutions: LEI (ISO 17442) and BIC (ISO 9362), with their check digits.

The rules and the list of country codes come from python-stdnum. It also accepts what a person
might type (spaces, hyphens, lower case) and, for a LEI, any length; on a ledger an identifier
has one spelling, so anything but that one is refused.
"""

from __future__ import annotations

import re

from stdnum import bic as stdnum_bic
from stdnum import lei as stdnum_lei
from stdnum.exceptions import (
    InvalidChecksum,
    InvalidComponent,
    ValidationError,
)

_LEI = re.compile(r"[0-9A-Z]{18}[0-9]{2}", re.ASCII)
_BIC = re.compile(r"[A-Z]{6}[0-9A-Z]{2}(?:[0-9A-Z]{3})?", re.ASCII)


class BadIdentifier(ValueError):
    """An identifier that names nobody; the text says what is wrong with it."""


def check_lei(text: str) -> None:
    """Raise BadIdentifier unless `text` is a LEI: 20 characters, ISO 7064 check digits."""
    if _LEI.fullmatch(text) is None:
        raise BadIdentifier(
            f"{text!r} is not a LEI: 18 upper-case letters or digits and two check digits"
        )
    try:
        stdnum_lei.validate(text)
    except InvalidChecksum:
        raise BadIdentifier(f"the check digits of LEI {text} are wrong") from None
    except ValidationError as error:
        raise BadIdentifier(f"{text} is not a LEI: {error}") from None


def check_bic(text: str) -> None:
    """Raise BadIdentifier unless `text` is a BIC of 8 or 11 characters in an existing country."""
    if _BIC.fullmatch(text) is None:
        raise BadIdentifier(
            f"{text!r} is not a BIC: 8 or 11 upper-case characters, the first six letters"
        )
    try:
        stdnum_bic.validate(text)
    except InvalidComponent:
        raise BadIdentifier(f"BIC {text} names no country: {text[4:6]}") from None
    except ValidationError as error:
        raise BadIdentifier(f"{text} is not a BIC: {error}") from None
