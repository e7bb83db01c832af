"""To be written."""

from __future__ import annotations

from typing import Any

from node.chain.instruction import CheckedInstruction
from node.chain.records import LinkRecord, PaymentRecord
from node.chain.types import *  # noqa: F403
from node.ledger.queue import AccountId
from node.ledger.work import Work


def reserve(work: Work, index: int, checked: CheckedInstruction, body: Reserve) -> None:
    work.note(index, "NARR")


def post(work: Work, index: int, checked: CheckedInstruction, body: Post) -> None:
    work.note(index, "NARR")


def void(work: Work, index: int, checked: CheckedInstruction, body: Void) -> None:
    work.note(index, "NARR")
