"""`nostro audit checkpoint` and `audit export --format checkpoint`: keys, notes and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node.audit.checkpoint import create_record
from node.audit.note import SIGNER, WITNESS, NoteKey, origin_of
from node.engine.sync import sync_response
from node.engine.verified_copy import CopyDirectory
from node.storage.keystore import create_keystore
from node.storage.memory import MemoryStore
from tests.support import world
from tests.support.audit_source import AuditSource, threaded
from tests.support.command import Ran, run
from tests.support.small_chain import SmallChain, issue, pay
from tests.support.stored_chain import stored

PASSPHRASE = "a long passphrase"


class Desk:
    """An auditor's files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.genesis = directory / "genesis.json"
        self.genesis.write_bytes(world.genesis_bytes())
        self.passphrase = directory / "passphrase"
        self.passphrase.write_text(PASSPHRASE)
        self.passphrase.chmod(0o600)
        self.chain = SmallChain()
        self.chain.add(issue(self.chain, 1000))

    def grow(self, blocks: int) -> None:
        """The follower's copy verifies so many more blocks; it does not run meanwhile."""
        for _ in range(blocks):
            height = self.chain.tip.height + 1
            self.chain.add(pay(self.chain, f"PAY-{height}", height))
        with CopyDirectory(self.copy, world.genesis_bytes()) as directory:
            copy = directory.open()
            while copy.height < self.chain.tip.height:
                answer = sync_response(stored(self.chain, MemoryStore()), copy.height + 1)
                assert answer is not None
                copy.take(answer)
            copy.close()

    @property
    def copy(self) -> Path:
        return self.directory / "copy"

    def key(self, role: str, name: str) -> Path:
        """A key file with its record, sealed as cheaply as a devnet's."""
        path = self.directory / f"{role}.json"
        held = create_keystore(
            path, role=role, name=name, lei="", passphrase=PASSPHRASE, devnet=True
        )
        kind = WITNESS if role == "witness" else SIGNER
        create_record(path.with_name(path.name + ".signed"), NoteKey(name, kind, held.public_key))
        return path

    def run(self, *arguments: object, key: Path | None = None) -> Ran:
        signing = [] if key is None else ["--key", key, "--passphrase-file", self.passphrase]
        return run("audit", *arguments, "--genesis", self.genesis, *signing)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.grow(3)
    return made


def origin() -> str:
    genesis = world.genesis()
    return origin_of(genesis.network, genesis.chain_id)


def test_from_a_key_to_a_cosigned_checkpoint_that_is_shown(desk: Desk) -> None:
    note, cosigned = desk.directory / "note", desk.directory / "cosigned"
    signer, witness = desk.key("checkpoint", origin()), desk.key("witness", "auditor.example/w")
    signed = desk.run("checkpoint", "sign", "--home", desk.copy, "-o", note, "--json", key=signer)
    assert (signed.code, signed.json["height"], signed.json["origin"]) == (0, 4, origin())
    added = desk.run("checkpoint", "cosign", note, "--copy", desk.copy, "-o", cosigned, key=witness)
    assert added.code == 0, added.err
    vkeys = [run("audit", "checkpoint", "keys", "show", each).out.strip()
             for each in (signer, witness)]  # fmt: skip
    shown = desk.run(
        "checkpoint", "show", cosigned, "--json", "--witness", vkeys[0], "--witness", vkeys[1]
    )
    assert shown.code == 0
    assert [each["verified"] for each in shown.json["signatures"]] == [True, True]
    assert "signed by 2 of the 2" in shown.json["relied_on"]
    for_people = desk.run("checkpoint", "show", cosigned, "--witness", vkeys[1])
    assert "of a key that was not named" in for_people.out
    assert desk.run("checkpoint", "show", note, "--witness", vkeys[1]).code == 1
    exported = desk.directory / "exported"
    ran = desk.run(
        "export", "--format", "checkpoint", "--home", desk.copy, "-o", exported, key=signer
    )
    assert ran.code == 0, ran.err
    assert exported.read_bytes() == note.read_bytes()


def test_a_witness_signs_only_what_its_copy_has_verified_and_nothing_smaller(desk: Desk) -> None:
    out, low, high = (desk.directory / name for name in ("out", "low", "high"))
    signer, witness = desk.key("checkpoint", origin()), desk.key("witness", "auditor.example/w")
    for height, path in ((2, low), (4, high)):
        ran = desk.run(
            "checkpoint", "sign", "--home", desk.copy, "--height", height, "-o", path, key=signer
        )
        assert ran.code == 0, ran.err
    assert desk.run("checkpoint", "cosign", high, "--copy", desk.copy, "-o", out,
                    key=witness).code == 0  # fmt: skip
    smaller = desk.run("checkpoint", "cosign", low, "--copy", desk.copy, "-o", out, key=witness)
    assert smaller.code == 1
    assert "smaller tree" in smaller.err
    high.write_text(high.read_text().replace("block ", "block 0", 1))
    assert desk.run("checkpoint", "cosign", high, "--copy", desk.copy, "-o", out,
                    key=witness).code == 1  # fmt: skip
    nowhere = desk.run("checkpoint", "cosign", low, "--copy", desk.directory, "-o", out,
                       key=witness)  # fmt: skip
    assert nowhere.code == 1
    assert "nostro audit follow" in nowhere.err


