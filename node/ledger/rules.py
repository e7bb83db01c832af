"""Which version of the rules a block is executed by, and how a new one comes into force.

Governance approves a version and a height; every node executes blocks from that height on by it,
and its headers name it. Software that does not know the version cannot execute such a block and
must not guess: it stops before the first one, with everything up to there intact.

Versions differ in one number: how many payments of each queue resolution looks at.
"""

from __future__ import annotations

from typing import Any, Protocol

from node.chain.block import RULE_VERSION, SUPPORTED_RULES
from node.chain.records import RulesKey, RulesRecord
from node.chain.types import ActivateRules, RulesActivated
from node.ledger.reasons import BAD_ACTIVATION, SETTLED
from node.ledger.tables import RULES, Table
from node.ledger.work import Work

CANDIDATES = {1: 1_000, 2: 10_000}
"""By version of the rules: entries of one queue that resolution looks at."""
MAX_AHEAD = 1_000_000
"""Blocks that an activation may lie ahead."""


class UnknownRules(Exception):
    """A block that is to be executed by rules which this software does not know."""

    def __init__(self, version: int, height: int, known: tuple[int, ...] = SUPPORTED_RULES) -> None:
        """`height`: of the block. `known`: the versions that this node executes, ascending."""
        super().__init__(
            f"block {height} is executed by version {version} of the rules, and this software "
            f"knows version {_listed(known)} only: it stops before that block. Nothing is lost: "
            f"install software that knows version {version} and start again; it goes on from here"
        )
        self.version = version
        self.height = height


class View(Protocol):
    """A `State`, or the working state within a block."""

    def get(self, table: Table[Any, Any], key: Any) -> Any:
        """The row under this key."""


def _record(view: View) -> RulesRecord:
    found: RulesRecord | None = view.get(RULES, RulesKey())
    return RulesRecord(RULE_VERSION, None) if found is None else found


def version(view: View) -> int:
    """The version in force: in a block, the one that it is executed by; of a state, the one of its
    block."""
    return _record(view).version


def pending(view: View) -> tuple[int, int] | None:
    """(version, height) of an activation that lies ahead."""
    return _record(view).pending


def candidates(view: View) -> int:
    """How many entries of each queue resolution looks at."""
    return CANDIDATES[version(view)]


def activate(work: Work) -> None:
    """At its height, before anything else in the block: the approved version is in force.

    Raises UnknownRules: whoever executes blocks, be it a node or an auditor, stops here."""
    now = work.parent.rules_version
    if now not in SUPPORTED_RULES:
        raise UnknownRules(now, work.context.height)
    if now != version(work):
        work.put(RULES, RulesKey(), RulesRecord(now, None))
        work.emit(None, SETTLED, event=RulesActivated(now))


def refusal(work: Work, change: ActivateRules) -> str | None:
    """Why this activation cannot be decided on now. Whether anybody's software knows the version is
    not the ledger's to say: nodes of different software must judge alike."""
    record, height = _record(work), work.context.height
    if change.version != record.version + 1 or record.pending is not None:
        return BAD_ACTIVATION
    return None if height < change.height <= height + MAX_AHEAD else BAD_ACTIVATION


def put(work: Work, change: ActivateRules) -> None:
    """Note the activation. The caller has seen that nothing speaks against it."""
    record = RulesRecord(version(work), (change.version, change.height))
    work.put(RULES, RulesKey(), record)


def _listed(versions: tuple[int, ...]) -> str:
    *others, last = map(str, versions)
    return f"{', '.join(others)} and {last}" if others else last
