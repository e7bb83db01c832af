"""The judge of a run: named rules over everything that is signed, stored, sent and committed.

Written from the protocol's rules alone. It shares the message types with the core and nothing
else: no counting, checking or choosing code, so that one misreading cannot hide another.

The oracle watches four borders of each node: what a turn decides (`turn`), what is durable
(`durable`), what leaves (`sent`), and what the database commits (`committed`). A broken rule
raises `Violation` at once, with the rule's name, the seed and the trace position.

==================================  ===========================================================
rule                                what must hold
==================================  ===========================================================
agreement                           no two blocks committed at one height
finalized-ancestry                  each committed block extends the one committed before it
no-nullification-with-finalization  no view can show both certificates, of all votes ever made
one-notarization-per-view           no view can show two notarizations
finalization-implies-notarization   no finalization without a notarization of the same content
certificate-shape                   certificates sent or committed: right content for their kind,
                                    signers strictly ascending, q … n, every signature valid
no-honest-key-incriminated          no conflicting votes by one honest key, across crashes too
notarize-after-nullify              once per view, and never after giving the view up
persist-before-send                 a vote or proposal leaves only when durable
body-before-vote                    who votes for a block holds it durably
vote-only-in-entered-views          notarize and finalize only in views entered
nullify-only-current-view           nullify only in the view we are in
no-vote-at-or-below-floor           nothing is signed at or below the finalized floor
forward-only                        views are entered in ascending order, across crashes too
entered-with-certificate            a view is entered through a certificate of the one before
leader-signed                       nobody notarizes what the view's leader did not sign
justified-notarize                  leader, parent, height, time and nullified gap as demanded
monotonic-commits                   heights committed without gap, step back or repetition
exactly-once                        no accepted instruction lost or executed twice
rotation-keeps                      a rotated journal still has every vote above the floor
no-alarm, no-refusal                no node stops, no signer guard is ever needed, without cause
no-honest-message-refused           nothing that an honest node sends is taken for a fault
idle-chain-quiet                    an idle and healthy chain gives up no view
execute-on-executed-parent          the core's own duty towards the application
timer-progress                      no deadline that stays due after its tick
progress-after-heal                 healed: all nodes commit everything within the bound
==================================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise

from consensus.interface import (
    Alarm,
    BlockInfo,
    Commit,
    Effect,
    EnteredView,
    Persist,
    Rejected,
    ReportEquivocation,
)
from consensus.messages import (
    VOTE_DOMAIN,
    Body,
    Certificate,
    Certified,
    Kind,
    Message,
    OwnProposal,
    OwnVote,
    OwnVotesResponse,
    Proposal,
    Record,
    SyncResponse,
    Vote,
    vote_payload,
)
from devnet.sim.ballots import Ballot, Ballots, BrokenRule
from devnet.sim.crypto import verify_memoised
from devnet.sim.world import Violation, World


@dataclass(slots=True)
class _Node:
    """What the oracle knows of one honest node. The first part survives crashes, as a disk does."""

    durable_votes: dict[Ballot, bytes] = field(default_factory=dict)
    """Every vote that was ever durable, with its signature."""
    durable_bodies: set[bytes] = field(default_factory=set)
    durable_proposals: set[Proposal] = field(default_factory=set)
    entered: int = 0
    """Highest view entered in this incarnation; before its first, highest view voted in."""
    floor_view: int = 0
    """View of the highest commit the core has asked for in this incarnation."""
    height: int = 0
    tip: bytes = b""
    votes: set[Ballot] = field(default_factory=set)
    """Votes durable or written in this incarnation: what it must remember having made."""
    unproven: list[tuple[int, int]] = field(default_factory=list)
    """(records written then, view) of entries whose certificate is still to be checked: own votes
    in it count once they are durable."""
    written: int = 0
    """Records written in this incarnation."""
    synced: int = 0
    """Of those, how many are durable."""


def ballot_of(vote: Vote) -> Ballot:
    return (vote.view, vote.kind, vote.content)


def own_votes(records: Iterable[Record]) -> list[Vote]:
    """The votes of its owner that a journal records; a proposal's record holds its vote too."""
    votes = []
    for record in records:
        match record:
            case OwnVote(vote=vote) | OwnProposal(proposal=Proposal(vote=vote)):
                votes.append(vote)
    return votes


