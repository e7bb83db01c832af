"""Samples of the settlement engine's formats: bodies, changes, events of outcomes, state."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from node.chain import records as r
from node.chain import types as t
from node.chain.build import gross_payment, link_id
from node.chain.signature import prove_possession
from tests.support import world

BOND = "DE0001102580"
NOON = world.GENESIS_TIME + 43_200_000
DATE = 20_250_616
A, B, C = world.BANKA.lei, world.BANKB.lei, world.BANKC.lei
CENTRAL = world.CENTRALBANK.lei
EUR = world.EUR
ONE = sha256(b"one").digest()
TWO = sha256(b"two").digest()


def _legs() -> tuple[t.Payment, ...]:
    """Delivery of a bond against euros."""
    return (
        gross_payment(world.uetr(21), A, B, EUR, 9_900),
        gross_payment(world.uetr(22), B, A, BOND, 100),
    )


def bodies() -> dict[str, Any]:
    """Every body that came with the settlement engine."""
    plain = world.payment(1)
    back = gross_payment(world.uetr(23), B, A, EUR, 25_000)
    sweep = t.Sweep(EUR, CENTRAL)
    return {
        "Cancel": t.Cancel(world.uetr(1)),
        "Hold": t.Hold(world.uetr(1)),
        "Release": t.Release(world.uetr(1)),
        "Reprioritise": t.Reprioritise(world.uetr(1), t.Priority.URGENT),
        "SetLimit": t.SetLimit(A, EUR, B, 1_000_000),
        "SetLimit, removed for all": t.SetLimit(A, EUR, None, None),
        "Sweep": sweep,
        "SetPolicy": t.SetPolicy(True, (t.Sweep("CNY", CENTRAL), sweep)),
        "SetPolicy, none": t.SetPolicy(False, ()),
        "PostPrice": t.PostPrice(BOND, EUR, 9_950, 100, 250),
        "Pledge": t.Pledge(BOND, EUR, 5_000),
        "ReleaseCollateral": t.ReleaseCollateral(BOND, EUR, 5_000),
        "OrderCycle": t.OrderCycle(EUR, 7, t.CycleAction.CLOSE, None),
        "OrderCycle, extend": t.OrderCycle(EUR, 7, t.CycleAction.EXTEND, NOON),
        "MoveOwn": t.MoveOwn(
            world.uetr(24), EUR, t.AccountKind.SETTLEMENT, t.AccountKind.FUND, 70_000
        ),
        "Link": t.Link(_legs(), NOON),
        "Reserve": t.Reserve(plain, C, None, NOON),
        "Reserve, under a hash lock": t.Reserve(plain, None, sha256(ONE).digest(), NOON),
        "Post": t.Post(world.uetr(1), 100_000, None),
        "Post, by a preimage": t.Post(world.uetr(1), None, ONE),
        "Void": t.Void(world.uetr(1)),
        "Recall": t.Recall(plain, "DUPL"),
        "RefuseRecall": t.RefuseRecall(plain, "LEGL"),
        "Return": t.Return(back, plain, "FOCR"),
        "OpenDispute": t.OpenDispute(plain, "AM09"),
        "SubmitEvidence": t.SubmitEvidence(world.uetr(1), ONE),
        "DecideDispute": t.DecideDispute(world.uetr(1), t.Verdict.UPHELD, "NARR"),
        "Acknowledge": t.Acknowledge(plain, ONE, TWO),
        "DelayPhase": t.DelayPhase(DATE, t.Phase.INTERBANK, NOON),
        "ProceedDay": t.ProceedDay(DATE, t.Phase.CLOSED),
        "Consent": t.Consent(ONE, NOON),
        "Freeze": t.Freeze(A, True, False, "NARR"),
    }


def changes() -> dict[str, Any]:
    """Every change that came with the settlement engine, and what stands in them."""
    key = world.signer("admitted")
    possession = prove_possession(key, "participant", world.lei(9), world.genesis().chain_id)
    proven = t.ProvenKey(key.public_key, possession)
    close = t.CycleClose(NOON, EUR)
    begins = tuple(world.GENESIS_TIME + hour * 3_600_000 for hour in (1, 9, 10, 11, 12))
    day = t.BusinessDay(DATE, begins, (close,))
    return {
        "ProvenKey": proven,
        "AdmitParticipant": t.AdmitParticipant(
            world.lei(9),
            "INDIDEFFXXX",
            "INDIRECT",
            ("auditor", "indirect-participant"),
            (proven,),
            1,
            A,
            0,
        ),
        "CloseParticipant": t.CloseParticipant(C),
        "SuspendParticipant": t.SuspendParticipant(C),
        "LiftSuspension": t.LiftSuspension(C),
        "ReplaceKeys": t.ReplaceKeys(C, (world.BANKC.key.public_key,), (proven,), 1),
        "AddAsset": t.AddAsset(BOND, 0, CENTRAL),
        "SetNetting": t.SetNetting(EUR, True, 1_800_000),
        "SetMember": t.SetMember(A, EUR, 5_000_000, 200_000, 300_000),
        "SetParameters": t.SetParameters(2, 60_000, t.CloseRule.ROLL_OVER),
        "CycleClose": close,
        "BusinessDay": day,
        "PublishSchedule": t.PublishSchedule((day,)),
        "ActivateRules": t.ActivateRules(2, 100_000),
    }


def events() -> dict[str, Any]:
    """Every event of an outcome, and what stands in them."""
    cover = t.Cover(t.CoverSource.SURVIVOR, C, 300_000, 40_000)
    share = t.SurvivorShare(C, 300_000, 310_000)
    shortfall = t.Shortfall(A, 90_000, 50_000, (cover,))
    positions = (t.NetPosition(A, 90_000, 0), t.NetPosition(B, 0, 90_000))
    accounts = (
        t.AccountPosition(A, t.AccountKind.SETTLEMENT, 90_000, 30_000),
        t.AccountPosition(B, t.AccountKind.CLIENT_RESERVE, 30_000, 90_000),
    )
    return {
        "Joined": t.Joined(7),
        "Together": t.Together(link_id(_legs(), NOON)),
        "Returns": t.Returns(world.uetr(1)),
        "Carried": t.Carried(world.uetr(1)),
        "Posted": t.Posted(100_000),
        "PhaseBegan": t.PhaseBegan(DATE, t.Phase.CUSTOMER_CUTOFF, False),
        "LineChanged": t.LineChanged(A, EUR, 485_062),
        "MarginCall": t.MarginCall(A, EUR, 500_000, 485_062),
        "OvernightLoan": t.OvernightLoan(A, EUR, DATE, 500_000),
        "Moved": t.Moved(
            EUR, A, t.AccountKind.SETTLEMENT, CENTRAL, t.AccountKind.SETTLEMENT, 77_000
        ),
        "Statement": t.Statement(A, EUR, t.AccountKind.SETTLEMENT, DATE, -500, 77_000, 299),
        "NetPosition": positions[0],
        "CycleClosed": t.CycleClosed(EUR, 7, positions, 3, ONE),
        "Cover": cover,
        "Shortfall": shortfall,
        "SurvivorShare": share,
        "CycleSettled": t.CycleSettled(EUR, 7, (shortfall,), (share,)),
        "CycleShort": t.CycleShort(EUR, 7, ((A, 40_000),), NOON),
        "CycleUnwound": t.CycleUnwound(EUR, 7),
        "AccountPosition": accounts[0],
        "Resolved": t.Resolved(EUR, accounts, 3, ONE),
        "LinkClosed": t.LinkClosed(link_id(_legs(), NOON), True),
        "RulesActivated": t.RulesActivated(2),
        "RestrictionChanged": t.RestrictionChanged(C, True, False, True),
    }


def keys() -> dict[str, Any]:
    """Names of the places that the settlement engine's records stand in."""
    return {
        "LedgerKey": r.LedgerKey(),
        "DayKey": r.DayKey(),
        "BusinessDayKey": r.BusinessDayKey(DATE),
        "PaymentKey": r.PaymentKey(world.uetr(1)),
        "LimitsKey": r.LimitsKey(A, EUR),
        "PriceKey": r.PriceKey(BOND, EUR),
        "PledgeKey": r.PledgeKey(A, EUR, BOND),
        "LoanKey": r.LoanKey(A, EUR, DATE),
        "StatementKey": r.StatementKey(A, EUR, t.AccountKind.SETTLEMENT),
        "NettingKey": r.NettingKey(EUR),
        "MemberKey": r.MemberKey(A, EUR),
        "CycleKey": r.CycleKey(EUR, 7),
        "PositionKey": r.PositionKey(EUR, A),
        "LinkKey": r.LinkKey(ONE),
        "DisputeKey": r.DisputeKey(world.uetr(1)),
        "AcknowledgementKey": r.AcknowledgementKey(world.uetr(1), ONE),
        "ConsentKey": r.ConsentKey(ONE),
        "RulesKey": r.RulesKey(),
        "UetrsKey": r.UetrsKey(),
        "UetrTreeKey": r.UetrTreeKey(300),
    }


