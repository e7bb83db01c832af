"""To be written."""

from __future__ import annotations

from typing import Any

from node.chain.instruction import CheckedInstruction
from node.chain.records import LinkRecord, PaymentRecord
from node.chain.types import *  # noqa: F403
from node.ledger.queue import AccountId
from node.ledger.work import Work


def open_dispute(work: Work, index: int, checked: CheckedInstruction, body: OpenDispute) -> None:
    work.note(index, "NARR")


def submit_evidence(
    work: Work, index: int, checked: CheckedInstruction, body: SubmitEvidence
) -> None:
    work.note(index, "NARR")


def decide_dispute(
    work: Work, index: int, checked: CheckedInstruction, body: DecideDispute
) -> None:
    work.note(index, "NARR")
