"""A world whose operators govern its validators, and the instructions that they and nodes send.

CENTRALBANK has two keys of which one signs, BANKA and BANKB one each; those three are operators
and two of their keys decide. BANKC may run validators. CENTRALBANK operates all of genesis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from consensus.messages import VOTE_DOMAIN, Content, Kind, Vote, vote_payload
from node.chain.build import build, build_ready, build_report
from node.chain.instruction import CheckedInstruction, check_instruction
from node.chain.signature import ROLE_NODE, ROLE_VOTE, Ed25519Signer, prove_possession
from node.chain.types import (
    AddValidator,
    Approve,
    Change,
    Propose,
    RekeyValidator,
    RemoveValidator,
    Validator,
)
from node.ledger.work import Applied
from tests.support.ledger_world import DAY_MS, Chain, MadeBlock, World, signer

BANKS = {
    "CENTRALBANK": ("operator", "issuer", "validator"),
    "BANKA": ("direct-participant", "operator"),
    "BANKB": ("direct-participant", "operator", "validator"),
    "BANKC": ("direct-participant", "validator"),
    "WATCHDOG": ("supervisor",),
}
READINESS_MS = 10_000
THRESHOLD = 2


@dataclass(frozen=True)
class Member:
    """A validator with its keys."""

    validator: Validator
    vote: Ed25519Signer
    node: Ed25519Signer


def changed(
    member: Member,
    validator: Validator,
    *,
    vote: Ed25519Signer | None = None,
    node: Ed25519Signer | None = None,
) -> Member:
    """A member whose entry says `validator`, with the keys that go with it."""
    return Member(validator, vote or member.vote, node or member.node)


@dataclass
class Council:
    """The world's chain, and everything that governs it."""

    chain: Chain
    votes: dict[str, Ed25519Signer] = field(default_factory=dict)
    """Vote key that a name was last ready with, for a report."""

    @classmethod
    def make(
        cls,
        *,
        validators: int = 4,
        threshold: int = THRESHOLD,
        readiness_ms: int = READINESS_MS,
        seed: int = 1,
    ) -> Council:
        world = World.make(
            seed=seed,
            validators=validators,
            banks=BANKS,
            keys={"CENTRALBANK": (2, 1)},
            governance_threshold=threshold,
            readiness_ms=readiness_ms,
        )
        return cls(Chain(world))

    @property
    def world(self) -> World:
        return self.chain.world

    def key(self, bank: str, number: int = 0) -> Ed25519Signer:
        """A signing key of a bank."""
        return self.world.banks[bank].signers[number]

    # --- changes --------------------------------------------------------------------------------

    def member(
        self, name: str, *, operator: str = "BANKC", keys: str = "first", address: str = ""
    ) -> Member:
        """A validator whose keys follow from its name and `keys`."""
        vote, node = signer("member", name, keys, "vote"), signer("member", name, keys, "node")
        return Member(
            Validator(name, self.world.lei(operator), vote.public_key, node.public_key, address),
            vote,
            node,
        )

    def founder(self, index: int) -> Member:
        """A validator of the genesis set."""
        world = self.world
        validator = world.genesis.validator_set.validators[index]
        return Member(validator, world.votes[index], world.nodes[index])

    def _possessions(self, member: Member) -> tuple[bytes, bytes]:
        holder, chain_id = member.validator.operator, self.world.chain_id
        return (
            prove_possession(member.vote, ROLE_VOTE, holder, chain_id),
            prove_possession(member.node, ROLE_NODE, holder, chain_id),
        )

    def add(self, member: Member) -> AddValidator:
        return AddValidator(member.validator, *self._possessions(member))

    def rekey(self, member: Member) -> RekeyValidator:
        return RekeyValidator(member.validator, *self._possessions(member))

    def remove(self, name: str) -> RemoveValidator:
        return RemoveValidator(name)

    # --- instructions ---------------------------------------------------------------------------

    def propose(
        self,
        *changes: Change,
        sender: str = "CENTRALBANK",
        signers: Sequence[Ed25519Signer] | None = None,
        expires: int | None = None,
    ) -> CheckedInstruction:
        """A proposal; by default one that expires in a day. Its digest is its id."""
        raw = build(
            *self._head(sender),
            Propose(tuple(changes), self.chain.state.time + DAY_MS if expires is None else expires),
            self.world.banks[sender].signers[:1] if signers is None else signers,
        )
        return check_instruction(raw, self.world.chain_id)

    def approve(
        self,
        proposal: bytes,
        sender: str = "BANKA",
        signers: Sequence[Ed25519Signer] | None = None,
    ) -> CheckedInstruction:
        raw = build(
            *self._head(sender),
            Approve(proposal),
            self.world.banks[sender].signers[:1] if signers is None else signers,
        )
        return check_instruction(raw, self.world.chain_id)

    def ready(
        self,
        member: Member,
        epoch: int | None = None,
        *,
        vote: Ed25519Signer | None = None,
        possession: bytes | None = None,
        node: Ed25519Signer | None = None,
        name: str | None = None,
        sender: str | None = None,
    ) -> CheckedInstruction:
        """The member's word, by default with a vote key of its own for that epoch."""
        name = member.validator.name if name is None else name
        sender = member.validator.operator if sender is None else self.world.lei(sender)
        if epoch is None:
            epoch = self.chain.state.validator_set.epoch + 1
        vote = epoch_vote(name, epoch) if vote is None else vote
        self.votes[name] = vote
        raw = build_ready(
            *self._head(sender),
            name=name,
            epoch=epoch,
            vote_key=vote.public_key,
            possession=prove_possession(vote, ROLE_VOTE, sender, self.world.chain_id)
            if possession is None
            else possession,
            node=member.node if node is None else node,
        )
        return check_instruction(raw, self.world.chain_id)

    def report(self, *votes: Vote, reporter: Member | None = None) -> CheckedInstruction:
        """A report of these two votes, by node0 unless by another."""
        first, second = votes
        reporter = self.founder(0) if reporter is None else reporter
        raw = build_report(
            *self._head(reporter.validator.operator), first=first, second=second, node=reporter.node
        )
        return check_instruction(raw, self.world.chain_id)

    def _head(self, sender: str) -> tuple[bytes, str, str, int]:
        return self.world.head(sender, None, self.chain.state.time + DAY_MS)

    # --- whole steps ----------------------------------------------------------------------------

    def block(self, *instructions: CheckedInstruction, time: int | None = None) -> MadeBlock:
        return self.chain.block(*instructions, time=time)

    def reason(self, checked: CheckedInstruction) -> str | None:
        """The reason of the outcome of an instruction alone in a block."""
        return self.block(checked).outcomes[0].reason

    def pend(self, *changes: Change) -> MadeBlock:
        """Propose and approve in one block."""
        proposal = self.propose(*changes)
        block = self.block(proposal, self.approve(proposal.digest))
        assert [o.reason for o in block.outcomes] == [None, None]
        return block

    def advance(self, *members: Member) -> Applied:
        """A block in which these members are ready."""
        block = self.block(*(self.ready(member) for member in members))
        assert all(o.reason is None for o in block.outcomes), block.outcomes
        return block.applied

    def founders(self) -> list[Member]:
        return [self.founder(i) for i in range(len(self.world.votes))]

    # --- votes ----------------------------------------------------------------------------------

    def vote(
        self,
        key: Ed25519Signer,
        voter: int,
        kind: Kind,
        content: Content | None,
        *,
        epoch: int = 0,
        view: int = 7,
        chain_id: bytes | None = None,
    ) -> Vote:
        """A vote signed by `key`."""
        payload = vote_payload(epoch, view, kind, content)
        chain = self.world.chain_id if chain_id is None else chain_id
        return Vote(epoch, view, kind, content, voter, key.sign(VOTE_DOMAIN, chain, payload))


def epoch_vote(name: str, epoch: int) -> Ed25519Signer:
    """The vote key that a member makes for an epoch."""
    return signer("member", name, "epoch", epoch)


def content(number: int, parent: int = 3) -> Content:
    """What a vote may name: the block with this number."""
    return Content(parent, number.to_bytes(32, "big"))
