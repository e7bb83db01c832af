"""Makes the verifier's archive: `python -m node.audit.standalone.archive [FILE]`.

What goes into it is not listed but found: the command's module and all that it imports, and what
those import when they are loaded. A library that none of them stands in for, or a module of the
node, would show there; tests hold the found list to what a reader is told.

The same tree gives the same bytes: parts in order of name, stored as they are, with no time.
Needs the standard library alone.
"""

from __future__ import annotations

import ast
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[3]
"""Where the packages are."""
DEFAULT = Path("build/nostro-verify.pyz")
FOLDER = Path("node/audit/standalone")
STARTS = ("node.audit.standalone.app", "node.cli.verify")
"""Modules of which every import counts, also that of a single function."""
SHEBANG = b"#!/usr/bin/env python3\n"
OWN = ("node", "consensus")
STAND_INS = ("msgspec", "nacl")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a ZIP file can give a part."""


def parts(root: Path = ROOT) -> dict[str, bytes]:
    """Name in the archive → bytes, in order of name."""
    found = {str(path.relative_to(root)): path.read_bytes() for path in sorted(_modules(root))}
    for name in STAND_INS:
        for path in (root / FOLDER / name).glob("*.py"):
            found[f"{name}/{path.name}"] = path.read_bytes()
    found["__main__.py"] = (root / FOLDER / "__main__.py").read_bytes()
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    found["VERSION"] = f"{project['version']}\n".encode()
    return dict(sorted(found.items()))


def build(root: Path = ROOT) -> bytes:
    """The bytes of the archive."""
    buffer = BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, content in parts(root).items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def _modules(root: Path) -> set[Path]:
    """The modules of ours that the verifier consists of, with the packages that they stand in."""
    found: set[Path] = set()
    pending = [path for start in STARTS for path in _files(root, start)]
    starts = {list(_files(root, start))[-1] for start in STARTS}
    while pending:
        path = pending.pop()
        if path in found:
            continue
        found.add(path)
        for name in _imports(ast.parse(path.read_bytes(), str(path)), path in starts):
            pending += _files(root, name)
    return found


def _imports(node: ast.AST, whole: bool) -> Iterator[str]:
    """Dotted names that are imported when the module is loaded; if `whole`, also later."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module is not None and not child.level:
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        elif whole or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports(child, whole)


def _files(root: Path, name: str) -> Iterator[Path]:
    """The files of a dotted name of ours: its packages, and the module if that is one."""
    if name.partition(".")[0] not in OWN:
        return
    path = root
    for step in name.split("."):
        path = path / step
        if (path / "__init__.py").is_file():
            yield path / "__init__.py"
        elif path.with_suffix(".py").is_file():
            yield path.with_suffix(".py")


def main(arguments: list[str]) -> int:
    """Write the archive to the file named, or to build/."""
    if len(arguments) > 1 or any(each.startswith("-") for each in arguments):
        print(__doc__, file=sys.stderr)
        return 2
    target, data = Path(arguments[0]) if arguments else DEFAULT, build()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(0o755)
    except OSError as error:
        print(f"nostro: {target} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(f"{target}: {len(data):,} bytes, SHA-256 {sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
