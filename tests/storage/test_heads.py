"""The heads file never tells what the database does not hold, whatever a crash left of it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from node.storage.errors import StoreCorrupt, StoreMissing
from node.storage.heads import RECORD_BYTES, Head, HeadsFile, HeadsWriter

CHAIN = sha256(b"chain").digest()


def head(height: int) -> Head:
    return Head(sha256(b"d%d" % height).digest(), sha256(b"r%d" % height).digest())


def written(path: Path, height: int) -> None:
    HeadsWriter(path, CHAIN, height, head).close()


def read(path: Path) -> list[Head | None]:
    file = HeadsFile(path, CHAIN)
    try:
        height = file.height()
        return [] if height is None else [file.head(h) for h in range(height + 1)]
    finally:
        file.close()


def test_what_is_appended_is_read_by_height(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    writer = HeadsWriter(path, CHAIN, 0, head)
    for height in range(1, 5):
        writer.append(height, head(height))
    writer.sync()
    assert read(path) == [head(h) for h in range(5)]
    file = HeadsFile(path, CHAIN)
    assert (file.height(), file.head(5), file.head(2**40)) == (4, None, None)
    file.close()
    writer.close()


@pytest.mark.parametrize("left", [0, 10, 64, 100, 128, 64 * 5, 64 * 5 + 63])
def test_a_file_that_was_cut_is_brought_to_what_the_database_holds(
    tmp_path: Path, left: int
) -> None:
    path = tmp_path / "heads"
    written(path, 6)
    path.write_bytes(path.read_bytes()[:left])
    written(path, 6)
    assert read(path) == [head(h) for h in range(7)]


def test_a_tail_of_zeros_or_beyond_the_database_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    written(path, 6)
    data = bytearray(path.read_bytes())
    data[-2 * RECORD_BYTES :] = bytes(2 * RECORD_BYTES)
    path.write_bytes(bytes(data))
    written(path, 6)
    assert read(path) == [head(h) for h in range(7)]
    written(path, 3)  # the database was put back
    assert read(path) == [head(h) for h in range(4)]


def test_a_file_of_another_chain_is_refused_to_readers_and_begun_anew_by_its_owner(
    tmp_path: Path,
) -> None:
    path = tmp_path / "heads"
    written(path, 3)
    with pytest.raises(StoreCorrupt, match="another chain"):
        HeadsFile(path, bytes(32))
    with pytest.raises(StoreMissing):
        HeadsFile(tmp_path / "none", CHAIN)
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(StoreCorrupt):
        HeadsFile(tmp_path / "short", CHAIN)
