"""To be written."""

from __future__ import annotations

from typing import Any

from node.chain.instruction import CheckedInstruction
from node.chain.records import LinkRecord, PaymentRecord
from node.chain.types import *  # noqa: F403
from node.ledger.queue import AccountId
from node.ledger.work import Work
from node.ledger.lifecycle import Origin


def join_cycle(work: Work, origin: Origin) -> bool:
    return False


def close_due(work: Work, asset: str) -> None:
    return


def funding_due(work: Work, asset: str, cycle: int) -> None:
    return


def too_old(work: Work, asset: str, cycle: int) -> None:
    return


def order_cycle(work: Work, index: int, checked: CheckedInstruction, body: OrderCycle) -> None:
    work.note(index, "NARR")
