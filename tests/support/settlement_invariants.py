"""What must hold after every block whatever the model says, from the ledger's records and outcomes
alone."""

from __future__ import annotations

from typing import Any

from node.chain import records as r
from node.chain.encoding import decode
from node.chain.types import AccountKind, Outcome, Payment
from node.chain.types import OutcomePlace as Place
from node.chain.uetr_tree import uetr_root
from tests.support.ledger_world import Chain

MOVED = ("ACSC", "ACCC")
Rows = dict[Any, Any]
"""Key → record of one kind."""


class Invariants:
    """Remembers what it saw, to compare the next block with."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._accounts: Rows = {}
        self._settled: set[tuple[bytes, Place]] = set()
        """(UETR, place of the first outcome) of payments whose money moved."""
        self._last: dict[bytes, tuple[str, str | None]] = {}
        """(status, reason) of each payment's last outcome."""
        self._named: dict[int, list[bytes]] = {}
        """By height: the UETRs that outcomes name, each as often as one does."""
        self._checked = 0
        """Trees of used UETRs."""

    def check(self, outcomes: list[Outcome]) -> None:
        """After a committed block. Raises AssertionError."""
        rows = self._rows()
        self._conserved(rows)
        self._floors(rows)
        self._queues(rows)
        self._settled_once(outcomes)
        self._trees(rows, outcomes)
        self._accounts = rows[r.AccountKey]

    def _rows(self) -> dict[type, Rows]:
        found: dict[type, Rows] = {kind: {} for kind in KINDS}
        for key, record in self._chain.records.items():
            tag = key[2 : 2 + (key[1] & 0x1F)]
            kind = TAGS.get(tag)
            if kind is not None:
                found[kind][decode(key, kind)] = decode(record, KINDS[kind])
        return found

    @staticmethod
    def _conserved(rows: dict[type, Rows]) -> None:
        """Of every asset there is what was issued and not redeemed."""
        held = dict.fromkeys((key.code for key in rows[r.AssetKey]), 0)
        for key, account in rows[r.AccountKey].items():
            held[key.asset] += account.balance
        for key, asset in rows[r.AssetKey].items():
            assert held[key.code] == asset.issued - asset.redeemed, key.code

    def _floors(self, rows: dict[type, Rows]) -> None:
        """Nobody's money goes below its floor, unless its line was lowered under it: then nothing
        more leaves it."""
        for key, account in rows[r.AccountKey].items():
            free = account.balance - account.reserved
            if free + account.line >= 0:
                continue
            before = self._accounts[key]
            lowered = account.line < before.line
            assert lowered or free >= before.balance - before.reserved, key
            assert key.kind == AccountKind.SETTLEMENT, key

    def _queues(self, rows: dict[type, Rows]) -> None:
        """The queues that the ledger works with are those of its records, and so is what its
        accounts hold back."""
        recorded: dict[tuple[str, str, int], set[bytes]] = {}
        aside: dict[tuple[str, str, int], int] = {}
        for record in rows[r.PaymentKey].values():
            live = record.live
            if isinstance(live, r.Queued):
                recorded.setdefault(_account(live.payments[0]), set()).add(record.uetr)
            elif isinstance(live, r.Reserved):
                account = _account(live.payment)
                aside[account] = aside.get(account, 0) + live.payment.amount
        for key, cycle in rows[r.CycleKey].items():
            for lei, amount in cycle.reserved:
                account = lei, key.asset, int(AccountKind.SETTLEMENT)
                aside[account] = aside.get(account, 0) + amount
        state = self._chain.state
        working = {account: state.queue(account) for account in state.queued_accounts()}
        assert recorded == {
            account: set(queue.entries) for account, queue in working.items() if queue is not None
        }
        assert aside == {
            (key.participant, key.asset, int(key.kind)): account.reserved
            for key, account in rows[r.AccountKey].items()
            if account.reserved
        }

    def _settled_once(self, outcomes: list[Outcome]) -> None:
        """No payment's money moves twice, and a retry is told what became of the first."""
        for outcome in outcomes:
            if outcome.uetr is None:
                continue
            if outcome.original is not None and outcome.content is None:
                assert (outcome.debtor_balance, outcome.creditor_balance) == (None, None)
                status, reason = self._last[outcome.uetr]
                decided_by_cycle = status == "ACSP" and outcome.status in ("ACSC", "RJCT")
                assert (outcome.status, outcome.reason) == (status, reason) or decided_by_cycle
                continue
            if outcome.status in MOVED:
                named = outcome.uetr, _place(outcome)
                assert named not in self._settled, outcome.uetr.hex()
                self._settled.add(named)
            if outcome.reason not in ("AM05", "DS0H", "DS0G", "AG08"):
                self._last[outcome.uetr] = outcome.status, outcome.reason

    def _trees(self, rows: dict[type, Rows], outcomes: list[Outcome]) -> None:
        """Every tree has what the outcomes of its blocks name; the trees and what is counted for
        the next one follow on each other without a gap, from the first day on."""
        height = self._chain.state.height
        self._named[height] = [each.uetr for each in outcomes if each.uetr is not None]
        record, made = rows[r.UetrsKey].get(r.UetrsKey()), rows[r.UetrTreeKey]
        assert (record is None) == (not rows[r.DayKey])
        if record is None:
            return
        assert set(made) == {r.UetrTreeKey(number) for number in range(record.next_tree)}
        for number in range(self._checked, record.next_tree):
            tree = made[r.UetrTreeKey(number)]
            named = self._between(tree.after, tree.through)
            assert (tree.count, tree.root) == (len(set(named)), uetr_root(sorted(set(named))))
            if number:
                before = made[r.UetrTreeKey(number - 1)]
                assert (tree.after, tree.after_time) == (before.through, before.through_time)
        if record.next_tree:
            last = made[r.UetrTreeKey(record.next_tree - 1)]
            assert (record.after, record.time) == (last.through, last.through_time)
        self._checked = record.next_tree
        pending = self._between(record.after, height)
        assert record.named == len(pending)
        assert sorted(self._chain.state.untreed()) == sorted(pending)

    def _between(self, after: int, through: int) -> list[bytes]:
        heights = range(after + 1, through + 1)
        return [uetr for height in heights for uetr in self._named[height]]


def _place(outcome: Outcome) -> Place:
    """Where the payment's first outcome stands."""
    if outcome.original is not None:
        return outcome.original
    assert outcome.instruction is not None
    return Place(outcome.height, outcome.instruction, outcome.payment)


def _account(payment: Payment) -> tuple[str, str, int]:
    return payment.debtor, payment.asset, int(payment.debtor_account)


KINDS: dict[type, type] = {
    r.AccountKey: r.AccountRecord,
    r.AssetKey: r.AssetRecord,
    r.PaymentKey: r.PaymentRecord,
    r.CycleKey: r.CycleRecord,
    r.DayKey: r.DayRecord,
    r.UetrsKey: r.UetrsRecord,
    r.UetrTreeKey: r.UetrTreeRecord,
}
TAGS: dict[bytes, type] = {
    b"account": r.AccountKey,
    b"asset": r.AssetKey,
    b"payment": r.PaymentKey,
    b"cycle": r.CycleKey,
    b"day": r.DayKey,
    b"uetrs": r.UetrsKey,
    b"uetr-tree": r.UetrTreeKey,
}
"""By the tag that a key's bytes begin with."""
