"""Where a command connects, and which key signs.

`--devnet DIR` (default `.devnet`, if it is there) knows all of a devnet's nodes and keystores;
`--config FILE` and `--api URL --keystore FILE` are for one participant. A signature binds a
chain: where a chain id is known here, a node of another chain is refused before anything is
signed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.errors import CommandError, usage

if TYPE_CHECKING:
    from node.api.service import ParticipantView
    from node.storage.keystore import Keystore

DEFAULT_DEVNET = Path(".devnet")
DESCRIPTION = "devnet.json"
MAX_INPUT_BYTES = 320 * 1024 * 1024
"""Of any file that is read whole; a file of payments is the largest."""
CONFIG_KEYS = frozenset({"api", "keystore", "passphrase_file", "chain_id", "receipts"})


@dataclass(frozen=True, slots=True)
class DevnetParticipant:
    name: str
    lei: str
    bic: str
    keystore: Path
    api: str


@dataclass(frozen=True, slots=True)
class Connection:
    """What was given on the command line, read and checked."""

    apis: tuple[str, ...]
    keystores: tuple[Path, ...] = ()
    """Of one participant; as many as must sign."""
    passphrase_file: Path | None = None
    chain_id: bytes | None = None
    """The chain to sign for, if known here."""
    receipts: Path | None = None
    """Directory where the nodes' receipts are kept."""
    devnet: tuple[DevnetParticipant, ...] = ()
    _opened: dict[Path, Keystore] = field(default_factory=dict)

    def urls(self, participant: str | None = None) -> list[str]:
        """Nodes to ask, the participant's own first."""
        own = [p.api for p in self.devnet if participant in (p.name, p.lei, p.bic)]
        return list(dict.fromkeys([*own, *self.apis]))

    def keystore_paths(self, participant: ParticipantView) -> list[Path]:
        """The key files that sign for a participant. Raises CommandError."""
        if self.devnet:
            for known in self.devnet:
                if known.lei == participant.lei:
                    return [known.keystore]
            raise CommandError(
                f"the devnet has no keystore of {participant.name}; those it has are of "
                + ", ".join(p.name for p in self.devnet)
            )
        if not self.keystores:
            raise usage(
                f"no key to sign for {participant.name}; give --keystore FILE, or `keystore` in "
                "the configuration file"
            )
        return list(self.keystores)

    def open(self, path: Path, passphrase_file: Path | None) -> Keystore:
        """An opened key file; each is opened once. Raises KeystoreError."""
        keystore = self._opened.get(path)
        if keystore is None:
            keystore = open_key(path, passphrase_file)
            self._opened[path] = keystore
        return keystore


