"""The kinds of records that payments, days, credit, netting, links and disputes are kept in.

Each `Table` ties the type of a state key to the type of the record under it. The ledger reads and
writes rows by table and key; what the rows mean is owned by the module of their subject.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from node.chain import records as r
from node.chain.types import BusinessDay, Statement

K = TypeVar("K", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)


class Table(Generic[K, R]):
    """One kind of rows."""

    __slots__ = ("_resident", "decode", "key", "record")

    def __init__(
        self, key: type[K], record: type[R], resident: Callable[[R], bool] | None = None
    ) -> None:
        """`resident`: whether a row is kept in memory; None: all are. Rows that are never needed
        again in the common case are read from storage when somebody asks: they grow for ever."""
        self.key = key
        self.record = record
        self._resident = resident
        self.decode: Callable[[bytes], R] = msgspec.msgpack.Decoder(record).decode

    @property
    def is_partial(self) -> bool:
        """Whether some rows are in storage alone."""
        return self._resident is not None

    def keeps(self, record: R) -> bool:
        """Whether the row stays in memory."""
        return self._resident is None or self._resident(record)


def _never(record: object) -> bool:
    return False


LEDGER = Table(r.LedgerKey, r.LedgerRecord)
DAY = Table(r.DayKey, r.DayRecord)
BUSINESS_DAYS = Table(r.BusinessDayKey, BusinessDay)
PAYMENTS = Table(r.PaymentKey, r.PaymentRecord, lambda record: record.live is not None)
LIMITS = Table(r.LimitsKey, r.LimitsRecord)
PRICES = Table(r.PriceKey, r.PriceRecord)
PLEDGES = Table(r.PledgeKey, r.PledgeRecord)
LOANS = Table(r.LoanKey, r.LoanRecord, _never)
STATEMENTS = Table(r.StatementKey, Statement)
NETTING = Table(r.NettingKey, r.NettingRecord)
MEMBERS = Table(r.MemberKey, r.MemberRecord)
CYCLES = Table(r.CycleKey, r.CycleRecord, lambda record: record.decided is None)
POSITIONS = Table(r.PositionKey, r.PositionRecord)
LINKS = Table(r.LinkKey, r.LinkRecord)
DISPUTES = Table(r.DisputeKey, r.DisputeRecord, _never)
ACKNOWLEDGEMENTS = Table(r.AcknowledgementKey, r.AcknowledgementRecord, _never)
CONSENTS = Table(r.ConsentKey, r.ConsentRecord)
RULES = Table(r.RulesKey, r.RulesRecord)
UETRS = Table(r.UetrsKey, r.UetrsRecord)
UETR_TREES = Table(r.UetrTreeKey, r.UetrTreeRecord, _never)

TABLES: dict[type[msgspec.Struct], Table[Any, Any]] = {
    table.key: table
    for table in (
        LEDGER,
        DAY,
        BUSINESS_DAYS,
        PAYMENTS,
        LIMITS,
        PRICES,
        PLEDGES,
        LOANS,
        STATEMENTS,
        NETTING,
        MEMBERS,
        CYCLES,
        POSITIONS,
        LINKS,
        DISPUTES,
        ACKNOWLEDGEMENTS,
        CONSENTS,
        RULES,
        UETRS,
        UETR_TREES,
    )
}
"""By the type of their keys."""

Rows = dict[Any, Any]
"""Key → record of one table; in a layer, None: removed."""
AnyTable = Table[Any, Any]


def sort_key(key: msgspec.Struct) -> tuple[Any, ...]:
    """Orders the keys of a table: by their fields."""
    return msgspec.structs.astuple(key)
