"""The signer guard: a second, independent record of what this key has signed.

The core has its own guards and its journal. This one stands beside the key, knows nothing of the
protocol's state, and refuses whatever would incriminate the key even if the core, its journal or
an operator's restore went wrong. Per (epoch, view) it keeps the vote of each kind:

    an identical vote again            → the identical signature
    notarize with another content      → refused (equivocation)
    finalize with another content      → refused (equivocation)
    finalize after nullify, nullify after finalize → refused (equivocation)
    notarize after nullify             → refused (the core's guard: never useful)
    anything below the pruned view     → refused (the record needed to judge it is gone)

It is a record per view and not a high-water mark: finalize(v) may rightly follow votes of v+1.

Order of writing: `sign_vote` queues the record, `sync` makes it durable, and the driver publishes
nothing before `sync` returned. If the log is missing, cut, damaged, a copy, or another key's or
chain's, the key never signs again: what it has signed is no longer known.
"""

from __future__ import annotations

import hashlib

import msgspec

from consensus.interface import SigningRefused
from consensus.messages import VOTE_DOMAIN, Content, Epoch, Kind, View, Vote, vote_payload
from node.chain.encoding import Malformed, decode, encode
from node.chain.signature import Signer
from node.storage.disk import Disk, Lock
from node.storage.errors import SignerUnusable, StoreCorrupt, StoreMissing
from node.storage.journal import Journal

PRUNE_RECORDS = 4_096
"""Votes in the log before pruned ones are rewritten away (about 200 bytes each)."""

_NEW_KEY = (
    "This key must never sign again: what it signed is no longer known. The node can run as an "
    "observer; to validate, register a new vote key by a ledger instruction"
)


class _Signed(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="signed/1"
):
    epoch: int
    view: int
    kind: Kind
    content: Content | None
    signature: bytes


class _Pruned(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="pruned/1"
):
    """Nothing is signed any more below this view of this epoch, nor in earlier epochs."""

    epoch: int
    view: int


class _Condemned(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="condemned/1"
):
    """This key never signs again."""

    reason: str


_LogRecord = _Signed | _Pruned | _Condemned
_ViewVotes = dict[Kind, _Signed]
"""What the key has signed in one view."""


def _binding(chain_id: bytes, public_key: bytes) -> bytes:
    return hashlib.sha256(b"nostro-signer-log/1" + chain_id + public_key).digest()


def create_signer_log(disk: Disk, directory: str, chain_id: bytes, public_key: bytes) -> None:
    """Make the empty log of a *new* key, together with the key and never later.

    Raises StoreUnwritable."""
    Journal.create(disk, directory, binding=_binding(chain_id, public_key)).close()


