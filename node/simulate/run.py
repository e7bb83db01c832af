"""Running a scenario through the ledger: the same instructions, blocks and rules as on a network.

Only what surrounds the ledger is missing: consensus, storage, and the verification of signatures
that this module has just made itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec
from stdnum.iso7064 import mod_97_10

from node.chain.build import build, build_pay, gross_payment
from node.chain.genesis import (
    Genesis,
    dump_genesis,
    genesis_key,
    genesis_validator,
    load_genesis,
)
from node.chain.genesis_file import GenesisAsset, GenesisParticipant
from node.chain.instruction import CheckedInstruction, parse_instruction
from node.chain.signature import Ed25519Signer
from node.chain.statuses import SETTLED, UNDECIDED
from node.chain.types import InstructionBody, Issue, Outcome, Priority, SetLimit
from node.ledger import links
from node.ledger.apply import begin, conclude, execute
from node.ledger.entries import InstructionEntry, OutcomesGone, UetrEntry
from node.ledger.genesis import genesis_state
from node.ledger.work import Applied, BlockContext, Work
from node.simulate.scenario import Item, Scenario
from node.simulate.singly import settle_singly

START = 1_750_000_000_000
ROUND_MS = 1_000
NETWORK = "simulation"
MAX_FOLLOWING = 1_000
"""Blocks that follow a round at once because its resolution may have enabled more."""

_outcome = msgspec.msgpack.Decoder(Outcome)


@dataclass
class Result:
    """What became of a scenario."""

    settled: list[str] = field(default_factory=list)
    """Ids, in order of settlement."""
    queued: list[str] = field(default_factory=list)
    """Ids of what still waits, in order of entry."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Id → reason."""
    closing: dict[str, int] = field(default_factory=dict)
    """Minor units by bank."""
    lowest: dict[str, int] = field(default_factory=dict)
    settled_value: int = 0
    queued_value: int = 0
    delay_rounds: int = 0
    """Rounds waited, summed over all payments; what still waits counts up to the last round."""
    liquidity: int = 0
    """Σ max(0, opening − lowest balance): what the banks had to bring, minor units."""
    balances: list[dict[str, int]] = field(default_factory=list)
    """By round, from the openings on."""
    waiting: list[int] = field(default_factory=list)
    """Minor units queued after each round, from the start on."""

    @property
    def turnover(self) -> float | None:
        """Settled value per unit of liquidity used; None where none was needed."""
        return self.settled_value / self.liquidity if self.liquidity else None


def simulate(scenario: Scenario, *, resolution: bool) -> Result:
    """Play every round. `resolution`: as `Scenario.resolution`, which it overrides."""
    return _Simulation(scenario, resolution).run()


