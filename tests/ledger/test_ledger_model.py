"""The ledger and the slow, obvious model agree on every outcome, balance and key, block by block.

Hypothesis mixes payments alone and in batches, issues, redemptions, duplicates, key changes,
jumps of time and forks; on a difference it prints the shortest script that shows it.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node.chain.instruction import CheckedInstruction
from node.chain.signature import Ed25519Signer
from node.chain.types import AccountKind, Outcome, Payment
from node.engine.window import WindowBlock, rebuild
from node.ledger.state import recount
from tests.support.ledger_model import Key, Model
from tests.support.ledger_world import DAY_MS, HOUR_MS, Chain, MadeBlock, World, signer, uetr

NAMES = ("CENTRALBANK", "BANKA", "BANKB", "BANKC", "WATCHDOG")
UNKNOWN = "00000000000000000098"
"""A LEI of nobody."""
WINDOW_DAYS = 1

senders = st.sampled_from(("BANKA", "BANKB", "BANKC", "CENTRALBANK", "WATCHDOG"))
payers = st.sampled_from(("BANKA", "BANKA", "BANKB", "BANKC", "CENTRALBANK", "WATCHDOG"))
parties = st.sampled_from((*NAMES, "BANKA", "BANKB", UNKNOWN))
assets = st.sampled_from(("EUR", "EUR", "EUR", "CNY", "XXX"))
amounts = st.one_of(
    st.integers(1, 500), st.sampled_from((0, 1, 100, 1_000_000, 2**63 - 1, 2**63, 2**64 - 1))
)
uetrs = st.integers(10_000, 10_025).map(uetr)
"""Few, so that they are used again and again."""
lives = st.sampled_from((HOUR_MS, DAY_MS, 7 * DAY_MS, -1, 7 * DAY_MS + 1))
"""How long after the committed block an instruction is valid; the last two may not stand."""
latest = st.sampled_from((None, None, None, -1, 0, HOUR_MS))


@st.composite
def sketches(draw: st.DrawFn) -> tuple[str | None, str, int, str, bytes, int | None]:
    """(another debtor than the sender, creditor, amount, asset, UETR, latest)."""
    debtor = draw(st.one_of(st.none(), st.none(), st.none(), parties))
    return (
        debtor, draw(parties), draw(amounts), draw(assets), draw(uetrs), draw(latest)
    )  # fmt: skip


class LedgerAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World.make(keys={"BANKB": (3, 2)}, uetr_window_days=WINDOW_DAYS)
        self.chain = Chain(self.world)
        self.pending: list[CheckedInstruction] = []
        self.expected: list[Outcome] = []
        self.sent: list[tuple[str, tuple[Payment, ...]]] = []
        self.last: list[CheckedInstruction] = []
        self.spare = {name: [signer(name, "spare", n) for n in range(3)] for name in NAMES}
        self.held = {
            name: [*bank.signers, *self.spare[name]] for name, bank in self.world.banks.items()
        }
        genesis = self.world.genesis
        self.model = Model(
            roles={p.lei: p.roles for p in genesis.participants},
            threshold={p.lei: p.threshold for p in genesis.participants},
            issuer={a.code: a.issuer for a in genesis.assets},
            keys=[
                Key(p.lei, bytes.fromhex(k.public_key), 0)
                for p in genesis.participants
                for k in p.keys
            ],
            window=WINDOW_DAYS * DAY_MS,
            proven={
                (self.world.lei(name), key.public_key)
                for name, keys in self.spare.items()
                for key in keys
            },
        )

    @initialize()
    def fund(self) -> None:
        for name in ("BANKA", "BANKB", "BANKC"):
            self.pending.append(self.world.issue("CENTRALBANK", name, 1_000, valid_until=self.by()))
        self.commit(0)

    def by(self, life: int = DAY_MS) -> int:
        return self.chain.state.time + life

    def able(self, sender: str) -> list[Ed25519Signer]:
        """As many keys as the sender needs that are valid at the next height."""
        lei, height = self.world.lei(sender), self.chain.state.height + 1
        valid = {
            key.public_key
            for key in self.model.keys
            if key.holder == lei
            and key.valid_from <= height
            and (key.revoked_from is None or height < key.revoked_from)
        }
        usable = [each for each in self.held[sender] if each.public_key in valid]
        return usable[: self.model.threshold[lei]]

    # --- what participants send -----------------------------------------------------------------

    @rule(
        sender=payers,
        drawn=st.lists(sketches(), min_size=1, max_size=6, unique_by=lambda sketch: sketch[4]),
        all_or_none=st.booleans(),
        life=st.one_of(st.just(DAY_MS), lives),
        keys=st.one_of(st.none(), st.none(), st.none(), st.sets(st.integers(0, 5), min_size=1)),
    )
    def pay(
        self,
        sender: str,
        drawn: list[tuple[str | None, str, int, str, bytes, int | None]],
        all_or_none: bool,
        life: int,
        keys: set[int] | None,
    ) -> None:
        payments = tuple(
            self.world.payment(
                debtor or sender,
                creditor,
                amount,
                asset,
                uetr=used,
                latest=None if ends is None else self.by(ends),
            )
            for debtor, creditor, amount, asset, used, ends in drawn
        )
        held = self.held[sender]
        signers = [held[k] for k in sorted(keys) if k < len(held)] if keys else []
        self.pending.append(
            self.world.pay(
                sender,
                *payments,
                all_or_none=all_or_none,
                valid_until=self.by(life),
                signers=signers or self.able(sender),
            )
        )
        self.sent.append((sender, payments))

    @rule(
        sender=st.sampled_from(("BANKA", "BANKB", "BANKC")),
        drawn=st.lists(
            st.tuples(st.sampled_from(("BANKA", "BANKB", "BANKC")), st.integers(1, 300)),
            min_size=1,
            max_size=5,
        ),
        all_or_none=st.booleans(),
    )
    def pay_others_what_one_may_have(
        self, sender: str, drawn: list[tuple[str, int]], all_or_none: bool
    ) -> None:
        payments = tuple(
            self.world.payment(sender, creditor, amount)
            for creditor, amount in drawn
            if creditor != sender
        )
        if payments:
            self.pending.append(
                self.world.pay(
                    sender,
                    *payments,
                    all_or_none=all_or_none,
                    valid_until=self.by(),
                    signers=self.able(sender),
                )
            )
            self.sent.append((sender, payments))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), all_or_none=st.booleans(), other_sender=st.booleans())
    def retry_payments_under_a_new_id(
        self, data: st.DataObject, all_or_none: bool, other_sender: bool
    ) -> None:
        sender, payments = data.draw(st.sampled_from(self.sent[-6:]))
        if other_sender:
            sender = data.draw(senders)
        self.pending.append(
            self.world.pay(
                sender,
                *payments,
                all_or_none=all_or_none,
                valid_until=self.by(),
                signers=self.able(sender),
            )
        )

    @precondition(lambda self: self.last)
    @rule(data=st.data())
    def send_an_instruction_again(self, data: st.DataObject) -> None:
        self.pending.append(data.draw(st.sampled_from(self.last)))

    @rule(
        sender=st.sampled_from(("CENTRALBANK", "CENTRALBANK", "BANKA", "WATCHDOG")),
        creditor=parties,
        amount=amounts,
        asset=assets,
        used=uetrs,
    )
    def issue(self, sender: str, creditor: str, amount: int, asset: str, used: bytes) -> None:
        self.pending.append(
            self.world.issue(sender, creditor, amount, asset, uetr=used, valid_until=self.by())
        )

    @rule(
        sender=st.sampled_from(("CENTRALBANK", "CENTRALBANK", "BANKA")),
        amount=amounts,
        asset=assets,
        used=uetrs,
    )
    def redeem(self, sender: str, amount: int, asset: str, used: bytes) -> None:
        self.pending.append(
            self.world.redeem(sender, amount, asset, uetr=used, valid_until=self.by())
        )

    @rule(sender=senders, holder=senders, number=st.integers(0, 2))
    def register_key(self, sender: str, holder: str, number: int) -> None:
        key = self.spare[holder][number]
        self.pending.append(
            self.world.register_key(
                sender,
                key,
                possession=None if sender == holder else bytes(64),
                signers=self.able(sender),
                valid_until=self.by(),
            )
        )

    @rule(sender=senders, holder=senders, number=st.integers(0, 5))
    def revoke_key(self, sender: str, holder: str, number: int) -> None:
        held = self.held[holder]
        key = held[number % len(held)]
        self.pending.append(
            self.world.revoke_key(
                sender, key.public_key, signers=self.able(sender), valid_until=self.by()
            )
        )

    # --- blocks ---------------------------------------------------------------------------------

    def choose(self, model: Model, time: int) -> list[CheckedInstruction]:
        """The pending instructions that may stand, by the model; they are played on it."""
        height = self.chain.state.height + 1
        chosen: list[CheckedInstruction] = []
        self.expected = []
        for checked in self.pending:
            if model.may_stand(checked.instruction, height, time):
                self.expected += model.execute(checked.instruction, len(chosen), height, time)
                chosen.append(checked)
        return chosen

    def make(self, model: Model, time: int) -> MadeBlock:
        chosen = self.choose(model, time)
        parent = self.chain.state
        context = (parent.height + 1, time)
        block = self.chain.make(*chosen, time=time)
        assert block.outcomes == self.expected
        # A node that starts from a snapshot must remember what one that executed all remembers.
        rebuilt = rebuild(WindowBlock(block.raw, tuple(block.applied.outcomes)))
        assert (rebuilt.ids, rebuilt.uetrs) == (block.applied.ids, block.applied.uetrs)
        proposal = self.chain.ledger.propose(
            parent, block.applied.context, self.pending, 1_000_000, 10_000
        )
        assert [each.digest for each in proposal.chosen] == [each.digest for each in chosen]
        assert len(proposal.dropped) == len(self.pending) - len(chosen)
        assert proposal.applied.state_root == block.applied.state_root
        assert proposal.applied.outcomes == block.applied.outcomes
        assert context == (block.header.height, block.header.timestamp)
        return block

    @rule(step=st.sampled_from((1, 1, 1_000, HOUR_MS, DAY_MS, DAY_MS + 1, 8 * DAY_MS)))
    def commit(self, step: int) -> None:
        time = self.chain.state.time + max(1, step)
        self.chain.commit(self.make(self.model, time))
        self.last = self.pending[-8:] or self.last
        self.pending = []

    @rule(steps=st.tuples(st.integers(1, HOUR_MS), st.integers(1, 2 * DAY_MS)))
    def fork_and_commit_the_second(self, steps: tuple[int, int]) -> None:
        self.make(self.model.fork(), self.chain.state.time + steps[0])
        self.commit(steps[1])

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def balances_and_supply_agree(self) -> None:
        state = self.chain.state
        listed = {(a.participant, a.asset): a.balance for a in state.accounts()}
        assert listed == self.model.balances
        kind = AccountKind.SETTLEMENT.value
        assert all(
            state.balance(lei, asset, kind) == balance
            for (lei, asset), balance in self.model.balances.items()
        )
        totals = recount(state)
        assert {code: n for code, n in totals.items() if n} == {
            code: n for code, n in self.model.supply.items() if n
        }

    @invariant()
    def keys_agree(self) -> None:
        listed = [
            (each.record.lei, key.public_key, key.valid_from, key.revoked_from)
            for each in self.chain.state.participants()
            for key in each.record.keys
        ]
        assert sorted(listed) == sorted(
            (key.holder, key.public_key, key.valid_from, key.revoked_from)
            for key in self.model.keys
        )


TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
