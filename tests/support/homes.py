"""A validator's home on disk with the keys of `world`, its database at the genesis block."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from node.engine.node import load_chain
from node.storage.chain_store import ChainStore
from node.storage.config import Address, NodeConfig
from node.storage.home import Home, create_home
from node.storage.keystore import seal_key
from tests.support import world


def make_home(path: Path, index: int = 0, *, peers: dict[str, Address] | None = None) -> Home:
    """The home of validator `index` of `world`'s devnet; nobody listens at its peers' addresses
    unless others are given."""
    validator = world.genesis().validator_set.validators[index]

    def sealed(role: str) -> bytes:
        return seal_key(
            role=role,
            name=validator.name,
            lei=validator.operator,
            seed=sha256(f"nostro test key {role} {index}".encode()).digest(),
            passphrase="devnet",
            devnet=True,
        )

    names = [v.name for v in world.genesis().validator_set.validators]
    others = {name: Address("127.0.0.1", 1) for name in names if name != validator.name}
    here = Address("127.0.0.1", 0)
    home = create_home(
        path,
        genesis=world.genesis_bytes(),
        config=NodeConfig(validator.name, here, here, here, others if peers is None else peers),
        node_key=sealed("node"),
        vote_key=sealed("vote"),
    )
    database = home.open_database()
    load_chain(home.genesis, ChainStore(database))
    database.close()
    return home
