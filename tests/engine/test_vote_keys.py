"""A node's vote keys over its epochs: which signs, what survives a crash, what is destroyed."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from consensus.interface import SigningRefused
from consensus.messages import VOTE_DOMAIN, Content, Epoch, Kind, View, vote_payload
from node.chain.signature import ROLE_VOTE, check_possession, verify
from node.chain.types import Validator, ValidatorSet
from node.engine.vote_keys import VoteKeys
from node.storage.errors import KeystoreError
from node.storage.home import Home
from tests.support.homes import make_home

CONTENT = Content(0, bytes(32))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "node0")


def keys_of(home: Home) -> VoteKeys:
    return VoteKeys(home, lambda: "devnet")


def member(home: Home) -> Validator:
    assert home.index is not None
    return home.genesis.validator_set.validators[home.index]


def set_of(home: Home, epoch: int, vote_key: bytes) -> ValidatorSet:
    """The genesis validators in another epoch, this node with another vote key."""
    own = member(home)
    return ValidatorSet(
        epoch,
        tuple(
            replace(each, vote_key=vote_key) if each.name == own.name else each
            for each in home.genesis.validator_set.validators
        ),
    )


def test_the_key_that_the_set_names_signs_in_its_epoch_and_in_no_other(home: Home) -> None:
    keys = keys_of(home)
    assert keys.use(home.genesis.validator_set, member(home).vote_key) is None
    signature = keys.sign_vote(Epoch(0), View(1), Kind.NOTARIZE, CONTENT)
    payload = vote_payload(0, 1, Kind.NOTARIZE, CONTENT)
    assert verify(member(home).vote_key, VOTE_DOMAIN, home.chain_id, payload, signature)
    with pytest.raises(SigningRefused, match="no vote key for epoch 1"):
        keys.sign_vote(Epoch(1), View(1), Kind.NOTARIZE, CONTENT)
    keys.close()


def test_the_next_epochs_key_is_durable_proves_its_possession_and_takes_over(home: Home) -> None:
    keys = keys_of(home)
    keys.use(home.genesis.validator_set, member(home).vote_key)
    vote_key, possession = keys.make(1, member(home).operator)
    check_possession(vote_key, ROLE_VOTE, member(home).operator, home.chain_id, possession)
    keys.close()
    again = keys_of(home)  # as after a crash between making it and telling of it
    assert again.make(1, member(home).operator) == (vote_key, possession), "made a second time"
    assert again.use(set_of(home, 1, vote_key), vote_key) is None
    signature = again.sign_vote(Epoch(1), View(1), Kind.NULLIFY, None)
    payload = vote_payload(1, 1, Kind.NULLIFY, None)
    assert verify(vote_key, VOTE_DOMAIN, home.chain_id, payload, signature)
    with pytest.raises(SigningRefused, match="epoch 0"):
        again.sign_vote(Epoch(0), View(2), Kind.NULLIFY, None)
    again.close()


def test_a_member_that_was_never_ready_keeps_its_key_and_its_record(home: Home) -> None:
    keys = keys_of(home)
    own = member(home).vote_key
    keys.use(home.genesis.validator_set, own)
    keys.sign_vote(Epoch(0), View(4), Kind.NULLIFY, None)
    assert keys.use(set_of(home, 1, own), own) is None
    keys.sign_vote(Epoch(1), View(4), Kind.NOTARIZE, CONTENT)  # another epoch, another statement
    with pytest.raises(SigningRefused, match="this key has voted otherwise"):
        keys.sign_vote(Epoch(1), View(4), Kind.NOTARIZE, Content(1, bytes(32)))
    keys.close()


@pytest.mark.parametrize("left", ["staged key", "record without a key", "both"])
def test_a_crash_while_a_key_is_made_leaves_nothing_that_is_in_the_way(
    home: Home, left: str
) -> None:
    directory = home.path / "keys"
    if left != "record without a key":
        (directory / ".vote-1.json.new").write_bytes(b"half")
    if left != "staged key":
        (home.path / "signer-1").mkdir(mode=0o700)
        (home.path / "signer-1" / "mark").write_bytes(b"of a key that never was")
    keys = keys_of(home)
    vote_key, _ = keys.make(1, member(home).operator)
    assert keys.use(set_of(home, 1, vote_key), vote_key) is None
    assert set(keys.held()) == {member(home).vote_key, vote_key}
    keys.close()


def test_a_destroyed_key_is_gone_with_its_record_and_overwritten(home: Home) -> None:
    keys = keys_of(home)
    old = member(home).vote_key
    keys.use(home.genesis.validator_set, old)
    path = home.path / "keys" / "vote.json"
    inode = path.open("rb")  # what a thief with an open file would still read
    vote_key, _ = keys.make(1, member(home).operator)
    keys.use(set_of(home, 1, vote_key), vote_key)
    keys.destroy(old)
    assert not any(inode.read()), "the sealed key is still there to be read"
    inode.close()
    assert sorted(p.name for p in path.parent.iterdir()) == ["node.json", "vote-1.json"]
    assert not (home.path / "signer").exists()
    assert set(keys.held()) == {vote_key}
    why = keys.use(home.genesis.validator_set, old)
    assert why is not None
    assert "no file of vote key" in why
    keys.close()


def test_a_crash_while_a_key_is_destroyed_leaves_no_damaged_key_behind(home: Home) -> None:
    keys = keys_of(home)
    vote_key, _ = keys.make(1, member(home).operator)
    path = home.path / "keys" / "vote.json"
    path.rename(path.with_name(".vote.json.destroyed"))  # where a crash stopped it
    assert set(keys.held()) == {vote_key}
    keys.finish_destroying()
    assert sorted(p.name for p in path.parent.iterdir()) == ["node.json", "vote-1.json"]
    keys.close()


def test_the_key_in_use_is_never_destroyed(home: Home) -> None:
    keys = keys_of(home)
    own = member(home).vote_key
    keys.use(home.genesis.validator_set, own)
    with pytest.raises(AssertionError, match="in use"):
        keys.destroy(own)
    keys.close()


def test_a_condemned_key_stays_condemned_while_a_fresh_one_signs(home: Home) -> None:
    keys = keys_of(home)
    own = member(home).vote_key
    keys.use(home.genesis.validator_set, own)
    keys.condemn("its record is older than its votes")
    keys.close()
    again = keys_of(home)
    why = again.use(home.genesis.validator_set, own)
    assert why is not None
    assert "its record is older than its votes" in why
    vote_key, _ = again.make(1, member(home).operator)
    assert again.use(set_of(home, 1, vote_key), vote_key) is None
    again.sign_vote(Epoch(1), View(1), Kind.NULLIFY, None)
    again.sync()
    assert not again.dirty
    again.close()


def test_a_key_condemned_in_one_epoch_is_condemned_in_the_next_that_names_it(home: Home) -> None:
    keys = keys_of(home)
    own = member(home).vote_key
    keys.use(home.genesis.validator_set, own)
    keys.sign_vote(Epoch(0), View(4), Kind.NULLIFY, None)
    keys.condemn("its record is older than its votes")
    assert not keys.dirty
    with pytest.raises(SigningRefused):
        keys.sign_vote(Epoch(0), View(5), Kind.NULLIFY, None)
    why = keys.use(set_of(home, 1, own), own)
    assert why is not None, "a node that never signs would pass for a healthy one"
    assert "its record is older than its votes" in why
    keys.close()


def test_a_wrong_passphrase_is_refused_by_name(home: Home) -> None:
    keys = VoteKeys(home, lambda: "not the passphrase")
    with pytest.raises(KeystoreError, match="wrong passphrase"):
        keys.use(home.genesis.validator_set, member(home).vote_key)
