"""The tutorials of the ready profiles print what they say, on real nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tutorial import run_page

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("name", ["auditor", "gridlock", "net", "crossborder"])
def test_a_tutorial_does_what_it_says(name: str, tmp_path: Path) -> None:
    assert len(run_page(TUTORIALS / f"{name}.md", tmp_path)) > 10
