"""Private keys at rest: one encrypted file per key, readable by its owner alone.

JSON, so that an operator can see whose key it is; the 32-byte Ed25519 seed is sealed with
ChaCha20-Poly1305 (RFC 8439) under a key from scrypt (RFC 7914), with everything else in the file
as associated data: a key file cannot be passed off as another role's or holder's. An unkeyed
checksum tells a damaged file from a wrong passphrase, which the cipher alone cannot.

Devnet keys say so under the seal; their passphrase is public, so a production node refuses them.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Meta

from node.chain.encoding import UNDECODABLE, encode
from node.chain.signature import Ed25519Signer
from node.storage.disk import write_file
from node.storage.errors import KeystoreError, WrongPassphrase

FORMAT = "nostro-key/1"
ROLES = ("participant", "vote", "node", "checkpoint", "witness")
"""The last two sign notes alone (`node.audit.checkpoint`)."""
SEED_BYTES = 32
MAX_KEYSTORE_BYTES = 16 * 1024
MIN_PASSPHRASE_CHARACTERS = 10
"""For production keys."""

SCRYPT_N = 2**17
"""Production cost: 128 MiB and about a third of a second for each guess."""
DEVNET_SCRYPT_N = 2**12
DEVNET_PASSPHRASE = "devnet"
_SCRYPT_R = 8
_SCRYPT_P = 1
_MAX_SCRYPT_N = 2**20

ENV_PASSPHRASE = "NOSTRO_PASSPHRASE"
ENV_PASSPHRASE_FILE = "NOSTRO_PASSPHRASE_FILE"

Hex = Annotated[str, Meta(pattern=r"\A([0-9a-f]{2})*\Z")]


class _Scrypt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    n: int
    r: int
    p: int
    salt: Hex


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    nonce: Hex
    ciphertext: Hex


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    role: str
    name: str
    lei: str
    public_key: Hex
    devnet: bool
    scrypt: _Scrypt
    chacha20_poly1305: _Sealed
    checksum: Hex


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What a key file says in clear, under its seal."""

    role: str
    """One of `ROLES`."""
    name: str
    """Short name of the holder: a participant, or a node."""
    lei: str
    """LEI of the holder, or of the node's operator; may be empty before it is assigned."""
    public_key: bytes
    devnet: bool


@dataclass(frozen=True, slots=True)
class Keystore:
    """An opened key file: a `node.chain.signature.Signer`. The seed never shows in its text."""

    info: KeyInfo
    seed: bytes = field(repr=False)
    """The 32-byte Ed25519 private key (RFC 8032)."""
    signer: Ed25519Signer

    @property
    def role(self) -> str:
        return self.info.role

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def lei(self) -> str:
        return self.info.lei

    @property
    def devnet(self) -> bool:
        return self.info.devnet

    @property
    def public_key(self) -> bytes:
        return self.info.public_key

    def sign(self, domain: str, chain_id: bytes, payload: bytes) -> bytes:
        """The 64-byte signature over `signature.preimage(domain, chain_id, payload)`."""
        return self.signer.sign(domain, chain_id, payload)


def seal_key(
    *, role: str, name: str, lei: str, seed: bytes, passphrase: str, devnet: bool = False
) -> bytes:
    """The bytes of a new key file. Raises KeystoreError for a passphrase that is too short."""
    assert role in ROLES, role
    assert len(seed) == SEED_BYTES
    if not devnet and len(passphrase) < MIN_PASSPHRASE_CHARACTERS:
        raise KeystoreError(
            f"the passphrase has fewer than {MIN_PASSPHRASE_CHARACTERS} characters",
            f"{role} key of {name}",
            "Choose a longer one",
        )
    public_key = Ed25519Signer(seed).public_key
    scrypt = _Scrypt(
        DEVNET_SCRYPT_N if devnet else SCRYPT_N, _SCRYPT_R, _SCRYPT_P, secrets.token_hex(32)
    )
    nonce = secrets.token_bytes(12)
    file = _File(
        FORMAT, role, name, lei, public_key.hex(), devnet, scrypt, _Sealed(nonce.hex(), ""), ""
    )
    sealed = ChaCha20Poly1305(_derive(scrypt, passphrase)).encrypt(nonce, seed, _associated(file))
    file = msgspec.structs.replace(file, chacha20_poly1305=_Sealed(nonce.hex(), sealed.hex()))
    file = msgspec.structs.replace(file, checksum=_checksum(file))
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def create_keystore(
    path: Path,
    *,
    role: str,
    name: str,
    lei: str,
    passphrase: str,
    seed: bytes | None = None,
    devnet: bool = False,
) -> KeyInfo:
    """Write a new key file, mode 0600; a fresh key unless `seed` is given. Never overwrites.

    Raises KeystoreError, StoreUnwritable."""
    if path.exists() or path.is_symlink():
        raise KeystoreError(
            "there already is a file", path, "A key is never overwritten: choose another name"
        )
    seed = secrets.token_bytes(SEED_BYTES) if seed is None else seed
    data = seal_key(role=role, name=name, lei=lei, seed=seed, passphrase=passphrase, devnet=devnet)
    write_file(path, data)
    return read_key_info(path)


def read_key_info(path: Path) -> KeyInfo:
    """Whose key it is, without the passphrase; it is under the seal but not yet checked against
    it. Raises KeystoreError."""
    return _info(_read(path))


