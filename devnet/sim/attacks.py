"""The ways to lie: each a Byzantine member of its own kind, by name in `ATTACKS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations

import msgspec

from consensus.interface import BlockInfo, Build
from consensus.messages import (
    BlockRequest,
    BlockResponse,
    Certificate,
    Content,
    Epoch,
    Kind,
    Message,
    Milliseconds,
    OwnVotesRequest,
    OwnVotesResponse,
    Proposal,
    SyncResponse,
    ValidatorIndex,
    View,
    Vote,
)
from devnet.sim.answers import (
    OTHER_EPOCH,
    REMEMBERED,
    FalseAnswers,
    Flooder,
    HistoryReplayer,
    RemovedVoter,
    Replayer,
)
from devnet.sim.application import Block, decode_block, encode_block, info_of, payload_root
from devnet.sim.byzantine import Common, Liar, Lies, votes_in
from devnet.sim.disk import ModelDisk
from devnet.sim.network import Packet
from devnet.sim.views import ballot_of
from devnet.sim.world import MILLISECOND


class EquivocatingLeader(Liar):
    """Shows two valid blocks of its view: one to some, the other to the rest, both to a few."""

    def __init__(self, common: Common, lies: Lies) -> None:
        super().__init__(common, lies)
        self._second: dict[bytes, bytes] = {}

    def say(self, message: Message, targets: Iterable[int]) -> None:
        if not isinstance(message, Proposal) or message.vote.voter != self.index:
            super().say(message, targets)
            return
        second = self._other(message)
        for to in targets:
            choice = self.rng.random()
            if choice < 0.5:
                self.post(to, message)
            if choice > 0.4:
                self.post(to, second, "second block of a view")
            if self.rng.random() < 0.4:
                self.post(to, message.vote, "first half of an equivocation")
                self.post(to, second.vote, "second half of an equivocation")

    def _other(self, proposal: Proposal) -> Proposal:
        block = decode_block(proposal.block)
        later = msgspec.structs.replace(block.header, timestamp=block.header.timestamp + 1)
        raw = encode_block(Block(later, block.payload))
        digest = info_of(later).digest
        self._second[digest] = raw
        content = proposal.vote.content
        assert content is not None
        vote = self.vote(proposal.vote.view, Kind.NOTARIZE, Content(content.parent_view, digest))
        return Proposal(vote, raw)

    def heard(self, sender: int, message: Message) -> None:
        second = self._second.get(message.block) if isinstance(message, BlockRequest) else None
        if second is not None and self.rng.random() < 0.5:
            self.post(sender, BlockResponse(self.epoch, second))


class DoubleVoter(Liar):
    """For each vote signs another that excludes it; shows one, the other, or both."""

    def say(self, message: Message, targets: Iterable[int]) -> None:
        if not isinstance(message, Vote) or message.voter != self.index:
            super().say(message, targets)
            return
        rival = self._rival(message)
        for to in targets:
            choice = self.rng.random()
            if choice < 0.6:
                self.post(to, message)
            if choice > 0.3:
                self.post(to, rival, f"{rival.kind.name} against {message.kind.name}")

    def _rival(self, vote: Vote) -> Vote:
        view = vote.view
        if vote.kind is Kind.FINALIZE and self.rng.random() < 0.5:
            return self.vote(view, Kind.NULLIFY)
        parent = view - 1 if vote.content is None else vote.content.parent_view
        kind = Kind.NOTARIZE if vote.kind is Kind.NOTARIZE else Kind.FINALIZE
        return self.vote(view, kind, Content(parent, self.noise()))


class VoteWithholder(Liar):
    """Follows the protocol, and mostly keeps its votes to itself."""

    def say(self, message: Message, targets: Iterable[int]) -> None:
        for to in targets:
            if isinstance(message, Vote) and self.rng.random() < 0.9:
                self.lies.withheld(to, f"{message.kind.name} withheld")
            else:
                self.post(to, message)


class Nuller(Liar):
    """Gives up every view at once, also the next, and never votes for a block's finality."""

    def say(self, message: Message, targets: Iterable[int]) -> None:
        if not isinstance(message, Vote) or message.kind is not Kind.FINALIZE:
            super().say(message, targets)

    def entered(self, view: int) -> None:
        for to in self.others:
            for given_up in (view, view + 1):
                self.post(to, self.vote(given_up, Kind.NULLIFY), "NULLIFY without cause")


Flaw = Callable[["BadBlocks", Block, Content], tuple[Block, Content]]


