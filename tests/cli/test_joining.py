"""Joining a running network, and backup and restore, with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from devnet.ports import choose
from node.api.client import ApiClient, ApiProblem
from node.api.service import StatusView
from node.chain.build import build_pay, gross_payment
from node.chain.signature import ROLE_NODE, ROLE_VOTE, check_possession
from node.cli.joining import read_candidate
from node.storage.chain_store import ChainStore
from node.storage.home import open_home
from tests.support.command import run
from tests.support.devnet import FINAL_SECONDS, Devnet, Processes, nostro
from tests.support.sync_source import sync_source

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("joining")]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    devnet = Devnet(tmp_path_factory.mktemp("joined"))
    devnet.up()
    yield devnet
    devnet.down()


class Observer:
    """An observer's home and its process."""

    def __init__(
        self, home: Path, *urls: str, genesis: Path, options: tuple[str, ...] = ()
    ) -> None:
        self.home = home
        [ports] = choose(1, 0)
        self.api = f"http://127.0.0.1:{ports.api}"
        sources = [part for url in urls for part in ("--join", url)]
        done = nostro(
            "init", *sources, "--genesis", str(genesis), "--home", str(home), "--json",
            "--api", f"127.0.0.1:{ports.api}", "--p2p", f"127.0.0.1:{ports.p2p}",
            "--operator-listener", f"127.0.0.1:{ports.operator}", *options,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.document = json.loads(done.stdout)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = open(self.home.with_suffix(".log"), "ab")  # noqa: SIM115 - the process has it
        self.process = subprocess.Popen(
            [sys.executable, "-m", "node.cli", "start", "--home", str(self.home)], stderr=log
        )
        log.close()

    def end(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(20)
        self.process = None

    def log(self) -> str:
        return self.home.with_suffix(".log").read_text()

    async def reaches(self, height: int) -> StatusView:
        """Its status, once it is that high."""
        async with asyncio.timeout(FINAL_SECONDS):
            while True:
                with contextlib.suppress(Exception):
                    async with ApiClient([self.api]) as client:
                        status = await client.status()
                        source = status.follows.source if status.follows is not None else None
                        if status.height >= height and source is not None:
                            return status
                await asyncio.sleep(0.05)


@pytest.fixture
def ended() -> Iterator[list[Observer]]:
    """Observers that a test started, ended whatever happens."""
    started: list[Observer] = []
    yield started
    for each in started:
        if each.process is not None:
            each.process.kill()
            each.process.wait()


async def height_of(network: Devnet, node: str) -> int:
    async with ApiClient([network.api(node)]) as client:
        return (await client.status()).height


def genesis_of(network: Devnet) -> Path:
    return network.directory / "genesis.json"


async def test_an_observer_starts_from_a_snapshot_follows_and_passes_payments_on(
    network: Devnet, tmp_path: Path, ended: list[Observer]
) -> None:
    observer = Observer(
        tmp_path / "watcher", network.api("node0"), network.api("node1"),
        genesis=genesis_of(network),
    )  # fmt: skip
    ended.append(observer)
    observer.start()
    status = await observer.reaches(await height_of(network, "node0"))
    assert "loading a snapshot" in observer.log()
    assert (status.validator, status.signing) == (None, False)
    assert status.follows is not None
    assert status.follows.source == network.api("node0")
    # A payment given to the observer settles on the network, and is known final here.
    raw, uetr = payment_order(network)
    async with ApiClient([observer.api]) as client:
        assert await client.submit(raw)
        view = await client.payment(uetr, wait=FINAL_SECONDS)
    assert view is not None
    assert view.status == "settled"
    async with ApiClient([network.api("node2")]) as client:
        assert await client.payment(uetr, wait=FINAL_SECONDS) is not None
    doctor = nostro("doctor", "--home", str(observer.home))
    assert "this node observes through" in doctor.stdout
    assert "fail" not in doctor.stdout, doctor.stdout
    # Its evidence needs the state before the block: it has that of what it executed itself.
    dossier = tmp_path / "payment.dossier"
    made = nostro("evidence", uetr, "-o", str(dossier), "--api", observer.api)
    assert made.returncode == 0, made.stderr
    checked = nostro("verify", str(dossier), "--genesis", str(genesis_of(network)))
    assert checked.returncode == 0, checked.stdout
    # One of before is not provable here, which it says, and who can.
    async with ApiClient([observer.api]) as client:
        first = (await client.lookup([await first_uetr(network)]))[0]
        assert first is not None
        with pytest.raises(ApiProblem) as refused:
            await client.evidence(first.uetr)
    assert refused.value.code == "pruned"
    assert "archive node" in str(refused.value)
    observer.end()


def payment_order(network: Devnet) -> tuple[bytes, str]:
    """A signed payment of BANKA to BANKB, and its UETR."""
    debtor, creditor = network.network.genesis.participants[1:3]
    uetr = uuid.uuid4()
    raw = build_pay(
        network.network.genesis.chain_id,
        debtor.lei,
        uetr.hex,
        time.time_ns() // 1_000_000 + 3_600_000,
        payments=[gross_payment(uetr.bytes, debtor.lei, creditor.lei, "EUR", 100)],
        signers=[network.network.signer(debtor.name)],
    )
    return raw, str(uetr)


async def first_uetr(network: Devnet) -> str:
    """A payment of the first block."""
    async with ApiClient([network.api("node0")]) as client:
        async for event in client.events((0, 0)):
            if event.uetr is not None:
                return event.uetr
    raise AssertionError("no payment")


async def test_killed_in_the_middle_of_a_snapshot_it_starts_anew_and_arrives(
    network: Devnet, tmp_path: Path, ended: list[Observer]
) -> None:
    home = open_home(network.network.home("node3"))
    network.order("kill", "node3")
    kv = home.open_database()
    try:
        async with sync_source(kv, home.genesis, tmp_path) as stuck:
            # Not through init, which asks for a status that this source does not have.
            observer = Observer(
                tmp_path / "killed", network.api("node0"), genesis=genesis_of(network)
            )
            ended.append(observer)
            config = observer.home / "config.toml"
            text = config.read_text()
            config.write_text(text.replace(network.api("node0"), stuck.url))
            stuck.stall = lambda path: path.startswith("/v1/window")
            observer.start()
            async with asyncio.timeout(FINAL_SECONDS):
                await stuck.stalled.wait()
            assert (observer.home / "data.building").exists()
            assert observer.process is not None
            await asyncio.to_thread(observer.end, signal.SIGKILL)
            config.write_text(text)
    finally:
        kv.close()
    database = open_home(observer.home).open_database()
    assert ChainStore(database).floor() is None, "nothing looks like a chain"
    database.close()
    observer.start()
    await observer.reaches(await height_of(network, "node0"))
    assert not (observer.home / "data.building").exists()
    observer.end()
    await network.restart(["node3"])


async def test_without_a_snapshot_it_executes_every_block_and_audits_valid(
    network: Devnet, tmp_path: Path, ended: list[Observer]
) -> None:
    observer = Observer(
        tmp_path / "archive", network.api("node1"),
        genesis=genesis_of(network), options=("--no-snapshot",),
    )  # fmt: skip
    ended.append(observer)
    observer.start()
    status = await observer.reaches(await height_of(network, "node0"))
    assert status.kept_from == 0
    observer.end()
    audit = nostro(
        "audit", "chain", "--home", str(observer.home), "--genesis", str(genesis_of(network))
    )
    assert audit.stdout.endswith("VALID\n"), audit.stdout


def test_another_chain_and_nobody_are_refused_before_anything_is_made(
    network: Devnet, tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    document = json.loads(genesis_of(network).read_text())
    document["time"] += 1
    other.write_text(json.dumps(document))
    home = tmp_path / "home"
    wrong = run("init", "--join", network.api("node0"), "--genesis", other, "--home", home)
    assert wrong.code == 1
    assert "serves chain" in wrong.err
    silent = run(
        "init", "--join", "http://127.0.0.1:1", "--genesis", genesis_of(network), "--home", home
    )
    assert silent.code == 2
    assert "no source answers" in silent.err
    for bad in ("127.0.0.1:4100", "ftp://x", "http://x/path"):
        assert run(
            "init", "--join", bad, "--genesis", genesis_of(network), "--home", home
        ).code == 64  # fmt: skip
    assert not home.exists()


def test_a_candidate_has_a_vote_key_and_a_record_that_proves_its_keys(
    network: Devnet, tmp_path: Path
) -> None:
    lei = network.network.genesis.participants[1].lei
    observer = Observer(
        tmp_path / "node4", network.api("node0"), genesis=genesis_of(network),
        options=("--validator", "node4", "--operator", lei, "--address", "127.0.0.1:4999"),
    )  # fmt: skip
    candidate = read_candidate(Path(observer.document["record"]))
    chain_id = bytes.fromhex(candidate.chain_id)
    home = open_home(observer.home)
    assert home.vote_key is not None
    assert chain_id == home.chain_id
    validator = candidate.validator
    assert (validator.name, validator.address) == ("node4", "127.0.0.1:4999")
    for key, role, possession in (
        (validator.vote_key, ROLE_VOTE, candidate.vote_possession),
        (validator.node_key, ROLE_NODE, candidate.node_possession),
    ):
        check_possession(bytes.fromhex(key), role, lei, chain_id, bytes.fromhex(possession))


def test_a_home_for_new_keys_of_a_validator_has_its_name(network: Devnet, tmp_path: Path) -> None:
    lei = network.network.genesis.validator_set.validators[3].operator
    common = ("--join", network.api("node0"), "--genesis", genesis_of(network))
    mere = run("init", *common, "--home", tmp_path / "home", "--name", "node3")
    assert mere.code == 64
    assert "is a validator of the genesis file" in mere.err
    made = run(
        "init", *common, "--home", tmp_path / "home", "--validator", "node3", "--operator", lei
    )
    assert made.code == 0, made.err
    home = open_home(tmp_path / "home")
    old = network.network.genesis.validator_set.validators[3]
    assert read_candidate(home.path / "candidate.json").validator.vote_key != old.vote_key.hex()
    assert run("config", "check", "--home", home.path).code == 0


# --- backup and restore ---------------------------------------------------------------------------


async def test_a_restored_validator_follows_and_never_signs(
    network: Devnet, tmp_path: Path
) -> None:
    home = network.network.home("node2")
    backup = tmp_path / "node2.backup"
    running = nostro("backup", "--home", str(home), "-o", str(backup))
    assert running.returncode == 1
    assert "the node runs" in running.stderr
    assert not backup.exists()
    pid = network.pids()["node2"]
    ended = Processes([pid])
    network.order("kill", "node2")
    assert not ended.still_there()
    ended.close()
    made = nostro("backup", "--home", str(home), "-o", str(backup), "--json")
    assert made.returncode == 0, made.stderr
    again = nostro("backup", "--home", str(home), "-o", str(backup))
    assert "never overwritten" in again.stderr
    for word in ("vote", "signer", "journal"):
        assert word.encode() + b"/" not in backup.read_bytes()
    # While it was away the chain went on.
    network.json("pay", "--from", "BANKA", "--to", "BANKB", "--amount", "2.00", "--currency", "EUR")
    home.rename(tmp_path / "lost")
    restored = nostro(
        "restore", str(backup), "--home", str(home), "--genesis", str(genesis_of(network)), "--json"
    )
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout)["height"] == json.loads(made.stdout)["height"]
    assert sorted(os.listdir(home / "keys")) == ["node.json"]
    audit = nostro("audit", "chain", "--home", str(home), "--genesis", str(genesis_of(network)))
    assert audit.stdout.endswith("VALID\n"), audit.stdout
    network.order("restart", "node2")
    target = await height_of(network, "node0")
    async with ApiClient([network.api("node2")]) as client, asyncio.timeout(FINAL_SECONDS):
        while (status := await client.status()).height < target:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert not status.signing
    assert status.alarm is not None
    assert "vote key" in status.alarm


def test_a_damaged_or_cut_backup_makes_no_home(network: Devnet, tmp_path: Path) -> None:
    home = tmp_path / "home"
    observer = Observer(tmp_path / "saved", network.api("node0"), genesis=genesis_of(network))
    backup = tmp_path / "saved.backup"
    early = nostro("backup", "--home", str(observer.home), "-o", str(backup))
    assert "holds no chain yet" in early.stderr
    observer.start()
    asyncio.run(observer.reaches(1))
    observer.end()
    assert nostro("backup", "--home", str(observer.home), "-o", str(backup)).returncode == 0
    whole = backup.read_bytes()
    for what, data in {
        "cut": whole[:-10],
        "cut at a frame": whole[: whole.rindex(b"backup-end/1") - 6],
        "damaged": whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:],
        "none": b"nostro-backup/9\n" + whole[16:],
    }.items():
        backup.write_bytes(data)
        refused = run("restore", backup, "--home", home)
        assert refused.code == 1, what
        assert str(backup) in refused.err, what
        assert not home.exists(), what
    backup.write_bytes(whole)
    assert run("restore", backup, "--home", home).code == 0
    assert not list(tmp_path.glob(".*restoring*"))
