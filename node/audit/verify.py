"""Offline verification of evidence: what it proves, to whom, and what it does not.

Trusted: the genesis file that the reader was handed (its digest is the chain id, it names the
first validators) and SHA-256 and Ed25519. Nothing else: no node, no network, no account. What
runs is this file and its rooms, the shapes they read (`dossier`, `proofs`), the certificate check
of `consensus` and `node/chain`. Of a dossier:

    verify_finality   why its blocks are final, from the genesis file's validators on
    verify_order      who ordered what
    verify_changes    what became of it, up to the checkpoint, with nothing left out
    verify_together   with what it settled, and that it comes out even (`verify_sets`)
    verify_books      what it did to the accounts
    verify_related    what was said about it
    verify_known      receipt and checkpoint, and what every reader has to know besides

`epochs` says who the validators were, `verify_accountability` and `accountability` check what
accuses them.

Each check stands alone and says in one line what it found. Any that fails makes the dossier
INVALID; where a mandatory part is missing and nothing failed, the verdict is UNDECIDED. A claim
that a signing key was stolen is a dispute, and makes nothing invalid here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from node.audit import verify_books as books
from node.audit import verify_changes as changes
from node.audit import verify_finality as finality
from node.audit import verify_known as known
from node.audit import verify_order as order
from node.audit import verify_related as related
from node.audit import verify_together as together
from node.audit.dossier import BadDossier, Dossier, Netted, decode_dossier
from node.audit.fault import Fault, Missing, same
from node.audit.looks import looks_like
from node.audit.note import BadNote
from node.audit.proofs import EquivocationProof, ForkProof, tag_of
from node.audit.report import FAIL, NOTE, VALID, Line, PaymentFacts, Report
from node.audit.state_proofs import AbsenceProof, BalanceProof
from node.audit.verify_accountability import check_equivocation_proof, check_fork
from node.audit.verify_checkpoint import Asked, Pin
from node.audit.verify_state import check_absence_proof, check_balance_proof
from node.audit.wording import decimals
from node.chain.block import header_digest
from node.chain.genesis import BadGenesis, Genesis, load_genesis
from node.chain.signature import UnsafeLibsodium, self_check
from node.chain.statuses import ACCEPTED, REJECTED, SETTLED, status_word
from node.chain.uetr import uetr_text


def _check_chain(dossier: Dossier, genesis: Genesis) -> str:
    told = finality.check_chain(dossier, genesis)
    order.check_envelopes(dossier, genesis)
    return told


def _check_history(dossier: Dossier, genesis: Genesis) -> str:
    return finality.check_history(dossier, genesis, *known.used_heights(dossier))


def _check_signatures(dossier: Dossier, genesis: Genesis) -> str:
    if order.count_signatures(dossier) > order.MAX_UNCOMMITTED:
        _check_committed(dossier, genesis)
    return order.check_signatures(dossier, genesis)


def _check_committed(dossier: Dossier, genesis: Genesis) -> None:
    """That final blocks hold the instructions, each of which is there once. Raises Missing."""
    where = [(height, act.place.index) for _, act, height in order.acts(dossier)]
    try:
        finality.check_validators(dossier, genesis)
        finality.check_seals(dossier, genesis)
        finality.check_finality(dossier, genesis)
        _check_history(dossier, genesis)
        order.check_instruction(dossier, genesis)
        same("instructions", len(where), len(set(where)), "One is there twice.")
    except (Fault, Missing) as error:
        raise Missing(
            f"more than {order.MAX_UNCOMMITTED:,} signatures are looked at only where final blocks "
            "hold what they sign, which is not shown"
        ) from error


CHECKS: tuple[tuple[str, Callable[[Dossier, Genesis], str]], ...] = (
    ("chain", _check_chain),
    ("validators", finality.check_validators),
    ("seals", finality.check_seals),
    ("finality", finality.check_finality),
    ("history", _check_history),
    ("signatures", _check_signatures),
    ("authority", order.check_authority),
    ("payment", order.check_payment),
    ("instruction", order.check_instruction),
    ("outcome", changes.check_outcome),
    ("link", changes.check_link),
    ("changes", changes.check_changes),
    ("record", changes.check_record),
    ("together", together.check_together),
    ("balances", books.check_balances),
    ("related", related.check_related),
    ("receipt", known.check_receipt),
    ("pinned", known.check_pinned),
)
"""Of a dossier, in this order. The last one also compares with the reader's own checkpoint."""


