"""Holding evidence against a checkpoint that the reader brings: is it of the same history?

From genesis alone a reader learns that a quorum of each epoch's keys signed the history that he
sees. Keys of the past can be stolen, and with enough of them another history be signed. Who has a
checkpoint from somewhere else, pinned by himself or cosigned by auditors who follow the chain, can
tell: the evidence must hold the very block that the checkpoint names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from node.audit.dossier import Pinned
from node.audit.fault import Missing, same
from node.audit.note import (
    BadNote,
    Checkpoint,
    NoteKey,
    Verified,
    origin_of,
    parse_checkpoint,
    parse_note,
    verified,
)
from node.chain.block import header_digest
from node.chain.genesis import Genesis
from node.chain.types import Header

MAX_WITNESSES = 64
"""Keys that one reader relies on."""

_FORK = (
    "This history forks from the checkpoint: the two cannot both be of one chain. Keep both files; "
    "together they prove it."
)


@dataclass(frozen=True)
class Pin:
    """A checkpoint that the reader relies on."""

    checkpoint: Checkpoint
    witnesses: tuple[Verified, ...]
    """Whose signatures the reader asked for, and who did sign."""
    asked: int
    """How many the reader named; 0: he vouches for the note himself."""

    def text(self) -> str:
        """Why it is relied on, for people."""
        if not self.asked:
            return "pinned by its reader: nobody's signature on it was asked for"
        names = ", ".join(f"{each.key.name}{_when(each.time)}" for each in self.witnesses)
        return f"signed by {len(self.witnesses)} of the {self.asked} named: {names}"


def _when(time: int | None) -> str:
    try:
        return "" if time is None else f" ({datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC)"
    except (OverflowError, ValueError, OSError):
        return f" (at second {time})"


def read_pin(
    data: bytes, genesis: Genesis, witnesses: Sequence[NoteKey], needed: int | None = None
) -> Pin:
    """A checkpoint of this chain that enough of these keys signed.

    `witnesses`: none means that the reader vouches for the note himself. `needed`: how many of
    them; None: all. Raises BadNote."""
    if len(witnesses) > MAX_WITNESSES:
        raise BadNote(f"{len(witnesses)} witnesses; at most {MAX_WITNESSES}")
    if len({key.public_key for key in witnesses}) != len(witnesses):
        raise BadNote("two of the witnesses have the same key: one holder would count twice")
    required = len(witnesses) if needed is None else needed
    if not min(1, len(witnesses)) <= required <= len(witnesses):
        raise BadNote(f"{required} of {len(witnesses)} witnesses cannot be asked for")
    note = parse_note(data)
    checkpoint = parse_checkpoint(note.text)
    origin = origin_of(genesis.network, genesis.chain_id)
    if checkpoint.origin != origin:
        raise BadNote(f"it is of {checkpoint.origin}, and the genesis file is of {origin}")
    found = tuple(verified(note, witnesses))
    if len(found) < required:
        signed = ", ".join(each.key.name for each in found) or "none"
        raise BadNote(f"{required} of the {len(witnesses)} named must have signed it, signed: "
                      f"{signed}")  # fmt: skip
    return Pin(checkpoint, found, len(witnesses))


@dataclass(frozen=True)
class Asked:
    """A checkpoint as the reader gives it; whether it is of this chain is still open."""

    note: bytes | None = None
    """A signed note; else the two below."""
    height: int = 0
    digest: bytes = b""
    witnesses: tuple[NoteKey, ...] = ()
    needed: int | None = None
    """How many of the witnesses; None: all."""

    def pin(self, genesis: Genesis) -> Pin:
        """The checkpoint to rely on. Raises BadNote."""
        if self.note is not None:
            return read_pin(self.note, genesis, self.witnesses, self.needed)
        if self.witnesses:
            raise BadNote("nobody signed a height and a digest: witnesses sign a note")
        origin = origin_of(genesis.network, genesis.chain_id)
        return Pin(Checkpoint(origin, self.height, b"", self.digest), (), 0)


def check_pin(pin: Pin, headers: Iterable[Header], pinned: Pinned | None, tip: Header) -> str:
    """Check that the evidence is of the history that the checkpoint names.

    `headers`: all that the evidence shows to be of its history; `pinned`: the earlier block that it
    proves besides; `tip`: the block as of which it speaks. Raises Fault; Missing where it says
    nothing about the checkpoint's height."""
    checkpoint = pin.checkpoint
    height = checkpoint.height
    told = False
    for header in headers:
        if header.height == height:
            where = f"checkpoint of height {height}"
            same(f"{where}, block", checkpoint.digest, header_digest(header), _FORK)
            if checkpoint.root:  # a reader may know the digest alone, which covers it
                same(f"{where}, root", checkpoint.root, header.history_root, _FORK)
            told = True
    if pinned is not None and pinned.height == height:
        same(f"checkpoint of height {height}, block", checkpoint.digest, pinned.digest, _FORK)
        told = True
    if told:
        return f"the checkpoint of height {height} is of this history; it is {pin.text()}"
    if height > tip.height:
        raise Missing(
            f"the evidence ends at height {tip.height}, before the checkpoint of height {height}: "
            "have it made anew"
        )
    raise Missing(
        f"the evidence does not show the block of height {height}, which the checkpoint names: "
        "have it made anew with nostro evidence --checkpoint"
    )
