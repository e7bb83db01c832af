"""`repair`, and what the how-to of recovery promises: refused by name, or repaired."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from consensus.interface import SigningRefused
from consensus.messages import (
    VOTE_DOMAIN,
    Content,
    Epoch,
    Kind,
    OwnVote,
    View,
    Vote,
    encode,
    vote_payload,
)
from node.chain.build import build_pay
from node.chain.instruction import CheckedInstruction, check_instruction
from node.engine.node import load_chain, open_node
from node.engine.pool_store import KEPT_PREFIX
from node.engine.repair import find_damage, repair_database
from node.storage.chain_store import ChainStore
from node.storage.errors import (
    HomeError,
    JournalCorrupt,
    SignerUnusable,
    StorageError,
    StoreCorrupt,
    StoreLocked,
    StoreMissing,
)
from node.storage.home import Home, open_home
from tests.support import world
from tests.support.command import run
from tests.support.homes import make_home

OTHER = Content(0, b"2" * 32)
VOTED = Content(0, b"1" * 32)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A validator's home that has voted, keeps an accepted instruction, and does not run."""
    made = make_home(tmp_path / "node0")
    database = made.open_database()
    database.write([(KEPT_PREFIX + kept(made).digest, kept(made).raw)])
    database.write([(KEPT_PREFIX + b"not its digest", b"\xff" * 40)])
    database.close()
    vote(made)
    return made


def kept(home: Home) -> CheckedInstruction:
    raw = build_pay(
        home.chain_id,
        world.BANKA.lei,
        "kept",
        world.GENESIS_TIME + 1_000,
        payments=[world.payment(1)],
        signers=[world.signer("BANKA")],
    )
    return check_instruction(raw, home.chain_id)


def vote(home: Home) -> None:
    guard = home.open_signer(world.vote_signer(0))
    guard.sign_vote(Epoch(0), View(1), Kind.NOTARIZE, VOTED)
    guard.sync()
    guard.close()
    journal, _ = home.open_journal()
    journal.append([b"a record"])
    journal.sync()
    journal.close()


def damage(home: Home, largest: bool = False) -> None:
    """Turn a byte of every table of the database, or of the largest."""
    home.open_database().close()  # what was in LevelDB's log is a table now
    tables = sorted((home.data / "db").glob("*.ldb"), key=lambda file: -file.stat().st_size)
    for file in tables[: 1 if largest else None]:
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 0x10
        file.write_bytes(data)


# --- repair -------------------------------------------------------------------------------------


def test_a_damaged_database_is_replaced_and_kept_beside_the_new_one(home: Home) -> None:
    damage(home)
    broken = find_damage(home)
    assert broken is not None
    assert "data" in broken
    done = repair_database(home.path)
    assert done.kept == home.path / "data.damaged-1"
    assert (done.kept / "db" / "CURRENT").exists()
    database = home.open_database()
    store = ChainStore(database)
    assert store.floor() is None
    _, floor = load_chain(home.genesis, store)
    assert floor.info.height == 0
    database.close()
    assert find_damage(home) is None


def test_accepted_instructions_that_can_be_read_are_taken_over_and_nothing_else(home: Home) -> None:
    database = home.open_database()
    for number in range(400):  # a block of its own in the table, far from the kept instructions
        database.write([(b"b%06d" % number, bytes(200))])
    database.close()
    damage(home, largest=True)
    assert repair_database(home.path).salvaged == 1
    database = home.open_database()
    found = {key: raw for key, raw in database.iterate() if key != b"mformat"}
    assert found == {KEPT_PREFIX + kept(home).digest: kept(home).raw}
    database.close()


def test_journal_and_signers_record_stay_and_the_key_still_knows_what_it_signed(home: Home) -> None:
    damage(home)
    before = {file: file.read_bytes() for file in sorted(home.signer.rglob("*")) if file.is_file()}
    repair_database(home.path)
    assert {file: file.read_bytes() for file in before} == before
    guard = open_home(home.path).open_signer(world.vote_signer(0))
    with pytest.raises(SigningRefused):
        guard.sign_vote(Epoch(0), View(1), Kind.NOTARIZE, OTHER)
    guard.close()
    journal, records = home.open_journal()
    assert records == [b"a record"]
    journal.close()


def test_a_lost_database_is_replaced_too(home: Home) -> None:
    shutil.rmtree(home.data)
    done = repair_database(home.path)
    assert (done.kept, done.salvaged) == (None, 0)
    assert "no database" in done.damage
    assert find_damage(home) is None


def test_a_repair_that_died_between_its_two_renames_is_done_again_with_what_it_had_read(
    home: Home,
) -> None:
    home.data.rename(home.path / "data.damaged-1")
    assert repair_database(home.path).salvaged == 1


def test_a_snapshots_database_that_only_lacks_its_name_is_no_damage(home: Home) -> None:
    home.data.rename(home.replaced)
    shutil.copytree(home.replaced, home.building)
    with pytest.raises(HomeError, match="nothing is damaged"):
        repair_database(home.path)
    assert find_damage(home) is None
    assert not home.building.exists()


def test_a_sound_database_is_never_thrown_away(home: Home) -> None:
    with pytest.raises(HomeError, match="nothing is damaged"):
        repair_database(home.path)
    assert find_damage(home) is None


def test_the_database_of_a_running_node_is_left_alone(home: Home) -> None:
    damage(home)
    home.acquire()
    with pytest.raises(StoreLocked, match="in use by process"):
        repair_database(home.path)
    home.release()
    assert not (home.path / "data.damaged-1").exists()


