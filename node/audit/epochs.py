"""The one check of validator history: who the validators of each epoch were, from genesis on.

An epoch ends with its *sealing block* S, whose header names the next validator set. S is final
by a certificate for itself, or for a *carrier*: a descendant of S in the same epoch that moves
nothing (S's height, time and roots, no instructions) and only serves to finalize S. So one
`EpochLink` hands over from one set to the next: S, the carriers up to what the certificate
names, the certificate, and the next set. The certificate is checked with the keys of the set
that the links before it lead to, never with keys that the link itself brings.

Whoever follows all links from the genesis file knows: a quorum of each epoch's keys signed the
hand-over to the next. Dossiers, the audit of a chain and state sync all rest on this file alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from msgspec import Meta

from consensus import certificate as certificates
from consensus.messages import MAX_CARRIERS, Certificate, Kind
from node.audit.fault import Fault, known, same
from node.chain.block import header_digest, validator_set_digest
from node.chain.genesis import Genesis
from node.chain.merkle import EMPTY_ROOT
from node.chain.signature import Verify, verify
from node.chain.types import Header, ValidatorSet, _Canonical

MAX_EPOCHS = 65_536
"""Bound on the links of one piece of evidence: an epoch a day for more than a century."""

Carriers = Annotated[tuple[Header, ...], Meta(max_length=MAX_CARRIERS)]
"""Headers from a sealing block's child to the one that the certificate names, ascending."""

_NO_CARRIER = "It is no carrier, and a block above the sealing block is not of this epoch."


class EpochLink(_Canonical, frozen=True, tag="epoch-link/1"):
    """The hand-over from one epoch's validators to the next one's."""

    seal: Header
    """Of the sealing block: the last block of its epoch."""
    carriers: Carriers
    """Empty where the certificate names the sealing block itself."""
    finalization: Certificate
    """Of the last carrier, or of the sealing block."""
    validators: ValidatorSet
    """Of the next epoch."""


Links = Annotated[tuple[EpochLink, ...], Meta(max_length=MAX_EPOCHS)]
"""Of epochs 0, 1, …, in order."""


class ValidatorHistory:
    """The validator sets that links proved so far. Grows by `add`, one epoch at a time."""

    def __init__(self, genesis: Genesis) -> None:
        self._chain_id = genesis.chain_id
        self.sets = [genesis.validator_set]
        """The proven sets of epochs 0, 1, …"""
        self._height, self._time = 0, genesis.time

    @property
    def first_height(self) -> int:
        """The first height of the last epoch known: the sealing block before it, plus one."""
        return self._height + 1

    def add(self, link: EpochLink) -> ValidatorSet:
        """Check the next link and take over the set that it hands over to, which is returned.

        Raises Fault, and then knows what it knew before."""
        current, where = self.sets[-1], f"epochs[{len(self.sets) - 1}]"
        self._check_seal(link.seal, current, f"{where}.seal")
        check_carriers(link.seal, link.carriers, current, f"{where}.carriers")
        chain = (link.seal, *link.carriers)
        parent = chain[-2] if link.carriers else None
        check_finalization(
            link.finalization,
            chain[-1],
            parent,
            current,
            chain_id=self._chain_id,
            where=f"{where}.finalization",
        )
        check_next_set(link.validators, link.seal, f"{where}.validators")
        self.sets.append(link.validators)
        self._height, self._time = link.seal.height, link.seal.timestamp
        return link.validators

    def _check_seal(self, seal: Header, current: ValidatorSet, where: str) -> None:
        meaning = "It is not the block that ends this epoch of this chain."
        known(f"{where}.version", seal.version)
        for name, expected in (
            ("chain_id", self._chain_id),
            ("epoch", current.epoch),
            ("validator_set", validator_set_digest(current)),
            ("proposer", leader(current, seal.view)),
        ):
            same(f"{where}.{name}", expected, getattr(seal, name), meaning)
        for name, floor in (("height", self._height), ("timestamp", self._time), ("view", 0)):
            found = getattr(seal, name)
            if found <= floor:
                raise Fault(f"{where}.{name}", f"above {floor}", found, meaning)


def follow(genesis: Genesis, links: Iterable[EpochLink]) -> list[ValidatorSet]:
    """The validator sets of epochs 0 … len(links): the genesis file's, and those that the links
    hand over to, one after another. Raises Fault naming the field of the first bad link."""
    history = ValidatorHistory(genesis)
    for link in links:
        history.add(link)
    return history.sets


