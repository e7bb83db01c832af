"""A node's config.toml: read, checked, written. An unknown or impossible value is refused by key.

[node]      name
[p2p]       host, port            where other validators connect
[api]       host, port            the participants' HTTP API
[operator]  host, port            /livez, /readyz, /metrics
[peers]     NAME = "host:port"    one line per other validator, by its name in the genesis file
[consensus] delta_ms, …           optional; all validators should use the same
[mempool]   max_instructions, max_bytes, per_sender       optional
[join]      urls, snapshot        optional: an observer's sources, and whether it starts from a
                                  snapshot of theirs instead of the first block
[storage]   mode, keep_days       optional: "archive" keeps everything, "pruned" lets go of blocks
                                  and old states after keep_days
[devnet]    rules                 optional, refused on any other network: the node takes itself for
                                  software that knows the rules up to this version only
"""

from __future__ import annotations

import ipaddress
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from consensus.interface import Timing
from node.storage.errors import ConfigError

MAX_CONFIG_BYTES = 256 * 1024
MAX_PORT = 65_535
MAX_TIMING = 24 * 3600 * 1000
"""No protocol duration exceeds a day, in milliseconds: above it is a slip of units."""

MAX_SOURCES = 16
"""URLs that an observer may follow."""
MAX_KEEP_DAYS = 36_500
MAX_RULES = 1_000
"""No version of the rules is above it."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_SECTIONS = {
    "node", "p2p", "api", "operator", "peers", "consensus", "mempool", "join", "storage", "devnet",
}  # fmt: skip
_UNITLESS = frozenset({"growth_percent", "max_unfinalized"})


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens or is reached. Port 0: any free one, told once it listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class MempoolLimits:
    max_instructions: int = 50_000
    max_bytes: int = 64 * 2**20
    per_sender: int = 20_000
    """Instructions of one sender that may wait at a time."""


@dataclass(frozen=True, slots=True)
class Join:
    """Where an observer gets the chain from. No source is trusted: everything is checked."""

    urls: tuple[str, ...] = ()
    """Base URLs of nodes' HTTP APIs, the preferred one first."""
    snapshot: bool = True
    """Whether an empty database starts from a snapshot; else from the first block."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What the database lets go of."""

    mode: Literal["archive", "pruned"] = "archive"
    keep_days: int = 40
    """In mode "pruned": how long blocks and the states after them are kept. At least the chain's
    UETR window and the longest validity of an instruction, plus a day."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The decoded config.toml."""

    name: str
    """This node's name in the validator set."""
    p2p: Address
    api: Address
    operator: Address
    peers: Mapping[str, Address] = field(default_factory=dict)
    timing: Timing = field(default_factory=Timing)
    mempool: MempoolLimits = field(default_factory=MempoolLimits)
    join: Join = field(default_factory=Join)
    storage: Retention = field(default_factory=Retention)
    devnet_rules: int | None = None
    """On a devnet: the last version of the rules that this node pretends to know."""


