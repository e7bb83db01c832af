"""Which TCP ports a devnet's nodes listen on: three per node, all on the loopback address."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"
PORTS_PER_NODE = 3
FIRST_PORT = 20_000
"""Below it, well-known services are more likely to come and go."""
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL_EPHEMERAL_START = 32_768
"""Linux's default start of the range that outgoing connections take their ports from."""
BLOCKS_TRIED = 200
"""Blocks of ports that are tried before giving up."""
LAST_PORT = 65_535


class PortsTaken(Exception):
    """A devnet cannot listen where it should; the text says where and what to do."""


class NodePorts(NamedTuple):
    api: int
    p2p: int
    operator: int


def is_free(port: int) -> bool:
    """Whether this process could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection of the former owner in TIME_WAIT does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(nodes: int, base_port: int) -> list[NodePorts]:
    """Ports for this many nodes: from `base_port` on, or free ones if it is 0.

    Raises PortsTaken.
    """
    if base_port:
        ports = _block(base_port, nodes)
        check(ports)
        return ports
    # Ports of the ephemeral range would be free now and taken by some outgoing connection
    # while a killed node is down, so that it could not come back.
    count = nodes * PORTS_PER_NODE
    blocks = list(range(FIRST_PORT, _ephemeral_start() - count, count))
    random.SystemRandom().shuffle(blocks)
    for start in blocks[:BLOCKS_TRIED]:
        ports = _block(start, nodes)
        if all(is_free(port) for node in ports for port in node):
            return ports
    raise PortsTaken(
        f"found no {count} consecutive free ports from {FIRST_PORT} on; "
        "choose where to listen with --base-port"
    )


def check(ports: list[NodePorts]) -> None:
    """Raise PortsTaken, naming the port, unless all can be listened on now."""
    for index, node in enumerate(ports):
        for use, port in node._asdict().items():
            if not is_free(port):
                raise PortsTaken(
                    f"port {port} of {HOST} is in use, node{index} needs it ({use}); stop what "
                    "listens there or choose other ports with --base-port"
                )


def _block(start: int, nodes: int) -> list[NodePorts]:
    end = start + nodes * PORTS_PER_NODE - 1
    if start < 1 or end > LAST_PORT:
        raise PortsTaken(
            f"--base-port {start} is out of range: {nodes} nodes need the ports "
            f"{start} to {end}, and the last one there is is {LAST_PORT}"
        )
    firsts = range(start, end + 1, PORTS_PER_NODE)
    return [NodePorts(api=first, p2p=first + 1, operator=first + 2) for first in firsts]


def _ephemeral_start() -> int:
    try:
        return int(EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return USUAL_EPHEMERAL_START
