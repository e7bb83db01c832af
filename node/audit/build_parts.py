"""The parts of blocks and states that one file of evidence takes, each with its proof.

A block may hold ten thousand payments in one instruction, or ten thousand instructions. What is not
part of the evidence is never decoded: its bytes are cut out and hashed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from typing import Protocol, TypeVar

import msgspec

from node.audit.build_chain import (
    EvidenceUnavailable,
    HeadedSource,
    last_final,
    required,
    stored_header,
)
from node.audit.dossier import Act, Authority, PaymentPart, Place, Placed
from node.chain.bodies import body_payments
from node.chain.encoding import UNDECODABLE, Malformed, decode, encode
from node.chain.merkle import INSTRUCTION_LEAF, OUTCOME_LEAF, PAYMENT_LEAF, Tree
from node.chain.records import ParticipantKey, ParticipantRecord, StateKey
from node.chain.state_map import BrokenState, MapProof, StateMap
from node.chain.types import (
    Block,
    Envelope,
    Header,
    Outcome,
    OutcomePlace,
    Payment,
    Signatures,
    SignedEnvelope,
)
from node.ledger.entries import JoinedEntry

MAX_OPEN = 8
"""Blocks kept open at most; a full one takes 15 MB with its trees."""
MAX_STATES = 8
"""States kept open; each holds the nodes that it was asked for."""

R = TypeVar("R")


class DossierSource(HeadedSource, Protocol):
    """What is read of a chain; `node.storage.chain_store.ChainStore` has all of it."""

    def block(self, height: int) -> bytes | None:
        """The exact bytes of a final block."""

    def outcomes(self, height: int) -> list[bytes] | None:
        """Canonical bytes of a block's outcomes, in tree order."""

    def state_node(self, hash: bytes) -> bytes | None:
        """A node of any height's state map."""

    def outcomes_of(self, uetr: bytes, first: int) -> Iterator[tuple[int, int]]:
        """(height, index) of the outcomes from height `first` on of payments that have, or may get,
        several, in order."""

    def about(self, uetr: bytes, first: int) -> Iterator[tuple[int, int]]:
        """(height, index) of the accepted instructions from height `first` on about a payment of
        others, in order."""

    def joined(self, asset: str, cycle: int) -> Iterator[JoinedEntry]:
        """The payments of a clearing cycle, in order of joining."""

    def joined_leaves(self, asset: str, cycle: int) -> Iterator[bytes]:
        """Their leaf hashes alone."""

    def cycle_closed(self, asset: str, cycle: int) -> tuple[int, int] | None:
        """(height, index) of the outcome that closed a clearing cycle; None: nothing is known of
        it."""


class _Parts(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="instruction/1"
):
    """An `Instruction`, cut in pieces."""

    envelope: msgspec.Raw
    signatures: msgspec.Raw
    payments: msgspec.Raw


_parts = msgspec.msgpack.Decoder(_Parts)
_block = msgspec.msgpack.Decoder(Block)
_envelope = msgspec.msgpack.Decoder(Envelope)
_signatures = msgspec.msgpack.Decoder(Signatures)
_pieces = msgspec.msgpack.Decoder(list[msgspec.Raw])
_payment = msgspec.msgpack.Decoder(Payment)
_outcome = msgspec.msgpack.Decoder(Outcome)
_SIGNED = INSTRUCTION_LEAF + b"\x93" + encode("signed-envelope/1")
"""What a leaf of the instruction tree begins with; envelope and signatures follow as they are."""


class OpenBlock:
    """A final block with its outcomes, and proofs of their places."""

    def __init__(self, raw: bytes, outcomes: list[bytes]) -> None:
        """Raises one of `UNDECODABLE` if these are no block's bytes."""
        block = _block.decode(raw)
        self.header = block.header
        self.outcomes = outcomes
        self._parts = [_parts.decode(each) for each in block.instructions]
        self._payments: dict[int, list[msgspec.Raw]] = {}
        self._payment_trees: dict[int, Tree] = {}

    def signed(self, index: int) -> SignedEnvelope:
        """The instruction without its payments."""
        parts = self._parts[index]
        return SignedEnvelope(
            _envelope.decode(parts.envelope), _signatures.decode(parts.signatures)
        )

    def instruction_place(self, index: int) -> Place:
        """Of a signed envelope under `instructions_root`."""
        return place_of(self._instruction_tree, index)

    @cached_property
    def _instruction_tree(self) -> Tree:
        hashed = sha256
        return Tree(
            [
                hashed(b"".join((_SIGNED, parts.envelope, parts.signatures))).digest()
                for parts in self._parts
            ]
        )

    def _beside(self, index: int) -> list[msgspec.Raw]:
        """The payments beside an instruction, undecoded."""
        found = self._payments.get(index)
        if found is None:
            found = self._payments[index] = _pieces.decode(self._parts[index].payments)
        return found

    def carried(self, index: int, number: int) -> Payment:
        """The payment that outcomes call [index, number], of an instruction that may queue or net
        payments. Raises IndexError."""
        beside = self._beside(index)
        if beside:
            return _payment.decode(beside[number])
        return body_payments(self.signed(index).envelope.body)[0]

    def payment_part(self, index: int, number: int) -> PaymentPart:
        """A payment beside an instruction, and its place under the root that the sender signed.
        Raises IndexError."""
        payments, prefix, hashed = self._beside(index), PAYMENT_LEAF, sha256
        tree = self._payment_trees.get(index)
        if tree is None:
            leaves = [hashed(prefix + bytes(each)).digest() for each in payments]
            tree = self._payment_trees[index] = Tree(leaves)
        return PaymentPart(_payment.decode(payments[number]), place_of(tree, number))

    def outcome(self, index: int) -> Outcome:
        """One of the block's outcomes. Raises one of `UNDECODABLE`, IndexError."""
        return _outcome.decode(self.outcomes[index])

    def outcome_place(self, index: int) -> Place:
        """Of an outcome under `outcomes_root`."""
        return place_of(self._outcome_tree, index)

    @cached_property
    def _outcome_tree(self) -> Tree:
        prefix, hashed = OUTCOME_LEAF, sha256
        return Tree([hashed(prefix + each).digest() for each in self.outcomes])


