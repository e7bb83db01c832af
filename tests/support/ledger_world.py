"""A small world for tests: a genesis with real keys, signed instructions, a chain of blocks.

Everything follows from a seed: keys, LEIs, UETRs, ids. Signatures are real.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from msgspec import UNSET, UnsetType
from stdnum.iso7064 import mod_97_10

from node.chain.block import encode_block, header_digest
from node.chain.build import (
    build,
    build_pay,
    gross_payment,
)
from node.chain.encoding import decode
from node.chain.genesis import Genesis, dump_genesis, genesis_key, genesis_validator, load_genesis
from node.chain.genesis_file import GenesisAsset, GenesisParameters, GenesisParticipant
from node.chain.instruction import CheckedInstruction, check_instruction
from node.chain.named import named_uetrs
from node.chain.records import StateKey, UetrsKey, UetrTreeKey
from node.chain.signature import ROLE_PARTICIPANT, Ed25519Signer, prove_possession
from node.chain.types import (
    AccountKind,
    Header,
    InstructionBody,
    Issue,
    Outcome,
    Payment,
    PaymentClass,
    Redeem,
    RegisterKey,
    RevokeKey,
)
from node.ledger.apply import Applied, BlockContext
from node.ledger.entries import InstructionEntry, OutcomesGone, UetrEntry
from node.ledger.genesis import GenesisBlock, genesis_state
from node.ledger.ledger import Ledger
from node.ledger.state import State
from tests.support.headers import next_header

GENESIS_TIME = 1_750_000_000_000
"""Milliseconds since the Unix epoch."""
BLOCK_MS = 1_000
"""Between the blocks of a `Chain`."""
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

BANKS = {
    "CENTRALBANK": ("operator", "issuer", "validator"),
    "BANKA": ("direct-participant",),
    "BANKB": ("direct-participant",),
    "BANKC": ("direct-participant",),
    "WATCHDOG": ("supervisor",),
}
"""Participants of the default world with their roles."""


def lei(number: int) -> str:
    """A LEI with right check digits."""
    stem = f"9845TEST{number:010d}"
    return stem + str(mod_97_10.calc_check_digits(stem))


def uetr(number: int) -> bytes:
    """A UUID of version 4 that depends only on the number."""
    raw = bytearray(sha256(b"uetr" + number.to_bytes(8, "big")).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def signer(*name: object) -> Ed25519Signer:
    """A key that depends only on its name."""
    return Ed25519Signer(sha256("/".join(map(str, name)).encode()).digest())


@dataclass
class Bank:
    """A participant with its keys."""

    name: str
    lei: str
    bic: str
    roles: tuple[str, ...]
    signers: list[Ed25519Signer]
    threshold: int = 1


@dataclass
class World:
    """Who there is, and instructions signed by them. `World.make` builds one."""

    seed: int
    banks: dict[str, Bank]
    votes: list[Ed25519Signer]
    """Vote keys of the validators, by index."""
    nodes: list[Ed25519Signer]
    """Node keys of the validators, by index."""
    genesis_bytes: bytes
    genesis: Genesis
    _count: int = 0

    @classmethod
    def make(
        cls,
        *,
        seed: int = 1,
        validators: int = 4,
        banks: dict[str, tuple[str, ...]] | None = None,
        keys: dict[str, tuple[int, int]] | None = None,
        assets: Sequence[tuple[str, int]] = (("EUR", 2), ("CNY", 2)),
        uetr_window_days: int = 35,
        governance_threshold: int = 1,
        readiness_ms: int = 60_000,
        close_rule: Literal["expire", "roll-over"] | UnsetType = UNSET,
        issuers: dict[str, str] | None = None,
        network: str = "test",
    ) -> World:
        """`keys`: for each bank that has not one key of one: (keys, threshold).

        The first bank issues every asset that has no other in `issuers` (asset code → bank), and
        operates every validator."""
        made: dict[str, Bank] = {}
        for number, (name, roles) in enumerate((banks or BANKS).items()):
            count, threshold = (keys or {}).get(name, (1, 1))
            made[name] = Bank(
                name,
                lei(number),
                f"NOS{chr(65 + number // 26)}DE{chr(65 + number % 26)}X",
                roles,
                [signer(seed, name, each) for each in range(count)],
                threshold,
            )
        first = next(iter(made.values()))
        votes = [signer(seed, "vote", each) for each in range(validators)]
        nodes = [signer(seed, "node", each) for each in range(validators)]
        data = dump_genesis(
            network=network,
            devnet=True,
            time=GENESIS_TIME,
            assets=[
                GenesisAsset(code, exponent, made[(issuers or {}).get(code, first.name)].lei)
                for code, exponent in assets
            ],
            participants=[
                GenesisParticipant(
                    bank.name,
                    bank.lei,
                    bank.bic,
                    bank.roles,
                    bank.threshold,
                    tuple(genesis_key(each, network, bank.lei) for each in bank.signers),
                )
                for bank in made.values()
            ],
            validators=[
                genesis_validator(f"node{index}", first.lei, network=network, vote=vote, node=node)
                for index, (vote, node) in enumerate(zip(votes, nodes, strict=True))
            ],
            parameters=GenesisParameters(
                uetr_window_days, governance_threshold, readiness_ms, close_rule
            ),
        )
        return cls(seed, made, votes, nodes, data, load_genesis(data))

    @property
    def chain_id(self) -> bytes:
        return self.genesis.chain_id

    def lei(self, name: str) -> str:
        """The LEI of a bank's name; any other text as it is."""
        return self.banks[name].lei if name in self.banks else name

    def next_number(self) -> int:
        """A number never given before, for ids and UETRs."""
        self._count += 1
        return self._count

    def payment(
        self,
        debtor: str,
        creditor: str,
        amount: int,
        asset: str = "EUR",
        *,
        uetr: bytes | None = None,
        latest: int | None = None,
    ) -> Payment:
        """A customer payment between two banks, named by name or LEI."""
        return gross_payment(
            _uetr(self.next_number()) if uetr is None else uetr,
            self.lei(debtor),
            self.lei(creditor),
            asset,
            amount,
            payment_class=PaymentClass.CUSTOMER,
            latest=latest,
        )

    def head(
        self, sender: str, id: str | None, valid_until: int | None
    ) -> tuple[bytes, str, str, int]:
        """Chain, sender, id and end of validity: the first arguments of every `build_…`."""
        return (
            self.chain_id,
            self.lei(sender),
            f"i{self.next_number()}" if id is None else id,
            GENESIS_TIME + DAY_MS if valid_until is None else valid_until,
        )

    def _signers(
        self, sender: str, signers: Sequence[Ed25519Signer] | None
    ) -> Sequence[Ed25519Signer]:
        if signers is not None:
            return signers
        bank = self.banks[sender]
        return bank.signers[: bank.threshold]

    def pay(
        self,
        sender: str,
        *payments: Payment,
        id: str | None = None,
        valid_until: int | None = None,
        all_or_none: bool = False,
        signers: Sequence[Ed25519Signer] | None = None,
    ) -> CheckedInstruction:
        """A payment order. By default valid for a day from genesis."""
        raw = build_pay(
            *self.head(sender, id, valid_until),
            payments=payments,
            signers=self._signers(sender, signers),
            all_or_none=all_or_none,
        )
        return check_instruction(raw, self.chain_id)

    def order(
        self,
        sender: str,
        body: InstructionBody,
        *,
        id: str | None = None,
        valid_until: int | None = None,
        signers: Sequence[Ed25519Signer] | None = None,
    ) -> CheckedInstruction:
        """Any instruction but a payment order."""
        head = self.head(sender, id, valid_until)
        raw = build(*head, body, self._signers(sender, signers))
        return check_instruction(raw, self.chain_id)

    def issue(
        self,
        sender: str,
        creditor: str,
        amount: int,
        asset: str = "EUR",
        *,
        uetr: bytes | None = None,
        id: str | None = None,
        valid_until: int | None = None,
    ) -> CheckedInstruction:
        raw = build(
            *self.head(sender, id, valid_until),
            Issue(
                _uetr(self.next_number()) if uetr is None else uetr,
                asset,
                self.lei(creditor),
                amount,
            ),
            self._signers(sender, None),
        )
        return check_instruction(raw, self.chain_id)

    def redeem(
        self,
        sender: str,
        amount: int,
        asset: str = "EUR",
        *,
        uetr: bytes | None = None,
        id: str | None = None,
        valid_until: int | None = None,
    ) -> CheckedInstruction:
        raw = build(
            *self.head(sender, id, valid_until),
            Redeem(_uetr(self.next_number()) if uetr is None else uetr, asset, amount),
            self._signers(sender, None),
        )
        return check_instruction(raw, self.chain_id)

    def register_key(
        self,
        sender: str,
        key: Ed25519Signer,
        *,
        public_key: bytes | None = None,
        possession: bytes | None = None,
        signers: Sequence[Ed25519Signer] | None = None,
        id: str | None = None,
        valid_until: int | None = None,
    ) -> CheckedInstruction:
        raw = build(
            *self.head(sender, id, valid_until),
            RegisterKey(
                key.public_key if public_key is None else public_key,
                prove_possession(key, ROLE_PARTICIPANT, self.lei(sender), self.chain_id)
                if possession is None
                else possession,
            ),
            self._signers(sender, signers),
        )
        return check_instruction(raw, self.chain_id)

    def revoke_key(
        self,
        sender: str,
        public_key: bytes,
        *,
        signers: Sequence[Ed25519Signer] | None = None,
        id: str | None = None,
        valid_until: int | None = None,
    ) -> CheckedInstruction:
        raw = build(
            *self.head(sender, id, valid_until),
            RevokeKey(public_key),
            self._signers(sender, signers),
        )
        return check_instruction(raw, self.chain_id)


