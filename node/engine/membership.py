"""This node's place in the validator set, and what it does for the next one.

Owned here: who this node is in the current epoch. That is decided by its node key and the set that
the ledger holds, at the start and whenever an epoch begins; what follows from it (which vote key
signs, which links there are, whose names logs show) is set up in one place.

What a member says by itself, in instructions signed with its node key:

- *ready*: when an epoch is pending that counts it in, the fresh vote key that it made for it,
  durable before it is told of. Until enough members are ready the epoch does not change;
- *reports* of equivocations that it holds both votes of. Every witness keeps its own for good and
  waits its turn to report, so that the ledger gets one report and not one from each.

Both are repeated until the ledger shows them: an instruction may be lost or expire.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor as ThreadPool
from pathlib import Path

from consensus.interface import EpochStarted, Floor, starting_floor
from consensus.messages import Epoch, Equivocation, ValidatorIndex
from node.api.service import SubmissionRefused
from node.chain.build import build_ready, build_report
from node.chain.types import Receipt, Validator, ValidatorSet
from node.engine.clock import WallClock
from node.engine.executor import CommitPlan
from node.engine.vote_keys import VoteKeys
from node.ledger.state import State
from node.storage.chain_store import ChainStore
from node.storage.errors import HomeError, StorageError
from node.storage.keystore import Keystore

log = logging.getLogger("nostro.membership")

VALIDITY_MS = 3_600_000
"""How long an instruction of the node's own may wait to stand in a block."""
REPEAT_SECONDS = 15.0
"""Between two looks at what the ledger still lacks of this node's."""
TURN_SECONDS = 3.0
"""How much longer each further member waits before it reports what others may report too."""
MAX_REPORTS = 16
"""Reports worked on at a time; the others follow."""
MAX_EVIDENCE = 16
"""Equivocations kept of one validator in one epoch: one proves it, and a member that signs twice
in every view must not fill the disk."""


