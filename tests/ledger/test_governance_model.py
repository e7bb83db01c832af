"""Governance on the ledger and the slow, obvious model agree on every outcome and every epoch.

Hypothesis mixes proposals, approvals, readiness and revocations of operators' keys with jumps of
time and restarts, over few names and few keys, so that they collide; on a difference it prints
the shortest script that shows it.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from node.chain.instruction import CheckedInstruction
from node.chain.signature import Ed25519Signer
from node.chain.types import Validator, ValidatorChange
from node.ledger.ledger import load_state
from node.ledger.work import BlockContext
from tests.support.council import READINESS_MS, THRESHOLD, Council, Member
from tests.support.governance_model import GovernanceModel, OperatorKey
from tests.support.ledger_world import BLOCK_MS, signer

OPERATORS = ("CENTRALBANK", "BANKA", "BANKB")
FOUNDERS = 3
POOL = [signer("pool", number) for number in range(200)]
names = st.sampled_from(("node0", "node1", "node2", "x", "y"))
holders = st.sampled_from(("CENTRALBANK", "CENTRALBANK", "BANKC", "BANKB", "BANKA", "WATCHDOG"))
some_keys = st.integers(-2 * FOUNDERS, 5)
"""A founder's vote or node key, or one of the first of the pool, which are soon used up."""
sketches = st.tuples(
    st.sampled_from(("add", "add", "rekey", "remove")), names, holders, some_keys, some_keys
)
proposers = st.sampled_from(("CENTRALBANK", "BANKA", "BANKB", "BANKB", "BANKC"))
gaps = st.sampled_from((1, BLOCK_MS, BLOCK_MS, READINESS_MS, 3 * READINESS_MS))


class GovernanceAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.council = Council.make(validators=FOUNDERS)
        world = self.council.world
        self.waiting: list[CheckedInstruction] = []
        self.proposed: list[bytes] = []
        self.epochs = 0
        self.named = 5
        self.model = GovernanceModel(
            operators=tuple(world.lei(name) for name in OPERATORS),
            may_operate=tuple(world.lei(name) for name in (*OPERATORS, "BANKC")),
            keys=[
                OperatorKey(bank.lei, key.public_key)
                for bank in world.banks.values()
                for key in bank.signers
            ],
            other_keys=[],
            threshold=THRESHOLD,
            readiness_ms=READINESS_MS,
            members=list(world.genesis.validator_set.validators),
        )

    def fresh(self) -> int:
        """The number of a key of the pool that nobody named yet."""
        self.named += 1
        return self.named

    def key(self, number: int) -> Ed25519Signer:
        world = self.council.world
        return [*POOL, *world.votes, *world.nodes][number]

    def change(self, kind: str, name: str, holder: str, vote: int, node: int) -> ValidatorChange:
        if kind == "remove":
            return self.council.remove(name)
        keys = self.key(vote), self.key(node)
        entry = Validator(
            name, self.council.world.lei(holder), keys[0].public_key, keys[1].public_key
        )
        member = Member(entry, *keys)
        return self.council.add(member) if kind == "add" else self.council.rekey(member)

    @rule(
        sender=proposers,
        drawn=st.lists(sketches, max_size=3),
        life=st.sampled_from((0, 1, 2 * READINESS_MS, 100 * READINESS_MS)),
        both=st.booleans(),
    )
    def propose(
        self, sender: str, drawn: list[tuple[str, str, str, int, int]], life: int, both: bool
    ) -> None:
        signers = self.council.world.banks[sender].signers[: 2 if both else 1]
        expires = self.council.chain.state.time + BLOCK_MS + life
        changes = [self.change(*each) for each in drawn]
        made = self.council.propose(*changes, sender=sender, signers=signers, expires=expires)
        self.waiting.append(made)
        self.proposed.append(made.digest)

    @rule(sender=proposers, which=st.integers(0, 5), second=st.booleans())
    def approve(self, sender: str, which: int, second: bool) -> None:
        recent = self.proposed[-which:]
        id = recent[0] if recent else bytes(32)
        bank = self.council.world.banks[sender]
        signers = bank.signers[-1:] if second else bank.signers[:1]
        self.waiting.append(self.council.approve(id, sender, signers))

    @rule(
        kinds=st.lists(st.sampled_from(("add", "rekey", "remove", "remove")), max_size=2),
        pick=st.integers(0, 10),
        holder=st.sampled_from(("CENTRALBANK", "BANKC")),
        gap=gaps,
    )
    def decide(self, kinds: list[str], pick: int, holder: str, gap: int) -> None:
        """Two operators decide on something that mostly fits, as operators do."""
        members = self.model.members if self.model.pending is None else self.model.pending.members
        held = [member.name for member in members]
        changes = []
        for offset, kind in enumerate(kinds):
            free = [name for name in ("x", "y", "z", "node1", "node2") if name not in held]
            choice = free if kind == "add" else held
            if choice:
                name = choice[(pick + offset) % len(choice)]
                changes.append(self.change(kind, name, holder, self.fresh(), self.fresh()))
        proposal = self.council.propose(*changes)
        self.waiting += [proposal, self.council.approve(proposal.digest)]
        self.proposed.append(proposal.digest)
        self.block(gap)

    @rule(name=names, node=some_keys, vote=some_keys, ahead=st.sampled_from((1, 1, 0)))
    def ready(self, name: str, node: int, vote: int, ahead: int) -> None:
        self._ready(name, self.key(node), self.key(vote), ahead)

    @rule(left_out=st.integers(0, 3), gap=gaps)
    def right_ready(self, left_out: int, gap: int) -> None:
        """Members say it with their own node keys, as nodes do."""
        pending = self.model.pending
        members = [] if pending is None else pending.members[left_out:]
        every = [self.key(number) for number in range(-2 * FOUNDERS, len(POOL))]
        for member in members:
            node = next(each for each in every if each.public_key == member.node_key)
            self._ready(member.name, node, self.key(self.fresh()), 1)
        self.block(gap)

    def _ready(self, name: str, node: Ed25519Signer, vote: Ed25519Signer, ahead: int) -> None:
        pending = self.model.pending
        listed = [*self.model.members, *([] if pending is None else pending.members)]
        entry = next((each for each in listed if each.node_key == node.public_key), None)
        operator = self.council.world.lei("BANKC") if entry is None else entry.operator
        member = Member(Validator(name, operator, vote.public_key, node.public_key), vote, node)
        self.waiting.append(
            self.council.ready(member, self.model.epoch + ahead, vote=vote, name=name)
        )

    @rule(sender=st.sampled_from(("CENTRALBANK", "BANKB")), which=st.integers(0, 1))
    def revoke(self, sender: str, which: int) -> None:
        signers = self.council.world.banks[sender].signers
        self.waiting.append(
            self.council.world.revoke_key(
                sender,
                signers[which % len(signers)].public_key,
                signers=[signers[-1]],
                valid_until=self.council.chain.state.time + 100 * READINESS_MS,
            )
        )

    @rule(gap=gaps)
    def block(self, gap: int) -> None:
        """What waits stands in a block, or is refused, on both sides alike."""
        chain, waiting = self.council.chain, self.waiting
        self.waiting = []
        context = BlockContext(chain.state.height + 1, chain.state.time + gap)
        reasons, standing = [], []
        for checked in waiting:
            instruction = checked.instruction
            if instruction.envelope.valid_until < context.time:
                continue
            if self.model.may_stand(instruction, context.height):
                standing.append(checked)
                reasons.append(
                    self.model.execute(instruction, checked.digest, context.height, context.time)
                )
        members = self.model.end_block(context.time)

        proposal = chain.ledger.propose(chain.state, context, waiting, 1 << 20, 1_000)
        assert proposal.chosen == standing
        block = chain.block(*standing, time=context.time)
        assert [outcome.reason for outcome in block.outcomes] == reasons
        sealed = block.applied.next_validators
        assert (None if sealed is None else list(sealed.validators)) == members
        assert block.applied.state_root == proposal.applied.state_root
        self.epochs += members is not None

    @rule()
    def restart(self) -> None:
        """What a node reads from its disk says the same, to the byte."""
        chain = self.council.chain
        if not chain.blocks:
            return
        again = load_state(
            chain.records.items(),
            chain.blocks[-1].header,
            chain.state.history,
            chain.index,
            chain.nodes.__getitem__,
        )
        assert again.epoch_record == chain.state.epoch_record
        assert again.stored_proposals() == chain.state.stored_proposals()
        for key in POOL[: self.named]:
            assert again.key_holder(key.public_key) == chain.state.key_holder(key.public_key)

    @invariant()
    def epochs_agree(self) -> None:
        state, model = self.council.chain.state, self.model
        assert state.validator_set.epoch == model.epoch == self.epochs
        assert list(state.validator_set.validators) == model.members
        pending = state.pending_epoch
        assert (pending is None) == (model.pending is None)
        if pending is not None and model.pending is not None:
            assert list(pending.members) == model.pending.members
            assert list(pending.ready) == sorted(model.pending.ready)
            assert pending.deadline == model.pending.deadline

    @invariant()
    def proposals_agree(self) -> None:
        listed = {
            (each.id, each.proposer, each.changes, each.expires, frozenset(each.approvals))
            for each in self.council.chain.state.stored_proposals()
        }
        assert listed == {
            (each.id, each.proposer, each.changes, each.expires, frozenset(each.approvals))
            for each in self.model.open
        }

    @invariant()
    def no_key_is_in_two_places(self) -> None:
        pending = self.model.pending
        for members in (self.model.members, [] if pending is None else pending.members):
            keys = [key for each in members for key in (each.vote_key, each.node_key)]
            assert len(keys) == len(set(keys))
            assert not {key.public_key for key in self.model.keys} & set(keys)


TestGovernanceAgainstModel = GovernanceAgainstModel.TestCase
TestGovernanceAgainstModel.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