class BadBlocks(Liar):
    """As leader, signs a block that is wrong in one way."""

    def say(self, message: Message, targets: Iterable[int]) -> None:
        if not isinstance(message, Proposal) or message.vote.voter != self.index:
            super().say(message, targets)
            return
        name = self.rng.choice(tuple(FLAWS))
        content = message.vote.content
        assert content is not None
        block, content = FLAWS[name](self, decode_block(message.block), content)
        content = Content(content.parent_view, info_of(block.header).digest)
        bad = Proposal(self.vote(message.vote.view, Kind.NOTARIZE, content), encode_block(block))
        for to in targets:
            self.post(to, bad, f"block with a wrong {name}")

    def elsewhere(self, block: Block, content: Content) -> tuple[Block, Content]:
        """A block that executes well, on another block than the honest one's parent."""
        header = block.header
        other = self._another_parent(header.parent)
        if other is None:
            return self.changed(block, content, height=header.height + 1)
        built = self._application.build(
            Build(
                Epoch(header.epoch),
                View(header.view),
                other,
                Milliseconds(max(header.timestamp, other.timestamp + 1)),
                ValidatorIndex(self.index),
                False,
            )
        )
        return decode_block(built), content

    def _another_parent(self, parent: bytes) -> BlockInfo | None:
        executed = self._application.executed()
        others = [info for info in executed if info.digest != parent and info.view < self.view]
        return self.rng.choice(others) if others else None

    def skipping(self, block: Block, content: Content) -> tuple[Block, Content]:
        """The same, and the vote says so: views between are left out."""
        built, _ = self.elsewhere(block, content)
        for info in self._application.executed():
            if info.digest == built.header.parent:
                return built, Content(info.view, content.block)
        return built, content

    def changed(
        self, block: Block, content: Content, **fields: int | bytes
    ) -> tuple[Block, Content]:
        """The honest block with other header fields."""
        return Block(msgspec.structs.replace(block.header, **fields), block.payload), content

    def twice(self, block: Block, content: Content) -> tuple[Block, Content]:
        """The same instruction twice."""
        payload = (1, 1)
        header = msgspec.structs.replace(block.header, payload_root=payload_root(payload))
        return Block(header, payload), content


FLAWS: dict[str, Flaw] = {
    "state": lambda liar, b, c: liar.changed(b, c, state=liar.noise()),
    "payload root": lambda liar, b, c: liar.changed(b, c, payload_root=liar.noise()),
    "instruction": lambda liar, b, c: liar.twice(b, c),
    "parent": lambda liar, b, c: liar.elsewhere(b, c),
    "parent, views skipped": lambda liar, b, c: liar.skipping(b, c),
    "parent, unknown": lambda liar, b, c: liar.changed(b, c, parent=liar.noise()),
    "parent view": lambda liar, b, c: (b, Content(max(b.header.view - 2, 0), c.block)),
    "parent view, ahead": lambda liar, b, c: (b, Content(b.header.view, c.block)),
    "time, long past": lambda liar, b, c: liar.changed(b, c, timestamp=1),
    "time, far ahead": lambda liar, b, c: liar.changed(
        b, c, timestamp=b.header.timestamp + 1_000_000
    ),
    "height": lambda liar, b, c: liar.changed(b, c, height=b.header.height + 1),
    "proposer": lambda liar, b, c: liar.changed(b, c, proposer=liar.others[0]),
    "view": lambda liar, b, c: liar.changed(b, c, view=b.header.view + 1),
    "epoch": lambda liar, b, c: liar.changed(b, c, epoch=OTHER_EPOCH),
}
"""What may be wrong with a block, by name."""


class Forger(Liar):
    """Sends certificates of a few real votes, of one vote many times, and of no votes at all."""

    def __init__(self, common: Common, lies: Lies) -> None:
        super().__init__(common, lies)
        self._votes: dict[tuple[int, Kind, Content | None], dict[int, bytes]] = {}

    def heard(self, sender: int, message: Message) -> None:
        self._collect(message)

    def say(self, message: Message, targets: Iterable[int]) -> None:
        self._collect(message)
        super().say(message, targets)

    def _collect(self, message: Message) -> None:
        for vote in votes_in(message):
            if len(self._votes) >= REMEMBERED:
                del self._votes[next(iter(self._votes))]
            self._votes.setdefault(ballot_of(vote), {})[vote.voter] = vote.signature

    def entered(self, view: int) -> None:
        for _ in range(4):
            self._forge(view)

    def strike(self) -> None:
        self._forge(self.view)

    def _forge(self, now: int) -> None:
        rng = self.rng
        view = max(1, now + rng.choice((-1, 0, 0, 0, 1, 50)))
        kind = rng.choice(tuple(Kind))
        known = [b for b in self._votes if b[0] == view and b[1] is kind]
        named = [b[2] for b in self._votes if b[0] == view and b[2] is not None]
        content = rng.choice(named) if named else Content(view - 1, self.noise())
        if known and rng.random() < 0.8:
            content_of_known = rng.choice(known)[2]
            own_kind = Content(0, self.noise()) if content_of_known is None else content_of_known
            content = own_kind
        said = None if kind is Kind.NULLIFY else content
        real = dict(self._votes.get((view, kind, said), {}))
        real[self.index] = self.vote(view, kind, said).signature
        name = rng.choice(("sub-quorum", "repeated signer", "invented", "unsorted", "other kind"))
        signatures = self._signatures(name, real, view, kind, said)
        if name == "other kind":
            said = Content(0, self.noise()) if said is None else None
        certificate = Certificate(self.epoch, view, kind, said, signatures)
        bare: Message = certificate
        if rng.random() < 0.1:
            bare = SyncResponse((encode_block_of_noise(self),), (), certificate)
        for to in self.others:
            self.post(to, bare, f"forged certificate: {name}")

    def _signatures(
        self, name: str, real: dict[int, bytes], view: int, kind: Kind, content: Content | None
    ) -> tuple[tuple[int, bytes], ...]:
        quorum = self.size - (self.size - 1) // 3
        few = sorted(real.items())[: quorum - 1]
        invented = [(i, self.noise(64)) for i in range(self.size) if i not in dict(few)]
        if name == "sub-quorum":
            return tuple(few)
        if name == "repeated signer":
            return tuple(sorted(few + [few[0]] * (quorum - len(few))))
        if name == "unsorted":
            return tuple(sorted(few + invented, reverse=True))
        return tuple(sorted((few + invented)[: self.rng.choice((quorum, self.size))]))


