"""Mutants of what happens at and after a change of the validators, and of the duties of drivers."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.interface import Commit, Effect
from devnet.sim.application import Application
from devnet.sim.mutant import Mutant
from devnet.sim.node import HonestNode


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


EPOCH_MUTANTS: tuple[Mutant, ...] = (
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
        hint=2,
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
        hint=44,
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
        hint=55,
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
        hint=116,
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
    ),
)
