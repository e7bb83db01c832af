"""One replay of a chain, block by block: what must hold at each, in the order of looking.

The invariant: `Replay.report` and every checkpoint tell of nothing but blocks that are sound in all
respects, signatures that are verified elsewhere included. The first thing that is not as it must be
ends the replay (`Stop`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from consensus.messages import Equivocation
from node.audit.accountability import check_equivocation
from node.audit.audit_report import AuditReport, Damaged, Stop
from node.audit.bad_byte import first_bad_byte
from node.audit.books import Books, BooksDisagree
from node.audit.chain_certificates import CertificateSource, ChainCertificates
from node.audit.epochs import leader
from node.audit.fault import Fault
from node.audit.signatures import Checks
from node.audit.workspace import MAX_HELD_ENTRIES, Checkpoint, Workspace
from node.chain.block import (
    BodyMismatch,
    InspectedBlock,
    encode_block,
    header_digest,
    inspect_block,
    parse_body,
    validator_set_digest,
)
from node.chain.encoding import UNDECODABLE, Malformed
from node.chain.genesis import BadGenesis, Genesis
from node.chain.instruction import (
    CheckedInstruction,
    InstructionRefused,
    bad_signature,
    check_parsed,
)
from node.chain.state_map import BrokenState
from node.chain.types import Header, ValidatorSet
from node.ledger.apply import BadBlock
from node.ledger.genesis import GenesisBlock, genesis_state
from node.ledger.ledger import Ledger, load_state
from node.ledger.state import ConservationBroken, State, StateDamaged, recount
from node.ledger.work import Applied


class ChainSource(CertificateSource, Protocol):
    """What is read of a chain; `node.storage.chain_store.ChainStore` has all of it.

    Blocks are asked for in ascending order, each with what is stored beside it before the next."""

    def height(self) -> int | None:
        """Height of the last final block."""

    def block(self, height: int) -> bytes | None:
        """The exact bytes of a block."""

    def outcomes(self, height: int) -> list[bytes] | None:
        """Canonical bytes of a block's outcomes, in tree order."""

    def evidence(self) -> list[Equivocation]:
        """The equivocations that the node has seen itself. Asked for last."""

    def state_records(self) -> Iterable[tuple[bytes, bytes]]:
        """(state key, record) at the last final block, ascending."""


class CannotResume(Exception):
    """The work of an earlier run does not fit this chain; the text says why. Begin anew."""


class Pace(NamedTuple):
    """When a checkpoint is written: after so many of any."""

    blocks: int = 5_000
    entries: int = MAX_HELD_ENTRIES
    seconds: float = 30.0


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
"""Is shown every block after genesis, in order. What comes after may still turn out bad, and so may
signatures that are verified elsewhere: nothing made of them is good before the audit says VALID."""


