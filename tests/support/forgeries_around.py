"""Forgeries of dossiers, each with the one check that catches it: the books, what was said, receipt
and checkpoint.

Made by `forge`, who holds every key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace

from node.audit.dossier import (
    AccountRow,
    Balances,
    Dossier,
    Pinned,
    Related,
)
from node.chain.encoding import encode
from node.chain.instruction import envelope_digest
from node.chain.records import AccountRecord
from node.chain.signature import RECEIPT_DOMAIN, Ed25519Signer
from node.chain.types import (
    Acknowledge,
    OpenDispute,
    OutcomePlace,
    Payment,
    Recall,
    Receipt,
    ReceiptBody,
    RevokeKey,
    SubmitEvidence,
    Verdict,
)
from tests.support import world
from tests.support.evidence_world import case, evidence_world
from tests.support.forge import (
    FLIPPED,
    act_of,
    alone,
    genesis,
    key_of,
    lei,
    sent_by,
    sign,
)
from tests.support.forge_chain import Chain, rebuilt
from tests.support.forgeries_chain import PATHS, Forgery, Hashes, top

# --- the books ----------------------------------------------------------------------------------


def holds(balance: int) -> AccountRecord:
    return AccountRecord(balance, 0, 0)


def row(record: AccountRecord | None) -> AccountRow:
    donor = case("alone").debtor
    assert donor is not None
    return AccountRow(record, donor.after.proof)


def books(name: str, **fields: Any) -> Dossier:
    return rebuilt(replace(case(name), **fields))


def in_books(change: Callable[[Balances], Balances]) -> Dossier:
    """A sound chain, and something else in the creditor's balances."""
    sound = rebuilt(case("alone"))
    assert sound.creditor is not None
    return replace(sound, creditor=change(sound.creditor))


def moved(debtor: tuple[int, int], creditor: tuple[int, int]) -> Dossier:
    """125 minor units, and nothing else in the block."""
    sides = [
        Balances(row(holds(before)), row(holds(after))) for before, after in (debtor, creditor)
    ]
    sound = alone(case("alone"))
    return rebuilt(replace(sound, debtor=sides[0], creditor=sides[1]))


BOOKS: dict[str, Forgery] = {
    "balances where no money moved": (
        "balances",
        lambda: books("queued", debtor=case("alone").debtor),
    ),
    "a debtor of an issue": ("balances", lambda: books("issue", debtor=case("issue").creditor)),
    "a creditor of a redemption": (
        "balances",
        lambda: books("redeem", creditor=case("redeem").debtor),
    ),
    "a balance that the state does not hold": (
        "balances",
        lambda: in_books(lambda b: replace(b, after=replace(b.after, record=holds(1)))),
    ),
    "a balance before that the state did not hold": (
        "balances",
        lambda: in_books(lambda b: replace(b, before=replace(b.before, record=None))),
    ),
    "balances before and after swapped": (
        "balances",
        lambda: in_books(lambda b: Balances(b.after, b.before)),
    ),
    "a balance with an unused element": (
        "balances",
        lambda: in_books(
            lambda b: replace(
                b,
                after=replace(
                    b.after,
                    proof=replace(b.after.proof, siblings=(*b.after.proof.siblings, FLIPPED)),
                ),
            )
        ),
    ),
    "money on an account that is not there": (
        "balances",
        lambda: books("alone", creditor=Balances(row(None), row(None))),
    ),
    "a debtor that paid less": ("balances", lambda: moved((1000, 876), (0, 125))),
    "a creditor that got more": ("balances", lambda: moved((1000, 875), (0, 126))),
}


# --- what was said ------------------------------------------------------------------------------


def said(name: str, change: Callable[[tuple[Related, ...]], Any]) -> Dossier:
    sound = case(name)
    return rebuilt(replace(sound, related=tuple(change(sound.related))))


def says(name: str, number: int, **fields: Any) -> Dossier:
    """Another outcome of what was said."""
    related = list(case(name).related)
    related[number] = replace(related[number], outcome=replace(related[number].outcome, **fields))
    return rebuilt(replace(case(name), related=tuple(related)))


