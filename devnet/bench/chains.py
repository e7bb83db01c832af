"""A whole chain in one process, for measuring: real blocks on a real database, certified with the
keys of four validators, without the processes and the safety records of a network."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from consensus.certificate import assemble
from consensus.interface import BlockInfo, Build, Commit
from consensus.messages import (
    VOTE_DOMAIN,
    Certificate,
    Content,
    Epoch,
    Kind,
    Milliseconds,
    ValidatorIndex,
    View,
    Vote,
    quorum,
    vote_payload,
)
from devnet import identity
from node.chain.build import build, build_pay, build_ready, gross_payment
from node.chain.genesis import Genesis, dump_genesis, genesis_key, genesis_validator, load_genesis
from node.chain.genesis_file import GenesisAsset, GenesisParameters, GenesisParticipant
from node.chain.instruction import CheckedInstruction, check_instruction
from node.chain.signature import ROLE_VOTE, Ed25519Signer, prove_possession
from node.chain.types import InstructionBody, Issue, Payment, Propose, Recall
from node.engine.executor import Executor
from node.engine.mempool import Mempool
from node.engine.node import load_chain
from node.storage.chain_store import ChainStore
from node.storage.kv import KeyValue

NETWORK = "bench"
CURRENCY = "EUR"
START_MS = 1_750_000_000_000
INTERVAL_MS = 200
VALIDITY_MS = 3_600_000
VALIDATORS = 4
FUNDS = 10**15
"""Minor units of each bank at the start."""
PENDING_BLOCKS = 64
"""Blocks of one synced batch of the database, at most."""
PENDING_PAYMENTS = 20_000
"""… and payments."""


def key(role: str, holder: str) -> Ed25519Signer:
    """The key of this name; anybody knows it."""
    return Ed25519Signer(identity.key_seed(0, role, holder))


def make_genesis(banks: int) -> Genesis:
    """A central bank that operates the validators, and so many banks."""
    names = identity.participant_names(banks)
    operator = identity.lei(identity.CENTRAL_BANK)
    return load_genesis(
        dump_genesis(
            network=NETWORK,
            devnet=True,
            time=START_MS,
            assets=[GenesisAsset(CURRENCY, 2, operator)],
            participants=[
                GenesisParticipant(
                    name,
                    identity.lei(name),
                    identity.bic(index),
                    ("direct-participant",) if index else ("issuer", "operator", "validator"),
                    1,
                    (genesis_key(key("participant", name), NETWORK, identity.lei(name)),),
                )
                for index, name in enumerate(names)
            ],
            validators=[
                genesis_validator(
                    identity.node_name(index),
                    operator,
                    network=NETWORK,
                    vote=key("vote", f"{index} of epoch 0"),
                    node=key("node", str(index)),
                )
                for index in range(VALIDATORS)
            ],
            parameters=GenesisParameters(governance_threshold=1),
        )
    )


@dataclass
class BenchChain:
    """Grows block by block; every block has a finalization of its own."""

    kv: KeyValue
    banks: int = 100
    seed: int = 1
    _commits: list[Commit] = field(default_factory=list)
    _waiting: int = 0
    _ids: int = 0

    def __post_init__(self) -> None:
        self.genesis = make_genesis(self.banks)
        self.store = ChainStore(self.kv)
        self.store.warm()
        state, floor = load_chain(self.genesis, self.store)
        assert floor.info.height == 0, "a new database"
        self._executor = Executor(self.genesis, state, Mempool())
        self._random = random.Random(self.seed)
        self.tip: BlockInfo = floor.info
        self.epoch = 0
        self._names = identity.participant_names(self.banks)
        self.add([self._funds(name) for name in self._names[1:]])

    # --- orders ---------------------------------------------------------------------------------

    def order(self, sender: str, body: InstructionBody) -> CheckedInstruction:
        """An instruction of this participant."""
        raw = build(*self._head(sender), body, [key("participant", sender)])
        return check_instruction(raw, self.genesis.chain_id)

    def _head(self, sender: str) -> tuple[bytes, str, str, int]:
        self._ids += 1
        until = self.tip.timestamp + VALIDITY_MS
        return self.genesis.chain_id, identity.lei(sender), str(self._ids), until

    def _funds(self, name: str) -> CheckedInstruction:
        body = Issue(self._uetr(), CURRENCY, identity.lei(name), FUNDS)
        return self.order(identity.CENTRAL_BANK, body)

    def _uetr(self) -> bytes:
        return uuid.UUID(int=self._random.getrandbits(128), version=4).bytes

    def pay(self, count: int) -> CheckedInstruction:
        """An instruction with so many payments of one bank to others."""
        payer = self._random.randrange(1, len(self._names))
        others = [identity.lei(name) for name in self._names[1:] if name != self._names[payer]]
        debtor, chosen = identity.lei(self._names[payer]), self._random.choices(others, k=count)
        raw = build_pay(
            *self._head(self._names[payer]),
            payments=[
                gross_payment(self._uetr(), debtor, other, CURRENCY, 1 + number)
                for number, other in enumerate(chosen)
            ],
            signers=[key("participant", self._names[payer])],
        )
        return check_instruction(raw, self.genesis.chain_id)

    def recall(self, payment: Payment) -> CheckedInstruction:
        """Something said about a payment: from then on the state has a row of it."""
        name = next(each for each in self._names if identity.lei(each) == payment.debtor)
        return self.order(name, Recall(payment, "DUPL"))

    # --- growing --------------------------------------------------------------------------------

    def add(self, instructions: Sequence[CheckedInstruction] = ()) -> None:
        """The next block."""
        parent = self.tip
        view = parent.view + 1 if parent.epoch == self.epoch else 1
        raw, standing, _ = self._executor.build(
            Build(
                Epoch(self.epoch),
                View(view),
                parent,
                Milliseconds(parent.timestamp + INTERVAL_MS),
                ValidatorIndex((self.epoch + view) % VALIDATORS),
                empty=False,
            ),
            instructions,
        )
        assert len(standing) == len(instructions), "a block takes all that was made for it"
        self.tip = info = self._executor.inspect(raw)
        finalization = self._certify(info, parent)
        self._commits.append(Commit((info,), (raw,), finalization))
        self._waiting += sum(max(1, len(each.payment_digests)) for each in instructions)
        full = self._waiting >= PENDING_PAYMENTS or len(self._commits) >= PENDING_BLOCKS
        if full or info.seals:
            self.commit()
        self.epoch += info.seals

    def end_epoch(self) -> None:
        """The same validators go on with fresh vote keys."""
        following, chain_id = self.epoch + 1, self.genesis.chain_id
        until = self.tip.timestamp + VALIDITY_MS
        self.add([self.order(identity.CENTRAL_BANK, Propose((), until))])
        operator = identity.lei(identity.CENTRAL_BANK)
        ready = []
        for index in range(VALIDATORS):
            vote = key("vote", f"{index} of epoch {following}")
            raw = build_ready(
                *self._head(identity.CENTRAL_BANK),
                name=identity.node_name(index),
                epoch=following,
                vote_key=vote.public_key,
                possession=prove_possession(vote, ROLE_VOTE, operator, chain_id),
                node=key("node", str(index)),
            )
            ready.append(check_instruction(raw, chain_id))
        self.add(ready)
        assert self.epoch == following

    def commit(self) -> None:
        """Make durable what was added."""
        if self._commits:
            plan = self._executor.plan(self._commits)
            self.store.commit(plan.blocks, plan.floor)
            self._executor.committed(plan)
            self._commits.clear()
            self._waiting = 0

    def _certify(self, info: BlockInfo, parent: BlockInfo) -> Certificate:
        """A quorum's votes."""
        view = parent.view if parent.epoch == self.epoch else View(0)
        content = Content(view, info.digest)
        payload = vote_payload(Epoch(self.epoch), info.view, Kind.FINALIZE, content)
        votes = []
        for voter in range(quorum(VALIDATORS)):
            signer = key("vote", f"{voter} of epoch {self.epoch}")
            signature = signer.sign(VOTE_DOMAIN, self.genesis.chain_id, payload)
            votes.append(Vote(Epoch(self.epoch), info.view, Kind.FINALIZE, content,
                              ValidatorIndex(voter), signature))  # fmt: skip
        return assemble(votes)
