"""What a simulated node writes, and what a crash leaves of it.

Two logs take part in a turn's one coalesced sync: the consensus journal, then the record of the
signer's guard. Bytes written but not synced may survive a crash whole, in part or not at all.

The order matters. Synced side by side, a crash could leave the guard a finalize that the journal
lost: the node would come back to a view that it may neither finalize nor give up, and with one
more member dead the chain would stand still. Journal first, the guard never knows more than the
journal, and the driver tells it at the next start what it missed.

`ModelDisk` keeps any *record* prefix of what was not synced, which is harsher than any file
format. `StorageDisk` is the node's real journal and guarded signer over `SimulatedDisk`: frames,
checksums, torn sectors, rotation by rename, marks. Runs use one or the other, by seed.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Protocol

from consensus.interface import Signer, SigningRefused
from consensus.messages import Content, Epoch, Kind, View
from devnet.sim.crypto import CHAIN_ID, MemoisedSigner, sign
from node.storage.errors import JournalCorrupt, StorageError
from node.storage.journal import Journal
from node.storage.signer import GuardedSigner
from node.storage.simulated_disk import SimulatedCrash, SimulatedDisk

Guarded = tuple[int, int, int, Kind, Content | None]
"""(generation, epoch, view, kind, content): what a guard let which key sign."""

MAX_OPERATIONS = 8
"""Disk operations into a sync or rotation, at most, at which a crash strikes."""


class NodeDisk(Protocol):
    """Journal and signer guard of one node, through all its crashes."""

    def open(self) -> tuple[Signer, list[bytes]]:
        """What a start finds: the first key, guarded, and the journal's records."""

    def key(self, generation: int) -> Signer:
        """A key of this machine behind its guard, made at its first use. Not one destroyed."""

    def destroy(self, below: int) -> None:
        """No key of a generation below this one is ever used again."""

    def append(self, records: list[bytes]) -> None:
        """Write records to the journal; durable after a sync that began later."""

    def begin_sync(self) -> None:
        """One sync of both logs starts."""

    def end_sync(self) -> None:
        """It is back: what was written before it began is durable."""

    def begin_rotation(self, keep: list[bytes]) -> None:
        """Start to replace the journal, and what is written but not synced, by `keep`; no sync is
        under way."""

    def end_rotation(self, epoch: int, floor: int) -> None:
        """It is done and durable; the guards forget earlier epochs, and views below `floor`."""

    def crash(self, rng: random.Random, inside: bool) -> int:
        """Lose what was not synced; returns how many records. `inside`: the crash strikes inside
        the sync or rotation that has begun."""

    def journal(self) -> list[bytes]:
        """The records that the next start will find; only after a crash."""

    def rot(self, rng: random.Random) -> StorageError:
        """The medium damages journal or signer's record, while the node is down; what the next
        start says to it. Fails with AssertionError if it would start as if nothing had happened."""

    def replaced(self) -> NodeDisk:
        """A new, empty disk in the place of a damaged one."""


# --- the harsh model ----------------------------------------------------------------------------