class GuardedSigner:
    """Signs votes with `signer` within the rules above. Implements `consensus.interface.Signer`.

    One process at a time holds its lock. `sign_vote` and `prune` belong to the driver's thread,
    `sync` may run in another."""

    def __init__(
        self, signer: Signer, chain_id: bytes, disk: Disk, directory: str, *, create: bool = False
    ) -> None:
        """Open the guard's log; `create` makes it where there is none (simulations only).

        Raises SignerUnusable, StoreLocked, StoreUnwritable."""
        self._signer = signer
        self._chain_id = chain_id
        self._votes: dict[tuple[int, int], _ViewVotes] = {}
        self._pruned = (0, 0)
        self._condemned: str | None = None
        self._records = 0
        if create:
            disk.make_directory(directory)
        try:
            self._lock: Lock = disk.lock(f"{directory}/lock")
        except StoreMissing as error:
            raise SignerUnusable("the signer's record is gone", directory, _NEW_KEY) from error
        try:
            self._log = self._open(disk, directory, create)
        except BaseException:
            self._lock.release()
            raise

    @property
    def public_key(self) -> bytes:
        return self._signer.public_key

    def sign_vote(self, epoch: Epoch, view: View, kind: Kind, content: Content | None) -> bytes:
        """The signature of this vote; not to be published before `sync`.

        Raises SigningRefused."""
        assert (content is None) == (kind is Kind.NULLIFY), "nullify alone has no content"
        if self._condemned is not None:
            raise SigningRefused(f"this key never signs again: {self._condemned}")
        if (epoch, view) < self._pruned:
            raise SigningRefused(
                f"epoch {epoch} view {view} lies below the pruned view "
                f"{self._pruned[1]} of epoch {self._pruned[0]}"
            )
        votes = self._votes.get((epoch, view), {})
        before = votes.get(kind)
        if before is not None:
            if before.content == content:
                return before.signature
            raise SigningRefused(_conflict(epoch, view, kind, "with another content"))
        if kind is not Kind.NULLIFY and Kind.NULLIFY in votes:
            raise SigningRefused(_conflict(epoch, view, kind, "after nullify"))
        if kind is Kind.NULLIFY and Kind.FINALIZE in votes:
            raise SigningRefused(_conflict(epoch, view, kind, "after finalize"))
        signature = self._signer.sign(
            VOTE_DOMAIN, self._chain_id, vote_payload(epoch, view, kind, content)
        )
        signed = _Signed(epoch, view, kind, content, signature)
        self._log.append([encode(signed)])
        self._votes.setdefault((epoch, view), {})[kind] = signed
        self._records += 1
        return signature

    @property
    def dirty(self) -> bool:
        """Whether a signature was given whose record is not durable yet."""
        return self._log.dirty

    def sync(self) -> None:
        """Make every signature given so far durable. Raises StoreUnwritable, StorePoisoned."""
        self._log.sync()

    def prune(self, epoch: Epoch, view: View) -> None:
        """Forget votes below `view` of `epoch` (at or below the durable floor), and refuse any
        there from now on. Cheap to call after every commit; never goes back."""
        if (epoch, view) <= self._pruned:
            return
        self._pruned = (epoch, view)
        for at in [at for at in self._votes if at < self._pruned]:
            del self._votes[at]
        if self._records > PRUNE_RECORDS:
            live = self._live()
            self._log.rotate(live)
            self._records = len(live)

    def remembers(self, vote: Vote) -> bool:
        """Whether `vote`, which a peer shows and which verifies under this key, is one that this
        guard knows (or lies below the pruned view). False means that the record is older than
        the key's use: `condemn` it."""
        if (vote.epoch, vote.view) < self._pruned:
            return True
        signed = self._votes.get((vote.epoch, vote.view), {}).get(vote.kind)
        return signed is not None and signed.content == vote.content

    def condemn(self, reason: str) -> None:
        """Never sign again with this key, durably: at once, and at every later start.

        Raises StoreUnwritable; even then this object signs no more."""
        if self._condemned is None:
            self._condemned = reason
            self._log.append([encode(_Condemned(reason))])
            self._log.sync()

    def close(self) -> None:
        """Release log and lock."""
        self._log.close()
        self._lock.release()

    # --- own ------------------------------------------------------------------------------------

    def _open(self, disk: Disk, directory: str, create: bool) -> Journal:
        binding = _binding(self._chain_id, self._signer.public_key)
        try:
            # An unused log may travel with its home; one with votes in it must be the original,
            # since the original may still be signing elsewhere.
            log, records = Journal.open(
                disk, directory, create=create, binding=binding, only_original=True
            )
        except StoreMissing as error:
            raise SignerUnusable("the signer's record is gone", error.where, _NEW_KEY) from error
        except StoreCorrupt as error:
            raise SignerUnusable(error.what, error.where, _NEW_KEY) from error
        try:
            for data in records:
                self._replay(data, directory)
        except BaseException:
            log.close()
            raise
        self._records = len(records)
        return log

    def _replay(self, data: bytes, directory: str) -> None:
        try:
            record: _LogRecord = decode(data, _LogRecord)  # type: ignore[arg-type]
        except Malformed as error:
            raise SignerUnusable(
                f"a record of the signer's log is not one: {error}", directory, _NEW_KEY
            ) from error
        if isinstance(record, _Pruned):
            self._pruned = max(self._pruned, (record.epoch, record.view))
            return
        if isinstance(record, _Condemned):
            raise SignerUnusable(f"it was given up: {record.reason}", directory, _NEW_KEY)
        at = (record.epoch, record.view)
        if at >= self._pruned:
            self._votes.setdefault(at, {})[record.kind] = record

    def _live(self) -> list[bytes]:
        """What a rewritten log must hold: the pruned view first, then every vote above it."""
        live = [encode(_Pruned(*self._pruned))]
        for at in sorted(self._votes):
            votes = self._votes[at]
            live += [encode(votes[kind]) for kind in sorted(votes)]
        return live


def _conflict(epoch: int, view: int, kind: Kind, why: str) -> str:
    return f"{kind.name.lower()} {why} in epoch {epoch} view {view}: this key has voted otherwise"
