"""The documents of the API that tell of validators, proposals and proven equivocations."""

from __future__ import annotations

from typing import Any

import msgspec


class _View(msgspec.Struct, frozen=True, kw_only=True):
    """Options shared by all documents."""


class ValidatorView(_View, frozen=True, kw_only=True):
    name: str
    operator: str
    """LEI of the participant that answers for it."""
    operator_name: str
    vote_key: str
    node_key: str
    address: str
    """host:port of its peer listener; empty: from each node's own configuration."""


class PendingMemberView(_View, frozen=True, kw_only=True):
    validator: ValidatorView
    """With the vote key that it has for the epoch, or its last one while it is not ready."""
    ready: bool


class PendingEpochView(_View, frozen=True, kw_only=True):
    epoch: int
    deadline: int
    """From this block time on a quorum of ready members is enough."""
    ready: int
    quorum: int
    """How many ready members start the epoch once the deadline has passed."""
    members: list[PendingMemberView]


class ValidatorsView(_View, frozen=True, kw_only=True):
    height: int
    """The final height after which this holds."""
    epoch: int
    """Of the next block."""
    digest: str
    """Of the validator set, as headers name it."""
    quorum: int
    """Votes that certify."""
    validators: list[ValidatorView]
    """In the order of their indexes."""
    pending: PendingEpochView | None
    """The approved next epoch."""


class ChangeProposedView(_View, frozen=True, kw_only=True):
    kind: str
    """`add`, `remove` or `rekey` of a validator; else what the change is called, such as
    `admit-participant`."""
    name: str
    """Of the validator or participant, or the asset's code; empty where it concerns neither."""
    validator: ValidatorView | None
    """As it would be; null where it leaves, and for other changes."""
    detail: dict[str, Any] | None = None
    """Everything else that the change says."""


class ApprovalView(_View, frozen=True, kw_only=True):
    public_key: str
    participant: str
    """Short name."""
    counts: bool
    """Whether the key is still an operator's and valid in the next block."""


class ProposalView(_View, frozen=True, kw_only=True):
    id: str
    """Digest of its instruction, which `nostro approve` names."""
    proposer: str
    """LEI."""
    proposer_name: str
    changes: list[ChangeProposedView]
    """None: only a new epoch with fresh vote keys."""
    expires: int
    approvals: list[ApprovalView]
    approved: int
    """Approvals that count now."""
    needed: int


class EquivocationView(_View, frozen=True, kw_only=True):
    epoch: int
    view: int
    validator: int
    """Index in the set of that epoch."""
    name: str
    operator: str
    """LEI."""
    vote_key: str
    """The key that signed both votes."""
    kinds: list[str]
    """What the two votes say: `notarize`, `nullify`, `finalize`."""
    first: str
    """Canonical bytes of the vote."""
    second: str
    height: int
    """Of the block that reported it."""
    reporter: str
    """LEI of the operator whose node did."""


class InstructionView(_View, frozen=True, kw_only=True):
    """What became of an instruction."""

    sender: str
    id: str
    digest: str
    """Of its envelope: another instruction may have used up the id."""
    height: int
    index: int
    """Of the instruction in that block."""
    time: int
    status: str
    """That of its first outcome: `rejected`, `done`, or what the payment became that it is."""
    reason: str | None
    """ISO 20022 reason of a rejection."""


class ProposalsPage(_View, frozen=True, kw_only=True):
    height: int
    proposals: list[ProposalView]
    """Open ones, by id."""
    next: str | None


class EquivocationsPage(_View, frozen=True, kw_only=True):
    height: int
    equivocations: list[EquivocationView]
    """By epoch, view and validator."""
    next: str | None
