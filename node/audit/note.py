"""Checkpoints as C2SP signed notes, as their reader sees them.

A *note* (c2sp.org/signed-note) is a text and, below its last empty line, signatures of named keys.
A *checkpoint* (c2sp.org/tlog-checkpoint) is a note about a tree; here the tree is the history of
one chain, and the text has exactly four lines:

    nostro/<network>/<chain id, 64 hex digits>
    <height h: the tree has the h leaves of the blocks 0 … h−1>
    <base64 of the history_root in the header of block h>
    block <digest of that header, 64 hex digits>

The third line alone would leave block h itself open; the fourth names it. Two kinds of keys sign:
a *signer* the text as it is (type 1), a *witness* with the time at which it found the tree to be
a continuation of all that it had cosigned before (type 4, c2sp.org/tlog-cosignature).

What is written here reads, and never makes: a note is parsed strictly, byte by byte, so that a
text has one form only, and in bounded time. Nothing in a note may be believed before `verified`
said who signed it, unless whoever reads it had it from a hand that he trusts.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from node.chain.signature import KEY_BYTES, SIGNATURE_BYTES, verify_bytes

MAX_NOTE_BYTES = 128 * 1024
"""Bytes of a note with all its signatures."""
MAX_SIGNATURES = 64
"""Signature lines; a verifier must take 16 at least, says the specification."""
MAX_NAME = 200
"""Characters of a key's name."""
MAX_HEIGHT = 2**63 - 1
MAX_TIME = 2**63 - 1
"""Seconds since the Unix epoch; the specification's bound."""

SIGNER = 0x01
"""Ed25519 over the text."""
WITNESS = 0x04
"""Ed25519 over the text and a time."""
KINDS = {SIGNER: "signer", WITNESS: "witness"}

KEY_ID_BYTES = 4
TIME_BYTES = 8
ORIGIN_PREFIX = "nostro"
BLOCK_LINE = "block "
_DASH = "\N{EM DASH} "


class BadNote(ValueError):
    """These bytes are no such note or key, or a signature on it is not what it claims to be; the
    text says what and where."""


# --- keys -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoteKey:
    """A public key that signs notes, known by name, type and bytes."""

    name: str
    kind: int
    """`SIGNER` or `WITNESS`: one key never is both."""
    public_key: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in KINDS:
            raise BadNote(f"key {self.name}: signature type {self.kind:#04x} is not known here")
        if len(self.public_key) != KEY_BYTES:
            raise BadNote(f"key {self.name}: {len(self.public_key)} bytes, not {KEY_BYTES}")

    @property
    def id(self) -> bytes:
        """The first four bytes of SHA-256(name, line break, type, key)."""
        return sha256(self.name.encode() + b"\n" + self._typed).digest()[:KEY_ID_BYTES]

    @property
    def text(self) -> str:
        """The verifier key, as it is handed on: `name+id+base64`."""
        return f"{self.name}+{self.id.hex()}+{b64encode(self._typed).decode()}"

    @property
    def _typed(self) -> bytes:
        return bytes([self.kind]) + self.public_key


def check_name(name: str) -> None:
    """Raise BadNote unless this may name a key: no spaces, no plus, no control characters."""
    if not name or len(name) > MAX_NAME:
        raise BadNote(f"a key's name has 1 to {MAX_NAME} characters, this one has {len(name)}")
    if any(c == "+" or c.isspace() or not c.isprintable() for c in name):
        raise BadNote(f"{name!r} names no key: it holds a space, a plus or a control character")


def parse_key(text: str) -> NoteKey:
    """A verifier key from its text. Raises BadNote."""
    if len(text) > 2 * MAX_NAME:
        raise BadNote("that is too long for a verifier key")
    parts = text.split("+", 2)  # base64 has a plus of its own
    if len(parts) != 3:
        raise BadNote(f"{text!r} is no verifier key; it is written name+id+base64")
    name, key_id, encoded = parts
    raw = _base64(encoded, f"the verifier key {name}")
    key = NoteKey(name, raw[0] if raw else 0, raw[1:])
    if key_id != key.id.hex():
        raise BadNote(f"the verifier key {name} says {key_id!r} of itself, it is {key.id.hex()}")
    return key


# --- notes ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoteSignature:
    """One line below the text; whether it holds is still open."""

    name: str
    key_id: bytes
    signature: bytes
    """All that follows the key id."""

    @property
    def line(self) -> bytes:
        encoded = b64encode(self.key_id + self.signature).decode()
        return f"{_DASH}{self.name} {encoded}\n".encode()


@dataclass(frozen=True)
class Note:
    """A text and its signatures."""

    text: bytes
    """With its last line break."""
    signatures: tuple[NoteSignature, ...]

    @property
    def data(self) -> bytes:
        """The whole note, as it is handed on."""
        return self.text + b"\n" + b"".join(each.line for each in self.signatures)


@dataclass(frozen=True)
class Verified:
    """A key of the reader's whose signature holds."""

    key: NoteKey
    time: int | None
    """Of a witness: when it signed, seconds since the Unix epoch."""


