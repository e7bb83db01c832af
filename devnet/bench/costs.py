"""What each step of consensus costs one core of this machine, measured with the node's own code.

These are the figures that `devnet.sim.scale` charges the simulated nodes: signatures, encoding,
links (two real `PeerNetwork`s over TLS on loopback), the ledger's work on a block, the sync of the
journal. CPU time of this process, not time that passes: what else runs on the machine does not
count, except for the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from consensus.interface import Build, Commit
from consensus.messages import (
    VOTE_DOMAIN,
    Certificate,
    Content,
    Epoch,
    Kind,
    Message,
    Milliseconds,
    Proposal,
    ValidatorIndex,
    View,
    Vote,
    decode_message,
    encode,
    vote_payload,
)
from devnet.bench import machine
from devnet.generate import Plan, generate
from node.chain.block import inspect_block
from node.chain.instruction import check_instruction
from node.chain.signature import Ed25519Signer, verify
from node.chain.types import Validator, ValidatorSet
from node.engine.executor import Executor
from node.engine.mempool import Mempool
from node.engine.node import load_chain
from node.network.frames import Channel
from node.network.peers import PeerNetwork
from node.storage.chain_store import ChainStore
from node.storage.home import open_home

ROUNDS = 5
"""Of which the best counts."""
BLOCKS = 8
"""Executed to measure one."""
PINGS = 300
"""Payloads sent one by one over a real link."""
SMALL_BYTES = 4 * 1024
LARGE_BYTES = 256 * 1024
LARGES = 16
LINK_SECONDS = 20.0
CHAIN = bytes(32)
FEW, MANY = 3, 67
"""Signatures of the two certificates whose difference is the cost of one more."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of one core, except where said otherwise."""

    verify: float = 0.0
    """One Ed25519 signature, with the node's strict checks."""
    sign: float = 0.0
    encode_vote: float = 0.0
    decode_vote: float = 0.0
    """Decoding checks that the bytes are canonical by encoding again."""
    encode_certificate: float = 0.0
    decode_certificate: float = 0.0
    """Both without what each signature adds."""
    encode_signature: float = 0.0
    decode_signature: float = 0.0
    decode_block_byte: float = 0.0
    """Of a proposal, per byte of its block."""
    send: float = 0.0
    """One payload to one peer: frame, TLS, WebSocket, event loop, system call."""
    receive: float = 0.0
    transport_byte: float = 0.0
    """… and per byte, at each end."""
    check: float = 0.0
    """An instruction when it first arrives: decoding, rules, one signature."""
    build: float = 0.0
    """A block, by its leader."""
    execute: float = 0.0
    """A block of instructions that were checked before, by everybody else: look into, execute,
    compare the roots."""
    commit: float = 0.0
    """A block into the database."""
    sync: float = 0.0
    """The journal's fdatasync: time that passes, not CPU."""
    block_bytes: int = 0
    payments: int = 0
    """In a block, one in each instruction."""

    def lines(self) -> list[str]:
        """For people."""
        rows = (
            ("verify an Ed25519 signature", self.verify),
            ("sign", self.sign),
            ("encode / decode a vote", self.encode_vote, self.decode_vote),
            ("encode / decode a certificate", self.encode_certificate, self.decode_certificate),
            ("  … and each of its signatures", self.encode_signature, self.decode_signature),
            ("send / receive a payload over TLS", self.send, self.receive),
            ("  … and each KiB, at either end", self.transport_byte * 1024),
            (f"check the {self.payments} instructions of a block", self.check * self.payments),
            (f"build / execute a block of {self.payments}", self.build, self.execute),
            ("store a block", self.commit),
            ("sync of the journal (time, not CPU)", self.sync),
        )
        return [
            f"{name:<44} {' / '.join(f'{value:,.1f}' for value in values):>20} µs"
            for name, *values in rows
        ] + [f"{'a block':<44} {self.block_bytes:>20,} bytes"]


def measure(payments: int) -> Costs:
    """Measure everything once, for blocks of this many single payments."""
    signer = Ed25519Signer(bytes(32))
    content = Content(7, bytes(32))
    payload = vote_payload(0, 8, Kind.NOTARIZE, content)
    signature = signer.sign(VOTE_DOMAIN, CHAIN, payload)
    vote = Vote(0, 8, Kind.NOTARIZE, content, 3, signature)
    few, many = (
        Certificate(0, 8, Kind.NOTARIZE, content, tuple((i, signature) for i in range(count)))
        for count in (FEW, MANY)
    )

    def of_signature(cost: Callable[[Message], float]) -> tuple[float, float]:
        each = max(0.0, (cost(many) - cost(few)) / (MANY - FEW))
        return cost(few) - FEW * each, each

    encode_certificate, encode_signature = of_signature(_encoding)
    decode_certificate, decode_signature = of_signature(_decoding)
    with tempfile.TemporaryDirectory(prefix="nostro-costs-") as name:
        directory = Path(name)
        ledger = _ledger(directory / "devnet", payments)
        sync = machine.fsync_ms(directory) * 1000
    transport = asyncio.run(_transport())
    block = bytes(ledger.block_bytes)
    return Costs(
        verify=_best(lambda: verify(signer.public_key, VOTE_DOMAIN, CHAIN, payload, signature)),
        sign=_best(lambda: signer.sign(VOTE_DOMAIN, CHAIN, payload)),
        encode_vote=_encoding(vote),
        decode_vote=_decoding(vote),
        encode_certificate=encode_certificate,
        decode_certificate=decode_certificate,
        encode_signature=encode_signature,
        decode_signature=decode_signature,
        decode_block_byte=_decoding(Proposal(vote, block)) / len(block),
        send=transport.end,
        receive=transport.end,
        transport_byte=transport.byte,
        check=ledger.check,
        build=ledger.build,
        execute=ledger.execute,
        commit=ledger.commit,
        sync=sync,
        block_bytes=ledger.block_bytes,
        payments=payments,
    )


