"""The description of the resources that tell of queues, credit, netting, days and statements."""

from __future__ import annotations

from typing import Any

from node.api.openapi_parts import PAGING, UETR, json, operation, query
from node.api.settlement import (
    ConsentsPage,
    CyclesPage,
    CycleView,
    DayView,
    DisputesPage,
    DisputeView,
    LimitsPage,
    LinksPage,
    LinkView,
    LoansPage,
    MovementsPage,
    NettingPage,
    PledgesPage,
    PricesPage,
    QueuePage,
    SchedulePage,
    StatementsPage,
    TraceDocument,
)

SETTLEMENT_TYPES: tuple[Any, ...] = (
    QueuePage,
    LimitsPage,
    PricesPage,
    PledgesPage,
    LoansPage,
    NettingPage,
    CyclesPage,
    CycleView,
    LinksPage,
    LinkView,
    DayView,
    SchedulePage,
    StatementsPage,
    MovementsPage,
    TraceDocument,
    DisputesPage,
    DisputeView,
    ConsentsPage,
)

_WHO = {
    "name": "participant",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "Short name, LEI or BIC",
}
_OF_WHOM = query("participant", {"type": "string"}, "Short name, LEI or BIC; all without it")
_ASSET = query("asset", {"type": "string"}, "Code of a currency, or ISIN; all without it")
_PLACE = {"type": "string", "pattern": "^[0-9]{1,12}:[0-9]{1,12}$"}
_ASSET_PATH = {**_WHO, "name": "asset", "description": "Code of a currency"}
_CYCLE = {
    "name": "cycle",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1},
}
_LINK_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}


def _list(
    summary: str, kind: Any, order: str, parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """A resource that pages by cursor."""
    return {"get": operation(summary, {"200": json(kind, order)}, [*(parameters or ()), *PAGING])}


def _one(summary: str, kind: Any, parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"get": operation(summary, {"200": json(kind, "As it is now")}, parameters)}


def settlement_paths() -> dict[str, Any]:
    """Path → what can be asked there."""
    return {
        "/v1/queues/{participant}": _list(
            "What a participant has queued, why each payment waits, and its projected positions",
            QueuePage,
            "By asset and account, in the order in which they are tried",
            [_WHO, _ASSET],
        ),
        "/v1/limits": _list(
            "Limits of settlement accounts, and how much of each is used",
            LimitsPage,
            "Ascending by participant and asset",
            [_OF_WHOM],
        ),
        "/v1/prices": _list(
            "Prices and haircuts of collateral", PricesPage, "Ascending by security and currency"
        ),
        "/v1/pledges": _list(
            "Pledged securities and what they are worth",
            PledgesPage,
            "Ascending by participant, currency, security",
            [_OF_WHOM],
        ),
        "/v1/loans": _list(
            "Debit balances at the close of a day",
            LoansPage,
            "Ascending by LEI, asset and date",
            [_OF_WHOM],
        ),
        "/v1/netting": _list(
            "Net systems with their members, caps and positions", NettingPage, "Ascending by asset"
        ),
        "/v1/cycles": _list(
            "Clearing cycles: status, positions, and what settled them",
            CyclesPage,
            "By asset, the newest first",
            [_ASSET],
        ),
        "/v1/cycles/{asset}/{cycle}": _one("One clearing cycle", CycleView, [_ASSET_PATH, _CYCLE]),
        "/v1/links": _list("Open linked settlements", LinksPage, "Ascending by id"),
        "/v1/links/{id}": _one("One open linked settlement", LinkView, [_LINK_ID]),
        "/v1/day": _one("The operating day", DayView),
        "/v1/schedule": _list("The published business days", SchedulePage, "Ascending by date"),
        "/v1/statements/{participant}": _list(
            "Opening and closing of a participant's accounts, on a business date or since the last "
            "close",
            StatementsPage,
            "Ascending by asset and account",
            [_WHO, query("date", {"type": "string", "pattern": "^[0-9]{8}$"}, "yyyymmdd")],
        ),
        "/v1/statements/{participant}/movements": _list(
            "The movements that a statement covers",
            MovementsPage,
            "In the order of the ledger; a page may be empty and still have a `next`",
            [
                _WHO,
                {**_ASSET, "required": True},
                {**query("account", {"type": "string"}, "Its kind"), "required": True},
                {**query("begins", _PLACE, "As the statement says"), "required": True},
                {**query("ends", _PLACE, "As the statement says"), "required": True},
            ],
        ),
        "/v1/trace/{uetr}": _one(
            "All payments linked to one, from the source: what carries it on, what gives it back",
            TraceDocument,
            [UETR],
        ),
        "/v1/disputes": _list("All disputes", DisputesPage, "Ascending by UETR"),
        "/v1/disputes/{uetr}": _one("The dispute of a payment", DisputeView, [UETR]),
        "/v1/consents": _list(
            "Consents of supervisors that still hold", ConsentsPage, "Ascending by digest"
        ),
    }
