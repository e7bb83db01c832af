"""Audit of a whole chain: replay it from genesis and believe nothing that is stored.

Every block is executed again by the ledger and entered in a second bookkeeping (`books`). Every
signature, root, balance and certificate is recomputed or checked, every stored outcome compared.
The first height at which something differs is named with field, expected and found; what comes
after rests on it and is not looked at.

Blocks are read one by one, in order (`replay`). What the replay keeps of its own lies on disk
(`workspace`); signatures may be verified beside it (`signatures`).
"""

from __future__ import annotations

from collections.abc import Callable

from node.audit.audit_report import AuditReport, Finding, Stop
from node.audit.replay import (
    CannotResume,
    ChainSource,
    Pace,
    Progress,
    Replay,
    Replayed,
    Watcher,
)
from node.audit.signatures import AtOnce, Checks
from node.audit.workdir import temporary_workspace
from node.audit.workspace import Workspace
from node.chain.genesis import BadGenesis, load_genesis
from node.chain.signature import UnsafeLibsodium, self_check
from node.ledger.rules import UnknownRules
from node.storage.errors import StoreUnwritable

__all__ = [
    "AuditReport",
    "CannotResume",
    "ChainSource",
    "Finding",
    "Pace",
    "Replayed",
    "audit_chain",
]


def audit_chain(
    source: ChainSource,
    genesis_file: bytes,
    progress: Progress | None = None,
    watch: Watcher | None = None,
    *,
    outcomes: bool = True,
    state: bool = True,
    work: Workspace | None = None,
    checks: Callable[[bytes], Checks] | None = None,
    pace: Pace | None = None,
) -> AuditReport:
    """Replay the chain from genesis.

    `outcomes`, `state`: whether the source holds outcomes and state records, to be compared.
    `work`: with its checkpoint the replay goes on from there; None: it keeps nothing. `checks`:
    made for the chain id; None: signatures are verified where they are met.

    Errors of the source itself (a damaged database), and those that `watch` raises, pass through.
    Raises CannotResume."""
    report = AuditReport(compared=outcomes)
    try:
        self_check()
        genesis = load_genesis(genesis_file)
    except (UnsafeLibsodium, BadGenesis) as error:
        report.undecided = f"nothing can be checked: {error}"
        return report
    tip = source.height()
    if tip is None:
        report.undecided = "the store holds no chain"
        return report
    own = temporary_workspace() if work is None else work
    verifying = AtOnce() if checks is None else checks(genesis.chain_id)
    replay = Replay(
        source,
        genesis,
        work=own,
        checks=verifying,
        pace=pace or Pace(),
        compares=(outcomes, state),
    )
    try:
        _run(replay, tip, progress, watch, keep=work is not None)
    finally:
        verifying.close()
        if work is None:
            own.close()
    return replay.report


def _run(
    replay: Replay, tip: int, progress: Progress | None, watch: Watcher | None, *, keep: bool
) -> None:
    try:
        try:
            replay.begin(resume=keep)
            replay.run(tip, progress, watch)
            if keep:
                replay.save()
        except (Stop, UnknownRules):
            # A signature handed over before comes first.
            replay.settle()
            raise
    except Stop as stop:
        replay.report.finding = stop.finding
    except UnknownRules as error:
        replay.report.undecided = str(error)
    except StoreUnwritable as error:
        replay.report.undecided = f"the audit cannot keep what it needs: {error}"
