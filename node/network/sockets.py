"""Sockets of peer links: the one that listens, and what is set on each connection."""

from __future__ import annotations

import asyncio
import logging
import socket
from errno import EADDRINUSE, EADDRNOTAVAIL

from node.chain.types import Validator
from node.network.links import ListenFailed
from node.storage.config import parse_address

log = logging.getLogger(__name__)

NOT_SENT_BYTES = 128 * 1024
"""How much the kernel may hold of what it has not sent: more would only queue votes behind
chunks where our own order of sending can no longer put them first."""


def published_address(validator: Validator) -> tuple[str, int] | None:
    """Where the validator set says that a validator listens; None if it says nothing of use."""
    if not validator.address:
        return None
    try:
        address = parse_address(validator.address)
    except ValueError as error:
        # It stands on the ledger: no node may fail for it, and each may configure a better one.
        log.warning("the validator set has no usable address of %s: %s", validator.name, error)
        return None
    return address.host, address.port


def tune(connection: socket.socket) -> None:
    """Set a connection up for small messages that must not wait."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    not_sent = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if not_sent is not None:
        connection.setsockopt(socket.IPPROTO_TCP, not_sent, NOT_SENT_BYTES)


async def listen(host: str, port: int) -> socket.socket:
    """A listening socket on the first address of `host`. Raises ListenFailed."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenFailed(host, port, error, "check the host in the configuration") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A restarted node must not wait for its predecessor's connections to time out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        advice = "check the configured address and port"
        if error.errno == EADDRINUSE:
            advice = "the port is in use: stop the other process or configure another port"
        elif error.errno == EADDRNOTAVAIL:
            advice = "this machine has no such address: configure one of its own"
        raise ListenFailed(host, port, error, advice) from error
    return listener
