"""A devnet that already has a chain: any number of blocks, signed with the devnet's own keys.

`python -m devnet.generate --dir DIR --blocks N --payments-per-block M` makes a devnet directory
whose nodes' homes hold that chain, so that catching up, state sync, audit and pruning can be
tried and measured on long histories within minutes. Nothing is faked: blocks are built by the
executor of a node, stored by its one `ChainStore.commit`, and certified by votes that the guarded
signer of each home gives and records. Nodes and `nostro audit chain` accept it unaided.

What keeps it sound:

- A home that holds the chain has the record of every vote of its key, cut off at the floor as a
  running node cuts it off, and a journal as one that was just rotated. A node that starts there
  is one that was stopped right after its last commit, and may sign.
- A home that is left at genesis (`behind`) belongs to a validator that was down all the time: its
  key signed nothing, and the views that it leads were given up.
- Until everything is in place the directory counts as half made: after a crash in between it is
  made anew, never started.

The same seed, start and sizes give the same chain, byte for byte. Signing it all costs about what
the network's nodes would have spent; memory does not grow with the chain.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from consensus.certificate import assemble
from consensus.interface import BlockInfo, Build, Commit, Timing
from consensus.messages import (
    Certificate,
    Certified,
    Content,
    Epoch,
    Kind,
    Milliseconds,
    ValidatorIndex,
    View,
    Vote,
    encode,
    quorum,
)
from devnet import identity, network
from devnet.bootstrap import OPENING, derived_uetr
from devnet.network import BEGUN, MAX_VALIDATORS, SETTINGS, DevnetUnusable, Network
from devnet.orders import MAX_AMOUNT
from devnet.ports import PortsTaken
from node.chain.build import build, build_pay, gross_payment
from node.chain.genesis_file import GenesisParticipant
from node.chain.instruction import CheckedInstruction, check_instruction
from node.chain.signature import Ed25519Signer, Signer
from node.chain.types import Issue
from node.engine.executor import MAX_BLOCK_PAYMENTS, Executor
from node.engine.mempool import Mempool
from node.engine.node import load_chain
from node.storage.chain_store import ChainStore
from node.storage.errors import StorageError
from node.storage.home import Home, open_home
from node.storage.signer import GuardedSigner

START_MS = 1_767_225_600_000
"""2026-01-01T00:00Z: the genesis time, unless another is asked for."""
INTERVAL_MS = 200
"""Between the timestamps of two blocks."""
VALID_MS = 3_600_000
"""How long each instruction may wait, milliseconds."""
MAX_INSTRUCTION_PAYMENTS = 1_000
"""A block of more payments has several instructions, unless asked for before."""
MAX_BLOCKS = 10_000_000
MAX_FINALIZE_EVERY = Timing().max_unfinalized
"""Honest leaders let no more blocks than this wait for a finalization."""
BATCH_BLOCKS = 64
"""Blocks in one synced batch of the database, at most; each pending one is another layer of state
to look through."""
BATCH_PAYMENTS = 4_000
"""… and payments."""


class GenerateRefused(Exception):
    """What was asked for is no chain that a network could have made; the text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The chain to make. Raises GenerateRefused where no honest network could have made it."""

    blocks: int
    """Blocks of payments. One more, the first, issues the banks' opening balances."""
    payments: int
    """In each block."""
    batch: int = MAX_INSTRUCTION_PAYMENTS
    """Payments in one signed instruction, at most."""
    finalize_every: int = 1
    """A finalization is stored at each block of this number, and at the last one. The blocks
    between are final as its ancestors."""
    validators: int = 4
    banks: int = 4
    behind: int = 0
    """Validators, the last ones, that were down all the time: their homes stay at genesis."""
    seed: int = 1
    start_ms: int = START_MS
    """Genesis time, milliseconds since the Unix epoch."""

    def __post_init__(self) -> None:
        faulty = self.validators - quorum(self.validators)
        for name, value, low, high in (
            ("blocks", self.blocks, 1, MAX_BLOCKS),
            ("payments per block", self.payments, 1, MAX_BLOCK_PAYMENTS),
            ("batch", self.batch, 1, MAX_INSTRUCTION_PAYMENTS),
            ("finalize-every", self.finalize_every, 1, MAX_FINALIZE_EVERY),
            ("validators", self.validators, 1, MAX_VALIDATORS),
            ("banks", self.banks, 2, identity.MAX_BANKS),
            ("behind", self.behind, 0, faulty),
        ):
            if not low <= value <= high:
                raise GenerateRefused(f"{name} is {value}; it must be from {low} to {high}")

    @property
    def end_ms(self) -> int:
        """Timestamp of the last block."""
        return self.start_ms + (self.blocks + 1) * INTERVAL_MS


