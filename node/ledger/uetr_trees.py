"""Which UETRs outcomes named, committed so that the absence of one can be shown (`uetr_tree`).

From the first block on in which a schedule is in force, the ledger counts the outcomes that name a
UETR. A tree over the different ones among them is put into the state at the end of

- the block that closes a business day, or completes its close where that takes several;
- a block after which they are `MAX_NAMED` or more;
- a block that is `MAX_AGE_MS` or more above the tree before.

So what no tree has yet is bounded in memory, and stands in blocks that every node holds: those that
exactly-once needs (`MAX_VALIDITY_MS`) go back at least as far. A ledger without a schedule has no
such rows: nobody asked for a day to be closed.

The set is that of the outcomes, not of the payments that are remembered: a retry, a duplicate and
an order without authority name a UETR, too.
"""

from __future__ import annotations

from msgspec.structs import replace

from node.chain.records import DayKey, UetrsKey, UetrsRecord, UetrTreeKey, UetrTreeRecord
from node.chain.types import MAX_VALIDITY_MS
from node.chain.uetr_tree import sorted_uetrs, uetr_root
from node.ledger.tables import DAY, UETR_TREES, UETRS
from node.ledger.work import Work

MAX_NAMED = 131_072
"""Outcomes that name a UETR, after which a tree is made though the day goes on: sorting and hashing
so many takes a block about a tenth of a second, which the timers of consensus have to cover."""
MAX_AGE_MS = MAX_VALIDITY_MS
"""After which a tree is made though no day was closed: an operator may be late, a schedule end."""


def keep(work: Work) -> None:
    """Count what the block's outcomes name, once all are said; make a tree if it is time."""
    if work.get(DAY, DayKey()) is None:
        return
    parent, now = work.parent, work.context
    record = work.get(UETRS, UetrsKey())
    if record is None:
        record = UetrsRecord(next_tree=0, after=parent.height, time=parent.time, named=0)
    named = record.named + len(work.named)
    if work.ended_day is None and named < MAX_NAMED and now.time - record.time < MAX_AGE_MS:
        work.put(UETRS, UetrsKey(), replace(record, named=named))
        work.untreed = work.named
        return
    uetrs = sorted_uetrs([*parent.untreed(), *work.named])
    tree = UetrTreeRecord(
        after=record.after,
        after_time=record.time,
        through=now.height,
        through_time=now.time,
        date=work.ended_day or 0,
        count=len(uetrs),
        root=uetr_root(uetrs),
    )
    work.put(UETR_TREES, UetrTreeKey(record.next_tree), tree)
    begun = UetrsRecord(record.next_tree + 1, after=now.height, time=now.time, named=0)
    work.put(UETRS, UetrsKey(), begun)
    work.made_tree = True