def verify_file(data: bytes, genesis_file: bytes, pin: Pin | None = None) -> Report:
    """Check any file of evidence against a genesis file. Raises nothing.

    `pin`: a block that the reader knows to be final from elsewhere."""
    try:
        self_check()
        genesis = load_genesis(genesis_file)
    except (UnsafeLibsodium, BadGenesis) as error:
        seen = looks_like(genesis_file)
        hint = f". It looks like {seen}: were the two files swapped?" if seen else ""
        line = Line(NOTE, "genesis", f"nothing can be checked: {error}{hint}")
        return Report([line], undecided=True)
    return check_file(data, genesis, pin)


def check_file(data: bytes, genesis: Genesis, pin: Pin | None = None) -> Report:
    """The same, with a genesis file already read and a library already checked."""
    return KINDS.get(tag_of(data), check_dossier)(data, genesis, pin)


def verify_against(data: bytes, genesis_file: bytes, asked: Asked) -> Report:
    """Check any file of evidence against a genesis file, and against a checkpoint that the reader
    brings; one that cannot be relied on leaves everything undecided. Raises nothing."""
    try:
        self_check()
        pin = asked.pin(load_genesis(genesis_file))
    except (UnsafeLibsodium, BadGenesis):
        return verify_file(data, genesis_file)  # which says so
    except BadNote as error:
        line = Line(NOTE, "checkpoint", f"nothing can be checked against it: {error}")
        return Report([line], undecided=True)
    return verify_file(data, genesis_file, pin)


def check_dossier(data: bytes, genesis: Genesis, pin: Pin | None = None) -> Report:
    """What a dossier proves, with a genesis file already read and a library already checked."""
    report = Report()
    try:
        dossier = decode_dossier(data)
    except BadDossier as error:
        seen = looks_like(data)
        hint = f". It looks like {seen}" if seen else ""
        report.lines.append(Line(FAIL, "file", f"this is not a dossier: {error}{hint}"))
        return report
    report.kind, report.dossier = "dossier", dossier
    for name, check in CHECKS[:-1]:
        report.run(name, partial(check, dossier, genesis))
    report.run(CHECKS[-1][0], partial(known.check_pinned, dossier, genesis, pin))
    try:
        report.lines += [Line(NOTE, *note) for note in known.notes(dossier, genesis, pin)]
    except (Fault, Missing):
        return report  # a check above has said so
    if report.verdict == VALID:
        report.status = proven_status(dossier)
        report.payment = _facts(dossier, genesis)
    return report


def proven_status(dossier: Dossier) -> str:
    """The word for how the payment stood at the checkpoint. A clearing cycle decides its payments
    without an outcome of their own."""
    last = dossier.steps[-1].outcome
    if isinstance(dossier.together, Netted):
        decided = {together.SETTLED_CYCLE: SETTLED, together.UNWOUND: REJECTED}
        return status_word(decided.get(dossier.together.record.status, ACCEPTED), None)
    return status_word(last.status, last.reason)


def _facts(dossier: Dossier, genesis: Genesis) -> PaymentFacts:
    ordered, top = order.order_of(dossier), finality.checkpoint(dossier)
    debtor, creditor = books.account_keys(ordered, order.sender_of(dossier))
    return PaymentFacts(
        uetr=uetr_text(ordered.uetr),
        amount_minor=ordered.amount,
        amount=decimals(ordered.amount, ordered.asset, genesis),
        currency=ordered.asset,
        debtor=None if debtor is None else debtor.participant,
        creditor=None if creditor is None else creditor.participant,
        height=dossier.steps[0].outcome.height,
        decided_height=books.moved_at(dossier),
        settled_minor=books.moved_amount(dossier),
        checkpoint_height=top.height,
        checkpoint_digest=header_digest(top).hex(),
    )


def _fork(data: bytes, genesis: Genesis, pin: Pin | None) -> Report:
    return _unpinned(check_fork(data, genesis), pin)


def _equivocation(data: bytes, genesis: Genesis, pin: Pin | None) -> Report:
    return _unpinned(check_equivocation_proof(data, genesis), pin)


def _unpinned(report: Report, pin: Pin | None) -> Report:
    if pin is not None:
        text = "yours was not compared: it says nothing for or against whoever signed twice"
        report.lines.append(Line(NOTE, "checkpoint", text))
    return report


KINDS: dict[str | None, Callable[[bytes, Genesis, Pin | None], Report]] = {
    str(ForkProof.__struct_config__.tag): _fork,
    str(EquivocationProof.__struct_config__.tag): _equivocation,
    str(BalanceProof.__struct_config__.tag): check_balance_proof,
    str(AbsenceProof.__struct_config__.tag): check_absence_proof,
}
"""Kinds of files besides dossiers, by their tag. What accuses validators stands for itself: a
checkpoint says nothing for or against it."""