_uetr = uetr


@dataclass
class MemoryIndex:
    """`RecentIndex` in memory: what storage holds of final blocks."""

    ids: dict[tuple[str, str], InstructionEntry] = field(default_factory=dict)
    uetrs: dict[bytes, UetrEntry] = field(default_factory=dict)
    outcomes: dict[int, list[bytes]] = field(default_factory=dict)
    """By height."""

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        return self.ids.get((sender, id))

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        return self.uetrs.get(uetr)

    def store(self, applied: Applied) -> None:
        self.ids.update(((e.sender, e.id), e) for e in applied.ids)
        self.uetrs.update((e.uetr, e) for e in applied.uetrs)
        self.outcomes[applied.context.height] = applied.outcomes

    def uetrs_between(self, after: int, through: int) -> Iterator[bytes]:
        for height in range(after + 1, through + 1):
            if height not in self.outcomes:
                raise OutcomesGone(height)
            yield from named_uetrs(self.outcomes[height])


@dataclass
class MadeBlock:
    """A block with all that executing it gave."""

    header: Header
    digest: bytes
    raw: bytes
    instructions: list[CheckedInstruction]
    applied: Applied

    @property
    def state(self) -> State:
        return self.applied.state

    @property
    def outcomes(self) -> list[Outcome]:
        return decode_outcomes(self.applied)