def open_keystore(
    path: Path, passphrase: str, *, role: str | None = None, devnet: bool | None = None
) -> Keystore:
    """Decrypt a key file.

    `role`: the role it must have. `devnet`: whether the chain is a devnet; on any other, a
    devnet key is refused (None: the caller does not know the chain yet). Raises
    WrongPassphrase, and KeystoreError for everything else."""
    file = _read(path)
    info = _info(file)
    if info.devnet and devnet is False:
        raise KeystoreError(
            "this is a devnet key: its passphrase is public",
            path,
            "Make a production key with nostro init",
        )
    if role is not None and info.role != role:
        raise KeystoreError(
            f"this is a {info.role} key, a {role} key is needed", path, "Name the right file"
        )
    sealed = file.chacha20_poly1305
    try:
        seed = ChaCha20Poly1305(_derive(file.scrypt, passphrase)).decrypt(
            bytes.fromhex(sealed.nonce), bytes.fromhex(sealed.ciphertext), _associated(file)
        )
    except InvalidTag:
        raise WrongPassphrase("wrong passphrase", path, "Try again") from None
    signer = Ed25519Signer(seed)
    if signer.public_key != info.public_key:
        raise KeystoreError(
            "the sealed key is not the one the file names", path, "Restore it from its backup"
        )
    return Keystore(info, seed, signer)


def read_passphrase(
    file: Path | None = None,
    prompt: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    ask: Callable[[str], str] = getpass.getpass,
) -> str:
    """The passphrase, from the first of: `file`, $NOSTRO_PASSPHRASE_FILE, $NOSTRO_PASSPHRASE, a
    prompt on the terminal (if `prompt` is given). A file's final line break is not part of it.

    Raises KeystoreError."""
    environment = os.environ if environment is None else environment
    if file is None and environment.get(ENV_PASSPHRASE_FILE):
        file = Path(environment[ENV_PASSPHRASE_FILE])
    if file is not None:
        _check_private(file, "passphrase file")
        try:
            return file.read_text("utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise KeystoreError(f"cannot read the passphrase: {error}", file, "Check it") from None
    if ENV_PASSPHRASE in environment:
        return environment[ENV_PASSPHRASE]
    if prompt is None:
        raise KeystoreError(
            "no passphrase given",
            "passphrase",
            f"Set {ENV_PASSPHRASE_FILE} or {ENV_PASSPHRASE}, or run it on a terminal",
        )
    try:
        return ask(prompt)
    except (EOFError, KeyboardInterrupt):
        raise KeystoreError("no passphrase entered", "prompt", "Try again") from None


# --- own ----------------------------------------------------------------------------------------


def _read(path: Path) -> _File:
    _check_private(path, "key file")
    data = path.read_bytes()
    if len(data) > MAX_KEYSTORE_BYTES:
        raise KeystoreError(f"larger than {MAX_KEYSTORE_BYTES} bytes", path, "Not a key file")
    restore = "Restore it from its backup"
    try:
        file = msgspec.json.decode(data, type=_File)
    except UNDECODABLE as error:
        raise KeystoreError(f"not a key file, or damaged: {error}", path, restore) from None
    if file.format != FORMAT:
        raise KeystoreError(
            f"format {file.format!r}, this program reads {FORMAT}", path, "Use its own version"
        )
    if file.checksum != _checksum(file):
        raise KeystoreError("damaged or edited: its checksum does not match", path, restore)
    scrypt = file.scrypt
    cost_ok = (scrypt.r, scrypt.p) == (_SCRYPT_R, _SCRYPT_P) and scrypt.n in (
        {2**power for power in range(12, 21)}
    )
    sizes_ok = len(file.public_key) == 64 and len(file.chacha20_poly1305.nonce) == 24
    if not cost_ok or not sizes_ok or file.role not in ROLES:
        raise KeystoreError("a field is out of range", path, restore)
    if not file.devnet and scrypt.n < SCRYPT_N:
        raise KeystoreError("its scrypt cost is below production's", path, "Make a new key file")
    return file


def _info(file: _File) -> KeyInfo:
    return KeyInfo(file.role, file.name, file.lei, bytes.fromhex(file.public_key), file.devnet)


def _check_private(path: Path, what: str) -> None:
    """Mode bits are looked at, not tried: root can open everything. Raises KeystoreError."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise KeystoreError(f"the {what} is missing", path, "Check the path") from None
    except OSError as error:
        raise KeystoreError(f"cannot read the {what}: {error.strerror}", path, "Check it") from None
    if not stat.S_ISREG(status.st_mode):
        raise KeystoreError(f"the {what} is not a regular file", path, "Check the path")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077 or mode & 0o111:
        raise KeystoreError(
            f"the {what} has mode {mode:04o}: others may read or change it",
            path,
            f"chmod 600 {path}, and treat the key as exposed if others had access",
        )
    if status.st_uid != os.geteuid():
        raise KeystoreError(
            f"the {what} belongs to user id {status.st_uid}, not to this process's {os.geteuid()}",
            path,
            "Run as its owner, or chown it",
        )


def _derive(scrypt: _Scrypt, passphrase: str) -> bytes:
    kdf = Scrypt(salt=bytes.fromhex(scrypt.salt), length=32, n=scrypt.n, r=scrypt.r, p=scrypt.p)
    return kdf.derive(passphrase.encode("utf-8"))


def _associated(file: _File) -> bytes:
    """Everything in clear, so that none of it can be changed under the seal."""
    cost = file.scrypt
    return encode(
        (
            *(file.format, file.role, file.name, file.lei, file.public_key, file.devnet),
            *(cost.n, cost.r, cost.p, cost.salt, file.chacha20_poly1305.nonce),
        )
    )


def _checksum(file: _File) -> str:
    sealed = file.chacha20_poly1305.ciphertext
    return hashlib.sha256(_associated(file) + sealed.encode("ascii")).hexdigest()[:32]
