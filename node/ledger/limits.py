"""To be written."""

from __future__ import annotations

from typing import Any

from node.chain.instruction import CheckedInstruction
from node.chain.records import LinkRecord, PaymentRecord
from node.chain.types import *  # noqa: F403
from node.ledger.queue import AccountId
from node.ledger.work import Work


def has_limits(work: Work, lei: str, asset: str) -> bool:
    return False


def allows(work: Work, account: AccountId, credits: tuple[tuple[str, int, int], ...]) -> bool:
    return True


def count(work: Work, payment: Payment) -> None:
    return