def load_config(path: Path) -> NodeConfig:
    """Read and check a config file. Raises ConfigError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError("the file is missing", path, "nostro init writes one") from None
    except OSError as error:
        raise ConfigError(f"cannot read it: {error.strerror}", path, "Check its owner") from None
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"larger than {MAX_CONFIG_BYTES} bytes", path, "Is it the right file?")
    try:
        text = data.decode("utf-8")
        document = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"not TOML: {error}", path, "Correct it and try again") from None
    return parse_config(document, path)


def parse_config(document: dict[str, Any], path: Path) -> NodeConfig:
    """Check a decoded document; `path` is for the messages. Raises ConfigError."""
    reader = _Reader(path)
    reader.known(document, "", _SECTIONS)
    node = reader.table(document, "node", {"name"})
    return NodeConfig(
        name=reader.name(node, "node", "name"),
        p2p=reader.listener(document, "p2p"),
        api=reader.loopback(document, "api"),
        operator=reader.loopback(document, "operator"),
        peers=reader.peers(document),
        timing=reader.timing(document),
        mempool=reader.mempool(document),
        join=reader.join(document),
        storage=reader.retention(document),
        devnet_rules=reader.devnet_rules(document),
    )


def render_config(config: NodeConfig) -> str:
    """The text of a config.toml that reads back as `config`; defaults are left out."""
    lines = ["[node]", f"name = {json.dumps(config.name)}", ""]
    for section in ("p2p", "api", "operator"):
        address: Address = getattr(config, section)
        lines += [
            f"[{section}]",
            f"host = {json.dumps(address.host)}",
            f"port = {address.port}",
            "",
        ]
    lines.append("[peers]")
    lines += [f"{json.dumps(name)} = {json.dumps(str(at))}" for name, at in config.peers.items()]
    default = Timing()
    timing = [
        f"{_timing_key(item.name)} = {getattr(config.timing, item.name)}"
        for item in fields(Timing)
        if getattr(config.timing, item.name) != getattr(default, item.name)
    ]
    if timing:
        lines += ["", "[consensus]", *timing]
    if config.mempool != MempoolLimits():
        lines += ["", "[mempool]"]
        lines += [f"{name} = {value}" for name, value in asdict(config.mempool).items()]
    if config.join != Join():
        lines += ["", "[join]", f"urls = {json.dumps(list(config.join.urls))}"]
        lines += [f"snapshot = {json.dumps(config.join.snapshot)}"]
    if config.storage != Retention():
        lines += ["", "[storage]", f"mode = {json.dumps(config.storage.mode)}"]
        lines += [f"keep_days = {config.storage.keep_days}"]
    if config.devnet_rules is not None:
        lines += ["", "[devnet]", f"rules = {config.devnet_rules}"]
    return "\n".join(lines) + "\n"


def parse_address(text: str) -> Address:
    """ "host:port", with IPv6 hosts in brackets. Raises ValueError with what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f'"{text}" is not "host:port"')
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f'"{text}": an IPv6 address needs brackets, as in "[::1]:4000"')
    if not port.isascii() or not port.isdecimal() or len(port) > 5 or int(port) > MAX_PORT:
        raise ValueError(f'"{text}": the port must be a number from 0 to {MAX_PORT}')
    return Address(host, int(port))