@dataclass(frozen=True, slots=True)
class Generated:
    """A devnet with its chain, not running."""

    network: Network
    height: int
    digest: bytes
    """Of the last block's header."""
    payments: int
    seconds: float


def generate(directory: Path, plan: Plan, now_ms: int | None = None) -> Generated:
    """Make the devnet and its chain in an empty or missing directory.

    `now_ms`: the present time; a chain that ends after it is refused, since validators would not
    vote for blocks so far from their clocks. Raises GenerateRefused, DevnetUnusable, PortsTaken,
    StorageError, OSError.
    """
    now = int(time.time() * 1000) if now_ms is None else now_ms
    if plan.end_ms > now:
        raise GenerateRefused(
            f"the chain would end {(plan.end_ms - now) / 1000:.0f} s in the future; give an "
            "earlier --start"
        )
    began = time.monotonic()
    made = network.create(
        directory,
        validators=plan.validators,
        banks=plan.banks,
        seed=plan.seed,
        base_port=0,
        now=plan.start_ms,
    )
    # From here on, votes are given for a chain that not every home has yet.
    settings = (made.directory / SETTINGS).read_bytes()
    (made.directory / BEGUN).touch()
    (made.directory / SETTINGS).unlink()
    names = made.node_names[: plan.validators - plan.behind]
    with ExitStack() as stack:
        homes = [_hold(stack, made.home(name)) for name in names]
        tip, finalization = _make_chain(stack, made, plan, homes)
        for home in homes:
            _write_journal(home, finalization)
        for home in homes[1:]:
            shutil.rmtree(home.data)
            shutil.copytree(homes[0].data, home.data)
    (made.directory / SETTINGS).write_bytes(settings)
    (made.directory / BEGUN).unlink()
    return Generated(
        made, tip.height, tip.digest, plan.blocks * plan.payments, time.monotonic() - began
    )


def _hold(stack: ExitStack, path: Path) -> Home:
    home = open_home(path)
    home.acquire()
    stack.callback(home.release)
    return home


def _make_chain(
    stack: ExitStack, made: Network, plan: Plan, homes: Sequence[Home]
) -> tuple[BlockInfo, Certificate]:
    """The chain in the first home, every home's signer record with it; its tip and its proof."""
    with ExitStack() as opened:
        database = homes[0].open_database()
        opened.callback(database.close)
        signers = []
        for home in homes:
            seed = identity.key_seed(plan.seed, "vote", home.config.name)
            signers.append(home.open_signer(Ed25519Signer(seed)))
            opened.callback(signers[-1].close)
        chain = _Chain(made, plan, homes[0], ChainStore(database), signers)
        orders = _Orders(made, plan)
        chain.add(orders.opening())
        for height in range(2, plan.blocks + 2):
            chain.add(orders.block(height))
        chain.finish()
        return chain.tip, chain.finalization