def open_key(path: Path, passphrase_file: Path | None) -> Keystore:
    """Open a participant's key file, with the passphrase from a file, the environment, or a
    prompt on a terminal; that of a devnet key is known. Raises KeystoreError."""
    # Here, so that commands without keys (`nostro verify`) do without these libraries.
    from node.storage.keystore import (  # noqa: PLC0415
        DEVNET_PASSPHRASE,
        open_keystore,
        read_key_info,
        read_passphrase,
    )

    if read_key_info(path).devnet:
        passphrase = DEVNET_PASSPHRASE
    else:
        prompt = f"Passphrase of {path}: " if sys.stdin.isatty() else None
        passphrase = read_passphrase(passphrase_file, prompt)
    return open_keystore(path, passphrase, role="participant")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say where to connect."""
    group = parser.add_argument_group("where to connect")
    group.add_argument(
        "--devnet", metavar="DIR", type=Path, help="a devnet's directory (default: .devnet)"
    )
    group.add_argument("--config", metavar="FILE", type=Path, help="a participant's TOML file")
    group.add_argument(
        "--api", metavar="URL", action="append", help="a node's API; several are tried in order"
    )


def connect(args: argparse.Namespace) -> Connection:
    """The connection that the options name. Raises CommandError."""
    keystores: list[Path] = getattr(args, "keystores", [])
    given = [name for name in ("devnet", "config", "api") if getattr(args, name, None) is not None]
    if len(given) > 1:
        raise usage(f"--{given[0]} and --{given[1]} exclude each other")
    if args.api:
        return _with_options(Connection(tuple(_url(url) for url in args.api)), args)
    if keystores and not given:
        raise usage("--keystore needs --api URL beside it")
    if args.config is not None:
        return _with_options(_from_config(args.config), args)
    directory: Path = args.devnet or DEFAULT_DEVNET
    if args.devnet is None and not (directory / DESCRIPTION).exists():
        raise usage(
            "nowhere to connect to: there is no .devnet here. Give --devnet DIR, --config FILE or "
            "--api URL; a devnet starts with: nostro devnet up"
        )
    if keystores:
        raise usage("--devnet knows its keystores; leave --keystore out or use --api")
    return _with_options(_from_devnet(directory), args)


def _with_options(connection: Connection, args: argparse.Namespace) -> Connection:
    keystores = tuple(getattr(args, "keystores", ())) or connection.keystores
    files: list[Path] = getattr(args, "passphrase_files", [])
    receipts: Path | None = getattr(args, "receipts", None) or connection.receipts
    if receipts is None and keystores:
        receipts = keystores[0].parent / "receipts"
    return Connection(
        apis=connection.apis,
        keystores=keystores,
        passphrase_file=files[0] if files else connection.passphrase_file,
        chain_id=connection.chain_id,
        receipts=receipts,
        devnet=connection.devnet,
    )


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise usage(f"{text!r} is not the URL of an API, such as http://127.0.0.1:8080")
    return text


def read_input(path: Path, what: str) -> bytes:
    """The bytes of a file that the user named. Raises CommandError (64) if it cannot be read, or
    has more than `MAX_INPUT_BYTES`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_INPUT_BYTES + 1)
    except OSError as error:
        raise usage(f"cannot read {what} {path}: {error.strerror or error}") from error
    if len(data) > MAX_INPUT_BYTES:
        raise usage(f"{path} has over {MAX_INPUT_BYTES:,} bytes: it is not {what}")
    return data


def _from_devnet(directory: Path) -> Connection:
    path = directory / DESCRIPTION
    if not path.exists():
        raise usage(
            f"there is no devnet in {directory} (no {DESCRIPTION}); start one with: "
            f"nostro devnet up --dir {directory}"
        )
    try:
        found = json.loads(read_input(path, "the devnet's description"))
        return Connection(
            apis=tuple(str(node["api"]) for node in found["nodes"]),
            chain_id=bytes.fromhex(found["chain_id"]),
            receipts=directory / "receipts",
            devnet=tuple(
                DevnetParticipant(p["name"], p["lei"], p["bic"], Path(p["keystore"]), p["api"])
                for p in found["participants"]
            ),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise usage(
            f"{path} is damaged ({type(error).__name__}: {error}); write it anew with: "
            f"nostro devnet up --dir {directory}"
        ) from error


def _from_config(path: Path) -> Connection:
    try:
        config: dict[str, Any] = tomllib.loads(read_input(path, "the configuration").decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise usage(f"{path} is not TOML: {error}") from error
    unknown = sorted(set(config) - CONFIG_KEYS)
    if unknown:
        raise usage(
            f"{path}: unknown key {unknown[0]!r}; known are {', '.join(sorted(CONFIG_KEYS))}"
        )
    apis = config.get("api")
    apis = [apis] if isinstance(apis, str) else apis
    if not isinstance(apis, list) or not apis or not all(isinstance(url, str) for url in apis):
        raise usage(f"{path}: `api` must be the URL of a node's API, or a list of some")
    for key in ("passphrase_file", "receipts", "chain_id"):
        if key in config and not isinstance(config[key], str):
            raise usage(f"{path}: `{key}` must be a text")
    keystores = config.get("keystore", [])
    keystores = [keystores] if isinstance(keystores, str) else keystores
    if not isinstance(keystores, list) or not all(isinstance(each, str) for each in keystores):
        raise usage(f"{path}: `keystore` must be a file's name, or a list of some")

    def beside(key: str) -> Path | None:
        return path.parent / config[key] if key in config else None

    return Connection(
        apis=tuple(_url(url) for url in apis),
        keystores=tuple(path.parent / each for each in keystores),
        passphrase_file=beside("passphrase_file"),
        chain_id=_chain_id(path, config.get("chain_id")),
        receipts=beside("receipts"),
    )


def _chain_id(path: Path, text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        chain_id = bytes.fromhex(text)
    except ValueError:
        chain_id = b""
    if len(chain_id) != 32:
        raise usage(f"{path}: `chain_id` must be 64 hexadecimal digits")
    return chain_id
