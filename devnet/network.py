"""What a devnet is on disk: a genesis file, a home for each node, a keystore for each bank.

A directory is a devnet once its settings file is there, which is written last: one that was
left half made is made anew. A devnet that was stopped is opened again with its chain.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from devnet import identity, profiles
from devnet.ports import HOST, NodePorts, choose, is_free
from devnet.profiles import PROFILES, Extra, Profile
from node.chain.genesis import Genesis, dump_genesis, genesis_key, genesis_validator, load_genesis
from node.chain.genesis_file import GenesisAsset, GenesisParameters, GenesisParticipant
from node.chain.signature import Ed25519Signer
from node.storage.config import Address, NodeConfig, load_config, render_config
from node.storage.disk import write_file
from node.storage.home import create_home
from node.storage.keystore import (
    ENV_PASSPHRASE,
    ENV_PASSPHRASE_FILE,
    create_keystore,
    seal_key,
)

FORMAT = "nostro-devnet/1"
SETTINGS = "settings.json"
DESCRIPTION = "devnet.json"
GENESIS = "genesis.json"
BEGUN = "incomplete"
"""Marks a directory that is being made, so that only such a one is ever cleared."""
PARTS = ("nodes", "participants", "logs", GENESIS, DESCRIPTION, SETTINGS)
OURS = frozenset({"supervisor.lock", "supervisor.sock", "supervisor.log"})
"""What the supervisor makes beside them."""
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
    profile: str = profiles.DEFAULT


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

    @property
    def profile(self) -> Profile:
        """What kind of system it is."""
        return PROFILES[self.settings.profile]

    @property
    def banks(self) -> tuple[GenesisParticipant, ...]:
        """The participants that are neither the central bank nor the profile's own."""
        return self.genesis.participants[1 : 1 + self.settings.banks]

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

    def node_environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """The supervisor's own environment, with the passphrase of a devnet's keys."""
        kept = {name: value for name, value in own.items() if name != ENV_PASSPHRASE_FILE}
        return {**kept, ENV_PASSPHRASE: identity.PASSPHRASE}

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
    directory: Path,
    *,
    validators: int,
    banks: int,
    seed: int,
    base_port: int,
    now: int,
    profile: str = profiles.DEFAULT,
) -> Network:
    """Make a new devnet in an empty or missing directory. `now`: ms since the Unix epoch;
    `profile`: a name in `profiles.PROFILES`.

    Raises DevnetUnusable, PortsTaken, OSError.
    """
    directory = directory.absolute()
    _make_room(directory)
    ports = choose(validators, base_port)
    network = f"devnet-{seed}"
    settings = Settings(FORMAT, network, validators, banks, seed, base_port, ports, profile)
    data = _genesis(settings, now)
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
        _move_node(moved, index)
    data = msgspec.json.format(msgspec.json.encode(moved.settings)) + b"\n"
    _write(network.directory / SETTINGS, data)
    return moved


# --- making one -------------------------------------------------------------------------------


