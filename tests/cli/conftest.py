"""Fixtures of the commands of the settlement engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.settlement_net import SettlementNet, settlement_net


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SettlementNet]:
    """A ledger with a central bank, a depository, three banks, a payment institution and a
    supervisor, behind one node."""
    with settlement_net(tmp_path / "net") as made:
        yield made


@pytest.fixture(scope="session")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SettlementNet]:
    """The same, shared by all tests of what is refused before anything is sent."""
    with settlement_net(tmp_path_factory.mktemp("idle") / "net") as made:
        yield made