def place_of(tree: Tree, index: int) -> Place:
    """The place of a leaf in a tree."""
    return Place(index, tuple(tree.path(index)))


@contextmanager
def _sound(what: str) -> Iterator[None]:
    """Name what a disk damaged, or what an index says and the block does not have."""
    try:
        yield
    except (*UNDECODABLE, IndexError) as error:
        raise EvidenceUnavailable(f"{what} is damaged here or not there: {error}") from error


class OpenBlocks:
    """The final blocks that were opened last. They never change, so that whoever makes the evidence
    of one payment of thousands after the other opens their block once. Not for several threads."""

    def __init__(self, source: DossierSource, most: int = MAX_OPEN) -> None:
        self.source = source
        self._most = most
        self._open: OrderedDict[int, OpenBlock] = OrderedDict()

    def block(self, height: int) -> OpenBlock:
        """Raises EvidenceUnavailable."""
        found = self._open.get(height)
        if found is None:
            raw = required(self.source.block(height), f"block {height}")
            outcomes = required(self.source.outcomes(height), f"the outcomes of block {height}")
            with _sound(f"block {height}"):
                found = self._open[height] = OpenBlock(raw, outcomes)
            if len(self._open) > self._most:
                self._open.popitem(last=False)
        self._open.move_to_end(height)
        return found


class Parts:
    """What one file of evidence takes of a chain as of its last final block.

    Remembers of which heights (`needed`), and where of the state before the block."""

    def __init__(self, blocks: OpenBlocks) -> None:
        """Raises EvidenceUnavailable."""
        self.source = blocks.source
        self.block = blocks.block
        self.checkpoint = last_final(self.source)
        self.needed: dict[int, bool] = {}
        self._states: OrderedDict[int, StateMap] = OrderedDict()

    def use(self, height: int, *, parent: bool = False) -> None:
        """Note that something of this block is shown; `parent`: of the state before it."""
        self.needed[height] = self.needed.get(height, False) or parent

    def header(self, height: int) -> Header:
        """Raises EvidenceUnavailable."""
        if height == self.checkpoint.height:
            return self.checkpoint
        return stored_header(self.source, height)

    def outcome(self, height: int, index: int) -> Outcome:
        """An outcome. Raises EvidenceUnavailable."""
        with _sound(f"outcome {index} of block {height}"):
            return self.block(height).outcome(index)

    def placed(self, height: int, index: int) -> Placed:
        """An outcome and its place. Raises EvidenceUnavailable."""
        self.use(height)
        return Placed(self.outcome(height, index), self.block(height).outcome_place(index))

    def signed(self, height: int, index: int) -> SignedEnvelope:
        """An instruction without its payments. Raises EvidenceUnavailable."""
        with _sound(f"instruction {index} of block {height}"):
            return self.block(height).signed(index)

    def carried(self, place: OutcomePlace) -> Payment:
        """The payment that outcomes call so. Raises EvidenceUnavailable."""
        with _sound(f"payment {place.payment} of instruction {place.instruction} of block "
                    f"{place.height}"):  # fmt: skip
            return self.block(place.height).carried(place.instruction, place.payment)

    def payment_part(self, place: OutcomePlace) -> PaymentPart:
        """The same of a `Pay`, with its place. Raises EvidenceUnavailable."""
        with _sound(f"payment {place.payment} of instruction {place.instruction} of block "
                    f"{place.height}"):  # fmt: skip
            return self.block(place.height).payment_part(place.instruction, place.payment)

    def act(self, height: int, index: int) -> Act:
        """An instruction, its place, and its sender's keys. Raises EvidenceUnavailable."""
        signed = self.signed(height, index)
        self.use(height, parent=True)
        sender = signed.envelope.sender
        record, proof = self.proven(height - 1, ParticipantKey(sender), ParticipantRecord)
        what = f"the record of {sender} in the state of height {height - 1}"
        place = self.block(height).instruction_place(index)
        return Act(signed, place, Authority(required(record, what), proof))

    def proven(self, height: int, key: StateKey, kind: type[R]) -> tuple[R | None, MapProof]:
        """A record, or None, in the state after a block. Raises EvidenceUnavailable."""
        try:
            raw, proof = self._state(height).prove(encode(key))
            return (None if raw is None else decode(raw, kind)), proof
        except (BrokenState, Malformed) as error:
            raise EvidenceUnavailable(
                f"the state of height {height} is not whole here: {error}"
            ) from error

    def _state(self, height: int) -> StateMap:
        found = self._states.get(height)
        if found is None:
            root = self.header(height).state_root
            found = self._states[height] = StateMap.load(root, self.source.state_node)
            if len(self._states) > MAX_STATES:
                self._states.popitem(last=False)
        return found

    def outcomes_where(self, height: int, marks: bytes) -> Iterator[tuple[int, Outcome]]:
        """The outcomes of a block whose bytes contain these, with their indexes.

        A cheap test before decoding: blocks have thousands of outcomes. Raises EvidenceUnavailable.
        """
        for index, raw in enumerate(self.block(height).outcomes):
            if marks in raw:
                yield index, self.outcome(height, index)
