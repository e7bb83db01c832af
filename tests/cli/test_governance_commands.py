"""`nostro propose`, `approve`, `proposals`, `validators`: what is signed, said and exited with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from node.storage.keystore import create_keystore
from tests.support.command import Net, describe, run
from tests.support.council import BANKS, Council, Member
from tests.support.fake_node import ThreadedNode
from tests.support.ledger_world import World


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    """Two of three operators' keys decide; CENTRALBANK has one more key than its keystore."""
    world = World.make(banks=BANKS, keys={"CENTRALBANK": (2, 1)}, governance_threshold=2)
    with ThreadedNode(world) as node:
        describe(tmp_path / "net", world, [node.url])
        yield Net([node], tmp_path / "net")


def council(net: Net) -> Council:
    return Council(net.first.node.chain)


def candidate(net: Net, member: Member, path: Path, **changes: Any) -> Path:
    """The file that `nostro init --join --validator` makes."""
    change = council(net).add(member)
    entry = change.validator
    document = {
        "format": "nostro-candidate/1",
        "chain_id": net.first.node.world.chain_id.hex(),
        "validator": {
            "name": entry.name,
            "operator": entry.operator,
            "vote_key": entry.vote_key.hex(),
            "node_key": entry.node_key.hex(),
            "address": entry.address,
        },
        "vote_possession": change.vote_possession.hex(),
        "node_possession": change.node_possession.hex(),
    }
    path.write_text(json.dumps(document | changes))
    return path


def test_a_validator_is_proposed_approved_and_pending(net: Net, tmp_path: Path) -> None:
    member = council(net).member("node4", address="node4.example:4100")
    file = candidate(net, member, tmp_path / "node4.json")
    ran = net.run("propose", "--from", "CENTRALBANK", "--add", file, "--json")
    assert ran.code == 0, ran.err
    proposal = ran.json["proposal"]
    assert ran.json == {
        "proposal": proposal,
        "status": "open",
        "reason": None,
        "height": 1,
        "approved": 1,
        "needed": 2,
    }
    assert f"proposal  {proposal}" in ran.err, "known before anything was sent"

    shown = net.run("proposals").out
    assert proposal in shown
    assert "1 of 2 approvals: CENTRALBANK" in shown
    assert member.validator.node_key.hex() in shown

    ran = net.run("approve", proposal, "--from", "BANKA", "--json")
    assert ran.code == 0
    assert ran.json["status"] == "approved"
    assert net.run("proposals", "--json").json == {"proposals": []}

    pending = net.run("validators", "--json").json["pending"]
    assert [m["validator"]["name"] for m in pending["members"]][-1] == "node4"
    shown = net.run("validators").out
    assert "epoch 0, 4 validators, quorum 3" in shown
    assert "epoch 1 is pending: 0 of 5 ready" in shown


def test_removal_rekey_and_addition_stand_in_one_proposal(net: Net, tmp_path: Path) -> None:
    made = council(net)
    new = candidate(net, made.member("node4"), tmp_path / "new.json")
    other = candidate(net, made.member("node1", keys="second"), tmp_path / "rekey.json")
    ran = net.run("propose", "--from", "BANKA", "--remove", "node3", "--rekey", other, "--add", new)
    assert ran.code == 0, ran.err
    shown = net.run("proposals", "--json").json["proposals"][0]
    assert [(c["kind"], c["name"]) for c in shown["changes"]] == [
        ("remove", "node3"),
        ("rekey", "node1"),
        ("add", "node4"),
    ]


def test_a_new_epoch_alone_is_proposed_with_how_long_it_is_open(net: Net) -> None:
    ran = net.run("propose", "--from", "BANKA", "--new-epoch", "--expires", "90m")
    assert ran.code == 0, ran.err
    assert "status    open: 1 of 2 approvals" in ran.out
    assert "nostro approve" in ran.out
    [shown] = net.run("proposals", "--json").json["proposals"]
    assert shown["changes"] == []
    state = net.first.node.chain.state
    assert state.time < shown["expires"] <= state.time + 90 * 60_000
    assert "fresh vote keys" in net.run("proposals").out


def test_a_rejection_exits_1_with_its_sentence(net: Net) -> None:
    ran = net.run("propose", "--from", "BANKA", "--remove", "node9")
    assert ran.code == 1
    assert "rejected: DS14" in ran.out
    ran = net.run("approve", "00" * 32, "--from", "BANKA", "--json")
    assert ran.code == 1
    assert (ran.json["status"], ran.json["reason"]) == ("rejected", "TD01")


def test_an_operator_that_approved_before_is_told_so(net: Net) -> None:
    proposal = net.run("propose", "--from", "BANKA", "--new-epoch", "--json").json["proposal"]
    ran = net.run("approve", proposal, "--from", "BANKA", "--json")
    assert (ran.code, ran.json["reason"]) == (1, "DS26")


