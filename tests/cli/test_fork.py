"""`nostro audit fork`, `evidence --equivocation` and `verify` of what they write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from consensus.messages import Certified, Content, Equivocation, Kind, encode
from tests.support import world
from tests.support.command import devnet, run
from tests.support.epoch_chain import end_epoch, paid
from tests.support.epoch_links import vote
from tests.support.homes import make_home
from tests.support.small_chain import SmallChain, issue
from tests.support.stored_chain import stored


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.json"
    path.write_bytes(world.genesis_bytes())
    return path


def home_of(chain: SmallChain, path: Path, index: int) -> Path:
    """A stopped node's home that holds the chain."""
    home = make_home(path, index)
    database = home.open_database()
    stored(chain, database)
    database.close()
    return path


def chain(number: int, *, signers: Sequence[int] = (0, 1, 2), skip_views: int = 0) -> SmallChain:
    """An epoch that ended, and a payment of the next one, certified by these."""
    made = SmallChain()
    made.add(issue(made, 1000))
    end_epoch(made)
    made.add(paid(made, number), signers=signers, skip_views=skip_views)
    made.add(signers=signers)
    made.witnessed.append(
        Equivocation(
            vote(2, 9, Kind.FINALIZE, Content(1, bytes(32)), epoch=1),
            vote(2, 9, Kind.NULLIFY, epoch=1),
        )
    )
    return made


def test_a_fork_is_proven_from_two_homes_and_its_culprits_are_named(
    tmp_path: Path, genesis: Path
) -> None:
    one = home_of(chain(1), tmp_path / "one", 0)
    other = home_of(chain(2, signers=(0, 1, 3), skip_views=1), tmp_path / "other", 1)
    proof = tmp_path / "proof.fork"
    made = run(
        "audit", "fork", "--home", one, "--home", other, "--genesis", genesis, "-o", proof, "--json"
    )
    assert (made.code, made.json["verdict"]) == (0, "VALID")
    assert [each["name"] for each in made.json["culprits"]] == ["node0", "node1"]
    told = run("verify", proof, "--genesis", genesis)
    assert told.code == 0
    assert told.out.splitlines()[-1] == "VALID"
    assert "node0 (" in told.out
    document = run("verify", proof, "--genesis", genesis, "--json").json
    assert document["kind"] == "fork"
    assert document["culprits"] == made.json["culprits"]
    assert document["culprits"][0]["operator"] == world.CENTRALBANK.lei
    assert run("verify", proof, "--genesis", genesis, "--expect", "settled").code == 1
    proof.write_bytes(proof.read_bytes()[:-1])
    assert run("verify", proof, "--genesis", genesis).code == 1


def test_certificates_above_a_nodes_last_final_block_are_read_from_its_journal(
    tmp_path: Path, genesis: Path
) -> None:
    """The third node gave the view up, and stopped before anything above became final."""
    left, right = SmallChain(), SmallChain()
    left.add(issue(left, 1000), signers=(0, 1, 2))
    right.add(issue(right, 1001), signers=(0, 1, 3), skip_views=1)
    skipped = right.passed.pop((0, 1, Kind.NULLIFY))
    one = home_of(left, tmp_path / "one", 0)
    other = home_of(right, tmp_path / "other", 1)
    third = make_home(tmp_path / "third", 3)
    proof = tmp_path / "proof.fork"
    homes = ("--home", one, "--home", other, "--home", third.path)
    command = ("audit", "fork", *homes, "--genesis", genesis, "-o", proof)
    assert run(*command).code == 2
    journal, _ = third.open_journal()
    journal.append([encode(Certified(skipped))])
    journal.sync()
    journal.close()
    told = run(*command)
    assert told.code == 0, told.out
    assert run("verify", proof, "--genesis", genesis).code == 0

    (segment,) = (third.path / "journal").glob("*.segment")
    segment.write_bytes(segment.read_bytes()[:10])
    told = run(*command)
    assert told.code == 2
    assert "its journal is left out" in told.err