@dataclass
class _Chain:
    """Grows block by block; stores in batches."""

    made: Network
    plan: Plan
    home: Home
    store: ChainStore
    signers: Sequence[GuardedSigner]
    """Of the validators that are up, by index."""
    _commits: list[Commit] = field(default_factory=list)
    _open: list[tuple[BlockInfo, bytes, int]] = field(default_factory=list)
    """Blocks that no finalization names or follows yet, each with its parent's view."""
    _beside: list[Certificate] = field(default_factory=list)
    """Notarizations and nullifications since the last finalization."""
    _waiting_blocks: int = 0
    _waiting_payments: int = 0

    def __post_init__(self) -> None:
        genesis = self.made.genesis
        state, floor = load_chain(genesis, self.store)
        assert floor.info.height == 0, "the devnet was just made"
        self._executor = Executor(genesis, state, Mempool(self.home.config.mempool))
        self._quorum = quorum(self.plan.validators)
        self.tip = floor.info

    @property
    def finalization(self) -> Certificate:
        """Of the tip, once `finish` was called."""
        floor = self.store.floor()
        assert floor is not None
        assert floor.finalization is not None
        return floor.finalization

    def add(self, instructions: Sequence[CheckedInstruction]) -> None:
        """The next block, in the next view whose leader is up."""
        parent = self.tip
        epoch = parent.epoch
        view = parent.view + 1
        while (leader := (epoch + view) % self.plan.validators) >= len(self.signers):
            self._beside.append(self._certify(Kind.NULLIFY, epoch, view, None))
            view += 1
        raw, standing, never = self._executor.build(
            Build(
                Epoch(epoch),
                View(view),
                parent,
                Milliseconds(parent.timestamp + INTERVAL_MS),
                ValidatorIndex(leader),
                empty=False,
            ),
            instructions,
        )
        assert len(standing) == len(instructions), "a block takes all that was made for it"
        assert not never
        info = self._executor.inspect(raw)
        content = Content(parent.view, info.digest)
        self._beside.append(self._certify(Kind.NOTARIZE, epoch, view, content))
        self._open.append((info, raw, parent.view))
        if len(self._open) == self.plan.finalize_every:
            self._finalize()
        self.tip = info
        self._waiting_blocks += 1
        self._waiting_payments += sum(len(each.payment_digests) for each in instructions)
        if self._waiting_blocks >= BATCH_BLOCKS or self._waiting_payments >= BATCH_PAYMENTS:
            self._commit()

    def finish(self) -> None:
        """Make the tip final and everything durable."""
        if self._open:
            self._finalize()
        self._commit()

    def _finalize(self) -> None:
        tip, _, parent_view = self._open[-1]
        content = Content(parent_view, tip.digest)
        finalization = self._certify(Kind.FINALIZE, tip.epoch, tip.view, content)
        self._commits.append(
            Commit(
                tuple(info for info, _, _ in self._open),
                tuple(raw for _, raw, _ in self._open),
                finalization,
                certificates=tuple(self._beside),
            )
        )
        self._open.clear()
        self._beside.clear()

    def _certify(self, kind: Kind, epoch: int, view: int, content: Content | None) -> Certificate:
        """A quorum's votes; not always the same quorum's."""
        votes = []
        for turn in range(self._quorum):
            voter = (view + turn) % len(self.signers)
            signature = self.signers[voter].sign_vote(Epoch(epoch), View(view), kind, content)
            votes.append(Vote(epoch, view, kind, content, voter, signature))
        return assemble(votes)

    def _commit(self) -> None:
        """Store what is final: the votes' records first, as a node does."""
        if not self._commits:
            return
        for signer in self.signers:
            signer.sync()
        planned = self._executor.plan(self._commits)
        certificates = [each for commit in self._commits for each in commit.certificates]
        self.store.commit(planned.blocks, planned.floor, certificates)
        self._executor.committed(planned)
        for signer in self.signers:
            signer.prune(planned.floor.info.epoch, planned.floor.info.view)
        self._commits.clear()
        self._waiting_blocks = self._waiting_payments = 0


