"""The reference page of the genesis file names every field."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from node.chain import genesis_file
from node.chain.records import ROLES

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "genesis-file.md").read_text()
PARTS = [
    each
    for name, each in vars(genesis_file).items()
    if isinstance(each, type) and issubclass(each, msgspec.Struct) and name.startswith("Genesis")
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_field_stands_in_the_page(part: type[msgspec.Struct]) -> None:
    for field in part.__struct_fields__:
        assert f"`{field}`" in PAGE, field


def test_every_choice_stands_in_the_page() -> None:
    assert len(PARTS) == 12
    for choice in (*ROLES, *genesis_file.CLOSE_RULES):
        assert f"`{choice}`" in PAGE, choice
