"""Broken cores: does the oracle see what it was made to see?

Each mutant is the real core with one rule broken by a patch of its source text. `hunt` runs seeds
until a rule catches it. A patch that no longer fits the source is an error, never a silent
survivor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from consensus.interface import Commit, Effect
from devnet.sim.application import Application
from devnet.sim.node import HonestNode
from devnet.sim.patched import Patched
from devnet.sim.run import run_seed
from devnet.sim.world import Violation


@dataclass(frozen=True, slots=True)
class Mutant:
    """A core with one rule broken."""

    name: str
    rules: tuple[str, ...]
    """The rules that may catch it: which one is first depends on the seed."""
    patches: tuple[tuple[str, str, str], ...]
    """As of `Patched`."""
    hint: int = 0
    """The first seed to try: one that is known to catch it."""
    node: type[HonestNode] = HonestNode
    """Whose driver or application goes wrong, where the fault is not the core's."""
    attack: str | None = None
    """What the Byzantine members of its runs do; None for runs without any."""


def hunt(mutant: Mutant, seeds: Iterable[int], *, hinted: bool = True) -> Violation | None:
    """Run seeds until one catches the mutant; None if it survives them all. `hinted`: the seed
    known to catch it first, else in their order.

    The signer guard is left out: it would refuse what the core's own guards must prevent.
    """
    core = Patched(mutant.name, mutant.patches).load()
    for seed in chain((mutant.hint,) if hinted else (), seeds):
        try:
            run_seed(
                seed,
                core=core,
                node=mutant.node,
                guarded=False,
                attack=mutant.attack,
            )
        except Violation as caught:
            return caught
    return None


class _Stepping(Application):
    """Gives every carrier a height of its own."""

    step = 1


class _SteppingNode(HonestNode):
    application = _Stepping


class _HastyNode(HonestNode):
    """Hands a commit to its database without waiting for its journal."""

    def _perform(self, effects: Sequence[Effect]) -> None:
        super()._perform(effects)
        for entry in [entry for entry in self._outbox if isinstance(entry[1], Commit)]:
            self._outbox.remove(entry)
            assert isinstance(entry[1], Commit)
            self._commits.append(entry[1])
            if self.up:
                self._store_next()


