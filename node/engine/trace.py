"""Linked payments as one tree: up to the source by what each carries on, then down by the index of
what follows.

Both directions are bounded: whoever passes money in a circle of his own must not make a node
answer for ever. A payment that this node no longer holds stands in the tree by its UETR alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from node.api.problems import Refused
from node.api.service import PaymentView
from node.api.settlement import PartyView, TraceDocument, TraceView
from node.chain.encoding import decode
from node.chain.records import DisputeKey
from node.chain.types import Payment
from node.chain.uetr import parse_uetr, uetr_text
from node.engine.credit_views import dispute_view
from node.engine.payment_views import Payments
from node.engine.recorded import Recorded
from node.engine.wording import Wording
from node.ledger.state import State
from node.ledger.tables import DISPUTES

MAX_DEPTH = 64
"""Payments from the source to a leaf."""
MAX_PAYMENTS = 500
"""Payments of one answer."""
TEXT_PARTIES = ("ultimate_debtor", "debtor_agent", "creditor_agent", "ultimate_creditor")
INDIRECT_PARTIES = ("debtor_indirect", "creditor_indirect")
"""Fields of a payment that name whom it is for besides the participants."""


class _Tracer:
    def __init__(self, state: State, recorded: Recorded) -> None:
        self._state = state
        self._recorded = recorded
        self._payments = Payments(state, recorded)
        self._seen: set[bytes] = set()
        self.complete = True

    def source(self, uetr: bytes) -> bytes:
        """Where the money came from first, as far as it can be told."""
        seen = {uetr}
        for _ in range(MAX_DEPTH):
            previous = self._previous(uetr)
            if previous is None:
                return uetr
            if previous in seen:
                break
            seen.add(previous)
            uetr = previous
        self.complete = False
        return uetr

    def _previous(self, uetr: bytes) -> bytes | None:
        view = self._view(uetr)
        return None if view is None or view.previous is None else parse_uetr(view.previous)

    def _view(self, uetr: bytes) -> PaymentView | None:
        entry = self._recorded.records.uetr(uetr)
        if entry is None:
            return None
        try:
            return self._payments.full(entry)
        except Refused:
            return None  # pruned: the others are told

    def tree(self, uetr: bytes, relation: str, depth: int) -> TraceView:
        self._seen.add(uetr)
        view = self._view(uetr)
        following = self._following(uetr, depth)
        if view is None:
            self.complete = False
            return TraceView(
                uetr=uetr_text(uetr), relation=relation, known=False, following=following
            )
        if view.kind == "return":
            relation = "returns"
        return self._told(uetr, view, relation, following)

    def _following(self, uetr: bytes, depth: int) -> list[TraceView]:
        after: Sequence[bytes] = self._recorded.records.following(uetr)
        found = []
        for each in after:
            if each in self._seen:
                continue
            if depth >= MAX_DEPTH or len(self._seen) >= MAX_PAYMENTS:
                self.complete = False
                break
            found.append(self.tree(each, "carries-on", depth + 1))
        return found

    def _told(
        self, uetr: bytes, view: PaymentView, relation: str, following: list[TraceView]
    ) -> TraceView:
        name = Wording(self._state).name
        dispute = self._state.get(DISPUTES, DisputeKey(uetr))
        return TraceView(
            uetr=view.uetr,
            relation=relation,
            known=True,
            kind=view.kind,
            status=view.status,
            reason=view.reason,
            height=view.height,
            debtor=view.debtor,
            debtor_name=None if view.debtor is None else name(view.debtor),
            creditor=view.creditor,
            creditor_name=None if view.creditor is None else name(view.creditor),
            currency=view.currency,
            amount=view.amount,
            returned=view.returned,
            recall=view.recall,
            dispute=None if dispute is None else dispute_view(self._state, uetr, dispute),
            settled_at=view.settled_at,
            parties=_parties(view, name),
            evidence=f"/v1/payments/{view.uetr}/evidence",
            following=following,
        )

    @property
    def count(self) -> int:
        return len(self._seen)


def _parties(view: PaymentView, name: Callable[[str], str]) -> list[PartyView]:
    if view.payment is None:
        return []
    payment = decode(bytes.fromhex(view.payment), Payment)
    said = [(role, getattr(payment, role)) for role in TEXT_PARTIES]
    indirect = [(role, getattr(payment, role)) for role in INDIRECT_PARTIES]
    known = [(role, name(lei)) for role, lei in indirect if lei is not None]
    return [PartyView(role=role, name=text) for role, text in [*said, *known] if text is not None]


def trace_view(state: State, recorded: Recorded, uetr: bytes) -> TraceDocument | None:
    """The tree that this payment stands in; None: nothing is known under its UETR."""
    if recorded.records.uetr(uetr) is None:
        return None
    tracer = _Tracer(state, recorded)
    root = tracer.tree(tracer.source(uetr), "source", 1)
    return TraceDocument(
        asked=uetr_text(uetr), source=root, payments=tracer.count, complete=tracer.complete
    )
