"""What remains of a dossier: the accepting node's receipt (ISO/IEC 13888: submission), an earlier
block for readers who know one, what every reader has to know besides, and of which blocks all parts
together have need.
"""

from __future__ import annotations

from collections.abc import Iterator

from node.audit.dossier import (
    Dossier,
    Netted,
    Place,
)
from node.audit.fault import Absent, Fault, same
from node.audit.verify_books import moved_at
from node.audit.verify_changes import DUPLICATE, is_silent
from node.audit.verify_checkpoint import Pin, check_pin
from node.audit.verify_finality import checkpoint, headers_of, included, members
from node.audit.verify_order import acts, order_of, payer, sender_of
from node.audit.verify_related import delivery
from node.audit.wording import time_text
from node.chain.encoding import encode
from node.chain.genesis import Genesis
from node.chain.instruction import envelope_digest
from node.chain.merkle import history_leaf
from node.chain.signature import RECEIPT_DOMAIN, verify
from node.chain.statuses import REJECTED, UNDECIDED


def check_receipt(dossier: Dossier, genesis: Genesis) -> str:
    """Non-repudiation of submission: what the accepting node stated."""
    receipt = dossier.receipt
    if receipt is None:
        raise Absent("none of an accepting node is here; inclusion needs none")
    act, body = dossier.steps[0].act, receipt.body
    if act is None:
        raise Fault("receipt", "an instruction that it is for", None, "It is for nothing here.")
    same(
        "receipt.instruction",
        envelope_digest(act.signed.envelope),
        body.instruction,
        "The receipt is for another instruction.",
    )
    names = {v.node_key: v.name for v in members(dossier, genesis)}
    if body.node not in names:
        raise Fault(
            "receipt.node",
            "the node key of a validator of an epoch up to the checkpoint's",
            body.node,
            "No validator set so far names this key, as that of a node that only observed: whose "
            "statement it is, nothing here can tell.",
        )
    if not verify(body.node, RECEIPT_DOMAIN, genesis.chain_id, encode(body), receipt.signature):
        raise Fault(
            "receipt.signature",
            f"a signature of {names[body.node]}",
            receipt.signature,
            "That node did not sign this receipt.",
        )
    return (
        f"{names[body.node]} stated to have it, not before block {body.height} was final "
        f"(by its clock {time_text(body.time)})"
    )


def check_pinned(dossier: Dossier, genesis: Genesis, pin: Pin | None = None) -> str:
    """That an earlier block is in this history, and that what the reader relies on is."""
    pinned, top = dossier.pinned, checkpoint(dossier)
    if pinned is not None:
        included(
            "pinned.path",
            history_leaf(pinned.digest),
            Place(pinned.height, pinned.path),
            size=top.height,
            root=top.history_root,
            meaning=f"Block {top.height} does not have this block in its history.",
        )
    if pin is not None:
        return check_pin(pin, headers_of(dossier), pinned, top)
    if pinned is None:
        raise Absent("no earlier block is shown to be in this history")
    return f"block {pinned.height}, {pinned.digest.hex()}, is in the history of block {top.height}"


# --- what nobody has to show, and what nothing shows --------------------------------------------


def notes(dossier: Dossier, genesis: Genesis, pin: Pin | None) -> Iterator[tuple[str, str]]:
    """(what about, what to know) beside the checks. Raises Fault, Missing where those fail, too."""
    order, first, last = order_of(dossier), dossier.steps[0].outcome, dossier.steps[-1].outcome
    if pin is None:
        yield (
            "checkpoint",
            "none given. Shown: a quorum of each epoch's validators, from the genesis file's on, "
            "signed this history and this inclusion. Not shown: that none of their keys was ever "
            "stolen, that this is the latest state of the payment, nor, without a replay, that "
            "execution was right",
        )
    yield "delivery", delivery(dossier, genesis)
    if (original := first.original) is not None:
        yield (
            "retry",
            "this order repeated a payment sent before, and moved no money itself; the "
            f"outcome that stands is [{original.instruction}, {original.payment}] in block "
            f"{original.height}",
        )
    if payer(order, genesis) not in (None, sender_of(dossier)):
        text = "not given by whose money it is: tells nothing of their own order under this UETR"
        yield "order", text
    elif first.status == REJECTED and is_silent(first) and first.reason != DUPLICATE:
        yield "again", "this order used up no UETR: given once more, it may have settled since"
    if genesis.devnet:
        yield "devnet", "everybody can have the keys of a devnet, and so make evidence like this"
    if last.status in UNDECIDED and not _is_decided(dossier):
        height = checkpoint(dossier).height
        yield "undecided", f"so it stood in block {height}; what became of it later is not here"
    if first.reason == DUPLICATE:
        yield "duplicate", "another payment stands under this UETR, which may have settled"
    if dossier.together is not None:
        text = "that no other set could have settled instead takes an audit of the whole chain"
        yield "choice", text
    if dossier.dispute is not None:
        text = "a dispute moves no money and undoes nothing; the payment stands as shown"
        yield "dispute", text


def _is_decided(dossier: Dossier) -> bool:
    """Whether a clearing cycle decided the payment, whose own outcome only says that it joined."""
    return isinstance(dossier.together, Netted) and dossier.together.decided is not None


def used_heights(dossier: Dossier) -> tuple[set[int], set[int]]:
    """(heights of the blocks in which the dossier proves something, those of them where it proves
    something in the state before)."""
    used = {step.outcome.height for step in dossier.steps}
    parents: set[int] = set()
    for _, act, height in acts(dossier):
        used.add(height)
        if act.authority is not None:
            parents.add(height)
    used |= {related.outcome.height for related in dossier.related}
    together = dossier.together
    for name in ("summary", "closed", "decided"):
        placed = getattr(together, name, None)
        if placed is not None:
            used.add(placed.outcome.height)
    moved = moved_at(dossier)
    if moved is not None and not (dossier.debtor is None and dossier.creditor is None):
        used.add(moved)
        parents.add(moved)
    return used, parents