def parse_url(text: object) -> str:
    """The base URL of a node's HTTP API. Raises ValueError with what is wrong."""
    parts = urlsplit(text) if isinstance(text, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not the URL of a node, such as http://127.0.0.1:4180")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{text!r} has more than scheme, host and port")
    return f"{parts.scheme}://{parts.netloc}"


def peer_addresses(given: Sequence[str]) -> dict[str, Address]:
    """Addresses of validators from NAME=HOST:PORT. Raises ValueError with what is wrong."""
    peers = {}
    for text in given:
        name, _, address = text.partition("=")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{text!r} is not NAME=HOST:PORT")
        peers[name] = parse_address(address)
    return peers


class _Reader:
    """Takes values out of the document, each with its check and an error that names its key."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fail(self, key: str, what: str, remedy: str = "Correct it and try again") -> ConfigError:
        return ConfigError(what, f"{self._path}, key {key}", remedy)

    def known(self, table: dict[str, Any], section: str, allowed: set[str]) -> None:
        for key in sorted(table.keys() - allowed):
            full = f"{section}.{key}" if section else key
            raise self.fail(full, "unknown key", f"Known here: {', '.join(sorted(allowed))}")

    def table(
        self, document: dict[str, Any], section: str, allowed: set[str], optional: bool = False
    ) -> dict[str, Any]:
        table = document.get(section)
        if table is None and optional:
            return {}
        if not isinstance(table, dict):
            raise self.fail(section, "the section is missing" if table is None else "not a section")
        self.known(table, section, allowed)
        return table

    def name(self, table: dict[str, Any], section: str, key: str) -> str:
        value = table.get(key)
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise self.fail(
                f"{section}.{key}",
                f"{value!r} is not a name (1 to 32 letters, digits, dots, dashes, underscores)",
            )
        return value

    def number(self, table: dict[str, Any], section: str, key: str, low: int, high: int) -> int:
        value = table.get(key)
        if value is None:
            raise self.fail(f"{section}.{key}", "missing")
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.fail(f"{section}.{key}", f"{value!r} is not a number from {low} to {high}")
        return value

    def listener(self, document: dict[str, Any], section: str) -> Address:
        table = self.table(document, section, {"host", "port"})
        host = table.get("host")
        if not isinstance(host, str) or not host:
            raise self.fail(f"{section}.host", f"{host!r} is not a host name or address")
        return Address(host, self.number(table, section, "port", 0, MAX_PORT))

    def loopback(self, document: dict[str, Any], section: str) -> Address:
        """Without roles and client certificates, anyone who reaches this port may use it."""
        address = self.listener(document, section)
        if not _is_loopback(address.host):
            raise self.fail(
                f"{section}.host",
                f"{address.host} is not a loopback address, and this listener has no TLS and no "
                "client certificates yet",
                'Use "127.0.0.1" and put an authenticating proxy in front',
            )
        return address

    def peers(self, document: dict[str, Any]) -> dict[str, Address]:
        table = document.get("peers", {})
        if not isinstance(table, dict):
            raise self.fail("peers", "not a section")
        peers = {}
        for name, text in table.items():
            if not _NAME.fullmatch(name):
                raise self.fail(f"peers.{name}", "not a validator's name")
            try:
                peers[name] = parse_address(text if isinstance(text, str) else repr(text))
            except ValueError as error:
                raise self.fail(f"peers.{name}", str(error)) from None
        return peers

    def timing(self, document: dict[str, Any]) -> Timing:
        names = {_timing_key(item.name): item.name for item in fields(Timing)}
        table = self.table(document, "consensus", set(names), optional=True)
        values = {
            names[key]: self.number(table, "consensus", key, *_timing_range(names[key]))
            for key in table
        }
        timing = Timing(**values)
        if timing.skip_timeout <= max(3 * timing.delta, timing.retry):
            raise self.fail(
                "consensus.skip_timeout_ms",
                f"{timing.skip_timeout} must exceed 3 × delta_ms ({3 * timing.delta}) and retry_ms "
                f"({timing.retry}), or leaders are skipped that are merely one message late",
            )
        if timing.timer_cap < 3 * timing.delta:
            raise self.fail(
                "consensus.timer_cap_ms",
                f"{timing.timer_cap} is below 3 × delta_ms ({3 * timing.delta})",
            )
        if timing.drift < timing.timer_cap:
            raise self.fail(
                "consensus.drift_ms",
                f"{timing.drift} must be at least timer_cap_ms ({timing.timer_cap}) and twice the "
                "clock skew, or a block that waited for its view is refused as too old",
            )
        return timing

    def mempool(self, document: dict[str, Any]) -> MempoolLimits:
        known = {item.name for item in fields(MempoolLimits)}
        table = self.table(document, "mempool", known, optional=True)
        values = {key: self.number(table, "mempool", key, 1, 2**40) for key in table}
        return MempoolLimits(**values)

    def join(self, document: dict[str, Any]) -> Join:
        table = self.table(document, "join", {"urls", "snapshot"}, optional=True)
        if not table:
            return Join()
        urls, snapshot = table.get("urls", []), table.get("snapshot", True)
        if not isinstance(urls, list) or not 1 <= len(urls) <= MAX_SOURCES:
            raise self.fail("join.urls", f"not a list of 1 to {MAX_SOURCES} URLs")
        if not isinstance(snapshot, bool):
            raise self.fail("join.snapshot", f"{snapshot!r} is neither true nor false")
        try:
            return Join(tuple(dict.fromkeys(parse_url(url) for url in urls)), snapshot)
        except ValueError as error:
            raise self.fail("join.urls", str(error)) from None

    def retention(self, document: dict[str, Any]) -> Retention:
        table = self.table(document, "storage", {"mode", "keep_days"}, optional=True)
        default = Retention()
        mode = table.get("mode", default.mode)
        if mode not in ("archive", "pruned"):
            raise self.fail("storage.mode", f'{mode!r} is neither "archive" nor "pruned"')
        days = default.keep_days
        if "keep_days" in table:
            days = self.number(table, "storage", "keep_days", 1, MAX_KEEP_DAYS)
        return Retention(mode, days)

    def devnet_rules(self, document: dict[str, Any]) -> int | None:
        table = self.table(document, "devnet", {"rules"}, optional=True)
        if "rules" not in table:
            return None
        return self.number(table, "devnet", "rules", 1, MAX_RULES)


def _timing_key(name: str) -> str:
    return name if name in _UNITLESS else f"{name}_ms"


def _timing_range(name: str) -> tuple[int, int]:
    if name == "growth_percent":
        return 100, 1_000
    # Eight of the largest blocks are what one sync answer can hold.
    return (1, 8) if name == "max_unfinalized" else (1, MAX_TIMING)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
