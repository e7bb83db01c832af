"""Governing a running devnet as two of its operators do."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path

from node.api.client import ApiClient
from node.chain.build import build
from node.chain.instruction import parse_instruction
from node.chain.types import Approve, Change, Propose
from node.storage.keystore import Keystore, open_keystore
from tests.support.devnet import Devnet

VALIDITY_MS = 600_000
EPOCH_SECONDS = 60.0
LOOK_SECONDS = 0.05
"""Between two looks at a node's status: no event tells of an epoch."""


class Operators:
    """CENTRALBANK proposes, BANKA approves."""

    def __init__(self, devnet: Devnet) -> None:
        self._devnet = devnet
        description = devnet.description
        self._chain = bytes.fromhex(description["chain_id"])
        self._participants = {p["name"]: p for p in description["participants"]}

    def _key(self, name: str) -> Keystore:
        return open_keystore(Path(self._participants[name]["keystore"]), "devnet")

    async def change(self, node: str, *changes: Change) -> None:
        """Have the network decide on these changes; sent to `node`."""
        now = int(time.time() * 1000)
        proposal = build(
            self._chain,
            self._participants["CENTRALBANK"]["lei"],
            uuid.uuid4().hex,
            now + VALIDITY_MS,
            Propose(tuple(changes), now + VALIDITY_MS),
            [self._key("CENTRALBANK").signer],
        )
        approval = build(
            self._chain,
            self._participants["BANKA"]["lei"],
            uuid.uuid4().hex,
            now + VALIDITY_MS,
            Approve(parse_instruction(proposal).digest),
            [self._key("BANKA").signer],
        )
        async with ApiClient([self._devnet.api(node)]) as client:
            await client.submit(proposal)
            await client.submit(approval)

    async def epoch(self, epoch: int, *nodes: str) -> None:
        """Wait until these nodes are in this epoch."""
        for node in nodes:
            async with ApiClient([self._devnet.api(node)]) as client:
                try:
                    async with asyncio.timeout(EPOCH_SECONDS):
                        while (await client.status()).epoch < epoch:  # noqa: ASYNC110
                            await asyncio.sleep(LOOK_SECONDS)
                except TimeoutError:
                    raise AssertionError(
                        f"{node} is not in epoch {epoch} after {EPOCH_SECONDS} s"
                        + self._devnet.logs()
                    ) from None
