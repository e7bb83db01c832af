"""What this node gives to others: bodies and certificates above its floor, and rule 8's pages.

Owned here: the size of every answer. What is at or below the floor is answered with the floor's
finalization, which tells the asker that it is behind, and how far.
"""

from __future__ import annotations

from consensus.interface import Effect, Send
from consensus.messages import (
    BlockRequest,
    BlockResponse,
    Certificate,
    CertificateRequest,
    Message,
    ValidatorIndex,
    View,
)
from consensus.state import State

MAX_CERTIFICATES_PER_ANSWER = 96
"""Certificates in the answer to one request; the asker's window is smaller."""
MAX_VIEWS_PER_ANSWER = 256
"""Views looked at for one answer: a request's range is the asker's to choose."""
STANDSTILL_PAGE = 64
"""Messages sent at each standstill; the next page follows at the next one. A page ends with
a whole view, so it may be longer by one view's messages."""


def answer_block(state: State, sender: ValidatorIndex, request: BlockRequest) -> list[Effect]:
    """The body; or the floor's finalization; or nothing, and the asker asks the next peer."""
    if request.epoch != state.epoch:
        state.reject(sender, "block request: of another epoch")
        return []
    block = state.blocks.get(request.block)
    if block is not None:
        return [Send(sender, BlockResponse(state.epoch, block.raw))]
    if request.view <= state.floor.info.view:
        return _floor(state, sender)
    return []


def answer_certificates(
    state: State, sender: ValidatorIndex, request: CertificateRequest
) -> list[Effect]:
    """Everything certified in the views asked for, ascending, within the bounds."""
    if request.epoch != state.epoch or request.first > request.last:
        state.reject(sender, "certificate request: of another epoch, or an empty range")
        return []
    floor = state.floor.info.view
    effects = _floor(state, sender) if request.first <= floor else []
    first = max(request.first, floor + 1)
    last = min(request.last, first + MAX_VIEWS_PER_ANSWER - 1)
    for view in range(first, last + 1):
        at = state.views.get(View(view))
        if at is not None:
            effects += [Send(sender, c) for c in at.certificates if c is not None]
        if len(effects) >= MAX_CERTIFICATES_PER_ANSWER:
            break
    return effects[:MAX_CERTIFICATES_PER_ANSWER]


def _floor(state: State, sender: ValidatorIndex) -> list[Effect]:
    finalization = state.floor.finalization
    return [] if finalization is None else [Send(sender, finalization)]


def entry_certificate(state: State) -> Certificate | None:
    """The best certificate that let us enter the current view."""
    previous = View(state.view - 1)
    at = state.views.get(previous)
    if at is not None:
        return at.finalization or at.notarization or at.nullification
    return state.floor.finalization if state.floor.info.view == previous else None


def standstill_page(state: State, start: View) -> tuple[list[Message], View]:
    """The latest finalization and a page of what stands above it, from view `start` on; also
    where the next page starts: 0 after the last."""
    page: list[Message] = []
    if state.latest_finalization is not None:
        page.append(state.latest_finalization)
    for view in sorted(v for v in state.views if v > state.final_view and v >= start):
        if len(page) >= STANDSTILL_PAGE:
            return page, view
        at = state.views[view]
        page += [c for c in at.certificates if c is not None]
        page += [vote for vote in at.own if vote is not None]
    return page, View(0)