class Membership:
    """Follows the ledger's validator set for one node."""

    def __init__(
        self,
        *,
        chain_id: bytes,
        node_key: Keystore,
        keys: VoteKeys,
        state: Callable[[], State],
        store: ChainStore,
        io: ThreadPool,
        clock: WallClock,
        submit: Callable[[Sequence[bytes]], Awaitable[list[Receipt | SubmissionRefused]]],
        on_change: Callable[[ValidatorSet, int | None], None],
    ) -> None:
        """`state`: the final one. `on_change`: sets up links and names for a set and this node's
        index in it, before anything else happens in its epoch."""
        self._chain_id = chain_id
        self._node_key = node_key
        self._keys = keys
        self._state = state
        self._store = store
        self._io = io
        self._clock = clock
        self._submit = submit
        self._on_change = on_change
        self.validators = state().validator_set
        self.index = index_of(self.validators, node_key.public_key)
        """In the current set; None for an observer."""
        self.retired: str | None = None
        """Why this member does not sign; None if it does, or is none."""
        self._evidence: list[Equivocation] = []
        self._new_evidence: list[Equivocation] = []
        self._report_at: dict[tuple[int, int, int], float] = {}
        """When this node's turn to report each comes, seconds of the loop's clock."""
        self._ready_said = -REPEAT_SECONDS
        """When this node last said that it is ready, seconds of the loop's clock."""
        self._cleaned = 0
        """The epoch since whose first final block keys of earlier ones are gone."""
        self._wake = asyncio.Event()
        self._use_key()

    @property
    def member(self) -> Validator | None:
        """This node's entry in the current set."""
        return None if self.index is None else self.validators.validators[self.index]

    @property
    def voting_index(self) -> ValidatorIndex | None:
        """The index under which this node signs; None if it does not."""
        signs = self.index is not None and self.retired is None
        return ValidatorIndex(self.index) if signs and self.index is not None else None

    def _use_key(self) -> None:
        member = self.member
        self.retired = None
        if member is None:
            self._keys.lay_down()
        else:
            self.retired = self._keys.use(self.validators, member.vote_key)
            if self.retired is not None:
                log.error("this node only observes: %s", self.retired)

    # --- the next epoch -------------------------------------------------------------------------

    def next_epoch(self, floor: Floor) -> EpochStarted:
        """The sealing block at `floor` is stored: move to the set that it names."""
        before, old_index = self.validators, self.index
        self.validators = self._state().validator_set
        assert self.validators.epoch == floor.info.epoch + 1, "the seal was not applied"
        self.index = index_of(self.validators, self._node_key.public_key)
        self._ready_said = -REPEAT_SECONDS
        self._use_key()
        if self.index is None and old_index is not None:
            log.warning("epoch %d begins without this node: it observes", self.validators.epoch)
        else:
            log.info(
                "epoch %d begins with %d validators",
                self.validators.epoch, len(self.validators.validators),
            )  # fmt: skip
        self._on_change(self.validators, self.index)
        self._wake.set()
        return EpochStarted(
            epoch=Epoch(self.validators.epoch),
            validators=tuple(each.vote_key for each in self.validators.validators),
            index=self.voting_index,
            floor=starting_floor(floor.info),
            moved=_moved(before, self.validators),
        )

    # --- what this node says by itself ----------------------------------------------------------

    def on_final(self, plan: CommitPlan) -> None:
        """Final blocks may have made an epoch pending, or be the first of a new one."""
        epoch = plan.floor.info.epoch
        if self._state().pending_epoch is not None or epoch > self._cleaned:
            self._wake.set()

    def witnessed(self, evidence: Equivocation) -> None:
        """Somebody signed twice: to be kept for good, and reported."""
        vote = evidence.first
        log.error(
            "validator %d signed twice in view %d of epoch %d", vote.voter, vote.view, vote.epoch
        )
        self._new_evidence.append(evidence)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Raises what storage raises when it cannot write."""
        loop = asyncio.get_running_loop()
        self._evidence = await loop.run_in_executor(self._io, self._store.evidence)
        while True:
            await self._keep_evidence()
            await self._get_ready()
            pause = await self._report()
            await self._destroy_old_keys()
            self._wake.clear()
            timer = loop.call_later(pause, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    async def _keep_evidence(self) -> None:
        loop = asyncio.get_running_loop()
        while self._new_evidence:
            evidence = self._new_evidence.pop(0)
            vote = evidence.first
            against = [
                (each.first.epoch, each.first.view)
                for each in self._evidence
                if (each.first.epoch, each.first.voter) == (vote.epoch, vote.voter)
            ]
            if (vote.epoch, vote.view) not in against and len(against) < MAX_EVIDENCE:
                await loop.run_in_executor(self._io, self._store.keep_evidence, evidence)
                self._evidence.append(evidence)

    async def _get_ready(self) -> None:
        """Make the key for a pending epoch that counts this node in, and say so."""
        state = self._state()
        pending = state.pending_epoch
        if pending is None:
            return
        own = next((v for v in pending.members if v.node_key == self._node_key.public_key), None)
        loop = asyncio.get_running_loop()
        if own is None or own.name in pending.ready:
            return
        if loop.time() < self._ready_said + REPEAT_SECONDS:
            return
        self._ready_said = loop.time()
        epoch = self.validators.epoch + 1
        made = self._keys.made(epoch)
        if made is not None and made != own.vote_key and state.validator_key(made) is not None:
            # It was told of before the pending epoch was replaced by one that names another key
            # for this member. The ledger takes no key twice.
            self._keys.destroy(made)
        vote_key, possession = await loop.run_in_executor(
            self._io, self._keys.make, epoch, own.operator
        )
        now = self._clock.now_ms()
        raw = build_ready(
            self._chain_id, own.operator, f"ready-{own.name[:8]}-{now}", now + VALIDITY_MS,
            name=own.name, epoch=epoch, vote_key=vote_key, possession=possession,
            node=self._node_key.signer,
        )  # fmt: skip
        await self._say(raw, f"ready for epoch {epoch}")

    async def _report(self) -> float:
        """Report what the ledger does not have, in turn: the members after the accused first.
        Gives the seconds until this node's next turn."""
        pause = REPEAT_SECONDS
        member = self.member
        if member is None or not self._evidence:
            return pause
        state = self._state()
        now = asyncio.get_running_loop().time()
        waiting = 0
        for evidence in self._evidence:
            vote = evidence.first
            place = (vote.epoch, vote.view, vote.voter)
            if state.equivocation(*place) is not None or waiting >= MAX_REPORTS:
                continue
            waiting += 1
            assert self.index is not None
            turn = (self.index - vote.voter - 1) % len(self.validators.validators)
            due = self._report_at.setdefault(place, now + turn * TURN_SECONDS)
            if now < due:
                pause = min(pause, due - now)
                continue
            # The ledger may show it by then: every final block may wake this task meanwhile.
            self._report_at[place] = now + REPEAT_SECONDS + turn * TURN_SECONDS
            at = self._clock.now_ms()
            raw = build_report(
                self._chain_id, member.operator, f"r-{vote.view}-{vote.voter}-{at}",
                at + VALIDITY_MS, first=evidence.first, second=evidence.second,
                node=self._node_key.signer,
            )  # fmt: skip
            await self._say(raw, f"that validator {vote.voter} signed twice in view {vote.view}")
        return pause

    async def _say(self, raw: bytes, what: str) -> None:
        [answer] = await self._submit([raw])
        if isinstance(answer, SubmissionRefused):
            log.warning("cannot tell the network %s: %s", what, answer.detail)
        else:
            log.info("told the network: %s", what)

    async def _destroy_old_keys(self) -> None:
        """Once this epoch has a final block of its own, no key of an earlier one is of use to
        anybody but a thief."""
        floor = self._store.floor()
        epoch = self.validators.epoch
        if floor is None or floor.info.epoch != epoch or floor.info.seals or epoch <= self._cleaned:
            return
        state = self._state()
        members = list(self.validators.validators)
        if state.pending_epoch is not None:
            members += state.pending_epoch.members
        wanted = {each.vote_key for each in members}
        try:
            self._keys.finish_destroying()
            for public_key, made_for in self._keys.held().items():
                # One that no set has named yet may be this node's for its first epoch.
                used = state.validator_key(public_key) is not None
                if public_key not in wanted and (used or made_for <= epoch):
                    self._keys.destroy(public_key)
                    log.info("destroyed vote key %s of an epoch that ended", public_key.hex())
            self._cleaned = epoch
        except StorageError as error:
            log.error("a vote key of an epoch that ended is still here: %s", error)


