"""What the oracle knows of each node and each epoch, and how it reads what they say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from consensus.messages import (
    EpochSealed,
    Message,
    OwnProposal,
    OwnVote,
    Proposal,
    Record,
    SyncRequest,
    SyncResponse,
    Vote,
)
from devnet.sim.ballots import Ballot, Ballots


@dataclass(slots=True)
class NodeView:
    """What the oracle knows of one honest node. The first part survives crashes, as a disk does."""

    durable_votes: dict[tuple[int, Ballot], bytes] = field(default_factory=dict)
    """Every vote that was ever durable, by its epoch, with its signature."""
    durable_bodies: set[bytes] = field(default_factory=set)
    durable_proposals: set[Proposal] = field(default_factory=set)
    epoch: int = 0
    """In which its core is; everything below is of this epoch."""
    finalized: set[bytes] = field(default_factory=set)
    """Blocks that it holds a finalization of, above its floor."""
    bodies: set[bytes] = field(default_factory=set)
    """Blocks that its core has had executed, or that it has recorded, in this epoch."""
    entered: int = 0
    """Highest view entered in this incarnation; before its first, highest view voted in."""
    floor_view: int = 0
    """View of the highest commit the core has asked for in this incarnation."""
    height: int = 0
    tip: bytes = b""
    votes: set[Ballot] = field(default_factory=set)
    """Votes durable or written in this incarnation: what it must remember having made."""
    unproven: list[tuple[int, int]] = field(default_factory=list)
    """(records written then, view) of entries whose certificate is still to be checked: own votes
    in it count once they are durable."""
    written: int = 0
    """Records written in this incarnation."""
    synced: int = 0
    """Of those, how many are durable."""


@dataclass(frozen=True, slots=True)
class EpochView:
    """A validator set, and all that its members are known to have signed."""

    machines: tuple[int, ...]
    keys: tuple[bytes, ...]
    ballots: Ballots


def epoch_of(message: Message) -> int | None:
    """In which epoch a message is said; None for those that are said in none."""
    match message:
        case Proposal(vote=vote):
            return vote.epoch
        case SyncRequest() | SyncResponse() | EpochSealed():
            return None
        case _:
            return message.epoch


def is_no_fault(reason: str) -> bool:
    """Answers that come twice or late, and what is said by who is ahead or behind, happen to
    honest senders: they are not taken, and counted, and nothing is held against anybody."""
    return reason.endswith(("not asked for", "far ahead")) or reason.startswith("message: of an ep")


def ballot_of(vote: Vote) -> Ballot:
    return (vote.view, vote.kind, vote.content)


def own_votes(records: Iterable[Record]) -> list[Vote]:
    """The votes of its owner that a journal records; a proposal's record holds its vote too."""
    votes = []
    for record in records:
        match record:
            case OwnVote(vote=vote) | OwnProposal(proposal=Proposal(vote=vote)):
                votes.append(vote)
    return votes
