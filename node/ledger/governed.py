"""The part of the state that governance changes: epochs, validators' keys, proposals, proofs of
equivocation.

`Governed` is used twice: as the whole of it in the committed base, and as what one block changed
in that block's layer. Payments touch none of it; a layer without such changes has none.
"""

from __future__ import annotations

from collections.abc import Iterable

from node.chain.encoding import encode
from node.chain.records import (
    EpochKey,
    EpochRecord,
    EquivocationKey,
    EquivocationRecord,
    ProposalKey,
    ProposalRecord,
    ValidatorKeyKey,
    ValidatorKeyRecord,
    ValidatorSetKey,
)
from node.chain.types import ValidatorSet

EquivocationId = tuple[int, int, int]
"""(epoch, view, voter): there is one record for each."""

EPOCH_KEY = encode(EpochKey())


def validator_set_key(epoch: int) -> bytes:
    """State key of the validator set of an epoch."""
    return encode(ValidatorSetKey(epoch))


def validator_key_key(public_key: bytes) -> bytes:
    """State key of a vote or node key."""
    return encode(ValidatorKeyKey(public_key))


def proposal_key(id: bytes) -> bytes:
    """State key of an open proposal."""
    return encode(ProposalKey(id))


def equivocation_key(epoch: int, view: int, voter: int) -> bytes:
    """State key of the proof against a voter in a view."""
    return encode(EquivocationKey(epoch, view, voter))


class Governed:
    """All of it, or what a block changed."""

    __slots__ = ("epoch", "equivocations", "keys", "proposals", "reports", "sets")

    def __init__(self) -> None:
        self.epoch: EpochRecord | None = None
        self.sets: dict[int, ValidatorSet] = {}
        """By epoch."""
        self.keys: dict[bytes, ValidatorKeyRecord] = {}
        """Every vote and node key that ever was named for a validator."""
        self.proposals: dict[bytes, ProposalRecord | None] = {}
        """By id; None: closed by this block."""
        self.equivocations: dict[EquivocationId, EquivocationRecord] = {}
        self.reports: dict[tuple[int, int], int] = {}
        """(epoch, voter) → how many equivocations are proven, so that they need not be counted."""

    def is_empty(self) -> bool:
        """Whether nothing stands here."""
        return self.epoch is None and not (
            self.sets or self.keys or self.proposals or self.equivocations
        )

    def put_equivocation(self, proven: EquivocationRecord, reports: int) -> None:
        """Note a proof; `reports`: how many there are against this voter with it."""
        vote = proven.first
        self.equivocations[vote.epoch, vote.view, vote.voter] = proven
        self.reports[vote.epoch, vote.voter] = reports

    def merge(self, newer: Governed) -> None:
        """Take over what a block on top of this changed."""
        if newer.epoch is not None:
            self.epoch = newer.epoch
        self.sets.update(newer.sets)
        self.keys.update(newer.keys)
        for id, proposal in newer.proposals.items():
            if proposal is None:
                self.proposals.pop(id, None)
            else:
                self.proposals[id] = proposal
        self.equivocations.update(newer.equivocations)
        self.reports.update(newer.reports)

    def records(self) -> Iterable[tuple[bytes, bytes | None]]:
        """(state key, record) of everything that stands here; None: removed."""
        if self.epoch is not None:
            yield EPOCH_KEY, encode(self.epoch)
        for epoch, validators in self.sets.items():
            yield validator_set_key(epoch), encode(validators)
        for key, use in self.keys.items():
            yield validator_key_key(key), encode(use)
        for id, proposal in self.proposals.items():
            yield proposal_key(id), None if proposal is None else encode(proposal)
        for place, proven in self.equivocations.items():
            yield equivocation_key(*place), encode(proven)

    def load(self, key: object, record: object) -> bool:
        """Take in a stored record. False: it is none of these, or under another one's key."""
        match key, record:
            case EpochKey(), EpochRecord():
                self.epoch = record
            case ValidatorSetKey(), ValidatorSet() if record.epoch == key.epoch:
                self.sets[key.epoch] = record
            case ValidatorKeyKey(), ValidatorKeyRecord() if record.public_key == key.public_key:
                self.keys[key.public_key] = record
            case ProposalKey(), ProposalRecord() if record.id == key.id:
                self.proposals[key.id] = record
            case EquivocationKey(), EquivocationRecord():
                vote = record.first
                if (vote.epoch, vote.view, vote.voter) != (key.epoch, key.view, key.voter):
                    return False
                place = vote.epoch, vote.voter
                self.put_equivocation(record, self.reports.get(place, 0) + 1)
            case _:
                return False
        return True

    def fault(self) -> str | None:
        """What is missing in the whole of it, as it was loaded; None: nothing."""
        if self.epoch is None:
            return "the stored state has no epoch record"
        missing = next((e for e in range(self.epoch.epoch + 1) if e not in self.sets), None)
        return None if missing is None else f"the validator set of epoch {missing} is missing"
