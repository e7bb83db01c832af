"""The node's answers about settlement: `node.api.settlement_service`, over final state and blocks.

The state is taken when a question is asked; what then reads blocks does so on another thread. A
state that is no longer the last one reads as the last one does, so such an answer may mix two
heights where it tells what can still change; what it tells of blocks cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
from node.api.settlement_service import Job, Key, Place
from node.chain.records import DisputeKey
from node.engine import credit_views, day_views, queue_views, statements
from node.engine.recorded import Recorded
from node.engine.trace import trace_view
from node.engine.views import holder_of
from node.ledger.state import State
from node.ledger.tables import DISPUTES


class Settlement:
    """Implements `node.api.settlement_service.SettlementService`."""

    def __init__(self, state: Callable[[], State], recorded: Recorded) -> None:
        """`state`: the last final one."""
        self._final = state
        self._recorded = recorded
        self._sums = queue_views.QueueSums()

    # --- queues ---------------------------------------------------------------------------------

    def queue(
        self, participant: str, asset: str | None, after: Key | None, limit: int
    ) -> Job[tuple[QueuePage, Key | None]]:
        state = self._final()
        holder = holder_of(state, participant)
        place = None if after is None else queue_views.read_place(after)
        return partial(
            queue_views.queue_page,
            state,
            self._sums,
            queue_views.Asked(holder, asset, place, limit),
        )

    def limits(self, participant: str | None) -> list[LimitsView]:
        return queue_views.limits_view(self._final(), participant)

    # --- credit ---------------------------------------------------------------------------------

    def prices(self) -> list[PriceView]:
        return credit_views.prices_view(self._final())

    def pledges(self, participant: str | None) -> list[PledgeView]:
        return credit_views.pledges_view(self._final(), participant)

    def loans(
        self, participant: str | None, after: Key | None, limit: int
    ) -> tuple[list[LoanView], Key | None]:
        return credit_views.loans_view(self._final(), self._recorded, participant, after, limit)

    # --- netting, links, days -------------------------------------------------------------------

    def netting(self) -> list[NettingView]:
        return credit_views.netting_view(self._final())

    def cycles(self, asset: str | None) -> list[tuple[str, int]]:
        return credit_views.cycle_keys(self._final(), asset)

    def cycle(self, keys: list[tuple[str, int]]) -> Job[list[CycleView]]:
        view = partial(credit_views.cycle_view, self._final(), self._recorded)
        return lambda: [view(*key) for key in keys]

    def links(self) -> list[LinkView]:
        return credit_views.links_view(self._final())

    def day(self) -> DayView:
        return day_views.day_view(self._final())

    def schedule(self) -> list[ScheduledDayView]:
        return day_views.schedule_view(self._final())

    # --- statements and linked payments ---------------------------------------------------------

    def statements(self, participant: str, date: int | None) -> Job[list[AccountStatementView]]:
        asked = statements.ask_statements(self._final(), participant)
        if date is None:
            return partial(statements.open_statements, self._recorded, asked)
        return partial(statements.closed_statements, self._recorded, asked, date)

    def movements(
        self,
        participant: str,
        account: tuple[str, str],
        places: tuple[Place, Place],
        after: Place | None,
        limit: int,
    ) -> Job[tuple[list[MovementView], Place | None]]:
        asked = statements.ask_movements(self._final(), participant, account, places)
        return partial(statements.movements, self._recorded, asked, after, limit)

    def trace(self, uetr: bytes) -> Job[TraceDocument | None]:
        return partial(trace_view, self._final(), self._recorded, uetr)

    # --- disputes and consents ------------------------------------------------------------------

    def dispute(self, uetr: bytes) -> DisputeView | None:
        state = self._final()
        record = state.get(DISPUTES, DisputeKey(uetr))
        return None if record is None else credit_views.dispute_view(state, uetr, record)

    def disputes(self, after: Key | None, limit: int) -> tuple[list[DisputeView], Key | None]:
        return credit_views.disputes_view(self._final(), self._recorded, after, limit)

    def consents(self) -> list[ConsentView]:
        return credit_views.consents_view(self._final())
