"""A chain of many days in a real store, with everything that uses up ids and UETRs or does not."""

from __future__ import annotations

from dataclasses import dataclass, field

from consensus.interface import Floor
from node.chain.block import encode_block, header_digest
from node.chain.build import build, build_pay
from node.chain.genesis import Genesis
from node.chain.instruction import check_instruction
from node.chain.types import Header, Issue, Payment, Redeem
from node.engine.executor import block_info
from node.ledger.genesis import genesis_state
from node.ledger.ledger import Ledger
from node.ledger.work import Applied, BlockContext
from node.storage.chain_store import ChainStore, CommittedBlock
from node.storage.kv import KeyValue
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.headers import next_header
from tests.support.small_chain import finalization
from tests.support.world import BANKA, BANKB, BANKC, CENTRALBANK, CNY, EUR

DAY_MS = 24 * 3600 * 1000
HOUR_MS = 3600 * 1000


@dataclass
class WindowChain:
    """Grows by `add`; every block is committed as a node commits it."""

    kv: KeyValue = field(default_factory=MemoryStore)
    genesis: Genesis = field(default_factory=world.genesis)
    _waiting: list[CommittedBlock] = field(default_factory=list)
    _ids: int = 0

    def __post_init__(self) -> None:
        self.store = ChainStore(self.kv)
        start = genesis_state(self.genesis, self.store)
        self.ledger = Ledger.start(start)
        self.tip = start.header
        self._keep(start.header, (), start.applied)
        self.store.commit(self._waiting, Floor(block_info(start.header), None))
        self._waiting = []

    def add(self, *instructions: bytes, days: float = 5) -> Header:
        """A block that much later, committed with its finalization."""
        parent = self.ledger.final
        checked = [check_instruction(raw, self.genesis.chain_id) for raw in instructions]
        height, view = parent.height + 1, self.tip.view + 1
        time = parent.time + int(days * DAY_MS)
        applied = self.ledger.apply(parent, BlockContext(height, time), checked)
        header = next_header(self.genesis, parent, applied, checked, view=view, proposer=view % 4)
        applied.seal(header_digest(header))
        self._keep(header, instructions, applied)
        certificate = finalization(header_digest(header), view=view, parent_view=self.tip.view)
        self.store.commit(self._waiting, Floor(block_info(header), certificate))
        self._waiting = []
        self.ledger.commit(applied.state)
        self.tip = header
        return header

    def _keep(self, header: Header, instructions: tuple[bytes, ...], applied: Applied) -> None:
        self._waiting.append(
            CommittedBlock(
                info=block_info(header),
                raw=encode_block(header, instructions),
                outcomes=applied.outcomes,
                records=applied.records,
                nodes=applied.nodes,
                history_nodes=applied.history_nodes,
                ids=applied.ids,
                uetrs=applied.uetrs,
                changes=applied.changes,
                following=applied.following,
                joined=applied.joined,
                closed=applied.closed,
            )
        )

    # --- instructions -------------------------------------------------------------------------

    @property
    def _valid_until(self) -> int:
        return self.ledger.final.time + 6 * DAY_MS

    def _id(self) -> str:
        self._ids += 1
        return f"ID-{self._ids}"

    def issue(self, number: int, *, asset: str = EUR, amount: int = 10**9) -> bytes:
        """To BANKA."""
        return build(
            self.genesis.chain_id,
            CENTRALBANK.lei,
            self._id(),
            self._valid_until,
            Issue(world.uetr(number), asset, BANKA.lei, amount),
            [CENTRALBANK.key],
        )

    def redeem(self, number: int, amount: int) -> bytes:
        """By the central bank."""
        return build(
            self.genesis.chain_id,
            CENTRALBANK.lei,
            self._id(),
            self._valid_until,
            Redeem(world.uetr(number), EUR, amount),
            [CENTRALBANK.key],
        )

    def pay(self, *payments: Payment, all_or_none: bool = False) -> bytes:
        """By BANKA, whoever is the debtor."""
        return build_pay(
            self.genesis.chain_id,
            BANKA.lei,
            self._id(),
            self._valid_until,
            payments=payments,
            all_or_none=all_or_none,
            signers=[BANKA.key],
        )

    def all_kinds(self, number: int) -> list[bytes]:
        """One of everything, under UETRs from `number` on; needs money on BANKA's account."""
        one = world.payment
        first = self.pay(*(one(number + i) for i in range(4)))
        return [
            first,
            self.pay(one(number), one(number + 5)),  # a retry beside a new one
            self.pay(one(number + 1, amount=1)),  # a duplicate with other content
            self.pay(one(number + 6, amount=10**15)),  # not covered
            self.pay(one(number + 7), one(number + 8, amount=10**15), all_or_none=True),
            self.pay(one(number + 9, debtor=BANKB)),  # not its own account
            self.pay(one(number + 10, creditor=BANKC, asset=CNY)),
            self.pay(one(number + 11, creditor=CENTRALBANK, amount=900)),
            self.redeem(number + 12, 500),
            self.redeem(number + 13, 10**15),
        ]


def many_days(kv: KeyValue | None = None, blocks: int = 12) -> WindowChain:
    """Blocks five days apart, so that the first ones are older than the UETR window."""
    chain = WindowChain(MemoryStore() if kv is None else kv)
    chain.add(chain.issue(9_000), chain.issue(9_001, asset=CNY))
    for number in range(blocks - 1):
        chain.add(*(chain.all_kinds(100 * number) if number % 3 else [chain.issue(5_000 + number)]))
    return chain
