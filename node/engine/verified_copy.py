"""An auditor's own copy of a chain: every block was executed here before it is held.

Blocks come in with the finalization that ends them, as a node's own sync has them. The certificate
is checked with the validators that the replay itself led to; then each block is executed by the
code that a validator judges another's proposal with: every signature, root, balance and header
field. So two things can be wrong, and they are told apart: an answer that no quorum stands behind
(`SourceLied`: its sender is at fault), and a block that a quorum finalized although it does not
follow from the chain before it (`Unsound`: more than f validators are).

All blocks of an answer are stored in one synced batch, or none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from consensus.interface import BlockInfo, BodyMismatch, Commit
from consensus.messages import SyncResponse
from node.audit.epochs import check_carriers, check_finalization, leader
from node.audit.fault import Fault, same
from node.chain.block import header_digest, inspect_block
from node.chain.genesis import Genesis, load_genesis
from node.chain.instruction import InstructionRefused
from node.chain.types import Header, ValidatorSet
from node.engine.executor import Executor
from node.engine.feed import check_chunk
from node.engine.mempool import Mempool
from node.engine.node import load_chain
from node.engine.sources import SourceLied
from node.ledger.state import ConservationBroken
from node.storage.chain_store import ChainStore
from node.storage.copies import make_copy
from node.storage.disk import DIRECTORY_MODE, FileLock, write_file
from node.storage.errors import unwritable
from node.storage.heads import Head, HeadsWriter
from node.storage.kv import KeyValue
from node.storage.level import LevelStore

MAX_FINDS = 64
"""Files kept in `finds`: a liar must not fill the disk. Each is at most one sync answer."""
_SHOWN_KEY = b"~shown/"
"""Beside the chain in the database: what each source has shown, by its URL."""


class Unsound(Exception):
    """A quorum finalized a block that does not follow from the chain before it."""

    def __init__(self, height: int, what: str) -> None:
        super().__init__(f"block {height}, which a quorum finalized, does not verify: {what}")
        self.height = height


class VerifiedCopy:
    """The chain as far as it is verified. `take` belongs to one thread at a time; reading heads may
    go on beside it."""

    def __init__(self, kv: KeyValue, genesis: Genesis, directory: Path) -> None:
        """Load it and compute the state's root anew. Raises StoreCorrupt, StateDamaged, BadGenesis,
        StoreUnwritable."""
        self.genesis = genesis
        self.directory = directory
        self.store = ChainStore(kv)
        self._kv = kv
        state, floor = load_chain(genesis, self.store)
        self._pool = Mempool()
        self._executor = Executor(genesis, state, self._pool)
        self._info = floor.info
        self._heads = HeadsWriter(
            directory / "heads", genesis.chain_id, floor.info.height, self.head
        )

    def close(self) -> None:
        """Let go of the files."""
        self._heads.close()
        self._kv.close()

    # --- looking ------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        """Of the last verified block."""
        return self._info.height

    @property
    def epoch(self) -> int:
        """Of the last verified block."""
        return self._info.epoch

    def head(self, height: int) -> Head:
        """Of a verified block."""
        header = self._header(height)
        return Head(header_digest(header), header.history_root)

    def _header(self, height: int) -> Header:
        header = self.store.header(height)
        assert header is not None, "every block of the copy is stored"
        return header

    def validators_after(self, height: int) -> ValidatorSet:
        """Who may finalize the block above this verified one."""
        header = self._header(height)
        sealed = header.next_validator_set != header.validator_set
        found = self._executor.final_state.validator_set_of(header.epoch + sealed)
        assert found is not None, "the state keeps the set of every epoch"
        return found

    # --- growing ------------------------------------------------------------------------------

    def take(self, answer: SyncResponse) -> None:
        """Verify the blocks above the last one, and hold them.

        Raises SourceLied or Unsound, and then holds what it held before; UnknownRules;
        StorageError."""
        check_proven(answer, self._info, self.validators_after(self.height), self.genesis.chain_id)
        commit = self._execute(answer)
        plan = self._executor.plan([commit])
        self.store.commit(plan.blocks, plan.floor, plan.certificates)
        self._executor.committed(plan)
        self._pool.settle(plan.instructions, plan.time)
        self._info = plan.floor.info
        for block in plan.blocks:
            self._heads.append(block.info.height, self.head(block.info.height))
        self._heads.sync()

    def _execute(self, answer: SyncResponse) -> Commit:
        validators = self.validators_after(self.height)
        parent = self._header(self.height)
        infos: list[BlockInfo] = []
        for raw in answer.blocks:
            try:
                info = self._executor.inspect(raw)
            except BodyMismatch as error:
                raise SourceLied(f"the body of a finalized block is another: {error}") from None
            header = inspect_block(raw).header
            self._check_turn(header, parent, validators)
            try:
                wrong = self._executor.execute(info, raw)
            except (InstructionRefused, ConservationBroken) as error:
                wrong = str(error)
            if wrong is not None:
                raise Unsound(info.height, wrong)
            infos.append(info)
            parent = header
        carriers = [inspect_block(raw).header for raw in answer.carriers]
        try:
            check_carriers(parent, carriers, validators, "carriers")
        except Fault as fault:
            raise Unsound(parent.height, str(fault)) from fault
        return Commit(tuple(infos), answer.blocks, answer.finalization, answer.carriers)

    def _check_turn(self, header: Header, parent: Header, validators: ValidatorSet) -> None:
        below = parent.view if parent.epoch == header.epoch else 0
        if header.view <= below:
            raise Unsound(header.height, f"view {header.view} is not above {below}")
        expected = leader(validators, header.view)
        if header.proposer != expected:
            what = f"validator {header.proposer} proposed it in a view of validator {expected}"
            raise Unsound(header.height, what)

    def check_branch(self, parted: int, answer: SyncResponse) -> None:
        """Check that a quorum finalized these blocks, of which the first is another than the copy's
        of this height. Raises SourceLied."""
        below = self.store.info(parted - 1)
        assert below is not None, "every block of the copy is stored"
        check_proven(answer, below, self.validators_after(parted - 1), self.genesis.chain_id)
        if inspect_block(answer.blocks[0]).digest == self.head(parted).digest:
            raise SourceLied(f"it tells of another block {parted}, and gives this chain's")

    # --- what sources have shown, and what was found ----------------------------------------------

    def shown(self, url: str) -> int:
        """The highest height at which this source's head was this chain's."""
        raw = self._kv.get(_SHOWN_KEY + url.encode())
        return 0 if raw is None else int.from_bytes(raw, "big")

    def remember_shown(self, url: str, height: int) -> None:
        """Raises StoreUnwritable. Not synced: the next head says it again."""
        self._kv.write([(_SHOWN_KEY + url.encode(), height.to_bytes(8, "big"))], sync=False)

    def keep_find(self, name: str, data: bytes) -> Path | None:
        """Write down what was found wrong; None if it is there already, or there is no room for
        more. Raises StoreUnwritable."""
        directory = self.directory / "finds"
        path = directory / name
        if path.exists():
            return path
        try:
            directory.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            if sum(1 for _ in directory.iterdir()) >= MAX_FINDS:
                return None
        except OSError as error:
            raise unwritable(error, directory, "write") from error
        write_file(path, data)
        return path


def check_proven(
    answer: SyncResponse, below: BlockInfo, validators: ValidatorSet, chain_id: bytes
) -> None:
    """Check that these blocks chain up from `below`, and that a quorum of these validators
    finalized the last of them. What they do is still open. Raises SourceLied."""
    last = check_chunk(answer, below, chain_id)
    chain = [inspect_block(raw).header for raw in (*answer.blocks, *answer.carriers)]
    for header in chain:
        if header.epoch != validators.epoch:
            raise SourceLied(
                f"its block {header.height} is of epoch {header.epoch}, not {validators.epoch}"
            )
    view = 0 if below.seals or below.epoch != validators.epoch else below.view
    if len(chain) > 1:
        view = chain[-2].view
    certificate = answer.finalization
    try:
        check_finalization(certificate, chain[-1], None, validators, chain_id=chain_id)
        assert certificate.content is not None, "a finalization names a block"
        meaning = "Its signers finalized something else than this block."
        same("finalization.parent_view", view, certificate.content.parent_view, meaning)
    except Fault as fault:
        raise SourceLied(f"the finalization of height {last.height}: {fault}") from None


# --- the directory --------------------------------------------------------------------------------


class CopyDirectory:
    """The directory of a copy, locked for this process; a context manager."""

    def __init__(self, path: Path, genesis_bytes: bytes) -> None:
        """Make it where there is none, else check that it is of this chain.

        Raises BadGenesis, HomeError, StoreLocked, StorageError."""
        self.path = path
        self.genesis = load_genesis(genesis_bytes)
        make_copy(path, genesis_bytes, self.genesis)
        self._lock = FileLock(str(path / "lock"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def open(self) -> VerifiedCopy:
        """Raises StorageError, StateDamaged."""
        kv = LevelStore(self.path / "data")
        try:
            return VerifiedCopy(kv, self.genesis, self.path)
        except BaseException:
            kv.close()
            raise