def check_identity(
    validators: ValidatorSet, name: str, node_key: bytes, where: Path, *, follows: bool = False
) -> None:
    """Raise HomeError if this set calls the holder of `node_key` something else than `name`, or
    calls another by that name: two homes were mixed up, or the key is no longer the member's.

    `follows`: it has sources to follow. Then another key is let pass: it may be the one that the
    next epoch, which is not here yet, names for this member."""
    index = index_of(validators, node_key)
    names = [each.name for each in validators.validators]
    if index is not None and names[index] != name:
        raise HomeError(
            f"it calls this node {name}, but its node key is that of {names[index]} in the "
            f"validator set of epoch {validators.epoch}",
            where,
            "Put the configuration and the keys of one node together",
        )
    if index is None and name in names and not follows:
        member = validators.validators[names.index(name)]
        raise HomeError(
            f"its node key {node_key.hex()} is not the one that the validator set of epoch "
            f"{validators.epoch} names for {name} ({member.node_key.hex()})",
            where,
            "Put the right keys/node.json there; if the key is lost, have the operators re-key "
            "the member, or give this node another name to observe",
        )


def index_of(validators: ValidatorSet, node_key: bytes) -> int | None:
    """Whose node key this is, in this set."""
    for index, validator in enumerate(validators.validators):
        if validator.node_key == node_key:
            return index
    return None


def _moved(before: ValidatorSet, after: ValidatorSet) -> dict[ValidatorIndex, ValidatorIndex]:
    """Where the members that stay are in the next set, by their index in this one."""
    places = {each.node_key: index for index, each in enumerate(after.validators)}
    return {
        ValidatorIndex(index): ValidatorIndex(places[each.node_key])
        for index, each in enumerate(before.validators)
        if each.node_key in places
    }
