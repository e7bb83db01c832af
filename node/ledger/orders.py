"""To be written."""

from __future__ import annotations

from typing import Any

from node.chain.instruction import CheckedInstruction
from node.chain.records import LinkRecord, PaymentRecord
from node.chain.types import *  # noqa: F403
from node.ledger.queue import AccountId
from node.ledger.work import Work


def order_payment(work: Work, index: int, checked: CheckedInstruction, body: Any) -> None:
    work.note(index, "NARR")


def set_limit(work: Work, index: int, checked: CheckedInstruction, body: SetLimit) -> None:
    work.note(index, "NARR")


def set_policy(work: Work, index: int, checked: CheckedInstruction, body: SetPolicy) -> None:
    work.note(index, "NARR")


def release_due(work: Work, record: PaymentRecord) -> None:
    return


def expire(work: Work, record: PaymentRecord) -> None:
    return
