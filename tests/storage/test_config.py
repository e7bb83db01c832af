"""A config reads back what was rendered, and every mistake is named by file and key."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.interface import Timing
from node.storage.config import (
    Address,
    Join,
    MempoolLimits,
    NodeConfig,
    Retention,
    load_config,
    parse_address,
    parse_config,
    render_config,
)
from node.storage.errors import ConfigError

GOOD = """
[node]
name = "node0"
[p2p]
host = "0.0.0.0"
port = 7000
[api]
host = "127.0.0.1"
port = 7001
[operator]
host = "::1"
port = 7002
[peers]
node1 = "bank-b.example:7000"
node2 = "[2001:db8::1]:7000"
[consensus]
delta_ms = 250
[mempool]
per_sender = 100
"""


def load(tmp_path: Path, text: str) -> NodeConfig:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_config(path)


def test_a_good_config_says_what_it_says(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.name == "node0"
    assert config.p2p == Address("0.0.0.0", 7000)
    assert config.operator == Address("::1", 7002)
    assert config.peers == {
        "node1": Address("bank-b.example", 7000),
        "node2": Address("2001:db8::1", 7000),
    }
    assert config.timing == Timing(delta=250)
    assert config.mempool == MempoolLimits(per_sender=100)


def test_what_was_rendered_reads_back(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert load(tmp_path, render_config(config)) == config
    plain = NodeConfig("n", Address("a", 0), Address("127.0.0.1", 1), Address("::1", 65_535))
    assert load(tmp_path, render_config(plain)) == plain


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ('name = "node0"', "", "node.name", "not a name"),
        ('name = "node0"', 'name = "a b"', "node.name", "not a name"),
        ('name = "node0"', 'name = "x"\ncolour = 1', "node.colour", "unknown key"),
        ("[mempool]", "[mempol]", "mempol", "unknown key"),
        ("port = 7000\n[api]", "port = 70000\n[api]", "p2p.port", "from 0 to 65535"),
        ("port = 7000\n[api]", "port = true\n[api]", "p2p.port", "not a number"),
        ("port = 7000\n[api]", "[api]", "p2p.port", "missing"),
        ('host = "0.0.0.0"', "host = 1", "p2p.host", "not a host"),
        ('host = "127.0.0.1"', 'host = "0.0.0.0"', "api.host", "not a loopback"),
        ('host = "127.0.0.1"', 'host = "bank.example"', "api.host", "not a loopback"),
        ('host = "::1"', 'host = "10.0.0.1"', "operator.host", "not a loopback"),
        ('"bank-b.example:7000"', '"bank-b.example"', "peers.node1", "host:port"),
        ('"bank-b.example:7000"', "7000", "peers.node1", "host:port"),
        ('"[2001:db8::1]:7000"', '"2001:db8::1:7000"', "peers.node2", "brackets"),
        ("delta_ms = 250", "delta = 250", "consensus.delta", "unknown key"),
        ("delta_ms = 250", "delta_ms = 0", "consensus.delta_ms", "not a number from 1"),
        ("delta_ms = 250", "delta_ms = 0.25", "consensus.delta_ms", "not a number"),
        ("delta_ms = 250", "delta_ms = 2000", "consensus.skip_timeout_ms", "3 × delta_ms"),
        ("delta_ms = 250", "timer_cap_ms = 100", "consensus.timer_cap_ms", "below 3"),
        ("delta_ms = 250", "drift_ms = 1000", "consensus.drift_ms", "at least timer_cap_ms"),
        ("per_sender = 100", "per_sender = -1", "mempool.per_sender", "not a number"),
    ],
)
def test_a_mistake_is_named_by_file_and_key(
    tmp_path: Path, old: str, new: str, key: str, says: str
) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=says) as error:
        load(tmp_path, GOOD.replace(old, new))
    assert error.value.where == f"{tmp_path / 'config.toml'}, key {key}"


@pytest.mark.parametrize("section", ["node", "p2p", "api", "operator"])
def test_a_missing_section_is_named(tmp_path: Path, section: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown key|missing"):
        load(tmp_path, GOOD.replace(f"[{section}]", "[elsewhere]"))


def test_a_value_where_a_section_belongs_is_named(tmp_path: Path) -> None:
    good = tomllib.loads(GOOD)
    for section in ("node", "peers", "p2p", "consensus", "mempool"):
        with pytest.raises(ConfigError, match="not a section"):
            parse_config({**good, section: 3}, tmp_path)


def test_what_is_no_toml_or_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not TOML.*line 1"):
        load(tmp_path, "[node\n")
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(tmp_path / "config.toml")
    with pytest.raises(ConfigError, match="missing"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="larger than"):
        load(tmp_path, "#" * 300_000)


@pytest.mark.parametrize("text", ["", ":", ":1", "a:", "a:b", "a:٣", "a:99999", "a:123456", "a:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|port must be"):
        parse_address(text)


def test_sources_and_retention_read_back_as_written(tmp_path: Path) -> None:
    here = Address("127.0.0.1", 0)
    config = NodeConfig(
        "watcher",
        here,
        here,
        here,
        join=Join(("http://127.0.0.1:4101", "https://node1.example"), snapshot=False),
        storage=Retention("pruned", 50),
    )
    path = tmp_path / "config.toml"
    path.write_text(render_config(config))
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ('[join]\nurls = ["127.0.0.1:4101"]', "join.urls"),
        ("[join]\nurls = []", "join.urls"),
        ('[join]\nurls = ["http://a/b"]', "join.urls"),
        ('[join]\nurls = ["http://a"]\nsnapshot = 1', "join.snapshot"),
        ('[storage]\nmode = "small"', "storage.mode"),
        ("[storage]\nkeep_days = 0", "storage.keep_days"),
        ("[storage]\nkeep = 3", "storage.keep"),
    ],
)
def test_impossible_sources_and_retention_are_refused_by_key(
    tmp_path: Path, section: str, key: str
) -> None:
    here = Address("127.0.0.1", 0)
    path = tmp_path / "config.toml"
    path.write_text(f"{render_config(NodeConfig('watcher', here, here, here))}\n{section}\n")
    with pytest.raises(ConfigError, match=re.escape(key)):
        load_config(path)


@pytest.mark.parametrize("rules", ["0", "1001", '"1"', "true"])
def test_what_is_no_version_of_the_rules_is_refused(tmp_path: Path, rules: str) -> None:
    here = Address("127.0.0.1", 0)
    path = tmp_path / "config.toml"
    config = NodeConfig("node0", here, here, here)
    path.write_text(f"{render_config(config)}\n[devnet]\nrules = {rules}\n")
    with pytest.raises(ConfigError, match=r"devnet\.rules"):
        load_config(path)
    path.write_text(render_config(replace(config, devnet_rules=1)))
    assert load_config(path) == replace(config, devnet_rules=1)
