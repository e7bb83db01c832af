"""Rules 4 to 6: from certificates to executed and final blocks.

Owned here: every certified block is brought here, executed parent first, and committed in
order. Nothing cancels that: a nullification of its view does not, since the next leader may
build on it. A certified block that fails execution here means that this node has diverged, or
that more than f validators are faulty: it stops signing and keeps the block.

How far behind decides how bodies come. What is not final anywhere is fetched block by block from
those who signed for it. What peers already have below their floor they answer with the floor's
finalization; then, or when the gap is known to be wide, finalized blocks come in chunks, each of
which proves itself (`consensus.catchup`).
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.blocks import Block, follows
from consensus.catchup import BadAnswer, LateAnswer, check_answer, check_carriers
from consensus.certificate import BadCertificate, check
from consensus.fetching import Fetcher
from consensus.interface import (
    BodyMismatch,
    Broadcast,
    Commit,
    Execute,
    Executed,
    Floor,
    Persist,
)
from consensus.messages import (
    BlockRequest,
    BlockResponse,
    Body,
    Certificate,
    Certified,
    Digest,
    EpochSealed,
    Kind,
    SyncRequest,
    SyncResponse,
    ValidatorIndex,
    View,
)
from consensus.state import State
from consensus.voting import Voter

MAX_WALK = 16
"""Blocks: a wider gap below a final block is closed in chunks, not parent by parent."""


class Following:
    """Certificates, bodies, verdicts, commits. All times are monotonic milliseconds."""

    def __init__(self, state: State, voter: Voter, fetcher: Fetcher) -> None:
        self._state = state
        self._voter = voter
        self._fetcher = fetcher
        self._catching_up = False
        """Final blocks come in chunks, until none is missing."""
        self._proposals_wanted: dict[View, BlockRequest] = {}
        """Bodies of proposals, asked for without a certificate: of this view and the next."""
        self._sync: SyncRequest | None = None
        """The chunk asked for; one at a time."""
        self._chunk_end = View(0)
        """The view of the last block of the chunk being executed."""

    # --- certificates -----------------------------------------------------------------------

    def receive(self, sender: ValidatorIndex, certificate: Certificate, now: int) -> None:
        """A certificate from a peer, of any view."""
        state = self._state
        if certificate.epoch != state.epoch:
            state.reject(sender, "certificate: of another epoch")
            return
        if certificate.view > state.floor.info.view and not self._is_held(certificate):
            try:
                if not self._is_superseded(certificate):
                    self._accept(certificate)
                elif self._fetcher.asked_for_body(sender):
                    check(certificate, state.validators, state.verify)
                else:
                    return
            except BadCertificate as bad:
                state.reject(sender, f"certificate: {bad.reason}")
                return
        if certificate.kind is Kind.FINALIZE:
            self._answered_with_finalization(sender, certificate.view, now)

    def _is_held(self, certificate: Certificate) -> bool:
        at = self._state.views.get(View(certificate.view))
        held = None if at is None else at.certificates[certificate.kind]
        return held is not None and held.content == certificate.content

    def _is_superseded(self, certificate: Certificate) -> bool:
        """Whether a later view is final and this certificate lets nothing be committed sooner.

        To a node far behind anyone can send every certificate of the history: kept, journaled and
        passed on, they would be a flood that one peer starts."""
        state = self._state
        if certificate.view >= state.final_view:
            return False
        content = certificate.content if certificate.kind is Kind.FINALIZE else None
        return content is None or state.blocks.get(content.block) is None

    def _accept(self, certificate: Certificate) -> None:
        """Check and keep it; it is acted upon later in this turn. Raises BadCertificate."""
        state = self._state
        at = state.views.get(View(certificate.view))
        known = None
        if at is not None:
            known = at.known_signatures(certificate.kind, certificate.content)
        check(certificate, state.validators, state.verify, known)
        self._check_own_signature(certificate)
        at = state.open(certificate.view)
        for evidence in state.tally.absorb(at, certificate):
            state.report(evidence)
        state.hold(at, certificate)

    def _check_own_signature(self, certificate: Certificate) -> None:
        """Peers show a vote by this key that this node has no record of: its record was lost or
        restored from a copy, or the key runs elsewhere too. It must never sign again."""
        state = self._state
        if all(voter != state.index for voter, _ in certificate.signatures):
            return
        if certificate.view <= state.recorded_view:
            return
        at = state.views.get(View(certificate.view))
        own = None if at is None else at.own[certificate.kind]
        if own is None or own.content != certificate.content:
            state.stop_for_unknown_vote(certificate.view)

    def act_on(self, certificate: Certificate, now: int) -> None:
        """What follows from a certificate that is new here."""
        state = self._state
        if certificate.view <= state.floor.info.view:
            return
        state.emit(Persist(Certified(certificate)), Broadcast(certificate))
        state.changed = True
        if certificate.kind is Kind.FINALIZE and certificate.view > state.final_view:
            state.final_view = View(certificate.view)
            state.latest_finalization = certificate
            state.pace.arm_standstill(now)
        self.follow(certificate, now)

    def follow(self, certificate: Certificate, now: int) -> None:
        """Enter the next view where the certificate alone allows it; see to its block."""
        state = self._state
        if certificate.kind is not Kind.NOTARIZE:
            # A notarization lets us on only once its block is executed: see `_ready`.
            state.enter(certificate.view + 1, certificate.kind, now)
        state.update_pace()
        if certificate.content is not None:
            self.recheck(View(certificate.view), now)

    # --- blocks -----------------------------------------------------------------------------

    def recheck(self, view: View, now: int) -> None:
        """See to the certified block of a view: have it executed, or fetch what is missing."""
        state = self._state
        at = state.views.get(view)
        certificate = None if at is None else at.finalization or at.notarization
        if certificate is None or certificate.content is None:
            return
        signers = [voter for voter, _ in certificate.signatures]
        block = state.blocks.get(certificate.content.block)
        if block is None:
            self._want_body(view, certificate.content.block, signers, now)
        elif block.info.view != view or block.info.epoch != state.epoch:
            self._diverged(block, "its header names another view or epoch")
        else:
            if certificate.kind is Kind.FINALIZE and block.info.seals:
                state.sealed = True
            self._certify(block, signers, now)

    def _certify(self, block: Block, peers: Sequence[int], now: int) -> None:
        """Have a certified block and its ancestors executed, or what is missing of them fetched.

        Walks down as far as nothing is executed: a step or two, unless a chunk is being executed.
        """
        state = self._state
        if block.valid:
            block.certified = True
            self._ready(block, now)
            return
        while True:
            block.certified = True
            if block.valid is False:
                self._diverged(block, "its execution fails here")
                return
            if state.blocks.is_executed(block.info.parent):
                self._execute(block)
                return
            parent = state.blocks.get(block.info.parent)
            if parent is None:
                self._want_parent(block, peers, now)
                return
            block = parent

    def _execute(self, block: Block) -> None:
        """At most once a digest and process, and never before its parent."""
        if block.requested:
            return
        block.requested = True
        parent = self._state.blocks.info(block.info.parent)
        assert parent is not None
        if not follows(block.info, parent) or block.info.view <= parent.view:
            # The application would say so too; but the floor's own order rests on these.
            block.valid = False
            if block.certified:
                self._diverged(block, "its height, time or view does not follow its parent's")
            return
        self._state.emit(Execute(block.info, block.raw))

    def _want_parent(self, block: Block, peers: Sequence[int], now: int) -> None:
        state = self._state
        info = block.info
        at = state.views.get(info.view)
        content = None if at is None else at.certified
        known = content is not None and content.block == info.digest
        # Where the parent was proposed is known from the child's certificate. Without one, ask
        # as if it were just above our floor: whoever has a higher floor then tells us so.
        view = content.parent_view if content is not None and known else state.floor.info.view + 1
        # A carrier has the height of the sealing block far below it.
        lowest = state.floor.info.height + (1 if info.seals else 2)
        if info.height < lowest or view <= state.floor.info.view:
            self._diverged(block, "it does not descend from the final block below it")
        elif info.view > state.final_view:
            self._want_body(view, info.parent, peers, now)
        elif info.height - state.floor.info.height > MAX_WALK:
            state.emit(*self._fetcher.drop_bodies_below(state.final_view, now))
            self._start_sync(None, now)
        elif not self._catching_up:
            self._want_body(view, info.parent, peers, now)

    def _want_body(self, view: int, digest: bytes, peers: Sequence[int] | None, now: int) -> None:
        if self._catching_up and view <= self._state.final_view:
            return  # it comes with a chunk
        request = BlockRequest(self._state.epoch, view, digest)
        self._state.emit(*self._fetcher.want(request, now, peers))

    def want_proposed_body(self, view: View, digest: bytes, not_from: int, now: int) -> None:
        """The body of a proposal whose sender gave another one: others have it."""
        others = [i for i in range(len(self._state.validators)) if i != not_from]
        self._want_body(view, digest, others, now)
        self._proposals_wanted[view] = BlockRequest(self._state.epoch, view, digest)

    def forget_left_proposals(self, now: int) -> None:
        """Stop asking for a block that its view ended without: a Byzantine leader may sign for
        bodies that nobody has, and such questions must not use up the bound on open ones."""
        state = self._state
        for view in [view for view in self._proposals_wanted if view < state.view]:
            request = self._proposals_wanted.pop(view)
            children = state.blocks.children(Digest(request.block))
            needed = state.certified_digest(view) == request.block
            if not needed and not any(child.certified for child in children):
                state.emit(*self._fetcher.drop(request, now))

    def is_wanted(self, digest: bytes) -> bool:
        """Whether this body is being asked for."""
        return bool(self._fetcher.body_wanted(digest))

    def receive_body(self, sender: ValidatorIndex, response: BlockResponse, now: int) -> None:
        """A body from a peer. It hashes to a digest that this peer was asked for, or is nothing."""
        state = self._state
        asked = self._fetcher.asked_for_body(sender)
        if response.epoch != state.epoch or not asked:
            state.reject(sender, "block: not asked for")
            return
        try:
            info = state.codec.inspect(response.block)
        except BodyMismatch:
            state.reject(sender, "block: the body does not match its header")
            for request in asked:
                state.emit(*self._fetcher.next_peer(request, sender, now))
            return
        if all(request.block != info.digest for request in asked):
            state.reject(sender, "block: not asked for")
            return
        self.arrived(state.blocks.add(info, response.block), now)

    def arrived(self, block: Block, now: int) -> None:
        """A body is here that was not."""
        state = self._state
        digest = block.info.digest
        requests = self._fetcher.body_wanted(digest)
        peers = self._fetcher.peers_for(requests[0]) if requests else ()
        for request in requests:
            state.emit(*self._fetcher.drop(request, now))
        state.changed = True
        # The views that a certificate may name it for, whatever its header says.
        views = {block.info.view} | {View(request.view) for request in requests}
        named = [view for view in sorted(views) if self._is_certified_in(view, digest)]
        for view in named:
            self.recheck(view, now)
        if not named and any(child.certified for child in state.blocks.children(digest)):
            self._certify(block, peers, now)

    def _is_certified_in(self, view: View, digest: bytes) -> bool:
        content = self._state.certified(view)
        return content is not None and content.block == digest

    def execute_recovered(self) -> None:
        """After a restart: blocks of the journal that continue the floor. Others follow them."""
        state = self._state
        for block in state.blocks.children(state.floor.info.digest):
            self._execute(block)

    def executed(self, event: Executed, now: int) -> None:
        """The application's verdict, at any time after the request."""
        state = self._state
        block = state.blocks.get(event.digest)
        if block is None or block.valid is not None:
            return  # passed by the floor in the meantime
        block.valid = event.valid
        state.changed = True
        if not event.valid:
            if block.certified:
                self._diverged(block, f"its execution fails here: {event.reason}")
            return
        if block.certified:
            self._ready(block, now)
        for child in state.blocks.children(event.digest):
            if child.certified or child.durable:
                self._execute(child)

    def _ready(self, block: Block, now: int) -> None:
        """A certified block is executed here: rule 4's second half, and rule 6."""
        state = self._state
        at = state.views.get(block.info.view)
        if at is None or at.certified is None or at.certified.block != block.info.digest:
            return  # certified only as an ancestor
        state.ready_view = max(state.ready_view, block.info.view)
        state.changed = True
        if at.finalization is not None and at.view <= state.final_view:
            self._commit(block, at.finalization, now)
            return
        if not block.durable:
            block.durable = True
            state.emit(Persist(Body(state.epoch, block.info.view, block.raw)))
        state.enter(block.info.view + 1, Kind.NOTARIZE, now)
        if state.leader(at.view) not in at.accused:
            self._voter.finalize(at.view, at.certified)

    def _diverged(self, block: Block, reason: str) -> None:
        info = block.info
        self._state.stop(
            f"block {info.digest.hex()} of view {info.view}, height {info.height}, is certified by "
            f"a quorum, but {reason}: this node has diverged or more than f validators are faulty"
        )

    # --- commits ----------------------------------------------------------------------------

    def _commit(self, block: Block, finalization: Certificate, now: int) -> None:
        """This block and all its ancestors are final and executed."""
        state = self._state
        path = state.blocks.path(block)
        if path is None:
            self._diverged(block, "it does not descend from the final block below it")
            return
        # What follows the block that seals the epoch are its carriers: never applied.
        seal = next((at for at, each in enumerate(path) if each.info.seals), len(path) - 1)
        blocks, carriers = path[: seal + 1], tuple(each.raw for each in path[seal + 1 :])
        state.emit(
            Commit(
                tuple(each.info for each in blocks),
                tuple(each.raw for each in blocks),
                finalization,
                carriers,
                self._passed(View(finalization.view)),
            )
        )
        last = blocks[-1].info
        state.raise_floor(Floor(last, finalization, carriers))
        state.emit(*self._fetcher.drop_bodies_below(state.floor.info.view, now))
        if last.seals:
            state.sealed = state.ended = True
            return
        state.update_pace()
        if self._catching_up:
            self._go_on_catching_up(now)
        if not self._catching_up:
            # A question dropped above may have been for a body whose view was only guessed.
            for view in sorted(state.views):
                self.recheck(view, now)

    def _passed(self, last: View) -> tuple[Certificate, ...]:
        """Notarizations and nullifications of the views that the floor passes."""
        views = self._state.views
        return tuple(
            certificate
            for view in sorted(view for view in views if view <= last)
            for certificate in (views[view].notarization, views[view].nullification)
            if certificate is not None
        )

    # --- catching up ------------------------------------------------------------------------

    def _answered_with_finalization(self, sender: ValidatorIndex, view: int, now: int) -> None:
        """A peer asked for a body answers with its floor's finalization: the body is below it,
        and only comes from that peer's storage."""
        if any(request.view <= view for request in self._fetcher.asked_for_body(sender)):
            self._start_sync(sender, now)

    def _start_sync(self, peer: ValidatorIndex | None, now: int) -> None:
        state = self._state
        self._catching_up = True
        if self._sync is not None or self._chunk_end > state.floor.info.view:
            return
        # Bodies asked for already may still come first, and are as good.
        self._sync = SyncRequest(state.floor.info.height + 1)
        state.emit(*self._fetcher.want(self._sync, now, first=peer))

    def receive_chunk(self, sender: ValidatorIndex, answer: SyncResponse, now: int) -> None:
        """A chunk of final blocks. It proves itself, or the next peer is asked."""
        state = self._state
        if self._sync is None or not self._fetcher.was_asked(self._sync, sender):
            state.reject(sender, "sync: not asked for")
            return
        finalization = answer.finalization
        try:
            infos = check_answer(answer, state.floor, state.epoch, state.codec)
            if not self._is_held(finalization):
                self._accept(finalization)
        except LateAnswer as late:
            state.reject(sender, f"sync: {late.reason}")
            return
        except (BadAnswer, BadCertificate) as bad:
            state.reject(sender, f"sync: {bad.reason}")
            state.emit(*self._fetcher.next_peer(self._sync, sender, now))
            return
        state.emit(*self._fetcher.drop(self._sync, now))
        self._sync = None
        self._chunk_end = View(finalization.view)
        for info, raw in zip(infos, (*answer.blocks, *answer.carriers), strict=True):
            state.blocks.add(info, raw)
        if finalization not in state.fresh:  # else this follows when it is acted upon
            self.recheck(self._chunk_end, now)

    def receive_sealed(self, sender: ValidatorIndex, sealed: EpochSealed, now: int) -> None:
        """The others have left this epoch: what made its sealing block final. Blocks up to it
        come in chunks, as nobody keeps this epoch's bodies at hand any more."""
        state = self._state
        finalization = sealed.finalization
        if sealed.epoch < state.epoch:
            return  # several peers tell the same, and one was enough
        epochs = (sealed.epoch, finalization.epoch)
        if epochs != (state.epoch, state.epoch) or finalization.kind is not Kind.FINALIZE:
            state.reject(sender, "epoch sealed: the certificate is no finalization of this epoch")
            return
        try:
            infos = check_carriers(sealed.carriers, None, finalization, state.codec)
            if finalization.view <= state.floor.info.view:
                raise BadAnswer("what it finalizes seals nothing")
            if not self._is_held(finalization):
                self._accept(finalization)
        except (BadAnswer, BadCertificate) as bad:
            state.reject(sender, f"epoch sealed: {bad.reason}")
            return
        self._start_sync(sender, now)
        for info, raw in zip(infos, sealed.carriers, strict=True):
            self.arrived(state.blocks.add(info, raw), now)

    def _go_on_catching_up(self, now: int) -> None:
        """After a commit: ask for the next chunk, or stop when nothing final is missing."""
        state = self._state
        if self._sync is not None and self._sync.first != state.floor.info.height + 1:
            state.emit(*self._fetcher.drop(self._sync, now))
            self._sync = None
        if self._sync is not None or self._chunk_end > state.floor.info.view:
            return
        if self._is_behind():
            self._start_sync(None, now)
            return
        self._catching_up = False

    def _is_behind(self) -> bool:
        """Whether a final block, or an ancestor of one, has no body here."""
        state = self._state
        if state.final_view <= state.floor.info.view:
            return False
        digest = state.certified_digest(state.final_view)
        assert digest is not None
        while digest != state.floor.info.digest:
            block = state.blocks.get(digest)
            if block is None:
                return True
            digest = block.info.parent
        return False