class Replay:
    """One audit in progress."""

    def __init__(
        self,
        source: ChainSource,
        genesis: Genesis,
        *,
        work: Workspace,
        checks: Checks,
        pace: Pace,
        compares: tuple[bool, bool],
    ) -> None:
        """`compares`: stored outcomes, stored state records."""
        self._source = source
        self._genesis = genesis
        self._work = work
        self._checks = checks
        self._pace = pace
        self._compares_outcomes, self._compares_state = compares
        self.report = AuditReport(compared=self._compares_outcomes)
        """Of what is sound, signatures and all."""
        self._ahead = self.report
        """Of what was replayed, while signatures are still being verified."""
        self._unsettled: deque[tuple[int, AuditReport]] = deque()
        """(signatures that it rests on, report) for each block since `report`."""
        self._books = Books()
        self._certificates = ChainCertificates(source, genesis.chain_id, checks)
        self._certified = 0
        self._saved_at = time.monotonic()
        self._saved_height = 0
        self._set_digest = (
            genesis.validator_set,
            validator_set_digest(genesis.validator_set),
        )

    # --- beginning, and going on ------------------------------------------------------------------

    def begin(self, *, resume: bool) -> None:
        """Stand at the last checkpoint, or at genesis. Raises Stop, CannotResume."""
        try:
            checkpoint = self._work.resume() if resume else None
        except Malformed as error:
            raise CannotResume(f"its checkpoint is damaged: {error}") from error
        start = self._genesis_block()
        if checkpoint is None:
            self._work.add(start.applied)
            self._header = start.header
            history = start.applied.state.history
        else:
            self._check_resumable(checkpoint)
            self._header = checkpoint.header
            history = checkpoint.history
        try:
            state = load_state(
                self._work.records(), self._header, history, self._work, self._work.node
            )
            self._ledger = Ledger(state)
            if checkpoint is not None:
                self._books = Books.load(self._work.books())
                self._books.compare_all(state)
                self._take_up(checkpoint)
        except (
            StateDamaged, BrokenState, ConservationBroken, BooksDisagree, Malformed, *UNDECODABLE,
        ) as error:  # fmt: skip
            raise CannotResume(f"what it keeps contradicts itself: {error}") from error
        self._ahead.height = self._header.height
        self._ahead.digest = header_digest(self._header)
        self._ahead.totals = dict(self._books.totals)
        self._saved_height = self._header.height

    def _genesis_block(self) -> GenesisBlock:
        try:
            start = genesis_state(self._genesis, self._work)
        except BadGenesis as error:
            raise Stop(0, "genesis file", "a valid one", error) from error
        found = self._fetch(0)
        if found != encode_block(start.header, ()):
            raise Stop(
                0,
                "block",
                f"the genesis block of chain {self._genesis.chain_id.hex()}",
                "none" if found is None else "another chain's, or a damaged one",
            )
        self._compare_outcomes(0, start.applied)
        return start

    def _check_resumable(self, checkpoint: Checkpoint) -> None:
        if checkpoint.chain_id != self._genesis.chain_id:
            raise CannotResume(f"it is about chain {checkpoint.chain_id.hex()}")
        height = checkpoint.header.height
        tip = self._source.height()
        if tip is None or tip < height:
            raise CannotResume(
                f"it had come to height {height}, and this chain ends at {tip}: blocks are missing "
                "that were there"
            )
        found = self._read(height).digest if height else header_digest(checkpoint.header)
        if found != header_digest(checkpoint.header):
            raise CannotResume(
                f"its block {height} was {header_digest(checkpoint.header).hex()}, the block here "
                f"is {found.hex()}"
            )

    def _take_up(self, checkpoint: Checkpoint) -> None:
        report = self._ahead
        for name in ("instructions", "payments", "signatures", "certificates", "epochs"):
            setattr(report, name, getattr(checkpoint, name))
        report.resumed = checkpoint.header.height
        self._certificates.checked = checkpoint.certificates
        self._certified = checkpoint.certified
        self._books.statements = report.statements = checkpoint.statements

    def save(self) -> None:
        """Write a checkpoint of what is sound by then. Raises Stop, StoreUnwritable."""
        self.settle()
        report, state = self.report, self._ledger.final
        checkpoint = Checkpoint(
            self._genesis.chain_id,
            self._header,
            state.history.peaks,
            self._certified,
            report.instructions,
            report.payments,
            report.signatures,
            report.certificates,
            report.epochs,
            report.statements,
        )
        self._work.save(checkpoint, self._books.changes(), state.untreed())
        self._saved_at, self._saved_height = time.monotonic(), self._header.height

    def _is_due(self) -> bool:
        pace, height = self._pace, self._header.height
        return (
            self._work.held >= pace.entries
            or height - self._saved_height >= pace.blocks
            or time.monotonic() - self._saved_at >= pace.seconds
        )

    # --- the replay -------------------------------------------------------------------------------

    def run(self, tip: int, progress: Progress | None, watch: Watcher | None) -> None:
        """Replay what comes after. Raises Stop, UnknownRules."""
        for height in range(self._header.height + 1, tip + 1):
            block = self._read(height)
            validators = self._ledger.final.validator_set
            self._check_header(block.header, self._header, validators)
            applied, checked = self._execute(block)
            self._check_successor(block.header, applied)
            self._compare_outcomes(height, applied)
            self._enter(height, checked, applied)
            if self._check_certificates(block.header, self._header, validators):
                self._certified = height
            self._header = block.header
            self._count(block, checked, applied)
            if self._is_due():
                self.save()
            if watch is not None:
                watch(Replayed(block.header, block.digest, checked, applied))
            if progress is not None:
                progress(self.report, tip)
        if self._certified != tip:
            raise Stop(tip, "certificate", "a finalization of the last block", "none")
        self._compare_end(tip)
        self.settle()

    def _fetch(self, height: int) -> bytes | None:
        try:
            return self._source.block(height)
        except Damaged as error:
            raise Stop.of(error) from error

    def _read(self, height: int) -> InspectedBlock:
        raw = self._fetch(height)
        if raw is None:
            raise Stop(height, "block", "its bytes", "none")
        self._raw = raw
        try:
            return inspect_block(raw)
        except BodyMismatch as error:
            where = f"block{_byte(raw)}"
            raise Stop(height, where, "a block whose body fits its header", error) from error

    def _check_header(self, header: Header, parent: Header, validators: ValidatorSet) -> None:
        for name, expected in (
            ("version", self._ledger.final.rules_version),
            ("chain_id", self._genesis.chain_id),
            ("epoch", validators.epoch),
            ("height", parent.height + 1),
            ("parent", self._ledger.final.digest),
            ("proposer", leader(validators, header.view)),
            ("validator_set", self._digest_of(validators)),
        ):
            found = getattr(header, name)
            if found != expected:
                raise Stop(parent.height + 1, f"header.{name}", expected, found)
        # An epoch's views begin anew, above view 0, which is the sealing block before it.
        below = parent.view if parent.epoch == header.epoch else 0
        if header.view <= below:
            raise Stop(header.height, "header.view", f"above {below}", header.view)

    def _check_successor(self, header: Header, applied: Applied) -> None:
        """The next set that the header names is the one that executing the block gives."""
        expected = header.validator_set
        if applied.next_validators is not None:
            expected = validator_set_digest(applied.next_validators)
            self._ahead.epochs += 1
        if header.next_validator_set != expected:
            found = header.next_validator_set
            raise Stop(header.height, "header.next_validator_set", expected, found)

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
            where = f"body{_byte(self._raw)}"
            raise Stop(height, where, "the one the header commits to", error) from error
        checked = []
        for number, instruction in enumerate(parsed):
            self._about(height, number)
            try:
                checked.append(
                    check_parsed(instruction, self._genesis.chain_id, self._checks.verify)
                )
            except InstructionRefused as error:
                raise _refused(height, number, error) from error
        try:
            applied = self._ledger.verify(self._ledger.final, block.header, checked)
        except (BadBlock, ConservationBroken) as error:
            raise Stop(height, "execution", "what the header says", error) from error
        self._work.add(applied)
        self._ledger.commit(applied.state)
        return applied, checked

    def _about(self, height: int, number: int) -> None:
        """The signatures to come are of this instruction."""

        def failure(public_key: bytes) -> Stop:
            return _refused(height, number, bad_signature(public_key))

        self._checks.about(failure)

    def _compare_outcomes(self, height: int, applied: Applied) -> None:
        if not self._compares_outcomes:
            return
        stored = self._source.outcomes(height)
        if stored is None:
            raise Stop(height, "stored outcomes", f"{len(applied.outcomes)} of them", "none")
        if stored == applied.outcomes:
            return
        if len(stored) != len(applied.outcomes):
            raise Stop(height, "number of stored outcomes", len(applied.outcomes), len(stored))
        for number, (computed, found) in enumerate(zip(applied.outcomes, stored, strict=True)):
            if computed != found:
                raise Stop(height, f"stored outcome {number}", computed, found)

    def _enter(self, height: int, checked: list[CheckedInstruction], applied: Applied) -> None:
        try:
            self._books.post(checked, applied.outcomes, applied.state, applied.records)
        except BooksDisagree as error:
            raise Stop(height, error.where, error.expected, error.found) from error

    def _check_certificates(self, header: Header, parent: Header, validators: ValidatorSet) -> bool:
        """Whether the block has a certificate of its own; all that are stored of it are sound."""
        before = self._certificates.signatures
        try:
            certified = self._certificates.check(header, parent, validators)
        except Fault as fault:
            raise Stop.at(header.height, fault) from fault
        except Damaged as error:
            raise Stop.of(error) from error
        self._ahead.certificates = self._certificates.checked
        self._ahead.signatures += self._certificates.signatures - before
        return certified

    def _count(
        self, block: InspectedBlock, checked: list[CheckedInstruction], applied: Applied
    ) -> None:
        report = self._ahead
        report.height = block.header.height
        report.digest = block.digest
        report.instructions += len(checked)
        report.payments += len(applied.outcomes)
        report.signatures += sum(len(c.instruction.signatures) for c in checked)
        report.statements = self._books.statements
        report.totals = dict(self._books.totals)
        self._unsettled.append((self._checks.given, report))
        self._ahead = replace(report)
        try:
            self._checks.raise_failed()
        finally:
            self._advance()

    def settle(self) -> None:
        """Wait for all signatures. Raises Stop."""
        try:
            self._checks.settle()
        finally:
            self._advance()

    def _advance(self) -> None:
        """Report what rests on no signature that is still being verified."""
        while self._unsettled and self._unsettled[0][0] <= self._checks.sound:
            self.report = self._unsettled.popleft()[1]

    # --- the end ----------------------------------------------------------------------------------

    def _compare_end(self, tip: int) -> None:
        """The whole state at the end: in the books, in the ledger, and as stored."""
        state = self._ledger.final
        self._check_accusations(tip, state)
        try:
            self._books.compare_all(state)
            recount(state)
        except BooksDisagree as error:
            raise Stop(tip, error.where, error.expected, error.found) from error
        except ConservationBroken as error:
            raise Stop(tip, "conservation", "issued − redeemed = sum of balances", error) from error
        if self._compares_state:
            self._compare_state(tip)
        if (seal := self._source.seal(state.validator_set.epoch)) is not None:
            expected = "none: it goes on"
            raise Stop(tip, f"end of epoch {state.validator_set.epoch}", expected, seal.height)

    def _compare_state(self, tip: int) -> None:
        """The stored records are those that the replay came to; both ascend by key."""
        stored, none = iter(self._source.state_records()), (b"", b"")
        for key, record in self._work.records():
            other, found = next(stored, none)
            if other != key:
                raise Stop(tip, "key of a stored state record", key, other)
            if found != record:
                raise Stop(tip, f"stored state record {key.hex()}", record, found)
        other, _ = next(stored, none)
        if other:
            raise Stop(tip, "stored state records", "no further one", other)

    def _check_accusations(self, tip: int, state: State) -> None:
        """Every equivocation that the ledger or the node holds against a validator is one."""
        recorded = [Equivocation(each.first, each.second) for each in state.equivocations()]
        try:
            witnessed = self._source.evidence()
        except Damaged as error:
            raise Stop.of(error) from error
        proven = set()
        for where, held in (("ledger", recorded), ("node", witnessed)):
            for number, each in enumerate(held):
                at = f"equivocation {number} of the {where}"
                validators = state.validator_set_of(each.first.epoch)
                if validators is None:
                    raise Stop(tip, at, "an epoch that has begun", each.first.epoch)
                try:
                    check_equivocation(each, validators, self._genesis.chain_id, at)
                except Fault as fault:
                    raise Stop.at(tip, fault) from fault
                proven.add((each.first.epoch, each.first.view, each.first.voter))
        # The report of the last block may be settled already.
        for report in (self.report, self._ahead, *(each for _, each in self._unsettled)):
            report.equivocations = len(proven)


def _byte(raw: bytes) -> str:
    offset = first_bad_byte(raw)
    return "" if offset is None else f", byte {offset}"


def _refused(height: int, number: int, error: InstructionRefused) -> Stop:
    return Stop(height, f"instruction {number}", "one that may stand in a block", error)