class ModelDisk:
    """Lists instead of files. A crash keeps any prefix of the journal's unsynced records, and of
    the guard's only if the journal's sync was complete."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._records: list[bytes] = []
        self._durable = 0
        self._guard = _GuardModel(index)
        self._marks = (0, 0)
        self._keep: list[bytes] | None = None

    def open(self) -> tuple[Signer, list[bytes]]:
        return _ModelKey(self._guard, 0), list(self._records)

    def key(self, generation: int) -> Signer:
        return _ModelKey(self._guard, generation)

    def destroy(self, below: int) -> None:
        self._guard.destroyed = max(self._guard.destroyed, below)

    def append(self, records: list[bytes]) -> None:
        self._records += records

    def begin_sync(self) -> None:
        self._marks = (len(self._records), len(self._guard.log))

    def end_sync(self) -> None:
        self._durable, self._guard.durable = self._marks

    def begin_rotation(self, keep: list[bytes]) -> None:
        self._keep = keep

    def end_rotation(self, epoch: int, floor: int) -> None:
        self._records, self._keep = list(self._keep or ()), None
        self._durable = len(self._records)
        self._guard.prune(epoch, floor)
        self._marks = (self._durable, self._guard.durable)

    def crash(self, rng: random.Random, inside: bool) -> int:
        if self._keep is not None and rng.random() < 0.5:
            self._records, self._durable = list(self._keep), len(self._keep)
            self._marks = (self._durable, self._guard.durable)
        self._keep = None
        kept = rng.randint(self._durable, len(self._records))
        lost = len(self._records) - kept
        guard = self._guard
        guard.crash(rng.randint(guard.durable, self._marks[1]) if kept >= self._marks[0] else 0)
        del self._records[kept:]
        self._durable = kept
        self._marks = (kept, guard.durable)
        return lost

    def journal(self) -> list[bytes]:
        return list(self._records)

    def rot(self, rng: random.Random) -> StorageError:
        return JournalCorrupt("damaged", "journal", "Only as an observer, with a new key", 0)

    def replaced(self) -> NodeDisk:
        return ModelDisk(self._index)


class _GuardModel:
    """A machine's vote keys behind their guards. A conflicting vote of one key is refused: a second
    content for a kind in a view, finalize and nullify in one view, notarize after nullify."""

    def __init__(self, index: int) -> None:
        self._index = index
        self.log: list[Guarded] = []
        self.durable = 0
        self.destroyed = 0
        """Keys of generations below this one are gone."""

    def sign(
        self, generation: int, epoch: Epoch, view: View, kind: Kind, content: Content | None
    ) -> bytes:
        """Raises SigningRefused when a logged vote conflicts."""
        assert generation >= self.destroyed, "a destroyed key is to sign"
        wanted: Guarded = (generation, epoch, view, kind, content)
        logged = [entry for entry in self.log if entry[:3] == wanted[:3]]
        if wanted not in logged:
            if any(_conflict(entry, wanted) for entry in logged):
                raise SigningRefused(f"{kind.name} in view {view} conflicts with a signed vote")
            self.log.append(wanted)
        return sign(self._index, epoch, view, kind, content, generation=generation)

    def crash(self, kept: int) -> None:
        self.durable = max(self.durable, kept)
        del self.log[self.durable :]

    def prune(self, epoch: int, below: int) -> None:
        durable = [entry for entry in self.log[: self.durable] if entry[1:3] >= (epoch, below)]
        self.log = durable + self.log[self.durable :]
        self.durable = len(durable)


class _ModelKey:
    """One of these keys."""

    def __init__(self, guard: _GuardModel, generation: int) -> None:
        self._guard = guard
        self._generation = generation

    def sign_vote(self, epoch: Epoch, view: View, kind: Kind, content: Content | None) -> bytes:
        return self._guard.sign(self._generation, epoch, view, kind, content)


def _conflict(signed: Guarded, wanted: Guarded) -> bool:
    old, new = signed[3], wanted[3]
    if old is new:
        return signed[4] != wanted[4]
    return {old, new} == {Kind.FINALIZE, Kind.NULLIFY} or (
        old is Kind.NULLIFY and new is Kind.NOTARIZE
    )


# --- the node's own storage code ----------------------------------------------------------------


class StorageDisk:
    """node.storage's journal and guarded signer over a disk that tears sectors."""

    def __init__(self, index: int, seed: int) -> None:
        self._index = index
        self._seed = seed
        self._disk = SimulatedDisk(seed)
        self._waiting: list[bytes] = []
        """Appended while a sync is under way: it waits in memory for the next."""
        self._in_sync: list[bytes] = []
        self._keys = {0}
        """Generations of the keys that have a record here."""
        self._open_files()

    def _open_files(self) -> None:
        self._guards = {generation: self._guard(generation) for generation in sorted(self._keys)}
        self._journal, self._found = Journal.open(self._disk, "journal", create=True)

    def _guard(self, generation: int) -> GuardedSigner:
        directory = f"signer-{generation}" if generation else "signer"
        signer = MemoisedSigner(self._index, generation)
        return GuardedSigner(signer, CHAIN_ID, self._disk, directory, create=True)

    def open(self) -> tuple[Signer, list[bytes]]:
        return self.key(min(self._keys)), list(self._found)

    def key(self, generation: int) -> Signer:
        if generation not in self._guards:
            assert generation > min(self._keys), "a destroyed key is to sign"
            self._keys.add(generation)
            self._guards[generation] = self._guard(generation)
        return self._guards[generation]

    def destroy(self, below: int) -> None:
        for generation in [key for key in self._keys if key < below]:
            if len(self._keys) > 1:
                self._keys.remove(generation)
                self._guards.pop(generation).close()

    def _sync_guards(self) -> None:
        for guard in self._guards.values():
            guard.sync()

    def append(self, records: list[bytes]) -> None:
        self._waiting += records

    def begin_sync(self) -> None:
        self._journal.append(self._waiting)
        self._in_sync, self._waiting = self._waiting, []

    def end_sync(self) -> None:
        self._journal.sync()
        self._sync_guards()
        self._in_sync = []

    def begin_rotation(self, keep: list[bytes]) -> None:
        assert not self._in_sync, "rotation waits for the sync"
        self._waiting = []
        self._journal.rotate(keep)

    def end_rotation(self, epoch: int, floor: int) -> None:
        self._journal.sync()
        for guard in self._guards.values():
            guard.prune(Epoch(epoch), View(floor))

    def crash(self, rng: random.Random, inside: bool) -> int:
        if inside:
            self._disk.crash_after = rng.randint(0, MAX_OPERATIONS)
            with suppress(SimulatedCrash):
                self._journal.sync()
                self._sync_guards()
        # A power cut loses what was not synced; kill -9 only what was not written.
        self._disk.crash(rng, power=rng.random() < 0.7)
        self._open_files()
        found = set(self._found)
        lost = sum(record not in found for record in self._in_sync + self._waiting)
        self._waiting, self._in_sync = [], []
        return lost

    def journal(self) -> list[bytes]:
        return list(self._found)

    def rot(self, rng: random.Random) -> StorageError:
        disk = self._disk
        # Kill -9 leaves an exact mark, and so no damage that could pass for a torn tail.
        disk.crash(rng, power=False)
        directory = rng.choice(("journal", "signer"))
        names = [name for name in disk.list(directory) if name != "lock"]
        file = f"{directory}/{rng.choice(names)}"
        data = bytearray(disk.read(file))
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        disk.overwrite(file, bytes(data))
        try:
            self._open_files()
        except StorageError as refused:
            if file in refused.where:
                return refused
        raise AssertionError(f"{file} was damaged, and the node does not refuse it by name")

    def replaced(self) -> NodeDisk:
        return StorageDisk(self._index, self._seed + 1)


class WatchedSigner:
    """Between core and guard: notes what was refused."""

    def __init__(self, index: int, guard: Signer | None) -> None:
        """Without a guard the key signs anything: shows what the core alone would do."""
        self._index = index
        self._guard = guard
        self._generation = 0
        self.refused: list[Guarded] = []

    def use(self, generation: int, guard: Signer | None) -> None:
        """From now on with this key."""
        self._generation, self._guard = generation, guard

    def sign_vote(self, epoch: Epoch, view: View, kind: Kind, content: Content | None) -> bytes:
        """Raises SigningRefused when the guard does."""
        if self._guard is None:
            return sign(self._index, epoch, view, kind, content, generation=self._generation)
        try:
            return self._guard.sign_vote(epoch, view, kind, content)
        except SigningRefused:
            self.refused.append((self._generation, epoch, view, kind, content))
            raise
