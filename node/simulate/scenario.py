"""A scenario: banks with their openings, and rounds of payments between them.

Checked whole before anything runs: a what-if that ran halfway would be believed.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from node.chain.encoding import UNDECODABLE

MAX_SCENARIO_BYTES = 256 << 20
MAX_OPENING = 2**50
"""Minor units: 4,096 banks of it together stay below what an asset's supply may be."""
MAX_BANKS = 4_096

_Amount = Annotated[int, Meta(ge=1, le=MAX_OPENING)]
_Limit = Annotated[int, Meta(ge=0, le=MAX_OPENING)]


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payment."""

    id: str
    debtor: str = msgspec.field(name="from")
    creditor: str = msgspec.field(name="to")
    amount: _Amount
    """Minor units."""
    priority: Literal["urgent", "high", "normal"] = "normal"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much more a bank may pay out than it takes in, minor units."""

    bilateral: dict[str, dict[str, _Limit]] = {}
    multilateral: dict[str, _Limit] = {}


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `nostro simulate` reads; its form is part of the command's fixed interface."""

    currency: Annotated[str, Meta(pattern=r"\A[A-Z][A-Z0-9]{2,11}\Z")]
    banks: Annotated[
        dict[str, Annotated[int, Meta(ge=0, le=MAX_OPENING)]],
        Meta(min_length=1, max_length=MAX_BANKS),
    ]
    """Name → opening balance, minor units."""
    rounds: list[list[Item]]
    """Each is one block; payments enter in the order given."""
    limits: Limits = Limits()
    resolution: bool = True
    """False: every queue is served in order, one payment at a time, and nothing is offset."""


class BadScenario(ValueError):
    """The file is no scenario; the text says what is wrong and where."""


def read_scenario(data: bytes) -> Scenario:
    """Decode and check a scenario file. Raises BadScenario."""
    if len(data) > MAX_SCENARIO_BYTES:
        raise BadScenario(
            f"the file has {len(data):,} bytes; at most {MAX_SCENARIO_BYTES:,} are read"
        )
    try:
        scenario = msgspec.json.decode(data, type=Scenario)
    except UNDECODABLE as error:
        raise BadScenario(f"not a scenario: {error}") from error
    seen: set[str] = set()
    for number, items in enumerate(scenario.rounds):
        for place, item in enumerate(items):
            _check_item(scenario, item, f"rounds[{number}][{place}]", seen)
    for debtor, limits in scenario.limits.bilateral.items():
        for name in (debtor, *limits):
            _check_bank(scenario, name, f"limits.bilateral.{debtor}")
        if debtor in limits:
            raise BadScenario(f"limits.bilateral.{debtor}: a limit towards itself")
    for name in scenario.limits.multilateral:
        _check_bank(scenario, name, "limits.multilateral")
    return scenario


def _check_item(scenario: Scenario, item: Item, where: str, seen: set[str]) -> None:
    if item.id in seen:
        raise BadScenario(f"{where}.id: {item.id!a} stands twice")
    seen.add(item.id)
    _check_bank(scenario, item.debtor, f"{where}.from")
    _check_bank(scenario, item.creditor, f"{where}.to")
    if item.debtor == item.creditor:
        raise BadScenario(f"{where}: {item.debtor!a} pays itself")


def _check_bank(scenario: Scenario, name: str, where: str) -> None:
    if name not in scenario.banks:
        raise BadScenario(f"{where}: {name!a} is none of the banks")