class _Orders:
    """The banks' instructions, the same for the same seed."""

    def __init__(self, made: Network, plan: Plan) -> None:
        self._made = made
        self._plan = plan
        self._random = random.Random(f"nostro devnet generate {plan.seed}")
        self._banks = made.banks
        self._signers: list[Signer] = [made.signer(bank.name) for bank in self._banks]

    def opening(self) -> list[CheckedInstruction]:
        """The opening balances, under the UETRs by which `nostro devnet up` knows them."""
        genesis = self._made.genesis
        issuer = self._made.signer(identity.CENTRAL_BANK)
        made: list[CheckedInstruction] = []
        for bank in self._banks:
            for asset in genesis.assets:
                purpose = f"opening-{bank.name}-{asset.code}"
                raw = build(
                    genesis.chain_id,
                    identity.lei(identity.CENTRAL_BANK),
                    purpose,
                    genesis.time + INTERVAL_MS + VALID_MS,
                    Issue(derived_uetr(self._made, purpose), asset.code, bank.lei, OPENING),
                    [issuer],
                )
                made.append(check_instruction(raw, genesis.chain_id))
        return made

    def block(self, height: int) -> list[CheckedInstruction]:
        """The instructions of the block at `height`, which together have the payments planned."""
        made: list[CheckedInstruction] = []
        left = self._plan.payments
        while left:
            size = min(left, self._plan.batch)
            left -= size
            made.append(self._pay((height + len(made)) % len(self._banks), height, size))
        return made

    def _pay(self, payer: int, height: int, size: int) -> CheckedInstruction:
        genesis, rng = self._made.genesis, self._random
        bank: GenesisParticipant = self._banks[payer]
        others = [other.lei for other in self._banks if other is not bank]
        currency = genesis.assets[rng.randrange(len(genesis.assets))].code
        raw = build_pay(
            genesis.chain_id,
            bank.lei,
            uuid.UUID(int=rng.getrandbits(128), version=4).hex,
            genesis.time + height * INTERVAL_MS + VALID_MS,
            payments=[
                gross_payment(
                    uuid.UUID(int=rng.getrandbits(128), version=4).bytes,
                    bank.lei,
                    others[rng.randrange(len(others))],
                    currency,
                    rng.randint(1, MAX_AMOUNT),
                )
                for _ in range(size)
            ],
            signers=[self._signers[payer]],
        )
        return check_instruction(raw, genesis.chain_id)


def _write_journal(home: Home, finalization: Certificate) -> None:
    """A journal as after a rotation at the tip: nothing stands above the floor."""
    journal, records = home.open_journal()
    with contextlib.closing(journal):
        assert not records, "the home was just made"
        journal.append([encode(Certified(finalization))])
        journal.sync()


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a chain as the command line says; 1 if it cannot be made."""
    parser = argparse.ArgumentParser(
        prog="python -m devnet.generate",
        description="Make a devnet whose nodes already hold a chain of signed blocks.",
    )
    parser.add_argument("--dir", type=Path, required=True, metavar="DIR", help="a new directory")
    for name, default, text in (
        ("blocks", None, "blocks of payments, after one of opening balances"),
        ("payments-per-block", None, "payments in each"),
        ("batch", MAX_INSTRUCTION_PAYMENTS, "payments in one signed instruction"),
        ("finalize-every", 1, "store a finalization at each Nth block only"),
        ("validators", 4, "nodes"),
        ("banks", 4, "participants besides the central bank"),
        ("behind", 0, "validators, the last ones, whose homes stay at genesis"),
        ("seed", 1, "decides keys and payments"),
        ("start", START_MS, "genesis time, milliseconds since the Unix epoch"),
    ):
        shown = text if default is None else f"{text} (default: {default})"
        parser.add_argument(
            f"--{name}",
            type=int,
            default=default,
            required=default is None,
            metavar="N",
            help=shown,
        )
    args = parser.parse_args(arguments)
    try:
        plan = Plan(
            blocks=args.blocks,
            payments=args.payments_per_block,
            batch=args.batch,
            finalize_every=args.finalize_every,
            validators=args.validators,
            banks=args.banks,
            behind=args.behind,
            seed=args.seed,
            start_ms=args.start,
        )
        made = generate(args.dir, plan)
    except (GenerateRefused, DevnetUnusable, PortsTaken, StorageError, OSError) as error:
        print(f"cannot generate a chain: {error}", file=sys.stderr)
        return 1
    print(
        f"{made.network.directory}: height {made.height:,}, block {made.digest.hex()}, "
        f"{made.payments:,} payments, in {made.seconds:.1f} s\n"
        f"Start it with: nostro devnet up --dir {args.dir}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
