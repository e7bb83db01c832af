"""Why the blocks of a piece of evidence are final, and who made them so.

Whatever the evidence proves, it stands in `blocks`, the last of which is the checkpoint C. The
links of epochs lead from the genesis file to the validators of C's epoch; a quorum of those
finalized C itself, or a carrier of it where it ends its epoch. Every other block is in the history
of C or, if its epoch ended before, in that of the sealing block of its own epoch: so the validators
of its own epoch signed for it, and nobody else's signature counts for it.

Five checks, each of which stands alone. Dossiers, proofs of balance and proofs of absence all rest
on them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from node.audit.dossier import EndedEpoch, Finality, Place, ProvenBlock
from node.audit.epochs import check_carriers, check_finalization, follow
from node.audit.fault import Fault, Missing, known, same
from node.chain.block import header_digest, may_be_carrier, validator_set_digest
from node.chain.genesis import Genesis
from node.chain.merkle import ProofError, history_leaf, verify_inclusion
from node.chain.state_map import MapProof, verify_absent, verify_present
from node.chain.types import Header, Validator, ValidatorSet


class Evidence(Protocol):
    """What all kinds of evidence about a chain's blocks have."""

    @property
    def blocks(self) -> tuple[ProvenBlock, ...]:
        """Ascending by height; the last is the checkpoint. At least one."""

    @property
    def epochs(self) -> tuple[EndedEpoch, ...]:
        """All epochs before the checkpoint's."""

    @property
    def finality(self) -> Finality | None:
        """Of the checkpoint."""


def check_chain(evidence: Evidence, genesis: Genesis) -> str:
    """That every header is of the genesis file's chain, under rules that are known here."""
    meaning = "This is evidence about another chain than the genesis file describes."
    for where, header in _headers(evidence):
        same(f"{where}.chain_id", genesis.chain_id, header.chain_id, meaning)
        known(f"{where}.version", header.version)
    return f"network {genesis.network}, chain {genesis.chain_id.hex()}"


def check_validators(evidence: Evidence, genesis: Genesis) -> str:
    """Who the validators of each epoch were, from the genesis file's on, and that each block names
    those of its own."""
    links = [ended.link for ended in evidence.epochs]
    sets = follow(genesis, links)
    meaning = "The block is of another epoch than the links lead to, so of other validators."
    same("checkpoint.epoch", sets[-1].epoch, checkpoint(evidence).epoch, meaning)
    digests = [validator_set_digest(each) for each in sets]
    for number, block in enumerate(evidence.blocks):
        where, epoch = f"blocks[{number}].header", block.header.epoch
        if epoch >= len(sets):
            raise Fault(f"{where}.epoch", f"at most {sets[-1].epoch}", epoch, meaning)
        same(f"{where}.validator_set", digests[epoch], block.header.validator_set, meaning)
    count = len(sets[-1].validators)
    if not links:
        return f"the {count} validators of the genesis file, epoch 0"
    return (
        f"the {count} validators of epoch {sets[-1].epoch}; a quorum of each epoch's signed for "
        "the next, from the genesis file's on"
    )


def check_seals(evidence: Evidence, genesis: Genesis) -> str:
    """That every sealing block so far is in the history that the next epoch's validators signed."""
    top, seals = checkpoint(evidence), [ended.link.seal for ended in evidence.epochs]
    if not seals:
        return "no epoch ended before this block"
    if top.height <= seals[-1].height:
        raise Fault(
            "checkpoint.height",
            f"above {seals[-1].height}, where epoch {seals[-1].epoch} ended",
            top.height,
            "The validators of one epoch decide no height of another.",
        )
    for number, ended in enumerate(evidence.epochs):
        after = seals[number + 1] if number + 1 < len(seals) else top
        included(
            f"epochs[{number}].path",
            history_leaf(header_digest(ended.link.seal)),
            Place(ended.link.seal.height, ended.path),
            size=after.height,
            root=after.history_root,
            meaning="The history that was signed next does not have this sealing block.",
        )
    heights = ", ".join(str(seal.height) for seal in seals[-3:])
    return f"{len(seals)} sealing block(s) in the history of what follows, last at {heights}"


def check_finality(evidence: Evidence, genesis: Genesis) -> str:
    """That a quorum of its epoch's validators finalized the checkpoint."""
    finality = evidence.finality
    if finality is None:
        raise Missing("there is no proof that the checkpoint is final")
    last, carriers = evidence.blocks[-1], finality.carriers
    validators = declared_validators(evidence, genesis)
    check_carriers(last.header, carriers, validators, "finality.carriers")
    chain = (last.header, *carriers)
    check_finalization(
        finality.certificate,
        chain[-1],
        chain[-2] if carriers else last.parent,
        validators,
        chain_id=genesis.chain_id,
    )
    signers, count = len(finality.certificate.signatures), len(validators.validators)
    through = f", through {len(carriers)} block(s) that carry it," if carriers else ""
    return f"block {last.header.height}{through} finalized by {signers} of {count} validators"


