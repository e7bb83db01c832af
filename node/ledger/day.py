"""To be written."""

from __future__ import annotations

from typing import Any

from node.chain.instruction import CheckedInstruction
from node.chain.records import LinkRecord, PaymentRecord
from node.chain.types import *  # noqa: F403
from node.ledger.queue import AccountId
from node.ledger.work import Work


def phase_due(work: Work, date: int, phase: Phase) -> None:
    return


def delay_phase(work: Work, index: int, checked: CheckedInstruction, body: DelayPhase) -> None:
    work.note(index, "NARR")


def proceed_day(work: Work, index: int, checked: CheckedInstruction, body: ProceedDay) -> None:
    work.note(index, "NARR")
