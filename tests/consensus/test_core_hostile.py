"""Everyone else lies: whatever the others sign and send, this node keeps its own word.

The other three validators send at random whatever their keys can sign: equivocating proposals and
votes, forgeries, bodies nobody asked for, chunks that do not chain. In a lawful run only their
certificates are such as can come about with f faulty members, so this node must follow and commit
them and never give up signing. In a lawless run they certify anything: then agreement is lost,
and still the signing guards and the bounds must hold, and nothing may crash or spin.
"""

from __future__ import annotations

import random

import msgspec
import pytest

from consensus.interface import Alarm, Build, Built, Commit, Execute, Pending
from consensus.messages import (
    BlockRequest,
    BlockResponse,
    Certificate,
    CertificateRequest,
    Content,
    Kind,
    Message,
    OwnVote,
    Proposal,
    SyncResponse,
    Vote,
)
from tests.support.consensus_harness import Block, Chain, Solo, kept, only, said, timing

STEPS = 150
"""Events of one run."""
SEEDS = 30
"""Runs of one test case."""
CHAIN = Chain()


class Lawful:
    """Certificates as they can come about: by the rules, over one growing chain with forks."""

    def __init__(self, rng: random.Random, voters: list[int]) -> None:
        self._random = rng
        self._voters = voters
        self.notarized: dict[int, Block] = {0: CHAIN.genesis}
        self.nullified: set[int] = set()
        self.final = CHAIN.genesis

    def extend(self) -> Block:
        """A block that honest validators could notarize next, some view up."""
        parent = self.notarized[max(self.notarized)]
        view = parent.info.view + 1
        while view in self.nullified or self._random.random() < 0.25:
            self.nullified.add(view)
            view += 1
        return CHAIN.block(view, parent, self._random.choice([b"", b"a", b"b"]))

    def certify(self, block: Block) -> list[Certificate]:
        """Notarize it; perhaps finalize or nullify its view, never both."""
        view = block.info.view
        self.notarized[view] = block
        made = [CHAIN.certificate(view, Kind.NOTARIZE, block.content, self._voters)]
        fate = self._random.random()
        if fate < 0.5:
            self.final = block
            made.append(CHAIN.certificate(view, Kind.FINALIZE, block.content, self._voters))
        elif fate < 0.7:
            self.nullified.add(view)
        return made + [
            CHAIN.certificate(v, Kind.NULLIFY, None, self._voters)
            for v in sorted(self.nullified)
            if v >= self.final.info.view
        ]

    def chain(self) -> list[Block]:
        """The final blocks, ascending."""
        by_digest = {block.info.digest: block for block in self.notarized.values()}
        path = [self.final]
        while path[-1].info.height > 1:
            path.append(by_digest[path[-1].info.parent])
        return [block for block in reversed(path) if block.info.height]


