"""A node's vote keys: one for each epoch, each behind its own signer guard.

Owned here: which key signs in which epoch, that a new one is durable before anyone hears of it,
and that an old one is gone for good once it is of no use but to a thief.

    keys/vote.json          signer/            the key that the node was made with
    keys/vote-<epoch>.json  signer-<epoch>/    a key that the node made for that epoch

A key is used in an epoch if, and only if, that epoch's validator set names it: nothing else says
which key is whose. Two epochs may name one key (a member that was down at the switch keeps its
own); then one guard serves both.

A thief of today's key cannot sign yesterday's blocks: the set of an epoch that has ended cannot be
made to sign again once q of its members destroyed their keys. Files are overwritten before they are
removed; a disk that keeps old versions of a file (a copy-on-write file system, a flash translation
layer, a backup) may still hold the *sealed* key, under its passphrase.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from consensus.interface import SigningRefused
from consensus.messages import Content, Epoch, Kind, View, Vote
from node.chain.signature import ROLE_VOTE, prove_possession
from node.chain.types import ValidatorSet
from node.storage.disk import FileDisk, write_file
from node.storage.errors import SignerUnusable, unwritable
from node.storage.home import Home
from node.storage.keystore import Keystore, open_keystore, read_key_info, seal_key
from node.storage.signer import GuardedSigner, create_signer_log

log = logging.getLogger("nostro.keys")

_KEY_FILE = re.compile(r"vote(-[0-9]+)?\.json")
_SEED_BYTES = 32


class VoteKeys:
    """Implements `consensus.interface.Signer` over all epochs. One thread at a time, except that
    `sync` may run in another."""

    def __init__(self, home: Home, passphrase: Callable[[], str]) -> None:
        """`passphrase`: of the vote keys; asked for once, when the first is opened or made."""
        self._home = home
        self._ask = passphrase
        self._passphrase: str | None = None
        self._keys: dict[bytes, Keystore] = {}
        """Opened key files, by public key."""
        self._guards: dict[bytes, GuardedSigner] = {}
        self._by_epoch: dict[int, GuardedSigner] = {}

    # --- which key ------------------------------------------------------------------------------

    def use(self, validators: ValidatorSet, public_key: bytes) -> str | None:
        """Make `public_key`, which this set names as this node's, the key of its epoch.

        None, or why this node may not sign in that epoch though it is a member: the key is not
        here, or its record is gone, was cut or copied, or says that it was given up."""
        self.lay_down()
        guard = self._guards.get(public_key)
        if guard is None:
            path = self._files().get(public_key)
            if path is None:
                return f"there is no file of vote key {public_key.hex()} in {self._keys_directory}"
            try:
                guard = GuardedSigner(
                    self._open(path), self._home.chain_id, FileDisk(), str(self._record(path))
                )
            except SignerUnusable as error:
                return str(error)
            self._guards[public_key] = guard
        self._by_epoch = {validators.epoch: guard}
        return None

    def lay_down(self) -> None:
        """No key signs until the next `use`, and any may be destroyed."""
        self._by_epoch = {}

    def make(self, epoch: int, lei: str) -> tuple[bytes, bytes]:
        """This node's fresh vote key for an epoch to come, durable with its empty record; the one
        made before if there is one. Returns the public key and the proof of its possession for
        the operator with this LEI. Takes a moment: for a thread.

        Raises KeystoreError, StoreUnwritable."""
        path = self._keys_directory / f"vote-{epoch}.json"
        if not path.exists():
            seed = secrets.token_bytes(_SEED_BYTES)
            sealed = seal_key(
                role="vote", name=self._home.config.name, lei=lei, seed=seed,
                passphrase=self._secret(), devnet=self._home.genesis.devnet,
            )  # fmt: skip
            record = self._record(path)
            # Without its key file a record belongs to nothing: a crash came between the two.
            shutil.rmtree(record, ignore_errors=True)
            staged = path.with_name(f".{path.name}.new")
            write_file(staged, sealed)
            public_key = read_key_info(staged).public_key
            disk = FileDisk()
            disk.make_directory(str(record))
            create_signer_log(disk, str(record), self._home.chain_id, public_key)
            try:
                os.rename(staged, path)
                disk.sync_directory(str(path.parent))
            except OSError as error:
                raise unwritable(error, path, "keep the key of the next epoch") from error
        key = self._open(path)
        return key.public_key, prove_possession(key, ROLE_VOTE, lei, self._home.chain_id)

    def made(self, epoch: int) -> bytes | None:
        """The public key that `make` made for this epoch; None if it made none. Raises
        KeystoreError."""
        path = self._keys_directory / f"vote-{epoch}.json"
        return read_key_info(path).public_key if path.exists() else None

    def held(self) -> dict[bytes, float]:
        """The public keys of this home's vote keys, each with the epoch that it was made for;
        infinity for the one that the node was made with. Raises KeystoreError."""
        return {
            public_key: float(path.stem.partition("-")[2] or "inf")
            for public_key, path in self._files().items()
        }

    def destroy(self, public_key: bytes) -> None:
        """Destroy a vote key with its record. To be called once no epoch that can still finalize
        a block names it. Raises StoreUnwritable."""
        assert public_key not in {each.public_key for each in self._by_epoch.values()}, "in use"
        guard = self._guards.pop(public_key, None)
        if guard is not None:
            guard.close()
        self._keys.pop(public_key, None)
        path = self._files()[public_key]
        try:
            doomed = path.with_name(f".{path.name}.destroyed")
            # Under a name that nobody takes for a key's: a crash on the way must not leave what
            # looks like a damaged key.
            os.rename(path, doomed)
            _shred(doomed)
            shutil.rmtree(self._record(path), ignore_errors=True)
        except OSError as error:
            raise unwritable(error, path, "destroy the key of an epoch that ended") from error

    def finish_destroying(self) -> None:
        """Destroy what a crash in the middle of `destroy` left. Raises StoreUnwritable."""
        for left in sorted(self._keys_directory.glob(".vote*.destroyed")):
            try:
                _shred(left)
            except OSError as error:
                raise unwritable(error, left, "destroy the key of an epoch that ended") from error

    def _files(self) -> dict[bytes, Path]:
        """The vote key files of this home, by public key. Raises KeystoreError."""
        paths = sorted(self._keys_directory.iterdir())
        return {
            read_key_info(path).public_key: path for path in paths if _KEY_FILE.fullmatch(path.name)
        }

    @property
    def _keys_directory(self) -> Path:
        return self._home.path / "keys"

    def _record(self, key: Path) -> Path:
        """The directory of a key's signer record: signer, or signer-<epoch>."""
        return self._home.path / key.stem.replace("vote", "signer", 1)

    def _open(self, path: Path) -> Keystore:
        public_key = read_key_info(path).public_key
        if public_key not in self._keys:
            self._keys[public_key] = open_keystore(
                path, self._secret(), role="vote", devnet=self._home.genesis.devnet
            )
        return self._keys[public_key]

    def _secret(self) -> str:
        if self._passphrase is None:
            self._passphrase = self._ask()
        return self._passphrase

    # --- signing --------------------------------------------------------------------------------

    def sign_vote(self, epoch: Epoch, view: View, kind: Kind, content: Content | None) -> bytes:
        """See `GuardedSigner.sign_vote`. Raises SigningRefused."""
        guard = self._by_epoch.get(epoch)
        if guard is None:
            raise SigningRefused(f"this node has no vote key for epoch {epoch}")
        return guard.sign_vote(epoch, view, kind, content)

    def remembers(self, vote: Vote) -> bool:
        """See `GuardedSigner.remembers`."""
        guard = self._by_epoch.get(vote.epoch)
        return guard is not None and guard.remembers(vote)

    @property
    def dirty(self) -> bool:
        """Whether a signature was given whose record is not durable yet."""
        return any(guard.dirty for guard in self._guards.values())

    def sync(self) -> None:
        """See `GuardedSigner.sync`."""
        for guard in list(self._guards.values()):
            if guard.dirty:
                guard.sync()

    def prune(self, epoch: Epoch, view: View) -> None:
        """See `GuardedSigner.prune`."""
        for guard in self._by_epoch.values():
            guard.prune(epoch, view)

    def condemn(self, reason: str) -> None:
        """Never sign again with the current epoch's key; see `GuardedSigner.condemn`.

        Also not in a later epoch that names it: who would use it again is told what the next start
        would be told."""
        for guard in self._by_epoch.values():
            guard.condemn(reason)
            self._guards.pop(guard.public_key).close()
        self.lay_down()

    def close(self) -> None:
        """Release all records and locks."""
        for guard in self._guards.values():
            guard.close()


def _shred(path: Path) -> None:
    """Overwrite a file and remove it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, bytes(os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()
    FileDisk().sync_directory(str(path.parent))
