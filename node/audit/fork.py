"""Making the files that accuse: where two nodes' chains part, and who made them part.

Nothing here is trusted by anybody: a proof proves itself (`verify_accountability`). What this
must get right is to find the certificates. Any store may hold the one that is lacking in the
others, so every node's store helps; certificates are kept for ever, also where blocks are pruned.
Those of views above a node's last final block stand in its journal alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Protocol

from consensus.certificate import opposed
from consensus.messages import Certificate, Equivocation, Kind
from node.audit.accountability import check_certificate, enough_culprits
from node.audit.build_chain import (
    EpochSource,
    EvidenceUnavailable,
    ProvenSource,
    epoch_links,
    prove_final,
)
from node.audit.fault import Fault
from node.audit.proofs import (
    Branch,
    EquivocationProof,
    ForkProof,
    Rival,
    encode_proof,
)
from node.chain.block import header_digest
from node.chain.encoding import decode, encode
from node.chain.genesis import Genesis
from node.chain.merkle import stored_inclusion_proof
from node.chain.records import EquivocationKey, EquivocationRecord, ValidatorSetKey
from node.chain.types import Header, ValidatorSet

MAX_BRANCHES = 16
"""Final blocks of each side that are tried, from where the chains part upwards. Any two prove the
fork; if the stores lack the certificates of one view, those of another may be there."""

NO_INDEX = 1 << 32
"""Above the index of any validator, and small enough for a key of the state."""


class ForkSource(ProvenSource, Protocol):
    """What is read of each chain; `node.storage.chain_store.ChainStore` has all of it."""

    def height(self) -> int | None:
        """Height of the last final block."""

    def certificates(self, epoch: int, first_view: int, last_view: int) -> list[Certificate]:
        """Notarizations and nullifications that are stored of these views."""

    def evidence(self) -> list[Equivocation]:
        """The equivocations that the node has seen itself."""


class NothingKnown(EvidenceUnavailable):
    """There is nothing to prove, as far as this node knows."""


class NoFork(Exception):
    """The chains agree as far as they go; the text says how far."""


def build_fork(
    sources: Sequence[ForkSource], genesis: Genesis, journaled: Sequence[Certificate] = ()
) -> bytes:
    """The proof that two of these nodes hold conflicting final blocks, with the certificates that
    name who made them, as far as any of the nodes has them.

    `journaled`: those of the nodes' journals. Who acted on a certificate has it there until a
    final block above is stored, and so for ever if the node stopped before: it saw the fork, say.

    Raises NoFork; EvidenceUnavailable where a store lacks what a proof cannot do without."""
    agreed = []
    for first, second in combinations(sources, 2):
        parted = find_fork(first, second)
        if parted is not None:
            return encode_proof(_prove((first, second), parted, sources, genesis, journaled))
        agreed.append(min(_tip(first), _tip(second)))
    raise NoFork(f"the chains agree up to height {min(agreed)}, as far as they go")


def find_fork(first: ForkSource, second: ForkSource) -> int | None:
    """The lowest height at which both hold another final block; None if there is none.

    Raises EvidenceUnavailable if they part below what one of them holds, or at genesis."""
    other = min(_tip(first), _tip(second))
    if _agree(first, second, other):
        return None
    # Forks are mostly found soon: look down from the tip in growing steps, then between two.
    step, same = 1, max(other - 1, 0)
    while not _agree(first, second, same):
        if same == 0:
            raise EvidenceUnavailable("these are two chains: they differ in the genesis block")
        other, step = same, step * 2
        same = max(other - step, 0)
    while other - same > 1:
        middle = (same + other) // 2
        if _agree(first, second, middle):
            same = middle
        else:
            other = middle
    return other


def _agree(first: ForkSource, second: ForkSource, height: int) -> bool:
    # History leaves are there for all heights, headers only from where a node began.
    return _leaf(first, height) == _leaf(second, height)


def _leaf(source: ForkSource, height: int) -> bytes:
    leaf = source.history_node(0, height)
    if leaf is None:
        raise EvidenceUnavailable(f"the history leaf of block {height} is not stored here")
    return leaf


def _prove(
    pair: tuple[ForkSource, ForkSource],
    parted: int,
    sources: Sequence[ForkSource],
    genesis: Genesis,
    journaled: Sequence[Certificate],
) -> ForkProof:
    """Of all pairs of final blocks tried, the first that names f+1, or the one that names most."""
    first, second = pair
    epoch = _header(first, parted).epoch
    if _header(second, parted).epoch != epoch:
        raise EvidenceUnavailable(f"block {parted} is of two epochs: one of the stores is damaged")
    links = tuple(epoch_links(first, 0, epoch - 1))
    validators = links[-1].validators if links else genesis.validator_set
    in_journals = _Journaled(journaled, validators, genesis.chain_id)
    best: tuple[int, ForkProof] | None = None
    for one, other in product(_branches(first, parted), _branches(second, parted)):
        (_, lower), (source, higher) = sorted(
            ((first, one), (second, other)), key=lambda side: _place(side[1])
        )
        held = _of_lower_view(lower, higher, sources, in_journals)
        named, chosen = _accusing(lower, higher, held)
        if best is None or named > best[0]:
            rival = _rival(source, lower.block, higher.block)
            best = named, ForkProof(links, lower, higher, rival, chosen)
        if named >= enough_culprits(validators):
            break
    assert best is not None, "both chains have a final block where they part"
    return best[1]


def _branches(source: ForkSource, height: int) -> list[Branch]:
    """Final blocks of the epoch from this height on, lowest first."""
    found: list[Branch] = []
    epoch = _header(source, height).epoch
    while len(found) < MAX_BRANCHES and height <= _tip(source):
        header = _header(source, height)
        if header.epoch != epoch:
            break
        block, finality = prove_final(source, header)
        found.append(Branch(block, finality.carriers, finality.certificate))
        height = block.height + 1
    return found


def _place(branch: Branch) -> tuple[int, bytes]:
    return branch.block.height, header_digest(branch.block)


def _rival(source: ForkSource, lower: Header, higher: Header) -> Rival | None:
    """What the higher block, whose store this is, has at the lower one's height."""
    if lower.height == higher.height:
        return None

    def node(level: int, index: int) -> bytes:
        found = source.history_node(level, index)
        if found is None:
            raise EvidenceUnavailable(f"history node {level}/{index} is not stored here")
        return found

    path = stored_inclusion_proof(node, lower.height, higher.height)
    return Rival(header_digest(_header(source, lower.height)), tuple(path))


