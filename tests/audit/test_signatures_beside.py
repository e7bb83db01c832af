"""Signatures that processes verify: the same finding as without, whoever is slow or dies."""

from __future__ import annotations

import copy
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from msgspec.structs import replace

from node.audit.audit_report import AuditReport
from node.audit.chain_audit import audit_chain
from node.audit.report import INVALID, VALID
from node.audit.signature_worker import answer, read_exactly
from node.audit.signatures import BATCH_BYTES, BATCH_SIGNATURES, InProcesses
from node.chain.block import encode_block, inspect_block
from node.chain.encoding import decode, encode
from node.chain.instruction import parse_instruction
from node.chain.signature import Ed25519Signer
from node.chain.types import Instruction
from tests.support import world
from tests.support.rewriting import rewritten
from tests.support.small_chain import SmallChain, issue, pay

ROOT = Path(__file__).parents[2]
BLOCKS = 30
CHAIN = bytes(32)
DOMAIN = "nostro.test/1"
KEY = Ed25519Signer(bytes(range(32)))


@cache
def long_chain() -> SmallChain:
    """With seven signatures in each block. Shared: copy it before damaging it."""
    chain = SmallChain()
    chain.add(issue(chain, 1))
    for number in range(2, BLOCKS + 1):
        chain.add(pay(chain, f"E2E-{number}", number))
    return chain