class Chain:
    """A ledger with its genesis, to which a test adds blocks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.index = MemoryIndex()
        self.genesis: GenesisBlock = genesis_state(world.genesis, self.index)
        self.ledger = Ledger.start(self.genesis)
        self.blocks: list[MadeBlock] = []
        """Committed ones, from height 1 on."""
        self.records: dict[bytes, bytes] = {}
        """State key → record, as storage holds them."""
        self.nodes: dict[bytes, bytes] = {}
        """Nodes of the authenticated map by hash, of all heights."""
        self.history: dict[tuple[int, int], bytes] = {}
        self._store(self.genesis.applied)

    @property
    def state(self) -> State:
        return self.ledger.final

    def make(
        self,
        *instructions: CheckedInstruction,
        parent: State | None = None,
        time: int | None = None,
        view: int | None = None,
        proposer: int = 0,
    ) -> MadeBlock:
        """Execute a block on `parent` (the committed state by default) without committing it."""
        parent = parent or self.state
        context = BlockContext(parent.height + 1, time or parent.time + BLOCK_MS)
        applied = self.ledger.apply(parent, context, instructions)
        header = next_header(
            self.world.genesis,
            parent,
            applied,
            instructions,
            view=context.height if view is None else view,
            proposer=proposer,
        )
        applied.seal(header_digest(header))
        raw = encode_block(header, [each.raw for each in instructions])
        return MadeBlock(header, header_digest(header), raw, list(instructions), applied)

    def commit(self, block: MadeBlock) -> MadeBlock:
        """Store the block, then make it the committed one."""
        self._store(block.applied)
        self.ledger.commit(block.state)
        self.blocks.append(block)
        return block

    def block(self, *instructions: CheckedInstruction, time: int | None = None) -> MadeBlock:
        """Make and commit the next block."""
        return self.commit(self.make(*instructions, time=time))

    def fund(self, amount: int = 1_000_000, *names: str, asset: str = "EUR") -> MadeBlock:
        """A block that issues `amount` to BANKA, BANKB and BANKC, or to those named."""
        issuer = next(iter(self.world.banks))
        return self.block(
            *(
                self.world.issue(issuer, name, amount, asset, valid_until=self.state.time + DAY_MS)
                for name in names or ("BANKA", "BANKB", "BANKC")
            )
        )

    def balance(self, name: str, asset: str = "EUR") -> int | None:
        return self.state.balance(self.world.lei(name), asset, AccountKind.SETTLEMENT.value)

    def _store(self, applied: Applied) -> None:
        self.index.store(applied)
        for key, record in applied.records.items():
            if record is None:
                self.records.pop(key, None)
            else:
                self.records[key] = record
        self.nodes.update(applied.nodes)
        self.history.update(applied.history_nodes)


def decode_outcomes(applied: Applied) -> list[Outcome]:
    """A block's outcomes, decoded strictly."""
    return [decode(each, Outcome) for each in applied.outcomes]


def changed_records(block: MadeBlock) -> dict[bytes, bytes | None]:
    """State key → record that a block changed, but for the count of UETRs that outcomes name: that
    of a rejection counts, too."""
    return {
        key: record
        for key, record in block.applied.records.items()
        if not isinstance(decode(key, StateKey), UetrsKey | UetrTreeKey)  # type: ignore[arg-type]
    }