def parse_note(data: bytes) -> Note:
    """The note; nothing of it is believed yet. Raises BadNote."""
    if len(data) > MAX_NOTE_BYTES:
        raise BadNote(f"a note of {len(data):,} bytes; at most {MAX_NOTE_BYTES:,}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadNote(f"it is no text: byte {error.start} is not UTF-8") from None
    if any(c < " " and c != "\n" for c in text):
        raise BadNote("it holds a control character")
    body, separator, below = text.rpartition("\n\n")
    if not separator or not below.endswith("\n"):
        raise BadNote("it does not end with an empty line and signatures: it is no signed note")
    # Splitting at line breaks alone: splitlines() knows others, which the format does not.
    lines = below[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise BadNote(f"{len(lines)} signatures; at most {MAX_SIGNATURES}")
    signatures = tuple(_signature(line, number) for number, line in enumerate(lines, 1))
    return Note((body + "\n").encode(), signatures)


def _signature(line: str, number: int) -> NoteSignature:
    where = f"signature {number}"
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise BadNote(f"{where}: the line is not of the form '— name base64'")
    check_name(name)
    raw = _base64(encoded, where)
    if len(raw) <= KEY_ID_BYTES:
        raise BadNote(f"{where}: {len(raw)} bytes are no signature")
    return NoteSignature(name, raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:])


def _base64(text: str, where: str) -> bytes:
    """The bytes; only their one spelling is taken. Raises BadNote."""
    try:
        raw = b64decode(text.encode("ascii"), validate=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError are
        raise BadNote(f"{where}: it is not base64") from None
    if b64encode(raw).decode() != text:
        raise BadNote(f"{where}: it is not the one spelling of its bytes in base64")
    return raw


def cosigned_message(text: bytes, time: int) -> bytes:
    """What a witness signs (c2sp.org/tlog-cosignature, Ed25519)."""
    return b"cosignature/v1\ntime %d\n" % time + text


def verified(note: Note, keys: Sequence[NoteKey]) -> list[Verified]:
    """Which of these keys signed the note, each once, in their order here. Signatures of other keys
    are passed over, as the specification demands.

    Raises BadNote if a signature claims to be of one of them and does not hold."""
    found: dict[NoteKey, Verified] = {}
    known = {(key.name, key.id): key for key in keys}
    for each in note.signatures:
        key = known.get((each.name, each.key_id))
        if key is not None:
            found[key] = Verified(key, _check(note.text, key, each.signature))
    return [found[key] for key in keys if key in found]


def _check(text: bytes, key: NoteKey, signature: bytes) -> int | None:
    """The time that a witness names. Raises BadNote."""
    time = None
    if key.kind == WITNESS and len(signature) == TIME_BYTES + SIGNATURE_BYTES:
        time = int.from_bytes(signature[:TIME_BYTES], "big")
        signature = signature[TIME_BYTES:]
        if time > MAX_TIME:
            raise BadNote(f"the cosignature of {key.name} names a time that is none")
        text = cosigned_message(text, time)
    elif key.kind == WITNESS:
        raise BadNote(f"the cosignature of {key.name} has {len(signature)} bytes, not 72")
    if not verify_bytes(key.public_key, text, signature):
        raise BadNote(
            f"the signature of {key.name} does not hold: it is not over this text, or not its own"
        )
    return time


# --- checkpoints ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of a chain."""

    origin: str
    """The first line; of a chain of this software `origin_of`."""
    height: int
    """The size of its history tree, and the height of the block that the tree stands in."""
    root: bytes
    """`history_root` of that block's header."""
    digest: bytes
    """Of that header."""

    @property
    def text(self) -> bytes:
        """The signed text."""
        root = b64encode(self.root).decode()
        return f"{self.origin}\n{self.height}\n{root}\n{BLOCK_LINE}{self.digest.hex()}\n".encode()


def origin_of(network: str, chain_id: bytes) -> str:
    """The first line of every checkpoint of a chain, and the name of every signer's key."""
    return f"{ORIGIN_PREFIX}/{network}/{chain_id.hex()}"


def parse_checkpoint(text: bytes) -> Checkpoint:
    """What the text of a note says. Raises BadNote unless it is such a checkpoint, exactly."""
    lines = text.decode("utf-8").split("\n")
    if len(lines) != 5:
        raise BadNote(f"a checkpoint of this software has 4 lines, this one {len(lines) - 1}")
    origin, size, root, block, _ = lines
    if not (size.isascii() and size.isdigit() and len(size) <= 19 and str(int(size)) == size):
        raise BadNote(f"line 2: {size[:40]!r} is no size of a tree")
    height = int(size)
    if not 0 < height <= MAX_HEIGHT:
        raise BadNote(f"line 2: a checkpoint of height {height} binds nothing, or is none")
    found = Checkpoint(origin, height, _base64(root, "line 3"), _digest(block))
    if len(found.root) != sha256().digest_size:
        raise BadNote(f"line 3: a root has 32 bytes, not {len(found.root)}")
    if found.text != text:
        raise BadNote("it is written otherwise than a checkpoint of this software is")
    return found


def _digest(line: str) -> bytes:
    digits = line.removeprefix(BLOCK_LINE)
    try:
        digest = bytes.fromhex(digits)
    except ValueError:
        digest = b""
    if len(digest) != sha256().digest_size:
        raise BadNote(f"line 4: {line[:80]!r} is not '{BLOCK_LINE}' and 64 hexadecimal digits")
    return digest
