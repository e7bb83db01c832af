"""`nostro doctor`: looks at everything that commonly goes wrong with a node, and says what to do.

It reads and probes only: it changes nothing, needs no passphrase, and works beside a running node.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import socket
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from node.cli.members import (
    Finding,
    ask,
    check_epoch,
    check_equivocations,
    check_keys,
    check_peers,
    members_of,
)
from node.cli.operator import report
from node.cli.output import Output, instant
from node.cli.stall import explain
from node.storage.config import Address
from node.storage.errors import StorageError, StoreLocked
from node.storage.home import Home, open_home

if TYPE_CHECKING:
    from node.api.service import StatusView

PROBE_SECONDS = 2.0
"""For one connection to a peer or to the node itself."""
LOW_DISK_BYTES = 1 << 30
NO_DISK_BYTES = 100 << 20
CERTIFICATE_DAYS = 90
"""Warned of from here on. A running node renews its certificate long before."""
MAX_AHEAD_MS = 5_000
"""How far the last block's time may lie ahead of this machine's clock."""


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    doctor = subparsers.add_parser("doctor", help="look for what is wrong with a node")
    doctor.add_argument("--home", metavar="DIR", type=Path, required=True)
    doctor.add_argument("--json", action="store_true", help="one JSON document on stdout")
    doctor.set_defaults(handler=_doctor)


def _doctor(args: argparse.Namespace, output: Output) -> int:
    return report(examine(args.home), output)


def examine(path: Path) -> list[Finding]:
    """All findings about the node of a home."""
    try:
        home = open_home(path)
    except (StorageError, OSError) as error:
        return [Finding("fail", "home", str(error))]
    found = [
        Finding("ok", "home", f"{path} is a home of {home.config.name}, private to its owner"),
        Finding("ok", "chain", f"{home.genesis.network}, chain id {home.chain_id.hex()}"),
    ]
    running = _is_running(home)
    status = _status(home) if running else None
    governed = ask(home) if status is not None else None
    members = members_of(home, governed)
    found.append(check_keys(home, members))
    found += check_peers(home, members)
    found += _listeners(home, running, status)
    found.append(_disk(path))
    found += _height(home, running, status)
    found += _reachable(home, status)
    if status is not None:
        progress = explain(status, _now())
        found.append(Finding(progress.result, "settlement", progress.text))
    if governed is not None:
        found.append(check_epoch(governed))
        found += check_equivocations(governed)
    if running:
        found.append(check_certificate(home.config.p2p))
    return found


def _is_running(home: Home) -> bool:
    try:
        home.acquire()
    except StoreLocked:
        return True
    home.release()
    return False


def _status(home: Home) -> StatusView | None:
    from node.api.client import ApiClient, ApiError  # noqa: PLC0415

    async def ask() -> StatusView | None:
        async with ApiClient([f"http://{home.config.api}"]) as client:
            with contextlib.suppress(ApiError):
                return await client.status()
        return None

    return asyncio.run(ask())


def _listeners(home: Home, running: bool, status: StatusView | None) -> list[Finding]:
    if running:
        if status is None:
            text = f"the node runs, but its API at {home.config.api} does not answer"
            return [Finding("fail", "API", text)]
        if status.chain_id != home.chain_id.hex() or status.node != home.config.name:
            text = f"{home.config.api} is answered by {status.node} of chain {status.chain_id}"
            return [Finding("fail", "API", text)]
        found = [Finding("ok", "API", f"{status.node} answers at {home.config.api}")]
        if status.alarm is not None:
            found.append(Finding("fail", "consensus", f"the node stopped signing: {status.alarm}"))
        return found
    found = [Finding("warn", "node", "the node does not run; nostro start runs it")]
    for name in ("p2p", "api", "operator"):
        address: Address = getattr(home.config, name)
        with socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, address.port))
            except OSError as error:
                text = (
                    f"the [{name}] address {address} cannot be used: {error.strerror}; stop what "
                    "uses it or change config.toml"
                )
                found.append(Finding("fail", "ports", text))
            else:
                found.append(Finding("ok", "ports", f"the [{name}] address {address} is free"))
    return found


def _disk(path: Path) -> Finding:
    free = shutil.disk_usage(path).free
    text = f"{free / (1 << 30):.1f} GiB are free on the file system of {path}"
    if free < NO_DISK_BYTES:
        return Finding("fail", "disk", f"{text}; a node stops when it cannot write")
    if free < LOW_DISK_BYTES:
        return Finding("warn", "disk", f"{text}; make room soon")
    return Finding("ok", "disk", text)


def _height(home: Home, running: bool, status: StatusView | None) -> list[Finding]:
    """The last final block, and this machine's clock against its time."""
    if status is not None:
        height, block_time = status.height, status.time
    elif running:
        return []
    else:
        try:
            height, block_time = _stored_height(home)
        except (StorageError, OSError) as error:
            return [Finding("fail", "database", str(error))]
    now = _now()
    found = [Finding("ok", "height", f"{height} is final, of {instant(block_time)}")]
    if block_time > now + MAX_AHEAD_MS:
        text = (
            f"it is {instant(now)} by this machine's clock, behind the last block's "
            f"{instant(block_time)}; set the clock (NTP)"
        )
        found.append(Finding("fail", "clock", text))
    else:
        found.append(Finding("ok", "clock", f"{instant(now)}, not behind the last block"))
    return found


def _now() -> int:
    return time.time_ns() // 1_000_000


def _stored_height(home: Home) -> tuple[int, int]:
    from node.storage.chain_store import ChainStore  # noqa: PLC0415

    database = home.open_database()
    try:
        floor = ChainStore(database).floor()
    finally:
        database.close()
    return (0, home.genesis.time) if floor is None else (floor.info.height, floor.info.timestamp)


def _reachable(home: Home, status: StatusView | None) -> list[Finding]:
    if status is not None:
        found = []
        for peer in status.peers:
            detail = f": {peer.detail}" if peer.detail and not peer.connected else ""
            state = "connected" if peer.connected else f"not connected{detail}"
            found.append(
                Finding("ok" if peer.connected else "warn", "peer", f"{peer.name} {state}")
            )
        return found
    return [_probe(name, address) for name, address in sorted(home.config.peers.items())]


def _probe(name: str, address: Address) -> Finding:
    try:
        with socket.create_connection((address.host, address.port), PROBE_SECONDS):
            return Finding("ok", "peer", f"{name} listens at {address}")
    except OSError as error:
        why = error.strerror or error
        return Finding("warn", "peer", f"{name} cannot be reached at {address}: {why}")


def check_certificate(address: Address) -> Finding:
    """How long the certificate is valid that the running node shows to its peers."""
    from cryptography import x509  # noqa: PLC0415

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Only its dates are read: who it belongs to is for the peers to check, not for us.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, address.port), PROBE_SECONDS) as plain,
            context.wrap_socket(plain) as secure,
        ):
            der = secure.getpeercert(binary_form=True)
    except (OSError, ValueError) as error:
        return Finding("warn", "certificate", f"cannot be looked at, {address}: {error}")
    assert der is not None
    expires = x509.load_der_x509_certificate(der).not_valid_after_utc
    days = (expires - datetime.now(UTC)).days
    text = f"valid until {expires:%Y-%m-%d}, {days} days"
    if days < CERTIFICATE_DAYS:
        text += (
            ": the node should have renewed it by now. Its links go on, for peers look at the key "
            "alone; its log says why it cannot, and a restart makes a new one"
        )
        return Finding("warn", "certificate", text)
    return Finding("ok", "certificate", text)
