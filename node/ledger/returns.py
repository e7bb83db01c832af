"""To be written."""

from __future__ import annotations

from typing import Any

from node.chain.instruction import CheckedInstruction
from node.chain.records import LinkRecord, PaymentRecord
from node.chain.types import *  # noqa: F403
from node.ledger.queue import AccountId
from node.ledger.work import Work


def recall(work: Work, index: int, checked: CheckedInstruction, body: Recall) -> None:
    work.note(index, "NARR")


def refuse_recall(work: Work, index: int, checked: CheckedInstruction, body: RefuseRecall) -> None:
    work.note(index, "NARR")


def give_back(work: Work, index: int, checked: CheckedInstruction, body: Return) -> None:
    work.note(index, "NARR")
