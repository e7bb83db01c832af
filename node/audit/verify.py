"""Offline verification of evidence: what it proves, to whom, and what it does not.

Trusted: the genesis file that the reader was handed (its digest is the chain id, it names the
first validators) and SHA-256 and Ed25519. Nothing else: no node, no network, no account. What
runs is this file and its rooms (`verify_finality` and `verify_order` for dossiers, `epochs` for
who the validators were, `verify_accountability` and `accountability` for what accuses them), the
shapes they read (`dossier`, `proofs`), the certificate check of `consensus` and `node/chain`.

Each check stands alone and says in one line what it found. Any that fails makes the dossier
INVALID; where a mandatory part is missing and nothing failed, the verdict is UNDECIDED. A claim
that a signing key was stolen is a dispute, and makes nothing invalid here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from node.audit import verify_finality as finality
from node.audit import verify_order as order
from node.audit.dossier import BadDossier, Dossier, decode_dossier
from node.audit.proofs import EquivocationProof, ForkProof, tag_of
from node.audit.report import FAIL, NOTE, VALID, Line, Report
from node.audit.verify_accountability import check_equivocation_proof, check_fork
from node.chain.genesis import BadGenesis, Genesis, load_genesis
from node.chain.signature import UnsafeLibsodium, self_check
from node.chain.statuses import status_word

CHECKS: tuple[tuple[str, Callable[[Dossier, Genesis], str]], ...] = (
    ("chain", finality.check_chain),
    ("validators", finality.check_validators),
    ("seals", finality.check_seals),
    ("finality", finality.check_finality),
    ("ancestry", finality.check_ancestry),
    ("signatures", order.check_signatures),
    ("authority", order.check_authority),
    ("payment", order.check_payment),
    ("instruction", order.check_instruction),
    ("outcome", order.check_outcome),
    ("link", order.check_link),
    ("receipt", order.check_receipt),
)


def verify_file(data: bytes, genesis_file: bytes) -> Report:
    """Check any file of evidence against a genesis file. Raises nothing."""
    try:
        self_check()
        genesis = load_genesis(genesis_file)
    except (UnsafeLibsodium, BadGenesis) as error:
        line = Line(NOTE, "genesis", f"nothing can be checked: {error}")
        return Report([line], undecided=True)
    return KINDS.get(tag_of(data), check_dossier)(data, genesis)


def check_dossier(data: bytes, genesis: Genesis) -> Report:
    """What a dossier proves, with a genesis file already read and a library already checked."""
    report = Report()
    try:
        dossier = decode_dossier(data)
    except BadDossier as error:
        report.lines.append(Line(FAIL, "file", f"this is not a dossier: {error}"))
        return report
    report.kind, report.dossier = "dossier", dossier
    for name, check in CHECKS:
        report.run(name, partial(check, dossier, genesis))
    report.lines += [Line(NOTE, name, text) for name, text in order.notes(dossier, genesis)]
    if report.verdict == VALID:
        report.status = status_word(dossier.outcome.status, dossier.outcome.reason)
    return report


KINDS: dict[str | None, Callable[[bytes, Genesis], Report]] = {
    str(ForkProof.__struct_config__.tag): check_fork,
    str(EquivocationProof.__struct_config__.tag): check_equivocation_proof,
}
"""Kinds of files besides dossiers, by their tag."""
