"""Forks as f+1 liars make them: two final blocks, and every certificate that it took.

With n = 3f+1 validators the liars are the first f+1, half of the honest ones see one branch and
half the other: so each side has exactly a quorum, and only the liars are in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from consensus.messages import Certificate, Content, Kind
from node.audit.epochs import EpochLink
from node.audit.proofs import Branch, ForkProof, Rival
from node.chain.block import header_digest, validator_set_digest
from node.chain.encoding import encode
from node.chain.types import Header
from tests.support import world
from tests.support.epoch_links import EpochWorld, certificate, some_digest, validator_set


@dataclass(frozen=True)
class Sides:
    """Who votes for which branch."""

    liars: tuple[int, ...]
    one: tuple[int, ...]
    other: tuple[int, ...]

    @classmethod
    def of(cls, validators: int) -> Sides:
        """f+1 liars and half of the honest validators on each side."""
        f = (validators - 1) // 3
        liars = tuple(range(f + 1))
        honest = tuple(range(f + 1, validators))
        return cls(liars, (*liars, *honest[:f]), (*liars, *honest[-f:]))


def forking_world(validators: int, epochs: int) -> EpochWorld:
    made = EpochWorld(world.genesis(validators))
    for _ in range(epochs):
        made.end_epoch()
    return made


def twin(made: EpochWorld) -> EpochWorld:
    """Another branch from the same block on."""
    other = EpochWorld(made.genesis)
    for name in ("members", "sets", "links", "leaves", "digests"):
        setattr(other, name, list(getattr(made, name)))
    other.parent, other.view, other.time = made.parent, made.view, made.time
    return other


def signed(
    made: EpochWorld, view: int, kind: Kind, content: Content | None, voters: tuple[int, ...]
) -> Certificate:
    return certificate(
        view,
        kind,
        content,
        voters,
        epoch=made.epoch,
        chain_id=made.genesis.chain_id,
        members=made.members[-1],
    )


def certified(
    made: EpochWorld, header: Header, parent_view: int, kind: Kind, voters: tuple[int, ...]
) -> Certificate:
    return signed(made, header.view, kind, Content(parent_view, header_digest(header)), voters)


def other_block(made: EpochWorld, **fields: Any) -> Header:
    """The next block, but not the one that `made.header()` is."""
    return made.add(made.header(state_root=some_digest("the other branch"), **fields))


def proof(
    lower: Branch,
    higher: Branch,
    certificates: list[Certificate],
    *,
    links: list[EpochLink],
    above: EpochWorld | None = None,
) -> ForkProof:
    """The proof with its parts in their order. `above`: whose history shows the rival."""
    rival = None
    if above is not None:
        height = lower.block.height
        at = above.digests[height]
        rival = Rival(at, above.path(height, higher.block.height))
    elif header_digest(lower.block) > header_digest(higher.block):
        lower, higher = higher, lower
    ordered = sorted(certificates, key=lambda c: (c.view, int(c.kind), encode(c)))
    return ForkProof(tuple(links), lower, higher, rival, tuple(ordered))


def same_view(validators: int = 4, epochs: int = 0) -> ForkProof:
    """Two blocks of one view are finalized: the finalizations themselves name the liars."""
    made = forking_world(validators, epochs)
    sides, other = Sides.of(validators), twin(made)
    below, one, two = made.view, made.add(), other_block(other)
    return proof(
        Branch(one, (), certified(made, one, below, Kind.FINALIZE, sides.one)),
        Branch(two, (), certified(other, two, below, Kind.FINALIZE, sides.other)),
        [],
        links=made.links,
    )


def by_nullification(validators: int = 4, epochs: int = 0, *, length: int = 1) -> ForkProof:
    """The view of one final block is skipped by the branch of another, `length` blocks long."""
    made = forking_world(validators, epochs)
    sides, other = Sides.of(validators), twin(made)
    below, one = made.view, made.add()
    skipped = signed(made, one.view, Kind.NULLIFY, None, sides.other)
    two, parent_view = other.add(other.header(view=one.view + 1)), below
    for _ in range(length - 1):
        parent_view, two = two.view, other.add()
    return proof(
        Branch(one, (), certified(made, one, below, Kind.FINALIZE, sides.one)),
        Branch(two, (), certified(other, two, parent_view, Kind.FINALIZE, sides.other)),
        [skipped],
        links=made.links,
        above=other if length > 1 else None,
    )


def by_notarizations(validators: int = 4, epochs: int = 0) -> ForkProof:
    """The other branch has a block of its own in the view of the final one, and builds on it."""
    made = forking_world(validators, epochs)
    sides, other = Sides.of(validators), twin(made)
    below, one, rival = made.view, made.add(), other_block(other)
    two = other.add()
    return proof(
        Branch(one, (), certified(made, one, below, Kind.FINALIZE, sides.one)),
        Branch(two, (), certified(other, two, rival.view, Kind.FINALIZE, sides.other)),
        [
            certified(made, one, below, Kind.NOTARIZE, sides.one),
            certified(other, rival, below, Kind.NOTARIZE, sides.other),
        ],
        links=made.links,
        above=other,
    )


def through_a_carrier(validators: int = 4, epochs: int = 0) -> ForkProof:
    """One branch ends the epoch, and its carrier skips the view of the other one's final block."""
    made = forking_world(validators, epochs)
    sides, other = Sides.of(validators), twin(made)
    following = validator_set(made.epoch + 1, made.members[-1])
    below = made.view
    seal = made.add(made.header(next_validator_set=validator_set_digest(following)))
    carrier = made.carrier(seal, view=seal.view + 2)
    two = other.add(other.header(view=seal.view + 1))
    skipped = signed(made, two.view, Kind.NULLIFY, None, sides.one)
    return proof(
        Branch(seal, (carrier,), certified(made, carrier, seal.view, Kind.FINALIZE, sides.one)),
        Branch(two, (), certified(other, two, below, Kind.FINALIZE, sides.other)),
        [skipped],
        links=made.links,
    )


CASES = {
    "two blocks of one view": same_view,
    "a later view, by nullification": by_nullification,
    "a later view, by notarizations": by_notarizations,
    "a later view, through a carrier": through_a_carrier,
}
