"""What resolution costs: a block in which a whole gridlock of 100 banks dissolves.

Banks without money owe each other in rings, and one of them owes more than it is owed first of all:
nothing moves until an issue gives it that, and then everything settles in that block. Without
network, disk or processes; the block is executed again and again on the same state.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from stdnum.iso7064 import mod_97_10

from node.chain.build import build, build_pay, gross_payment
from node.chain.genesis import Genesis, dump_genesis, genesis_key, genesis_validator, load_genesis
from node.chain.genesis_file import GenesisAsset, GenesisParameters, GenesisParticipant
from node.chain.instruction import CheckedInstruction, check_instruction
from node.chain.signature import Ed25519Signer
from node.chain.types import MAX_PAYMENTS, Issue, Payment, Priority, SetLimit
from node.ledger.apply import Applied, BlockContext, apply, begin, execute
from node.ledger.entries import InstructionEntry, OutcomesGone, UetrEntry
from node.ledger.genesis import genesis_state
from node.ledger.gridlock import resolve_queues
from node.ledger.resolution import resolve, waiting
from node.ledger.state import State
from node.ledger.work import Work

BANKS = 100
SIZES = (1_000, 10_000, 100_000)
"""Queued payments. The last is as many as one resolution looks at by version 1 of the rules."""
ROUNDS = 5
"""Of which the best counts: the others were disturbed by something else on the machine."""
START = 1_750_000_000_000
"""Milliseconds since the Unix epoch."""
BLOCK_MS = 1_000
VALID_MS = 24 * 3600 * 1000
ASSET = "EUR"
KEY_AMOUNT = 10**12
"""Minor units that the first bank owes first and no queue could bring it."""
NETWORK = "bench"
MILLIS = 1_000.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of one core, each the best of some rounds."""

    payments: int
    limits: bool
    candidates: float
    """Gathering them."""
    algorithm: float
    """Finding the greatest set."""
    settling: float
    """Balances, limits, queues, outcomes, UETR entries, rows."""
    block: float
    """The whole block that resolves them."""
    empty_block: float
    """The same block where nothing waits."""

    @property
    def resolution(self) -> float:
        """The step by itself."""
        return self.candidates + self.algorithm + self.settling

    @property
    def added(self) -> float:
        """What the payments add to the block that resolves them."""
        return self.block - self.empty_block


def measure(payments: int, *, limits: bool = False) -> Cost:
    """A gridlock of so many payments. `limits`: each bank has one multilateral and one bilateral
    limit."""
    chain = _Chain()
    if limits:
        chain.block(*chain.limits())
    key = chain.key()
    empty_block = _best(lambda: chain.apply(key))
    for orders in chain.gridlock(payments):
        chain.block(*orders)
    candidates, algorithm, settling = _steps(chain, key)
    block = _best(lambda: chain.apply(key))
    assert not chain.apply(key).state.queued_accounts(), "a gridlock that does not dissolve"
    return Cost(payments, limits, candidates, algorithm, settling, block, empty_block)


def _steps(chain: _Chain, key: CheckedInstruction) -> tuple[float, float, float]:
    work = chain.begin(key)
    found = waiting(work, ASSET)
    candidates = _best(lambda: waiting(work, ASSET))
    algorithm = _best(lambda: resolve_queues(found.debtors))
    works = [chain.begin(key) for _ in range(ROUNDS)]
    settling = _best(lambda: resolve(works.pop())) - candidates - algorithm
    return candidates, algorithm, settling