def test_two_homes_that_agree_have_no_fork(tmp_path: Path, genesis: Path) -> None:
    one = home_of(chain(1), tmp_path / "one", 0)
    other = home_of(chain(1), tmp_path / "other", 1)
    proof = tmp_path / "proof.fork"
    ran = run("audit", "fork", "--home", one, "--home", other, "--genesis", genesis, "-o", proof)
    assert ran.code == 1
    assert "there is no fork to prove: the chains agree up to height 5" in ran.err
    assert not proof.exists()


def test_a_fork_takes_two_different_homes(tmp_path: Path, genesis: Path) -> None:
    one = home_of(chain(1), tmp_path / "one", 0)
    proof = tmp_path / "proof.fork"
    for homes in ([one], [one, one]):
        options = [each for home in homes for each in ("--home", home)]
        ran = run("audit", "fork", *options, "--genesis", genesis, "-o", proof)
        assert ran.code == 64


def test_an_equivocation_that_a_node_saw_is_proven_by_index_and_by_name(
    tmp_path: Path, genesis: Path
) -> None:
    home = home_of(chain(1), tmp_path / "one", 0)
    proof = tmp_path / "proof.equivocation"
    for validator in ("2", "node2"):
        made = run("evidence", "--equivocation", f"1:9:{validator}", "--home", home, "-o", proof)
        assert made.code == 0, made.err
        told = run("verify", proof, "--genesis", genesis, "--json")
        assert (told.code, told.json["kind"]) == (0, "equivocation")
        assert [each["name"] for each in told.json["culprits"]] == ["node2"]


@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        ("1:9:3", 1, "no equivocation of validator 3"),
        ("1:8:node2", 1, "no equivocation"),
        ("1:9:node7", 1, "epoch 1 has no validator node7"),
        ("9:9:node2", 1, "epoch 9 has no validator node2"),
        ("1:9:99999999999999999999", 1, "no equivocation"),
        ("1:9", 64, "is not EPOCH:VIEW:VALIDATOR"),
        ("-1:9:2", 64, "is not EPOCH:VIEW:VALIDATOR"),
        ("99999999999999999999:9:2", 64, "is not EPOCH:VIEW:VALIDATOR"),
    ],
)
def test_what_is_no_equivocation_is_told(tmp_path: Path, place: str, code: int, words: str) -> None:
    home = home_of(chain(1), tmp_path / "one", 0)
    proof = tmp_path / "proof"
    ran = run("evidence", f"--equivocation={place}", "--home", home, "-o", proof)
    assert ran.code == code
    assert words in ran.err
    assert not proof.exists()


def test_a_running_node_gives_the_proof(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    with devnet(tmp_path / "net", nodes=2) as net:
        options = ("evidence", "--equivocation", "1:9:node2", "-o", proof)
        ran = net.run(*options)
        assert ran.code == 2
        assert "no equivocation of validator node2" in ran.err
        assert not proof.exists()
        net.nodes[1].node.proofs[1, 9, "node2"] = b"the proof"
        assert net.run(*options).code == 0
        assert proof.read_bytes() == b"the proof"
        ran = net.run(*options, "--home", tmp_path)
        assert ran.code == 64


def test_evidence_is_of_a_payment_or_of_an_equivocation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uetr, proof = "eb6305c9-1f7f-49de-aed0-16487c27b42d", tmp_path / "proof"
    for options in (
        (),
        ("--equivocation", "1:9:2"),  # and no node to ask
        (uetr, "--equivocation", "1:9:2", "--home", tmp_path),
        ("--equivocation", "1:9:2", "--in-clear", "all", "--home", tmp_path),
        (uetr, "--home", tmp_path, "--api", "http://127.0.0.1:1"),
    ):
        assert run("evidence", *options, "-o", proof).code == 64