_NO_VOTES_AT_STANDSTILL = (
    "serving",
    "        page += [vote for vote in at.own if vote is not None]\n",
    "",
)
"""Part of mutants whose fault the standstill alone would heal, a little later."""

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "nullify without the finalize guard",
        ("no-honest-key-incriminated",),
        (
            ("voting", "            and not self._signed(view, Kind.FINALIZE)\n", ""),
            # In the current view alone the guard has no work: voting finalize leaves the view.
            (
                "following",
                "        state.enter(block.info.view + 1, Kind.NOTARIZE, now)\n",
                "",
            ),
        ),
    ),
    Mutant(
        "notarize after nullify",
        ("notarize-after-nullify",),
        (
            (
                "voting",
                "            and view == self._state.view\n"
                "            and not self._signed(view, Kind.NULLIFY)\n",
                "            and view == self._state.view\n",
            ),
        ),
    ),
    Mutant(
        "finalize after nullify",
        ("no-honest-key-incriminated",),
        (
            (
                "voting",
                "            and view <= self._state.view\n"
                "            and not self._signed(view, Kind.NULLIFY)\n",
                "            and view <= self._state.view\n",
            ),
        ),
    ),
    Mutant(
        "votes in a view not entered",
        ("vote-only-in-entered-views",),
        (
            (
                "voting",
                "            and view == self._state.view\n"
                "            and not self._signed(view, Kind.NULLIFY)\n",
                "            and view >= self._state.view\n"
                "            and not self._signed(view, Kind.NULLIFY)\n",
            ),
            (
                "proposing",
                "        view = state.view\n"
                "        if not self._voter.may_notarize(view):\n"
                "            return\n"
                "        at = state.open(view)\n",
                "        ahead = state.views.get(View(state.view + 1))\n"
                "        view = state.view if ahead is None else ahead.view\n"
                "        if not self._voter.may_notarize(view):\n"
                "            return\n"
                "        at = state.open(view)\n",
            ),
        ),
        hint=2,
    ),
    Mutant(
        "votes below the floor",
        ("no-vote-at-or-below-floor",),
        (
            (
                "voting",
                "        if view <= state.floor.info.view or view <= state.final_view:\n"
                "            return False\n",
                "",
            ),
            (
                "following",
                "            self._commit(block, at.finalization, now)\n",
                "            self._commit(block, at.finalization, now)\n"
                "            self._voter.finalize(at.view, at.certified)\n",
            ),
            ("state", "        assert view > self.floor.info.view,", "        assert True,"),
        ),
    ),
    Mutant(
        "moving back a view",
        ("forward-only",),
        (("state", "        if view <= self.view:\n            return\n", ""),),
    ),
    Mutant(
        "resuming from the last record instead of the highest",
        (
            "forward-only",
            "no-exception",
        ),
        (
            (
                "recovery",
                "state.view = max(state.view, View(certificate.view + 1))",
                "state.view = View(certificate.view + 1)",
            ),
            (
                "recovery",
                "state.view = max(state.view, View(entered))",
                "state.view = View(entered)",
            ),
        ),
    ),
    Mutant(
        "votes and proposals minted anew after a restart",
        (
            "no-honest-key-incriminated",
            "no-alarm",
            "notarize-after-nullify",
        ),
        (
            (
                "recovery",
                "            case OwnVote(vote):\n",
                "            case OwnVote(vote) if False:\n",
            ),
            (
                "recovery",
                "            case OwnProposal(proposal):\n",
                "            case OwnProposal(proposal) if False:\n",
            ),
        ),
    ),
    Mutant(
        "own vote counted twice after replay",
        ("certificate-shape",),
        (
            ("recovery", "    if at.own[vote.kind] is not None:\n        return\n", ""),
            ("recovery", "    if vote.voter not in at.votes[vote.kind]:\n", "    if True:\n"),
            (
                "votes",
                "assert vote.voter not in state.votes[vote.kind]",
                "assert True",
            ),
        ),
    ),
    Mutant(
        "replayed own vote not counted",
        ("progress-after-heal",),
        (("recovery", "    if vote.voter not in at.votes[vote.kind]:\n", "    if False:\n"),),
        hint=14,
    ),
    Mutant(
        "no retry timer after a recovered nullify",
        ("progress-after-heal",),
        (
            (
                "core",
                "        if at.own[Kind.NULLIFY] is not None:\n            state.pace",
                "        if False:\n            state.pace",
            ),
            _NO_VOTES_AT_STANDSTILL,
        ),
        hint=5,
    ),
    Mutant(
        "no retry",
        ("progress-after-heal",),
        (
            (
                "core",
                "            self._retry(now.monotonic)\n",
                "            pace.arm_retry(now.monotonic)\n",
            ),
            _NO_VOTES_AT_STANDSTILL,
        ),
    ),
    Mutant(
        "no standstill",
        (
            "progress-after-heal",
            "idle-chain-quiet",
        ),
        (("core", "            state.emit(*(Broadcast(message) for message in page))\n", ""),),
        hint=6,
    ),
    Mutant(
        "a proposal skipping an un-nullified view",
        ("justified-notarize",),
        (
            (
                "proposing",
                "        if state.gap(parent_view) is not None:\n",
                "        if False:\n",
            ),
            (
                "proposing",
                "        complete = state.gap(parent_view) is None\n",
                "        complete = True\n",
            ),
        ),
    ),
    Mutant(
        "clock drift checked while certifying",
        ("no-alarm",),
        (
            (
                "core",
                "                self._following.executed(event, now.monotonic)\n",
                "                known = self._state.blocks.get(event.digest)\n"
                "                if known is not None and known.certified:\n"
                "                    late = now.wall - known.info.timestamp\n"
                "                    valid = abs(late) <= self._state.timing.drift\n"
                "                    event = Executed(event.digest, valid, 'drift')\n"
                "                self._following.executed(event, now.monotonic)\n",
            ),
        ),
    ),
    Mutant(
        "notarized body not fetched",
        ("progress-after-heal",),
        (
            (
                "following",
                "            self._want_body(view, certificate.content.block, signers, now)\n",
                "            pass\n",
            ),
        ),
        hint=1,
    ),
    Mutant(
        "only the first peer asked",
        ("progress-after-heal",),
        (("fetching", "        want.next_peer += 1\n", ""),),
        hint=7,
    ),
    Mutant(
        "votes sent but not recorded",
        ("persist-before-send",),
        (("voting", "        state.emit(Persist(OwnVote(vote)))\n", ""),),
    ),
    Mutant(
        "body of a notarized block not recorded",
        ("body-before-vote",),
        (
            (
                "voting",
                "            self._state.emit(Persist(Body(self._state.epoch, view, block.raw)))\n",
                "",
            ),
        ),
    ),
    Mutant(
        "rotation forgets votes",
        ("rotation-keeps",),
        (
            (
                "recovery",
                "        records += [OwnVote(vote) for vote in at.own if vote is not None]\n",
                "",
            ),
        ),
    ),
    Mutant(
        "a quorum one short",
        ("certificate-shape",),
        (
            (
                "votes",
                "        self._quorum = quorum(len(validators))\n",
                "        self._quorum = quorum(len(validators)) - 1\n",
            ),
        ),
    ),
    Mutant(
        "timers nullifying an idle chain",
        (
            "idle-chain-quiet",
            "progress-after-heal",
        ),
        (
            (
                "pacemaker",
                "        self._entered = now\n        self._started = None\n",
                "        self._entered = now\n        self._started = now\n",
            ),
            (
                "proposing",
                "or not state.pace.started:",
                "or not (state.pending or now.monotonic >= state.pace._wait_ends()):",
            ),
        ),
    ),
    Mutant(
        "idle tip never finalized",
        ("progress-after-heal",),
        (
            ("pacemaker", "if self.tip_final else tip_wait", "if self.tip_final else 10**12"),
            _NO_VOTES_AT_STANDSTILL,
        ),
        hint=12,
    ),
    Mutant(
        "header parent not tied to p",
        ("justified-notarize",),
        (
            (
                "proposing",
                "        if named != info.parent:\n"
                "            return Verdict.BAD\n"
                "        if not state.blocks.is_executed(named):\n"
                "            return Verdict.WAIT\n"
                "        parent = state.blocks.info(named)\n",
                "        if not state.blocks.is_executed(info.parent):\n"
                "            return Verdict.WAIT\n"
                "        parent = state.blocks.info(info.parent)\n",
            ),
        ),
        attack="bad-block",
        hint=17,
    ),
    Mutant(
        "leader identity unchecked",
        ("leader-signed",),
        (
            (
                "core",
                "        if vote.voter != state.leader(vote.view):\n"
                "            state.reject(sender, "
                '"proposal: not signed by the leader of its view")\n'
                "            return\n",
                "",
            ),
        ),
        attack="impersonator",
    ),
    Mutant(
        "a certificate of the other kind treated as an attack",
        ("no-alarm",),
        (
            (
                "state",
                "        if kind is Kind.NULLIFY and at.finalization is not None:\n",
                "        if kind is Kind.NULLIFY and at.certified is not None:\n",
            ),
            (
                "state",
                "        elif kind is Kind.FINALIZE and at.nullification is not None:\n",
                "        elif kind is not Kind.NULLIFY and at.nullification is not None:\n",
            ),
        ),
        attack="selective-sender",
    ),
    Mutant(
        "execution cancelled by a nullification",
        ("progress-after-heal",),
        (
            (
                "following",
                "        if block.requested:\n            return\n        block.requested = True\n",
                "        at = self._state.views.get(block.info.view)\n"
                "        if block.requested or (at is not None and at.nullification is not None):\n"
                "            return\n"
                "        block.requested = True\n",
            ),
        ),
        attack="selective-sender",
        hint=32,
    ),
    Mutant(
        "signatures of votes unchecked",
        ("leader-signed", "certificate-shape", "no-honest-key-incriminated", "evidence-proves"),
        (
            (
                "votes",
                "        if not verify_vote(vote, self._validators, self._verify):\n"
                "            return _BAD_SIGNATURE\n",
                "",
            ),
        ),
        attack="impersonator",
    ),
    Mutant(
        "certificates of another epoch accepted",
        ("certificate-shape", "no-alarm"),
        (
            (
                "following",
                "        if certificate.epoch != state.epoch:\n"
                '            state.reject(sender, "certificate: of another epoch")\n'
                "            return\n",
                "",
            ),
            (
                "epochs",
                "                    if epoch > self._epoch:\n",
                "                    if False:\n",
            ),
        ),
        attack="replayer",
    ),
    Mutant(
        "certificates of less than a quorum accepted",
        ("certificate-shape",),
        (
            (
                "certificate",
                "    if len(signatures) < quorum(len(validator_keys)):\n",
                "    if not signatures:\n",
            ),
        ),
        attack="forger",
    ),
    Mutant(
        "a signer counted twice in a certificate",
        ("certificate-shape",),
        (("certificate", "        if voter <= previous:\n", "        if voter < previous:\n"),),
        attack="forger",
    ),
    Mutant(
        "equivocation not reported",
        ("evidence-reported",),
        (("core", "            state.report(cast.evidence)\n", "            pass\n"),),
        attack="double-voter",
    ),
    Mutant(
        "a block notarized whatever its execution says",
        ("no-alarm",),
        (
            (
                "proposing",
                "        if block.valid is not True:\n"
                "            return Verdict.WAIT if block.valid is None else Verdict.BAD\n",
                "        if block.valid is None:\n            return Verdict.WAIT\n",
            ),
            (
                "voting",
                'assert block.valid, "notarized a block that was not executed"',
                "assert True",
            ),
        ),
        attack="bad-block",
        hint=14,
    ),
    Mutant(
        "forged votes passed on as held",
        ("no-honest-message-refused",),
        (
            (
                "votes",
                "                if not verify_vote(vote, self._validators, self._verify):\n"
                "                    del state.votes[kind][voter]\n"
                "                    continue\n",
                "                pass\n",
            ),
        ),
        attack="impersonator",
        hint=34,
    ),
    Mutant(
        "carrier applied as a block",
        ("carriers-carry", "monotonic-commits"),
        (
            (
                "following",
                "        seal = next((at for at, each in enumerate(path) if each.info.seals), "
                "len(path) - 1)\n",
                "        seal = len(path) - 1\n",
            ),
        ),
        hint=2,
    ),
    Mutant(
        "old-epoch records replayed",
        ("nothing-of-old-epochs",),
        (
            (
                "recovery",
                "if certificate.epoch == state.epoch and certificate.view > floor:\n",
                "if certificate.view > floor:\n",
            ),
            (
                "recovery",
                "                if vote.epoch == state.epoch and vote.view > floor:\n",
                "                if vote.view > floor:\n",
            ),
            (
                "recovery",
                "        check(certificate, state.validators, state.verify)\n",
                "        pass\n",
            ),
            (
                "recovery",
                "    if vote.voter != state.index or not verify_vote(vote, state.validators, "
                "state.verify):\n",
                "    if False:\n",
            ),
        ),
        hint=1,
    ),
    Mutant(
        "signing goes on after the seal is final",
        ("no-vote-after-seal",),
        (
            ("voting", "        if state.sealed:\n", "        if False:\n"),
            ("following", "            state.sealed = state.ended = True\n", ""),
            (
                "epochs",
                '        assert self._core.ended, "an epoch starts when the one before has been '
                'sealed"\n',
                "",
            ),
        ),
        hint=13,
    ),
    Mutant(
        "carrier judged by the clock",
        ("progress-after-heal",),
        (
            (
                "proposing",
                "        if parent.seals:\n            return Verdict.GOOD",
                "        if False:\n            return Verdict.GOOD",
            ),
        ),
        hint=68,
    ),
    Mutant(
        "straggler not answered",
        ("progress-after-heal",),
        (
            (
                "epochs",
                "            effects.append(Straggler(sender, Epoch(epoch)))\n",
                "            pass\n",
            ),
        ),
        hint=1,
    ),
    Mutant(
        "new epoch started with the old set's keys",
        ("no-honest-message-refused", "certificate-shape", "no-honest-key-incriminated"),
        (
            (
                "epochs",
                "self._make(event.index, event.validators, event.floor, ahead)",
                "self._make(\n"
                "            event.index,\n"
                "            (self._core._state.validators * 2)[: len(event.validators)],\n"
                "            event.floor,\n"
                "            ahead,\n"
                "        )",
            ),
        ),
        hint=1,
    ),
    Mutant(
        "chunk crossing an epoch accepted",
        ("nothing-of-old-epochs", "no-alarm", "carriers-carry", "finalized-ancestry"),
        (
            ("catchup", "    if certificate.epoch != epoch:\n", "    if False:\n"),
            (
                "catchup",
                "        if info.view <= parent.view or info.epoch != epoch:\n",
                "        if False:\n",
            ),
            ("catchup", "        if parent.seals:\n", "        if False:\n"),
        ),
        attack="false-answers",
        hint=28,
    ),
    Mutant(
        "removed member's votes counted",
        ("certificate-shape",),
        (
            (
                "core",
                "        if vote.voter >= len(state.validators):\n"
                '            state.reject(sender, "vote: the voter is not in the validator set")\n'
                "            return False\n",
                "",
            ),
            (
                "certificate",
                "    if vote.voter >= len(validator_keys):\n        return False\n",
                "    if vote.voter >= len(validator_keys):\n        return True\n",
            ),
            ("certificate", "    if previous >= len(validator_keys):\n", "    if False:\n"),
            (
                "certificate",
                "        if known is not None and known.get(voter) == signature:\n",
                "        if voter >= len(validator_keys) or (\n"
                "            known is not None and known.get(voter) == signature\n"
                "        ):\n",
            ),
        ),
        attack="removed-voter",
    ),
    Mutant(
        "new finalize votes minted on rebroadcast of a timed-out view",
        ("no-honest-key-incriminated",),
        (
            (
                "voting",
                "            and view <= self._state.view\n"
                "            and not self._signed(view, Kind.NULLIFY)\n",
                "            and view <= self._state.view\n",
            ),
            (
                "following",
                "        if state.leader(at.view) not in at.accused:\n",
                "        given_up = at.own[Kind.NULLIFY] is not None\n"
                "        if not given_up and state.leader(at.view) not in at.accused:\n",
            ),
            (
                "core",
                "            state.emit(*(Broadcast(message) for message in page))\n",
                "            state.emit(*(Broadcast(message) for message in page))\n"
                "            for at in list(state.views.values()):\n"
                "                if at.certified is not None:\n"
                "                    self._voter.finalize(at.view, at.certified)\n",
            ),
        ),
    ),
    Mutant(
        "state ahead of the journal",
        ("commit-after-journal",),
        (),
        node=_HastyNode,
        hint=3,
    ),
    Mutant(
        "carrier with its own height",
        ("justified-notarize", "carriers-carry"),
        (
            (
                "blocks",
                "        return (info.height, info.timestamp, info.seals) == "
                "(parent.height, parent.timestamp, True)\n",
                "        return info.height == parent.height + 1\n",
            ),
        ),
        node=_SteppingNode,
        hint=2,
    ),
    Mutant(
        "clock drift not checked before notarizing",
        ("timestamp-drift",),
        (
            (
                "proposing",
                "        return self._judge_timestamp(info.timestamp, arrival, now)\n",
                "        return Verdict.GOOD\n",
            ),
        ),
        attack="bad-block",
        hint=4,
    ),
)
