"""What an audit of a whole chain was attacked with: its processes, its work, its input."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from node.audit.chain_audit import audit_chain
from node.audit.report import INVALID
from node.audit.signatures import BATCH_SIGNATURES, InProcesses
from tests.audit.test_signatures_beside import CHAIN, handed_over
from tests.support import world
from tests.support.small_chain import sample

ROOT = Path(__file__).parents[2]

HANDS_OVER = """
    from node.audit.signatures import InProcesses
    checks = InProcesses(bytes(32), 1, start_after=0)
    checks.about(lambda key: ValueError("refused"))
    for _ in range(64):
        checks.verify(bytes(32), "d", bytes(32), b"", bytes(64))
    try:
        checks.settle()
    except ValueError as error:
        print(error)
    checks.close()
"""


def in_a_process(code: str, cwd: Path) -> str:
    """What it prints. The tree is found by its path, not by where it runs."""
    found = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    ran = subprocess.run(
        [sys.executable, "-P", "-c", found + textwrap.dedent(code)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not ran.stderr
    return ran.stdout.strip()


def test_code_that_lies_where_the_audit_is_run_verifies_nothing(tmp_path: Path) -> None:
    """An auditor may well stand in the directory that he was handed."""
    package = tmp_path / "node" / "audit"
    package.mkdir(parents=True)
    for each in (package, package.parent):
        (each / "__init__.py").touch()
    (package / "signature_worker.py").write_text(
        "import os, sys, pathlib\n"
        "pathlib.Path('ran').touch()\n"
        "os.write(1, b'\\x01' * 64)\n"
        "sys.stdin.read()\n"
    )
    assert in_a_process(HANDS_OVER, tmp_path) == "refused"
    assert not (tmp_path / "ran").exists()


def test_without_processes_to_be_had_the_audit_verifies_itself(tmp_path: Path) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\n"
    code = textwrap.dedent(HANDS_OVER).replace("\nchecks =", f"\n{limit}checks =", 1)
    assert in_a_process(code, tmp_path) == "refused"


def test_a_process_that_stands_still_is_given_up() -> None:
    checks = InProcesses(CHAIN, 2, start_after=0, patience=0.05)
    handed_over(checks, 2 * BATCH_SIGNATURES)
    for worker in checks._workers:
        worker.process.send_signal(signal.SIGSTOP)
    handed_over(checks, 4 * BATCH_SIGNATURES)
    checks.settle()
    assert checks.sound == checks.given == 6 * BATCH_SIGNATURES
    handed_over(checks, 1, bad=0)
    with pytest.raises(ValueError, match="0"):
        checks.settle()
    checks.close()


@pytest.mark.parametrize("outcomes", [None, [b"made up"]])
def test_stored_outcomes_of_the_genesis_block_are_compared_too(
    outcomes: list[bytes] | None,
) -> None:
    chain = copy.copy(sample())
    chain.stored_outcomes = {**chain.stored_outcomes}
    if outcomes is None:
        del chain.stored_outcomes[0]
    else:
        chain.stored_outcomes[0] = outcomes
    report = audit_chain(chain, world.genesis_bytes())
    assert report.finding is not None
    assert (report.verdict, report.finding.height) == (INVALID, 0)
    assert "stored outcomes" in report.finding.where
