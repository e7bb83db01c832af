"""The client's questions about settlement: queues, credit, netting, days, statements, traces."""

from __future__ import annotations

from typing import Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from node.api.settlement import (
    AccountStatementView,
    ConsentsPage,
    ConsentView,
    CyclesPage,
    CycleView,
    DayView,
    DisputesPage,
    DisputeView,
    LimitsPage,
    LimitsView,
    LinksPage,
    LinkView,
    LoansPage,
    LoanView,
    MovementsPage,
    MovementView,
    NettingPage,
    NettingView,
    PledgesPage,
    PledgeView,
    PricesPage,
    PriceView,
    QueuePage,
    ScheduledDayView,
    SchedulePage,
    StatementsPage,
    TraceDocument,
)

T = TypeVar("T")
PAGE = 1_000
"""Items asked for at once: the most that a node gives."""


class _Asking(Protocol):
    """What the client itself offers."""

    async def _get(self, path: str, kind: type[T]) -> T: ...

    async def _pages(self, path: str, kind: type[T]) -> list[T]: ...

    async def _find(
        self, path: str, kind: type[T], unknown: str, seconds: float = ...
    ) -> T | None: ...


def _path(path: str, *, limit: int = PAGE, **parameters: str | int | None) -> str:
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"{path}?{urlencode({'limit': limit, **given})}"


class SettlementCalls(_Asking):
    """Lists are told whole: all their pages, from one node. All raise ApiProblem, Unreachable,
    BadAnswer."""

    async def queue(self, participant: str, asset: str | None = None) -> QueuePage:
        """A participant's positions and all its entries."""
        who = quote(participant, safe="")
        pages = await self._pages(_path(f"/v1/queues/{who}", asset=asset), QueuePage)
        entries = [entry for page in pages for entry in page.entries]
        return msgspec.structs.replace(pages[0], entries=entries, next=None)

    async def limits(self, participant: str | None = None) -> list[LimitsView]:
        pages = await self._pages(_path("/v1/limits", participant=participant), LimitsPage)
        return [each for page in pages for each in page.accounts]

    async def prices(self) -> list[PriceView]:
        pages = await self._pages(_path("/v1/prices"), PricesPage)
        return [each for page in pages for each in page.prices]

    async def pledges(self, participant: str | None = None) -> list[PledgeView]:
        pages = await self._pages(_path("/v1/pledges", participant=participant), PledgesPage)
        return [each for page in pages for each in page.pledges]

    async def loans(self, participant: str | None = None) -> list[LoanView]:
        pages = await self._pages(_path("/v1/loans", participant=participant), LoansPage)
        return [each for page in pages for each in page.loans]

    async def netting(self) -> list[NettingView]:
        pages = await self._pages(_path("/v1/netting"), NettingPage)
        return [each for page in pages for each in page.systems]

    async def cycles(self, asset: str | None = None, newest: int = 20) -> list[CycleView]:
        """The newest of an asset, or of the first assets: they are kept for ever."""
        path = _path("/v1/cycles", limit=newest, asset=asset)
        return (await self._get(path, CyclesPage)).cycles

    async def cycle(self, asset: str, number: int) -> CycleView | None:
        """One of them; None: there is none of this number."""
        path = f"/v1/cycles/{quote(asset, safe='')}/{number}"
        return await self._find(path, CycleView, "unknown-cycle")

    async def links(self) -> list[LinkView]:
        pages = await self._pages(_path("/v1/links"), LinksPage)
        return [each for page in pages for each in page.links]

    async def day(self) -> DayView:
        return await self._get("/v1/day", DayView)

    async def schedule(self) -> list[ScheduledDayView]:
        pages = await self._pages(_path("/v1/schedule"), SchedulePage)
        return [each for page in pages for each in page.days]

    async def statements(
        self, participant: str, date: int | None = None
    ) -> list[AccountStatementView]:
        """Its accounts on a business date, or since the last close."""
        who = quote(participant, safe="")
        pages = await self._pages(_path(f"/v1/statements/{who}", date=date), StatementsPage)
        return [each for page in pages for each in page.statements]

    async def movements(self, statement: AccountStatementView) -> list[MovementView]:
        """Every movement that a statement covers, in order."""
        account = statement.asset, statement.account
        return await self.movements_between(
            statement.lei, account, statement.begins, statement.ends
        )

    async def movements_between(
        self, participant: str, account: tuple[str, str], begins: str, ends: str
    ) -> list[MovementView]:
        """Movements of an account, (asset, kind), from one HEIGHT:INDEX to before another."""
        asset, kind = account
        path = _path(
            f"/v1/statements/{quote(participant, safe='')}/movements",
            asset=asset,
            account=kind,
            begins=begins,
            ends=ends,
        )
        return [each for page in await self._pages(path, MovementsPage) for each in page.movements]

    async def trace(self, uetr: str) -> TraceDocument:
        return await self._get(f"/v1/trace/{uetr}", TraceDocument)

    async def dispute(self, uetr: str) -> DisputeView | None:
        """None: the payment is not disputed."""
        return await self._find(f"/v1/disputes/{uetr}", DisputeView, "unknown-dispute")

    async def disputes(self) -> list[DisputeView]:
        pages = await self._pages(_path("/v1/disputes"), DisputesPage)
        return [each for page in pages for each in page.disputes]

    async def consents(self) -> list[ConsentView]:
        pages = await self._pages(_path("/v1/consents"), ConsentsPage)
        return [each for page in pages for each in page.consents]