def encode_block_of_noise(liar: Liar) -> bytes:
    """A finalized block that never was."""
    return liar.noise(100)


class Impersonator(Liar):
    """Speaks in others' names: votes, proposals and answers with signatures that are not theirs;
    and in its own name where only the leader may."""

    def entered(self, view: int) -> None:
        self._vote(view)
        self._propose(view)
        self._vote(view + 1)

    def strike(self) -> None:
        self._vote(self.view)
        self._propose(self.view + 1)

    def heard(self, sender: int, message: Message) -> None:
        if isinstance(message, OwnVotesRequest):
            votes = tuple(
                self._forged(sender, self.view, kind, self._content(self.view, kind))
                for kind in Kind
            )
            answer = OwnVotesResponse(self.epoch, message.nonce, None, votes)
            self.post(sender, answer, "answer with forged votes of the asker")

    def _content(self, view: int, kind: Kind) -> Content | None:
        return None if kind is Kind.NULLIFY else Content(max(view - 1, 0), self.noise())

    def _forged(self, voter: int, view: int, kind: Kind, content: Content | None) -> Vote:
        if self.rng.random() < 0.5:
            return Vote(self.epoch, view, kind, content, voter, self.noise(64))
        own = self.vote(view, kind, content)
        return Vote(self.epoch, view, kind, content, voter, own.signature)

    def _vote(self, view: int) -> None:
        for to in self.others:
            kind = self.rng.choice(tuple(Kind))
            voter = self.rng.choice([*self.others, self.size + 3])
            vote = self._forged(voter, view, kind, self._content(view, kind))
            self.post(to, vote, f"{kind.name} in another's name")

    def _propose(self, view: int) -> None:
        leader = self._leader(self.epoch, view)
        if leader == self.index:
            return
        parents = [info for info in self._application.executed() if info.view < view]
        if not parents:
            return
        parent = max(parents, key=lambda info: (info.view, info.digest))
        time = Milliseconds(max(parent.timestamp + 1, self._now().wall))
        raw = self._application.build(
            Build(self.epoch, View(view), parent, time, ValidatorIndex(leader), True)
        )
        content = Content(parent.view, info_of(decode_block(raw).header).digest)
        forged = Proposal(self._forged(leader, view, Kind.NOTARIZE, content), raw)
        usurped = Proposal(self.vote(view, Kind.NOTARIZE, content), raw)
        for to in self.others:
            if self.rng.random() < 0.5:
                self.post(to, forged, "proposal in the leader's name")
            else:
                self.post(to, usurped, "proposal by one that does not lead")