def leader(validators: ValidatorSet, view: int) -> int:
    """Index of the validator whose turn the view is: round robin on (epoch, view)."""
    return (validators.epoch + view) % len(validators.validators)


def check_carriers(
    seal: Header, carriers: Sequence[Header], validators: ValidatorSet, where: str
) -> None:
    """Check that the carriers chain from the sealing block on and move nothing. Raises Fault.

    `validators`: of the seal's epoch. There may be none."""
    if carriers and seal.next_validator_set == seal.validator_set:
        raise Fault(where, "none", len(carriers), "The block below them ends no epoch.")
    parent = seal
    for number, carrier in enumerate(carriers):
        at = f"{where}[{number}]"
        for name, expected in (
            ("parent", header_digest(parent)),
            ("version", seal.version),
            ("chain_id", seal.chain_id),
            ("epoch", seal.epoch),
            ("height", seal.height),
            ("timestamp", seal.timestamp),
            ("proposer", leader(validators, carrier.view)),
            ("instructions_count", 0),
            ("instructions_root", EMPTY_ROOT),
            ("outcomes_count", 0),
            ("outcomes_root", EMPTY_ROOT),
            ("state_root", seal.state_root),
            ("history_root", seal.history_root),
            ("validator_set", seal.validator_set),
            ("next_validator_set", seal.next_validator_set),
        ):
            same(f"{at}.{name}", expected, getattr(carrier, name), _NO_CARRIER)
        if carrier.view <= parent.view:
            raise Fault(f"{at}.view", f"above {parent.view}", carrier.view, _NO_CARRIER)
        parent = carrier


def check_finalization(
    certificate: Certificate,
    header: Header,
    parent: Header | None,
    validators: ValidatorSet,
    *,
    chain_id: bytes,
    where: str = "certificate",
    verify: Verify = verify,
) -> None:
    """Check that a quorum of these validators finalized this header's block. Raises Fault.

    `parent`: the header below it in the same epoch, where that is known. Below an epoch's first
    block is view 0, whatever view the old epoch's sealing block had: then `parent` is None, or
    that sealing block."""
    what = "Its signers finalized something else than this block."
    same(f"{where}.kind", Kind.FINALIZE.name, certificate.kind.name, what)
    same(f"{where}.epoch", header.epoch, certificate.epoch, what)
    same(f"{where}.view", header.view, certificate.view, what)
    content = certificate.content
    block = None if content is None else content.block
    same(f"{where}.block", header_digest(header), block, what)
    if parent is not None and content is not None:
        view = parent.view if parent.epoch == header.epoch else 0
        same(f"{where}.parent_view", view, content.parent_view, what)
    check_signatures(certificate, validators, chain_id, where, verify)


def check_signatures(
    certificate: Certificate,
    validators: ValidatorSet,
    chain_id: bytes,
    where: str,
    verify: Verify = verify,
) -> None:
    """Check that q..n of these validators signed what the certificate says. Raises Fault.

    The epoch is the caller's to compare."""
    keys = [validator.vote_key for validator in validators.validators]
    try:
        certificates.check(certificate, keys, lambda k, d, p, s: verify(k, d, chain_id, p, s))
    except certificates.BadCertificate as error:
        raise bad_signatures(where, validators, error.reason) from error


def bad_signatures(where: str, validators: ValidatorSet, reason: str) -> Fault:
    """What `check_signatures` raises, for this reason."""
    return Fault(
        f"{where}.signatures",
        f"signatures of a quorum of the validators of epoch {validators.epoch}",
        reason,
        "It is not shown to be agreed.",
    )


def check_next_set(validators: ValidatorSet, seal: Header, where: str) -> None:
    """Check that this is the set that the sealing block hands over to. Raises Fault."""
    same(
        f"{where}.epoch",
        seal.epoch + 1,
        validators.epoch,
        "The next epoch has the next number.",
    )
    same(
        where,
        seal.next_validator_set,
        validator_set_digest(validators),
        "The sealing block names other validators.",
    )
    # One key in two places would let a quorum be met by fewer holders than it counts.
    seen: set[str | bytes] = set()
    for number, validator in enumerate(validators.validators):
        for name in ("name", "vote_key", "node_key"):
            value = getattr(validator, name)
            if value in seen:
                raise Fault(
                    f"{where}[{number}].{name}",
                    "one that no other member of the set has",
                    value,
                    "A quorum of this set could be met by fewer holders than it counts.",
                )
            seen.add(value)
