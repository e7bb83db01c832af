"""An auditor's follower of real nodes is killed and goes on; its witness cosigns beside it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import run
from tests.support.devnet import Devnet

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("devnet")]

BOUND_SECONDS = 45.0
LOOK_SECONDS = 0.1


@pytest.fixture
def devnet(tmp_path: Path) -> Iterator[Devnet]:
    running = Devnet(tmp_path / "devnet", "--validators", "2", "--banks", "2")
    running.up()
    yield running
    running.down()


class Follower:
    """The process."""

    def __init__(self, devnet: Devnet, copy: Path, *nodes: str) -> None:
        urls = [part for node in nodes for part in ("--api", devnet.api(node))]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "node.cli", "audit", "follow", *urls,
             "--genesis", devnet.description["genesis"], "--dir", str(copy),
             "--metrics-port", "0", "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            bufsize=0,  # what is read ahead shows to no select
        )  # fmt: skip
        self.began_at = int(self._said("the copy is verified to height ").partition(";")[0])
        self.metrics = self._said("metrics at ").strip()

    def _said(self, what: str) -> str:
        """What the log says after this, waiting for it."""
        assert self.process.stderr is not None
        while select.select([self.process.stderr], [], [], BOUND_SECONDS)[0]:
            line = self.process.stderr.readline().decode()
            assert line, f"the follower ended with {self.process.wait()}"
            if what in line:
                return line.partition(what)[2]
        raise AssertionError(f"the follower does not say {what!r}")

    def height(self) -> int:
        """Verified, by its metrics."""
        with urllib.request.urlopen(self.metrics, timeout=BOUND_SECONDS) as answer:
            text = answer.read().decode()
        [line] = [each for each in text.splitlines() if each.startswith("nostro_audit_height ")]
        return int(float(line.split()[1]))

    def until(self, height: int) -> None:
        deadline = time.monotonic() + BOUND_SECONDS
        while self.height() < height:
            assert time.monotonic() < deadline, f"not at height {height}: {self.height()}"
            time.sleep(LOOK_SECONDS)

    def end(self, number: int) -> tuple[int, bytes]:
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=BOUND_SECONDS)
        return self.process.returncode, out


def pay(devnet: Devnet) -> int:
    """The height of a new payment."""
    paid: Any = devnet.json(
        "pay", "--from", "BANKA", "--to", "BANKB", "--amount", "5.00", "--currency", "EUR"
    )
    return int(paid["height"])


def test_a_follower_survives_kill_9_and_its_witness_cosigns_beside_it(
    devnet: Devnet, tmp_path: Path
) -> None:
    copy, genesis = tmp_path / "copy", devnet.description["genesis"]
    follower = Follower(devnet, copy, "node0", "node1")
    assert follower.began_at == 0
    height = pay(devnet)
    follower.until(height)
    assert follower.end(signal.SIGKILL)[0] == -signal.SIGKILL

    follower = Follower(devnet, copy, "node0", "node1")
    assert follower.began_at >= height
    follower.until(pay(devnet))

    passphrase = tmp_path / "passphrase"
    passphrase.write_text("a long passphrase")
    os.chmod(passphrase, 0o600)
    keys = {"signer": ("--genesis", genesis), "witness": ("--witness", "auditor.example/w")}
    vkeys = {}
    for name, option in keys.items():
        made = run("audit", "checkpoint", "keys", "create", *option, "--json",
                      "-o", str(tmp_path / name), "--passphrase-file", str(passphrase))  # fmt: skip
        assert made.code == 0, made.err
        vkeys[name] = made.json["vkey"]
    devnet.order("kill", "node1")
    node1 = next(each["home"] for each in devnet.description["nodes"] if each["name"] == "node1")
    common = ("--genesis", genesis, "--passphrase-file", str(passphrase))
    note, cosigned = str(tmp_path / "note"), str(tmp_path / "cosigned")
    signed = run("audit", "checkpoint", "sign", "--home", node1, "-o", note, *common,
                    "--key", str(tmp_path / "signer"), "--json")  # fmt: skip
    assert signed.code == 0, signed.err
    follower.until(signed.json["height"])
    done = run("audit", "checkpoint", "cosign", note, "--copy", str(copy), "-o", cosigned,
                  *common, "--key", str(tmp_path / "witness"))  # fmt: skip
    assert done.code == 0, done.err
    shown = run("audit", "checkpoint", "show", cosigned, "--genesis", genesis,
                   "--witness", vkeys["witness"], "--witness", vkeys["signer"])  # fmt: skip
    assert shown.code == 0, shown.err

    code, out = follower.end(signal.SIGTERM)
    assert code == 0
    said = json.loads(out)
    assert said["height"] >= height
    assert [each["kind"] for each in said["told"]] == []