class Hostile:
    """One run: draws events and checks this node after each."""

    def __init__(self, seed: int, *, lawful: bool) -> None:
        self.random = random.Random(seed)
        self.lawful = lawful
        index = self.random.choice([0, 2])
        self.others = [i for i in range(4) if i != index]
        self.law = Lawful(self.random, self.others)
        self.pool = [self.law.extend()]
        while CHAIN.leader(self.pool[0].info.view) == index:
            self.pool = [self.law.extend()]
        self.certificates = self.law.certify(self.pool[0])
        skip = self.random.choice([400, 5_000])
        self.solo = Solo(index, chain=CHAIN, timing=timing(skip_timeout=skip))
        self.signed: dict[tuple[int, Kind], Content | None] = {}
        self.committed: list[bytes] = [CHAIN.genesis.info.digest]

    # --- drawing -----------------------------------------------------------------------------

    def block(self) -> Block:
        """A block of the pool, now and then a new one: certifiable, a fork, or bad."""
        rng = self.random
        draw = rng.random()
        if draw < 0.65:
            return rng.choice(self.pool[-8:])
        if draw < 0.85:
            block = self.law.extend()
        else:
            parent = rng.choice(self.pool[-4:])
            view = parent.info.view + rng.choice([1, 1, 2])
            wrong = rng.choice([{}, {}, {"height": 7}, {"proposer": 3}, {"timestamp": 5}])
            block = CHAIN.block(view, parent, rng.choice([b"a", b"c"]), **wrong)
        view, leader = block.info.view, CHAIN.leader(block.info.view)
        if leader != self.solo.index and draw < 0.85 and view not in self.law.notarized:
            self.pool.append(block)
            self.certificates += self.law.certify(block)
        elif leader == self.others[0] or not (self.lawful or leader == self.solo.index):
            self.pool.append(block)  # its leader signs this one too
        return rng.choice(self.pool[-2:])

    def certificate(self) -> Certificate:
        rng = self.random
        if self.lawful and self.certificates:
            return rng.choice(self.certificates[-12:])
        if self.lawful:
            return CHAIN.nullification(1_000, (1, 2))  # one short
        kind = rng.choice(list(Kind))
        block = rng.choice(self.pool[-8:])
        content = None if kind is Kind.NULLIFY else block.content
        return CHAIN.certificate(block.info.view, kind, content, self.others)

    def vote(self, block: Block) -> Vote:
        """In a lawful run, of the one faulty voter: two would complete quorums with ours."""
        rng = self.random
        kind = rng.choice(list(Kind))
        view = block.info.view
        voter = rng.choice(self.others[:1] if self.lawful else self.others)
        vote = CHAIN.vote(voter, view, kind, None if kind is Kind.NULLIFY else block.content)
        if rng.random() < 0.1:
            return msgspec.structs.replace(vote, signature=bytes(64))
        return vote

    def message(self) -> Message:
        rng, block = self.random, self.block()
        choice = rng.randrange(16)
        if choice < 4:
            proposal = CHAIN.proposal(block)
            body = proposal.block if rng.random() < 0.9 else rng.choice(self.pool).raw
            return Proposal(proposal.vote, body)
        if choice < 7:
            return self.vote(block)
        if choice < 11:
            return self.certificate()
        if choice < 13:
            return BlockResponse(0, rng.choice([block.raw, rng.choice(self.pool).raw, b"junk"]))
        if choice == 13:
            return BlockRequest(0, block.info.view, block.info.digest)
        if choice == 14:
            return CertificateRequest(0, rng.randrange(5), self.solo.core.view + 3)
        return self.chunk(block)

    def chunk(self, block: Block) -> SyncResponse:
        height = self.solo.core.floor.info.height
        path = [b for b in self.law.chain() if b.info.height > height] or [block]
        if self.random.random() < 0.3:
            path = path[1:] or [block]
        signers = self.others if path[-1] is self.law.final or not self.lawful else self.others[:2]
        proof = CHAIN.finalization(path[-1], signers)
        return SyncResponse(tuple(each.raw for each in path), (), proof)

    # --- one step ----------------------------------------------------------------------------

    def step(self) -> None:
        rng, solo = self.random, self.solo
        before = len(solo.all)
        draw = rng.random()
        if draw < 0.80:
            solo.get(self.message(), sender=rng.choice(self.others))
        elif draw < 0.88:
            solo.wait(rng.choice([1, 20, 90, 150, 400]))
        elif draw < 0.93:
            solo.do(Pending(rng.random() < 0.7))
        elif draw < 0.97:
            for build in only(solo.all, Build)[-1:]:
                solo.do(Built(build.view, solo.chain.build(build, b"x").raw))
        elif draw < 0.99 and not self.committed[1:]:
            self.solo = solo.restart()
            before = 0
        self.check(before)

    def check(self, before: int) -> None:
        new = self.solo.all[before:]
        for record in kept(new, OwnVote):
            vote = record.vote
            assert (vote.view, vote.kind) not in self.signed, "signed twice"
            self.signed[vote.view, vote.kind] = vote.content
        for view, kind in self.signed:
            assert kind is not Kind.NULLIFY or (view, Kind.FINALIZE) not in self.signed
        for vote in said(new, Vote):
            assert self.signed[vote.view, vote.kind] == vote.content, "sent before it was kept"
        for commit in only(new, Commit):
            for info in commit.blocks:
                assert info.parent == self.committed[-1], "committed out of order"
                self.committed.append(info.digest)
        executed = [effect.info.digest for effect in only(self.solo.all, Execute)]
        assert len(executed) == len(set(executed)), "executed twice in one process"
        alarms = only(self.solo.all, Alarm)
        assert len(alarms) <= 1
        if self.lawful:
            assert not alarms, alarms[0].reason


@pytest.mark.parametrize("lawful", [True, False])
@pytest.mark.parametrize("case", range(5))
def test_no_lie_makes_this_node_break_its_word_crash_or_spin(case: int, lawful: bool) -> None:
    committed = 0
    for seed in range(case * SEEDS, (case + 1) * SEEDS):
        run = Hostile(seed, lawful=lawful)
        for step in range(STEPS):
            try:
                run.step()
            except Exception as error:
                raise AssertionError(f"seed {seed}, step {step}: {error!r}") from error
        committed += len(run.committed) - 1
    assert committed > SEEDS or not lawful, "the runs show too little"
