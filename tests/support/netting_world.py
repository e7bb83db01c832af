"""A small net system: two operators, four member banks, one bank that is no member; EUR is cleared.

Caps, margins and contributions follow from `TERMS`; what accounts hold a test puts there itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from node.chain.genesis import dump_genesis, genesis_key, genesis_validator, load_genesis
from node.chain.genesis_file import (
    GenesisAsset,
    GenesisClose,
    GenesisDay,
    GenesisMember,
    GenesisNetting,
    GenesisParameters,
    GenesisParticipant,
)
from node.chain.instruction import CheckedInstruction
from node.chain.records import CycleKey, CycleRecord
from node.chain.types import (
    AccountKind,
    CycleAction,
    CycleClosed,
    CycleSettled,
    Event,
    Mode,
    MoveOwn,
    OrderCycle,
    Payment,
)
from node.chain.waterfall import recompute
from node.ledger.state import recount
from node.ledger.tables import CYCLES
from tests.support.ledger_world import (
    GENESIS_TIME,
    Bank,
    Chain,
    MadeBlock,
    World,
    lei,
    signer,
    uetr,
)

ROLES = {
    "CENTRALBANK": ("issuer", "operator", "validator"),
    "DEPOSITORY": ("depository",),
    "CLEARER": ("direct-participant", "operator"),
    "BANKA": ("direct-participant",),
    "BANKB": ("direct-participant",),
    "BANKC": ("direct-participant",),
    "BANKD": ("direct-participant",),
    "OUTSIDER": ("direct-participant",),
    "WATCHDOG": ("supervisor",),
}
"""By ascending LEI."""
MEMBERS = ("BANKA", "BANKB", "BANKC", "BANKD")
TERMS = dict.fromkeys(MEMBERS, (1000000, 100, 300))
"""(cap, margin, contribution), minor units."""
BOND = "DE000TEST009"
FUNDING_MS = 60_000
MARGIN, FUND, CAPITAL = AccountKind.MARGIN, AccountKind.FUND, AccountKind.CAPITAL


def netting_world(
    *,
    terms: Mapping[str, tuple[int, int, int]] | None = None,
    funding_ms: int = FUNDING_MS,
    closes: Iterable[int] = (),
    uetr_window_days: int = 35,
) -> World:
    """`closes`: scheduled closes, milliseconds after genesis, within one business day from a second
    to a day after it."""
    banks = {
        name: Bank(
            name,
            lei(number),
            f"NOS{chr(65 + number)}DE{chr(65 + number)}X",
            roles,
            [signer("netting", name)],
        )
        for number, (name, roles) in enumerate(ROLES.items())
    }
    operator = banks["CENTRALBANK"].lei
    votes = [signer("netting", "vote", each) for each in range(4)]
    nodes = [signer("netting", "node", each) for each in range(4)]
    opens = GENESIS_TIME + 1_000
    ends = GENESIS_TIME + 24 * 3_600_000
    days = [
        GenesisDay(
            20_250_616,
            (opens, ends, ends, ends, ends),
            tuple(GenesisClose(GENESIS_TIME + each, "EUR") for each in closes),
        )
    ]
    data = dump_genesis(
        network="test",
        devnet=True,
        time=GENESIS_TIME,
        assets=[
            GenesisAsset("EUR", 2, operator),
            GenesisAsset("CNY", 2, operator),
            GenesisAsset(BOND, 0, banks["DEPOSITORY"].lei),
        ],
        participants=[
            GenesisParticipant(
                bank.name,
                bank.lei,
                bank.bic,
                bank.roles,
                bank.threshold,
                tuple(genesis_key(each, "test", bank.lei) for each in bank.signers),
            )
            for bank in banks.values()
        ],
        validators=[
            genesis_validator(f"node{index}", operator, network="test", vote=vote, node=node)
            for index, (vote, node) in enumerate(zip(votes, nodes, strict=True))
        ],
        parameters=GenesisParameters(uetr_window_days, 1, 60_000),
        schedule=days if days[0].closes else (),
        netting=[GenesisNetting("EUR", funding_ms)],
        members=[
            GenesisMember(banks[name].lei, "EUR", *term)
            for name, term in (TERMS if terms is None else terms).items()
        ],
    )
    return World(0, banks, votes, nodes, data, load_genesis(data))


class Clearing(Chain):
    """The ledger of such a system, with orders by name."""

    def name(self, lei: str) -> str:
        """Of a bank, from its LEI."""
        return next(each.name for each in self.world.banks.values() if each.lei == lei)

    def net(self, debtor: str, creditor: str, amount: int, **changed: object) -> CheckedInstruction:
        """An order of one net payment."""
        return self.world.pay(debtor, self.net_payment(debtor, creditor, amount, **changed))

    def net_payment(self, debtor: str, creditor: str, amount: int, **changed: object) -> Payment:
        plain = self.world.payment(debtor, creditor, amount)
        fields = {field: getattr(plain, field) for field in plain.__struct_fields__}
        return Payment(**(fields | {"mode": Mode.NET} | changed))

    def gross(self, debtor: str, creditor: str, amount: int) -> CheckedInstruction:
        """An order of one gross payment."""
        return self.world.pay(debtor, self.world.payment(debtor, creditor, amount))

    def cycle_order(
        self,
        action: CycleAction,
        cycle: int = 1,
        *,
        asset: str = "EUR",
        until: int | None = None,
        sender: str = "CENTRALBANK",
    ) -> CheckedInstruction:
        return self.world.order(
            sender,
            OrderCycle(asset, cycle, action, until),
            valid_until=self.state.time + 3_600_000,
        )

    def close(self, cycle: int = 1) -> MadeBlock:
        """A block in which an operator closes the cycle."""
        return self.block(self.cycle_order(CycleAction.CLOSE, cycle))

    def move(
        self,
        sender: str,
        amount: int,
        source: AccountKind,
        target: AccountKind,
        *,
        asset: str = "EUR",
        number: int | None = None,
    ) -> CheckedInstruction:
        """An order to move own money. `number`: of the UETR."""
        reference = uetr(self.world.next_number() + 1_000_000 if number is None else number)
        return self.world.order(sender, MoveOwn(reference, asset, source, target, amount))

    def endow(self, name: str, *, settlement: int = 0, **accounts: int) -> None:
        """Blocks that give a bank money on its settlement, `margin`, `fund` and `capital`
        accounts."""
        total = settlement + sum(accounts.values())
        if total:
            self.fund(total, name)
        moves = [
            self.move(name, amount, AccountKind.SETTLEMENT, AccountKind[kind.upper()])
            for kind, amount in accounts.items()
            if amount
        ]
        if moves:
            outcomes = self.block(*moves).outcomes
            assert {each.status for each in outcomes} == {"ACSC"}, outcomes

    def cycle(self, number: int = 1, asset: str = "EUR") -> CycleRecord:
        record = self.state.get(CYCLES, CycleKey(asset, number))
        assert record is not None
        return record

    def on(self, name: str, kind: AccountKind = AccountKind.SETTLEMENT) -> int:
        """What an account holds."""
        return self.state.balance(self.world.lei(name), "EUR", int(kind)) or 0

    def reserved(self, name: str) -> int:
        return self.state.holding(self.world.lei(name), "EUR", 0)[0]

    def wait(self, ms: int) -> MadeBlock:
        """An empty block, so much later."""
        return self.block(time=self.state.time + ms)


def events(block: MadeBlock) -> list[Event]:
    """What a block tells besides statuses, in order."""
    return [each.event for each in block.outcomes if each.event is not None]


def named(block: MadeBlock) -> list[str]:
    """Kinds of a block's events."""
    return [type(each).__name__ for each in events(block)]


def all_events(chain: Chain) -> list[Event]:
    return [event for block in chain.blocks for event in events(block)]


def check_settled(chain: Clearing, before: Mapping[tuple[str, int], int], number: int = 1) -> None:
    """The movements that follow from the two events of a cycle are what accounts gained since
    `before`, and no money appeared."""
    told = all_events(chain)
    closed = next(e for e in told if isinstance(e, CycleClosed) and e.cycle == number)
    settled = next(e for e in told if isinstance(e, CycleSettled) and e.cycle == number)
    gained = dict(before)
    for participant, account, amount in recompute(closed, settled):
        key = participant, int(account)
        gained[key] = gained.get(key, 0) + amount
    after = balances(chain)
    assert {k: v for k, v in gained.items() if v} == {k: v for k, v in after.items() if v}
    recount(chain.state)


def balances(chain: Chain) -> dict[tuple[str, int], int]:
    """Of every EUR account, by holder and kind."""
    return {
        (each.participant, each.kind): each.balance
        for each in chain.state.accounts()
        if each.asset == "EUR"
    }
