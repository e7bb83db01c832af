"""Lies about what is past and what was asked for: replays, false answers, floods."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from consensus.messages import (
    BlockRequest,
    BlockResponse,
    Certificate,
    CertificateRequest,
    Content,
    Epoch,
    Kind,
    Message,
    OwnVotesRequest,
    OwnVotesResponse,
    Proposal,
    SyncRequest,
    SyncResponse,
    Vote,
)
from devnet.sim.application import Block, decode_block, encode_block
from devnet.sim.byzantine import Common, Liar, Lies
from devnet.sim.crypto import sign
from devnet.sim.members import generation_of

REMEMBERED = 400
"""Messages, and statements, that a liar keeps to use again."""
MAX_REPLAYED = 60
"""Messages of the past played at one time."""
FLOOD = 12
"""Messages of one burst to each member."""
OTHER_EPOCH = 1_000
"""An epoch that no run comes to, as if its validators had signed in it with their present keys."""


class Replayer(Liar):
    """Sends again what once was true: of old views, and of another epoch as if of this one."""

    def __init__(self, common: Common, lies: Lies) -> None:
        super().__init__(common, lies)
        self._old: deque[Message] = deque(maxlen=REMEMBERED)

    def heard(self, sender: int, message: Message) -> None:
        if not isinstance(message, BlockRequest | CertificateRequest | SyncRequest):
            self._old.append(message)

    def say(self, message: Message, targets: Iterable[int]) -> None:
        self._old.append(message)
        super().say(message, targets)

    def strike(self) -> None:
        for to in self.others:
            for _ in range(3):
                if self._old:
                    self.post(to, self.rng.choice(self._old), "message of before")
        self._other_epoch()

    def _other_epoch(self) -> None:
        """Votes and certificates that a quorum signed in another epoch, with these same keys."""
        rng = self.rng
        view, kind = self.view + rng.choice((0, 0, 1, 7)), rng.choice(tuple(Kind))
        content = None if kind is Kind.NULLIFY else Content(view - 1, self.noise())
        signatures = tuple(
            (place, sign(machine, OTHER_EPOCH, view, kind, content, generation=key))
            for place, (machine, key) in enumerate(self._members)
        )
        for to in self.others:
            epoch = rng.choice((self.epoch, OTHER_EPOCH))
            said = "the present one" if epoch == self.epoch else "that"
            voter, signature = rng.choice(signatures)
            vote = Vote(epoch, view, kind, content, voter, signature)
            self.post(to, vote, f"vote of epoch {OTHER_EPOCH} said to be of {said}")
            certificate = Certificate(epoch, view, kind, content, signatures)
            name = f"certificate of epoch {OTHER_EPOCH} said to be of {said}"
            self.post(to, certificate, name)


class RemovedVoter(Liar):
    """Holds the key of one that was a validator, and votes with it on: under a place of its own
    behind the others', or under another's."""

    def __init__(self, common: Common, lies: Lies) -> None:
        super().__init__(common, lies)
        self._removed = self.size
        """The machine whose key it has: the first that is no member in the beginning."""
        self._key = 0
        self._was_member = False

    def _join(self, epoch: Epoch) -> None:
        super()._join(epoch)
        if self._removed in self.others:
            self._was_member = True
            self._key = generation_of(self._members, self._removed)

    def say(self, message: Message, targets: Iterable[int]) -> None:
        super().say(message, targets)
        if isinstance(message, Vote):
            self._vote_as_removed(message)

    def _vote_as_removed(self, own: Vote) -> None:
        if self._removed in self.others or own.epoch != self.epoch:
            return
        signature = sign(
            self._removed, self.epoch, own.view, own.kind, own.content, generation=self._key
        )
        name = "vote of a removed member" if self._was_member else "vote of one never a member"
        places = [self.size, *self.others]
        certificate = Certificate(
            own.epoch,
            own.view,
            own.kind,
            own.content,
            tuple(
                (place, own.signature if place == self.index else signature)
                for place in range(self.size + 1)
            )[-(self.size - (self.size - 1) // 3) :],
        )
        for to in self.others:
            for place in (self.size, self.rng.choice(places)):
                vote = Vote(own.epoch, own.view, own.kind, own.content, place, signature)
                self.post(to, vote, name)
            self.post(to, certificate, f"certificate with a {name}")


class HistoryReplayer(Liar):
    """Plays everything it ever heard, in the old order, to whoever comes back or asks: a member
    far behind meets the whole past as if it were the present."""

    def __init__(self, common: Common, lies: Lies) -> None:
        super().__init__(common, lies)
        self._history: list[Message] = []

    def _remember(self, message: Message) -> None:
        if isinstance(message, Vote | Proposal | Certificate) and len(self._history) < REMEMBERED:
            self._history.append(message)

    def heard(self, sender: int, message: Message) -> None:
        self._remember(message)
        if isinstance(message, SyncRequest | OwnVotesRequest | CertificateRequest):
            self._replay(sender)

    def linked(self, peer: int) -> None:
        super().linked(peer)
        if self.up:
            self._replay(peer)

    def say(self, message: Message, targets: Iterable[int]) -> None:
        self._remember(message)
        super().say(message, targets)

    def _replay(self, to: int) -> None:
        start = self.rng.randint(0, len(self._history))
        for message in self._history[start : start + MAX_REPLAYED]:
            self.post(to, message, "the past replayed")


class FalseAnswers(Liar):
    """Shows its blocks to some only, so that others ask, and answers whoever asks with blocks and
    chains that are not what was asked for."""

    def say(self, message: Message, targets: Iterable[int]) -> None:
        own = isinstance(message, Proposal) and message.vote.voter == self.index
        asked = isinstance(message, BlockResponse | SyncResponse)
        for to in targets:
            if own and self.rng.random() < 0.5:
                assert isinstance(message, Proposal)
                self.post(to, message.vote)  # the block itself has to be asked for
            elif not asked or self.rng.random() < 0.3:
                self.post(to, message)

    def heard(self, sender: int, message: Message) -> None:
        match message:
            case BlockRequest():
                for _ in range(2):
                    self._answer_falsely(sender)
            case SyncRequest(first=first):
                self._false_chain(sender, first)

    def strike(self) -> None:
        self._answer_falsely(self.rng.choice(self.others))

    def _answer_falsely(self, to: int) -> None:
        known = [stored.body for stored in self.database.blocks[-8:]]
        body = self.rng.choice(known) if known else self.noise(100)
        kind = self.rng.choice(("noise", "another block", "changed body", "changed header"))
        if kind == "noise":
            body = self.noise(200)
        elif kind != "another block" and known:
            body = self._changed(body, kind == "changed header")
        self.post(to, BlockResponse(self.epoch, body), f"false answer to a block request: {kind}")

    def _changed(self, raw: bytes, header: bool) -> bytes:
        block = decode_block(raw)
        if header:
            later = msgspec.structs.replace(block.header, timestamp=block.header.timestamp + 1)
            return encode_block(Block(later, block.payload))
        return encode_block(Block(block.header, (*block.payload, 2**40)))

    def _false_chain(self, to: int, first: int) -> None:
        honest = self.database.serve(first)
        if honest is None:
            return
        kinds = ["changed", "out of order", "without one", "other certificate"]
        beyond = self.database.serve(first + len(honest.blocks))
        crosses = beyond is not None and beyond.finalization.epoch != honest.finalization.epoch
        kind = self.rng.choice(kinds + ["crossing an epoch"] * 4 * crosses)
        if beyond is not None and kind == "crossing an epoch":
            both = SyncResponse(honest.blocks + beyond.blocks, (), beyond.finalization)
            self.post(to, both, f"false chain: {kind}")
            return
        blocks, proof = list(honest.blocks), honest.finalization
        if kind == "changed":
            place = self.rng.randrange(len(blocks))
            blocks[place] = self._changed(blocks[place], self.rng.random() < 0.5)
        elif kind == "out of order":
            blocks.append(blocks[0])
        elif kind == "without one":
            del blocks[self.rng.randrange(len(blocks))]
        else:
            proof = Certificate(
                self.epoch, proof.view, proof.kind, proof.content, proof.signatures[1:]
            )
        self.post(to, SyncResponse(tuple(blocks), honest.carriers, proof), f"false chain: {kind}")


class Flooder(Liar):
    """Sends far more than anybody asked for, of every kind of message, mostly useless."""

    def strike(self) -> None:
        for to in self.others:
            for _ in range(FLOOD):
                message = self._junk()
                self.post(to, message, f"flood of {type(message).__name__}")

    def _junk(self) -> Message:
        rng = self.rng
        view = max(1, self.view + rng.choice((-3, 0, 1, 2, 1_000, 2**50)))
        kind = rng.choice(tuple(Kind))
        content = None if kind is Kind.NULLIFY else Content(view - 1, self.noise())
        vote = Vote(self.epoch, view, kind, content, self.index, self.noise(64))
        return rng.choice(
            (
                vote,
                Vote(self.epoch, view, kind, content, 2**40, self.noise(64)),
                Proposal(vote, self.noise(200)),
                BlockRequest(self.epoch, view, self.noise()),
                CertificateRequest(self.epoch, 0, 2**60),
                CertificateRequest(self.epoch, view, 1),
                OwnVotesRequest(self.epoch, view),
                OwnVotesResponse(self.epoch, view, None, (vote,) * 3),
                BlockResponse(self.epoch, self.noise(200)),
                SyncRequest(rng.choice((0, 1, 2**60))),
                SyncResponse(
                    (self.noise(200),) * 3, (), Certificate(self.epoch, view, kind, content, ())
                ),
            )
        )
