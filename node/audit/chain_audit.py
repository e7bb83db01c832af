"""Audit of a whole chain: replay it from genesis and believe nothing that is stored.

Every block is executed again by the ledger and entered in a second bookkeeping (`books`). Every
signature, root, balance and certificate is recomputed or checked, every stored outcome compared.
The first height at which something differs is named with field, expected and found; what comes
after rests on it and is not looked at.

Blocks are read one by one; ids and UETRs are kept on disk, accounts in memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from consensus.messages import Equivocation
from node.audit.accountability import check_equivocation
from node.audit.books import Books, BooksDisagree
from node.audit.chain_certificates import CertificateSource, ChainCertificates
from node.audit.epochs import leader
from node.audit.fault import Fault, shown
from node.audit.recent import ReplayIndex
from node.audit.report import EXIT_CODES, INVALID, UNDECIDED, VALID
from node.chain.block import (
    BodyMismatch,
    InspectedBlock,
    encode_block,
    header_digest,
    inspect_block,
    parse_body,
    validator_set_digest,
)
from node.chain.genesis import BadGenesis, Genesis, load_genesis
from node.chain.instruction import CheckedInstruction, InstructionRefused, check_parsed
from node.chain.signature import UnsafeLibsodium, self_check
from node.chain.state_map import StateMap
from node.chain.types import Header, ValidatorSet
from node.ledger.apply import BadBlock
from node.ledger.genesis import genesis_state
from node.ledger.ledger import Ledger
from node.ledger.rules import UnknownRules
from node.ledger.state import ConservationBroken, State, recount
from node.ledger.work import Applied


class ChainSource(CertificateSource, Protocol):
    """What is read of a chain; `node.storage.chain_store.ChainStore` has all of it."""

    def height(self) -> int | None:
        """Height of the last final block."""

    def block(self, height: int) -> bytes | None:
        """The exact bytes of a block."""

    def outcomes(self, height: int) -> list[bytes] | None:
        """Canonical bytes of a block's outcomes, in tree order."""

    def evidence(self) -> list[Equivocation]:
        """The equivocations that the node has seen itself."""

    def state_records(self) -> Iterable[tuple[bytes, bytes]]:
        """(state key, record) at the last final block."""


class Finding(NamedTuple):
    """The first thing that is not as it must be."""

    height: int
    where: str
    """The field."""
    expected: str
    found: str

    def __str__(self) -> str:
        return f"block {self.height}, {self.where}: expected {self.expected}, found {self.found}"


@dataclass
class AuditReport:
    """What an audit saw."""

    height: int = -1
    """The last height that is sound."""
    digest: bytes = b""
    """Of its header."""
    instructions: int = 0
    payments: int = 0
    """Outcomes: payments, and instructions without payments."""
    signatures: int = 0
    """Of senders and of validators, verified."""
    certificates: int = 0
    """Finalizations, and the notarizations and nullifications that are stored with them."""
    epochs: int = 1
    """Begun; all but the last one ended."""
    equivocations: int = 0
    """Proven against validators, on the ledger or seen by the node itself."""
    totals: dict[str, int] = field(default_factory=dict)
    """Sum of all balances = issued − redeemed, minor units, by asset."""
    finding: Finding | None = None
    undecided: str | None = None
    """Why the audit could not be done, if it could not."""

    @property
    def verdict(self) -> str:
        if self.finding is not None:
            return INVALID
        return VALID if self.undecided is None else UNDECIDED

    @property
    def exit_code(self) -> int:
        """0 VALID, 1 INVALID, 2 UNDECIDED."""
        return EXIT_CODES[self.verdict]

    def text(self) -> str:
        """For people; the last line is the verdict."""
        lines = []
        if self.height >= 0:
            lines = [
                f"replayed to height {self.height}, block {self.digest.hex()}",
                f"{self.instructions:,} instructions, {self.payments:,} outcomes, "
                f"{self.signatures:,} signatures, {self.certificates:,} certificates, "
                f"{self.epochs:,} epoch(s), {self.equivocations:,} equivocation(s) proven",
                *(
                    f"{asset}: {total:,} minor units = issued − redeemed = sum of balances"
                    for asset, total in sorted(self.totals.items())
                ),
            ]
        if self.finding is not None:
            lines.append(f"FAIL  {self.finding}")
        if self.undecided is not None:
            lines.append(f"NOTE  {self.undecided}")
        return "\n".join([*lines, self.verdict]) + "\n"


class _Stop(Exception):
    """Carries the finding out of the replay."""

    def __init__(self, height: int, where: str, expected: object, found: object) -> None:
        self.finding = Finding(height, where, shown(expected), shown(found))
        super().__init__(str(self.finding))


