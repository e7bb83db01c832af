"""Broken cores: does the oracle see what it was made to see?

Each mutant is the real core with one rule broken by a patch of its source text.
"""

from __future__ import annotations

from devnet.sim.epoch_mutants import EPOCH_MUTANTS
from devnet.sim.mutant import Mutant

_NO_VOTES_AT_STANDSTILL = (
    "serving",
    "        page += [vote for vote in at.own if vote is not None]\n",
    "",
)
_NO_VOTES_AT_LINK_UP = (
    "core",
    "*(Send(peer, own) for own in self._own_messages(self._state.view))",
    "",
)
"""Parts of mutants whose fault the standstill, or a link that comes up, alone would heal."""

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
        hint=11,
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
        hint=7,
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
            _NO_VOTES_AT_LINK_UP,
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
            _NO_VOTES_AT_LINK_UP,
        ),
    ),
    Mutant(
        "no standstill",
        (
            "progress-after-heal",
            "idle-chain-quiet",
        ),
        (("core", "            state.emit(*(Broadcast(message) for message in page))\n", ""),),
        hint=75,
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
        hint=1,
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
        hint=33,
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
        hint=1,
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
            _NO_VOTES_AT_LINK_UP,
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
        hint=2,
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
        hint=3,
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
        hint=53,
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
        hint=1,
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
    *EPOCH_MUTANTS,
)