def test_the_command_says_what_was_wrong_and_what_to_do(home: Home) -> None:
    assert run("repair", "--home", home.path).code == 1
    damage(home)
    doctor = run("doctor", "--home", home.path)
    assert doctor.code == 1
    done = run("repair", "--home", home.path)
    assert done.code == 0
    assert "data.damaged-1" in done.out
    assert "nostro start" in done.out
    shutil.rmtree(home.data)
    assert run("repair", "--home", home.path, "--json").json["kept"] is None


# --- what is put into the wrong home ------------------------------------------------------------


@pytest.fixture
def other(tmp_path: Path) -> Home:
    made = make_home(tmp_path / "node1", 1)
    vote_as_other = made.open_signer(world.vote_signer(1))
    vote_as_other.sign_vote(Epoch(0), View(1), Kind.NULLIFY, None)
    vote_as_other.sync()
    vote_as_other.close()
    return made


def replace(home: Home, other: Home, name: str) -> None:
    if (home.path / name).is_dir():
        shutil.rmtree(home.path / name)
        shutil.copytree(other.path / name, home.path / name)
    else:
        shutil.copy(other.path / name, home.path / name)


def test_another_nodes_database_serves(home: Home, other: Home) -> None:
    damage(home)
    replace(home, other, "data")
    assert find_damage(home) is None
    database = home.open_database()
    assert load_chain(home.genesis, ChainStore(database))[1].info.height == 0
    database.close()


def test_another_nodes_signers_record_ends_the_key(home: Home, other: Home) -> None:
    replace(home, other, "signer")
    with pytest.raises(SignerUnusable, match="another chain or key"):
        home.open_signer(world.vote_signer(0))


async def test_another_nodes_node_key_is_refused_by_name(home: Home, other: Home) -> None:
    replace(home, other, "keys/node.json")
    with pytest.raises(HomeError, match="node") as refused:
        async with open_node(home.path, lambda _: "devnet"):
            pass
    assert "node0" in str(refused.value)


def test_another_nodes_vote_key_has_no_record_here_and_signs_nothing(home: Home) -> None:
    with pytest.raises(SignerUnusable, match="another chain or key"):
        home.open_signer(world.vote_signer(1))


async def test_another_nodes_journal_is_refused_by_name(home: Home, other: Home) -> None:
    content = Content(0, b"1" * 32)
    signature = world.vote_signer(1).sign(
        VOTE_DOMAIN, home.chain_id, vote_payload(0, 1, Kind.NOTARIZE, content)
    )
    foreign = Vote(0, 1, Kind.NOTARIZE, content, 1, signature)
    journal, _ = other.open_journal()
    journal.append([encode(OwnVote(foreign))])
    journal.sync()
    journal.close()
    replace(home, other, "journal")
    with pytest.raises(StorageError, match="is not by this node's key") as refused:
        async with open_node(home.path, lambda _: "devnet"):
            pass
    assert isinstance(refused.value, JournalCorrupt)
    assert "journal" in str(refused.value)


def test_a_copy_of_the_own_signers_record_ends_the_key(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.signer, tmp_path / "backup")
    shutil.rmtree(home.signer)
    await_tick(tmp_path)
    shutil.copytree(tmp_path / "backup", home.signer)
    with pytest.raises(SignerUnusable, match="restored from one"):
        home.open_signer(world.vote_signer(0))


def await_tick(directory: Path) -> None:
    """Until files get another time than those before: it is counted in ticks of some ms."""
    probe = directory / "probe"
    probe.touch()
    first = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns == first:
        probe.touch()


@pytest.mark.parametrize("what", ["directory", "segment", "mark"])
def test_a_lost_signers_record_ends_the_key(home: Home, what: str) -> None:
    if what == "directory":
        shutil.rmtree(home.signer)
    else:
        next(home.signer.glob(f"*{what}")).unlink()
    with pytest.raises(SignerUnusable, match="gone"):
        home.open_signer(world.vote_signer(0))


@pytest.mark.parametrize("what", ["directory", "segment", "mark"])
def test_a_lost_journal_is_refused_though_the_signers_record_is_there(
    home: Home, what: str
) -> None:
    if what == "directory":
        shutil.rmtree(home.journal)
    else:
        next(home.journal.glob(f"*{what}")).unlink()
    with pytest.raises(StoreMissing, match="journal"):
        home.open_journal()


def test_an_older_journal_under_the_newer_mark_is_refused(home: Home, tmp_path: Path) -> None:
    (segment,) = home.journal.glob("*.segment")
    shutil.copy(segment, tmp_path / "older")
    journal, _ = home.open_journal()
    journal.append([b"a later record"])
    journal.sync()
    journal.close()
    (segment,) = home.journal.glob("*.segment")
    shutil.copy(tmp_path / "older", segment)
    with pytest.raises(JournalCorrupt, match="had been made durable"):
        home.open_journal()


def test_an_older_database_under_the_newer_mark_is_refused(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.data / "db", tmp_path / "older")
    database = home.open_database()
    database.write([(b"x", b"later")])
    database.close()
    shutil.rmtree(home.data / "db")
    shutil.copytree(tmp_path / "older", home.data / "db")
    with pytest.raises(StoreCorrupt, match="had been made durable"):
        home.open_database()


def test_an_older_database_with_its_own_mark_serves_under_the_newer_journal(
    home: Home, tmp_path: Path
) -> None:
    """A whole older data/ is what an operator restores; journal and record stay, and know more."""
    shutil.copytree(home.data, tmp_path / "older")
    database = home.open_database()
    database.write([(b"x", b"later")])
    database.close()
    shutil.rmtree(home.data)
    shutil.copytree(tmp_path / "older", home.data)
    assert find_damage(home) is None
    journal, records = home.open_journal()
    assert records == [b"a record"]
    journal.close()
