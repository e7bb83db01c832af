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
commit-after-journal                own votes are durable before the state that rests on them
timestamp-drift                     no honest voter lets a block from further ahead than D pass
progress-after-heal                 healed: all nodes commit everything within the bound
carriers-carry                      between a seal and its finalization stand carriers only: of the
                                    seal's epoch, height and time, chained, none of them committed
no-vote-after-seal                  nothing is signed but in the node's own epoch, nor in that once
                                    the node knows a block final that seals it
nothing-of-old-epochs               no core says, sends or asks anything in an epoch it is not in
chunk-of-one-epoch                  what is served are blocks of one epoch in order of height, and
                                    carriers only after a seal
==================================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace
from itertools import pairwise

from consensus.interface import (
    Alarm,
    BlockInfo,
    Broadcast,
    Commit,
    Effect,
    EnteredView,
    Execute,
    Persist,
    Rejected,
    ReportEquivocation,
    Send,
)
from consensus.messages import (
    VOTE_DOMAIN,
    Body,
    Certificate,
    Certified,
    EpochSealed,
    Kind,
    Message,
    OwnProposal,
    OwnVote,
    OwnVotesResponse,
    Proposal,
    Record,
    SyncResponse,
    View,
    Vote,
    vote_payload,
)
from devnet.sim.ballots import Ballot, Ballots, BrokenRule
from devnet.sim.crypto import verify_memoised
from devnet.sim.views import (
    EpochView,
    NodeView,
    ballot_of,
    epoch_of,
    is_no_fault,
    own_votes,
)
from devnet.sim.world import Violation, World


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
        next_set: Callable[[bytes], Sequence[tuple[int, bytes]]] = lambda raw: (),
        latest: Callable[[], int] | None = None,
    ) -> None:
        """`validators`: vote keys of the first epoch, of machine i at place i. `honest`: machines.
        `inspect`, `instructions` and `next_set` (machines and keys by place) read block bytes.
        `latest`: the latest timestamp that any clock within its bounds lets pass now."""
        self._world = world
        self._latest = latest
        self._honest = frozenset(honest)
        self._next_set = next_set
        self._ahead: list[Vote] = []
        """Votes of liars in an epoch that no honest node has come to yet."""
        self.sets: list[EpochView] = []
        """By epoch, as far as it is sealed."""
        self._inspect = inspect
        self._instructions = instructions
        self._begin_epoch(tuple(enumerate(validators)))
        self._nodes = {index: NodeView() for index in self._honest}
        self._blocks: dict[bytes, BlockInfo] = {genesis.digest: genesis}
        self._checked_certificates: set[Certificate] = set()
        self.chain: list[BlockInfo] = [genesis]
        """The one finalized chain, by height."""
        self._executed: set[int] = set()
        self.accepted: set[int] = set()
        """Instructions that a client was told are durably accepted."""
        self.carried = 0
        """Seals that somebody knew final first through a carrier."""
        self.highest_view = 0
        self.quiet = False
        """Set while the chain is idle and the network healthy: no view may be given up then."""

    def _begin_epoch(self, members: Sequence[tuple[int, bytes]]) -> None:
        honest = [place for place, (machine, _) in enumerate(members) if machine in self._honest]
        self.sets.append(
            EpochView(
                tuple(machine for machine, _ in members),
                tuple(key for _, key in members),
                Ballots(len(members), honest),
            )
        )
        ahead, self._ahead = self._ahead, []
        for vote in ahead:
            self.shown(vote)

    @property
    def members(self) -> tuple[int, ...]:
        """The machines of the newest validator set that is final."""
        return self.sets[-1].machines

    def is_removed(self, machine: int) -> bool:
        """Whether the newest set is without this machine."""
        return machine not in self.sets[-1].machines

    def keys_of(self, epoch: int) -> tuple[bytes, ...]:
        """Vote keys of an epoch by place; none if it is not known."""
        return self.sets[epoch].keys if 0 <= epoch < len(self.sets) else ()

    def fail(self, rule: str, detail: str) -> Violation:
        """A Violation of `rule`, for the caller to raise."""
        return self._world.violation(rule, detail)

    # --- lifetime of a node ----------------------------------------------------------------

    def started(
        self, index: int, floor: BlockInfo, records: Iterable[Record], epoch: int = 0
    ) -> None:
        """A node starts from its durable floor and the journal's records."""
        node = self._nodes[index]
        node.epoch = epoch
        node.finalized, node.bodies = set(), set()
        node.floor_view, node.height, node.tip = floor.view, floor.height, floor.digest
        node.votes = {ballot_of(vote) for vote in own_votes(records) if vote.epoch == epoch}
        voted_in = (view for view, kind, _ in node.votes if kind is not Kind.FINALIZE)
        # Entering is not recorded, but a view voted in was entered, and is never left backwards.
        node.entered = max(voted_in, default=1) - 1
        node.unproven = []
        node.written = node.synced = 0

    def epoch_started(self, index: int, epoch: int, floor: BlockInfo) -> None:
        """A running node's core of the epoch before makes way for the next."""
        node = self._nodes[index]
        if floor.digest != node.tip or epoch != node.epoch + 1:
            raise self.fail("finalized-ancestry", f"node {index} starts epoch {epoch} elsewhere")
        node.epoch = epoch
        node.finalized, node.bodies, node.votes, node.unproven = set(), set(), set(), []
        node.floor_view = node.entered = 0

    def rotated(self, index: int, kept: Iterable[Record]) -> None:
        """A node's journal was replaced by `kept`; its database holds its core's floor."""
        node = self._nodes[index]
        votes = {ballot_of(vote) for vote in own_votes(kept) if vote.epoch == node.epoch}
        lost = [ballot for ballot in node.votes - votes if ballot[0] > node.floor_view]
        if lost:
            view, kind, _ = min(lost, key=lambda ballot: (ballot[0], ballot[1]))
            raise self.fail("rotation-keeps", f"node {index} drops its {kind.name} of view {view}")

    def told(self, index: int, sealed: EpochSealed) -> None:
        """A node's core is about to hear what sealed its epoch: it knows these carriers."""
        node = self._nodes[index]
        if sealed.epoch == node.epoch:
            for raw in sealed.carriers:
                info = self._inspect(raw)
                self._blocks[info.digest] = info
                node.bodies.add(info.digest)

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
                    if vote.content is not None:
                        node.bodies.add(vote.content.block)
                        self._check_time(index, vote, vote.content.block)
                case Persist(record=Certified(certificate=found)):
                    if found.kind is Kind.FINALIZE and found.content is not None:
                        node.finalized.add(found.content.block)
                case Execute(info=info):
                    node.bodies.add(info.digest)
                    self._blocks[info.digest] = info
                case Send(message=message) | Broadcast(message=message):
                    said_in = epoch_of(message)
                    if said_in is not None and said_in != node.epoch:
                        raise self.fail(
                            "nothing-of-old-epochs",
                            f"node {index} in epoch {node.epoch} sends in {said_in}",
                        )
                case Commit():
                    self._decided(index, node, effect)
                case Alarm(reason=reason):
                    raise self.fail("no-alarm", f"node {index}: {reason}")
                case Rejected(sender=sender, reason=reason):
                    machine = self.sets[node.epoch].machines[sender]
                    if machine in self._honest and not is_no_fault(reason):
                        raise self.fail(
                            "no-honest-message-refused", f"node {index} from {machine}: {reason}"
                        )
                case ReportEquivocation(equivocation=proof):
                    accused = self.sets[proof.first.epoch].machines[proof.first.voter]
                    if accused in self._honest:
                        raise self.fail(
                            "no-honest-key-incriminated", f"node {index} reports {accused}"
                        )

    def _entered(self, index: int, node: NodeView, entered: EnteredView) -> None:
        if entered.view <= node.entered:
            raise self.fail(
                "forward-only", f"node {index} enters {entered.view} after {node.entered}"
            )
        node.entered = entered.view
        self.highest_view = max(self.highest_view, entered.view)
        if entered.cause is not None:
            node.unproven.append((node.written, entered.view))

    def _signed(self, index: int, node: NodeView, vote: Vote, current: set[int]) -> None:
        ballot = ballot_of(vote)
        view, kind, _ = ballot
        if vote.epoch != node.epoch:
            raise self.fail(
                "no-vote-after-seal", f"node {index} in epoch {node.epoch} signs in {vote.epoch}"
            )
        if ballot in node.votes:
            return
        if any(self._blocks[final].seals for final in node.finalized & node.bodies):
            raise self.fail(
                "no-vote-after-seal", f"node {index} signs {kind.name} in view {view}, sealed"
            )
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

    def _check_time(self, index: int, vote: Vote, digest: bytes) -> None:
        block = self._blocks.get(digest)
        if vote.kind is not Kind.NOTARIZE or block is None or self._latest is None:
            return
        if block.timestamp > self._latest():
            raise self.fail("timestamp-drift", f"node {index} notarizes view {vote.view}")

    def committed(self, index: int, commit: Commit) -> None:
        """A commit is about to reach the database: own votes that it rests on are durable."""
        final = commit.finalization
        ballot = (final.view, final.kind, final.content)
        own = any(self._is_own(index, final.epoch, signer) for signer, _ in final.signatures)
        if own and (final.epoch, ballot) not in self._nodes[index].durable_votes:
            raise self.fail("commit-after-journal", f"node {index}, view {final.view}")

    def _decided(self, index: int, node: NodeView, commit: Commit) -> None:
        self._check_certificate(index, commit.finalization)
        for certificate in commit.certificates:
            self._check_certificate(index, certificate)
        last, final = commit.blocks[-1], commit.finalization
        named = self._carried(index, last, commit.carriers)
        if (
            final.kind is not Kind.FINALIZE
            or final.content is None
            or (final.epoch, final.view, final.content.block)
            != (node.epoch, named.view, named.digest)
        ):
            raise self.fail("certificate-shape", f"node {index}: not the last block's finalization")
        for info, body in zip(commit.blocks, commit.bodies, strict=True):
            if info.height != node.height + 1:
                raise self.fail(
                    "monotonic-commits",
                    f"node {index} commits height {info.height} after {node.height}",
                )
            if info.parent != node.tip or info.epoch != node.epoch:
                raise self.fail("finalized-ancestry", f"node {index}, height {info.height}")
            if self._inspect(body) != info:
                raise self.fail("finalized-ancestry", f"node {index}: body of another block")
            if info.seals and info is not last:
                raise self.fail("carriers-carry", f"node {index} commits what follows a seal")
            node.height, node.tip = info.height, info.digest
            self._final(index, info, body, carried=bool(commit.carriers))
        node.floor_view = last.view
        node.finalized.clear()
        if last.seals:
            node.finalized.add(last.digest)
            node.bodies.add(last.digest)
            self._blocks[last.digest] = last

    def _carried(self, index: int, seal: BlockInfo, carriers: Iterable[bytes]) -> BlockInfo:
        """The last of the carriers on a block, or that block."""
        last = seal
        for raw in carriers:
            info = self._inspect(raw)
            same = (info.epoch, info.height, info.timestamp, info.seals)
            if same != (seal.epoch, seal.height, seal.timestamp, seal.seals) or not seal.seals:
                raise self.fail("carriers-carry", f"node {index}, height {seal.height}")
            if info.parent != last.digest or info.view <= last.view:
                raise self.fail("carriers-carry", f"node {index}: they do not chain")
            last = info
        return last

    def _final(self, index: int, info: BlockInfo, body: bytes, *, carried: bool) -> None:
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
        if info.seals:
            self.carried += carried
            self._begin_epoch(self._next_set(body))

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
            known = (vote.epoch, ballot_of(vote)) in node.durable_votes
            node.durable_votes[vote.epoch, ballot_of(vote)] = vote.signature
            if not known:
                self._justified(index, node, vote)
        while node.unproven and node.unproven[0][0] <= node.synced:
            _, view = node.unproven.pop(0)
            if not self.sets[node.epoch].ballots.certified(view - 1):
                raise self.fail("entered-with-certificate", f"node {index} enters view {view}")

    def _learn(self, node: NodeView, block: bytes) -> None:
        info = self._inspect(block)
        self._blocks[info.digest] = info
        node.durable_bodies.add(info.digest)

    def _justified(self, index: int, node: NodeView, vote: Vote) -> None:
        self._count(vote.epoch, vote.voter, ballot_of(vote))
        if vote.content is None:
            return
        if vote.content.block not in node.durable_bodies:
            raise self.fail(
                "body-before-vote", f"node {index}, {vote.kind.name} of view {vote.view}"
            )
        block = self._blocks[vote.content.block]
        ballots = self.sets[vote.epoch].ballots
        if vote.kind is Kind.FINALIZE:
            if not ballots.notarized(vote.view, block.digest):
                raise self.fail(
                    "finalization-implies-notarization",
                    f"node {index} votes finalize in view {vote.view} without a notarization",
                )
            return
        leader = (vote.epoch + vote.view) % len(self.sets[vote.epoch].keys)
        if not ballots.voted(leader, ballot_of(vote)):
            raise self.fail(
                "leader-signed", f"node {index} notarizes view {vote.view} without its leader"
            )
        why = self._flaw(vote.epoch, vote.view, vote.content.parent_view, block)
        if why:
            raise self.fail("justified-notarize", f"node {index} notarizes view {vote.view}: {why}")

    def _flaw(self, epoch: int, view: int, parent_view: int, block: BlockInfo) -> str:
        parent = self._blocks.get(block.parent)
        of = self.sets[epoch]
        leader = (epoch + view) % len(of.keys)
        if block.epoch != epoch or block.view != view or block.proposer != leader:
            return "not the leader's block of this view"
        if parent is not None and parent.epoch != epoch:
            if not parent.seals or self.chain[parent.height] != parent:
                return "the parent is of another epoch"
            parent = replace(parent, view=View(0), seals=False)
        if parent is None or parent.view != parent_view or parent_view >= view:
            return "the content's parent view is not the header's parent's"
        carries = (parent.height, parent.timestamp, True)
        if parent.seals and (block.height, block.timestamp, block.seals) != carries:
            return "on a seal it does not carry"
        if not parent.seals and (
            block.height != parent.height + 1 or block.timestamp <= parent.timestamp
        ):
            return "height or time does not follow the parent's"
        if parent_view > 0 and not of.ballots.notarized(parent_view, parent.digest):
            return "the parent is not notarized"
        for passed in range(parent_view + 1, view):
            if not of.ballots.nullified(passed):
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
                own = self._is_own(index, vote.epoch, vote.voter)
                if own and message not in node.durable_proposals:
                    raise self.fail("persist-before-send", f"node {index}, proposal {vote.view}")
                info = self._inspect(block)
                self._blocks[info.digest] = info
            case Certificate():
                self._certificate_leaves(index, node, message)
            case SyncResponse():
                self._served(index, message)
                self._certificate_leaves(index, node, message.finalization)
            case EpochSealed() | OwnVotesResponse() if message.finalization is not None:
                self._certificate_leaves(index, node, message.finalization)

    def _served(self, index: int, chunk: SyncResponse) -> None:
        last: BlockInfo | None = None
        for raw in chunk.blocks:
            info = self._inspect(raw)
            follows = last is None or (info.epoch, info.height) == (last.epoch, last.height + 1)
            if not follows:
                raise self.fail("chunk-of-one-epoch", f"node {index} serves {info.height}")
            last = info
        if last is not None and chunk.carriers:
            self._carried(index, last, chunk.carriers)

    def _vote_leaves(self, index: int, node: NodeView, vote: Vote) -> None:
        own = self._is_own(index, vote.epoch, vote.voter)
        if own and node.durable_votes.get((vote.epoch, ballot_of(vote))) != vote.signature:
            raise self.fail(
                "persist-before-send", f"node {index}, {vote.kind.name} of view {vote.view}"
            )
        self._count(vote.epoch, vote.voter, ballot_of(vote))

    def _is_own(self, index: int, epoch: int, voter: int) -> bool:
        machines = self.sets[epoch].machines if 0 <= epoch < len(self.sets) else ()
        return voter < len(machines) and machines[voter] == index

    def _certificate_leaves(self, index: int, node: NodeView, certificate: Certificate) -> None:
        self._check_certificate(index, certificate)
        ballot = (certificate.view, certificate.kind, certificate.content)
        if (certificate.epoch, ballot) not in node.durable_votes and any(
            self._is_own(index, certificate.epoch, signer) for signer, _ in certificate.signatures
        ):
            raise self.fail(
                "persist-before-send",
                f"node {index}, own vote inside the certificate of view {certificate.view}",
            )
        for signer, _ in certificate.signatures:
            self._count(certificate.epoch, signer, ballot)

    def _check_certificate(self, index: int, certificate: Certificate) -> None:
        if certificate in self._checked_certificates:
            return
        signers = [signer for signer, _ in certificate.signatures]
        keys = self.keys_of(certificate.epoch)
        if not keys:
            why = "another epoch"
        elif (certificate.content is None) is not (certificate.kind is Kind.NULLIFY):
            why = "content does not fit the kind"
        elif any(left >= right for left, right in pairwise(signers)):
            why = "signers do not ascend strictly"
        elif not self.sets[certificate.epoch].ballots.quorum <= len(signers) <= len(keys):
            why = f"{len(signers)} signers"
        elif signers[-1] >= len(keys):
            why = "a signer is no member"
        else:
            payload = vote_payload(
                certificate.epoch, certificate.view, certificate.kind, certificate.content
            )
            why = ""
            for signer, signature in certificate.signatures:
                if not verify_memoised(keys[signer], VOTE_DOMAIN, payload, signature):
                    why = f"the signature of {signer} is not valid"
        if why:
            raise self.fail("certificate-shape", f"node {index}, view {certificate.view}: {why}")
        self._checked_certificates.add(certificate)

    def _count(self, epoch: int, voter: int, ballot: Ballot) -> None:
        if not 0 <= epoch < len(self.sets):
            raise self.fail("nothing-of-old-epochs", f"a vote of epoch {epoch}, which is not yet")
        try:
            self.sets[epoch].ballots.add(voter, ballot)
        except BrokenRule as broken:
            raise self.fail(broken.rule, broken.detail) from broken

    def published(self, voter: int, ballot: Ballot, epoch: int = 0) -> None:
        """A valid vote is out, of a member whose other borders are not watched: it counts too.
        `voter` is its place."""
        self._count(epoch, voter, ballot)

    def shown(self, vote: Vote) -> None:
        """A liar has shown a vote of its own place: it counts if it is valid."""
        if vote.epoch == len(self.sets):
            self._ahead.append(vote)
            return
        keys = self.keys_of(vote.epoch)
        payload = vote_payload(vote.epoch, vote.view, vote.kind, vote.content)
        if vote.voter < len(keys) and verify_memoised(
            keys[vote.voter], VOTE_DOMAIN, payload, vote.signature
        ):
            self._count(vote.epoch, vote.voter, ballot_of(vote))

    # --- the end of a run --------------------------------------------------------------------

    def missing(self, wanted: Set[int]) -> Set[int]:
        """Which of these instructions are not final yet."""
        return wanted - self._executed
