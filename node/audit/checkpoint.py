"""Making checkpoints, and signing them so that no key ever says two things of one chain.

What a checkpoint says is taken from a final block: its certificate is checked against the genesis
file here, so a store that was changed cannot have a made-up head signed.

A key that signs checkpoints has a *record* beside it: per chain the highest head that it signed,
durable before the signature leaves. It signs nothing that is not in one history with that head:

    signer (type 1)     any height of a history that holds the recorded head
    witness (type 4)    the same, and never a smaller tree than the recorded one

So who shows two checkpoints of one key that contradict each other has shown that the key, or its
record, was stolen or restored from a copy. A record that is missing or damaged ends the key: what
it signed is no longer known.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Protocol, Self

import msgspec

from node.audit.build_chain import (
    EvidenceUnavailable,
    HeadedSource,
    epoch_links,
    history_path,
    last_final,
    prove_final,
    stored_header,
)
from node.audit.epochs import check_carriers, check_finalization, follow
from node.audit.fault import Fault, same
from node.audit.note import (
    SIGNER,
    TIME_BYTES,
    WITNESS,
    Checkpoint,
    Note,
    NoteKey,
    NoteSignature,
    cosigned_message,
    origin_of,
    parse_checkpoint,
    parse_note,
)
from node.chain.block import header_digest
from node.chain.encoding import UNDECODABLE
from node.chain.genesis import Genesis
from node.chain.merkle import ProofError, history_leaf, verify_inclusion
from node.chain.types import Header
from node.storage.disk import FileLock, write_file
from node.storage.errors import SignerUnusable
from node.storage.heads import Head

RECORD_FORMAT = "nostro-note-record/1"
RECORD_SUFFIX = ".signed"
MAX_RECORD_BYTES = 1024 * 1024
MAX_CHAINS = 1024
"""Chains that one witness cosigns."""

_NEW_KEY = (
    "What this key has signed is no longer known, so it must not sign again: make a new one with "
    "nostro audit checkpoint keys create, and have those who rely on it take over its new vkey"
)


class SigningRefused(Exception):
    """The key may not sign this checkpoint; the text says why."""


class History(Protocol):
    """What whoever signs knows of a chain by himself."""

    def height(self) -> int | None:
        """Of the last final block; None: not even genesis."""

    def head(self, height: int) -> Head | None:
        """Of a final block."""


class StoredHistory:
    """`History` of a chain's store."""

    def __init__(self, source: HeadedSource) -> None:
        self._source = source

    def height(self) -> int | None:
        return self._source.height()

    def head(self, height: int) -> Head | None:
        header = self._source.header(height)
        return None if header is None else Head(header_digest(header), header.history_root)


# --- making ---------------------------------------------------------------------------------------


def make_checkpoint(
    source: HeadedSource, genesis: Genesis, height: int | None = None
) -> Checkpoint:
    """The checkpoint of a final block (None: of the last one), whose finality is checked.

    Raises EvidenceUnavailable if the store lacks what proves it, Fault if that does not hold."""
    header = last_final(source) if height is None else stored_header(source, height)
    if header.height == 0:
        raise EvidenceUnavailable("a chain of its genesis block alone has nothing to sign")
    check_final(source, header, genesis)
    origin = origin_of(genesis.network, genesis.chain_id)
    return Checkpoint(origin, header.height, header.history_root, header_digest(header))