Progress = Callable[[AuditReport, int], None]
"""progress(report so far, last height of the chain), after each block."""


class Replayed(NamedTuple):
    """A block that was found sound, as the replay executed it."""

    header: Header
    digest: bytes
    """Of the header."""
    instructions: Sequence[CheckedInstruction]
    applied: Applied
    """Its state is the last committed one: it may be read until the next block."""


Watcher = Callable[[Replayed], None]
"""Is shown every block after genesis, in order. What comes after may still turn out bad: nothing
made of them is good before the audit says VALID."""


def audit_chain(
    source: ChainSource,
    genesis_file: bytes,
    progress: Progress | None = None,
    watch: Watcher | None = None,
) -> AuditReport:
    """Replay the chain from genesis. Errors of the source itself (a damaged database), and those
    that `watch` raises, pass through."""
    report = AuditReport()
    try:
        self_check()
        genesis = load_genesis(genesis_file)
    except (UnsafeLibsodium, BadGenesis) as error:
        report.undecided = f"nothing can be checked: {error}"
        return report
    tip = source.height()
    if tip is None:
        report.undecided = "the store holds no chain"
        return report
    index = ReplayIndex()
    try:
        _Replay(source, genesis, index, report).run(tip, progress, watch)
    except _Stop as stop:
        report.finding = stop.finding
    except UnknownRules as error:
        report.undecided = str(error)
    except sqlite3.Error as error:
        report.undecided = f"the replay's own index on disk failed: {error}; is the disk full?"
    finally:
        index.close()
    return report


