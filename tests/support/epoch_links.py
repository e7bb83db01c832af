"""Epochs that end one after another, with real signatures and a history, but without a ledger.

`EpochWorld` plays the validators of every epoch, and lets a test change any header or signature
before it is signed: what a forger could do who holds every key.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from consensus.messages import VOTE_DOMAIN, Certificate, Content, Kind, Vote, quorum, vote_payload
from node.audit.dossier import EndedEpoch
from node.audit.epochs import EpochLink, leader
from node.chain.block import RULE_VERSION, header_digest, validator_set_digest
from node.chain.genesis import Genesis
from node.chain.merkle import EMPTY_ROOT, history_leaf, inclusion_proof, root
from node.chain.signature import Ed25519Signer
from node.chain.types import Header, Validator, ValidatorSet
from tests.support import world


def vote_signer(index: int, epoch: int) -> Ed25519Signer:
    """The key that member `index` votes with in this epoch."""
    return world.vote_signer(index) if epoch == 0 else world.signer(f"vote {index} @ {epoch}")


def validator_set(epoch: int, members: Sequence[int] = range(4)) -> ValidatorSet:
    """The set of these members, each with its key of the epoch."""
    return ValidatorSet(
        epoch,
        tuple(
            Validator(
                f"node{index}",
                world.BANKS[index % len(world.BANKS)].lei,
                vote_signer(index, epoch).public_key,
                world.node_signer(index).public_key,
            )
            for index in members
        ),
    )


def some_digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def vote(
    voter: int,
    view: int,
    kind: Kind,
    content: Content | None = None,
    *,
    epoch: int = 0,
    chain_id: bytes | None = None,
    member: int | None = None,
    signing_epoch: int | None = None,
) -> Vote:
    """One signed vote. `member`, `signing_epoch`: whose key of which epoch signs, if it is not
    that of the index in the vote's own epoch."""
    chain = world.genesis().chain_id if chain_id is None else chain_id
    signer = vote_signer(
        voter if member is None else member, epoch if signing_epoch is None else signing_epoch
    )
    payload = vote_payload(epoch, view, kind, content)
    return Vote(epoch, view, kind, content, voter, signer.sign(VOTE_DOMAIN, chain, payload))


def certificate(
    view: int,
    kind: Kind,
    content: Content | None,
    voters: Sequence[int],
    *,
    epoch: int = 0,
    chain_id: bytes | None = None,
    members: Sequence[int] | None = None,
    signing_epoch: int | None = None,
) -> Certificate:
    """A certificate by these voters; `members[i]` holds the key of index i, i itself if None."""
    signatures = tuple(
        (
            i,
            vote(
                i,
                view,
                kind,
                content,
                epoch=epoch,
                chain_id=chain_id,
                member=None if members is None else members[i],
                signing_epoch=signing_epoch,
            ).signature,
        )
        for i in voters
    )
    return Certificate(epoch, view, kind, content, signatures)


