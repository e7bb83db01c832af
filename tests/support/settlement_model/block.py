"""A block, in the order of the rules: time, instructions, links, resolution, used UETRs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from node.chain import types as t
from node.chain.instruction import CheckedInstruction
from node.chain.types import NODE_SIGNED, Outcome

from . import claims, day, govern, linked, net, queue, supply
from .book import (
    Book,
)
from .entry import (
    pay,
)
from .rows import (
    REJECTED,
    WEEK_MS,
    Refused,
    SetAside,
    Waiting,
)
from .trees import count_named

Due = tuple[int, int, bytes]
"""(time, kind in the order of the rules, id)."""
PHASE, CYCLE_CLOSE, FUNDING_END, CYCLE_AGE, RELEASE, EXPIRE, LINK, CONSENT = range(8)

HANDLERS: dict[type, Callable[[Book, int, str, Any], None]] = {
    t.Cancel: queue.cancel,
    t.Hold: queue.hold,
    t.Release: queue.release,
    t.Reprioritise: queue.reprioritise,
    t.SetLimit: queue.set_limit,
    t.SetPolicy: queue.set_policy,
    t.RegisterKey: supply.register_key,
    t.RevokeKey: supply.revoke_key,
    t.PostPrice: supply.post_price,
    t.Pledge: supply.pledge,
    t.ReleaseCollateral: supply.release_collateral,
    t.OrderCycle: net.order_cycle,
    t.Link: linked.link,
    t.Reserve: linked.reserve,
    t.Post: linked.post,
    t.Void: linked.void,
    t.Recall: claims.recall,
    t.RefuseRecall: claims.refuse_recall,
    t.Return: claims.give_back,
    t.OpenDispute: claims.open_dispute,
    t.SubmitEvidence: claims.submit_evidence,
    t.DecideDispute: claims.decide_dispute,
    t.Acknowledge: claims.acknowledge,
    t.Consent: claims.consent,
    t.DelayPhase: day.delay_phase,
    t.ProceedDay: day.proceed_day,
    t.Freeze: govern.freeze,
}
"""Handlers of (book, index, sender, body)."""
WITH_UETR = (t.Issue, t.Redeem, t.MoveOwn)
JUDGED_ONE_BY_ONE = (t.Pay, *WITH_UETR, t.Reserve, t.Return, *NODE_SIGNED)
"""What uses up UETRs is refused payment by payment."""
NEVER_REFUSED = (t.Acknowledge, t.RegisterKey, t.RevokeKey)
"""What a suspended participant may still say."""


def may_stand(book: Book, checked: CheckedInstruction, height: int, time: int) -> bool:
    """Whether a correct leader may put it into this block."""
    envelope = checked.instruction.envelope
    party = book.parties.get(envelope.sender)
    if party is None or not time <= envelope.valid_until <= time + WEEK_MS:
        return False
    signing = [each.public_key for each in checked.instruction.signatures]
    valid = [key for key in party.keys if key.public_key in signing and key.valid(height)]
    return (
        len(valid) == len(signing) >= party.threshold
        and book.ids.get((envelope.sender, envelope.id), -1) < time
    )


def play(
    book: Book, time: int, candidates: Sequence[CheckedInstruction]
) -> tuple[list[CheckedInstruction], list[Outcome]]:
    """Play the next block of those candidates that may stand in it."""
    book.height += 1
    book.before, book.time = book.time, time
    book.outcomes, book.again, book.ended = [], set(), None
    if book.next_parameters is not None:
        book.parameters, book.next_parameters = book.next_parameters, None
    book.policies = {lei: (party.fifo_bypass, party.sweeps) for lei, party in book.parties.items()}
    do_due(book)
    chosen: list[CheckedInstruction] = []
    for checked in candidates:
        if may_stand(book, checked, book.height, time):
            execute(book, len(chosen), checked)
            chosen.append(checked)
    linked.settle_links(book)
    net.fund_all(book)
    for asset in sorted(book.assets):
        queue.resolve(book, asset)
    book.stirred = tuple(sorted(book.again))
    count_named(book)
    check_conservation(book)
    return chosen, book.outcomes


def execute(book: Book, index: int, checked: CheckedInstruction) -> None:
    """One instruction; what is refused leaves the book as it was."""
    envelope = checked.instruction.envelope
    book.ids[envelope.sender, envelope.id] = envelope.valid_until
    body, sender = envelope.body, envelope.sender
    before = book.copy()
    try:
        party = book.parties[sender]
        if party.closed and not isinstance(body, JUDGED_ONE_BY_ONE):
            raise Refused("AC04")
        if party.suspended and not isinstance(body, JUDGED_ONE_BY_ONE + NEVER_REFUSED):
            raise Refused("AG01")
        signing = {each.public_key for each in checked.instruction.signatures}
        if isinstance(body, t.Pay):
            pay(book, index, checked.instruction)
        elif isinstance(body, WITH_UETR):
            supply.with_uetr(book, index, sender, body)
        elif isinstance(body, t.Propose):
            govern.propose(book, index, body, checked, signing)
        elif isinstance(body, t.Approve):
            govern.approve(book, index, sender, body, signing)
        else:
            HANDLERS[type(body)](book, index, sender, body)
    except Refused as refused:
        book.restore(before)
        book.say(index, REJECTED, refused.reason)


# --- time -----------------------------------------------------------------------------------------


def due(book: Book) -> list[Due]:
    """Everything whose time has come, in order."""
    found: list[Due] = []
    window = book.parameters.window
    for uetr, each in book.payments.items():
        if isinstance(each.place, Waiting):
            first = each.place.payments[0]
            if each.place.early:
                assert first.earliest is not None
                found.append((first.earliest, RELEASE, uetr))
            last = each.since + window
            if first.latest is not None:
                last = min(last, first.latest + 1)
            found.append((last, EXPIRE, uetr))
        elif isinstance(each.place, SetAside):
            found.append((each.place.expires, EXPIRE, uetr))
    for id, link in book.links.items():
        found.append((link.link.expires, LINK, id))
    for content, (_, expires) in book.consents.items():
        found.append((expires, CONSENT, content))
    for (asset, number), cycle in book.cycles.items():
        if cycle.decided is None:
            id = asset.encode() + b"\0" + number.to_bytes(8, "big")
            if cycle.until is not None:
                found.append((cycle.until, FUNDING_END, id))
            if net.too_old(book, cycle) > book.before:
                found.append((net.too_old(book, cycle), CYCLE_AGE, id))
    for day_ in book.days.values():
        for close in day_.closes:
            if close.time > book.before:
                found.append((close.time, CYCLE_CLOSE, close.asset.encode()))
    beginning = day.upcoming(book)
    if beginning is not None and (book.day is None or book.day.waits_for is None):
        time, date, phase = beginning
        found.append((time, PHASE, date.to_bytes(4, "big") + bytes([phase])))
    return sorted(each for each in found if each[0] <= book.time)


def do_due(book: Book) -> None:
    """What time has made due since the last block, each once."""
    govern.activate_due(book)
    done: list[Due] = []
    while True:
        items = [item for item in due(book) if item not in done]
        if not items:
            break
        _do(book, items[0])
        done.append(items[0])


def _do(book: Book, item: Due) -> None:
    _, kind, id = item
    if kind in (FUNDING_END, CYCLE_AGE):
        asset, number = id[:-9].decode(), int.from_bytes(id[-8:], "big")
    if kind == PHASE:
        beginning = day.upcoming(book)
        assert beginning is not None
        day.phase_due(book, beginning)
    elif kind == CYCLE_CLOSE:
        net.close_cycle(book, id.decode(), None)
    elif kind == FUNDING_END:
        net.end_funding(book, asset, number, None)
    elif kind == CYCLE_AGE:
        if book.cycles[asset, number].status == "open":
            net.close_cycle(book, asset, None)
        else:
            net.unwind(book, asset, number, None)
    elif kind == RELEASE:
        queue.come_due(book, id)
    elif kind == EXPIRE and isinstance(book.payments[id].place, SetAside):
        linked.let_go(book, id, "AB03", None)
    elif kind == EXPIRE:
        queue.expire(book, id)
    elif kind == LINK:
        linked.expire_link(book, id)
    elif kind == CONSENT:
        del book.consents[id]


def check_conservation(book: Book) -> None:
    """Of every asset there is what was issued and not redeemed."""
    for code, asset in book.assets.items():
        held = sum(n for account, n in book.balances.items() if account.asset == code)
        assert held == asset.issued - asset.redeemed, (code, held)
