"""Blocks on the ledger: looks into them, executes them, builds them, hands them to storage.

The consensus core decides *which* block; this decides what a block *does*. Every executed block
that may still become final has its own state, a child of its parent's, so competing blocks never
see each other. Nothing is cached as a verdict across a restart: blocks above the floor are
executed again.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from consensus.interface import BlockInfo, BodyMismatch, Build, Commit, Floor
from consensus.messages import (
    Certificate,
    Digest,
    Epoch,
    Height,
    Milliseconds,
    ValidatorIndex,
    View,
)
from node.chain import block as block_bytes
from node.chain.block import (
    SUPPORTED_RULES,
    carrier_header,
    check_body,
    encode_block,
    header_digest,
    inspect_block,
    instructions_root,
    seals,
    validator_set_digest,
)
from node.chain.genesis import Genesis
from node.chain.instruction import (
    CheckedInstruction,
    InstructionRefused,
    ParsedInstruction,
    check_parsed,
    parse_instruction,
)
from node.chain.types import MAX_VALIDITY_MS, Header, ValidatorSet
from node.engine.mempool import Mempool, PoolRefused
from node.ledger.about import about
from node.ledger.apply import Applied, BadBlock, BlockContext
from node.ledger.check import ALREADY_EXECUTED, UNKNOWN_SENDER, NotAdmissible
from node.ledger.ledger import Ledger
from node.ledger.propose import TOO_LARGE
from node.ledger.rules import UnknownRules
from node.ledger.state import State
from node.storage.chain_store import CommittedBlock

MAX_BLOCK_BYTES = 4 * 1024 * 1024
"""Instructions in one block, bytes: at least one of the largest, and what `Timing.max_unfinalized`
such blocks hold together must fit one sync answer."""
MAX_BLOCK_PAYMENTS = 20_000
"""Payments in one block, or what takes as long (`node.ledger.weight`): bounds execution, which the
timers of consensus must cover."""
MAX_REMEMBERED = 16
"""Decoded blocks kept between being looked into and being final."""


@dataclass(slots=True)
class _Executed:
    """A block with its state, not yet in the database."""

    info: BlockInfo
    raw: bytes
    instructions: Sequence[CheckedInstruction]
    applied: Applied


@dataclass(slots=True)
class CommitPlan:
    """What one durable step stores, and what is told afterwards."""

    blocks: list[CommittedBlock]
    floor: Floor
    certificates: list[Certificate]
    instructions: list[CheckedInstruction]
    time: int
    states: list[State]
    forgotten: list[bytes] = field(default_factory=list)
    """Digests of instructions that were kept durably and need not be any longer."""


class Executor:
    """The application under the core. Implements `consensus.interface.BlockCodec`."""

    def __init__(
        self,
        genesis: Genesis,
        state: State,
        pool: Mempool,
        rules: Sequence[int] = SUPPORTED_RULES,
    ) -> None:
        """`rules`: the versions that this node executes blocks by."""
        self._rules = tuple(rules)
        self._ledger = Ledger(state)
        self._genesis = genesis
        self._pool = pool
        self._set_digest = (state.validator_set, validator_set_digest(state.validator_set))
        """The last validator set that was looked at, and its digest."""
        self._executed: dict[bytes, _Executed] = {}
        self._carriers: dict[bytes, Header] = {}
        """By digest: the carriers of executed sealing blocks, with the header of what they carry.
        They have no state of their own and are never committed."""
        self._due: tuple[State, int | None] | None = None
        """The state that was last asked for what is due after it, and the answer."""
        self._decoded: OrderedDict[bytes, tuple[Header, list[ParsedInstruction]]] = OrderedDict()

    @property
    def final_state(self) -> State:
        """State at the last block that the database holds."""
        return self._ledger.final

    def next_due(self) -> int | None:
        """Block time (ms) at which the ledger has something to do after the highest block executed
        here, whether or not an instruction waits; None: never, as things are."""
        highest = max(
            self._executed.values(), key=lambda e: (e.info.height, e.info.view), default=None
        )
        state = self.final_state if highest is None else highest.applied.state
        if self._due is None or self._due[0] is not state:
            self._due = (state, state.next_due())
        return self._due[1]

    def may_stand(self, parsed: ParsedInstruction, time: int) -> None:
        """Raise NotAdmissible unless the instruction may stand in the next block, were its time
        `time` (milliseconds).

        One that was executed is refused as that, whatever else has become of it: who sends a
        settled payment again after its `valid_until` must not be told that it was never taken in.
        """
        try:
            self._ledger.check(parsed, time)
        except NotAdmissible as refusal:
            if refusal.code in (ALREADY_EXECUTED, UNKNOWN_SENDER):
                raise
            envelope = parsed.instruction.envelope
            executed = self.final_state.instruction(envelope.sender, envelope.id)
            if executed is None or executed.digest != parsed.digest:
                raise
            raise NotAdmissible(
                ALREADY_EXECUTED, f"it was executed in block {executed.height}", executed
            ) from refusal

    def is_hopeless(self, parsed: ParsedInstruction) -> bool:
        """Whether the final state alone rules that the instruction can stand in no later block.

        Judged by block time: a node whose own clock is wrong must not forget, for good, what it
        gave a receipt for."""
        valid_until = parsed.instruction.envelope.valid_until
        time = max(self.final_state.time + 1, valid_until - MAX_VALIDITY_MS)
        try:
            self._ledger.check(parsed, time)
        except NotAdmissible:
            return True
        return False

    # --- looking into blocks -----------------------------------------------------------------

    def inspect(self, block: bytes) -> BlockInfo:
        """Header fields of a block whose body matches its header. Raises BodyMismatch."""
        header, _ = self._decode(block)
        return block_info(header)

    def _decode(self, block: bytes) -> tuple[Header, list[ParsedInstruction]]:
        known = self._decoded.get(block)
        if known is not None:
            return known
        try:
            outer = inspect_block(block)
            parsed = [
                self._pool.checked(raw) or parse_instruction(raw) for raw in outer.instructions
            ]
            check_body(outer.header, parsed)
        except (block_bytes.BodyMismatch, InstructionRefused) as error:
            raise BodyMismatch(str(error)) from error
        entry = (outer.header, parsed)
        self._decoded[block] = entry
        if len(self._decoded) > MAX_REMEMBERED:
            self._decoded.popitem(last=False)
        return entry

    # --- executing ---------------------------------------------------------------------------

    def execute(self, info: BlockInfo, block: bytes) -> str | None:
        """Execute a block on its executed parent; None if it is good, else what is wrong.

        Raises UnknownRules where it is to be executed by rules that this node does not know: it can
        neither be called good nor bad here."""
        if info.digest in self._executed:
            return None
        header, parsed = self._decode(block)
        seal = self._sealing(info.parent)
        if seal is not None:
            return self._execute_carrier(info, header, seal)
        if sum(len(p.raw) for p in parsed) > MAX_BLOCK_BYTES:
            return f"its instructions have over {MAX_BLOCK_BYTES} bytes"
        if sum(max(1, len(p.payment_digests)) for p in parsed) > MAX_BLOCK_PAYMENTS:
            return f"it has over {MAX_BLOCK_PAYMENTS} payments"
        checked = []
        for index, instruction in enumerate(parsed):
            try:
                checked.append(self._check(instruction, info))
            except InstructionRefused as error:
                return f"instruction {index} may not stand: {error}"
        parent = self._state(info.parent)
        if parent is None:
            # The core asks for parents first, so this is a block beside the final chain.
            return f"its parent {info.parent.hex()} does not extend the final chain"
        self._require_known_rules(parent)
        wrong = self._wrong_field(header, parent)
        if wrong:
            return wrong
        try:
            applied = self._ledger.verify(parent, header, checked, MAX_BLOCK_PAYMENTS)
        except BadBlock as error:
            return str(error)
        wrong = self._wrong_successor(header, applied)
        if wrong:
            return wrong
        self._executed[info.digest] = _Executed(info, block, checked, applied)
        return None

    def _sealing(self, parent: bytes) -> Header | None:
        """The header of the sealing block that a child of `parent` would be a carrier of."""
        seal = self._carriers.get(parent)
        if seal is None and parent in self._executed and self._executed[parent].info.seals:
            seal = self._decode(self._executed[parent].raw)[0]
        return seal

    def _execute_carrier(self, info: BlockInfo, header: Header, seal: Header) -> str | None:
        expected = carrier_header(
            seal, view=header.view, proposer=header.proposer, parent=header.parent
        )
        if header != expected:
            field = next(
                name
                for name in Header.__struct_fields__
                if getattr(header, name) != getattr(expected, name)
            )
            return f"{field}: not what a carrier of block {seal.height} has"
        self._carriers[info.digest] = seal
        return None

    def _check(self, parsed: ParsedInstruction, info: BlockInfo) -> CheckedInstruction:
        """Signatures are verified once a node: what the pool holds has passed; what a block
        brings goes there, so that its later push costs nothing and a failed block loses nothing.

        Only what the final state admits goes there: a bad leader's block must not fill the pool
        with instructions of senders and keys that nobody knows."""
        if isinstance(parsed, CheckedInstruction):
            return parsed
        checked = self._pool.checked(parsed.raw)
        if checked is None:
            checked = check_parsed(parsed, self._genesis.chain_id)
            with contextlib.suppress(NotAdmissible, PoolRefused):
                self._ledger.check(checked, info.timestamp)
                self._pool.add(checked, view=info.view, local=False)
        return checked

    def build(
        self, request: Build, candidates: Iterable[CheckedInstruction]
    ) -> tuple[bytes, list[bytes], list[bytes]]:
        """A block for the leader: its bytes, the digests that stand in it or in one below it that
        is not final, and those that can never stand. Raises UnknownRules."""
        seal = self._sealing(request.parent.digest)
        if seal is not None:
            header = carrier_header(
                seal, view=request.view, proposer=request.proposer, parent=request.parent.digest
            )
            self._carriers[header_digest(header)] = seal
            return encode_block(header, ()), [], []
        parent = self._state(request.parent.digest)
        assert parent is not None, "the core builds on executed blocks only"
        self._require_known_rules(parent)
        context = BlockContext(request.parent.height + 1, request.timestamp)
        chosen, applied, dropped = self._ledger.propose(
            parent, context, candidates, MAX_BLOCK_BYTES, MAX_BLOCK_PAYMENTS
        )
        header = Header(
            version=parent.rules_version,
            chain_id=self._genesis.chain_id,
            epoch=request.epoch,
            view=request.view,
            height=context.height,
            parent=parent.digest,
            timestamp=context.time,
            proposer=request.proposer,
            instructions_count=len(chosen),
            instructions_root=instructions_root(chosen),
            outcomes_count=len(applied.outcomes),
            outcomes_root=applied.outcomes_root,
            state_root=applied.state_root,
            history_root=applied.history_root,
            validator_set=self._digest_of(parent.validator_set),
            next_validator_set=self._digest_of(applied.next_validators or parent.validator_set),
        )
        info = block_info(header)
        applied.seal(info.digest)
        raw = encode_block(header, (c.raw for c in chosen))
        self._decoded[raw] = (header, list(chosen))
        self._executed[info.digest] = _Executed(info, raw, chosen, applied)
        standing, never = [c.digest for c in chosen], []
        for candidate, refusal in dropped:
            # Only the final state can say "never": a block below this one, in which the candidate
            # stands, may be abandoned, and who forgot the candidate would have lost it, receipt or
            # not.
            if refusal.code == TOO_LARGE or self.is_hopeless(candidate):
                never.append(candidate.digest)
            elif refusal.code == ALREADY_EXECUTED:
                standing.append(candidate.digest)
        return raw, standing, never

    def require_known_rules(self) -> None:
        """Raise UnknownRules unless this node can execute the block after the final one."""
        self._require_known_rules(self.final_state)

    def _require_known_rules(self, parent: State) -> None:
        if parent.rules_version not in self._rules:
            raise UnknownRules(parent.rules_version, parent.height + 1, self._rules)

    def _state(self, digest: bytes) -> State | None:
        if digest == self.final_state.digest:
            return self.final_state
        executed = self._executed.get(digest)
        return None if executed is None else executed.applied.state

    def _digest_of(self, validators: ValidatorSet) -> bytes:
        """A set's digest; most blocks ask for that of the set before."""
        if self._set_digest[0] is not validators:
            self._set_digest = (validators, validator_set_digest(validators))
        return self._set_digest[1]

    def _wrong_field(self, header: Header, parent: State) -> str:
        """The first field, of those that are neither the ledger's nor the core's to compare, that
        is not what this node expects of a child of `parent`; '' if none."""
        return _first_wrong(
            header,
            ("version", parent.rules_version),
            ("chain_id", self._genesis.chain_id),
            ("epoch", parent.validator_set.epoch),
            ("validator_set", self._digest_of(parent.validator_set)),
        )

    def _wrong_successor(self, header: Header, applied: Applied) -> str:
        """Whether the header names another next validator set than executing the block gives."""
        if applied.next_validators is None:
            return _first_wrong(header, ("next_validator_set", header.validator_set))
        # Not through the cache: most blocks follow with the present set.
        expected = validator_set_digest(applied.next_validators)
        return _first_wrong(header, ("next_validator_set", expected))

    def instruction_digests(self, block: bytes) -> list[bytes]:
        """Envelope digests in an executed block; a carrier has none."""
        if block in self._carriers:
            return []
        return [c.digest for c in self._executed[block].instructions]

    def unfinalized_instructions(self) -> list[bytes]:
        """Envelope digests in all executed blocks that may still become final."""
        return [c.digest for e in self._executed.values() for c in e.instructions]

    # --- committing --------------------------------------------------------------------------

    def plan(self, commits: Sequence[Commit]) -> CommitPlan:
        """One durable step for these commits, in order."""
        executed = [self._executed[info.digest] for c in commits for info in c.blocks]
        for each in executed:
            each.applied.state.prepare()
        finalized = {c.blocks[-1].digest: c.finalization for c in commits}
        last = executed[-1]
        return CommitPlan(
            blocks=[
                CommittedBlock(
                    info=e.info,
                    raw=e.raw,
                    outcomes=e.applied.outcomes,
                    records=e.applied.records,
                    nodes=e.applied.nodes,
                    history_nodes=e.applied.history_nodes,
                    ids=e.applied.ids,
                    uetrs=e.applied.uetrs,
                    changes=e.applied.changes,
                    following=e.applied.following,
                    about=about(e.instructions, e.applied.outcomes),
                    joined=e.applied.joined,
                    closed=e.applied.closed,
                    finalization=finalized.get(e.info.digest),
                )
                for e in executed
            ],
            floor=Floor(last.info, commits[-1].finalization, commits[-1].carriers),
            certificates=[each for c in commits for each in c.certificates],
            instructions=[c for e in executed for c in e.instructions],
            time=last.info.timestamp,
            states=[e.applied.state for e in executed],
        )

    def committed(self, plan: CommitPlan) -> None:
        """The database answers for these blocks now: let go of what they kept in memory."""
        for state in plan.states:
            self._ledger.commit(state)
        living = {self.final_state.digest}
        kept: dict[bytes, _Executed] = {}
        for digest, executed in sorted(self._executed.items(), key=_height):
            # A sibling of a final block can never be final: it and what extends it go.
            if executed.info.height > self.final_state.height and executed.info.parent in living:
                living.add(digest)
                kept[digest] = executed
        self._executed = kept
        self._carriers = {
            digest: seal
            for digest, seal in self._carriers.items()
            if header_digest(seal) in living and seal.height > self.final_state.height
        }
        height = self.final_state.height
        for raw in [raw for raw, (header, _) in self._decoded.items() if header.height <= height]:
            del self._decoded[raw]


def _height(item: tuple[bytes, _Executed]) -> int:
    return item[1].info.height


def block_info(header: Header) -> BlockInfo:
    """What the consensus core reads from a header."""
    return BlockInfo(
        digest=Digest(header_digest(header)),
        parent=Digest(header.parent),
        epoch=Epoch(header.epoch),
        view=View(header.view),
        height=Height(header.height),
        timestamp=Milliseconds(header.timestamp),
        proposer=ValidatorIndex(header.proposer),
        seals=seals(header),
    )


def _first_wrong(header: Header, *expectations: tuple[str, int | bytes]) -> str:
    for name, expected in expectations:
        found = getattr(header, name)
        if found != expected:
            return f"{name}: {_text(found)}, expected {_text(expected)}"
    return ""


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
