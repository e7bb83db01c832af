"""A command that is stopped ends at once, without a traceback, and can be run again safely."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.cli.errors import Exit
from node.cli.output import Output
from node.cli.running import internal
from tests.support.command import Net, devnet

ROOT = Path(__file__).parents[2]
HEADER = "uetr,debtor,creditor,amount,currency,priority\n"


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with devnet(tmp_path / "net") as made:
        yield made


def start(net: Net, *arguments: object, background: bool = False) -> subprocess.Popen[str]:
    """`background`: SIGINT is ignored, as a shell has it for what it starts with `&`."""
    given = [str(argument) for argument in (*arguments, "--devnet", net.directory)]
    command = [sys.executable, "-m", "node.cli", *given]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if background else None
    try:
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        if background:
            signal.signal(signal.SIGINT, before)


def until_it_waits(net: Net) -> None:
    """Return once the command's long poll is open: everything was sent, nothing is final."""
    net.first.wait_for(lambda: net.first.node.until_watchers(1))


@pytest.mark.parametrize(
    ("number", "background"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)],
)
def test_a_file_that_is_interrupted_and_run_again_pays_each_row_once(
    net: Net, tmp_path: Path, number: signal.Signals, *, background: bool
) -> None:
    path = tmp_path / "payments.csv"
    path.write_text(HEADER + ",BANKA,BANKB,1.00,EUR,normal\n" * 5)
    net.first.node.finalizing = False
    process = start(net, "pay", "--file", path, background=background)
    until_it_waits(net)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert "Run the same command again: each row is paid once" in err
    net.first.node.finalizing = True
    assert net.run("pay", "--file", path).code == 0
    assert net.balance("BANKB") == "10005.00"


def test_a_payment_that_is_interrupted_can_be_asked_for_by_the_uetr_it_printed(net: Net) -> None:
    net.first.node.finalizing = False
    process = start(
        net, "pay", "--from", "BANKA", "--to", "BANKB", "--amount", "1", "--currency", "EUR"
    )
    until_it_waits(net)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    uetr = out.split()[1]
    net.first.do(net.first.node.finalize)
    assert net.run("payment", uetr).code == 0


def test_a_reader_that_goes_away_causes_no_traceback(net: Net) -> None:
    process = start(net, "balance", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait(30) != 0


def test_a_bug_of_ours_is_reported_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert internal(RuntimeError("oops"), Output(as_json=False)) == Exit.INTERNAL
    err = capsys.readouterr().err
    assert "RuntimeError: oops" in err
    assert "NOSTRO_DEBUG=1" in err
