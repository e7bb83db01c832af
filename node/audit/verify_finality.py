"""The part of a dossier that says that its block is final, and who made it so.

The links of epochs lead from the genesis file to the validators of the block's epoch; a quorum
of those finalized the block itself, a later block of the epoch that has it in its history, or a
carrier of the epoch's sealing block. Blocks of an epoch begin above the sealing block before it,
and have every earlier sealing block in their history.
"""

from __future__ import annotations

from node.audit.dossier import Dossier, Finality, Place
from node.audit.epochs import check_carriers, check_finalization, follow
from node.audit.fault import Fault, Missing, known, same
from node.chain.block import header_digest, validator_set_digest
from node.chain.genesis import Genesis
from node.chain.merkle import ProofError, history_leaf, verify_inclusion
from node.chain.types import Header, Validator, ValidatorSet


def check_chain(dossier: Dossier, genesis: Genesis) -> str:
    header = dossier.header
    meaning = "This is evidence about another chain than the genesis file describes."
    same("header.chain_id", genesis.chain_id, header.chain_id, meaning)
    same("envelope.chain_id", genesis.chain_id, dossier.signed.envelope.chain_id, meaning)
    known("header.version", header.version)
    return f"network {genesis.network}, chain {genesis.chain_id.hex()}"


def check_validators(dossier: Dossier, genesis: Genesis) -> str:
    header, links = dossier.header, [ended.link for ended in dossier.epochs]
    validators = follow(genesis, links)[-1]
    meaning = "The block is of another epoch than the links lead to, so of other validators."
    same("header.epoch", validators.epoch, header.epoch, meaning)
    same("header.validator_set", validator_set_digest(validators), header.validator_set, meaning)
    count = len(validators.validators)
    if not links:
        return f"the {count} validators of the genesis file, epoch 0"
    return (
        f"the {count} validators of epoch {validators.epoch}; a quorum of each epoch's signed for "
        "the next, from the genesis file's on"
    )


def check_seals(dossier: Dossier, genesis: Genesis) -> str:
    """That every sealing block so far is in the history that this epoch's validators signed."""
    seals = [ended.link.seal for ended in dossier.epochs]
    if not seals:
        return "no epoch ended before this block"
    if dossier.header.height <= seals[-1].height:
        raise Fault(
            "header.height",
            f"above {seals[-1].height}, where epoch {seals[-1].epoch} ended",
            dossier.header.height,
            "The validators of one epoch decide no height of another.",
        )
    for number, ended in enumerate(dossier.epochs):
        after = seals[number + 1] if number + 1 < len(seals) else _certified(dossier)
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


def check_finality(dossier: Dossier, genesis: Genesis) -> str:
    finality, authority = _finality(dossier), dossier.authority
    block, carriers = _certified(dossier), finality.carriers
    validators = declared_validators(dossier, genesis)
    check_carriers(block, carriers, validators, "carriers")
    chain = (block, *carriers)
    parent = None
    if carriers:
        parent = chain[-2]
    elif finality.later is None and authority is not None:
        parent = authority.parent
    check_finalization(
        finality.certificate, chain[-1], parent, validators, chain_id=genesis.chain_id
    )
    signers, count = len(finality.certificate.signatures), len(validators.validators)
    through = f", through {len(carriers)} block(s) that carry it," if carriers else ""
    return f"block {block.height}{through} finalized by {signers} of {count} validators"


def check_ancestry(dossier: Dossier, genesis: Genesis) -> str:
    later, header = _finality(dossier).later, dossier.header
    if later is None:
        return f"the certificate is for block {header.height} itself"
    same("later.chain_id", genesis.chain_id, later.header.chain_id, "It is another chain's.")
    same(
        "later.epoch",
        header.epoch,
        later.header.epoch,
        "A certificate of one epoch covers no block of another.",
    )
    included(
        "later.path",
        history_leaf(header_digest(header)),
        Place(header.height, later.path),
        size=later.header.height,
        root=later.header.history_root,
        meaning="The finalized block does not have this block in its history.",
    )
    return f"block {header.height} is in the history of block {later.header.height}"


# --- what the other checks need ---------------------------------------------------------------


def declared_validators(dossier: Dossier, genesis: Genesis) -> ValidatorSet:
    """The set that the dossier's last link names; `check_validators` says whether it is true."""
    return dossier.epochs[-1].link.validators if dossier.epochs else genesis.validator_set


def members(dossier: Dossier, genesis: Genesis) -> list[Validator]:
    """Every validator of an epoch up to the block's, the latest epoch's last."""
    sets = [genesis.validator_set, *(ended.link.validators for ended in dossier.epochs)]
    return [validator for each in sets for validator in each.validators]


def included(
    where: str, leaf: bytes, place: Place, *, size: int, root: bytes, meaning: str
) -> None:
    """Check a leaf's place in a tree. Raises Fault."""
    try:
        verify_inclusion(leaf, place.index, size, place.path, root)
    except ProofError as error:
        expected = f"a path from leaf {place.index} of {size} to {root.hex()}"
        raise Fault(where, expected, error, meaning) from error


def _certified(dossier: Dossier) -> Header:
    """The block that the certificate is for, be it through carriers."""
    later = _finality(dossier).later
    return dossier.header if later is None else later.header


def _finality(dossier: Dossier) -> Finality:
    if dossier.finality is None:
        raise Missing("there is no proof that the block is final")
    return dossier.finality
