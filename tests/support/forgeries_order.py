"""Forgeries of dossiers, each with the one check that catches it: what was ordered, by whom, and
what became of it.

Made by `forge`, who holds every key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace

from node.audit.dossier import Dossier, PaymentPart, PaymentRow, Place
from node.chain.encoding import encode
from node.chain.instruction import payment_digest
from node.chain.records import KeyRecord
from node.chain.signature import INSTRUCTION_DOMAIN
from node.chain.state_map import MapProof
from node.chain.types import (
    Carried,
    Hold,
    Issue,
    KeySignature,
    OutcomePlace,
    Pay,
    Post,
    Posted,
    Redeem,
    Returns,
    RevokeKey,
)
from tests.support.evidence_world import PREIMAGE, case, evidence_world
from tests.support.forge import (
    FLIPPED,
    act_of,
    genesis,
    key_of,
    lei,
    of_heights,
    sent_by,
    sign,
    with_act,
    with_body,
    with_envelope,
    with_outcome,
    with_payment,
    with_record,
    with_sender,
    with_step,
)
from tests.support.forge_chain import Chain, rebuilt
from tests.support.forgeries_chain import (
    OTHER_CHAIN,
    PATHS,
    SECOND,
    Forgery,
    Hashes,
    first,
    header_says,
    with_block,
)

# --- origin -------------------------------------------------------------------------------------


def with_bad_signature(*, domain: str = INSTRUCTION_DOMAIN, chain: bytes | None = None) -> Dossier:
    sound = case("alone")
    envelope = act_of(sound).signed.envelope
    signer = key_of(envelope.sender)
    chosen = genesis().chain_id if chain is None else chain
    signature = signer.sign(domain, chosen, encode(envelope))
    signed = replace(act_of(sound).signed, signatures=(KeySignature(signer.public_key, signature),))
    return rebuilt(with_act(sound, 0, signed=signed))


def signed_by(*signers: Any, order: int = 1) -> Dossier:
    """Signed by these keys, all of which the sender has."""
    sound = case("alone")
    signed = sign(act_of(sound).signed.envelope, *signers)
    signed = replace(signed, signatures=signed.signatures[::order])
    keys = {each.public_key for each in signers}
    records = tuple(KeyRecord(key, 0, None) for key in sorted(keys))
    return rebuilt(with_sender(with_act(sound, 0, signed=signed), keys=records))


def own_key() -> Any:
    return key_of(act_of(case("alone")).signed.envelope.sender)


def with_key(valid_from: int, revoked_from: int | None) -> Dossier:
    record = KeyRecord(own_key().public_key, valid_from, revoked_from)
    return rebuilt(with_sender(case("alone"), keys=(record,)))


def with_authority(change: Callable[[Any], Any]) -> Dossier:
    """A sound chain, and something else in the proof of the sender's keys."""
    sound = rebuilt(case("alone"))
    return with_act(sound, 0, authority=change(act_of(sound).authority))


def parentless() -> Dossier:
    return with_block(rebuilt(case("reserved")), 0, parent=None)


ORIGIN: dict[str, Forgery] = {
    "a signature over something else": (
        "signatures",
        lambda: with_bad_signature(domain="nostro.vote/1"),
    ),
    "a signature for another chain": ("signatures", lambda: with_bad_signature(chain=OTHER_CHAIN)),
    "one key signing twice": ("signatures", lambda: signed_by(own_key(), own_key())),
    "signatures out of order": ("signatures", lambda: signed_by(own_key(), SECOND, order=-1)),
    "a stranger's key": (
        "authority",
        lambda: rebuilt(with_envelope(case("alone"), 0, SECOND)),
    ),
    "a key not yet valid": ("authority", lambda: with_key(first(case("alone")) + 1, None)),
    "a key already revoked": ("authority", lambda: with_key(0, first(case("alone")))),
    "one signature where two are asked": (
        "authority",
        lambda: rebuilt(with_sender(case("alone"), threshold=2)),
    ),
    "another participant's record": (
        "authority",
        lambda: rebuilt(with_sender(case("alone"), lei=lei("BANKC"))),
    ),
    "a record that the state does not hold": (
        "authority",
        lambda: with_authority(lambda a: replace(a, sender=replace(a.sender, name="MALLORY"))),
    ),
    "a state proof with an unused element": (
        "authority",
        lambda: with_authority(
            lambda a: replace(a, proof=replace(a.proof, siblings=(*a.proof.siblings, FLIPPED)))
        ),
    ),
    "a state proof one short": (
        "authority",
        lambda: with_authority(
            lambda a: replace(a, proof=replace(a.proof, siblings=a.proof.siblings[:-1]))
        ),
    ),
    "keys without the state that they stood in": ("authority", parentless),
    "a hold by a stranger's key": (
        "authority",
        lambda: rebuilt(with_envelope(case("held"), 1, SECOND)),
    ),
}


# --- the payment --------------------------------------------------------------------------------


def with_part(change: Callable[[PaymentPart], PaymentPart]) -> Dossier:
    sound = rebuilt(case("batch"))
    assert sound.payment is not None
    return replace(sound, payment=change(sound.payment))


