"""The model's tables, and what is computed from them every time it is asked for."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

from node.chain.types import (
    BusinessDay,
    Event,
    Outcome,
    PaymentClass,
    Phase,
    Statement,
    Sweep,
)

from .rows import (
    SETTLEMENT,
    AccountId,
    Asset,
    Bounds,
    Cycle,
    Day,
    Dispute,
    Flow,
    Limit,
    Loan,
    Membership,
    Netting,
    Open,
    OpenLink,
    Parameters,
    Party,
    Price,
    Refused,
    SetAside,
    Since,
    Tracked,
    UsedTree,
    Waiting,
    debit_account,
)


@dataclass
class Book:
    """Everything there is."""

    chain_id: bytes
    parameters: Parameters
    parties: dict[str, Party]
    assets: dict[str, Asset]
    other_keys: frozenset[bytes]
    """Keys of validators: nobody may register them."""
    validators: frozenset[str]
    """Who operates one."""
    bounds: Bounds = field(default_factory=Bounds)
    height: int = 0
    time: int = 0
    before: int = 0
    """Time of the block before."""
    balances: dict[AccountId, int] = field(default_factory=dict)
    payments: dict[bytes, Tracked] = field(default_factory=dict)
    kept: set[bytes] = field(default_factory=set)
    """UETRs with a record of their own: undecided, changed after their block, or referred to."""
    past: dict[bytes, Tracked] = field(default_factory=dict)
    """Records of payments whose UETR was forgotten and then used for another one."""
    policies: dict[str, tuple[bool, tuple[Sweep, ...]]] = field(default_factory=dict)
    """FIFO bypass and sweeps by party, as at the beginning of this block."""
    lined: set[AccountId] = field(default_factory=set)
    """Accounts that ever had a line."""
    ids: dict[tuple[str, str], int] = field(default_factory=dict)
    """Executed (sender, id) → valid until."""
    flows: list[Flow] = field(default_factory=list)
    limits: dict[tuple[AccountId, str | None], Limit] = field(default_factory=dict)
    """By account and counterparty; None: all without one of their own."""
    next_parameters: Parameters | None = None
    """From the next height on."""
    prices: dict[tuple[str, str], Price] = field(default_factory=dict)
    """By (security, currency)."""
    pledges: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """By (participant, currency, security)."""
    loans: dict[tuple[str, str, int], Loan] = field(default_factory=dict)
    statements: dict[AccountId, Statement] = field(default_factory=dict)
    netting: dict[str, Netting] = field(default_factory=dict)
    members: dict[tuple[str, str], Membership] = field(default_factory=dict)
    """By (participant, asset)."""
    cycles: dict[tuple[str, int], Cycle] = field(default_factory=dict)
    links: dict[bytes, OpenLink] = field(default_factory=dict)
    next_complete: int = 0
    disputes: dict[bytes, Dispute] = field(default_factory=dict)
    acknowledgements: dict[tuple[bytes, bytes], tuple[str, bytes, int]] = field(
        default_factory=dict
    )
    """By (UETR, outcome): (by, block, height)."""
    consents: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    """By payment's leaf hash: (by, expires)."""
    proposals: dict[bytes, Open] = field(default_factory=dict)
    day: Day | None = None
    ended: int | None = None
    """Date of the last day that this block closed."""
    since: Since | None = None
    trees: dict[int, UsedTree] = field(default_factory=dict)
    days: dict[int, BusinessDay] = field(default_factory=dict)
    version: int = 1
    pending_rules: tuple[int, int] | None = None
    next_order: int = 0
    again: set[str] = field(default_factory=set)
    """Assets in which this block may have enabled more than it settled."""
    stirred: tuple[str, ...] = ()
    """The same when the block has ended."""
    outcomes: list[Outcome] = field(default_factory=list)
    """Of this block."""

    def copy(self) -> Book:
        """An independent book: rows are never changed, so the tables alone are copied."""
        other = copy.copy(self)
        for name, table in vars(self).items():
            if isinstance(table, dict | list | set):
                setattr(other, name, table.copy())
        return other

    def restore(self, before: Book) -> None:
        """Be what the copy is."""
        vars(self).update(vars(before.copy()))

    # --- parties --------------------------------------------------------------------------------

    def party(self, lei: str) -> Party:
        """Refused if there is none."""
        if lei not in self.parties:
            raise Refused("BE06")
        return self.parties[lei]

    def change(self, lei: str, **fields: object) -> None:
        self.parties[lei] = replace(self.parties[lei], **fields)  # type: ignore[arg-type]

    def operator(self, lei: str) -> bool:
        return "operator" in self.parties[lei].roles

    def supervisor(self, lei: str) -> bool:
        return "supervisor" in self.parties[lei].roles

    # --- accounts -------------------------------------------------------------------------------

    def accounts(self) -> list[AccountId]:
        """All that ever held money or had a line."""
        return sorted({*self.balances, *self.lined})

    def balance(self, account: AccountId) -> int:
        return self.balances.get(account, 0)

    def reserved(self, account: AccountId) -> int:
        """For reservations, and by a closed cycle that is not decided."""
        aside = sum(
            each.place.payment.amount
            for each in self.payments.values()
            if isinstance(each.place, SetAside) and debit_account(each.place.payment) == account
        )
        cycles = sum(
            amount
            for (asset, _), cycle in self.cycles.items()
            if asset == account.asset and account.kind == SETTLEMENT
            for lei, amount in cycle.reserved
            if lei == account.party
        )
        return aside + cycles

    def line(self, account: AccountId) -> int:
        """What the holder's pledges are worth as credit."""
        if account.kind != SETTLEMENT:
            return 0
        total = 0
        for (lei, currency, security), quantity in self.pledges.items():
            if lei == account.party and currency == account.asset:
                price = self.prices[security, currency]
                value = quantity * price.price * (10_000 - price.haircut)
                total += value // (price.lot * 10_000)
        return total

    def available(self, account: AccountId) -> int:
        return self.balance(account) - self.reserved(account) + self.line(account)

    def move(self, debit: AccountId | None, credit: AccountId | None, amount: int) -> None:
        """Money from one account to another; from or to nowhere where the issuer acts."""
        if debit is not None:
            self.balances[debit] = self.balance(debit) - amount
        if credit is not None:
            self.balances[credit] = self.balance(credit) + amount

    # --- limits ---------------------------------------------------------------------------------

    def count(self, account: AccountId, counterparty: str, amount: int) -> None:
        """Let limits of a settlement account count money out (positive) or in (negative)."""
        if account.kind == SETTLEMENT:
            own = (account, counterparty) in self.limits
            self.flows.append(Flow(account, counterparty, amount, own))

    def used(self, account: AccountId, counterparty: str | None) -> int:
        """Out − in since the limit began to count."""
        limit = self.limits[account, counterparty]
        return sum(
            flow.amount
            for flow in self.flows[limit.since :]
            if flow.account == account
            and (
                flow.counterparty == counterparty
                if counterparty is not None
                else not flow.bilateral
            )
        )

    def limits_allow(self, account: AccountId, extra: dict[str, int]) -> bool:
        """Whether all limits of an account hold with so much more net out to each party."""
        own = [party for holder, party in self.limits if holder == account]
        for party in own:
            if party is not None:
                more = extra.get(party, 0)
            else:
                more = sum(n for each, n in extra.items() if each not in own)
            if self.used(account, party) + more > self.limits[account, party].amount:
                return False
        return True

    # --- the day --------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """Without a schedule it is always open."""
        return Phase.OPEN if self.day is None else self.day.phase

    def class_settles(self, payment_class: PaymentClass) -> bool:
        """Whether the phase lets payments of this class settle."""
        if self.phase == Phase.CLOSED:
            return False
        return self.phase != Phase.INTERBANK or payment_class == PaymentClass.INTERBANK

    # --- links ----------------------------------------------------------------------------------

    def link_waits(self, asset: str) -> bool:
        """Whether a complete link in this asset waits."""
        return any(
            leg.asset == asset
            for each in self.links.values()
            if each.complete is not None
            for leg in each.link.legs
        )

    # --- queues ---------------------------------------------------------------------------------

    def entries(self) -> list[tuple[bytes, Waiting]]:
        """All queue entries by leader, in order of account and place in its queue."""
        found = [
            (uetr, each.place)
            for uetr, each in self.payments.items()
            if isinstance(each.place, Waiting)
        ]
        return sorted(found, key=lambda pair: _queue_place(pair[1]))

    def waiting(self, entry: Waiting) -> bool:
        """Whether it would settle if only there were money and limits."""
        return not (entry.held or entry.restricted or entry.early) and self.class_settles(
            entry.payments[0].payment_class
        )

    def take_order(self) -> int:
        self.next_order += 1
        return self.next_order - 1

    # --- outcomes -------------------------------------------------------------------------------

    def say(
        self,
        instruction: int | None,
        status: str,
        reason: str | None = None,
        *,
        debtor: int | None = None,
        creditor: int | None = None,
        event: Event | None = None,
    ) -> None:
        """An outcome that is no payment's."""
        self.outcomes.append(
            Outcome(
                self.height,
                self.time,
                instruction,
                0,
                None,
                status,
                reason,
                debtor,
                creditor,
                None,
                None,
                event,
            )
        )


def _queue_place(entry: Waiting) -> tuple[str, str, int, int, int]:
    payment = entry.payments[0]
    return (
        payment.asset,
        payment.debtor,
        int(payment.debtor_account),
        int(entry.priority),
        entry.order,
    )