def check_history(
    evidence: Evidence, genesis: Genesis, used: Collection[int], parents: Collection[int]
) -> str:
    """That every block is in the history that its own epoch's validators signed, and that none is
    there for nothing.

    `used`: heights of the blocks in which the evidence proves something; `parents`: of those where
    it proves something in the state before. The checkpoint itself need not be used."""
    top, below = checkpoint(evidence), -1
    _check_is_block(evidence.blocks[-1])
    if may_be_carrier(top):
        parents = {*parents, top.height}
    for number, block in enumerate(evidence.blocks):
        where, height = f"blocks[{number}]", block.header.height
        if height <= below:
            meaning = "Blocks stand in the order of the chain, each once."
            raise Fault(f"{where}.header.height", f"above {below}", height, meaning)
        below = height
        _check_in_history(evidence, block, where)
        _check_parent(block, where)
        meaning = "Nothing in this evidence stands in this block, or in the state before it."
        if height not in used and block is not evidence.blocks[-1]:
            raise Fault(where, "a block that is needed", f"block {height}", meaning)
        if block.parent is not None and height not in parents:
            raise Fault(f"{where}.parent", "none", f"block {height - 1}", meaning)
    others = len(evidence.blocks) - 1
    if not others:
        return f"all stands in block {top.height} itself, {header_digest(top).hex()}"
    return (
        f"{others} earlier block(s), from {evidence.blocks[0].header.height} on, in the history of "
        f"block {top.height}, {header_digest(top).hex()}"
    )


def _check_in_history(evidence: Evidence, block: ProvenBlock, where: str) -> None:
    """Under the history that the last block of its epoch signed for, or of the checkpoint."""
    header, top, ended = block.header, checkpoint(evidence), evidence.epochs
    epoch = header.epoch
    if epoch > top.epoch or (epoch < top.epoch and epoch >= len(ended)):
        meaning = "No validators are shown who could have signed for it."
        raise Fault(f"{where}.header.epoch", f"at most {len(ended)}", epoch, meaning)
    first = ended[epoch - 1].link.seal.height + 1 if 0 < epoch <= len(ended) else 0
    over = top if epoch == top.epoch else ended[epoch].link.seal
    if not first <= header.height <= over.height:
        raise Fault(
            f"{where}.header.height",
            f"{first} to {over.height}, heights of epoch {epoch}",
            header.height,
            "The validators of one epoch decide no height of another.",
        )
    if header.height == over.height:
        meaning = "Two blocks of one height cannot both be in one history."
        same(where, header_digest(over), header_digest(header), meaning)
        same(f"{where}.path", 0, len(block.path), "The block itself needs no path.")
        return
    included(
        f"{where}.path",
        history_leaf(header_digest(header)),
        Place(header.height, block.path),
        size=over.height,
        root=over.history_root,
        meaning=f"The final block {over.height} does not have this block in its history.",
    )


def _check_is_block(last: ProvenBlock) -> None:
    """That the checkpoint is a block of its own. A carrier is final too, and has the sealing
    block's height with another digest."""
    if may_be_carrier(last.header) and last.parent is None:
        meaning = "It may be a carrier, which is no block of the chain."
        raise Fault("blocks[-1].parent", f"block {last.header.height - 1}", None, meaning)


def _check_parent(block: ProvenBlock, where: str) -> None:
    parent = block.parent
    if parent is None:
        return
    meaning = "What is proven in it is no state that this block builds on."
    same(f"{where}.parent", block.header.parent, header_digest(parent), meaning)
    same(f"{where}.parent.height", block.header.height - 1, parent.height, meaning)


# --- what the other checks need ---------------------------------------------------------------


def checkpoint(evidence: Evidence) -> Header:
    """The block as of which the evidence speaks."""
    return evidence.blocks[-1].header


def declared_validators(evidence: Evidence, genesis: Genesis) -> ValidatorSet:
    """The set that the last link names; `check_validators` says whether it is true."""
    return evidence.epochs[-1].link.validators if evidence.epochs else genesis.validator_set


def members(evidence: Evidence, genesis: Genesis) -> list[Validator]:
    """Every validator of an epoch up to the checkpoint's, the latest epoch's last."""
    sets = [genesis.validator_set, *(ended.link.validators for ended in evidence.epochs)]
    return [validator for each in sets for validator in each.validators]


class BlocksByHeight:
    """Finds the block that a part of the evidence says it stands in."""

    def __init__(self, evidence: Evidence) -> None:
        self._blocks = {block.header.height: block for block in evidence.blocks}

    def at(self, height: int, where: str) -> ProvenBlock:
        """Raises Fault if the evidence does not have it."""
        block = self._blocks.get(height)
        if block is None:
            meaning = "It stands in a block that is not in the evidence."
            raise Fault(where, "a height of one of the blocks", height, meaning)
        return block


def included(
    where: str, leaf: bytes, place: Place, *, size: int, root: bytes, meaning: str
) -> None:
    """Check a leaf's place in a tree. Raises Fault."""
    try:
        verify_inclusion(leaf, place.index, size, place.path, root)
    except ProofError as error:
        expected = f"a path from leaf {place.index} of {size} to {root.hex()}"
        raise Fault(where, expected, error, meaning) from error


def check_row(where: str, key: bytes, record: bytes | None, proof: MapProof, root: bytes) -> None:
    """Check that the state with this root has exactly this record under the key; None: that it has
    none. Raises Fault."""
    try:
        if record is None:
            verify_absent(root, key, proof)
        else:
            verify_present(root, key, record, proof)
    except ProofError as error:
        expected = f"what the state under {root.hex()} holds"
        raise Fault(where, expected, error, "The ledger's state says something else.") from error


def headers_of(evidence: Evidence) -> list[Header]:
    """Every header that the evidence shows to be of its history, if its checks pass."""
    headers = [header for _, header in _headers(evidence)]
    return [*(ended.link.seal for ended in evidence.epochs), *headers]


def _headers(evidence: Evidence) -> list[tuple[str, Header]]:
    found = []
    for number, block in enumerate(evidence.blocks):
        found.append((f"blocks[{number}].header", block.header))
        if block.parent is not None:
            found.append((f"blocks[{number}].parent", block.parent))
    return found
