"""The part of the state that governance changes: epochs, validators' keys, proposals, proofs of
equivocation.

`Governed` is used twice: as the whole of it in the committed base, and as what one block changed
in that block's layer. Payments touch none of it; a layer without such changes has none.
`GovernedReading` looks through both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from node.chain.encoding import encode
from node.chain.records import (
    EpochKey,
    EpochRecord,
    EquivocationKey,
    EquivocationRecord,
    PendingEpoch,
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


class GovernedReading:
    """What a state tells of it, from the changes of each block down to the base."""

    __slots__ = ()

    time: int

    def _governed(self) -> Iterator[Governed]:
        """Newest first."""
        raise NotImplementedError

    @property
    def epoch_record(self) -> EpochRecord:
        """The epoch of the next block, and the one that is pending."""
        found = next(each.epoch for each in self._governed() if each.epoch is not None)
        assert found is not None
        return found

    @property
    def validator_set(self) -> ValidatorSet:
        """The set in force for the *next* block: after a sealing block, the new epoch's."""
        found = self.validator_set_of(self.epoch_record.epoch)
        assert found is not None, "the state has no set for its own epoch"
        return found

    def validator_set_of(self, epoch: int) -> ValidatorSet | None:
        """The set of an epoch up to the one in force; None for one that has not begun."""
        for each in self._governed():
            found = each.sets.get(epoch)
            if found is not None:
                return found
        return None

    @property
    def pending_epoch(self) -> PendingEpoch | None:
        """The approved next epoch, if there is one; its number is `validator_set.epoch` + 1."""
        return self.epoch_record.pending

    def validator_key(self, public_key: bytes) -> ValidatorKeyRecord | None:
        """What this key is or was to a validator; None: nothing ever."""
        for each in self._governed():
            found = each.keys.get(public_key)
            if found is not None:
                return found
        return None

    def proposal(self, id: bytes) -> ProposalRecord | None:
        """The proposal with this id, if it is neither approved nor swept away; it may have
        expired."""
        for each in self._governed():
            if id in each.proposals:
                return each.proposals[id]
        return None

    def stored_proposals(self) -> list[ProposalRecord]:
        """Every proposal that stands in the state, also expired ones, by id."""
        merged: dict[bytes, ProposalRecord | None] = {}
        for each in reversed(list(self._governed())):
            merged.update(each.proposals)
        return [found for _, found in sorted(merged.items()) if found is not None]

    def proposals(self) -> list[ProposalRecord]:
        """The open proposals at this block's time, by id."""
        return [each for each in self.stored_proposals() if each.expires >= self.time]

    def equivocation(self, epoch: int, view: int, voter: int) -> EquivocationRecord | None:
        """The proof against this voter in this view."""
        for each in self._governed():
            found = each.equivocations.get((epoch, view, voter))
            if found is not None:
                return found
        return None

    def reports_against(self, epoch: int, voter: int) -> int:
        """How many equivocations of this voter are proven."""
        for each in self._governed():
            found = each.reports.get((epoch, voter))
            if found is not None:
                return found
        return 0

    def equivocations(self) -> list[EquivocationRecord]:
        """Every proven equivocation, by epoch, view and voter."""
        merged: dict[tuple[int, int, int], EquivocationRecord] = {}
        for each in self._governed():
            merged.update(each.equivocations)
        return [merged[place] for place in sorted(merged)]
