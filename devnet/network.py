"""What a devnet is on disk: a genesis file, a home for each node, a keystore for each bank.

A directory is a devnet once its settings file is there, which is written last: one that was
left half made is made anew. A devnet that was stopped is opened again with its chain.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from devnet import identity
from devnet.ports import HOST, NodePorts, choose, is_free
from node.chain.genesis import (
    Genesis,
    GenesisAsset,
    GenesisParticipant,
    dump_genesis,
    genesis_key,
    genesis_validator,
    load_genesis,
)
from node.chain.signature import Ed25519Signer

FORMAT = "nostro-devnet/1"
SETTINGS = "settings.json"
DESCRIPTION = "devnet.json"
GENESIS = "genesis.json"
BEGUN = "incomplete"
"""Marks a directory that is being made, so that only such a one is ever cleared."""
PARTS = ("nodes", "participants", "logs", GENESIS, DESCRIPTION, SETTINGS)
CURRENCIES = (("CNY", 2), ("EUR", 2))
"""(ISO 4217 code, decimal places)."""
MAX_VALIDATORS = 16
"""Each is a process of about a hundred megabytes."""


class DevnetUnusable(Exception):
    """A directory holds no devnet that this program can run; the text says why and what to do."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a devnet was made with."""

    format: str
    network: str
    validators: int
    banks: int
    seed: int
    base_port: int
    """0: free ports were chosen, and are chosen anew where one is taken."""
    ports: list[NodePorts]


@dataclass(frozen=True, slots=True)
class Network:
    """An existing devnet."""

    directory: Path
    """Absolute."""
    settings: Settings
    genesis: Genesis

    @property
    def node_names(self) -> list[str]:
        return [identity.node_name(index) for index in range(self.settings.validators)]

    def home(self, node: str) -> Path:
        return self.directory / "nodes" / node

    def log(self, node: str) -> Path:
        return self.directory / "logs" / f"{node}.log"

    def api(self, node: str) -> str:
        """Base URL of a node's API."""
        index = self.node_names.index(node)
        return f"http://{HOST}:{self.settings.ports[index].api}"

    def keystore(self, participant: str) -> Path:
        return self.directory / "participants" / f"{participant}.json"

    def participant_api(self, index: int) -> str:
        """The API that participant `index` of the genesis file uses: bank i uses node i."""
        return self.api(identity.node_name(max(0, index - 1) % self.settings.validators))

    def node_environment(self) -> dict[str, str]:
        """What a node process needs besides the supervisor's own environment."""
        return {"NOSTRO_PASSPHRASE": identity.PASSPHRASE}

    def signer(self, participant: str) -> Ed25519Signer:
        """The participant's key, from the seed: what is in its keystore."""
        return _signer(self.settings.seed, "participant", participant)

    def write_description(self, pids: dict[str, int | None]) -> None:
        """Write devnet.json, which scripts read; `pids` of the processes that run now."""
        description: dict[str, Any] = {
            "chain_id": self.genesis.chain_id.hex(),
            "genesis": str(self.directory / GENESIS),
            "nodes": [
                {
                    "name": name,
                    "home": str(self.home(name)),
                    "api": self.api(name),
                    "p2p": f"{HOST}:{ports.p2p}",
                    "pid": pids.get(name),
                }
                for name, ports in zip(self.node_names, self.settings.ports, strict=True)
            ],
            "participants": [
                {
                    "name": participant.name,
                    "lei": participant.lei,
                    "bic": participant.bic,
                    "keystore": str(self.keystore(participant.name)),
                    "api": self.participant_api(index),
                }
                for index, participant in enumerate(self.genesis.participants)
            ],
            "currencies": [
                {"code": asset.code, "exponent": asset.exponent} for asset in self.genesis.assets
            ],
        }
        _write(self.directory / DESCRIPTION, json.dumps(description, indent=2).encode() + b"\n")