def beside(
    chain: SmallChain,
    processes: int = 2,
    progress: Callable[[AuditReport, int], None] | None = None,
) -> AuditReport:
    return audit_chain(
        chain,
        world.genesis_bytes(),
        progress,
        checks=lambda chain_id: InProcesses(chain_id, processes, start_after=0),
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_a_sound_chain_is_as_valid_as_without(processes: int) -> None:
    alone = audit_chain(long_chain(), world.genesis_bytes())
    assert beside(long_chain(), processes) == alone
    assert alone.verdict == VALID
    assert alone.signatures > 3 * BATCH_SIGNATURES


def damaged(*heights: int, sender: int | None = None) -> SmallChain:
    """One bad signature in the certificate of each of these heights, and of a sender's at one."""
    chain = copy.copy(long_chain())
    if sender is not None:

        def spoil(height: int, given: list[bytes]) -> list[bytes]:
            if height != sender:
                return given
            order = decode(given[0], Instruction)
            [only] = order.signatures
            spoiled = replace(only, signature=only.signature[:-1] + b"\x00")
            return [encode(replace(order, signatures=(spoiled,)))]

        forged = rewritten(chain, instructions=spoil)  # type: ignore[arg-type]
        chain.blocks = {**chain.blocks, sender: forged.blocks[sender]}
    chain.finalizations = dict(chain.finalizations)
    for height in heights:
        certificate = chain.finalizations[height]
        (voter, signature), *others = certificate.signatures
        bad = (voter, signature[:-1] + b"\x00")
        chain.finalizations[height] = replace(certificate, signatures=(bad, *others))
    return chain


@pytest.mark.parametrize(
    ("make", "height", "where"),
    [
        (lambda: damaged(17), 17, "certificate.signatures"),
        (lambda: damaged(BLOCKS), BLOCKS, "certificate.signatures"),
        (lambda: damaged(29, 5, 17), 5, "certificate.signatures"),
        (lambda: damaged(sender=9), 9, "instruction 0"),
        (lambda: damaged(9, sender=9), 9, "instruction 0"),
        (lambda: damaged(8, sender=9), 8, "certificate.signatures"),
    ],
)
def test_the_first_bad_signature_is_named_as_without(
    make: Callable[[], SmallChain], height: int, where: str
) -> None:
    chain = make()
    alone = audit_chain(chain, world.genesis_bytes())
    assert alone.finding is not None
    assert (alone.verdict, alone.finding.height, alone.finding.where) == (INVALID, height, where)
    for processes in (1, 2):
        found = beside(chain, processes)
        assert found.finding == alone.finding
        assert found.height == height - 1


def test_what_the_replay_itself_finds_comes_after_a_bad_signature_below() -> None:
    chain = damaged(17)
    block = inspect_block(chain.blocks[18])
    wrong = replace(block.header, state_root=bytes(32))
    chain.blocks = {**chain.blocks, 18: encode_block(wrong, block.instructions)}
    found = beside(chain)
    assert found.finding is not None
    assert (found.finding.height, found.finding.where) == (17, "certificate.signatures")
    sound = copy.copy(long_chain())
    sound.blocks = chain.blocks
    found = beside(sound)
    assert found.finding is not None
    assert (found.finding.height, found.finding.where) == (18, "execution")
    assert found.height == 17


# --- the processes --------------------------------------------------------------------------------


def handed_over(checks: InProcesses, count: int, bad: int | None = None) -> None:
    for number in range(count):
        payload = number.to_bytes(4, "big") * 100
        signature = KEY.sign(DOMAIN, CHAIN, payload if number != bad else b"")
        checks.about(lambda key, n=number: ValueError(n, key))  # type: ignore[misc]
        assert checks.verify(KEY.public_key, DOMAIN, CHAIN, payload, signature)


def test_a_process_that_is_killed_costs_time_and_nothing_else() -> None:
    for victims in (1, 2):
        checks = InProcesses(CHAIN, 2, start_after=0)
        handed_over(checks, 5 * BATCH_SIGNATURES)
        for worker in checks._workers[:victims]:
            worker.process.send_signal(signal.SIGKILL)
        handed_over(checks, 5 * BATCH_SIGNATURES)
        checks.settle()
        assert checks.given == checks.sound == 10 * BATCH_SIGNATURES
        handed_over(checks, 2 * BATCH_SIGNATURES, bad=70)
        with pytest.raises(ValueError, match="70"):
            checks.settle()
        assert checks.sound == 10 * BATCH_SIGNATURES + 70
        checks.close()


def test_a_process_that_does_not_answer_is_not_given_more_than_its_pipe_holds() -> None:
    """What finds no room is verified here: handing over never waits."""
    checks = InProcesses(CHAIN, 1, start_after=0)
    handed_over(checks, BATCH_SIGNATURES)
    [worker] = checks._workers
    worker.process.send_signal(signal.SIGSTOP)
    try:
        batches = 2 * worker._capacity // (BATCH_SIGNATURES * 400) + 10
        handed_over(checks, batches * BATCH_SIGNATURES)
        assert worker._waiting <= worker._capacity
        assert checks.given == (batches + 1) * BATCH_SIGNATURES
    finally:
        worker.process.send_signal(signal.SIGCONT)
    checks.settle()
    assert checks.sound == checks.given
    checks.close()


def test_a_payload_larger_than_a_pipe_is_verified_here() -> None:
    checks = InProcesses(CHAIN, 1, start_after=0)
    payload = bytes(4 * 1024 * 1024)
    assert len(payload) > BATCH_BYTES
    checks.about(lambda _: ValueError("large"))
    signature = KEY.sign(DOMAIN, CHAIN, payload)
    assert checks.verify(KEY.public_key, DOMAIN, CHAIN, payload, signature)
    checks.settle()
    assert checks.sound == 1
    checks.verify(KEY.public_key, DOMAIN, CHAIN, payload + b"x", signature)
    with pytest.raises(ValueError, match="large"):
        checks.settle()
    checks.close()


def test_a_worker_says_yes_to_what_verifies_and_no_to_everything_else() -> None:
    good = KEY.sign(DOMAIN, CHAIN, b"payload")
    jobs = [
        (KEY.public_key, DOMAIN, b"payload", good),
        (KEY.public_key, DOMAIN, b"payloaD", good),
        (KEY.public_key, "nostro.other/1", b"payload", good),
        (KEY.public_key[:-1], DOMAIN, b"payload", good),
        (bytes(32), DOMAIN, b"payload", good),
        (KEY.public_key, DOMAIN, b"payload", b""),
    ]
    assert answer(encode((CHAIN, jobs))) == b"\x01\x00\x00\x00\x00\x00"
    assert answer(encode((bytes(31) + b"\x01", jobs[:1]))) == b"\x00"


PARENT = """
from node.audit.signatures import InProcesses
checks = InProcesses(bytes(32), 2, start_after=0)
checks.about(lambda key: ValueError(key))
for _ in range(64):
    checks.verify(bytes(32), "d", bytes(32), b"", bytes(64))
print(*(worker.process.pid for worker in checks._workers), flush=True)
input()
"""


def test_processes_end_with_the_audit_that_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    handles = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    for handle in handles:
        ended, _, _ = select.select([handle], [], [], 30)
        assert ended, "a process outlived the audit"
        os.close(handle)
    parent.stdout.close()
    assert parent.stdin is not None
    parent.stdin.close()


def test_a_batch_that_is_cut_off_is_the_end(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    path.write_bytes(b"\x00\x00")
    with path.open("rb") as file:
        assert read_exactly(file.fileno(), 4) == b"\x00\x00"


def test_instructions_are_parsed_before_their_signatures_are_believed() -> None:
    """A signature that is verified later never lets a body through that is not the signed one."""
    raw = bytearray(inspect_block(long_chain().blocks[5]).instructions[0])
    assert parse_instruction(bytes(raw))
    chain = copy.copy(long_chain())
    block = inspect_block(chain.blocks[5])
    raw[-30] ^= 1
    chain.blocks = {**chain.blocks, 5: encode_block(block.header, [bytes(raw)])}
    found = beside(chain)
    assert found.finding is not None
    assert found.finding.where.startswith("body")