def tells(name: str, number: int, sender: str | None = None, body: Any = None) -> Dossier:
    """Something else said, or said by somebody else."""
    related = list(case(name).related)
    act = related[number].act
    if body is not None:
        envelope = replace(act.signed.envelope, body=body)
        act = replace(act, signed=sign(envelope))
    if sender is not None:
        first = case(name).steps[0]
        carrier = replace(case(name), steps=(replace(first, act=act),))
        act = act_of(sent_by(carrier, 0, sender))
    related[number] = replace(related[number], act=act)
    return rebuilt(replace(case(name), related=tuple(related)))


def disputed(**fields: Any) -> Dossier:
    sound = case("disputed")
    assert sound.dispute is not None
    record = replace(sound.dispute.record, **fields)
    return rebuilt(replace(sound, dispute=replace(sound.dispute, record=record)))


def dispute_of_an_issue() -> Dossier:
    return rebuilt(replace(case("issue"), dispute=case("disputed").dispute))


def dispute_proof() -> Dossier:
    sound = rebuilt(case("disputed"))
    assert sound.dispute is not None
    proof = sound.dispute.proof
    changed = replace(proof, siblings=proof.siblings[:-1])
    return replace(sound, dispute=replace(sound.dispute, proof=changed))


def said_path(change: Callable[[Hashes], Hashes]) -> Dossier:
    sound = rebuilt(case("returned"))
    changed = list(sound.related)
    place = changed[0].place
    changed[0] = replace(changed[0], place=replace(place, path=change(place.path)))
    return replace(sound, related=tuple(changed))


def said_of_an_issue() -> Dossier:
    related = case("recalled").related
    heights = tuple(each.outcome.height for each in related)
    return rebuilt(replace(case("issue"), related=related), Chain(extra=heights))


def said_before() -> Dossier:
    """An acknowledgement of what the UETR named before."""
    [related] = case("acknowledged").related
    outcome = replace(related.outcome, height=9)
    sound = case("acknowledged")
    blocks = tuple(b for b in sound.blocks if b.header.height != related.outcome.height)
    changed = replace(sound, blocks=blocks, related=(replace(related, outcome=outcome),))
    return rebuilt(changed, Chain(extra=(9,)))


def payment_of(name: str) -> Payment:
    return evidence_world().payments[name]


SAID: dict[str, Forgery] = {
    "what was said, reordered": ("related", lambda: said("returned", lambda r: r[::-1])),
    "what was said, twice": ("related", lambda: said("returned", lambda r: [r[0], *r])),
    "a rejected recall": ("related", lambda: says("returned", 0, status="RJCT", reason="NOOR")),
    "the outcome of another instruction": ("related", lambda: says("returned", 0, instruction=9)),
    "the outcome of a payment": (
        "related",
        lambda: says("returned", 0, uetr=payment_of("returned").uetr),
    ),
    "the outcome of a change": ("related", lambda: says("returned", 1, content=FLIPPED)),
    "the outcome of a return sent again": (
        "related",
        lambda: says("returned", 1, original=OutcomePlace(1, 0, 0)),
    ),
    "the outcome of another return": (
        "related",
        lambda: says("returned", 1, uetr=payment_of("recalled").uetr),
    ),
    "a recall of another payment": (
        "related",
        lambda: tells("returned", 0, body=Recall(payment_of("recalled"), "DUPL")),
    ),
    "a recall by another": ("related", lambda: tells("returned", 0, "BANKB")),
    "a refusal by another": ("related", lambda: tells("recalled", 1, "BANKA")),
    "a return by another": ("related", lambda: tells("returned", 1, "BANKC")),
    "an acknowledgement by another": ("related", lambda: tells("acknowledged", 0, "BANKA")),
    "an acknowledgement of another payment": (
        "related",
        lambda: tells(
            "acknowledged", 0, body=Acknowledge(payment_of("recalled"), FLIPPED, FLIPPED)
        ),
    ),
    "a dispute by nobody's party": ("related", lambda: tells("disputed", 0, "BANKC")),
    "a document of another dispute": (
        "related",
        lambda: tells("disputed", 1, body=SubmitEvidence(payment_of("recalled").uetr, FLIPPED)),
    ),
    "a document by nobody's party": ("related", lambda: tells("disputed", 1, "BANKC")),
    "a verdict by a party": ("related", lambda: tells("disputed", 3, "BANKA")),
    "an instruction that says nothing of it": (
        "related",
        lambda: tells("returned", 0, body=RevokeKey(FLIPPED)),
    ),
    "a recall of an issue": ("related", said_of_an_issue),
    "what was said of a payment before": ("related", said_before),
    **{
        f"the path of what was said {what}": ("related", partial(said_path, change))
        for what, change in PATHS.items()
    },
    "a dispute of another debtor": ("related", lambda: disputed(debtor=lei("BANKC"))),
    "a dispute of another creditor": ("related", lambda: disputed(creditor=lei("BANKC"))),
    "a dispute opened before the payment": ("related", lambda: disputed(opened=3)),
    "a dispute opened by another": ("related", lambda: disputed(opened_by=lei("BANKA"))),
    "a dispute of another reason": ("related", lambda: disputed(reason="DUPL")),
    "a dispute without the document": ("related", lambda: disputed(evidence=())),
    "a dispute with another verdict": (
        "related",
        lambda: disputed(verdict=Verdict.DISMISSED),
    ),
    "a dispute that is undecided": ("related", lambda: disputed(verdict=None)),
    "a dispute of an issue": ("related", dispute_of_an_issue),
    "a dispute's proof one short": ("related", dispute_proof),
    "a dispute opened twice": (
        "related",
        lambda: tells("disputed", 0, body=OpenDispute(payment_of("disputed"), "DUPL")),
    ),
}