def test_a_key_signs_in_its_own_role_alone(desk: Desk) -> None:
    out = desk.directory / "out"
    witness = desk.key("witness", "auditor.example/w")
    ran = desk.run("checkpoint", "sign", "--home", desk.copy, "-o", out, key=witness)
    assert ran.code == 1
    assert "a checkpoint key is needed" in ran.err
    other = desk.key("participant", "BANKA")
    assert desk.run("checkpoint", "sign", "--home", desk.copy, "-o", out, key=other).code == 1
    foreign = desk.key("checkpoint", "nostro/other-net/00")
    ran = desk.run("checkpoint", "sign", "--home", desk.copy, "-o", out, key=foreign)
    assert ran.code == 1
    assert "the key is for nostro/other-net" in ran.err
    foreign.with_name(foreign.name + ".signed").unlink()
    ran = desk.run("checkpoint", "sign", "--home", desk.copy, "-o", out, key=foreign)
    assert "must not sign again" in ran.err
    assert not out.exists()


def test_keys_are_made_sealed_with_their_record_and_never_over_another(desk: Desk) -> None:
    path = desk.directory / "made.json"
    made = run("audit", "checkpoint", "keys", "create", "--genesis", desk.genesis, "-o", path,
               "--passphrase-file", desk.passphrase, "--json")  # fmt: skip
    assert made.code == 0, made.err
    assert made.json["vkey"].startswith(origin() + "+")
    assert json.loads(path.read_text())["devnet"] is False
    assert path.stat().st_mode & 0o077 == 0
    assert desk.run("checkpoint", "sign", "--home", desk.copy, "-o", desk.directory / "note",
                    key=path).code == 0  # fmt: skip
    path.unlink()  # its record is still there
    again = run("audit", "checkpoint", "keys", "create", "--witness", "w", "-o", path,
                "--passphrase-file", desk.passphrase)  # fmt: skip
    assert again.code == 1
    assert "record of another key" in again.err
    for name in ("a b", "a+b", "", "a\nb"):
        assert run("audit", "checkpoint", "keys", "create", "--witness", name, "-o",
                   desk.directory / "x", "--passphrase-file",
                   desk.passphrase).code == 64  # fmt: skip


def test_a_follower_is_audited_like_a_node_and_mixed_up_with_none(desk: Desk) -> None:
    audited = desk.run("chain", "--home", desk.copy, "--json", "--processes", 0)
    assert audited.code == 0, audited.err
    assert audited.json["height"] == 4
    wrong = run("audit", "follow", "--api", "http://127.0.0.1:1", "--genesis", desk.genesis,
                "--dir", desk.directory)  # fmt: skip
    assert wrong.code == 2
    assert "not the directory of a verified copy" in wrong.err


def test_options_of_an_export_that_make_no_sense_are_refused(desk: Desk) -> None:
    out = desk.directory / "out"
    export = ("export", "--home", desk.copy, "-o", out, "--format")
    assert desk.run(*export, "checkpoint").code == 64
    key = desk.key("checkpoint", origin())
    assert desk.run(*export, "csv", key=key).code == 64
    assert desk.run(*export, "checkpoint", "--from", 1, key=key).code == 64
    assert desk.run(*export, "checkpoint", "--to", "2026-01-01", key=key).code == 64
    assert desk.run(*export, "checkpoint", "--to", 99, key=key).code == 2
    assert desk.run(*export, "checkpoint", "--to", 3, key=key).code == 0


def test_a_follower_that_nobody_answers_ends_and_says_so(desk: Desk) -> None:
    ran = desk.run("follow", "--api", "http://127.0.0.1:1", "--dir", desk.copy, "--stall", 1,
                   "--json", "--metrics-port", 0)  # fmt: skip
    assert ran.code == 2
    assert ran.json["height"] == 4
    assert {each["kind"] for each in ran.json["told"]} == {"unreachable"}


def test_a_follower_exits_with_1_when_two_final_chains_contradict_each_other(desk: Desk) -> None:
    branch = SmallChain()
    for number in range(4):
        branch.add(issue(branch, 7 + number))
    one, two = (AuditSource(stored(each, MemoryStore())) for each in (desk.chain, branch))
    with threaded(one, two):
        ran = desk.run(
            "follow", "--api", one.url, "--api", two.url, "--dir", desk.copy, "--json"
        )  # fmt: skip
    assert (ran.code, ran.json["exit_code"]) == (1, 1)
    [told] = ran.json["told"]
    assert (told["kind"], told["source"]) == ("fork", two.url)
    assert run("verify", told["file"], "--genesis", desk.genesis).code == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--api", "ftp://x"),
        ("--api", "http://a", "--api", "http://a/"),
        ("--api", "http://a", "--stall", "0"),
        ("--api", "http://a", "--metrics-port", "99999"),
        ("--api", "http://a", "--webhook", "here"),
    ],
)
def test_options_of_a_follower_that_make_no_sense_are_refused(
    desk: Desk, options: tuple[str, ...]
) -> None:
    assert desk.run("follow", "--dir", desk.copy, *options).code == 64
