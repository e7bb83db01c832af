"""How records become text: names of participants, decimal amounts, kinds, and events as documents.

One place, so that a kind of account or an amount is never written in two ways.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec

from node.api.amounts import format_amount
from node.api.settlement import EventDocument
from node.chain.types import AccountKind
from node.chain.uetr import UETR_BYTES, uetr_text
from node.ledger.state import State

AMOUNTS = frozenset(
    {
        "amount",
        "available",
        "cap",
        "closing",
        "contribution",
        "credits",
        "debits",
        "drawn",
        "held",
        "limit",
        "line",
        "margin",
        "opening",
        "own",
        "owed",
    }
)
"""Fields of events and changes that hold minor units of the asset that the event names."""
PARTICIPANTS = frozenset({"participant", "debtor", "creditor", "issuer", "lei", "sponsor", "to"})
"""Fields that hold a LEI; the short name is told beside it."""
PAIRS = {"lacking": ("participant", "amount")}
"""Fields that hold tuples, with what their parts are called."""


def word(value: IntEnum) -> str:
    """The name of a kind, phase or verdict, as it is written: client-reserve."""
    return value.name.lower().replace("_", "-")


def account_word(kind: int) -> str:
    """The name of an account's kind."""
    return word(AccountKind(kind))


def account_of(text: str) -> AccountKind | None:
    """The kind with this name; None: there is none."""
    return next((kind for kind in AccountKind if word(kind) == text), None)


class Wording:
    """Names and amounts as one state has them."""

    __slots__ = ("_exponents", "_state")

    def __init__(self, state: State) -> None:
        self._state = state
        self._exponents: dict[str, int] = {}

    def name(self, lei: str) -> str:
        """The short name; the LEI itself where nobody has it."""
        found = self._state.participant(lei)
        return lei if found is None else found.record.name

    def exponent(self, asset: str) -> int | None:
        """Decimal places; None: there is no such asset."""
        if asset not in self._exponents:
            record = self._state.asset(asset)
            if record is None:
                return None
            self._exponents[asset] = record.exponent
        return self._exponents[asset]

    def amount(self, minor: int, asset: str) -> str:
        """Decimal text; minor units where the ledger has no such asset."""
        return format_amount(minor, self.exponent(asset) or 0)

    def event(self, event: msgspec.Struct, asset: str | None = None) -> EventDocument:
        """An event, or a change that is proposed, as a document. `asset`: of its amounts, where it
        names none; without one they are left out."""
        named: str | None = getattr(event, "asset", None) or getattr(event, "code", None) or asset
        config = event.__struct_config__
        kind = str(config.tag).partition("/")[0]
        return {"kind": kind, **self._fields(event, named)}

    def _fields(self, value: msgspec.Struct, asset: str | None) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name in value.__struct_fields__:
            found = getattr(value, name)
            if name in AMOUNTS and isinstance(found, int):
                if asset is not None:
                    fields[name] = self.amount(found, asset)
                continue
            fields[name] = self._value(name, found, asset)
            if name in PARTICIPANTS and isinstance(found, str):
                fields[f"{name}_name"] = self.name(found)
        return fields

    def _value(self, name: str, value: Any, asset: str | None) -> Any:
        if isinstance(value, IntEnum):
            return word(value)
        if isinstance(value, bytes):
            return uetr_text(value) if len(value) == UETR_BYTES else value.hex()
        if isinstance(value, msgspec.Struct):
            return self._fields(value, asset)
        if isinstance(value, tuple):
            if name in PAIRS:
                return [self._pair(PAIRS[name], each, asset) for each in value]
            return [self._value(name, each, asset) for each in value]
        return value

    def _pair(self, names: tuple[str, ...], values: Any, asset: str | None) -> dict[str, Any]:
        pair: dict[str, Any] = {}
        for name, value in zip(names, values, strict=True):
            if name in AMOUNTS:
                pair[name] = None if asset is None else self.amount(value, asset)
            else:
                pair[name] = value
                pair[f"{name}_name"] = self.name(value)
        return pair