class Amnesiac(Liar):
    """Loses its journal again and again, and signs as if it had never signed before."""

    def __init__(self, common: Common, lies: Lies) -> None:
        super().__init__(common, lies)
        self._signed: dict[tuple[int, int, Kind], int] = {}
        """(epoch, view, kind) → the life in which it was signed first."""
        self._life = 0

    def _forget(self) -> None:
        self._life += 1
        self.crash("journal lost by a liar")
        self._disk = ModelDisk(self.index)
        self._world.after(20 * MILLISECOND, self._restart, self._incarnation)

    def start(self) -> None:
        super().start()
        voted_in = [view for epoch, view, _ in self._signed if epoch == self.epoch]
        if self.up and self._life and voted_in:
            self._later(50 * MILLISECOND, self._give_up, max(voted_in))

    def _give_up(self, view: int) -> None:
        """As a node does that hears nothing and does not know that it has voted."""
        for to in self.others:
            self.post(to, self.vote(view, Kind.NULLIFY), "NULLIFY of a view voted in and forgotten")

    def say(self, message: Message, targets: Iterable[int]) -> None:
        again = ""
        if isinstance(message, Vote | Proposal):
            vote = message if isinstance(message, Vote) else message.vote
            first = self._signed.setdefault((vote.epoch, vote.view, vote.kind), self._life)
            if first != self._life:
                again = f"{vote.kind.name} signed anew after its journal was lost"
            if self.rng.random() < 0.3:
                self._later(10 * MILLISECOND, self._forget)
        for to in targets:
            self.post(to, message, again)


class SelectiveSender(Liar):
    """Sends everything to some members only, and to others each time."""

    def say(self, message: Message, targets: Iterable[int]) -> None:
        chosen = set(self.rng.sample(self.others, self.rng.randint(1, self.size - 2)))
        for to in targets:
            if to in chosen:
                self.post(to, message)
            elif isinstance(message, Vote | Proposal | Certificate | BlockResponse):
                self.lies.withheld(to, f"{type(message).__name__} sent to others only")


class Twins(Liar):
    """One identity, two instances that know nothing of each other.

    In each round of leaders the other members are divided anew between them: every division has
    its turn under every leader. An enumeration sets `sides` itself (see `devnet.sim.twins`).
    """

    def __init__(self, common: Common, lies: Lies, first: Twins | None = None) -> None:
        super().__init__(common, lies)
        self.first = first or self
        self.signed: dict[tuple[int, int, Kind], set[Content | None]] = {}
        """What either has signed; the first one's is shared."""
        self.divisions = [
            frozenset(side) for size in range(self.size) for side in combinations(self.others, size)
        ]
        self.rng.shuffle(self.divisions)
        self.sides: tuple[frozenset[int], frozenset[int]] | None = None
        """Whom the first and whom the second twin hears and speaks to; the first one's counts."""
        self.second = self if first else Twins(common, lies, self)
        common.network.attach(self.first)

    def _hears(self, peer: int) -> bool:
        """Whether a peer is on this twin's side."""
        first = self.first
        if first.sides is not None:
            return peer in first.sides[self is not first]
        round_of_leaders = max(first.view, first.second.view) // self.size
        side = first.divisions[round_of_leaders % len(first.divisions)]
        return (peer in side) is (self is first)

    def deliver(self, sender: int, packet: Packet, data: bytes) -> None:
        for twin in (self.first, self.first.second):
            if twin._hears(sender):
                super(Twins, twin).deliver(sender, packet, data)

    def linked(self, peer: int) -> None:
        for twin in (self.first, self.first.second):
            super(Twins, twin).linked(peer)

    def start(self) -> None:
        super().start()
        if self is self.first and not self.second.up:
            self.second.start()

    def heal(self) -> None:
        super().heal()
        if self is self.first:
            self.second.heal()

    def say(self, message: Message, targets: Iterable[int]) -> None:
        kind = ""
        if isinstance(message, Vote | Proposal):
            vote = message if isinstance(message, Vote) else message.vote
            said = self.first.signed.setdefault((vote.epoch, vote.view, vote.kind), set())
            said.add(vote.content)
            if len(said) > 1:
                kind = f"{vote.kind.name} of a twin against the other's"
            elif self is not self.first:
                kind = f"{vote.kind.name} of the second twin"
        for to in targets:
            if self._hears(to):
                self.post(to, message, kind)


def _any_of_them(common: Common, lies: Lies) -> Liar:
    """A member that makes one of the attacks; another may make another."""
    return ATTACKS[common.world.random.choice([name for name in ATTACKS if name != "mixed"])](
        common, lies
    )


ATTACKS: dict[str, Callable[[Common, Lies], Liar]] = {
    "equivocating-leader": EquivocatingLeader,
    "double-voter": DoubleVoter,
    "vote-withholder": VoteWithholder,
    "nuller": Nuller,
    "bad-block": BadBlocks,
    "forger": Forger,
    "impersonator": Impersonator,
    "replayer": Replayer,
    "amnesiac": Amnesiac,
    "selective-sender": SelectiveSender,
    "flooder": Flooder,
    "false-answers": FalseAnswers,
    "history-replayer": HistoryReplayer,
    "removed-voter": RemovedVoter,
    "twins": Twins,
    "mixed": _any_of_them,
}
"""Every kind of Byzantine member, by the name under which a run asks for it."""


def make_liar(attack: str, common: Common, lies: Lies) -> Liar:
    """A Byzantine member of this kind. Raises KeyError for one that does not exist."""
    return ATTACKS[attack](common, lies)