def claim(directory: Path) -> None:
    """See that a directory is there and is a devnet's, or free to become one's.

    Raises DevnetUnusable.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        entries = sorted(entry.name for entry in directory.iterdir())
    except OSError as error:
        raise DevnetUnusable(
            f"cannot use {directory} for a devnet: {error.strerror}; choose another directory "
            "with --dir"
        ) from error
    if BEGUN in entries or SETTINGS in entries:
        return
    others = [name for name in entries if name not in OURS]
    if others:
        raise DevnetUnusable(
            f"{directory} holds other things than a devnet ({others[0]}, …); choose an empty or "
            "new directory with --dir"
        )


def _make_room(directory: Path) -> None:
    claim(directory)
    if (directory / BEGUN).exists():
        for part in PARTS:
            path = directory / part
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    (directory / BEGUN).touch()


def _signer(seed: int, role: str, holder: str) -> Ed25519Signer:
    return Ed25519Signer(identity.key_seed(seed, role, holder))


def _genesis(settings: Settings, now: int) -> bytes:
    network, seed, profile = settings.network, settings.seed, PROFILES[settings.profile]
    names = identity.participant_names(settings.banks)
    issuer = identity.lei(identity.CENTRAL_BANK)
    participants = []
    for index, name in enumerate(names):
        lei = identity.lei(name)
        own = ("direct-participant", "validator") if index else ("issuer",)
        if name in identity.OPERATORS:
            own = (*own, "operator")
        key = genesis_key(_signer(seed, "participant", name), network, lei)
        participants.append(
            GenesisParticipant(name, lei, identity.bic(index), own, threshold=1, keys=(key,))
        )
    for index, extra in enumerate(profile.extras, len(names)):
        participants.append(_extra(extra, index, network, seed))
    return dump_genesis(
        network=network,
        devnet=True,
        time=now,
        assets=[
            *(GenesisAsset(code, exponent, issuer) for code, exponent in CURRENCIES),
            *profile.assets(),
        ],
        participants=participants,
        validators=[
            genesis_validator(
                identity.node_name(index),
                identity.lei(identity.bank_name(index % settings.banks)),
                network=network,
                vote=_signer(seed, "vote", identity.node_name(index)),
                node=_signer(seed, "node", identity.node_name(index)),
            )
            for index in range(settings.validators)
        ],
        parameters=GenesisParameters(
            governance_threshold=len(identity.OPERATORS),
            readiness_ms=identity.READINESS_MS,
            close_rule=msgspec.UNSET if profile.close_rule is None else profile.close_rule,
        ),
        schedule=profile.schedule(now),
        netting=profile.netting(),
        members=profile.members(names[1:]),
        policies=profile.policies(names[1:]),
    )


def _extra(extra: Extra, index: int, network: str, seed: int) -> GenesisParticipant:
    lei = identity.lei(extra.name)
    return GenesisParticipant(
        extra.name,
        lei,
        identity.bic(index),
        extra.roles,
        threshold=1,
        keys=(genesis_key(_signer(seed, "participant", extra.name), network, lei),),
        sponsor=None if extra.sponsor is None else identity.lei(extra.sponsor),
    )


def _create_participant(network: Network, participant: GenesisParticipant) -> None:
    create_keystore(
        network.keystore(participant.name),
        role="participant",
        name=participant.name,
        lei=participant.lei,
        passphrase=identity.PASSPHRASE,
        seed=identity.key_seed(network.settings.seed, "participant", participant.name),
        devnet=True,
    )


def _create_node(network: Network, index: int, genesis: bytes) -> None:
    name = identity.node_name(index)
    operator = network.genesis.validator_set.validators[index].operator

    def sealed(role: str) -> bytes:
        seed = identity.key_seed(network.settings.seed, role, name)
        return seal_key(
            role=role,
            name=name,
            lei=operator,
            seed=seed,
            passphrase=identity.PASSPHRASE,
            devnet=True,
        )

    create_home(
        network.home(name),
        genesis=genesis,
        config=_config(network.settings, index),
        node_key=sealed("node"),
        vote_key=sealed("vote"),
    )


def _config(settings: Settings, index: int) -> NodeConfig:
    own = settings.ports[index]
    return NodeConfig(
        name=identity.node_name(index),
        p2p=Address(HOST, own.p2p),
        api=Address(HOST, own.api),
        operator=Address(HOST, own.operator),
        peers={
            identity.node_name(other): Address(HOST, ports.p2p)
            for other, ports in enumerate(settings.ports)
            if other != index
        },
    )


def _move_node(network: Network, index: int) -> None:
    """Give a node its new addresses, leaving what else its config says as it is."""
    path = network.home(identity.node_name(index)) / "config.toml"
    moved = _config(network.settings, index)
    config = dataclasses.replace(
        load_config(path), p2p=moved.p2p, api=moved.api, operator=moved.operator, peers=moved.peers
    )
    write_file(path, render_config(config).encode())


def _write(path: Path, data: bytes) -> None:
    """Replace a file in one step: a reader sees the old or the new one, never a half."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    os.replace(new, path)
