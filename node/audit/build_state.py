"""Making the proofs of states from a chain's store: a balance at a height, and that no outcome of a
period names a UETR.

Nothing here is trusted by anybody: the files prove themselves (`verify_state`). What this must get
right is to find the parts, and to say plainly what cannot be shown, and why.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from node.audit.build_chain import (
    EvidenceTooLarge,
    EvidenceUnavailable,
    HeadedSource,
    last_final,
    prove_blocks,
    required,
    stored_header,
)
from node.audit.dossier import AccountRow
from node.audit.state_proofs import (
    MAX_PROOF_BYTES,
    AbsenceProof,
    BalanceProof,
    StateProof,
    TreeAbsence,
    encode_state_proof,
)
from node.audit.wording import time_text
from node.chain.encoding import Malformed, decode, encode
from node.chain.named import named_uetrs
from node.chain.records import (
    AccountKey,
    AccountRecord,
    StateKey,
    UetrsKey,
    UetrsRecord,
    UetrTreeKey,
    UetrTreeRecord,
)
from node.chain.state_map import BrokenState, MapProof, StateMap
from node.chain.types import AccountKind, Header
from node.chain.uetr import uetr_text
from node.chain.uetr_tree import prove_uetr, sorted_uetrs, uetr_root

MAX_NAMED = 20_000_000
"""UETRs read for one proof of absence: every set is made anew, at about five microseconds each."""
MAX_NAMED_ONLINE = 2_000_000
"""Likewise where a node makes it that has blocks to vote on meanwhile."""

R = TypeVar("R")


class UetrUsed(Exception):
    """There is no absence to prove: an outcome names the UETR."""

    def __init__(self, uetr: bytes, height: int) -> None:
        super().__init__(f"an outcome of block {height} names UETR {uetr_text(uetr)}")
        self.height = height


class NotCovered(Exception):
    """No committed set of UETRs covers the period, or a part of it; the text names which."""


class StateSource(HeadedSource, Protocol):
    """What is read of a chain; `node.storage.chain_store.ChainStore` has all of it."""

    def state_node(self, hash: bytes) -> bytes | None:
        """A node of any height's state map."""

    def outcomes(self, height: int) -> list[bytes] | None:
        """Canonical bytes of a block's outcomes, in tree order."""


class _State:
    """The state after a block, with proofs."""

    def __init__(self, source: StateSource, header: Header) -> None:
        self._height = header.height
        self._map = StateMap.load(header.state_root, source.state_node)

    def proven(self, key: StateKey, kind: type[R]) -> tuple[R | None, MapProof]:
        """A record, or None. Raises EvidenceUnavailable."""
        try:
            raw, proof = self._map.prove(encode(key))
            return (None if raw is None else decode(raw, kind)), proof
        except (BrokenState, Malformed) as error:
            raise EvidenceUnavailable(
                f"the state of height {self._height} is not whole here: it was pruned, or this "
                f"node began above it ({error})"
            ) from error


def build_balance(
    source: StateSource,
    participant: str,
    asset: str,
    account: AccountKind,
    height: int | None = None,
) -> bytes:
    """The proof of what an account (participant: LEI) held after a final block, the last one unless
    told otherwise. Raises EvidenceUnavailable."""
    checkpoint = last_final(source)
    at = checkpoint.height if height is None else height
    header = checkpoint if at == checkpoint.height else stored_header(source, at)
    state = _State(source, header)
    record, proof = state.proven(AccountKey(participant, asset, account), AccountRecord)
    blocks, epochs, finality = prove_blocks(source, checkpoint, {at: False})
    row = AccountRow(record, proof)
    return _encoded(BalanceProof(blocks, epochs, finality, participant, asset, account, row))


# --- an absence -------------------------------------------------------------------------------


def build_absence(
    source: StateSource,
    uetr: bytes,
    start: int | None = None,
    end: int | None = None,
    *,
    most: int = MAX_NAMED,
) -> bytes:
    """The proof that no outcome of the blocks from time `start` to before `end` names the UETR.

    Milliseconds since the Unix epoch; None: as early, as late, as can be shown. The blocks shown
    may be more: whole sets of UETRs are. `most`: how many UETRs may be read for it. Raises
    UetrUsed, NotCovered, EvidenceUnavailable."""
    checkpoint = last_final(source)
    trees = _Trees(source, checkpoint)
    chosen = trees.covering(start, end)
    named = sum(trees.record(number).count for number in chosen)
    if named > most:
        raise EvidenceTooLarge(
            f"in that period {named:,} UETRs were used, and one proof is made from at most "
            f"{most:,} here; ask for a shorter one, or read a stopped node's home (--home)"
        )
    absences = tuple(trees.absence(number, uetr) for number in chosen)
    blocks, epochs, finality = prove_blocks(source, checkpoint, {})
    return _encoded(AbsenceProof(blocks, epochs, finality, uetr, absences))


