"""A fake devnet with everybody that a settlement system has, for the commands and the API."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.command import Net, Ran, describe
from tests.support.fake_node import ThreadedNode
from tests.support.ledger_world import World

BANKS = {
    "CENTRALBANK": ("issuer", "operator", "validator"),
    "DEPOSITORY": ("depository",),
    "BANKA": ("direct-participant",),
    "BANKB": ("direct-participant",),
    "BANKC": ("direct-participant",),
    "PAYCO": ("payment-institution",),
    "WATCHDOG": ("supervisor",),
}
BOND = "DE0001102580"
FUNDED = 1_000_000
"""Minor units: 10,000.00 EUR each."""


class SettlementNet(Net):
    """`Net` with short ways to what tests of settlement do most."""

    def json(self, *arguments: object, code: int = 0) -> Any:
        """The document of a command that must exit with this code."""
        ran = self.run(*arguments, "--json")
        assert ran.code == code, (ran.out, ran.err)
        return ran.json

    def paid(self, amount: str, code: object = 0, **options: object) -> str:
        """UETR of a payment that BANKA makes to BANKB unless told otherwise."""
        ran = self.pay(amount=amount, **options)
        assert ran.code == code, (ran.out, ran.err)
        return str(ran.json["uetr"])

    def status(self, uetr: str) -> tuple[str, str | None]:
        """(status, reason) of a payment now."""
        document = self.run("payment", uetr, "--json").json
        return document["status"], document["reason"]

    def tick(self, milliseconds: int = 1_000) -> None:
        """A block without instructions, so much later than the last."""
        node = self.first.node
        self.first.do(lambda: node.chain.block(time=node.chain.state.time + milliseconds))

    def now(self) -> int:
        """Block time."""
        return self.first.node.chain.state.time

    def usage(self, *arguments: object) -> Ran:
        """A command line that must be refused as wrong usage, without anything sent."""
        sent = len(self.first.node.submissions)
        ran = self.run(*arguments)
        assert ran.code == 64, (ran.out, ran.err)
        assert len(self.first.node.submissions) == sent
        return ran


@contextlib.contextmanager
def settlement_net(directory: Path, **world: object) -> Iterator[SettlementNet]:
    """EUR and CNY by the central bank, a bond by the depository; each bank has 10,000.00 EUR."""
    made = World.make(
        banks=BANKS,
        assets=(("EUR", 2), ("CNY", 2), (BOND, 0)),
        issuers={BOND: "DEPOSITORY"},
        **world,  # type: ignore[arg-type]
    )
    with ThreadedNode(made) as node:
        node.do(lambda: node.node.chain.fund(FUNDED, "BANKA", "BANKB", "BANKC", "PAYCO"))
        describe(directory, made, [node.url])
        yield SettlementNet([node], directory)