class _Replay:
    """One audit in progress."""

    def __init__(
        self, source: ChainSource, genesis: Genesis, index: ReplayIndex, report: AuditReport
    ) -> None:
        self._source = source
        self._genesis = genesis
        self._index = index
        self._report = report
        self._books = Books()
        self._certificates = ChainCertificates(source, genesis.chain_id)
        self._set_digest = (
            genesis.validator_set,
            validator_set_digest(genesis.validator_set),
        )

    def run(self, tip: int, progress: Progress | None, watch: Watcher | None) -> None:
        header = self._start()
        certified = 0
        for height in range(1, tip + 1):
            block = self._read(height)
            validators = self._ledger.final.validator_set
            self._check_header(block.header, header, validators)
            applied, checked = self._execute(block)
            self._check_successor(block.header, applied)
            self._compare_outcomes(height, applied)
            self._enter(height, checked, applied)
            if self._check_certificates(block.header, header, validators):
                certified = height
            header = block.header
            self._count(block, checked, applied)
            if watch is not None:
                watch(Replayed(header, block.digest, checked, applied))
            if progress is not None:
                progress(self._report, tip)
        if certified != tip:
            raise _Stop(tip, "certificate", "a finalization of the last block", "none")
        self._compare_end(tip, header)

    def _start(self) -> Header:
        try:
            start = genesis_state(self._genesis, self._index)
        except BadGenesis as error:
            raise _Stop(0, "genesis file", "a valid one", error) from error
        expected = encode_block(start.header, ())
        found = self._source.block(0)
        if found != expected:
            raise _Stop(
                0,
                "block",
                f"the genesis block of chain {self._genesis.chain_id.hex()}",
                "none" if found is None else "another chain's, or a damaged one",
            )
        self._ledger = Ledger.start(start)
        self._report.height = 0
        self._report.digest = header_digest(start.header)
        return start.header

    def _read(self, height: int) -> InspectedBlock:
        raw = self._source.block(height)
        if raw is None:
            raise _Stop(height, "block", "its bytes", "none")
        try:
            return inspect_block(raw)
        except BodyMismatch as error:
            raise _Stop(height, "block", "a block whose body fits its header", error) from error

    def _check_header(self, header: Header, parent: Header, validators: ValidatorSet) -> None:
        for name, expected in (
            ("version", self._ledger.final.rules_version),
            ("chain_id", self._genesis.chain_id),
            ("epoch", validators.epoch),
            ("height", parent.height + 1),
            ("parent", header_digest(parent)),
            ("proposer", leader(validators, header.view)),
            ("validator_set", self._digest_of(validators)),
        ):
            found = getattr(header, name)
            if found != expected:
                raise _Stop(parent.height + 1, f"header.{name}", expected, found)
        # An epoch's views begin anew, above view 0, which is the sealing block before it.
        below = parent.view if parent.epoch == header.epoch else 0
        if header.view <= below:
            raise _Stop(header.height, "header.view", f"above {below}", header.view)

    def _check_successor(self, header: Header, applied: Applied) -> None:
        """The next set that the header names is the one that executing the block gives."""
        expected = header.validator_set
        if applied.next_validators is not None:
            expected = validator_set_digest(applied.next_validators)
            self._report.epochs += 1
        if header.next_validator_set != expected:
            found = header.next_validator_set
            raise _Stop(header.height, "header.next_validator_set", expected, found)

    def _digest_of(self, validators: ValidatorSet) -> bytes:
        """A set's digest; most blocks ask for that of the set before."""
        if self._set_digest[0] is not validators:
            self._set_digest = (validators, validator_set_digest(validators))
        return self._set_digest[1]

    def _execute(self, block: InspectedBlock) -> tuple[Applied, list[CheckedInstruction]]:
        height = block.header.height
        try:
            parsed = parse_body(block)
        except BodyMismatch as error:
            raise _Stop(height, "body", "the one the header commits to", error) from error
        checked = []
        for number, instruction in enumerate(parsed):
            try:
                checked.append(check_parsed(instruction, self._genesis.chain_id))
            except InstructionRefused as error:
                raise _Stop(
                    height, f"instruction {number}", "one that may stand in a block", error
                ) from error
        try:
            applied = self._ledger.verify(self._ledger.final, block.header, checked)
        except (BadBlock, ConservationBroken) as error:
            raise _Stop(height, "execution", "what the header says", error) from error
        self._index.add(applied.ids, applied.uetrs)
        self._ledger.commit(applied.state)
        return applied, checked

    def _compare_outcomes(self, height: int, applied: Applied) -> None:
        stored = self._source.outcomes(height)
        if stored is None:
            raise _Stop(height, "stored outcomes", f"{len(applied.outcomes)} of them", "none")
        if len(stored) != len(applied.outcomes):
            raise _Stop(height, "number of stored outcomes", len(applied.outcomes), len(stored))
        for number, (computed, found) in enumerate(zip(applied.outcomes, stored, strict=True)):
            if computed != found:
                raise _Stop(height, f"stored outcome {number}", computed, found)

    def _enter(self, height: int, checked: list[CheckedInstruction], applied: Applied) -> None:
        try:
            self._books.post(checked, applied.outcomes, applied.state)
        except BooksDisagree as error:
            raise _Stop(height, error.where, error.expected, error.found) from error

    def _check_certificates(self, header: Header, parent: Header, validators: ValidatorSet) -> bool:
        """Whether the block has a certificate of its own; all that are stored of it are sound."""
        before = self._certificates.signatures
        try:
            certified = self._certificates.check(header, parent, validators)
        except Fault as fault:
            raise _Stop(header.height, fault.where, fault.expected, fault.found) from fault
        self._report.certificates = self._certificates.checked
        self._report.signatures += self._certificates.signatures - before
        return certified

    def _count(
        self, block: InspectedBlock, checked: list[CheckedInstruction], applied: Applied
    ) -> None:
        report = self._report
        report.height = block.header.height
        report.digest = block.digest
        report.instructions += len(checked)
        report.payments += len(applied.outcomes)
        report.signatures += sum(len(c.instruction.signatures) for c in checked)
        report.totals = dict(self._books.totals)

    def _compare_end(self, tip: int, header: Header) -> None:
        """The whole state at the end: in the books, in the ledger, and as stored."""
        state = self._ledger.final
        self._check_accusations(tip, state)
        try:
            self._books.compare_all(state)
            recount(state)
        except BooksDisagree as error:
            raise _Stop(tip, error.where, error.expected, error.found) from error
        except ConservationBroken as error:
            raise _Stop(
                tip, "conservation", "issued − redeemed = sum of balances", error
            ) from error
        stored = StateMap.empty().update(dict(self._source.state_records()))
        if stored.root != header.state_root:
            raise _Stop(tip, "root of the stored state records", header.state_root, stored.root)
        if (seal := self._source.seal(state.validator_set.epoch)) is not None:
            expected = "none: it goes on"
            raise _Stop(tip, f"end of epoch {state.validator_set.epoch}", expected, seal.height)

    def _check_accusations(self, tip: int, state: State) -> None:
        """Every equivocation that the ledger or the node holds against a validator is one."""
        recorded = [Equivocation(each.first, each.second) for each in state.equivocations()]
        proven = set()
        for where, held in (("ledger", recorded), ("node", self._source.evidence())):
            for number, each in enumerate(held):
                at = f"equivocation {number} of the {where}"
                validators = state.validator_set_of(each.first.epoch)
                if validators is None:
                    raise _Stop(tip, at, "an epoch that has begun", each.first.epoch)
                try:
                    check_equivocation(each, validators, self._genesis.chain_id, at)
                except Fault as fault:
                    raise _Stop(tip, fault.where, fault.expected, fault.found) from fault
                proven.add((each.first.epoch, each.first.view, each.first.voter))
        self._report.equivocations = len(proven)