class _Trees:
    """The trees of used UETRs that the checkpoint's state holds."""

    def __init__(self, source: StateSource, checkpoint: Header) -> None:
        """Raises NotCovered if there are none, EvidenceUnavailable."""
        self._source, self._checkpoint = source, checkpoint
        self._state = _State(source, checkpoint)
        record, _ = self._state.proven(UetrsKey(), UetrsRecord)
        if record is None:
            raise NotCovered(
                "this ledger commits no sets of used UETRs: it does so from the first business day "
                "on, and no schedule was in force yet"
            )
        self._count = record.next_tree
        if not self._count:
            raise NotCovered(
                f"no set of used UETRs is committed yet: the first is that of the blocks from "
                f"{record.after + 1} on, at the close of the business day; ask again then"
            )

    def record(self, number: int) -> UetrTreeRecord:
        """Raises EvidenceUnavailable."""
        return self._proven(number)[0]

    def _proven(self, number: int) -> tuple[UetrTreeRecord, MapProof]:
        record, proof = self._state.proven(UetrTreeKey(number), UetrTreeRecord)
        return required(record, f"tree {number} of used UETRs"), proof

    def covering(self, start: int | None, end: int | None) -> range:
        """Numbers of the trees that have every block from `start` to before `end`. Raises
        NotCovered, EvidenceUnavailable."""
        oldest, newest = self.record(0), self.record(self._count - 1)
        if start is not None and end is not None and start >= end:
            raise NotCovered("the period ends before it begins")
        # Nothing but the genesis block is below block 1, and that one names nothing.
        if start is not None and start <= oldest.after_time and oldest.after > 0:
            raise NotCovered(
                f"sets of used UETRs are committed from block {oldest.after + 1} on, the first "
                f"above {time_text(oldest.after_time)}; what was before, from "
                f"{time_text(start)} on, no set shows. Ask for a period that begins later"
            )
        latest = max(0 if start is None else start, 0 if end is None else end - 1)
        if latest > newest.through_time:
            raise NotCovered(
                f"the sets of used UETRs reach to block {newest.through} at "
                f"{time_text(newest.through_time)}; the rest of the period, up to "
                f"{time_text(latest)}, is in none yet: the next is committed at the close of the "
                "business day. Ask again then, or for a period that ends earlier"
            )
        first = 0 if start is None else self._first(lambda tree: tree.through_time >= start)
        if end is None:
            return range(first, self._count)
        return range(first, self._first(lambda tree: tree.through_time >= end - 1) + 1)

    def _first(self, reaches: Callable[[UetrTreeRecord], bool]) -> int:
        """Number of the first tree that does; times ascend, and the last one does."""
        return bisect_left(range(self._count - 1), True, key=lambda n: reaches(self.record(n)))

    def absence(self, number: int, uetr: bytes) -> TreeAbsence:
        """Raises UetrUsed, EvidenceUnavailable."""
        record, proof = self._proven(number)
        uetrs = sorted_uetrs(self._named(record, uetr))
        if (len(uetrs), uetr_root(uetrs)) != (record.count, record.root):
            raise EvidenceUnavailable(
                f"the outcomes of blocks {record.after + 1} to {record.through} are stored "
                "damaged here: they name other UETRs than the state says"
            )
        return TreeAbsence(number, record, proof, prove_uetr(uetrs, uetr))

    def _named(self, record: UetrTreeRecord, uetr: bytes) -> Iterator[bytes]:
        for height in range(record.after + 1, record.through + 1):
            outcomes = required(self._source.outcomes(height), f"the outcomes of block {height}")
            try:
                for named in named_uetrs(outcomes):
                    if named == uetr:
                        raise UetrUsed(uetr, height)
                    yield named
            except Malformed as error:
                raise EvidenceUnavailable(
                    f"the outcomes of block {height} are stored damaged here: {error}"
                ) from error


def _encoded(proof: StateProof) -> bytes:
    data = encode_state_proof(proof)
    if len(data) > MAX_PROOF_BYTES:
        raise EvidenceTooLarge(
            f"the proof would have {len(data):,} bytes, more than the {MAX_PROOF_BYTES:,} that one "
            "may have; ask for a shorter period"
        )
    return data
