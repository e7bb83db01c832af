"""Statuses of payments: codes of ISO 20022 ExternalPaymentTransactionStatus, with our words.

One status may have several words; then the reason tells which.
"""

from __future__ import annotations

SETTLED = "ACSC"
"""AcceptedSettlementCompleted: executed, final and irrevocable."""
REJECTED = "RJCT"
"""Rejected: nothing moved."""
QUEUED = "PDNG"
"""Pending: waits in the debtor's queue; the reason says for what."""
HELD = "BLCK"
"""Blocked: in the queue, by its debtor (CUST) or because a party is restricted (AG01, AC06)."""
ACCEPTED = "ACSP"
"""AcceptedSettlementInProcess: in a clearing cycle, or a leg of an open link."""
RESERVED = "ACWP"
"""AcceptedWithoutPosting: the amount is set aside."""
POSTED = "ACCC"
"""AcceptedSettlementCompletedCreditorAccount: the reservation settled, in full or in part."""
CANCELLED = "CANC"
"""Cancelled, expired (reason AB03) or voided (CN01): nothing moved."""

STATUSES = (SETTLED, REJECTED, QUEUED, HELD, ACCEPTED, RESERVED, POSTED, CANCELLED)
UNDECIDED = frozenset({QUEUED, HELD, ACCEPTED, RESERVED})
"""Statuses after which another may come."""
FINAL_SETTLED = frozenset({SETTLED, POSTED})
"""Statuses with which money moved, for good."""

EXPIRED_REASON = "AB03"
VOIDED_REASON = "CN01"

_WORDS = {
    SETTLED: "settled",
    REJECTED: "rejected",
    QUEUED: "queued",
    HELD: "held",
    ACCEPTED: "accepted",
    RESERVED: "reserved",
    POSTED: "posted",
}

WORDS = (*_WORDS.values(), "cancelled", "expired", "voided")


def status_word(status: str, reason: str | None) -> str:
    """The ledger's word for a status with its reason; the bare status if it is unknown."""
    if status == CANCELLED:
        if reason == EXPIRED_REASON:
            return "expired"
        return "voided" if reason == VOIDED_REASON else "cancelled"
    return _WORDS.get(status, status)