def payment_path(change: Callable[[Hashes], Hashes]) -> Dossier:
    return with_part(
        lambda part: replace(part, place=replace(part.place, path=change(part.place.path)))
    )


def counted(count: int) -> Dossier:
    sound = with_payment(case("alone"))
    body = act_of(sound).signed.envelope.body
    assert isinstance(body, Pay)
    return rebuilt(with_body(sound, replace(body, payments_count=count)))


def supplied(name: str, body: Issue | Redeem) -> Dossier:
    """Money made or unmade by BANKA, with all that follows from it."""
    changed = sent_by(case(name), 0, "BANKA", body=body)
    return rebuilt(with_outcome(changed, 0, uetr=body.uetr))


def uetr_of(name: str) -> bytes:
    return evidence_world().uetrs[name]


PAYMENT: dict[str, Forgery] = {
    **{
        f"a payment's path {what}": ("payment", partial(payment_path, change))
        for what, change in PATHS.items()
    },
    "more payments signed than the path shows": ("payment", lambda: counted(2)),
    "a reference that is no UETR": (
        "payment",
        lambda: rebuilt(with_payment(case("alone"), uetr=bytes(16))),
    ),
    "another's money paid": (
        "payment",
        lambda: rebuilt(with_payment(case("alone"), debtor=lei("BANKC"))),
    ),
    "a payment beside an issue": (
        "payment",
        lambda: replace(
            rebuilt(case("issue")),
            payment=PaymentPart(evidence_world().payments["alone"], Place(0, ())),
        ),
    ),
    "money issued by another than the asset's issuer": (
        "payment",
        lambda: supplied("issue", Issue(uetr_of("issue"), "EUR", lei("BANKA"), 10_000_000)),
    ),
    "money redeemed by another than the asset's issuer": (
        "payment",
        lambda: supplied("redeem", Redeem(uetr_of("redeem"), "EUR", 700)),
    ),
}


# --- places -------------------------------------------------------------------------------------


def act_at(name: str, step: int, change: Callable[[Place], Place]) -> Dossier:
    sound = rebuilt(case(name))
    act = act_of(sound, step)
    return with_act(sound, step, place=change(act.place))


def step_at(name: str, step: int, change: Callable[[Place], Place]) -> Dossier:
    sound = rebuilt(case(name))
    return with_step(sound, step, place=change(sound.steps[step].place))


def act_path(change: Callable[[Hashes], Hashes]) -> Dossier:
    return act_at("held", 0, lambda place: replace(place, path=change(place.path)))


def outcome_path(change: Callable[[Hashes], Hashes]) -> Dossier:
    return step_at("batch", 0, lambda place: replace(place, path=change(place.path)))


def ordered_for_nothing() -> Dossier:
    """An instruction beside a settlement that the block brought about by itself."""
    sound = case("gridlock-first")
    act = act_of(sound)
    return rebuilt(with_step(sound, -1, act=replace(act, place=Place(5, ()))))


PLACES: dict[str, Forgery] = {
    **{
        f"an instruction's path {what}": ("instruction", partial(act_path, change))
        for what, change in PATHS.items()
    },
    "another count of instructions": (
        "instruction",
        lambda: header_says("held", first, instructions_count=99),
    ),
    "an instruction that nothing names": ("instruction", ordered_for_nothing),
    **{
        f"an outcome's path {what}": ("outcome", partial(outcome_path, change))
        for what, change in PATHS.items()
    },
    "another count of outcomes": (
        "outcome",
        lambda: header_says("alone", first, outcomes_count=99),
    ),
    "an outcome of another time": (
        "outcome",
        lambda: rebuilt(with_outcome(case("nothing"), 0, time=5)),
    ),
    "a status that no one knows": (
        "outcome",
        lambda: rebuilt(with_outcome(case("nothing"), 0, status="ACTC")),
    ),
    "a later outcome's path one over": (
        "outcome",
        lambda: step_at(
            "gridlock-first", 1, lambda place: Place(place.index, (*place.path, FLIPPED))
        ),
    ),
}


# --- whose outcomes -----------------------------------------------------------------------------


def outcome_says(name: str, step: int, **fields: Any) -> Dossier:
    return rebuilt(with_outcome(case(name), step, **fields))


LINK: dict[str, Forgery] = {
    "the outcome of another payment of the order": (
        "link",
        lambda: outcome_says("batch", 0, payment=2),
    ),
    "the outcome of another UETR": ("link", lambda: outcome_says("batch", 0, uetr=uetr_of("own"))),
    "a later outcome as the first": (
        "link",
        lambda: outcome_says(
            "alone", 0, content=payment_digest(evidence_world().payments["alone"])
        ),
    ),
    "a change of another UETR": ("link", lambda: outcome_says("held", 1, uetr=uetr_of("own"))),
    "a change of other content": ("link", lambda: outcome_says("held", 1, content=FLIPPED)),
    "a change without content": ("link", lambda: outcome_says("held", 1, content=None)),
    "a change of another first outcome": (
        "link",
        lambda: outcome_says("held", 1, original=OutcomePlace(6, 0, 0)),
    ),
    "a change of no first outcome": ("link", lambda: outcome_says("held", 1, original=None)),
    "a change of another payment of the order": (
        "link",
        lambda: outcome_says("held", 1, payment=1),
    ),
}