def create(
    directory: Path, *, validators: int, banks: int, seed: int, base_port: int, now: int
) -> Network:
    """Make a new devnet in an empty or missing directory. `now`: ms since the Unix epoch.

    Raises DevnetUnusable, PortsTaken, OSError.
    """
    directory = directory.absolute()
    _make_room(directory)
    ports = choose(validators, base_port)
    network = f"devnet-{seed}"
    data = _genesis(network, validators, banks, seed, now)
    settings = Settings(FORMAT, network, validators, banks, seed, base_port, ports)
    made = Network(directory, settings, load_genesis(data))
    _write(directory / GENESIS, data)
    (directory / "logs").mkdir()
    (directory / "participants").mkdir(mode=0o700)
    for participant in made.genesis.participants:
        _create_participant(made, participant)
    (directory / "nodes").mkdir(mode=0o700)
    for index in range(validators):
        _create_node(made, index, data)
    made.write_description({})
    _write(directory / SETTINGS, msgspec.json.format(msgspec.json.encode(settings)) + b"\n")
    (directory / BEGUN).unlink()
    return made


def exists(directory: Path) -> bool:
    """Whether a devnet was completely made here."""
    return (directory / SETTINGS).exists()


def open_existing(directory: Path) -> Network:
    """Open a devnet that was made before. Raises DevnetUnusable."""
    directory = directory.absolute()
    remedy = f"remove the directory (rm -r {directory}) or choose another one with --dir"
    try:
        data = (directory / SETTINGS).read_bytes()
    except FileNotFoundError:
        raise DevnetUnusable(
            f"there is no devnet in {directory}; make one with: nostro devnet up --dir {directory}"
        ) from None
    try:
        found = json.loads(data).get("format")
        if found != FORMAT:
            raise DevnetUnusable(
                f"the devnet in {directory} has format {found!r}, this version makes and runs "
                f"{FORMAT!r}; {remedy}"
            )
        settings = msgspec.json.decode(data, type=Settings)
        genesis = load_genesis((directory / GENESIS).read_bytes())
    except (OSError, ValueError, AttributeError) as error:
        raise DevnetUnusable(f"the devnet in {directory} is damaged: {error}; {remedy}") from error
    return Network(directory, settings, genesis)


def with_usable_ports(network: Network) -> Network:
    """The network with other ports if its own were chosen freely and one has been taken since."""
    if network.settings.base_port or all(
        is_free(port) for node in network.settings.ports for port in node
    ):
        return network
    ports = choose(network.settings.validators, 0)
    moved = Network(
        network.directory, msgspec.structs.replace(network.settings, ports=ports), network.genesis
    )
    for index in range(network.settings.validators):
        _write_config(moved, index)
    data = msgspec.json.format(msgspec.json.encode(moved.settings)) + b"\n"
    _write(network.directory / SETTINGS, data)
    return moved


# --- making one -------------------------------------------------------------------------------


def _make_room(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / BEGUN).exists():
        for part in PARTS:
            path = directory / part
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    ours = {BEGUN, "supervisor.lock", "supervisor.sock", "supervisor.log"}
    others = sorted(entry.name for entry in directory.iterdir() if entry.name not in ours)
    if others:
        raise DevnetUnusable(
            f"{directory} holds other things than a devnet ({others[0]}, …); choose an empty or "
            "new directory with --dir"
        )
    (directory / BEGUN).touch()


def _signer(seed: int, role: str, holder: str) -> Ed25519Signer:
    return Ed25519Signer(identity.key_seed(seed, role, holder))


def _genesis(network: str, validators: int, banks: int, seed: int, now: int) -> bytes:
    names = identity.participant_names(banks)
    issuer = identity.lei(identity.CENTRAL_BANK)
    participants = []
    for index, name in enumerate(names):
        lei = identity.lei(name)
        own = ("direct-participant", "validator") if index else ("issuer", "operator")
        key = genesis_key(_signer(seed, "participant", name), network, lei)
        participants.append(
            GenesisParticipant(name, lei, identity.bic(index), own, threshold=1, keys=(key,))
        )
    return dump_genesis(
        network=network,
        devnet=True,
        time=now,
        assets=[GenesisAsset(code, exponent, issuer) for code, exponent in CURRENCIES],
        participants=participants,
        validators=[
            genesis_validator(
                identity.node_name(index),
                identity.lei(identity.bank_name(index % banks)),
                network=network,
                vote=_signer(seed, "vote", identity.node_name(index)),
                node=_signer(seed, "node", identity.node_name(index)),
            )
            for index in range(validators)
        ],
    )


def _write(path: Path, data: bytes) -> None:
    """Replace a file in one step: a reader sees the old or the new one, never a half."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    os.replace(new, path)
