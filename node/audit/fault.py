"""What a check says when evidence fails it: the field, expected, found, and what that means."""

from __future__ import annotations

from node.chain.block import SUPPORTED_RULES

MAX_SHOWN = 300
"""Characters of a value that a line shows: what a forger writes can be as long as the file."""
FEW = 8
"""Elements of a list that a line shows."""


class Fault(Exception):
    """A check failed."""

    def __init__(self, where: str, expected: object, found: object, meaning: str) -> None:
        """`where`: the field; `meaning`: a sentence in plain words."""
        self.where, self.expected, self.found = where, shown(expected), shown(found)
        self.meaning = meaning
        super().__init__(f"{where}: expected {self.expected}, found {self.found}. {meaning}")


class Missing(Exception):
    """A mandatory part is not in the evidence: the check can neither pass nor fail."""


class Absent(Exception):
    """An optional part is not in the evidence."""


def shown(value: object) -> str:
    """For people: bytes as hexadecimal digits; only the beginning of what is very long."""
    if isinstance(value, tuple | list) and len(value) > FEW:
        value = f"{len(value)} elements, {', '.join(map(str, value[:FEW]))}, …"
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def known(where: str, version: int) -> None:
    """Raise Fault unless this software knows the version of the rules that a header names."""
    if version not in SUPPORTED_RULES:
        expected = " or ".join(map(str, SUPPORTED_RULES))
        raise Fault(where, expected, version, "This verifier knows other rules.")


def same(where: str, expected: object, found: object, meaning: str) -> None:
    """Raise Fault unless the two are equal."""
    if expected != found:
        raise Fault(where, expected, found, meaning)
