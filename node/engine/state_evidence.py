"""Proofs of states from a node's own store: of balances, and of the absence of a UETR."""

from __future__ import annotations

from node.api.problems import Refused
from node.audit.build_chain import EvidenceTooLarge, EvidenceUnavailable
from node.audit.build_state import (
    MAX_NAMED_ONLINE,
    NotCovered,
    StateSource,
    UetrUsed,
    build_absence,
    build_balance,
)
from node.chain.types import AccountKind
from node.engine.views import holder_of
from node.engine.wording import account_of, account_word
from node.ledger.state import State


def balance_proof(
    source: StateSource, state: State, of: tuple[str, str, str], height: int | None
) -> bytes:
    """The proof of what an account held. `of`: participant (short name, LEI or BIC), asset, kind.
    Raises Refused (bad-parameter, unknown-block, pruned), UnknownParticipant."""
    participant, asset, kind = of
    account = account_of(kind)
    if account is None:
        known = ", ".join(map(account_word, AccountKind))
        raise Refused("bad-parameter", f"{kind[:40]!r} is no kind of account; there are {known}")
    lei = holder_of(state, participant).lei
    if height is not None and height > state.height:
        raise Refused(
            "unknown-block",
            f"no block {height} is final here; the last one that is has height {state.height}",
        )
    try:
        return build_balance(source, lei, asset, account, height)
    except EvidenceUnavailable as error:
        raise Refused("pruned", f"{error}. An archive node has it") from error


def absence_proof(source: StateSource, uetr: bytes, start: int | None, end: int | None) -> bytes:
    """The proof that no outcome of a period names a UETR; times in milliseconds since the Unix
    epoch. Raises Refused (uetr-used, not-covered, too-large, pruned)."""
    try:
        return build_absence(source, uetr, start, end, most=MAX_NAMED_ONLINE)
    except UetrUsed as error:
        raise Refused(
            "uetr-used",
            f"there is no absence to prove: {error}. What became of it, its dossier proves",
            "final",
        ) from error
    except NotCovered as error:
        raise Refused("not-covered", str(error)) from error
    except EvidenceTooLarge as error:
        raise Refused("too-large", str(error)) from error
    except EvidenceUnavailable as error:
        raise Refused("pruned", f"{error}. An archive node has it") from error