def _best(step: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        gc.collect()
        started = time.thread_time()
        result = step()
        best = min(best, time.thread_time() - started)
        del result  # what the block made goes after the clock was read
    return best * MILLIS


class _Recent:
    """`RecentIndex` in memory."""

    def __init__(self) -> None:
        self.ids: dict[tuple[str, str], InstructionEntry] = {}
        self.uetrs: dict[bytes, UetrEntry] = {}

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        return self.ids.get((sender, id))

    def uetrs_between(self, after: int, through: int) -> Iterator[bytes]:
        raise OutcomesGone(after + 1)  # it never starts again from what it has

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        return self.uetrs.get(uetr)


class _Chain:
    """A ledger of an issuer and its banks."""

    def __init__(self) -> None:
        self.signers = [Ed25519Signer(_digest("key", n)) for n in range(BANKS + 1)]
        self.leis = [_lei(n) for n in range(BANKS + 1)]
        """Of the issuer, then of the banks."""
        self.genesis = self._genesis()
        self.recent = _Recent()
        self.state: State = genesis_state(self.genesis, self.recent).applied.state
        self._ids = 0

    def _genesis(self) -> Genesis:
        vote, node = Ed25519Signer(_digest("vote", 0)), Ed25519Signer(_digest("node", 0))
        participants = [
            GenesisParticipant(
                f"BANK{n}",
                lei,
                f"NOS{chr(65 + n // 26)}DE{chr(65 + n % 26)}X",
                ("issuer", "operator", "validator") if n == 0 else ("direct-participant",),
                1,
                (genesis_key(self.signers[n], NETWORK, lei),),
            )
            for n, lei in enumerate(self.leis)
        ]
        data = dump_genesis(
            network=NETWORK,
            devnet=True,
            time=START,
            assets=[GenesisAsset(ASSET, 2, self.leis[0])],
            participants=participants,
            validators=[
                genesis_validator("node0", self.leis[0], network=NETWORK, vote=vote, node=node)
            ],
            parameters=GenesisParameters(),
        )
        return load_genesis(data)

    # --- instructions ---------------------------------------------------------------------------

    def _head(self, bank: int) -> tuple[bytes, str, str, int]:
        self._ids += 1
        return (
            self.genesis.chain_id,
            self.leis[bank],
            f"i{self._ids}",
            self.state.time + VALID_MS,
        )

    def _checked(self, raw: bytes) -> CheckedInstruction:
        return check_instruction(raw, self.genesis.chain_id)

    def key(self) -> CheckedInstruction:
        """The issue that dissolves a gridlock."""
        raw = build(
            *self._head(0), Issue(_uetr(0), ASSET, self.leis[1], KEY_AMOUNT), self.signers[:1]
        )
        return self._checked(raw)

    def limits(self) -> list[CheckedInstruction]:
        """Limits that never bind, so that the same payments settle with them."""
        return [
            self._checked(
                build(
                    *self._head(bank),
                    SetLimit(self.leis[bank], ASSET, towards, 10**15),
                    [self.signers[bank]],
                )
            )
            for bank in range(1, BANKS + 1)
            for towards in (None, self.leis[bank % BANKS + 1])
        ]

    def gridlock(self, payments: int) -> list[list[CheckedInstruction]]:
        """Each bank's order. All but the first payment go round in a ring."""
        orders = []
        for bank in range(1, BANKS + 1):
            own = [self._payment(bank, turn) for turn in range(payments // BANKS)]
            raw = build_pay(*self._head(bank), payments=own, signers=[self.signers[bank]])
            orders.append([self._checked(raw)])
        return orders

    def _payment(self, bank: int, turn: int) -> Payment:
        creditor = (bank + turn % (BANKS - 1)) % BANKS + 1
        is_first = bank == 1 and turn == 0
        return gross_payment(
            _uetr(1 + bank * MAX_PAYMENTS + turn),
            self.leis[bank],
            self.leis[creditor],
            ASSET,
            KEY_AMOUNT if is_first else 1_000 + turn,
            priority=Priority.URGENT if is_first else Priority.NORMAL,
        )

    # --- blocks ---------------------------------------------------------------------------------

    def _context(self) -> BlockContext:
        return BlockContext(self.state.height + 1, self.state.time + BLOCK_MS)

    def begin(self, key: CheckedInstruction) -> Work:
        """The next block, before its resolution."""
        work = begin(self.state, self._context())
        execute(work, 0, key)
        return work

    def apply(self, *instructions: CheckedInstruction) -> Applied:
        """Execute the next block, without committing it."""
        return apply(self.state, self._context(), instructions)

    def block(self, *instructions: CheckedInstruction) -> None:
        """Make and commit the next block."""
        applied = self.apply(*instructions)
        applied.seal(sha256(applied.state_root).digest())
        self.recent.ids.update(((each.sender, each.id), each) for each in applied.ids)
        self.recent.uetrs.update((each.uetr, each) for each in applied.uetrs)
        applied.state.commit()
        self.state = applied.state


def _digest(what: str, number: int) -> bytes:
    return sha256(f"{what} {number}".encode()).digest()


def _lei(number: int) -> str:
    stem = f"9845BENC{number:010d}"
    return stem + str(mod_97_10.calc_check_digits(stem))


def _uetr(number: int) -> bytes:
    raw = bytearray(_digest("uetr", number)[:16])
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    return bytes(raw)


def lines(costs: Sequence[Cost]) -> list[str]:
    """For people, milliseconds."""
    heads = ("candidates", "algorithm", "settling", "block", "of it added")
    rows = [f"{'resolution: queued, ms':<26}" + "".join(f"{head:>13}" for head in heads)]
    for cost in costs:
        values = (cost.candidates, cost.algorithm, cost.settling, cost.block, cost.added)
        name = f"  {cost.payments:,}{' with limits' if cost.limits else ''}"
        rows.append(f"{name:<26}" + "".join(f"{value:>13.1f}" for value in values))
    return rows


if __name__ == "__main__":
    measured = [measure(size) for size in SIZES] + [measure(SIZES[1], limits=True)]
    print("\n".join(lines(measured)))
