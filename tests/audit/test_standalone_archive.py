"""The archive: what it is made of, that anybody can make the same one, and that it says what
`nostro verify` says on a Python that has nothing installed."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from node.audit.standalone import archive
from tests.support.standalone import BARE, write_archive

ROOT = Path(archive.ROOT)
STAND_INS = {"msgspec": "node/audit/standalone/msgspec", "nacl": "node/audit/standalone/nacl"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"))


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*BARE, str(program), *map(str, arguments)]
    return subprocess.run(command, env={}, capture_output=True, text=True, check=False, timeout=60)


def test_the_same_tree_gives_the_same_bytes_in_any_directory(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    for name in archive.parts():
        package, _, rest = name.partition("/")
        source = ROOT / STAND_INS[package] / rest if package in STAND_INS else ROOT / name
        if name in {"VERSION", "__main__.py"}:
            source = ROOT / {"VERSION": "pyproject.toml"}.get(name, f"{archive.FOLDER}/{name}")
        target = copy / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    assert archive.build(copy) == archive.build() == archive.build()


def test_parts_are_the_modules_themselves_in_order_without_a_time(program: Path) -> None:
    with zipfile.ZipFile(program) as parts:
        entries = parts.infolist()
        contents = {entry.filename: parts.read(entry) for entry in entries}
    assert list(contents) == sorted(contents)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    for name, content in contents.items():
        if name.startswith(("node/", "consensus/")):
            assert content == (ROOT / name).read_bytes()


def test_nothing_is_in_it_that_verifying_does_not_need() -> None:
    names = set(archive.parts())
    assert not [
        name
        for name in names
        if name.startswith(("node/ledger", "node/storage", "node/engine", "node/api", "devnet"))
        or name.startswith(("node/network", "node/simulate", "node/audit/build", "tests"))
    ]
    assert {"node/audit/verify.py", "node/chain/types.py", "consensus/certificate.py"} <= names


def test_it_imports_the_standard_library_and_itself_alone() -> None:
    own = {name.partition("/")[0] for name in archive.parts()}
    allowed = own | sys.stdlib_module_names
    for name, content in archive.parts().items():
        if name.endswith(".py"):
            for node in ast.walk(ast.parse(content)):
                if isinstance(node, ast.ImportFrom) and not node.level:
                    assert str(node.module).partition(".")[0] in allowed, name
                elif isinstance(node, ast.Import):
                    assert {a.name.partition(".")[0] for a in node.names} <= allowed, name


def test_the_stand_ins_can_be_read_in_one_sitting() -> None:
    lines = {
        name: content.count(b"\n")
        for name, content in archive.parts().items()
        if name.startswith(("msgspec/", "nacl/"))
    }
    assert max(lines.values()) <= 400
    assert sum(lines.values()) <= 1_000


def test_an_old_python_can_read_the_start_and_is_told_what_is_needed() -> None:
    start = archive.parts()["__main__.py"].decode()
    ast.parse(start, feature_version=(3, 4))
    assert start.index("version_info < (3, 11)") < start.index("import run")


def test_it_says_what_it_is_made_of(program: Path) -> None:
    told = run(program, "--about")
    first, *lines = told.stdout.splitlines()
    assert (told.returncode, told.stderr) == (0, "")
    assert first == f"nostro-verify {archive.parts()['VERSION'].decode().strip()}"
    assert lines == [
        f"{sha256(content).hexdigest()}  {name}"
        for name, content in archive.parts().items()
        if name != "VERSION"
    ]


def test_wrong_usage_is_64_and_a_plain_sentence(program: Path, tmp_path: Path) -> None:
    for arguments in ((), ("file",), ("a", "b", "--genesis", "c"), ("a", "--genesi", "c")):
        told = run(program, *arguments)
        assert (told.returncode, told.stdout) == (64, "")
        assert told.stderr.startswith("nostro: ")
    told = run(program, tmp_path / "none", "--genesis", tmp_path / "neither")
    assert told.returncode == 64
    assert told.stderr.startswith("nostro: cannot read the evidence ")


LOADED = """
import sys
from node.cli.main import main
code = main(["verify", sys.argv[1], "--genesis", sys.argv[1]])
print(code, *sorted({"asyncio", "aiohttp", "plyvel", "cryptography", "msgpack"} & set(sys.modules)))
"""


def test_the_installed_command_loads_no_more_than_it_needs_either(tmp_path: Path) -> None:
    nothing = tmp_path / "empty"
    nothing.write_bytes(b"")
    told = subprocess.run(
        [sys.executable, "-c", LOADED, str(nothing)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.splitlines()[-1] == "2"
