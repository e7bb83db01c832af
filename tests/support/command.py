"""Running the `nostro` command inside the test process, against fake nodes on real sockets."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.cli.main import main
from node.storage.keystore import create_keystore
from tests.support.fake_node import ThreadedNode
from tests.support.ledger_world import World, signer


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be exactly one JSON document."""
        return json.loads(self.out)


def run(*arguments: object) -> Ran:
    """Run one command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(each) for each in arguments])
    ran = Ran(int(code), out.getvalue(), err.getvalue())
    assert "Traceback" not in ran.err
    assert "internal error" not in ran.err, ran.err
    return ran


@dataclass(frozen=True)
class Net:
    """Fake nodes and the directory by which the command knows them as a devnet."""

    nodes: Sequence[ThreadedNode]
    directory: Path

    @property
    def first(self) -> ThreadedNode:
        return self.nodes[0]

    def run(self, *arguments: object) -> Ran:
        """Run a command that connects to this devnet."""
        return run(*arguments, "--devnet", self.directory)

    def pay(self, **options: object) -> Ran:
        """`nostro pay`: BANKA pays BANKB 1.00 EUR unless told otherwise."""
        chosen: dict[str, object] = {
            "from": "BANKA",
            "to": "BANKB",
            "amount": "1.00",
            "currency": "EUR",
            **options,
        }
        flags = [part for name, value in chosen.items() for part in (f"--{name}", value)]
        return self.run("pay", "--json", *flags)

    def balance(self, bank: str, asset: str = "EUR") -> str:
        rows = self.run("balance", bank, "--json").json["balances"]
        [amount] = [row["amount"] for row in rows if row["asset"] == asset]
        return str(amount)


@contextlib.contextmanager
def devnet(directory: Path, nodes: int = 1) -> Iterator[Net]:
    """Fake nodes, each with a ledger of its own, whose banks have 10,000.00 EUR each."""
    world = World.make()
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(ThreadedNode(world)) for _ in range(nodes)]
        for each in started:
            each.do(each.node.chain.fund)
        describe(directory, world, [each.url for each in started])
        yield Net(started, directory)


def describe(directory: Path, world: World, urls: Sequence[str]) -> None:
    """Write keystores and devnet.json."""
    directory.mkdir(exist_ok=True)
    participants = []
    for bank in world.banks.values():
        path = directory / f"{bank.name}.json"
        create_keystore(
            path,
            role="participant",
            name=bank.name,
            lei=bank.lei,
            passphrase="devnet",
            seed=_seed(world, bank.name),
            devnet=True,
        )
        participants.append(
            {
                "name": bank.name,
                "lei": bank.lei,
                "bic": bank.bic,
                "keystore": str(path),
                "api": urls[0],
            }
        )
    description = {
        "chain_id": world.chain_id.hex(),
        "genesis": str(directory / "genesis.json"),
        "nodes": [{"name": f"node{i}", "api": url} for i, url in enumerate(urls)],
        "participants": participants,
        "currencies": [{"code": "EUR", "exponent": 2}],
    }
    (directory / "genesis.json").write_bytes(world.genesis_bytes)
    (directory / "devnet.json").write_text(json.dumps(description))


def _seed(world: World, name: str) -> bytes:
    """The seed behind `ledger_world.signer`."""
    from hashlib import sha256  # noqa: PLC0415

    seed = sha256(f"{world.seed}/{name}/0".encode()).digest()
    assert signer(world.seed, name, 0).public_key == world.banks[name].signers[0].public_key
    return seed
