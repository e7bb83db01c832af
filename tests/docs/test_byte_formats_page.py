"""The reference page of byte formats says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from consensus import messages
from node.audit import dossier, epochs, proofs, state_proofs
from node.chain import encoding, records, state_map, types, uetr_tree
from node.engine import gossip, snapshot, window
from node.network import frames, transport
from node.storage import backup

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "byte-formats.md").read_text()
MODULES = (
    types, records, state_map, uetr_tree, messages, epochs, dossier, state_proofs, proofs,
    frames, gossip, snapshot, window, backup,
)  # fmt: skip


def described() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Type → its tag and field names, from the page's tables."""
    rows = re.findall(r"^\| ([A-Z]\w+) \| (none|`[^`]+`) \| (.*?) ?\|$", PAGE, re.MULTILINE)
    return {
        name: (tag.strip("`"), tuple(field.split()[0] for field in _fields(fields)))
        for name, tag, fields in rows
    }


def _fields(text: str) -> list[str]:
    return [field for field in re.split(r", (?![^(\[]*[)\]])", text) if field]


def structs(module: ModuleType) -> list[type[msgspec.Struct]]:
    return [
        each
        for name, each in vars(module).items()
        if isinstance(each, type)
        and issubclass(each, msgspec.Struct)
        and each.__module__ == module.__name__
        and not name.startswith("_")
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_type_stands_in_the_page_as_it_is(module: ModuleType) -> None:
    page = described()
    assert structs(module)
    for each in structs(module):
        tag = each.__struct_config__.tag
        assert page[each.__name__] == (tag or "none", each.__struct_fields__), each.__name__


def test_the_page_describes_nothing_else() -> None:
    assert set(described()) == {each.__name__ for module in MODULES for each in structs(module)}


def test_every_domain_stands_in_the_page() -> None:
    domains = {
        value[1:].decode()
        for module in (encoding, transport, snapshot, backup)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, bytes) and value[1:].startswith(b"nostro.")
    }
    assert domains
    for domain in domains:
        assert domain in PAGE


def test_the_bounds_in_the_page_are_those_of_the_code() -> None:
    for number in (frames.SMALL_BYTES, frames.CHUNK_BYTES, frames.MAX_PARTS):
        assert f"{number:,}" in PAGE
    assert f"{frames.MAX_FRAME_BYTES:,} bytes" in PAGE
    for channel, limit in frames.CHANNEL_LIMIT.items():
        assert f"{limit >> 20} MiB" in PAGE, channel
