"""What `nostro doctor` finds about validators: this node's keys, peers, epochs, double votes.

Who validates is the ledger's to say, so a running node is asked, a stopped one's database is read,
and the genesis file counts only before there is either.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from node.chain.encoding import Malformed, decode
from node.chain.records import EpochRecord
from node.chain.types import ValidatorSet
from node.ledger.governed import EPOCH_KEY, validator_set_key
from node.storage.errors import StorageError
from node.storage.home import Home
from node.storage.keystore import read_key_info

if TYPE_CHECKING:
    from node.api.governance import EquivocationView, ValidatorsView

MAX_SHOWN = 8
"""Equivocations named one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ok, warn or fail."""

    result: str
    check: str
    text: str


class Member(NamedTuple):
    """A validator as far as doctor looks at it."""

    name: str
    vote_key: bytes
    node_key: bytes
    address: str


class Members(NamedTuple):
    """The validators of an epoch."""

    epoch: int
    validators: tuple[Member, ...]


class Governed(NamedTuple):
    """What a running node tells of its validators."""

    validators: ValidatorsView
    equivocations: list[EquivocationView]


def ask(home: Home) -> Governed | None:
    """What the running node of this home tells; None if it does not answer."""
    from node.api.client import ApiClient, ApiError  # noqa: PLC0415

    async def both() -> Governed | None:
        async with ApiClient([f"http://{home.config.api}"]) as client:
            try:
                return Governed(await client.validators(), await client.equivocations())
            except ApiError:
                return None

    return asyncio.run(both())


def members_of(home: Home, governed: Governed | None = None) -> Members:
    """The validators in force, as well as they can be known: from the running node, the database
    of a stopped one, or the genesis file."""
    if governed is not None:
        view = governed.validators
        return Members(
            view.epoch,
            tuple(
                Member(v.name, bytes.fromhex(v.vote_key), bytes.fromhex(v.node_key), v.address)
                for v in view.validators
            ),
        )
    found = _stored(home) or home.genesis.validator_set
    return Members(
        found.epoch,
        tuple(Member(v.name, v.vote_key, v.node_key, v.address) for v in found.validators),
    )


def _stored(home: Home) -> ValidatorSet | None:
    """The set that a stopped node's database holds; None if it cannot be read (another finding
    says why) or holds none yet."""
    from node.storage.chain_store import ChainStore  # noqa: PLC0415

    try:
        database = home.open_database()
    except StorageError:
        return None
    try:
        store = ChainStore(database)
        epoch = store.state_record(EPOCH_KEY)
        if epoch is None:
            return None
        stored = store.state_record(validator_set_key(decode(epoch, EpochRecord).epoch))
        return None if stored is None else decode(stored, ValidatorSet)
    except (StorageError, Malformed):
        return None
    finally:
        database.close()


def check_keys(home: Home, members: Members) -> Finding:
    """Whether this node's keys are those of a validator in force, and what it can do with them."""
    node_key = read_key_info(home.node_key).public_key
    own = next((each for each in members.validators if each.node_key == node_key), None)
    kind = "devnet keys of a devnet" if home.genesis.devnet else "encrypted"
    name = home.config.name
    if own is None:
        if name in {each.name for each in members.validators}:
            text = f"the node key is not the one that epoch {members.epoch} names for {name}"
            return Finding("fail", "keys", f"{text}: put the right keys/node.json there")
        return Finding("ok", "keys", f"no validator of epoch {members.epoch}: this node observes")
    held = {
        read_key_info(path).public_key for path in sorted((home.path / "keys").glob("vote*.json"))
    }
    if own.vote_key not in held:
        text = (
            f"there is no file of the vote key that epoch {members.epoch} names for {name}: it "
            "cannot sign. It observes until the next epoch; nostro propose --new-epoch brings one"
        )
        return Finding("fail", "keys", text)
    text = f"node and vote key are those of {name} in epoch {members.epoch}, {kind}"
    return Finding("ok", "keys", text)


def check_peers(home: Home, members: Members | None = None) -> list[Finding]:
    """Whether there is an address of every validator that this node is the first to dial, in the
    configuration or on the ledger.

    Of two validators the lower index dials first: addresses of lower ones are needed only if they
    have none of this node.
    """
    validators = (members or members_of(home)).validators
    names = [v.name for v in validators]
    published = {v.name for v in validators if v.address}
    if home.config.join.urls and home.config.name not in names:
        return [Finding("ok", "peers", f"observes: follows {', '.join(home.config.join.urls)}")]
    found = []
    strangers = sorted(set(home.config.peers) - set(names))
    if strangers:
        text = f"[peers] of config.toml names {', '.join(strangers)}: no validator is called so"
        found.append(Finding("warn", "peers", text))
    dialed = names[names.index(home.config.name) + 1 :] if home.config.name in names else names
    missing = [name for name in dialed if name not in home.config.peers.keys() | published]
    if missing:
        text = (
            f"[peers] of {home.path / 'config.toml'} has no address of {', '.join(missing)}: this "
            "node can only wait until they dial it; add a line such as "
            f'{missing[0]} = "host:port" for each'
        )
        found.append(Finding("warn", "peers", text))
    return found or [Finding("ok", "peers", f"addresses of all {len(dialed)} validators to dial")]


def check_epoch(governed: Governed) -> Finding:
    """Which epoch it is, and what the next one waits for."""
    view = governed.validators
    text = f"{view.epoch}, {len(view.validators)} validators, {view.quorum} certify"
    pending = view.pending
    if pending is None:
        return Finding("ok", "epoch", text)
    waiting = [each.validator.name for each in pending.members if not each.ready]
    text += (
        f"; epoch {pending.epoch} is approved, {pending.ready} of {len(pending.members)} are "
        f"ready and {pending.quorum} needed"
    )
    if waiting:
        text += f", waiting for {', '.join(waiting)}"
    return Finding("ok" if pending.ready >= pending.quorum else "warn", "epoch", text)


def check_equivocations(governed: Governed) -> list[Finding]:
    """Who is proven to have signed twice. It stays on the ledger for ever."""
    proven = governed.equivocations
    if not proven:
        return [Finding("ok", "equivocations", "no validator is proven to have signed twice")]
    found = []
    for each in proven[-MAX_SHOWN:]:
        text = (
            f"the vote key of {each.name} ({each.operator}) signed {' and '.join(each.kinds)} in "
            f"view {each.view} of epoch {each.epoch}, on the ledger in block {each.height}: its "
            "key is in two places, was stolen, or its node lies. The proof: nostro evidence "
            f"--equivocation {each.epoch}:{each.view}:{each.name}; what to do: "
            "docs/how-to/double-signer.md"
        )
        found.append(Finding("warn", "equivocations", text))
    if len(proven) > MAX_SHOWN:
        text = f"and {len(proven) - MAX_SHOWN} more before (GET /v1/equivocations)"
        found.append(Finding("warn", "equivocations", text))
    return found