def _lives() -> dict[str, Any]:
    """What an undecided payment is kept as."""
    plain, leg = world.payment(1), _legs()[0]
    return {
        "Queued": r.Queued((plain,), t.Priority.NORMAL, 300, False, False, True, None),
        "Queued, a return": r.Queued(
            (plain,), t.Priority.HIGH, 301, True, True, False, world.uetr(5)
        ),
        "Grouped": r.Grouped(world.uetr(1)),
        "Reserved": r.Reserved(plain, C, ONE, NOON),
        "Legged": r.Legged(leg, link_id(_legs(), NOON)),
    }


def records() -> dict[str, Any]:
    """Every record that came with the settlement engine, and what stands in them."""
    lives = _lives()
    place = t.OutcomePlace(70_000, 3, 9_999)
    bilateral = r.BilateralLimit(B, 1_000_000, -5_000)
    multilateral = r.MultilateralLimit(9_000_000, 125_000)
    return lives | {
        "LedgerRecord": r.LedgerRecord(
            302, (world.CNY, EUR), (NOON, 5, world.uetr(1)), (17, 3), NOON
        ),
        "DayRecord": r.DayRecord(
            DATE, t.Phase.OPEN, t.Phase.INTERBANK, ((t.Phase.CLEARING, NOON),), 299
        ),
        "PaymentRecord": r.PaymentRecord(
            world.uetr(1), ONE, place, NOON, 2, TWO, "PDNG", lives["Queued"], 0, 0, None, None
        ),
        "PaymentRecord, decided": r.PaymentRecord(
            world.uetr(1), ONE, place, NOON, 2, TWO, "ACSC", None, 25_000, 100_000, "asked", None
        ),
        "PaymentRecord, posted in part": r.PaymentRecord(
            world.uetr(1), ONE, place, NOON, 1, TWO, "ACCC", None, 0, 0, None, 60_000
        ),
        "BilateralLimit": bilateral,
        "MultilateralLimit": multilateral,
        "LimitsRecord": r.LimitsRecord(multilateral, (bilateral,)),
        "PriceRecord": r.PriceRecord(9_950, 100, 250),
        "PledgeRecord": r.PledgeRecord(5_000),
        "LoanRecord": r.LoanRecord(500_000, 299),
        "NettingRecord": r.NettingRecord(True, 1_800_000, 8),
        "MemberRecord": r.MemberRecord(5_000_000, 200_000, 300_000),
        "CycleRecord": r.CycleRecord(
            "funding",
            NOON,
            3,
            90_000,
            (ONE, TWO),
            (t.NetPosition(A, 90_000, 0), t.NetPosition(B, 0, 90_000)),
            ((A, 50_000),),
            NOON + 1_800_000,
            None,
        ),
        "PositionRecord": r.PositionRecord(90_000, 0),
        "LinkRecord": r.LinkRecord(_legs(), NOON, A, (A, B), 12),
        "DisputeRecord": r.DisputeRecord(
            A, B, B, 299, "AM09", ((A, ONE), (B, TWO)), t.Verdict.DISMISSED
        ),
        "AcknowledgementRecord": r.AcknowledgementRecord(B, TWO, 300),
        "ConsentRecord": r.ConsentRecord(CENTRAL, NOON),
        "RulesRecord": r.RulesRecord(1, (2, 100_000)),
        "UetrsRecord": r.UetrsRecord(301, 70_000, NOON, 9_999),
        "UetrTreeRecord": r.UetrTreeRecord(
            69_000, NOON - 86_400_000, 70_000, NOON, DATE, 20_000, TWO
        ),
    }


def samples() -> dict[str, Any]:
    """Name → value: at least one of each."""
    return bodies() | changes() | events() | keys() | records()