# --- what followed from what --------------------------------------------------------------------


def ordered(name: str, step: int, body: Any) -> Dossier:
    return rebuilt(with_envelope(case(name), step, body=body))


def by(name: str, step: int, sender: str, **fields: Any) -> Dossier:
    return rebuilt(sent_by(case(name), step, sender, **fields))


CHANGES: dict[str, Forgery] = {
    "a change after a decision": (
        "changes",
        lambda: outcome_says("many", 0, status="CANC", reason="CUST"),
    ),
    "a hold of another payment": ("changes", lambda: ordered("held", 1, Hold(uetr_of("queued")))),
    "a hold by another than the debtor": ("changes", lambda: by("held", 1, "BANKA")),
    "a cancellation by the creditor": ("changes", lambda: by("cancelled", 1, "BANKC")),
    "an order that is about no payment": (
        "changes",
        lambda: ordered("held", 1, RevokeKey(FLIPPED)),
    ),
    "a hold that released": ("changes", lambda: outcome_says("held", 1, status="PDNG")),
    "an expiry before its time without a word": (
        "changes",
        lambda: outcome_says("timed-out", 1, reason="CUST"),
    ),
    "a hold by nobody": (
        "changes",
        lambda: outcome_says("expired", 1, status="BLCK", reason="CUST"),
    ),
    "a post with another preimage": (
        "changes",
        lambda: ordered("posted", 1, Post(uetr_of("posted"), None, FLIPPED)),
    ),
    "a post without a preimage": (
        "changes",
        lambda: ordered("posted", 1, Post(uetr_of("posted"), None, None)),
    ),
    "a post by another than the poster": ("changes", lambda: by("part", 1, "BANKA")),
    "a post of another reservation": (
        "changes",
        lambda: ordered("posted", 1, Post(uetr_of("part"), None, PREIMAGE)),
    ),
    "more posted than was reserved": (
        "changes",
        lambda: outcome_says("part", 1, event=Posted(503)),
    ),
    "a posting that does not say how much": (
        "changes",
        lambda: outcome_says("part", 1, event=None),
    ),
    "a void by the debtor": ("changes", lambda: by("voided", 1, "BANKA")),
    "a return of another payment": (
        "changes",
        lambda: outcome_says("return", 0, event=Returns(uetr_of("recalled"))),
    ),
    "a payment that carries nothing on": (
        "changes",
        lambda: outcome_says("alone", 0, event=Carried(uetr_of("batch"))),
    ),
}


# --- all of it ----------------------------------------------------------------------------------


def left_out(name: str) -> Dossier:
    """Without the last change, and the block that it stands in."""
    sound = case(name)
    height = sound.steps[-1].outcome.height
    kept = of_heights(replace(sound, steps=sound.steps[:-1]), height)
    return rebuilt(kept, Chain(chained=False))


def recorded(name: str, **fields: Any) -> Dossier:
    return rebuilt(with_record(case(name), **fields), Chain(chained=False))


def unrecorded(name: str) -> Dossier:
    sound = case(name)
    assert sound.row is not None
    return rebuilt(replace(sound, row=replace(sound.row, record=None)))


def with_row_proof(change: Callable[[MapProof], MapProof]) -> Dossier:
    sound = rebuilt(case("alone"))
    assert sound.row is not None
    return replace(sound, row=replace(sound.row, proof=change(sound.row.proof)))


def row_for_nothing() -> Dossier:
    """The state's word on a UETR that this order did not use up."""
    sound = case("copied")
    return rebuilt(replace(sound, row=PaymentRow(None, MapProof((), None))))


RECORD: dict[str, Forgery] = {
    "the last change left out": ("record", lambda: left_out("held")),
    "the settlement left out": ("record", lambda: recorded("held", status="PDNG")),
    "a change that the state does not count": ("record", lambda: recorded("held", changes=0)),
    "another chain of changes": ("record", lambda: recorded("held", chain=FLIPPED)),
    "the record of other content": ("record", lambda: recorded("held", content=FLIPPED)),
    "the record of another UETR": ("record", lambda: recorded("held", uetr=uetr_of("own"))),
    "the record of another order of the block": (
        "record",
        lambda: recorded("held", first=OutcomePlace(first(case("held")), 9, 0)),
    ),
    "no record of a payment that waits": ("record", lambda: unrecorded("queued")),
    "a change that left no record": ("record", lambda: unrecorded("cancelled")),
    "a record of an order that used up nothing": ("record", row_for_nothing),
    "an absence with an unused element": (
        "record",
        lambda: with_row_proof(lambda p: replace(p, siblings=(*p.siblings, FLIPPED))),
    ),
    "an absence one short": (
        "record",
        lambda: with_row_proof(lambda p: replace(p, siblings=p.siblings[:-1])),
    ),
    "an older payment's record beside later changes": (
        "record",
        lambda: recorded("held", first=OutcomePlace(1, 0, 0)),
    ),
}