@dataclass(frozen=True)
class _Journaled:
    """Certificates of journals, which may be of any epoch."""

    certificates: Sequence[Certificate]
    validators: ValidatorSet
    chain_id: bytes

    def of(self, view: int) -> list[Certificate]:
        """The notarizations and nullifications of this view that the validators signed."""
        return [
            each
            for each in self.certificates
            if each.view == view and each.kind is not Kind.FINALIZE and self._holds(each)
        ]

    def _holds(self, certificate: Certificate) -> bool:
        try:
            check_certificate(certificate, self.validators, self.chain_id)
        except Fault:
            return False
        return True


Held = dict[tuple[int, int, bytes], Certificate]
"""By view, kind and bytes."""


def _of_lower_view(
    lower: Branch, higher: Branch, sources: Iterable[ForkSource], journaled: _Journaled
) -> Held:
    """What the nodes hold of the view that matters. It is the lower of the two: the branch of the
    higher one either has another block there, and both were notarized, or has none, and the view
    was nullified."""
    view = min(lower.finalization.view, higher.finalization.view)
    found = journaled.of(view)
    for source in sources:
        found += source.certificates(lower.block.epoch, view, view)
    return {(each.view, int(each.kind), encode(each)): each for each in found}


def _accusing(lower: Branch, higher: Branch, held: Held) -> tuple[int, tuple[Certificate, ...]]:
    """How many validators these two blocks and the certificates incriminate, and which of them
    that takes."""
    finalizations = [lower.finalization, higher.finalization]
    named: set[int] = set()
    chosen: set[tuple[int, int, bytes]] = set()
    keyed = [*((None, each) for each in finalizations), *sorted(held.items())]
    for (key, one), (rival, other) in combinations(keyed, 2):
        if not opposed(one, other):
            continue
        both = {voter for voter, _ in one.signatures} & {voter for voter, _ in other.signatures}
        if both - named:
            named |= both
            chosen |= {each for each in (key, rival) if each is not None}
    return len(named), tuple(held[key] for key in sorted(chosen))


def _header(source: ForkSource, height: int) -> Header:
    header = source.header(height)
    if header is None:
        raise EvidenceUnavailable(f"header {height} is not stored here")
    return header


def _tip(source: ForkSource) -> int:
    tip = source.height()
    if tip is None:
        raise EvidenceUnavailable("the store holds no chain")
    return tip


# --- one validator's equivocation -------------------------------------------------------------


def validator_index(source: EpochSource, epoch: int, validator: str) -> int:
    """The index in its epoch's set of a validator that is named, or given by its index in digits.

    Raises NothingKnown."""
    if validator.isascii() and validator.isdecimal():
        return min(int(validator), NO_INDEX)
    held = source.state_record(encode(ValidatorSetKey(epoch)))
    if held is not None:
        for index, each in enumerate(decode(held, ValidatorSet).validators):
            if each.name == validator:
                return index
    raise NothingKnown(f"epoch {epoch} has no validator {validator}")


def build_equivocation(source: ForkSource, epoch: int, view: int, voter: int) -> bytes:
    """The proof of an equivocation that the ledger records, or that the node has seen itself.

    Raises NothingKnown if it is not there, EvidenceUnavailable if the store lacks what proves it.
    """
    raw = source.state_record(encode(EquivocationKey(epoch, view, voter)))
    if raw is not None:
        record = decode(raw, EquivocationRecord)
        found: Equivocation | None = Equivocation(record.first, record.second)
    else:
        found = next(
            (
                each
                for each in source.evidence()
                if (each.first.epoch, each.first.view, each.first.voter) == (epoch, view, voter)
            ),
            None,
        )
    if found is None:
        raise NothingKnown(
            f"no equivocation of validator {voter} in view {view} of epoch {epoch} is known here"
        )
    return encode_proof(EquivocationProof(tuple(epoch_links(source, 0, epoch - 1)), found))