class _Memory:
    """The ledger's `RecentIndex`."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], InstructionEntry] = {}
        self._uetrs: dict[bytes, UetrEntry] = {}

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        return self._ids.get((sender, id))

    def uetrs_between(self, after: int, through: int) -> Iterator[bytes]:
        raise OutcomesGone(after + 1)  # it never starts again from what it has

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        return self._uetrs.get(uetr)

    def add(self, applied: Applied) -> None:
        self._ids.update(((e.sender, e.id), e) for e in applied.ids)
        self._uetrs.update((e.uetr, e) for e in applied.uetrs)


class _Simulation:
    def __init__(self, scenario: Scenario, resolution: bool) -> None:
        self._scenario = scenario
        self._resolution = resolution
        names = list(scenario.banks)
        self._leis = {name: _lei(f"SIML{number:014d}") for number, name in enumerate(names)}
        self._names = {lei: name for name, lei in self._leis.items()}
        self._operator = _lei("SIML00000000999999")
        self._signers = {lei: _signer(lei) for lei in (self._operator, *self._names)}
        self._genesis = self._make_genesis()
        self._memory = _Memory()
        self._state = genesis_state(self._genesis, self._memory).applied.state
        self._count = 0
        self._items: dict[bytes, tuple[Item, int]] = {}
        """By UETR: each payment, and its round."""
        self._live: dict[bytes, int] = {}
        """UETRs of what waits, with the round of entry."""
        self._result = Result(lowest=dict(scenario.banks))

    def run(self) -> Result:
        self._block(list(self._openings()))
        self._block(list(self._limits()))
        self._result = Result(lowest=dict(self._scenario.banks))
        self._note_round()
        for number, items in enumerate(self._scenario.rounds):
            self._block([self._pay(item, number) for item in items], number)
            for _ in range(MAX_FOLLOWING):
                if not self._state.has_work:
                    break
                self._block([], number)
            self._note_round()
        return self._finish()

    # --- blocks -----------------------------------------------------------------------------

    def _block(self, instructions: list[CheckedInstruction], number: int = 0) -> None:
        parent = self._state
        work = begin(parent, BlockContext(parent.height + 1, parent.time + ROUND_MS))
        for index, instruction in enumerate(instructions):
            execute(work, index, instruction)
        applied = self._conclude(work)
        for raw in applied.outcomes:
            self._take(_outcome.decode(raw), number)
        # There is no header to name: the digest stands for one.
        applied.seal(sha256(b"simulated block %d" % applied.context.height).digest())
        self._memory.add(applied)
        applied.state.commit()
        self._state = applied.state

    def _conclude(self, work: Work) -> Applied:
        if self._resolution:
            return conclude(work)
        links.settle_complete(work)
        settle_singly(work)
        return work.seal()

    def _take(self, outcome: Outcome, number: int) -> None:
        if outcome.uetr is None or outcome.uetr not in self._items:
            return
        item, entered = self._items[outcome.uetr]
        result = self._result
        if outcome.status == SETTLED:
            result.settled.append(item.id)
            result.settled_value += item.amount
            result.delay_rounds += number - entered
            self._live.pop(outcome.uetr, None)
            assert outcome.debtor_balance is not None
            result.lowest[item.debtor] = min(result.lowest[item.debtor], outcome.debtor_balance)
        elif outcome.status in UNDECIDED:
            self._live[outcome.uetr] = entered
        else:
            result.rejected[item.id] = str(outcome.reason)

    def _note_round(self) -> None:
        self._result.balances.append(self._balances())
        self._result.waiting.append(sum(self._items[uetr][0].amount for uetr in self._live))

    def _balances(self) -> dict[str, int]:
        return {
            name: self._state.balance(lei, self._scenario.currency, 0) or 0
            for name, lei in self._leis.items()
        }

    def _finish(self) -> Result:
        result, rounds = self._result, len(self._scenario.rounds)
        result.queued = [self._items[uetr][0].id for uetr in self._live]
        result.queued_value = sum(self._items[uetr][0].amount for uetr in self._live)
        result.delay_rounds += sum(rounds - entered for entered in self._live.values())
        result.closing = self._balances()
        openings = self._scenario.banks
        result.liquidity = sum(max(0, openings[n] - low) for n, low in result.lowest.items())
        return result

    # --- instructions -----------------------------------------------------------------------

    def _make_genesis(self) -> Genesis:
        operator, currency = self._operator, self._scenario.currency
        roles: dict[str, tuple[str, ...]] = {operator: ("issuer", "operator", "validator")}
        roles |= dict.fromkeys(self._names, ("direct-participant",))
        data = dump_genesis(
            network=NETWORK,
            devnet=True,
            time=START,
            assets=[GenesisAsset(currency, 2, operator)],
            participants=[
                GenesisParticipant(
                    f"P{number}",
                    lei,
                    _bic(number),
                    of,
                    1,
                    (genesis_key(self._signers[lei], NETWORK, lei),),
                )
                for number, (lei, of) in enumerate(roles.items())
            ],
            validators=[
                genesis_validator(
                    "node0",
                    operator,
                    network=NETWORK,
                    vote=_signer("vote"),
                    node=_signer("node"),
                )
            ],
        )
        return load_genesis(data)

    def _openings(self) -> Iterator[CheckedInstruction]:
        for name, opening in self._scenario.banks.items():
            if opening:
                body = Issue(self._uetr(), self._scenario.currency, self._leis[name], opening)
                yield self._signed(self._operator, body)

    def _limits(self) -> Iterator[CheckedInstruction]:
        currency, limits = self._scenario.currency, self._scenario.limits
        for name, towards in limits.bilateral.items():
            lei = self._leis[name]
            for other, limit in towards.items():
                yield self._signed(lei, SetLimit(lei, currency, self._leis[other], limit))
        for name, limit in limits.multilateral.items():
            lei = self._leis[name]
            yield self._signed(lei, SetLimit(lei, currency, None, limit))

    def _pay(self, item: Item, number: int) -> CheckedInstruction:
        uetr = self._uetr()
        self._items[uetr] = (item, number)
        debtor = self._leis[item.debtor]
        payment = gross_payment(
            uetr,
            debtor,
            self._leis[item.creditor],
            self._scenario.currency,
            item.amount,
            priority=Priority[item.priority.upper()],
        )
        raw = build_pay(
            self._genesis.chain_id,
            debtor,
            self._id(),
            self._state.time + 10 * ROUND_MS,
            payments=[payment],
            signers=[self._signers[debtor]],
        )
        return _unverified(raw)

    def _signed(self, sender: str, body: InstructionBody) -> CheckedInstruction:
        valid_until = self._state.time + 10 * ROUND_MS
        signer = self._signers[sender]
        return _unverified(
            build(self._genesis.chain_id, sender, self._id(), valid_until, body, [signer])
        )

    def _id(self) -> str:
        self._count += 1
        return f"SIM-{self._count}"

    def _uetr(self) -> bytes:
        self._count += 1
        raw = bytearray(sha256(b"simulated uetr %d" % self._count).digest()[:16])
        raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
        return bytes(raw)


def _unverified(raw: bytes) -> CheckedInstruction:
    """An instruction that was just signed here: checking it would only take time."""
    parsed = parse_instruction(raw)
    return CheckedInstruction(
        parsed.raw,
        parsed.instruction,
        parsed.digest,
        parsed.signed_leaf_hash,
        parsed.payment_digests,
    )


def _signer(name: str) -> Ed25519Signer:
    """A key that everybody can make: nothing here is worth a secret."""
    return Ed25519Signer(sha256(b"simulation " + name.encode()).digest())


def _lei(stem: str) -> str:
    return stem + str(mod_97_10.calc_check_digits(stem))


def _bic(number: int) -> str:
    letters = "".join(chr(65 + number // 26**power % 26) for power in (3, 2, 1, 0))
    return f"{letters}DEFF"