def _encoding(message: Message) -> float:
    return _best(lambda: encode(message))


def _decoding(message: Message) -> float:
    data = encode(message)
    return _best(lambda: decode_message(data))


def _best(step: Callable[[], object], count: int = 500) -> float:
    """Microseconds of one step, in the best of a few rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.thread_time()
        for _ in range(count):
            step()
        best = min(best, time.thread_time() - started)
    return best / count * 1e6


# --- the ledger -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ledger:
    check: float
    """Of one instruction."""
    build: float
    execute: float
    commit: float
    block_bytes: int


def _ledger(directory: Path, payments: int) -> _Ledger:
    """Make a few blocks; then, in a home that lacks them, build and execute them by turns."""
    made = generate(directory, Plan(blocks=BLOCKS, payments=payments, batch=1, behind=1))
    source = open_home(made.network.home("node0")).open_database()
    with contextlib.closing(source):
        chain = ChainStore(source)
        blocks = [
            (raw, proof)
            for height in range(1, made.height + 1)
            if (raw := chain.block(height)) and (proof := chain.finalization(height))
        ]
    home = open_home(made.network.home("node3"))
    genesis = home.genesis
    took: dict[str, list[float]] = {"check": [], "build": [], "execute": [], "commit": []}
    with contextlib.closing(home.open_database()) as database:
        store = ChainStore(database)
        state, floor = load_chain(genesis, store)
        pool = Mempool(home.config.mempool)
        executor = Executor(genesis, state, pool)
        parent = floor.info
        for turn, (raw, proof) in enumerate(blocks):
            header, _, instructions = inspect_block(raw)
            with _timed(took["check"]):
                checked = [check_instruction(each, genesis.chain_id) for each in instructions]
            for each in checked:
                pool.add(each, view=1, local=False)
            if turn % 2:
                request = Build(
                    Epoch(header.epoch),
                    View(header.view),
                    parent,
                    Milliseconds(header.timestamp),
                    ValidatorIndex(header.proposer),
                    empty=False,
                )
                with _timed(took["build"]):
                    built = executor.build(request, pool.candidates())[0]
                assert built == raw, "the same block again"
                info = executor.inspect(raw)
            else:
                with _timed(took["execute"]):
                    info = executor.inspect(raw)
                    reason = executor.execute(info, raw)
                assert reason is None, reason
            with _timed(took["commit"]):
                planned = executor.plan([Commit((info,), (raw,), proof)])
                store.commit(planned.blocks, planned.floor)
            executor.committed(planned)
            pool.settle(planned.instructions, planned.time)
            parent = info
    # The first block is another one: it issues the opening balances.
    best = {name: min(times[1:]) for name, times in took.items()}
    return _Ledger(
        best["check"] / payments,
        best["build"],
        best["execute"],
        best["commit"],
        len(blocks[-1][0]),
    )


@contextlib.contextmanager
def _timed(times: list[float]) -> Iterator[None]:
    """Add the microseconds of CPU that the block took."""
    started = time.thread_time()
    yield
    times.append((time.thread_time() - started) * 1e6)


# --- links ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Transport:
    end: float
    """One small payload, at either end."""
    byte: float
    """Each byte of a large one, at either end."""


async def _transport() -> _Transport:
    """Two networks in this process, linked over loopback: half of what both spend is one end's."""
    validators = ValidatorSet(
        0,
        tuple(
            Validator(f"node{i}", "0" * 20, bytes([i]) * 32, Ed25519Signer(_seed(i)).public_key)
            for i in range(2)
        ),
    )
    arrived = asyncio.Event()
    linked = asyncio.Event()

    def network(index: int, addresses: dict[int, tuple[str, int]]) -> PeerNetwork:
        return PeerNetwork(
            chain_id=CHAIN,
            validator_set=validators,
            own_index=index,
            node_seed=_seed(index),
            listen=("127.0.0.1", 0),
            addresses=addresses,
            on_message=lambda *_: arrived.set(),
            on_link=lambda _, up: linked.set() if up else None,
        )

    async def spend(payload: bytes, channel: Channel, count: int) -> float:
        started = time.process_time()
        for _ in range(count):
            arrived.clear()
            assert sender.send(1, channel, payload)
            await arrived.wait()
        return (time.process_time() - started) / count * 1e6 / 2

    listener = network(1, {})
    await listener.start()
    sender = network(0, {1: listener.listening})
    try:
        async with asyncio.timeout(LINK_SECONDS):
            await sender.start()
            await linked.wait()
            await spend(bytes(SMALL_BYTES), Channel.CONSENSUS, PINGS)
            small = min([await spend(bytes(150), Channel.CONSENSUS, PINGS) for _ in range(ROUNDS)])
            large = min(
                [await spend(bytes(LARGE_BYTES), Channel.CONSENSUS, LARGES) for _ in range(ROUNDS)]
            )
    finally:
        await sender.stop()
        await listener.stop()
    return _Transport(small, max(0.0, large - small) / LARGE_BYTES)


def _seed(index: int) -> bytes:
    return bytes([index + 1]) * 32


if __name__ == "__main__":
    for line in measure(100).lines():
        print(line)
