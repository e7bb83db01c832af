"""To be written."""

from __future__ import annotations

from typing import Any

from node.chain.instruction import CheckedInstruction
from node.chain.records import LinkRecord, PaymentRecord
from node.chain.types import *  # noqa: F403
from node.ledger.queue import AccountId
from node.ledger.work import Work


def post_price(work: Work, index: int, checked: CheckedInstruction, body: PostPrice) -> None:
    work.note(index, "NARR")


def pledge(work: Work, index: int, checked: CheckedInstruction, body: Pledge) -> None:
    work.note(index, "NARR")


def release_collateral(
    work: Work, index: int, checked: CheckedInstruction, body: ReleaseCollateral
) -> None:
    work.note(index, "NARR")
