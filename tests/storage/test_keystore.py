"""A key file opens for its owner with its passphrase, and for nobody and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from node.chain.signature import verify
from node.storage import keystore as module
from node.storage.errors import KeystoreError, WrongPassphrase
from node.storage.keystore import (
    create_keystore,
    open_keystore,
    read_key_info,
    read_passphrase,
    seal_key,
)

SEED = bytes(range(32))
LEI = "529900T8BM49AURSDO55"


def devnet_key(path: Path, role: str = "participant") -> Path:
    create_keystore(
        path, role=role, name="BANKA", lei=LEI, passphrase="devnet", seed=SEED, devnet=True
    )
    return path


def edit(path: Path, change: dict[str, object]) -> None:
    """Change fields as an attacker with write access would: with a checksum that fits."""
    document = json.loads(path.read_text())
    document.update(change)
    path.write_text(json.dumps(document))
    file = msgspec.json.decode(path.read_bytes(), type=module._File)
    document["checksum"] = module._checksum(file)
    path.write_text(json.dumps(document))


def test_a_key_opens_with_its_passphrase_and_signs(tmp_path: Path) -> None:
    path = devnet_key(tmp_path / "key.json")
    key = open_keystore(path, "devnet", role="participant", devnet=True)
    assert (key.role, key.name, key.lei, key.devnet) == ("participant", "BANKA", LEI, True)
    assert key.seed == SEED
    signature = key.sign("nostro.test/1", bytes(32), b"payload")
    assert verify(key.public_key, "nostro.test/1", bytes(32), b"payload", signature)
    assert read_key_info(path) == key.info


def test_a_production_key_pays_the_full_cost_and_has_a_seed_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    create_keystore(path, role="vote", name="node0", lei=LEI, passphrase="correct horse")
    assert json.loads(path.read_text())["scrypt"]["n"] == 2**17
    key = open_keystore(path, "correct horse", devnet=False)
    assert not key.devnet
    assert key.seed != SEED


def test_the_file_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = devnet_key(tmp_path / "key.json")
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    with pytest.raises(KeystoreError, match="never overwritten"):
        devnet_key(path)
    assert path.read_bytes() == before


def test_the_seed_is_neither_in_the_file_nor_in_any_text(tmp_path: Path) -> None:
    path = devnet_key(tmp_path / "key.json")
    key = open_keystore(path, "devnet")
    assert SEED.hex() not in path.read_text()
    assert repr(SEED)[2:-1] not in repr(key)
    assert SEED.hex() not in repr(key)


def test_a_wrong_passphrase_is_told_apart_from_a_damaged_file(tmp_path: Path) -> None:
    path = devnet_key(tmp_path / "key.json")
    with pytest.raises(WrongPassphrase, match="wrong passphrase"):
        open_keystore(path, "Devnet")
    text = path.read_text()
    sealed = json.loads(text)["chacha20_poly1305"]["ciphertext"]
    flipped = ("1" if sealed[0] == "0" else "0") + sealed[1:]
    path.write_text(text.replace(sealed, flipped))
    with pytest.raises(KeystoreError, match="damaged or edited") as error:
        open_keystore(path, "devnet")
    assert not isinstance(error.value, WrongPassphrase)


@pytest.mark.parametrize("length", [0, 1, 100, 300])
def test_a_cut_file_is_named(tmp_path: Path, length: int) -> None:
    path = devnet_key(tmp_path / "key.json")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(KeystoreError, match=r"key\.json: not a key file, or damaged"):
        open_keystore(path, "devnet")


@pytest.mark.parametrize(
    "change",
    [{"role": "vote"}, {"name": "BANKB"}, {"lei": ""}, {"public_key": "00" * 32}],
)
def test_nothing_in_clear_can_be_changed_under_the_seal(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = devnet_key(tmp_path / "key.json")
    edit(path, change)
    with pytest.raises(WrongPassphrase):
        open_keystore(path, "devnet")


def test_a_devnet_key_cannot_be_passed_off_as_a_production_key(tmp_path: Path) -> None:
    path = devnet_key(tmp_path / "key.json")
    with pytest.raises(KeystoreError, match="devnet key: its passphrase is public"):
        open_keystore(path, "devnet", devnet=False)
    edit(path, {"devnet": False})
    with pytest.raises(KeystoreError, match="scrypt cost"):
        open_keystore(path, "devnet", devnet=False)


@pytest.mark.parametrize(
    "scrypt",
    [
        {"n": 2**21, "r": 8, "p": 1, "salt": "00"},
        {"n": 2**12, "r": 2**20, "p": 1, "salt": "00"},
        {"n": 2**12, "r": 8, "p": 64, "salt": "00"},
        {"n": 3000, "r": 8, "p": 1, "salt": "00"},
        {"n": -1, "r": 8, "p": 1, "salt": "00"},
    ],
)
def test_a_file_cannot_make_the_reader_spend_memory_without_bound(
    tmp_path: Path, scrypt: dict[str, object]
) -> None:
    path = devnet_key(tmp_path / "key.json")
    edit(path, {"scrypt": scrypt})
    with pytest.raises(KeystoreError, match="out of range"):
        open_keystore(path, "devnet")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o700])
def test_a_file_that_others_may_read_is_refused_by_its_mode(tmp_path: Path, mode: int) -> None:
    path = devnet_key(tmp_path / "key.json")
    path.chmod(mode)
    with pytest.raises(KeystoreError, match=rf"mode 0{mode:o}.*chmod 600"):
        open_keystore(path, "devnet")
    path.chmod(0o400)
    open_keystore(path, "devnet")


def test_a_missing_file_directory_or_wrong_role_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="missing"):
        open_keystore(tmp_path / "none.json", "devnet")
    with pytest.raises(KeystoreError, match="not a regular file"):
        open_keystore(tmp_path, "devnet")
    with pytest.raises(KeystoreError, match="a vote key is needed"):
        open_keystore(devnet_key(tmp_path / "key.json"), "devnet", role="vote")


def test_another_format_version_is_refused_by_name(tmp_path: Path) -> None:
    path = devnet_key(tmp_path / "key.json")
    edit(path, {"format": "nostro-key/7"})
    with pytest.raises(KeystoreError, match="nostro-key/7"):
        open_keystore(path, "devnet")


def test_a_short_passphrase_is_refused_for_a_production_key() -> None:
    with pytest.raises(KeystoreError, match="fewer than 10"):
        seal_key(role="vote", name="node0", lei=LEI, seed=SEED, passphrase="short")


def test_the_passphrase_comes_from_file_then_environment_then_prompt(tmp_path: Path) -> None:
    file, other = tmp_path / "pass", tmp_path / "other"
    for path, text in ((file, "from file \r\n"), (other, "from other")):
        path.write_text(text, newline="")
        path.chmod(0o600)
    environment = {"NOSTRO_PASSPHRASE": "from environment"}
    pointing = {**environment, "NOSTRO_PASSPHRASE_FILE": str(other)}
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "from prompt"

    assert read_passphrase(file, environment=pointing) == "from file "
    assert read_passphrase(environment=pointing) == "from other"
    assert read_passphrase(prompt="P: ", environment=environment, ask=ask) == "from environment"
    assert asked == []
    assert read_passphrase(prompt="P: ", environment={}, ask=ask) == "from prompt"
    assert asked == ["P: "]


def test_without_any_source_the_passphrase_is_an_error_that_says_where_from() -> None:
    with pytest.raises(KeystoreError, match="NOSTRO_PASSPHRASE_FILE"):
        read_passphrase(environment={})

    def closed(prompt: str) -> str:
        raise EOFError

    with pytest.raises(KeystoreError, match="no passphrase entered"):
        read_passphrase(prompt="P: ", environment={}, ask=closed)


def test_a_passphrase_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pass"
    file.write_text("secret")
    file.chmod(0o644)
    with pytest.raises(KeystoreError, match="mode 0644"):
        read_passphrase(file, environment={})
    assert os.environ.get("NOSTRO_PASSPHRASE") != "secret"
