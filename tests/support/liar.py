"""A validator of a running devnet that lies: its process is gone, the test has its keys."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from consensus.messages import (
    VOTE_DOMAIN,
    Certificate,
    Content,
    Epoch,
    Kind,
    MalformedMessage,
    Proposal,
    Vote,
    decode_message,
    encode,
    vote_payload,
)
from node.network.frames import Channel
from node.network.peers import PeerNetwork
from node.storage.home import open_home
from node.storage.keystore import DEVNET_PASSPHRASE, open_keystore
from tests.support.devnet import Devnet

LINK_SECONDS = 30.0
"""Bound on every wait for the others."""


class Liar:
    """An asynchronous context manager: linked with the other nodes, as their peer, while entered.

    Kill the node's process before."""

    def __init__(self, devnet: Devnet, name: str) -> None:
        home = open_home(devnet.directory / "nodes" / name)
        genesis = home.genesis
        self.names = [each.name for each in genesis.validator_set.validators]
        self.index = self.names.index(name)
        self.validator = genesis.validator_set.validators[self.index]
        self.view = 0
        """The highest view that anybody has spoken of."""
        assert home.vote_key is not None
        self._chain_id = home.chain_id
        self._vote_key = open_keystore(home.vote_key, DEVNET_PASSPHRASE, role="vote").signer
        node_key = open_keystore(home.node_key, DEVNET_PASSPHRASE, role="node")
        self._links: set[int] = set()
        self._changed = asyncio.Event()
        self._network = PeerNetwork(
            chain_id=home.chain_id,
            validator_set=genesis.validator_set,
            own_index=self.index,
            node_seed=node_key.seed,
            listen=(home.config.p2p.host, home.config.p2p.port),
            addresses={
                self.names.index(peer): (address.host, address.port)
                for peer, address in home.config.peers.items()
            },
            on_message=self._on_message,
            on_link=self._on_link,
        )

    async def __aenter__(self) -> Self:
        await self._network.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._network.stop()

    def _on_link(self, peer: int, up: bool) -> None:
        if up:
            self._links.add(peer)
        else:
            self._links.discard(peer)
        self._changed.set()

    def _on_message(self, peer: int, channel: Channel, payload: bytes) -> None:
        if channel is not Channel.CONSENSUS:
            return
        try:
            message = decode_message(payload)
        except MalformedMessage as error:
            raise AssertionError(f"{self.names[peer]} sent a malformed message") from error
        said = message.vote if isinstance(message, Proposal) else message
        if isinstance(said, Vote | Certificate):
            self.view = max(self.view, said.view)
            self._changed.set()

    async def linked(self, *nodes: str) -> None:
        """Wait until these nodes are linked and have said in which view they are."""
        wanted = {self.names.index(name) for name in nodes}
        async with asyncio.timeout(LINK_SECONDS):
            while not (wanted <= self._links and self.view):
                self._changed.clear()
                await self._changed.wait()

    def vote(self, view: int, kind: Kind, content: Content | None = None) -> Vote:
        """Whatever the test wants, signed with the node's vote key. No guard stands beside it."""
        payload = vote_payload(Epoch(0), view, kind, content)
        signature = self._vote_key.sign(VOTE_DOMAIN, self._chain_id, payload)
        return Vote(0, view, kind, content, self.index, signature)

    def say(self, *votes: Vote, to: str) -> None:
        """Send votes to a node."""
        for vote in votes:
            self._network.send(self.names.index(to), Channel.CONSENSUS, encode(vote))