# --- receipt and checkpoint ---------------------------------------------------------------------


def receipt(dossier: Dossier, *, signer: Ed25519Signer | None = None, **fields: Any) -> Receipt:
    """node2's receipt for the order, or one with other fields."""
    node = evidence_world().members.nodes[2]
    body = replace(
        ReceiptBody(
            envelope_digest(act_of(dossier).signed.envelope),
            node.public_key,
            1,
            dossier.blocks[0].header.parent,
            genesis().time,
        ),
        **fields,
    )
    chosen = signer or node
    return Receipt(body, chosen.sign(RECEIPT_DOMAIN, genesis().chain_id, encode(body)))


def received(**fields: Any) -> Dossier:
    sound = rebuilt(case("alone"))
    return replace(sound, receipt=receipt(sound, **fields))


PINNED = 9
"""Height of a block that a reader knows."""


def pinned(change: Callable[[Pinned], Pinned]) -> Dossier:
    sound = case("alone", None, PINNED)
    assert sound.pinned is not None
    return replace(sound, pinned=change(sound.pinned))


def pinned_path(change: Callable[[Hashes], Hashes]) -> Dossier:
    return pinned(lambda p: replace(p, path=change(p.path)))


MALLORY = world.signer("mallory")

KNOWN: dict[str, Forgery] = {
    "a receipt for another order": ("receipt", lambda: received(instruction=FLIPPED)),
    "a receipt of an unknown node": (
        "receipt",
        lambda: received(node=MALLORY.public_key, signer=MALLORY),
    ),
    "a receipt signed by another node": (
        "receipt",
        lambda: received(signer=evidence_world().members.nodes[1]),
    ),
    "a receipt by the vote key": (
        "receipt",
        lambda: received(
            node=evidence_world().members.votes[2].public_key,
            signer=evidence_world().members.votes[2],
        ),
    ),
    "a receipt signed by its own sender": (
        "receipt",
        lambda: received(signer=key_of(lei("BANKA"))),
    ),
    "another block pinned": ("pinned", lambda: pinned(lambda p: replace(p, digest=FLIPPED))),
    "a block pinned elsewhere": ("pinned", lambda: pinned(lambda p: replace(p, height=8))),
    "the checkpoint itself pinned": (
        "pinned",
        lambda: pinned(lambda p: replace(p, height=top(case("alone")))),
    ),
    **{
        f"a pinned block's path {what}": ("pinned", partial(pinned_path, change))
        for what, change in PATHS.items()
    },
}