def test_while_nothing_becomes_final_it_says_so_and_exits_2(net: Net) -> None:
    net.first.node.finalizing = False
    ran = net.run("propose", "--from", "BANKA", "--new-epoch", "--timeout", "0.2", "--json")
    assert ran.code == 2
    assert ran.json["status"] == "unknown"
    assert len(ran.json["proposal"]) == 64
    assert "nostro proposals" in ran.err


def test_only_operators_sign(net: Net) -> None:
    ran = net.run("propose", "--from", "BANKC", "--new-epoch")
    assert ran.code == 1
    assert "BANKC is no operator" in ran.err
    assert "CENTRALBANK, BANKA, BANKB" in ran.err or "BANKA, BANKB, CENTRALBANK" in ran.err
    assert net.first.node.submissions == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["propose", "--from", "BANKA"], "--new-epoch alone"),
        (["propose", "--from", "BANKA", "--new-epoch", "--remove", "node3"], "--new-epoch alone"),
        (["propose", "--new-epoch"], "--from PARTICIPANT"),
        (["propose", "--from", "BANKA", "--new-epoch", "--expires", "soon"], "not a duration"),
        (["propose", "--from", "BANKA", "--new-epoch", "--timeout", "nan"], "number of seconds"),
        (["approve", "abc", "--from", "BANKA"], "no id of a proposal"),
        (["approve", "AB" * 32, "--from", "BANKA"], "no id of a proposal"),
        (["propose", "--from", "BANKA", "--add", "/nowhere.json"], "cannot read"),
        (["propose", "--from", "BANKA", "--new-epoch", "--keystore", "x"], "knows its keystores"),
    ],
)
def test_wrong_usage_exits_64(net: Net, arguments: list[str], says: str) -> None:
    ran = net.run(*arguments)
    assert ran.code == 64
    assert says in ran.err
    assert net.first.node.submissions == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"chain_id": "00" * 32}, "was made for chain 0000"),
        ({"format": "nostro-candidate/9"}, "nostro-candidate/9"),
        ({"vote_possession": "00"}, "not a candidate's record"),
        ({"vote_possession": "zz"}, "not a candidate's record"),
        ({"surprise": 1}, "not a candidate's record"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_before_anything_is_signed(
    net: Net, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    file = candidate(net, council(net).member("node4"), tmp_path / "node4.json", **changes)
    ran = net.run("propose", "--from", "BANKA", "--add", file)
    assert ran.code == 1
    assert says in ran.err
    assert net.first.node.submissions == []


def test_an_address_that_no_node_could_use_is_refused(net: Net, tmp_path: Path) -> None:
    member = council(net).member("node4", address="not an address")
    file = candidate(net, member, tmp_path / "node4.json")
    ran = net.run("propose", "--from", "BANKA", "--add", file)
    assert ran.code == 1
    assert "not a candidate's record" in ran.err


def test_a_participant_that_needs_several_signatures_gives_several_keystores(
    tmp_path: Path,
) -> None:
    world = World.make(banks=BANKS, keys={"CENTRALBANK": (3, 2)}, governance_threshold=2)
    bank = world.banks["CENTRALBANK"]
    files = []
    for number in range(3):
        files.append(tmp_path / f"key{number}.json")
        create_keystore(
            files[-1],
            role="participant",
            name=bank.name,
            lei=bank.lei,
            passphrase="devnet",
            seed=sha256(f"{world.seed}/CENTRALBANK/{number}".encode()).digest(),
            devnet=True,
        )
    with ThreadedNode(world) as node:
        at = ("--api", node.url)
        ran = run("propose", "--new-epoch", "--keystore", files[0], *at)
        assert ran.code == 1
        assert "signs with 2 keys, 1 given" in ran.err
        ran = run("propose", "--new-epoch", "--keystore", files[0], "--keystore", files[0], *at)
        assert ran.code == 64
        assert "the same key" in ran.err
        assert node.node.submissions == []
        ran = run(
            "propose", "--new-epoch", "--keystore", files[0], "--keystore", files[2], *at, "--json"
        )
        assert ran.code == 0, ran.err
        assert ran.json["status"] == "approved", "two keys of one operator are two approvals"


def test_the_validators_of_a_later_epoch_are_shown(net: Net) -> None:
    made = council(net)
    proposal = net.run("propose", "--from", "BANKA", "--new-epoch", "--json").json["proposal"]
    assert net.run("approve", proposal, "--from", "BANKB").code == 0
    net.first.do(lambda: made.advance(*made.founders()))
    shown = net.run("validators", "--json").json
    assert (shown["epoch"], shown["pending"]) == (1, None)
