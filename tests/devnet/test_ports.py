"""Ports are checked before any node starts, and an occupied one is named."""

from __future__ import annotations

import socket

import pytest

from devnet.ports import HOST, PORTS_PER_NODE, PortsTaken, check, choose


def test_free_ports_are_consecutive_below_those_of_outgoing_connections() -> None:
    ports = [port for node in choose(4, 0) for port in node]
    assert ports == list(range(ports[0], ports[0] + 4 * PORTS_PER_NODE))
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as limits:
        assert ports[-1] < int(limits.read().split()[0])


def test_an_occupied_port_is_named_with_the_node_that_needs_it() -> None:
    ports = choose(2, 0)
    with socket.socket() as other:
        other.bind((HOST, ports[1].p2p))
        other.listen()
        with pytest.raises(PortsTaken, match=rf"port {ports[1].p2p} .* node1 needs it \(p2p\)"):
            check(ports)
        with pytest.raises(PortsTaken, match="--base-port"):
            choose(2, ports[0].api)


@pytest.mark.parametrize("base", [65_530, 65_535])
def test_a_base_port_too_near_the_end_is_refused(base: int) -> None:
    with pytest.raises(PortsTaken, match="out of range"):
        choose(4, base)