def check_final(source: HeadedSource, header: Header, genesis: Genesis) -> None:
    """Check that the validators of its epoch, whom genesis leads to, finalized this block.

    Raises EvidenceUnavailable, Fault."""
    validators = follow(genesis, epoch_links(source, 0, header.epoch - 1))[-1]
    block, finality = prove_final(source, header)
    meaning = "It is not a block of this chain's epoch."
    same("header.chain_id", genesis.chain_id, header.chain_id, meaning)
    same("header.epoch", validators.epoch, block.epoch, meaning)
    check_carriers(block, finality.carriers, validators, "carriers")
    last = (block, *finality.carriers)[-1]
    check_finalization(finality.certificate, last, None, validators, chain_id=genesis.chain_id)
    if block.height == header.height:
        same("header", header_digest(block), header_digest(header), meaning)
        return
    path = history_path(source, header.height, block.height)
    leaf = history_leaf(header_digest(header))
    try:
        verify_inclusion(leaf, header.height, block.height, path, block.history_root)
    except ProofError as error:
        raise Fault(
            f"header {header.height}",
            f"a block in the history of block {block.height}",
            str(error),
            "The store holds another block than the one that was finalized.",
        ) from error


# --- signing --------------------------------------------------------------------------------------


class _Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    origin: str
    height: int
    root: str
    digest: str


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    key: str
    """The verifier key."""
    signed: list[_Signed]
    """The highest head of each chain, in the order in which they were first signed."""
    checksum: str


class NoteSigner(Protocol):
    """Who signs plain text: `node.chain.signature.Ed25519Signer`."""

    def sign_note(self, text: bytes) -> bytes: ...


def create_record(path: Path, key: NoteKey) -> None:
    """The empty record of a *new* key, made with it and never later. Raises StoreUnwritable."""
    write_file(path, _encode(key, ()))


class Signed:
    """The record of one key, locked for this process; a context manager."""

    def __init__(self, path: Path, key: NoteKey) -> None:
        """Raises SignerUnusable, StoreLocked, StoreUnwritable."""
        self._path, self._key = path, key
        self._lock = FileLock(str(path.with_name(path.name + ".lock")))
        try:
            self._heads = self._read()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def last(self, origin: str) -> Checkpoint | None:
        """The highest checkpoint of a chain that the key signed."""
        return self._heads.get(origin)

    def admit(self, checkpoint: Checkpoint, history: History) -> None:
        """Have it recorded that the key signs this, durably, before it does.

        Raises SigningRefused unless `history` holds this checkpoint and the one signed last;
        StoreUnwritable."""
        _hold(history, checkpoint, "this checkpoint")
        last = self.last(checkpoint.origin)
        if last is not None:
            if self._key.kind == WITNESS and checkpoint.height < last.height:
                raise SigningRefused(
                    f"the key has cosigned height {last.height}, and a witness never signs a "
                    f"smaller tree; this checkpoint is of height {checkpoint.height}"
                )
            _hold(history, last, "what this key signed before")
        if last is None and len(self._heads) >= MAX_CHAINS:
            raise SigningRefused(f"the key has signed for {MAX_CHAINS} chains; make another one")
        if last is None or last.height < checkpoint.height:
            heads = {**self._heads, checkpoint.origin: checkpoint}
            write_file(self._path, _encode(self._key, tuple(heads.values())))
            self._heads = heads

    def _read(self) -> dict[str, Checkpoint]:
        try:
            data = self._path.read_bytes() if self._path.stat().st_size <= MAX_RECORD_BYTES else b""
        except FileNotFoundError:
            raise SignerUnusable("the key's record is gone", self._path, _NEW_KEY) from None
        except OSError as error:
            raise SignerUnusable(f"cannot read: {error.strerror}", self._path, _NEW_KEY) from None
        try:
            record = msgspec.json.decode(data, type=_Record)
            heads = {
                each.origin: Checkpoint(
                    each.origin,
                    each.height,
                    bytes.fromhex(each.root),
                    bytes.fromhex(each.digest),
                )
                for each in record.signed
            }
        except (*UNDECODABLE, ValueError) as error:
            raise SignerUnusable(f"damaged: {error}", self._path, _NEW_KEY) from None
        if data != _encode(self._key, tuple(heads.values())):
            what = "damaged, edited, or another key's"
            raise SignerUnusable(what, self._path, _NEW_KEY)
        return heads


