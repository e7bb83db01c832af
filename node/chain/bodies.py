"""What the bodies of instructions name, and the order in which they must list it.

One row per type and kind of field, so that a new body cannot say anything unchecked: the tests hold
these tables to the types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

import msgspec

from node.chain import types as t

IDENTIFIERS: dict[type[msgspec.Struct], tuple[str, ...]] = {
    t.Issue: ("asset", "creditor"),
    t.Redeem: ("asset",),
    t.SetLimit: ("participant", "asset", "counterparty"),
    t.Sweep: ("asset", "to"),
    t.PostPrice: ("security", "currency"),
    t.Pledge: ("security", "currency"),
    t.ReleaseCollateral: ("security", "currency"),
    t.OrderCycle: ("asset",),
    t.MoveOwn: ("asset",),
    t.Reserve: ("poster",),
    t.Freeze: ("participant",),
    t.Validator: ("operator",),
    t.AdmitParticipant: ("lei", "sponsor"),
    t.CloseParticipant: ("lei",),
    t.SuspendParticipant: ("lei",),
    t.LiftSuspension: ("lei",),
    t.ReplaceKeys: ("lei",),
    t.AddAsset: ("code", "issuer"),
    t.SetNetting: ("asset",),
    t.SetMember: ("participant", "asset"),
    t.CycleClose: ("asset",),
}
"""Fields that hold a LEI or an asset's code. Those of payments: `instruction.check_parsed`."""

UETRS: dict[type[msgspec.Struct], tuple[str, ...]] = {
    t.Issue: ("uetr",),
    t.Redeem: ("uetr",),
    t.Cancel: ("uetr",),
    t.Hold: ("uetr",),
    t.Release: ("uetr",),
    t.Reprioritise: ("uetr",),
    t.MoveOwn: ("uetr",),
    t.Post: ("uetr",),
    t.Void: ("uetr",),
    t.SubmitEvidence: ("uetr",),
    t.DecideDispute: ("uetr",),
}
"""Fields of bodies that hold a UETR. Those of payments: `instruction.check_parsed`."""

PARTS: dict[type[msgspec.Struct], Callable[[Any], Iterable[msgspec.Struct]]] = {
    t.SetPolicy: lambda body: body.sweeps,
    t.Propose: lambda body: body.changes,
    t.AddValidator: lambda change: (change.validator,),
    t.RekeyValidator: lambda change: (change.validator,),
    t.PublishSchedule: lambda change: change.days,
    t.BusinessDay: lambda day: day.closes,
}
"""What stands inside and has identifiers or an order of its own."""

PAYMENTS: dict[type[msgspec.Struct], Callable[[Any], Sequence[t.Payment]]] = {
    t.Link: lambda body: body.legs,
    t.Reserve: lambda body: (body.payment,),
    t.Return: lambda body: (body.payment, body.original),
    t.Recall: lambda body: (body.original,),
    t.RefuseRecall: lambda body: (body.original,),
    t.OpenDispute: lambda body: (body.original,),
    t.Acknowledge: lambda body: (body.payment,),
}
"""Payments in the body itself. Those of `Pay` stand beside it."""

_Keys = Callable[[Any], Sequence[Any]]
ORDERS: dict[type[msgspec.Struct], tuple[tuple[str, _Keys], ...]] = {
    t.SetPolicy: (("sweeps", lambda body: [each.asset for each in body.sweeps]),),
    t.AdmitParticipant: (
        ("roles", lambda change: change.roles),
        ("keys", lambda change: [each.public_key for each in change.keys]),
    ),
}
"""Fields whose elements must ascend strictly, each with what they ascend by. What is wrong with a
schedule the ledger says, day by day."""


def body_payments(body: t.InstructionBody) -> Sequence[t.Payment]:
    """The payments that stand in the body in clear; none for most."""
    found = PAYMENTS.get(type(body))
    return () if found is None else found(body)


def body_identifiers(body: t.InstructionBody) -> Iterator[str]:
    """Every LEI and asset code that the body names outside of payments."""
    for each in _walk(body):
        for name in IDENTIFIERS.get(type(each), ()):
            identifier = getattr(each, name)
            if identifier is not None:
                yield identifier


def body_uetrs(body: t.InstructionBody) -> Iterator[bytes]:
    """Every UETR that the body names outside of payments."""
    for name in UETRS.get(type(body), ()):
        yield getattr(body, name)


def disorder(body: t.InstructionBody) -> str | None:
    """Which list of the body does not ascend strictly, in words; None if all do."""
    for each in _walk(body):
        for name, keys in ORDERS.get(type(each), ()):
            if any(one >= other for one, other in pairwise(keys(each))):
                return f"{type(each).__name__}.{name} does not ascend, or an element stands twice"
    return None


def _walk(part: msgspec.Struct) -> Iterator[msgspec.Struct]:
    yield part
    parts = PARTS.get(type(part))
    if parts is not None:
        yield from chain.from_iterable(map(_walk, parts(part)))
