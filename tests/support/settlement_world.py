"""A small world in which everything of the settlement engine can happen, and the driver that plays
the same instructions on the ledger and on the model and compares all that follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import msgspec

from node.chain.build import build, build_pay
from node.chain.encoding import decode
from node.chain.genesis import Genesis, dump_genesis, genesis_key, genesis_validator, load_genesis
from node.chain.genesis_file import GenesisAsset, GenesisParameters, GenesisParticipant
from node.chain.instruction import CheckedInstruction, InstructionRefused, check_instruction
from node.chain.records import StateKey
from node.chain.signature import Ed25519Signer
from node.chain.types import InstructionBody, Outcome, Payment
from node.ledger.ledger import Ledger, load_state
from node.ledger.state import State
from tests.support.ledger_world import (
    DAY_MS,
    GENESIS_TIME,
    Bank,
    Chain,
    MadeBlock,
    World,
    changed_records,
    lei,
    signer,
    uetr,
)
from tests.support.settlement_invariants import Invariants
from tests.support.settlement_model.block import play
from tests.support.settlement_model.book import (
    Book,
)
from tests.support.settlement_model.records import records
from tests.support.settlement_model.rows import (
    Asset,
    Bounds,
    Key,
    Parameters,
    Party,
)

ROLES: dict[str, tuple[str, ...]] = {
    "CENTRALBANK": ("operator", "issuer", "validator"),
    "DEPOSITORY": ("depository",),
    "BANKA": ("direct-participant", "operator"),
    "BANKB": ("direct-participant",),
    "BANKC": ("direct-participant",),
    "PAYCO": ("payment-institution",),
    "VILLAGE": ("indirect-participant",),
    "WATCHDOG": ("supervisor",),
}
BOND = "DE000TEST009"
ASSETS = (("EUR", "CENTRALBANK"), ("CNY", "CENTRALBANK"), (BOND, "DEPOSITORY"))
WINDOW_DAYS = 10
"""Of UETRs: long enough for a cycle, short enough to be lived through."""
THRESHOLD = 2
SPARE_KEYS = 3


@cache
def settlement_world() -> World:
    """Two operators, three banks, a payment institution, a bank behind BANKA, a supervisor."""
    banks = {
        name: Bank(
            name,
            lei(number),
            f"NOS{chr(65 + number)}DE{chr(65 + number)}X",
            roles,
            [signer("settlement", name, each) for each in range(2 if "operator" in roles else 1)],
        )
        for number, (name, roles) in enumerate(ROLES.items())
    }
    votes = [signer("settlement", "vote", each) for each in range(4)]
    nodes = [signer("settlement", "node", each) for each in range(4)]
    operator = banks["CENTRALBANK"].lei
    data = dump_genesis(
        network="test",
        devnet=True,
        time=GENESIS_TIME,
        assets=[GenesisAsset(code, 2, banks[issuer].lei) for code, issuer in ASSETS],
        participants=[
            GenesisParticipant(
                bank.name,
                bank.lei,
                bank.bic,
                bank.roles,
                bank.threshold,
                tuple(genesis_key(each, "test", bank.lei) for each in bank.signers),
                banks["BANKA"].lei if "indirect-participant" in bank.roles else None,
            )
            for bank in banks.values()
        ],
        validators=[
            genesis_validator(f"node{index}", operator, network="test", vote=vote, node=node)
            for index, (vote, node) in enumerate(zip(votes, nodes, strict=True))
        ],
        parameters=GenesisParameters(WINDOW_DAYS, THRESHOLD, 60_000),
    )
    return World(0, banks, votes, nodes, data, load_genesis(data))


def book_of(genesis: Genesis) -> Book:
    """The model of the genesis file."""
    parameters = Parameters(
        genesis.parameters.uetr_window_ms,
        genesis.parameters.governance_threshold,
        genesis.parameters.readiness_ms,
        genesis.close_rule,
    )
    parties = {
        each.lei: Party(
            each.lei,
            each.bic,
            each.name,
            tuple(sorted(each.roles)),
            tuple(Key(bytes.fromhex(key.public_key), 0) for key in each.keys),
            each.threshold,
            len(each.keys) if "operator" in each.roles else 0,
            each.sponsor,
        )
        for each in genesis.participants
    }
    assets = {
        each.code: Asset(each.code, each.exponent, each.issuer, each.code in genesis.securities)
        for each in genesis.assets
    }
    validators = genesis.validator_set.validators
    keys = frozenset(key for each in validators for key in (each.vote_key, each.node_key))
    operators = frozenset(each.operator for each in validators)
    return Book(genesis.chain_id, parameters, parties, assets, keys, operators, time=genesis.time)


RESTART_EVERY = 4
"""Blocks of which one is made by a node that started anew, too."""
OF_VALIDATORS = ("epoch", "validator-set", "validator-key", "equivocation")
"""State keys that the model knows nothing of."""


class Driver:
    """A chain and its model, and the instructions that wait for the next block."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        """`bounds`: those of the ledger that runs here, where they are not the usual ones."""
        self.world = replace(settlement_world(), _count=0)
        self.chain = Chain(self.world)
        self.book = book_of(self.world.genesis)
        self.book.bounds = bounds or Bounds()
        self.invariants = Invariants(self.chain)
        self.pending: list[CheckedInstruction] = []
        self.last: list[CheckedInstruction] = []
        """Those of the last blocks, to be sent again."""
        self.payments: list[Payment] = []
        """All that were sent, in order."""
        self.counts: Counter[str] = Counter()
        """What happened: body and reason → how often."""
        self.signers = {
            bank.lei: [
                *bank.signers,
                *(signer("settlement", name, "spare", n) for n in range(SPARE_KEYS)),
            ]
            for name, bank in self.world.banks.items()
        }

    # --- instructions ---------------------------------------------------------------------------

    def lei(self, name: str) -> str:
        return self.world.lei(name)

    @property
    def time(self) -> int:
        return self.chain.state.time

    def uetr(self) -> bytes:
        """A fresh one."""
        return uetr(self.world.next_number())

    def able(self, sender: str) -> list[Ed25519Signer]:
        """As many of a sender's keys as it needs that are valid at the next height."""
        party = self.book.parties[sender]
        valid = {key.public_key for key in party.keys if key.valid(self.book.height + 1)}
        usable = [each for each in self.signers[sender] if each.public_key in valid]
        return usable[: party.threshold]

    def send(
        self,
        sender: str,
        body: InstructionBody,
        signers: Sequence[Ed25519Signer] | None = None,
    ) -> CheckedInstruction | None:
        """Any instruction but a payment order, for the next block. `sender`: LEI."""
        head = self.world.head(sender, None, self.time + DAY_MS)
        raw = build(*head, body, self.able(sender) if signers is None else signers)
        return self._add(raw)

    def pay(
        self, sender: str, *payments: Payment, all_or_none: bool = False
    ) -> CheckedInstruction | None:
        """A payment order, for the next block."""
        head = self.world.head(sender, None, self.time + DAY_MS)
        raw = build_pay(
            *head, payments=payments, signers=self.able(sender), all_or_none=all_or_none
        )
        self.payments += payments
        return self._add(raw)

    def _add(self, raw: bytes) -> CheckedInstruction | None:
        try:
            checked = check_instruction(raw, self.world.chain_id)
        except InstructionRefused:
            self.counts["may not stand in any block"] += 1
            return None
        self.pending.append(checked)
        return checked

    # --- blocks ---------------------------------------------------------------------------------

    def block(self, step: int) -> MadeBlock:
        """The next block of what is pending, `step` milliseconds after the last: on both sides,
        and all that follows compared."""
        time = self.time + step
        before = self.chain.state
        chosen, expected = play(self.book, time, self.pending)
        block = self.chain.make(*chosen, time=time)
        self.compare_outcomes(block.outcomes, expected)
        self.rejections_leave_no_trace(before, block, expected)
        self.proposes_the_same(before, block)
        if block.header.height % RESTART_EVERY == 0:
            self.a_restarted_node_makes_the_same(block)
        self.chain.commit(block)
        self.compare_records()
        self.invariants.check(block.outcomes)
        self.count(chosen, expected)
        self.last = (self.last + chosen)[-12:]
        self.pending = []
        return block

    def compare_outcomes(self, found: list[Outcome], expected: list[Outcome]) -> None:
        if found != expected:
            raise AssertionError(f"outcomes at height {self.book.height}:" + _diff(found, expected))

    def rejections_leave_no_trace(
        self, before: State, block: MadeBlock, outcomes: list[Outcome]
    ) -> None:
        """The block up to a rejected instruction leaves the same state with it and without it."""
        rejected = [
            index
            for index in range(len(block.instructions))
            if all(
                each.status == "RJCT" and each.original is None
                for each in outcomes
                if each.instruction == index
            )
        ]
        for index in rejected[-1:]:
            head = block.instructions[: index + 1]
            time = block.header.timestamp
            with_it = self.chain.make(*head, parent=before, time=time)
            without = self.chain.make(*head[:-1], parent=before, time=time)
            assert changed_records(with_it) == changed_records(without), (
                f"a rejected {type(head[-1].instruction.envelope.body).__name__} left a trace"
            )

    def proposes_the_same(self, before: State, block: MadeBlock) -> None:
        """A leader that collects the block itself comes to the same roots."""
        context = block.applied.context
        proposal = self.chain.ledger.propose(before, context, self.pending, 4_000_000, 10_000)
        assert [each.digest for each in proposal.chosen] == [
            each.digest for each in block.instructions
        ]
        assert proposal.applied.state_root == block.applied.state_root
        assert proposal.applied.outcomes == block.applied.outcomes

    def compare_records(self) -> None:
        """The whole authenticated state is what the model says, to the byte."""
        found = {
            key: record
            for key, record in self.chain.records.items()
            if msgspec.msgpack.decode(key)[0] not in OF_VALIDATORS
        }
        expected = records(self.book)
        wanted = {key: msgspec.msgpack.encode(record) for key, record in expected.items()}
        if found != wanted:
            lines = []
            for key in sorted(found.keys() | wanted.keys()):
                if found.get(key) != wanted.get(key):
                    named: object = decode(key, StateKey)  # type: ignore[arg-type]
                    raw = found.get(key)
                    had = None if raw is None else msgspec.msgpack.decode(raw)
                    lines.append(f"\n  {named}\n    ledger {had}\n    model  {expected.get(key)}")
            raise AssertionError(f"records at height {self.book.height}:" + "".join(lines))

    def count(self, chosen: list[CheckedInstruction], outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            name = "time, links or resolution"
            if outcome.instruction is not None:
                name = type(chosen[outcome.instruction].instruction.envelope.body).__name__
            event = "" if outcome.event is None else type(outcome.event).__name__
            self.counts[f"{name} {outcome.status} {outcome.reason or ''} {event}".strip()] += 1

    def a_restarted_node_makes_the_same(self, block: MadeBlock) -> None:
        """What a node only remembers since it runs leaves no trace."""
        again = self.chain.make(
            *block.instructions, parent=self.loaded(), time=block.header.timestamp
        )
        assert again.header == block.header, "a node that started anew comes to another block"

    def restart(self) -> None:
        """Go on with the state as storage holds it."""
        self.chain.ledger = Ledger(self.loaded())

    def loaded(self) -> State:
        """The committed state as storage holds it: queues and agenda are made anew."""
        state = self.chain.state
        header = self.chain.blocks[-1].header
        return load_state(
            self.chain.records.items(),
            header,
            state.history,
            self.chain.index,
            self.chain.nodes.__getitem__,
        )


def _diff(found: list[Outcome], expected: list[Outcome]) -> str:
    lines = []
    for number in range(max(len(found), len(expected))):
        one = found[number] if number < len(found) else None
        other = expected[number] if number < len(expected) else None
        if one != other:
            lines.append(f"\n  {number}\n    ledger {one}\n    model  {other}")
    return "".join(lines[:6])
