"""The rules of governance once more, slow and obvious, to hold the ledger against.

Nothing is looked up: everything is a list that is searched from its start. Shared with the ledger
are only the message types. Signatures and possession proofs are taken as sound.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from node.chain.types import (
    AddValidator,
    Approve,
    Instruction,
    Propose,
    ReadyValidator,
    RekeyValidator,
    RemoveValidator,
    RevokeKey,
    Validator,
    ValidatorChange,
)

DAY_MS = 24 * 3600 * 1000


@dataclass
class OperatorKey:
    holder: str
    public_key: bytes
    revoked_from: int | None = None


@dataclass
class Open:
    id: bytes
    proposer: str
    changes: tuple[ValidatorChange, ...]
    expires: int
    approvals: set[bytes]


@dataclass
class Pending:
    members: list[Validator]
    ready: list[str]
    deadline: int


@dataclass
class GovernanceModel:
    """The whole state as lists."""

    operators: tuple[str, ...]
    """LEIs with the role."""
    may_operate: tuple[str, ...]
    """LEIs that may answer for a validator."""
    keys: list[OperatorKey]
    other_keys: list[bytes]
    """Of participants that are no operators."""
    threshold: int
    readiness_ms: int
    members: list[Validator]
    epoch: int = 0
    pending: Pending | None = None
    open: list[Open] = field(default_factory=list)
    validator_keys: list[bytes] = field(default_factory=list)
    """Every one there ever was."""

    def __post_init__(self) -> None:
        for member in self.members:
            self.validator_keys += [member.vote_key, member.node_key]

    # --- what may stand -------------------------------------------------------------------------

    def may_stand(self, instruction: Instruction, height: int) -> bool:
        """Whether its keys may sign it; time and ids are not this model's."""
        signing = [each.public_key for each in instruction.signatures]
        if isinstance(instruction.envelope.body, ReadyValidator):
            nodes = [*self.members, *([] if self.pending is None else self.pending.members)]
            return any(
                [node.node_key] == signing and node.operator == instruction.envelope.sender
                for node in nodes
            )
        return all(
            any(
                key.public_key == each
                and key.holder == instruction.envelope.sender
                and self._valid(key, height)
                for key in self.keys
            )
            for each in signing
        )

    @staticmethod
    def _valid(key: OperatorKey, height: int) -> bool:
        return key.revoked_from is None or height < key.revoked_from

    # --- executing ------------------------------------------------------------------------------

    def execute(self, instruction: Instruction, id: bytes, height: int, time: int) -> str | None:
        """The reason of its outcome."""
        envelope = instruction.envelope
        signing = {each.public_key for each in instruction.signatures}
        body = envelope.body
        if isinstance(body, Propose):
            return self._propose(envelope.sender, body, id, signing, height=height, time=time)
        if isinstance(body, Approve):
            return self._approve(envelope.sender, body, signing, height, time)
        if isinstance(body, ReadyValidator):
            return self._ready(envelope.sender, body, signing)
        assert isinstance(body, RevokeKey)
        return self._revoke(envelope.sender, body, height)

    def _propose(
        self, sender: str, body: Propose, id: bytes, signing: set[bytes], *, height: int, time: int
    ) -> str | None:
        if sender not in self.operators:
            return "DS19"
        if body.expires <= time or body.expires > time + 30 * DAY_MS:
            return "DT01"
        still = [each for each in self.open if each.expires >= time]
        if len([each for each in still if each.proposer == sender]) >= 8:
            return "AM21"
        changes = tuple(each for each in body.changes if isinstance(each, ValidatorChange))
        assert len(changes) == len(body.changes), "this model knows validators alone"
        after = self._after(changes)
        if isinstance(after, str):
            return after
        self.open = still
        if self._count(signing, height) >= self.threshold:
            self._pend(after, time)
        else:
            self.open.append(Open(id, sender, changes, body.expires, signing))
        return None

    def _approve(
        self, sender: str, body: Approve, signing: set[bytes], height: int, time: int
    ) -> str | None:
        if sender not in self.operators:
            return "DS19"
        found = [each for each in self.open if each.id == body.proposal]
        if not found:
            return "TD01"
        proposal = found[0]
        if proposal.expires < time:
            return "DS24"
        if signing <= proposal.approvals:
            return "DS26"
        approvals = proposal.approvals | signing
        if self._count(approvals, height) >= self.threshold:
            after = self._after(proposal.changes)
            if isinstance(after, str):
                return after
            self._pend(after, time)
            self.open.remove(proposal)
        else:
            proposal.approvals = approvals
        return None

    def _count(self, approvals: set[bytes], height: int) -> int:
        return len(
            [
                key
                for key in self.keys
                if key.public_key in approvals
                and key.holder in self.operators
                and self._valid(key, height)
            ]
        )

    def _used(self, key: bytes) -> bool:
        mine = [each.public_key for each in self.keys]
        return key in mine or key in self.other_keys or key in self.validator_keys

    def _after(self, changes: tuple[ValidatorChange, ...]) -> list[Validator] | str:
        members = list(self.members if self.pending is None else self.pending.members)
        names, named_keys = [], []
        for change in changes:
            name = change.name if isinstance(change, RemoveValidator) else change.validator.name
            old = [member for member in members if member.name == name]
            if name in names:
                return "DU01"
            names.append(name)
            if isinstance(change, AddValidator):
                if old:
                    return "DU01"
            elif not old:
                return "DS14"
            if isinstance(change, RemoveValidator):
                members.remove(old[0])
                continue
            new = change.validator
            if new.operator not in self.may_operate:
                return "AGNT"
            kept = [old[0].vote_key, old[0].node_key] if old else [b"", b""]
            for key, own in zip([new.vote_key, new.node_key], kept, strict=True):
                if key != own and (self._used(key) or key in named_keys):
                    return "DS15"
                if key != own:
                    named_keys.append(key)
            if isinstance(change, RekeyValidator):
                members[members.index(old[0])] = new
            else:
                members.append(new)
        if not members or len(members) > 256:
            return "AM18"
        return members

    def _pend(self, members: list[Validator], time: int) -> None:
        ready = []
        for member in members:
            for before in [] if self.pending is None else self.pending.members:
                assert self.pending is not None
                if (
                    before.name == member.name
                    and before.name in self.pending.ready
                    and before.vote_key == member.vote_key
                    and before.node_key == member.node_key
                ):
                    ready.append(member.name)
        self.pending = Pending(members, ready, time + self.readiness_ms)
        for member in members:
            self.validator_keys += [member.vote_key, member.node_key]

    def _ready(self, sender: str, body: ReadyValidator, signing: set[bytes]) -> str | None:
        if self.pending is None or body.epoch != self.epoch + 1:
            return "TM01"
        found = [member for member in self.pending.members if member.name == body.name]
        if not found:
            return "DS14"
        member = found[0]
        if member.operator != sender or signing != {member.node_key}:
            return "DS12"
        if member.name in self.pending.ready:
            return "DU03"
        voting = [each.vote_key for each in self.members]
        own_and_new = body.vote_key == member.vote_key and body.vote_key not in voting
        if not own_and_new and self._used(body.vote_key):
            return "DS15"
        self.pending.members[self.pending.members.index(member)] = Validator(
            member.name, member.operator, body.vote_key, member.node_key, member.address
        )
        self.pending.ready.append(member.name)
        self.validator_keys.append(body.vote_key)
        return None

    def _revoke(self, sender: str, body: RevokeKey, height: int) -> str | None:
        own = [key for key in self.keys if key.holder == sender]
        for key in own:
            if key.public_key == body.public_key:
                if key.revoked_from is not None:
                    return "DS0C"
                if not [k for k in own if k is not key and self._valid(k, height + 1)]:
                    return "DS0A"
                key.revoked_from = height + 1
                return None
        return "DS0E"

    # --- the end of a block ---------------------------------------------------------------------

    def end_block(self, time: int) -> list[Validator] | None:
        """The members of the epoch that begins after this block, if one does."""
        if self.pending is None:
            return None
        n = len(self.pending.members)
        enough = n - (n - 1) // 3
        ready = len(self.pending.ready)
        if ready == n or (ready >= enough and time >= self.pending.deadline):
            self.members, self.pending = self.pending.members, None
            self.epoch += 1
            return self.members
        return None
