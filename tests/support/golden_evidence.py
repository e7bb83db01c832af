"""Samples of the formats of evidence: dossiers and their parts, proofs of the ledger's state."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from consensus.messages import Certificate
from node.audit import dossier as d
from node.audit import epochs as e
from node.audit import state_proofs as s
from node.chain import records as r
from node.chain import types as t
from node.chain.state_map import MapProof
from node.chain.uetr_tree import Page, prove_uetr
from tests.support import golden_settlement, world

ONE, TWO, THREE = (sha256(word).digest() for word in (b"one", b"two", b"three"))


@dataclass(frozen=True)
class Parts:
    """What other samples give to these."""

    header: t.Header
    finalization: Certificate
    link: e.EpochLink
    signed: t.SignedEnvelope
    payment: t.Payment
    settled: t.Outcome
    changed: t.Outcome
    """A later outcome of the payment."""
    sender: r.ParticipantRecord
    receipt: t.Receipt


def _together(parts: Parts, leaf: bytes) -> dict[str, Any]:
    """What settled with the payment, of each kind."""
    events, rows = golden_settlement.events(), golden_settlement.records()
    place, proof = d.Place(1, (ONE,)), MapProof((ONE, TWO), None)
    act = d.Act(parts.signed, place, None)

    def placed(event: t.Event) -> d.Placed:
        outcome = replace(
            parts.settled,
            instruction=None,
            uetr=None,
            debtor_balance=None,
            creditor_balance=None,
            event=event,
        )
        return d.Placed(outcome, place)

    summary = placed(events["Resolved"])
    closed, decided = placed(events["CycleClosed"]), placed(events["CycleSettled"])
    agreement = d.Agreement(1, act)
    return {
        "Placed": summary,
        "Agreement": agreement,
        "Gridlocked": d.Gridlocked(summary, place, ()),
        "Gridlocked, with all members": d.Gridlocked(summary, None, (parts.payment, leaf)),
        "Linked": d.Linked((agreement,), placed(events["LinkClosed"])),
        "Linked, open": d.Linked((), None),
        "Netted": d.Netted(rows["CycleRecord"], proof, closed, decided, place, ()),
        "Netted, open": d.Netted(rows["CycleRecord"], proof, None, None, None, ()),
    }


def _proofs(blocks: tuple[d.ProvenBlock, ...], finality: d.Finality) -> dict[str, Any]:
    """Files that prove something of the state."""
    uetrs = sorted(world.uetr(number) for number in range(3))
    pages = prove_uetr(uetrs, world.uetr(9))
    row = d.AccountRow(r.AccountRecord(-1, 40, 60), MapProof((ONE,), None))
    record = golden_settlement.records()["UetrTreeRecord"]
    absence = s.TreeAbsence(300, record, MapProof((TWO,), None), pages)
    account = world.BANKA.lei, world.EUR, t.AccountKind.SETTLEMENT
    return {
        "AccountRow": row,
        "Page": Page(7, b"".join(uetrs), (ONE, TWO)),
        "TreeAbsence": absence,
        "BalanceProof": s.BalanceProof(blocks, (), finality, *account, row),
        "AbsenceProof": s.AbsenceProof(blocks, (), finality, world.uetr(9), (absence,)),
    }


def samples(parts: Parts) -> dict[str, Any]:
    """Name → value: at least one of each."""
    place, proof = d.Place(1, (ONE,)), MapProof((ONE, TWO), None)
    leaf = parts.changed.content
    assert leaf is not None
    together = _together(parts, leaf)
    block = d.ProvenBlock(parts.header, parts.header, (ONE,))
    finality = d.Finality(parts.finalization, (parts.header,))
    proofs = _proofs((replace(block, parent=None),), finality)
    ended = d.EndedEpoch(parts.link, (ONE,))
    authority = d.Authority(parts.sender, proof)
    act = d.Act(parts.signed, place, authority)
    part = d.PaymentPart(parts.payment, place)
    step = d.Step(parts.settled, place, act)
    row = d.PaymentRow(golden_settlement.records()["PaymentRecord, decided"], proof)
    balances = d.Balances(d.AccountRow(None, proof), proofs["AccountRow"])
    related = d.Related(replace(act, authority=None), replace(parts.settled, uetr=None), place)
    dispute = d.DisputeRow(golden_settlement.records()["DisputeRecord"], proof)
    pinned = d.Pinned(1, THREE, (TWO,))
    dossier = d.Dossier(
        blocks=(block,),
        epochs=(ended,),
        finality=finality,
        payment=part,
        steps=(step, d.Step(parts.changed, place, None)),
        row=row,
        debtor=balances,
        creditor=balances,
        together=together["Gridlocked"],
        related=(related,),
        dispute=dispute,
        receipt=parts.receipt,
        pinned=pinned,
    )
    bare = d.Dossier(
        blocks=(replace(block, parent=None, path=()),),
        epochs=(),
        finality=None,
        payment=None,
        steps=(replace(step, act=None),),
        row=None,
        debtor=None,
        creditor=None,
        together=None,
        related=(),
        dispute=None,
        receipt=None,
        pinned=None,
    )
    return {
        **together,
        **proofs,
        "Place": place,
        "ProvenBlock": block,
        "EndedEpoch": ended,
        "Finality": finality,
        "Pinned": pinned,
        "Authority": authority,
        "Act": act,
        "PaymentPart": part,
        "Step": step,
        "PaymentRow": row,
        "Balances": balances,
        "Related": related,
        "DisputeRow": dispute,
        "Dossier": dossier,
        "Dossier, no parts": bare,
    }
