"""A second bookkeeping, apart from the ledger: balances from nothing but orders and outcomes.

The ledger's own code cannot vouch for itself. This keeps the accounts once more in the simplest
way there is; every balance that an outcome or the committed state tells is held against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from node.chain.encoding import Malformed, decode
from node.chain.instruction import ParsedInstruction
from node.chain.types import AccountKind, InstructionBody, Issue, Outcome, Pay, Payment, Redeem
from node.ledger.state import State

SETTLED = "ACSC"
AccountId = tuple[str, str, int]
"""(participant, asset, kind)."""
Order = Payment | InstructionBody


class BooksDisagree(Exception):
    """What a block tells does not follow from its orders: where, expected and found."""

    def __init__(self, where: str, expected: object, found: object) -> None:
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.where = where
        self.expected = expected
        self.found = found


class Books:
    """Every account's balance, and the sum of all balances of each asset, in minor units."""

    def __init__(self) -> None:
        self.balances: dict[AccountId, int] = {}
        self.totals: dict[str, int] = {}

    def post(
        self, instructions: Iterable[ParsedInstruction], outcomes: Iterable[bytes], state: State
    ) -> None:
        """Enter a block: its orders, what it says became of them, and the state after it.

        Raises BooksDisagree where an outcome or a balance in the state is another, or an asset's
        issued − redeemed is not the sum of its balances.
        """
        touched: set[AccountId] = set()
        told = enumerate(outcomes)
        for index, number, sender, order in _orders(instructions):
            at, raw = next(told, (-1, b""))
            if at < 0:
                raise BooksDisagree(f"outcome of [{index}, {number}]", "an outcome", "none")
            where = f"outcome {at}"
            outcome = _decoded(where, raw)
            if (outcome.instruction, outcome.payment) != (index, number):
                found = f"that of [{outcome.instruction}, {outcome.payment}]"
                raise BooksDisagree(where, f"that of [{index}, {number}]", found)
            uetr = getattr(order, "uetr", None)
            if outcome.uetr != uetr:
                raise BooksDisagree(f"{where}.uetr", _hex(uetr), _hex(outcome.uetr))
            # A rejection moves nothing; for a retry the money moved with the first outcome.
            if outcome.status == SETTLED and outcome.original is None:
                touched.update(self._move(where, order, sender, outcome))
        surplus = next(told, None)
        if surplus is not None:
            raise BooksDisagree(f"outcome {surplus[0]}", "no further outcome", "one without order")
        self._compare(touched, state)

    def _move(self, where: str, order: Order, sender: str, outcome: Outcome) -> Iterator[AccountId]:
        kind = int(AccountKind.SETTLEMENT)
        debtor: AccountId | None = None
        creditor: AccountId | None = None
        match order:
            case Payment():
                debtor = (order.debtor, order.asset, int(order.debtor_account))
                creditor = (order.creditor, order.asset, int(order.creditor_account))
            case Issue():
                creditor = (order.creditor, order.asset, kind)
            case Redeem():
                debtor = (sender, order.asset, kind)
            case _:
                return  # a key was registered or revoked
        for side, account, amount, said in (
            ("debtor_balance", debtor, -order.amount, outcome.debtor_balance),
            ("creditor_balance", creditor, order.amount, outcome.creditor_balance),
        ):
            balance = None if account is None else self._add(account, amount)
            if balance != said:
                raise BooksDisagree(f"{where}.{side}", balance, said)
            if account is not None:
                yield account

    def _add(self, account: AccountId, amount: int) -> int:
        balance = self.balances[account] = self.balances.get(account, 0) + amount
        self.totals[account[1]] = self.totals.get(account[1], 0) + amount
        return balance

    def _compare(self, accounts: Iterable[AccountId], state: State) -> None:
        """That the state has these balances, and that no money appeared or vanished."""
        for account in accounts:
            found = state.balance(*account)
            if found != self.balances[account]:
                raise BooksDisagree(f"balance of {account}", self.balances[account], found)
        for asset in state.assets():
            total = self.totals.get(asset.code, 0)
            if asset.issued - asset.redeemed != total:
                raise BooksDisagree(
                    f"issued − redeemed of {asset.code}", total, asset.issued - asset.redeemed
                )

    def compare_all(self, state: State) -> None:
        """That the state has exactly these accounts and balances. Raises BooksDisagree."""
        held = {(a.participant, a.asset, a.kind): a.balance for a in state.accounts()}
        for account in sorted({*held, *self.balances}):
            mine, found = self.balances.get(account), held.get(account)
            if mine != found:
                raise BooksDisagree(f"balance of {account}", mine, found)
        self._compare((), state)


def _orders(
    instructions: Iterable[ParsedInstruction],
) -> Iterator[tuple[int, int, str, Order]]:
    """(instruction, payment, sender, order) of everything that must have an outcome."""
    for index, parsed in enumerate(instructions):
        envelope = parsed.instruction.envelope
        if isinstance(envelope.body, Pay):
            for number, payment in enumerate(parsed.instruction.payments):
                yield index, number, envelope.sender, payment
        else:
            yield index, 0, envelope.sender, envelope.body


def _decoded(where: str, raw: bytes) -> Outcome:
    try:
        return decode(raw, Outcome)
    except Malformed as error:
        raise BooksDisagree(where, "an outcome", error) from error


def _hex(value: bytes | None) -> str:
    return "none" if value is None else value.hex()