class EpochWorld:
    """A chain of headers that are signed by whoever is a member in their epoch."""

    def __init__(self, genesis: Genesis | None = None) -> None:
        self.genesis = genesis or world.genesis()
        count = len(self.genesis.validator_set.validators)
        self.members: list[Sequence[int]] = [range(count)]
        self.sets = [self.genesis.validator_set]
        self.links: list[EpochLink] = []
        self.leaves = [history_leaf(some_digest("genesis"))]
        self.parent = some_digest("genesis")
        self.digests = [self.parent]
        """Header digests by height."""
        self.view = 0
        self.time = self.genesis.time

    @property
    def epoch(self) -> int:
        return len(self.sets) - 1

    def header(self, **fields: Any) -> Header:
        """The next block's header."""
        validators = self.sets[-1]
        view = fields.pop("view", self.view + 1)
        digest = validator_set_digest(validators)
        header = Header(
            version=RULE_VERSION,
            chain_id=self.genesis.chain_id,
            epoch=self.epoch,
            view=view,
            height=len(self.leaves),
            parent=self.parent,
            timestamp=self.time + 500,
            proposer=leader(validators, view),
            instructions_count=0,
            instructions_root=EMPTY_ROOT,
            outcomes_count=0,
            outcomes_root=EMPTY_ROOT,
            state_root=some_digest(f"state {len(self.leaves)}"),
            history_root=root(self.leaves),
            validator_set=digest,
            next_validator_set=digest,
        )
        return replace(header, **fields)

    def add(self, header: Header | None = None) -> Header:
        """Put a block on the chain."""
        chosen = header or self.header()
        self.leaves.append(history_leaf(header_digest(chosen)))
        self.digests.append(header_digest(chosen))
        self.parent, self.view, self.time = header_digest(chosen), chosen.view, chosen.timestamp
        return chosen

    def finalize(self, header: Header, parent_view: int, **options: Any) -> Certificate:
        """A finalization of the header by a quorum of its epoch, unless told otherwise."""
        members = options.pop("members", self.members[-1])
        signing_epoch = options.pop("signing_epoch", header.epoch)
        chosen: dict[str, Any] = {
            "view": header.view,
            "kind": Kind.FINALIZE,
            "voters": range(quorum(len(members))),
            "epoch": header.epoch,
            "signing_epoch": signing_epoch,
            "chain_id": self.genesis.chain_id,
        } | options
        content = Content(parent_view, header_digest(header))
        return certificate(content=content, members=members, **chosen)

    def carrier(self, parent: Header, /, **fields: Any) -> Header:
        """A carrier above the sealing block or another carrier."""
        view = fields.pop("view", parent.view + 1)
        chosen = {
            "view": view,
            "parent": header_digest(parent),
            "proposer": leader(self.sets[-1], view),
            "instructions_count": 0,
            "instructions_root": EMPTY_ROOT,
            "outcomes_count": 0,
            "outcomes_root": EMPTY_ROOT,
        } | fields
        return replace(parent, **chosen)

    def end_epoch(
        self,
        *,
        blocks: int = 2,
        carriers: int = 0,
        members: Sequence[int] | None = None,
        validators: ValidatorSet | None = None,
        seal: dict[str, Any] | None = None,
        carrier: dict[str, Any] | None = None,
        certificate: dict[str, Any] | None = None,
    ) -> EpochLink:
        """End the epoch at its `blocks`th block and begin the next. `seal`, `carrier` (the last
        one) and `certificate` change what is signed before it is signed."""
        for _ in range(blocks - 1):
            self.add()
        chosen = list(members or self.members[-1])
        following = validators or validator_set(self.epoch + 1, chosen)
        below = self.view
        fields = {"next_validator_set": validator_set_digest(following)} | (seal or {})
        sealing = self.header(**fields)
        chain = [sealing]
        for number in range(carriers):
            changed = (carrier or {}) if number == carriers - 1 else {}
            chain.append(self.carrier(chain[-1], **changed))
        parent_view = chain[-2].view if carriers else below
        options = {"parent_view": parent_view} | (certificate or {})
        finalization = self.finalize(chain[-1], **options)
        link = EpochLink(sealing, tuple(chain[1:]), finalization, following)
        self.add(sealing)
        self.links.append(link)
        self.sets.append(following)
        self.members.append(chosen)
        self.view = 0
        return link

    def path(self, height: int, size: int) -> tuple[bytes, ...]:
        """That the block of `height` is in the history of `size` leaves."""
        return tuple(inclusion_proof(self.leaves[:size], height))

    def ended(self, certified: int) -> tuple[EndedEpoch, ...]:
        """The ended epochs, as a dossier has them whose certificate is for height `certified`."""
        heights = [*(link.seal.height for link in self.links), certified][1:]
        return tuple(
            EndedEpoch(link, self.path(link.seal.height, size))
            for link, size in zip(self.links, heights, strict=True)
        )


def ended_epochs(count: int, *, carriers: int = 0) -> EpochWorld:
    """A world in which `count` epochs have ended."""
    made = EpochWorld()
    for _ in range(count):
        made.end_epoch(carriers=carriers)
    return made
