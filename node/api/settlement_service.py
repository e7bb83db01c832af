"""What the HTTP API asks a running node about settlement: queues, credit, netting, statements.

Lists that may be long are asked for by page: `after` is the key of the last item given, as the
cursor carries it, and what is answered with it is the key of the last item of this page, or None at
the end. Whoever answers bounds the work of one call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from node.api.settlement import (
    AccountStatementView,
    ConsentView,
    CycleView,
    DayView,
    DisputeView,
    LimitsView,
    LinkView,
    LoanView,
    MovementView,
    NettingView,
    PledgeView,
    PriceView,
    QueuePage,
    ScheduledDayView,
    TraceDocument,
)

Key = list[str]
"""Of an item in its list."""
Place = tuple[int, int]
"""(height, index of an outcome)."""


T = TypeVar("T")
Job = Callable[[], T]
"""Work that reads stored blocks: made on the node's event loop, run on another thread. Raises
Refused (pruned)."""


class SettlementService(Protocol):
    """All calls are made on the node's own event loop. A participant is named by short name, LEI or
    BIC; UnknownParticipant is raised if it is none."""

    def queue(
        self, participant: str, asset: str | None, after: Key | None, limit: int
    ) -> Job[tuple[QueuePage, Key | None]]:
        """Its accounts that can queue, with what all queues would make of them; entries in order,
        and why each waits. Raises Refused (bad-cursor)."""

    def limits(self, participant: str | None) -> list[LimitsView]:
        """Limits of one participant or all, by short name and asset."""

    def prices(self) -> list[PriceView]:
        """By security and currency."""

    def pledges(self, participant: str | None) -> list[PledgeView]:
        """By short name, currency and security."""

    def loans(
        self, participant: str | None, after: Key | None, limit: int
    ) -> tuple[list[LoanView], Key | None]:
        """Overnight loans, by LEI, asset and date. Raises Refused (bad-cursor)."""

    def netting(self) -> list[NettingView]:
        """The net systems with their members, by asset."""

    def cycles(self, asset: str | None) -> list[tuple[str, int]]:
        """(asset, number) of every cycle, by asset, the newest first."""

    def cycle(self, keys: list[tuple[str, int]]) -> Job[list[CycleView]]:
        """These cycles."""

    def links(self) -> list[LinkView]:
        """Open links, by id."""

    def day(self) -> DayView:
        """Where the operating day stands."""

    def schedule(self) -> list[ScheduledDayView]:
        """The business days of the schedule, by date."""

    def statements(self, participant: str, date: int | None) -> Job[list[AccountStatementView]]:
        """Its accounts on a business date, or since the last close; by asset and kind. The job
        raises Refused (unknown-statement)."""

    def movements(
        self,
        participant: str,
        account: tuple[str, str],
        places: tuple[Place, Place],
        after: Place | None,
        limit: int,
    ) -> Job[tuple[list[MovementView], Place | None]]:
        """Movements of an account (asset, kind) from a place up to another (exclusive), those after
        `after`, and the place to go on after. Raises Refused (bad-parameter)."""

    def trace(self, uetr: bytes) -> Job[TraceDocument | None]:
        """All payments linked to one; None: no such UETR is known as final."""

    def dispute(self, uetr: bytes) -> DisputeView | None:
        """Of a payment; None: it is not disputed."""

    def disputes(self, after: Key | None, limit: int) -> tuple[list[DisputeView], Key | None]:
        """By UETR. Raises Refused (bad-cursor)."""

    def consents(self) -> list[ConsentView]:
        """Those in force, by digest of the payment."""
