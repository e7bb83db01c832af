"""What may stand in a block: the one test that admission, proposing and applying share.

Everything that needs no state was tested when the instruction was decoded
(`node.chain.instruction`). What passes here stands in a block and gets an outcome, be it a
rejection; what does not pass leaves no trace on the ledger, and a block that holds it is bad.
"""

from __future__ import annotations

from typing import Protocol

from node.chain.instruction import ParsedInstruction
from node.chain.records import PendingEpoch
from node.chain.types import MAX_VALIDITY_MS, NODE_SIGNED, Validator, ValidatorSet
from node.ledger.entries import InstructionEntry
from node.ledger.state import Participant

UNKNOWN_SENDER = "unknown-sender"
EXPIRED = "expired"
VALID_TOO_LONG = "valid-too-long"
UNKNOWN_KEY = "unknown-key"
INVALID_KEY = "invalid-key"
TOO_FEW_SIGNATURES = "too-few-signatures"
NOT_ONE_SIGNATURE = "not-one-signature"
ALREADY_EXECUTED = "already-executed"


class NotAdmissible(Exception):
    """An instruction that may not stand in a block with this height and time."""

    def __init__(self, code: str, detail: str, executed: InstructionEntry | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        """One of this module's constants; stable, for programs."""
        self.detail = detail
        """For people: what, and what is expected."""
        self.executed = executed
        """For `ALREADY_EXECUTED`: the instruction that used (sender, id)."""


class View(Protocol):
    """What the test reads: a `State`, or the working state within a block."""

    def participant(self, lei: str) -> Participant | None:
        """The participant with this LEI."""

    def instruction(self, sender: str, id: str) -> InstructionEntry | None:
        """The latest executed instruction under (sender, id)."""

    @property
    def validator_set(self) -> ValidatorSet:
        """The set in force."""

    @property
    def pending_epoch(self) -> PendingEpoch | None:
        """The approved next epoch."""


def may_stand(view: View, parsed: ParsedInstruction, height: int, time: int) -> None:
    """Raise NotAdmissible unless the instruction may stand in a block at `height` and `time`
    (milliseconds) whose state so far is `view`.

    Signatures are `check_instruction`'s. A mempool asks this first: an unknown key or a used id
    is refused before the cost of verifying anything."""
    envelope = parsed.instruction.envelope
    sender = view.participant(envelope.sender)
    if sender is None:
        raise NotAdmissible(UNKNOWN_SENDER, f"sender {envelope.sender!a} is not a participant")
    if envelope.valid_until < time:
        raise NotAdmissible(
            EXPIRED, f"valid until {envelope.valid_until}, the block's time is {time}"
        )
    if envelope.valid_until > time + MAX_VALIDITY_MS:
        # Its id would have to be remembered for that long.
        raise NotAdmissible(
            VALID_TOO_LONG,
            f"valid until {envelope.valid_until}, at most {time + MAX_VALIDITY_MS} is allowed: "
            "7 days after the block",
        )
    if type(envelope.body) in NODE_SIGNED:
        _check_node_key(view, sender, parsed)
    else:
        _check_keys(sender, parsed, height)
    executed = view.instruction(envelope.sender, envelope.id)
    if executed is not None and executed.valid_until >= time:
        raise NotAdmissible(
            ALREADY_EXECUTED,
            f"id {envelope.id!r} of {envelope.sender} was executed in block {executed.height}",
            executed,
        )


def _check_keys(sender: Participant, parsed: ParsedInstruction, height: int) -> None:
    signatures = parsed.instruction.signatures
    for signature in signatures:
        key = sender.keys.get(signature.public_key)
        if key is None:
            raise NotAdmissible(
                UNKNOWN_KEY,
                f"key {signature.public_key.hex()} is not registered for {sender.record.name}",
            )
        if not key.is_valid(height):
            raise NotAdmissible(
                INVALID_KEY,
                f"key {signature.public_key.hex()} is not valid at height {height}: "
                + (
                    f"valid from {key.valid_from}"
                    if height < key.valid_from
                    else f"revoked from {key.revoked_from}"
                ),
            )
    if len(signatures) < sender.record.threshold:
        raise NotAdmissible(
            TOO_FEW_SIGNATURES,
            f"{len(signatures)} signatures, {sender.record.name} needs {sender.record.threshold}",
        )


def _check_node_key(view: View, sender: Participant, parsed: ParsedInstruction) -> None:
    signatures = parsed.instruction.signatures
    if len(signatures) != 1:
        raise NotAdmissible(
            NOT_ONE_SIGNATURE, f"{len(signatures)} signatures; a node's own key signs this alone"
        )
    node_key = signatures[0].public_key
    operator = {validator.operator for validator in validators_with(view, node_key)}
    if sender.record.lei not in operator:
        raise NotAdmissible(
            UNKNOWN_KEY,
            f"key {node_key.hex()} is not the node key of a validator that {sender.record.name} "
            "operates, now or in the next epoch",
        )


def validators_with(view: View, node_key: bytes) -> list[Validator]:
    """The entries with this node key in the set in force and in the one to come."""
    pending = view.pending_epoch
    members = view.validator_set.validators + (() if pending is None else pending.members)
    return [validator for validator in members if validator.node_key == node_key]
