"""The handlers under /v1 that tell of queues, credit, netting, links, days and statements."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from aiohttp import web

from node.api import paging
from node.api.offload import Offload
from node.api.problems import Refused
from node.api.requests import (
    answer,
    limit_of,
    only,
    uetr_of,
    unknown_participant,
    unknown_payment,
)
from node.api.service import NodeService, UnknownParticipant
from node.api.settlement import (
    ConsentsPage,
    CyclesPage,
    DisputesPage,
    LimitsPage,
    LinksPage,
    LoansPage,
    MovementsPage,
    NettingPage,
    PledgesPage,
    PricesPage,
    SchedulePage,
    StatementsPage,
)
from node.api.settlement_service import Key, Place

MAX_CYCLES_PAGE = 100
"""Clearing cycles of one page: for each a block may be read."""
PAGING = frozenset({"cursor", "limit"})

_PLACE = re.compile(r"([0-9]{1,12}):([0-9]{1,12})", re.ASCII)
_DATE = re.compile(r"[0-9]{8}", re.ASCII)
_LINK = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


class SettlementRoutes:
    """Handlers over one running node."""

    def __init__(self, service: NodeService) -> None:
        self._service = service
        self._reading = Offload("statements and traces")

    def add_to(self, app: web.Application) -> None:
        app.add_routes(
            [
                web.get("/v1/queues/{participant}", self.queue),
                web.get("/v1/limits", self.limits),
                web.get("/v1/prices", self.prices),
                web.get("/v1/pledges", self.pledges),
                web.get("/v1/loans", self.loans),
                web.get("/v1/netting", self.netting),
                web.get("/v1/cycles", self.cycles),
                web.get("/v1/cycles/{asset}/{cycle}", self.cycle),
                web.get("/v1/links", self.links),
                web.get("/v1/links/{id}", self.link),
                web.get("/v1/day", self.day),
                web.get("/v1/schedule", self.schedule),
                web.get("/v1/statements/{participant}", self.statements),
                web.get("/v1/statements/{participant}/movements", self.movements),
                web.get("/v1/trace/{uetr}", self.trace),
                web.get("/v1/disputes", self.disputes),
                web.get("/v1/disputes/{uetr}", self.dispute),
                web.get("/v1/consents", self.consents),
                web.get("/v1/parameters", self.parameters),
            ]
        )

    def close(self) -> None:
        """Wait until nothing is read of the node any more; nobody asks any more."""
        self._reading.close()

    # --- queues and limits ----------------------------------------------------------------------

    async def queue(self, request: web.Request) -> web.Response:
        query = only(request.query, PAGING | {"asset"})
        asset = self._asset(query)
        who = request.match_info["participant"]
        after = _after("queues", query)
        try:
            job = self._service.settlement.queue(who, asset, after, limit_of(query))
        except UnknownParticipant as error:
            raise unknown_participant(error) from error
        page, last = await self._reading.run(job)
        return answer(msgspec.structs.replace(page, next=_next("queues", last)))

    async def limits(self, request: web.Request) -> web.Response:
        query = only(request.query, PAGING | {"participant"})
        try:
            listed = self._service.settlement.limits(query.get("participant"))
        except UnknownParticipant as error:
            raise unknown_participant(error) from error
        found, following = paging.page(
            "limits",
            listed,
            lambda e: [e.participant, e.asset],
            query.get("cursor"),
            limit_of(query),
        )
        height = self._service.height()
        return answer(LimitsPage(height=height, accounts=found, next=following))

    # --- credit ---------------------------------------------------------------------------------

    async def prices(self, request: web.Request) -> web.Response:
        query = only(request.query, PAGING)
        found, following = paging.page(
            "prices",
            self._service.settlement.prices(),
            lambda e: [e.security, e.currency],
            query.get("cursor"),
            limit_of(query),
        )
        height = self._service.height()
        return answer(PricesPage(height=height, prices=found, next=following))

    async def pledges(self, request: web.Request) -> web.Response:
        query = only(request.query, PAGING | {"participant"})
        try:
            listed = self._service.settlement.pledges(query.get("participant"))
        except UnknownParticipant as error:
            raise unknown_participant(error) from error
        found, following = paging.page(
            "pledges",
            listed,
            lambda e: [e.participant, e.currency, e.security],
            query.get("cursor"),
            limit_of(query),
        )
        height = self._service.height()
        return answer(PledgesPage(height=height, pledges=found, next=following))

    async def loans(self, request: web.Request) -> web.Response:
        query = only(request.query, PAGING | {"participant"})
        try:
            found, last = self._service.settlement.loans(
                query.get("participant"), _after("loans", query), limit_of(query)
            )
        except UnknownParticipant as error:
            raise unknown_participant(error) from error
        height = self._service.height()
        return answer(LoansPage(height=height, loans=found, next=_next("loans", last)))

    # --- netting and links ----------------------------------------------------------------------

    async def netting(self, request: web.Request) -> web.Response:
        query = only(request.query, PAGING)
        found, following = paging.page(
            "netting",
            self._service.settlement.netting(),
            lambda e: [e.asset],
            query.get("cursor"),
            limit_of(query),
        )
        height = self._service.height()
        return answer(NettingPage(height=height, systems=found, next=following))

    async def cycles(self, request: web.Request) -> web.Response:
        """By asset, the newest first: what an operator looks for is at the end."""
        query = only(request.query, PAGING | {"asset"})
        settlement = self._service.settlement
        keys = settlement.cycles(self._asset(query))
        after = _after("cycles", query)
        start = 0
        if after is not None:
            place = _cycle_place(after)
            start = next(
                (i for i, (asset, number) in enumerate(keys) if (asset, -number) > place), len(keys)
            )
        end = start + min(limit_of(query), MAX_CYCLES_PAGE)
        found = await self._reading.run(settlement.cycle(keys[start:end]))
        last = [keys[end - 1][0], str(keys[end - 1][1])] if end < len(keys) else None
        height = self._service.height()
        return answer(CyclesPage(height=height, cycles=found, next=_next("cycles", last)))

    async def cycle(self, request: web.Request) -> web.Response:
        only(request.query, set())
        asset, number = request.match_info["asset"], request.match_info["cycle"]
        if _NUMBER.fullmatch(number) is None:
            raise Refused("bad-parameter", f"{number[:40]!r} is no number of a cycle")
        key = (asset, int(number))
        if key not in self._service.settlement.cycles(asset):
            raise Refused("unknown-cycle", f"{asset[:20]!r} has no clearing cycle {number}")
        [found] = await self._reading.run(self._service.settlement.cycle([key]))
        return answer(found)

    async def links(self, request: web.Request) -> web.Response:
        query = only(request.query, PAGING)
        found, following = paging.page(
            "links",
            self._service.settlement.links(),
            lambda e: [e.id],
            query.get("cursor"),
            limit_of(query),
        )
        return answer(LinksPage(height=self._service.height(), links=found, next=following))

    async def link(self, request: web.Request) -> web.Response:
        only(request.query, set())
        id = request.match_info["id"]
        if _LINK.fullmatch(id) is None:
            raise Refused("bad-parameter", f"{id[:80]!r} is no id of a link: 64 hexadecimal digits")
        for found in self._service.settlement.links():
            if found.id == id:
                return answer(found)
        raise Refused(
            "unknown-link",
            f"no open link has the id {id}; one that settled or expired is told by its legs",
        )

    # --- the operating day ----------------------------------------------------------------------

    async def day(self, request: web.Request) -> web.Response:
        only(request.query, set())
        return answer(self._service.settlement.day())

    async def schedule(self, request: web.Request) -> web.Response:
        query = only(request.query, PAGING)
        found, following = paging.page(
            "schedule",
            self._service.settlement.schedule(),
            lambda e: [f"{e.date:08}"],
            query.get("cursor"),
            limit_of(query),
        )
        return answer(SchedulePage(height=self._service.height(), days=found, next=following))

    # --- statements -----------------------------------------------------------------------------

    async def statements(self, request: web.Request) -> web.Response:
        query = only(request.query, PAGING | {"date"})
        text = query.get("date")
        if text is not None and _DATE.fullmatch(text) is None:
            raise Refused("bad-parameter", f"date is {text[:40]!r}; write it as yyyymmdd")
        who, date = request.match_info["participant"], None if text is None else int(text)
        try:
            job = self._service.settlement.statements(who, date)
        except UnknownParticipant as error:
            raise unknown_participant(error) from error
        found, following = paging.page(
            "statements",
            await self._reading.run(job),
            lambda e: [e.asset, e.account],
            query.get("cursor"),
            limit_of(query),
        )
        height = self._service.height()
        return answer(StatementsPage(height=height, statements=found, next=following))

    async def movements(self, request: web.Request) -> web.Response:
        query = only(request.query, PAGING | {"asset", "account", "begins", "ends"})
        for name in ("asset", "account", "begins", "ends"):
            if not query.get(name):
                raise Refused("bad-parameter", f"give `{name}`, as the statement says it")
        after = _after("movements", query)
        places = (_place("begins", query["begins"]), _place("ends", query["ends"]))
        try:
            job = self._service.settlement.movements(
                request.match_info["participant"],
                (query["asset"], query["account"]),
                places,
                None if after is None else _place("cursor", ":".join(after)),
                limit_of(query),
            )
        except UnknownParticipant as error:
            raise unknown_participant(error) from error
        found, last = await self._reading.run(job)
        key = None if last is None else [str(last[0]), str(last[1])]
        return answer(MovementsPage(movements=found, next=_next("movements", key)))

    # --- linked payments, disputes, consents ------------------------------------------------------

    async def trace(self, request: web.Request) -> web.Response:
        only(request.query, set())
        found = await self._reading.run(self._service.settlement.trace(uetr_of(request)))
        if found is None:
            raise unknown_payment(request.match_info["uetr"])
        return answer(found)

    async def disputes(self, request: web.Request) -> web.Response:
        query = only(request.query, PAGING)
        found, last = self._service.settlement.disputes(_after("disputes", query), limit_of(query))
        height = self._service.height()
        return answer(DisputesPage(height=height, disputes=found, next=_next("disputes", last)))

    async def dispute(self, request: web.Request) -> web.Response:
        only(request.query, set())
        found = self._service.settlement.dispute(uetr_of(request))
        if found is None:
            raise Refused(
                "unknown-dispute", f"the payment {request.match_info['uetr']} is not disputed"
            )
        return answer(found)

    async def consents(self, request: web.Request) -> web.Response:
        query = only(request.query, PAGING)
        found, following = paging.page(
            "consents",
            self._service.settlement.consents(),
            lambda e: [e.payment],
            query.get("cursor"),
            limit_of(query),
        )
        height = self._service.height()
        return answer(ConsentsPage(height=height, consents=found, next=following))

    async def parameters(self, request: web.Request) -> web.Response:
        only(request.query, set())
        return answer(self._service.parameters())

    # --- own ------------------------------------------------------------------------------------

    def _asset(self, query: Mapping[str, str]) -> str | None:
        asset = query.get("asset")
        if asset is not None and all(each.code != asset for each in self._service.assets()):
            raise Refused("bad-parameter", f"the ledger has no asset {asset[:20]!r}")
        return asset


def _after(listing: str, query: Mapping[str, str]) -> Key | None:
    cursor = query.get("cursor")
    return None if cursor is None else paging.decode_cursor(listing, cursor)


def _next(listing: str, key: Key | None) -> str | None:
    return None if key is None else paging.encode_cursor(listing, key)


def _place(name: str, text: str) -> Place:
    match = _PLACE.fullmatch(text)
    if match is None:
        raise Refused("bad-parameter", f"{name} is {text[:40]!r}; write it as HEIGHT:INDEX")
    return int(match[1]), int(match[2])


def _cycle_place(after: Key) -> tuple[str, int]:
    """Ascends as the list does: by asset, the newest first."""
    if len(after) != 2 or _NUMBER.fullmatch(after[1]) is None:
        raise Refused("bad-cursor", "the cursor was not given by the list of cycles")
    return after[0], -int(after[1])
