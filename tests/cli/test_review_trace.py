"""What a node that is asked for a trace may not do to the one who asks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from node.api.settlement import TraceView
from node.cli.errors import CommandError
from node.cli.flow import Flow
from node.cli.trace import _draw

UETR = "eb6305c9-1f7f-49de-aed0-16487c27b42d"


class LyingNode:
    """Gives out whatever it is asked for."""

    async def evidence(self, uetr: str) -> bytes:
        return b"anything"


@pytest.mark.parametrize(
    "name", ["../outside", "/{}/outside", "..", "", f"{UETR}/../../outside", UETR.upper()]
)
def test_a_dossier_is_written_beside_the_picture_only(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "in"
    directory.mkdir()
    child = TraceView(uetr=name.format(tmp_path), relation="carries-on", known=True)
    source = TraceView(uetr=UETR, relation="source", known=True, following=[child])
    client: Any = LyingNode()
    with pytest.raises(CommandError, match="no UETR"):
        asyncio.run(_draw(client, directory / "flow.html", "Flow", [Flow("From", source, True)]))
    assert [each.name for each in tmp_path.iterdir()] == ["in"]
    assert not (directory / "flow.html").exists()