class Oracle:
    """Judge of one run with `validators` members, of which `honest` follow the protocol."""

    def __init__(
        self,
        *,
        world: World,
        validators: Sequence[bytes],
        honest: Iterable[int],
        genesis: BlockInfo,
        inspect: Callable[[bytes], BlockInfo],
        instructions: Callable[[bytes], Iterable[int]],
    ) -> None:
        """`validators`: vote keys by index. `inspect` and `instructions` read block bytes."""
        self._world = world
        self._keys = validators
        self._honest = frozenset(honest)
        self._inspect = inspect
        self._instructions = instructions
        self._genesis = genesis
        self._ballots = Ballots(len(validators), self._honest)
        self._nodes = {index: _Node() for index in self._honest}
        self._blocks: dict[bytes, BlockInfo] = {genesis.digest: genesis}
        self._checked_certificates: set[Certificate] = set()
        self.chain: list[BlockInfo] = [genesis]
        """The one finalized chain, by height."""
        self._executed: set[int] = set()
        self.accepted: set[int] = set()
        """Instructions that a client was told are durably accepted."""
        self.highest_view = 0
        self.quiet = False
        """Set while the chain is idle and the network healthy: no view may be given up then."""

    def fail(self, rule: str, detail: str) -> Violation:
        """A Violation of `rule`, for the caller to raise."""
        return self._world.violation(rule, detail)

    # --- lifetime of a node ----------------------------------------------------------------

    def started(self, index: int, floor: BlockInfo, records: Iterable[Record]) -> None:
        """A node starts from its durable floor and the journal's records."""
        node = self._nodes[index]
        node.floor_view, node.height, node.tip = floor.view, floor.height, floor.digest
        node.votes = {ballot_of(vote) for vote in own_votes(records)}
        voted_in = (view for view, kind, _ in node.votes if kind is not Kind.FINALIZE)
        # Entering is not recorded, but a view voted in was entered, and is never left backwards.
        node.entered = max(voted_in, default=1) - 1
        node.unproven = []
        node.written = node.synced = 0

    def rotated(self, index: int, kept: Iterable[Record]) -> None:
        """A node's journal was replaced by `kept`; its database holds its core's floor."""
        node = self._nodes[index]
        votes = {ballot_of(vote) for vote in own_votes(kept)}
        lost = [ballot for ballot in node.votes - votes if ballot[0] > node.floor_view]
        if lost:
            view, kind, _ = min(lost, key=lambda ballot: (ballot[0], ballot[1]))
            raise self.fail("rotation-keeps", f"node {index} drops its {kind.name} of view {view}")

    # --- what a turn decides -----------------------------------------------------------------

    def turn(self, index: int, effects: Sequence[Effect]) -> None:
        """The effects of one turn, before any is performed."""
        node = self._nodes[index]
        current = {node.entered}  # a turn may nullify the view it began in and then leave it
        node.written += sum(isinstance(effect, Persist) for effect in effects)
        for effect in effects:
            if isinstance(effect, EnteredView):
                self._entered(index, node, effect)
                current.add(effect.view)
        for effect in effects:
            match effect:
                case Persist(record=OwnVote(vote=vote) | OwnProposal(proposal=Proposal(vote=vote))):
                    self._signed(index, node, vote, current)
                case Commit():
                    self._decided(index, node, effect)
                case Alarm(reason=reason):
                    raise self.fail("no-alarm", f"node {index}: {reason}")
                case Rejected(sender=sender, reason=reason):
                    # A repeated or late answer is not an honest sender's fault, nor refused as one.
                    if sender in self._honest and not reason.endswith("not asked for"):
                        raise self.fail(
                            "no-honest-message-refused", f"node {index} from {sender}: {reason}"
                        )
                case ReportEquivocation(equivocation=found):
                    if found.first.voter in self._honest:
                        raise self.fail(
                            "no-honest-key-incriminated",
                            f"node {index} reports validator {found.first.voter}",
                        )

    def _entered(self, index: int, node: _Node, entered: EnteredView) -> None:
        if entered.view <= node.entered:
            raise self.fail(
                "forward-only", f"node {index} enters {entered.view} after {node.entered}"
            )
        node.entered = entered.view
        self.highest_view = max(self.highest_view, entered.view)
        if entered.cause is not None:
            node.unproven.append((node.written, entered.view))

    def _signed(self, index: int, node: _Node, vote: Vote, current: set[int]) -> None:
        ballot = ballot_of(vote)
        if ballot in node.votes:
            return
        view, kind, _ = ballot
        if view <= node.floor_view:
            raise self.fail(
                "no-vote-at-or-below-floor",
                f"node {index} signs {kind.name} in view {view}, floor {node.floor_view}",
            )
        if view > node.entered:
            raise self.fail(
                "vote-only-in-entered-views",
                f"node {index} signs {kind.name} in view {view}, entered {node.entered}",
            )
        if kind is Kind.NULLIFY and view not in current:
            raise self.fail(
                "nullify-only-current-view",
                f"node {index} gives view {view} up while in {node.entered}",
            )
        if kind is Kind.NOTARIZE and (view, Kind.NULLIFY, None) in node.votes:
            raise self.fail("notarize-after-nullify", f"node {index} in view {view}")
        if kind is Kind.NULLIFY and self.quiet:
            raise self.fail("idle-chain-quiet", f"node {index} gives view {view} up")
        node.votes.add(ballot)

    def _decided(self, index: int, node: _Node, commit: Commit) -> None:
        self._check_certificate(index, commit.finalization)
        last, final = commit.blocks[-1], commit.finalization
        if (
            final.kind is not Kind.FINALIZE
            or final.content is None
            or (final.view, final.content.block) != (last.view, last.digest)
        ):
            raise self.fail("certificate-shape", f"node {index}: not the last block's finalization")
        for info, body in zip(commit.blocks, commit.bodies, strict=True):
            if info.height != node.height + 1:
                raise self.fail(
                    "monotonic-commits",
                    f"node {index} commits height {info.height} after {node.height}",
                )
            if info.parent != node.tip:
                raise self.fail("finalized-ancestry", f"node {index}, height {info.height}")
            if self._inspect(body) != info:
                raise self.fail("finalized-ancestry", f"node {index}: body of another block")
            node.height, node.tip = info.height, info.digest
            self._final(index, info, body)
        node.floor_view = last.view

    def _final(self, index: int, info: BlockInfo, body: bytes) -> None:
        if info.height < len(self.chain):
            if self.chain[info.height].digest != info.digest:
                raise self.fail(
                    "agreement", f"node {index} commits another block at height {info.height}"
                )
            return
        if info.timestamp <= self.chain[-1].timestamp:
            raise self.fail("justified-notarize", f"time goes back at height {info.height}")
        for number in self._instructions(body):
            if number in self._executed:
                raise self.fail("exactly-once", f"instruction {number} executes twice")
            self._executed.add(number)
        self.chain.append(info)

    # --- what is durable ---------------------------------------------------------------------

    def recovered(self, index: int, records: Sequence[Record]) -> None:
        """What a start found in the journal, in the order of writing: durable, synced or not."""
        self.durable(index, records)
        self._nodes[index].synced = 0

    def durable(self, index: int, records: Sequence[Record]) -> None:
        """These records of a node have become durable, in the order of writing."""
        node = self._nodes[index]
        for record in records:
            match record:
                case Body(block=block):
                    self._learn(node, block)
                case OwnProposal(proposal=proposal):
                    node.durable_proposals.add(proposal)
                    self._learn(node, proposal.block)
                case Certified(certificate=certificate):
                    self._check_certificate(index, certificate)
            node.synced += 1
        # In the same sync as a vote come the bodies and votes that it rests on, in any order.
        for vote in own_votes(records):
            node.durable_votes[ballot_of(vote)] = vote.signature
            self._justified(index, node, vote)
        while node.unproven and node.unproven[0][0] <= node.synced:
            _, view = node.unproven.pop(0)
            if not self._ballots.certified(view - 1):
                raise self.fail("entered-with-certificate", f"node {index} enters view {view}")

    def _learn(self, node: _Node, block: bytes) -> None:
        info = self._inspect(block)
        self._blocks[info.digest] = info
        node.durable_bodies.add(info.digest)

    def _justified(self, index: int, node: _Node, vote: Vote) -> None:
        self._count(vote.voter, ballot_of(vote))
        if vote.content is None:
            return
        if vote.content.block not in node.durable_bodies:
            raise self.fail(
                "body-before-vote", f"node {index}, {vote.kind.name} of view {vote.view}"
            )
        block = self._blocks[vote.content.block]
        if vote.kind is Kind.FINALIZE:
            if not self._ballots.notarized(vote.view, block.digest):
                raise self.fail(
                    "finalization-implies-notarization",
                    f"node {index} votes finalize in view {vote.view} without a notarization",
                )
            return
        leader = vote.view % len(self._keys)
        if not self._ballots.voted(leader, ballot_of(vote)):
            raise self.fail(
                "leader-signed", f"node {index} notarizes view {vote.view} without its leader"
            )
        why = self._flaw(vote.view, vote.content.parent_view, block)
        if why:
            raise self.fail("justified-notarize", f"node {index} notarizes view {vote.view}: {why}")

    def _flaw(self, view: int, parent_view: int, block: BlockInfo) -> str:
        parent = self._blocks.get(block.parent)
        if block.view != view or block.proposer != view % len(self._keys):
            return "not the leader's block of this view"
        if parent is None or parent.view != parent_view or parent_view >= view:
            return "the content's parent view is not the header's parent's"
        if block.height != parent.height + 1 or block.timestamp <= parent.timestamp:
            return "height or time does not follow the parent's"
        if parent_view > 0 and not self._ballots.notarized(parent_view, parent.digest):
            return "the parent is not notarized"
        for passed in range(parent_view + 1, view):
            if not self._ballots.nullified(passed):
                return f"view {passed} between is not nullified"
        return ""

    # --- what leaves -------------------------------------------------------------------------

    def sent(self, index: int, message: Message) -> None:
        """A message of an honest node leaves it."""
        node = self._nodes[index]
        match message:
            case Vote():
                self._vote_leaves(index, node, message)
            case Proposal(vote=vote, block=block):
                self._vote_leaves(index, node, vote)
                if vote.voter == index and message not in node.durable_proposals:
                    raise self.fail("persist-before-send", f"node {index}, proposal {vote.view}")
                info = self._inspect(block)
                self._blocks[info.digest] = info
            case Certificate():
                self._certificate_leaves(index, node, message)
            case SyncResponse() | OwnVotesResponse() if message.finalization is not None:
                self._certificate_leaves(index, node, message.finalization)

    def _vote_leaves(self, index: int, node: _Node, vote: Vote) -> None:
        if vote.voter == index and node.durable_votes.get(ballot_of(vote)) != vote.signature:
            raise self.fail(
                "persist-before-send", f"node {index}, {vote.kind.name} of view {vote.view}"
            )
        self._count(vote.voter, ballot_of(vote))

    def _certificate_leaves(self, index: int, node: _Node, certificate: Certificate) -> None:
        self._check_certificate(index, certificate)
        ballot = (certificate.view, certificate.kind, certificate.content)
        if ballot not in node.durable_votes and any(
            signer == index for signer, _ in certificate.signatures
        ):
            raise self.fail(
                "persist-before-send",
                f"node {index}, own vote inside the certificate of view {certificate.view}",
            )
        for signer, _ in certificate.signatures:
            self._count(signer, ballot)

    def _check_certificate(self, index: int, certificate: Certificate) -> None:
        if certificate in self._checked_certificates:
            return
        signers = [signer for signer, _ in certificate.signatures]
        if (certificate.content is None) is not (certificate.kind is Kind.NULLIFY):
            why = "content does not fit the kind"
        elif any(left >= right for left, right in pairwise(signers)):
            why = "signers do not ascend strictly"
        elif not self._ballots.quorum <= len(signers) <= len(self._keys):
            why = f"{len(signers)} signers"
        elif signers[-1] >= len(self._keys):
            why = "a signer is no member"
        else:
            payload = vote_payload(
                certificate.epoch, certificate.view, certificate.kind, certificate.content
            )
            why = "" if certificate.epoch == 0 else "another epoch"
            for signer, signature in certificate.signatures:
                if not verify_memoised(self._keys[signer], VOTE_DOMAIN, payload, signature):
                    why = f"the signature of {signer} is not valid"
        if why:
            raise self.fail("certificate-shape", f"node {index}, view {certificate.view}: {why}")
        self._checked_certificates.add(certificate)

    def _count(self, voter: int, ballot: Ballot) -> None:
        try:
            self._ballots.add(voter, ballot)
        except BrokenRule as broken:
            raise self.fail(broken.rule, broken.detail) from broken

    def published(self, voter: int, ballot: Ballot) -> None:
        """A valid vote is out, of a member whose other borders are not watched: it counts too."""
        self._count(voter, ballot)

    # --- the end of a run --------------------------------------------------------------------

    def missing(self, wanted: Set[int]) -> Set[int]:
        """Which of these instructions are not final yet."""
        return wanted - self._executed
