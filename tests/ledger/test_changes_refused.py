"""Each kind of change that governance may not decide on: the reason, and an untouched state.

A change is judged when it is proposed and again when it is decided on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from node.chain import types as t
from node.chain.build import gross_payment
from node.chain.types import Change
from node.ledger.rules import MAX_AHEAD
from tests.support.changes import ISIN, admission, admit, decide, order, proven
from tests.support.council import Council
from tests.support.ledger_world import BLOCK_MS, DAY_MS, HOUR_MS, lei, signer, uetr

STRANGER = lei(999)
SPARE, OTHER = signer("spare"), signer("other spare")

Make = Callable[[Council], Change | Sequence[Change]]


class Case(NamedTuple):
    name: str
    reason: str
    make: Make


def admitting(*roles: str, name: str = "NEWBANK", **fields: Any) -> Make:
    return lambda c: admission(c, name, 50, *roles, **fields)


def keys(change: Callable[[Council], tuple[t.ProvenKey, ...]]) -> Make:
    return lambda c: admission(c, "NEWBANK", 50, keys=change(c))


def by(change: Callable[[str], Change], name: str) -> Make:
    return lambda c: change(c.world.lei(name))


def closing(name: str, *first: Callable[[Council], object]) -> Make:
    """Close a participant after these things have happened."""

    def make(council: Council) -> Change:
        for happen in first:
            happen(council)
        return t.CloseParticipant(council.world.lei(name))

    return make


# --- what happened before -------------------------------------------------------------------------


def suspended(name: str) -> Callable[[Council], object]:
    return lambda c: decide(c, t.SuspendParticipant(c.world.lei(name)))


def closed(name: str) -> Callable[[Council], object]:
    return lambda c: decide(c, t.CloseParticipant(c.world.lei(name)))


def funded(name: str) -> Callable[[Council], object]:
    return lambda c: c.chain.fund(100, name)


def paying(debtor: str, creditor: str, amount: int) -> Callable[[Council], object]:
    def happen(c: Council) -> None:
        until = c.chain.state.time + DAY_MS
        payment = c.world.payment(debtor, creditor, amount)
        c.block(c.world.pay(debtor, payment, valid_until=until))

    return happen


def reserved(c: Council) -> None:
    """BANKA sets money aside for BANKC."""
    c.chain.fund(100, "BANKA")
    payment = c.world.payment("BANKA", "BANKC", 10)
    expires = c.chain.state.time + HOUR_MS
    block = order(c, "BANKA", t.Reserve(payment, c.world.lei("BANKC"), None, expires))
    assert block.outcomes[0].status == "ACWP", block.outcomes


def linked(c: Council) -> None:
    """BANKA agrees to a leg that pays BANKC."""
    a, other = c.world.lei("BANKA"), c.world.lei("BANKC")
    legs = (gross_payment(uetr(1), a, other, "EUR", 1), gross_payment(uetr(2), other, a, "EUR", 1))
    block = order(c, "BANKA", t.Link(legs, c.chain.state.time + HOUR_MS))
    assert block.outcomes[0].status == "ACSP", block.outcomes


def member(c: Council) -> None:
    decide(c, t.SetNetting("EUR", True, 0), t.SetMember(c.world.lei("BANKC"), "EUR", 5, 0, 0))


def pledged(c: Council) -> None:
    """BANKC pledges all that it has of a bond."""
    admit(c, "DEPOT", 60, "depository")
    decide(c, t.AddAsset(ISIN, 0, c.world.lei("DEPOT")))
    order(c, "DEPOT", t.Issue(uetr(3), ISIN, c.world.lei("BANKC"), 10))
    order(c, "CENTRALBANK", t.PostPrice(ISIN, "EUR", 1, 1, 0))
    block = order(c, "BANKC", t.Pledge(ISIN, "EUR", 10))
    assert block.outcomes[0].status == "ACSC", block.outcomes


def sponsoring(c: Council) -> None:
    admit(c, "SMALL", 61, "indirect-participant", sponsor=c.world.lei("BANKC"))


def operating(c: Council) -> None:
    c.pend(c.add(c.member("node4", operator="BANKC")))


# --- changes --------------------------------------------------------------------------------------


def replacing(
    *,
    revoke: Callable[[Council], tuple[bytes, ...]] = lambda c: (),
    register: Callable[[Council], tuple[t.ProvenKey, ...]] = lambda c: (),
    threshold: int = 1,
    name: str = "BANKC",
) -> Make:
    return lambda c: t.ReplaceKeys(c.world.lei(name), revoke(c), register(c), threshold)


def own(council: Council, name: str = "BANKC") -> tuple[bytes, ...]:
    return (council.key(name).public_key,)


def of_bankc(*signers: Any) -> Callable[[Council], tuple[t.ProvenKey, ...]]:
    return lambda c: proven(c, c.world.lei("BANKC"), *signers)


def after(happen: Callable[[Council], object], make: Make) -> Make:
    def made(council: Council) -> Change | Sequence[Change]:
        happen(council)
        return make(council)

    return made


def activating(version: int, ahead: int) -> Make:
    """`ahead` of the block that the proposal stands in."""
    return lambda c: t.ActivateRules(version, c.chain.state.height + 1 + ahead)


def day(council: Council, date: int, opens: int, closes: int) -> t.BusinessDay:
    """`opens` and `closes` in hours from now."""
    now = council.chain.state.time
    return t.BusinessDay(
        date, (now + opens * HOUR_MS, *((now + closes * HOUR_MS - n) for n in (3, 2, 1, 0))), ()
    )


ADMIT = [
    Case("a LEI with a wrong check digit", "FF03", admitting(lei="9845TEST000000005000")),
    Case("a LEI that is taken", "DU01", lambda c: admission(c, "X", 50, lei=c.world.lei("BANKA"))),
    Case("a name that is taken", "DU01", admitting(name="BANKA")),
    Case("a BIC that is taken", "DU01", lambda c: admission(c, "X", 50, bic="NOSADEBX")),
    Case("a name that is somebody's BIC", "DU01", admitting(name="NOSADEBX")),
    Case("the same one twice", "DU01", lambda c: [admission(c, "X", 50), admission(c, "X", 50)]),
    Case("no role", "FF03", lambda c: admission(c, "X", 50, roles=())),
    Case("an unknown role", "FF03", admitting("king")),
    Case("an operator without approvals", "FF03", admitting("operator", approvals=0)),
    Case("more approvals than keys", "FF03", admitting("operator", approvals=2)),
    Case("approvals without being an operator", "FF03", admitting(approvals=1)),
    Case("more signatures than keys", "FF03", admitting(threshold=2)),
    Case(
        "a sponsor of a direct participant",
        "FF03",
        lambda c: admission(c, "X", 50, sponsor=c.world.lei("BANKA")),
    ),
    Case("an indirect participant alone", "FF03", admitting("indirect-participant")),
    Case(
        "an indirect participant with accounts",
        "FF03",
        lambda c: admission(
            c, "X", 50, "indirect-participant", "issuer", sponsor=c.world.lei("BANKA")
        ),
    ),
    Case("an unknown sponsor", "BE06", admitting("indirect-participant", sponsor=STRANGER)),
    Case(
        "a sponsor without that role",
        "FF03",
        lambda c: admission(c, "X", 50, "indirect-participant", sponsor=c.world.lei("CENTRALBANK")),
    ),
    Case(
        "a suspended sponsor",
        "FF03",
        after(
            suspended("BANKC"),
            lambda c: admission(c, "X", 50, "indirect-participant", sponsor=c.world.lei("BANKC")),
        ),
    ),
    Case("another's key", "DS15", keys(lambda c: proven(c, lei(50), c.key("BANKA")))),
    Case("a validator's key", "DS15", keys(lambda c: proven(c, lei(50), c.world.votes[0]))),
    Case("a proof for another", "DS0D", keys(lambda c: proven(c, lei(51), SPARE))),
    Case(
        "a key of low order",
        "DS0D",
        keys(lambda c: (t.ProvenKey((1).to_bytes(32, "little"), bytes(64)),)),
    ),
]

CLOSE = [
    Case("a stranger", "BE06", lambda c: t.CloseParticipant(STRANGER)),
    Case("twice", "DU05", closing("BANKC", closed("BANKC"))),
    Case("with money", "AC05", closing("BANKC", funded("BANKC"))),
    Case("with payments in its queue", "AC05", closing("BANKC", paying("BANKC", "BANKA", 1))),
    Case("with payments to it in a queue", "AC05", closing("BANKC", paying("BANKA", "BANKC", 1))),
    Case("with a reservation for it", "AC05", closing("BANKC", reserved)),
    Case("in an open link", "AC05", closing("BANKC", linked)),
    Case("in a net system", "AC05", closing("BANKC", member)),
    Case("with pledged securities", "AC05", closing("BANKC", pledged)),
    Case("whose indirect participant is active", "AC05", closing("BANKC", sponsoring)),
    Case("that operates a validator", "AC05", closing("CENTRALBANK")),
    Case("that is to operate a validator", "AC05", closing("BANKC", operating)),
    Case(
        "that issues an asset",
        "AC05",
        after(
            lambda c: admit(c, "MINT", 62, "issuer"),
            lambda c: [
                t.AddAsset("USD", 2, c.world.lei("MINT")),
                t.CloseParticipant(c.world.lei("MINT")),
            ],
        ),
    ),
    Case(
        "after which no proposal could be approved",
        "FF03",
        lambda c: [
            t.SetParameters(4, 0, t.CloseRule.EXPIRE),
            t.CloseParticipant(c.world.lei("BANKA")),
        ],
    ),
    Case(
        "and then make it run a validator",
        "AGNT",
        lambda c: [
            t.CloseParticipant(c.world.lei("BANKC")),
            c.add(c.member("node4", operator="BANKC")),
        ],
    ),
]

STANDING = [
    Case("suspend a stranger", "BE06", lambda c: t.SuspendParticipant(STRANGER)),
    Case("suspend twice", "DU05", after(suspended("BANKC"), by(t.SuspendParticipant, "BANKC"))),
    Case(
        "suspend one that left", "AC04", after(closed("BANKC"), by(t.SuspendParticipant, "BANKC"))
    ),
    Case(
        "suspend the operators that are needed",
        "FF03",
        lambda c: [t.SuspendParticipant(c.world.lei(name)) for name in ("BANKA", "CENTRALBANK")],
    ),
    Case("lift for a stranger", "BE06", lambda c: t.LiftSuspension(STRANGER)),
    Case("lift what is not suspended", "DU05", by(t.LiftSuspension, "BANKC")),
    Case("lift for one that left", "AC04", after(closed("BANKC"), by(t.LiftSuspension, "BANKC"))),
]

KEYS = [
    Case("of a stranger", "BE06", lambda c: t.ReplaceKeys(STRANGER, (), (), 1)),
    Case("of one that left", "AC04", after(closed("BANKC"), replacing(register=of_bankc(SPARE)))),
    Case("revoke another's", "DS0E", replacing(revoke=lambda c: own(c, "BANKB"))),
    Case(
        "revoke a revoked one",
        "DS0C",
        after(
            lambda c: decide(c, *_list(replacing(revoke=own, register=of_bankc(SPARE))(c))),
            replacing(revoke=own),
        ),
    ),
    Case("revoke one twice", "DS0C", replacing(revoke=lambda c: own(c) * 2)),
    Case("revoke the last", "DS0A", replacing(revoke=own)),
    Case("more signatures than keys", "DS0A", replacing(threshold=2)),
    Case(
        "register one's own again",
        "DS15",
        replacing(register=lambda c: proven(c, c.world.lei("BANKC"), c.key("BANKC"))),
    ),
    Case(
        "register one twice",
        "FF03",
        replacing(register=lambda c: of_bankc(SPARE)(c) * 2),
    ),
    Case(
        "register with a proof for another",
        "DS0D",
        replacing(register=lambda c: proven(c, c.world.lei("BANKA"), SPARE)),
    ),
    Case(
        "more than the ledger keeps",
        "DS0K",
        lambda c: [
            t.ReplaceKeys(
                c.world.lei("BANKC"),
                (),
                proven(c, c.world.lei("BANKC"), *(signer("many", n, m) for m in range(32))),
                1,
            )
            for n in range(8)
        ],
    ),
    Case(
        "an operator's below the threshold",
        "FF03",
        lambda c: [
            t.SetParameters(4, 0, t.CloseRule.EXPIRE),
            t.ReplaceKeys(c.world.lei("CENTRALBANK"), own(c, "CENTRALBANK"), (), 1),
        ],
    ),
]

ASSETS = [
    Case("a code in lower case", "FF03", lambda c: _asset(c, "usd")),
    Case("a code that is taken", "DU01", lambda c: _asset(c, "EUR")),
    Case("by a stranger", "BE06", lambda c: t.AddAsset("USD", 2, STRANGER)),
    Case("by one that left", "AC04", after(closed("BANKC"), lambda c: _asset(c, "USD", "BANKC"))),
    Case("by one that issues nothing", "FF03", lambda c: _asset(c, "USD", "BANKC")),
    Case(
        "a depository's that is no ISIN",
        "FF03",
        after(
            lambda c: admit(c, "DEPOT", 60, "depository"),
            lambda c: _asset(c, ISIN[:-1] + "8", "DEPOT"),
        ),
    ),
]

SYSTEM = [
    Case("net no known asset", "AM03", lambda c: t.SetNetting("USD", True, 0)),
    Case(
        "net a security",
        "FF05",
        after(
            lambda c: admit(c, "DEPOT", 60, "depository"),
            lambda c: [_asset(c, ISIN, "DEPOT"), t.SetNetting(ISIN, True, 0)],
        ),
    ),
    Case(
        "a member of nothing", "AG02", lambda c: t.SetMember(c.world.lei("BANKC"), "EUR", 1, 0, 0)
    ),
    Case(
        "a stranger as member",
        "BE06",
        lambda c: [t.SetNetting("EUR", True, 0), t.SetMember(STRANGER, "EUR", 1, 0, 0)],
    ),
    Case(
        "a member without accounts",
        "AC03",
        lambda c: [
            t.SetNetting("EUR", True, 0),
            t.SetMember(c.world.lei("WATCHDOG"), "EUR", 1, 0, 0),
        ],
    ),
    Case(
        "more approvals than operators can give",
        "FF03",
        lambda c: t.SetParameters(5, 0, t.CloseRule.EXPIRE),
    ),
    Case(
        "a schedule with a gap",
        "DT03",
        lambda c: t.PublishSchedule(
            (day(c, 20300101, 1, 9), day(c, 20300120, 24 * 20, 24 * 20 + 9))
        ),
    ),
    Case(
        "a day that has begun",
        "DT03",
        lambda c: t.PublishSchedule((day(c, 20300101, 0, 9),)),
    ),
    Case("skip a version of the rules", "FF10", activating(3, 10)),
    Case("the version that is in force", "FF10", activating(1, 10)),
    Case("activate at once", "FF10", activating(2, 0)),
    Case("activate in the distant future", "FF10", activating(2, MAX_AHEAD + 1)),
    Case(
        "activate beside what is approved",
        "FF10",
        after(lambda c: decide(c, *_list(activating(2, 10)(c))), activating(2, 20)),
    ),
]

TABLES = {
    "admit": ADMIT,
    "close": CLOSE,
    "standing": STANDING,
    "keys": KEYS,
    "asset": ASSETS,
    "system": SYSTEM,
}
CASES = [(f"{table}: {case.name}", case) for table, cases in TABLES.items() for case in cases]


def _list(changes: Change | Sequence[Change]) -> list[Change]:
    return list(changes) if isinstance(changes, list | tuple) else [changes]  # type: ignore[list-item]


def _asset(council: Council, code: str, issuer: str = "CENTRALBANK") -> Change:
    return t.AddAsset(code, 2, council.world.lei(issuer))


@pytest.mark.parametrize("case", [c for _, c in CASES], ids=[name for name, _ in CASES])
def test_a_change_that_may_not_be_is_rejected_with_its_reason(case: Case) -> None:
    council = Council.make()
    changes = _list(case.make(council))
    before = council.chain.state
    # Something sound in front of it: all or none.
    sound = t.SetParameters(2, 1, t.CloseRule.ROLL_OVER)
    block = council.block(council.propose(sound, *changes, sender="BANKA"))
    (outcome,) = block.outcomes
    assert (outcome.status, outcome.reason, outcome.event) == ("RJCT", case.reason, None)
    assert block.applied.state_root == before.map.root
    assert block.applied.records == {}
    assert council.chain.state.proposals() == before.proposals()
    assert council.chain.state.next_due() == before.next_due()
    council.block(time=council.chain.state.time + BLOCK_MS)
    assert council.chain.state.parameters == before.parameters


def test_what_was_sound_when_proposed_is_judged_again_when_it_is_decided_on() -> None:
    council = Council.make()
    change = t.SuspendParticipant(council.world.lei("BANKC"))
    proposal = council.propose(change)
    council.block(proposal)
    decide(council, change)
    before = council.chain.state
    block = council.block(council.approve(proposal.digest))
    assert [(o.status, o.reason) for o in block.outcomes] == [("RJCT", "DU05")]
    assert block.applied.state_root == before.map.root
    decide(council, t.LiftSuspension(change.lei))
    block = council.block(council.approve(proposal.digest))
    assert block.outcomes[0].reason is None, "it was open for when it fits again"
    held = council.chain.state.participant(change.lei)
    assert held is not None
    assert held.record.suspended


def test_an_activation_that_comes_too_late_is_not_decided_on() -> None:
    council = Council.make()
    height = council.chain.state.height + 3
    proposal = council.propose(t.ActivateRules(2, height))
    council.block(proposal)
    council.block()
    block = council.block(council.approve(proposal.digest))
    assert block.header.height == height
    assert block.outcomes[0].reason == "FF10"


def test_no_change_is_without_a_case() -> None:
    """The validators' are in the table of their own."""
    shown = set()
    for _, case in CASES:
        shown |= {type(change) for change in _list(case.make(Council.make()))}
    kinds = set(t.Change.__args__)
    assert shown >= kinds - {t.AddValidator, t.RemoveValidator, t.RekeyValidator}


def test_a_cleared_membership_does_not_keep_a_participant() -> None:
    council = Council.make()
    member(council)
    decide(council, t.SetMember(council.world.lei("BANKC"), "EUR", 0, 0, 0))
    decide(council, t.CloseParticipant(council.world.lei("BANKC")))


def test_a_change_replaces_nothing_that_it_does_not_name() -> None:
    council = Council.make()
    before = council.chain.state.parameters
    decide(council, t.SetParameters(3, 7, t.CloseRule.ROLL_OVER))
    assert council.chain.state.parameters == replace(
        before, governance_threshold=3, readiness_ms=7, close_rule=t.CloseRule.ROLL_OVER
    )