def _hold(history: History, checkpoint: Checkpoint, what: str) -> None:
    """Raise SigningRefused unless the history holds this head."""
    found = history.head(checkpoint.height)
    if found is None:
        raise SigningRefused(
            f"{what} is of height {checkpoint.height}, and the own copy of the chain ends at "
            f"{history.height()}: let it catch up first"
        )
    if found != Head(checkpoint.digest, checkpoint.root):
        raise SigningRefused(
            f"{what} contradicts the own copy: at height {checkpoint.height} it names block "
            f"{checkpoint.digest.hex()} and root {checkpoint.root.hex()}, the copy holds "
            f"{found.digest.hex()} and {found.root.hex()}. One of the two is of a fork; keep both, "
            "and find out with nostro audit fork"
        )


def sign(
    checkpoint: Checkpoint,
    *,
    key: NoteKey,
    signer: NoteSigner,
    signed: Signed,
    source: HeadedSource,
) -> bytes:
    """The note, signed by a signer's key. `source`: the store that the checkpoint was made from.

    Raises SigningRefused, EvidenceUnavailable, StoreUnwritable."""
    assert key.kind == SIGNER
    if key.name != checkpoint.origin:
        raise SigningRefused(
            f"the key is for {key.name}, and the checkpoint is of {checkpoint.origin}"
        )
    history, last = StoredHistory(source), signed.last(checkpoint.origin)
    if last is not None:
        _hold(history, last, "what this key signed before")
        _require_one_history(source, *sorted((last, checkpoint), key=lambda each: each.height))
    signed.admit(checkpoint, history)
    signature = NoteSignature(key.name, key.id, signer.sign_note(checkpoint.text))
    return Note(checkpoint.text, (signature,)).data


def _require_one_history(source: HeadedSource, lower: Checkpoint, higher: Checkpoint) -> None:
    """Raise SigningRefused unless the lower one's block is in the higher one's tree: a store tells
    headers one by one, and might hold those of two branches."""
    if lower.height == higher.height:
        return  # they are compared as they are
    path = history_path(source, lower.height, higher.height)
    leaf = history_leaf(lower.digest)
    try:
        verify_inclusion(leaf, lower.height, higher.height, path, higher.root)
    except ProofError as error:
        raise SigningRefused(
            f"block {lower.height} is not in the history of block {higher.height}, and this key "
            f"would have signed both: the store is damaged, or holds two branches ({error})"
        ) from error


def cosign(
    note: Note,
    genesis: Genesis,
    *,
    key: NoteKey,
    signer: NoteSigner,
    signed: Signed,
    history: History,
    clock: Callable[[], float],
) -> bytes:
    """The note with a witness's cosignature below all others.

    `history`: what the witness verified himself. `clock`: seconds since the Unix epoch. Raises
    SigningRefused, BadNote, StoreUnwritable."""
    assert key.kind == WITNESS
    checkpoint = parse_checkpoint(note.text)
    origin = origin_of(genesis.network, genesis.chain_id)
    if checkpoint.origin != origin:
        raise SigningRefused(
            f"the checkpoint is of {checkpoint.origin}, the genesis file of {origin}"
        )
    signed.admit(checkpoint, history)
    time = int(clock())
    raw = time.to_bytes(TIME_BYTES, "big") + signer.sign_note(cosigned_message(note.text, time))
    below = (*note.signatures, NoteSignature(key.name, key.id, raw))
    data = Note(note.text, below).data
    parse_note(data)  # with one signature more it may be too large
    return data


def _encode(key: NoteKey, heads: tuple[Checkpoint, ...]) -> bytes:
    signed = [_Signed(c.origin, c.height, c.root.hex(), c.digest.hex()) for c in heads]
    record = _Record(RECORD_FORMAT, key.text, signed, "")
    checksum = sha256(msgspec.json.encode(record)).hexdigest()[:32]
    whole = msgspec.structs.replace(record, checksum=checksum)
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"
