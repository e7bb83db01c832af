"""A chain in memory, made with the real ledger and real signatures, that serves what a store does.

Its members are plain dicts on purpose: tests reach in and damage them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from msgspec.structs import replace

from consensus.messages import (
    VOTE_DOMAIN,
    Certificate,
    Content,
    Equivocation,
    Kind,
    quorum,
    vote_payload,
)
from node.audit.epochs import leader
from node.chain.block import encode_block, header_digest, inspect_block
from node.chain.build import (
    build,
    build_pay,
)
from node.chain.genesis import Genesis
from node.chain.instruction import check_instruction
from node.chain.merkle import EMPTY_ROOT
from node.chain.named import named_uetrs
from node.chain.signature import Ed25519Signer, prove_possession
from node.chain.types import Header, Issue, Redeem, RegisterKey, RevokeKey, ValidatorSet
from node.ledger.about import about
from node.ledger.entries import InstructionEntry, JoinedEntry, UetrEntry
from node.ledger.genesis import genesis_state
from node.ledger.ledger import Ledger
from node.ledger.state import State
from node.ledger.work import Applied, BlockContext
from tests.support import world
from tests.support.headers import next_header
from tests.support.world import BANKA, BANKB, BANKC, CENTRALBANK, CNY, EUR

STEP_MS = 500
VALID_UNTIL = world.GENESIS_TIME + 3_600_000


def finalization(
    block: bytes,
    *,
    view: int,
    parent_view: int,
    signers: Sequence[int] | None = None,
    epoch: int = 0,
    kind: Kind = Kind.FINALIZE,
    chain_id: bytes | None = None,
    validators: int = 4,
) -> Certificate:
    """A certificate with real signatures, by a quorum unless told otherwise."""
    content = Content(parent_view, block)
    payload = vote_payload(epoch, view, kind, content)
    chosen = range(quorum(validators)) if signers is None else signers
    chain = world.genesis(validators).chain_id if chain_id is None else chain_id
    return Certificate(
        epoch,
        view,
        kind,
        content,
        tuple((i, world.vote_signer(i).sign(VOTE_DOMAIN, chain, payload)) for i in chosen),
    )


@dataclass(frozen=True)
class Sealed:
    """How an epoch ended."""

    height: int
    carriers: tuple[bytes, ...]
    finalization: Certificate


@dataclass
class SmallChain:
    """Grows by `add`; implements the audit's sources and the ledger's `RecentIndex`."""

    genesis: Genesis = field(default_factory=world.genesis)
    blocks: dict[int, bytes] = field(default_factory=dict)
    stored_outcomes: dict[int, list[bytes]] = field(default_factory=dict)
    finalizations: dict[int, Certificate] = field(default_factory=dict)
    """By height; of a sealing block, or of its last carrier."""
    passed: dict[tuple[int, int, Kind], Certificate] = field(default_factory=dict)
    """Notarizations and nullifications, by epoch, view and kind."""
    seals: dict[int, Sealed] = field(default_factory=dict)
    applied: dict[int, Applied] = field(default_factory=dict)
    witnessed: list[Equivocation] = field(default_factory=list)
    voters: dict[bytes, Ed25519Signer] = field(default_factory=dict)
    """Vote keys by public key."""
    nodes: dict[bytes, bytes] = field(default_factory=dict)
    history: dict[tuple[int, int], bytes] = field(default_factory=dict)
    records: dict[bytes, bytes] = field(default_factory=dict)
    ids: dict[tuple[str, str], InstructionEntry] = field(default_factory=dict)
    uetrs: dict[bytes, UetrEntry] = field(default_factory=dict)
    changes: list[tuple[bytes, int, int]] = field(default_factory=list)
    """(UETR, height, index) of outcomes of payments that have several."""
    spoken: list[tuple[bytes, int, int]] = field(default_factory=list)
    """(UETR, height, index) of accepted instructions about payments of others."""

    def __post_init__(self) -> None:
        start = genesis_state(self.genesis, self)
        self.ledger = Ledger.start(start)
        self.tip = start.header
        self._store(start.header, (), start.applied)
        for index in range(len(self.genesis.validator_set.validators)):
            self.know(world.vote_signer(index))

    def know(self, voter: Ed25519Signer) -> None:
        """A key that votes once it is in the validator set."""
        self.voters[voter.public_key] = voter

    # --- growing ------------------------------------------------------------------------------

    def add(
        self,
        *instructions: bytes,
        final: bool = True,
        skip_views: int = 0,
        carriers: int = 0,
        signers: Sequence[int] | None = None,
        after_ms: int = STEP_MS,
    ) -> Header:
        """Execute a block with these instructions and store it. If it ends its epoch, so many
        carriers follow it before it is final. `signers`: of its certificates, else a quorum."""
        parent = self.ledger.final
        validators = parent.validator_set
        checked = [check_instruction(raw, self.genesis.chain_id) for raw in instructions]
        height, time = parent.height + 1, parent.time + after_ms
        below = self.tip.view if self.tip.epoch == validators.epoch else 0
        view = below + 1 + skip_views
        applied = self.ledger.apply(parent, BlockContext(height, time), checked)
        header = next_header(
            self.genesis,
            parent,
            applied,
            checked,
            view=view,
            proposer=leader(validators, view),
        )
        applied.seal(header_digest(header))
        for skipped in range(below + 1, view):
            self._pass(validators, skipped, Kind.NULLIFY, None, signers)
        content = Content(below, header_digest(header))
        self._pass(validators, view, Kind.NOTARIZE, content, signers)
        if applied.next_validators is not None:
            self._seal(validators, header, content, carriers, signers)
        elif final:
            certificate = self.certificate(validators, view, Kind.FINALIZE, content, signers)
            self.finalizations[height] = certificate
        self._store(header, instructions, applied)
        self.spoken += [(uetr, height, at) for uetr, at in about(checked, applied.outcomes)]
        self.ledger.commit(applied.state)
        self.tip = header
        return header

    def _seal(
        self,
        validators: ValidatorSet,
        seal: Header,
        content: Content,
        carriers: int,
        signers: Sequence[int] | None,
    ) -> None:
        tip, raws = seal, []
        for _ in range(carriers):
            view, content = tip.view + 1, Content(tip.view, b"")
            tip = replace(
                seal,
                view=view,
                parent=header_digest(tip),
                proposer=leader(validators, view),
                instructions_count=0,
                instructions_root=EMPTY_ROOT,
                outcomes_count=0,
                outcomes_root=EMPTY_ROOT,
            )
            content = replace(content, block=header_digest(tip))
            self._pass(validators, view, Kind.NOTARIZE, content, signers)
            raws.append(encode_block(tip, ()))
        certificate = self.certificate(validators, tip.view, Kind.FINALIZE, content, signers)
        self.finalizations[seal.height] = certificate
        self.seals[seal.epoch] = Sealed(seal.height, tuple(raws), certificate)

    def _pass(
        self,
        validators: ValidatorSet,
        view: int,
        kind: Kind,
        content: Content | None,
        signers: Sequence[int] | None,
    ) -> None:
        certificate = self.certificate(validators, view, kind, content, signers)
        self.passed[validators.epoch, view, kind] = certificate

    def certificate(
        self,
        validators: ValidatorSet,
        view: int,
        kind: Kind,
        content: Content | None,
        signers: Sequence[int] | None = None,
    ) -> Certificate:
        """A certificate by a quorum of the set, or by these of its members."""
        members = validators.validators
        payload = vote_payload(validators.epoch, view, kind, content)
        chosen = range(quorum(len(members))) if signers is None else signers
        chain_id = self.genesis.chain_id
        return Certificate(
            validators.epoch,
            view,
            kind,
            content,
            tuple(
                (i, self.voters[members[i].vote_key].sign(VOTE_DOMAIN, chain_id, payload))
                for i in chosen
            ),
        )

    def _store(self, header: Header, instructions: Sequence[bytes], applied: Applied) -> None:
        height = header.height
        self.applied[height] = applied
        self.blocks[height] = encode_block(header, instructions)
        self.stored_outcomes[height] = list(applied.outcomes)
        self.nodes.update(applied.nodes)
        self.history.update(applied.history_nodes)
        for key, record in applied.records.items():
            if record is None:
                self.records.pop(key, None)
            else:
                self.records[key] = record
        self.ids.update({(entry.sender, entry.id): entry for entry in applied.ids})
        self.uetrs.update({entry.uetr: entry for entry in applied.uetrs})
        self.changes += [(uetr, height, index) for uetr, index in applied.changes]

    @property
    def state(self) -> State:
        return self.ledger.final

    # --- reading, as `ChainStore` has it --------------------------------------------------------

    def height(self) -> int | None:
        return max(self.blocks, default=None)

    def block(self, height: int) -> bytes | None:
        return self.blocks.get(height)

    def header(self, height: int) -> Header | None:
        raw = self.blocks.get(height)
        return None if raw is None else inspect_block(raw).header

    def outcomes(self, height: int) -> list[bytes] | None:
        return self.stored_outcomes.get(height)

    def finalization(self, height: int) -> Certificate | None:
        return self.finalizations.get(height)

    def finalization_at_or_above(self, height: int) -> tuple[int, Certificate] | None:
        at = min((h for h in self.finalizations if h >= height), default=None)
        return None if at is None else (at, self.finalizations[at])

    def seal(self, epoch: int) -> Sealed | None:
        return self.seals.get(epoch)

    def epoch(self) -> int:
        return self.state.validator_set.epoch

    def certificates(self, epoch: int, first_view: int, last_view: int) -> list[Certificate]:
        return [
            each
            for (of, view, _), each in sorted(self.passed.items())
            if of == epoch and first_view <= view <= last_view
        ]

    def evidence(self) -> list[Equivocation]:
        return list(self.witnessed)

    def state_record(self, key: bytes) -> bytes | None:
        return self.records.get(key)

    def state_node(self, hash: bytes) -> bytes | None:
        return self.nodes.get(hash)

    def history_node(self, level: int, index: int) -> bytes | None:
        return self.history.get((level, index))

    def state_records(self) -> Iterator[tuple[bytes, bytes]]:
        yield from sorted(self.records.items())

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        return self.ids.get((sender, id))

    def uetr(self, uetr: bytes) -> UetrEntry | None:
        return self.uetrs.get(uetr)

    def uetrs_between(self, after: int, through: int) -> Iterator[bytes]:
        for height in range(after + 1, through + 1):
            yield from named_uetrs(self.stored_outcomes[height])

    def outcomes_of(self, uetr: bytes, first: int) -> Iterator[tuple[int, int]]:
        return ((at, index) for of, at, index in self.changes if of == uetr and at >= first)

    def about(self, uetr: bytes, first: int) -> Iterator[tuple[int, int]]:
        return ((at, index) for of, at, index in self.spoken if of == uetr and at >= first)

    def joined(self, asset: str, cycle: int) -> Iterator[JoinedEntry]:
        each = (entry for applied in self.applied.values() for entry in applied.joined)
        return (entry for entry in each if (entry.asset, entry.cycle) == (asset, cycle))

    def joined_leaves(self, asset: str, cycle: int) -> Iterator[bytes]:
        return (entry.leaf for entry in self.joined(asset, cycle))

    def cycle_closed(self, asset: str, cycle: int) -> tuple[int, int] | None:
        for applied in self.applied.values():
            for entry in applied.closed:
                if (entry.asset, entry.cycle) == (asset, cycle):
                    return entry.height, entry.outcome
        return None


def issue(chain: SmallChain, number: int, *, asset: str = EUR, amount: int = 10**9) -> bytes:
    return build(
        chain.genesis.chain_id,
        CENTRALBANK.lei,
        f"ISSUE-{number}",
        VALID_UNTIL,
        Issue(world.uetr(number), asset, BANKA.lei, amount),
        [CENTRALBANK.key],
    )


def pay(chain: SmallChain, id: str, *numbers: int, amount: int = 125_000) -> bytes:
    """A batch of payments from BANKA to BANKB whose UETRs belong to the numbers."""
    return build_pay(
        chain.genesis.chain_id,
        BANKA.lei,
        id,
        VALID_UNTIL,
        payments=[world.payment(number, amount=amount) for number in numbers],
        signers=[BANKA.key],
    )


@cache
def sample() -> SmallChain:
    """Six blocks with all that happens to money and keys. Shared: copy it before damaging it.

    Blocks 2 and 3 have no certificate of their own.
    """
    chain = SmallChain()
    chain_id = chain.genesis.chain_id
    second = world.signer("second key")
    chain.add(issue(chain, 1000), issue(chain, 1001, asset=CNY))
    chain.add(
        pay(chain, "E2E-1", *range(7)),
        pay(chain, "E2E-2", 10, amount=0),  # of nothing: rejected
        pay(chain, "E2E-3", 11),
        final=False,
    )
    chain.add(final=False, skip_views=2)
    chain.add(
        build(
            chain_id,
            BANKA.lei,
            "KEY-1",
            VALID_UNTIL,
            RegisterKey(
                second.public_key, prove_possession(second, "participant", BANKA.lei, chain_id)
            ),
            [BANKA.key],
        ),
        pay(chain, "E2E-4", 11, 20),  # 11 is a retry
    )
    chain.add(
        build_pay(
            chain_id,
            BANKA.lei,
            "E2E-5",
            VALID_UNTIL,
            payments=[world.payment(30, creditor=BANKC, asset=CNY, amount=1)],
            signers=[BANKA.key, second],
        ),
        build(chain_id, BANKA.lei, "KEY-2", VALID_UNTIL, RevokeKey(second.public_key), [BANKA.key]),
        issue(chain, 1002, amount=500),
    )
    chain.add(
        build_pay(
            chain_id,
            BANKB.lei,
            "E2E-6",
            VALID_UNTIL,
            payments=[world.payment(40, debtor=BANKB, creditor=CENTRALBANK, amount=700)],
            signers=[BANKB.key],
        ),
        build(
            chain_id,
            CENTRALBANK.lei,
            "REDEEM-1",
            VALID_UNTIL,
            Redeem(world.uetr(1003), EUR, 600),
            [CENTRALBANK.key],
        ),
    )
    return chain
