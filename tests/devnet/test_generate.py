"""A generated chain is one that a network could have made: nodes go on from it, audit passes."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from consensus.interface import SigningRefused
from consensus.messages import Epoch, Kind, View
from devnet import identity, network
from devnet.generate import START_MS, Generated, GenerateRefused, Plan, generate, main
from node.audit.chain_audit import audit_chain
from node.chain.signature import Ed25519Signer
from node.storage.chain_store import ChainStore
from node.storage.home import open_home
from tests.support.devnet import Devnet

SMALL = Plan(blocks=20, payments=3, finalize_every=3, behind=1)
DISK_BYTES = 256 * 1024
"""Of a file, at most, where the disk is "full"."""


def blocks(made: Generated, node: str) -> list[bytes]:
    database = open_home(made.network.home(node)).open_database()
    try:
        store = ChainStore(database)
        found = [store.block(height) for height in range(made.height + 1)]
    finally:
        database.close()
    return [raw for raw in found if raw is not None]


def test_the_same_seed_gives_the_same_chain_in_every_home_but_those_left_behind(
    tmp_path: Path,
) -> None:
    first, second = generate(tmp_path / "a", SMALL), generate(tmp_path / "b", SMALL)
    other = generate(tmp_path / "c", Plan(blocks=20, payments=3, finalize_every=3, seed=2))
    assert first.digest == second.digest != other.digest
    chain = blocks(first, "node0")
    assert len(chain) == 22, "genesis, the opening balances, 20 blocks"
    assert blocks(first, "node2") == chain == blocks(second, "node1")
    assert blocks(first, "node3") == []


def test_audit_finds_nothing_and_every_view_of_the_chain_certified(tmp_path: Path) -> None:
    made = generate(tmp_path / "d", SMALL)
    database = open_home(made.network.home("node1")).open_database()
    try:
        report = audit_chain(ChainStore(database), (tmp_path / "d/genesis.json").read_bytes())
    finally:
        database.close()
    assert report.verdict == "VALID", report.text()
    assert (report.height, report.digest) == (made.height, made.digest)
    finalizations, notarizations, given_up = 21 // 3, 21, 7
    assert report.certificates == finalizations + notarizations + given_up
    assert report.payments == 8 + 60, "opening balances, and 3 payments in each of 20 blocks"


def test_the_signer_records_of_the_keys_hold_their_votes_and_refuse_others(tmp_path: Path) -> None:
    made = generate(tmp_path / "d", SMALL)

    def signer(name: str) -> Ed25519Signer:
        return Ed25519Signer(identity.key_seed(SMALL.seed, "vote", name))

    used = open_home(made.network.home("node0")).open_signer(signer("node0"))
    with pytest.raises(SigningRefused):
        # In the last view it has voted finalize.
        used.sign_vote(Epoch(0), View(_last_view(made)), Kind.NULLIFY, None)
    used.sign_vote(Epoch(0), View(_last_view(made) + 1), Kind.NULLIFY, None)
    used.close()
    unused = open_home(made.network.home("node3")).open_signer(signer("node3"))
    unused.sign_vote(Epoch(0), View(1), Kind.NULLIFY, None)
    unused.close()


def _last_view(made: Generated) -> int:
    database = open_home(made.network.home("node0")).open_database()
    try:
        floor = ChainStore(database).floor()
    finally:
        database.close()
    assert floor is not None
    return floor.info.view


@pytest.mark.parametrize(
    ("plan", "named"),
    [
        ({"blocks": 0}, "blocks is 0"),
        ({"finalize_every": 7}, "finalize-every is 7"),
        ({"behind": 2}, "behind is 2"),
        ({"validators": 3, "behind": 1}, "behind is 1"),
        ({"payments": 0}, "payments per block is 0"),
    ],
)
def test_a_chain_that_no_honest_network_makes_is_refused(plan: dict[str, int], named: str) -> None:
    with pytest.raises(GenerateRefused, match=named):
        Plan(**{"blocks": 1, "payments": 1, **plan})


def test_a_chain_that_would_end_in_the_future_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    with pytest.raises(GenerateRefused, match="in the future"):
        generate(tmp_path / "d", SMALL, now_ms=START_MS + 1000)
    assert not (tmp_path / "d").exists()


def test_a_directory_in_use_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").touch()
    arguments = ["--dir", str(tmp_path), "--blocks", "1", "--payments-per-block", "1"]
    assert main(arguments) == 1
    assert "holds other things than a devnet" in capsys.readouterr().err


def test_what_a_full_disk_left_half_made_is_never_started_and_can_be_made_again(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "d"
    done = subprocess.run(
        [
            sys.executable, "-m", "devnet.generate", "--dir", str(directory),
            "--blocks", "400", "--payments-per-block", "20",
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_BYTES, DISK_BYTES)),
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("cannot generate a chain: ")
    assert "Traceback" not in done.stderr
    assert directory.exists()
    assert not network.exists(directory), "its keys have signed for blocks that homes lack"
    assert generate(directory, SMALL).height == 21
    assert network.exists(directory)


@pytest.mark.processes
@pytest.mark.xdist_group("devnet")
async def test_a_devnet_goes_on_from_it_and_a_node_left_at_genesis_catches_up(
    tmp_path: Path,
) -> None:
    made = generate(tmp_path / "d", SMALL)
    devnet = Devnet(tmp_path / "d")
    devnet.up()
    try:
        paid = devnet.json(
            "pay", "--from", "BANKA", "--to", "BANKB", "--amount", "3.00", "--currency", "EUR"
        )
        assert paid["height"] > made.height
        for node in devnet.network.node_names:
            await devnet.final(node, paid["uetr"])
        assert await devnet.agree() > made.height
        await devnet.healthy()
    finally:
        devnet.down()
