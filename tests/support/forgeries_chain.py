"""Forgeries of dossiers, each with the one check that catches it: chain, validators, finality,
history.

Made by `forge`, who holds every key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace

from consensus.messages import Kind
from node.audit.dossier import Dossier, ProvenBlock
from node.chain.block import validator_set_digest
from node.chain.types import (
    Header,
)
from tests.support import world
from tests.support.evidence_world import case
from tests.support.forge import (
    FLIPPED,
    with_envelope,
)
from tests.support.forge_chain import Chain, carriers_of, finalization, rebuilt, validator_set

Forgery = tuple[str, Callable[[], Dossier]]
Hashes = tuple[bytes, ...]
SECOND = world.signer("second key")
OTHER_CHAIN = bytes(range(32))

PATHS: dict[str, Callable[[Hashes], Hashes]] = {
    "one short": lambda path: path[:-1],
    "one over": lambda path: (*path, FLIPPED),
    "reordered": lambda path: path[::-1],
    "with one flipped": lambda path: (FLIPPED, *path[1:]),
}
"""What is done to a path, which then leads nowhere."""


def top(dossier: Dossier) -> int:
    return dossier.blocks[-1].header.height


def first(dossier: Dossier) -> int:
    return dossier.steps[0].outcome.height


def with_blocks(dossier: Dossier, *blocks: ProvenBlock) -> Dossier:
    return replace(dossier, blocks=blocks)


def with_block(dossier: Dossier, index: int, **fields: Any) -> Dossier:
    blocks = list(dossier.blocks)
    blocks[index] = replace(blocks[index], **fields)
    return replace(dossier, blocks=tuple(blocks))


def header_says(name: str, at: Callable[[Dossier], int], **fields: Any) -> Dossier:
    """A header with other fields, signed and in history all the same."""
    sound = case(name)
    return rebuilt(sound, Chain(headers={at(sound): fields}))


def certified(name: str, *, signers: tuple[int, ...] | None = None, **fields: Any) -> Dossier:
    return rebuilt(case(name), Chain(signers=signers, certificate=fields))


def with_signatures(change: Callable[[Any], Any]) -> Dossier:
    """With other signatures in the certificate."""
    sound = rebuilt(case("alone"))
    assert sound.finality is not None
    certificate = sound.finality.certificate
    certificate = replace(certificate, signatures=tuple(change(certificate.signatures)))
    return replace(sound, finality=replace(sound.finality, certificate=certificate))


# --- chain, validators, seals -------------------------------------------------------------------


def across() -> Dossier:
    """A payment of the second of four epochs."""
    return rebuilt(case("held"), Chain(ends=(3, 30, 40)))


def with_epoch(dossier: Dossier, number: int, **fields: Any) -> Dossier:
    epochs = list(dossier.epochs)
    epochs[number] = replace(epochs[number], **fields)
    return replace(dossier, epochs=tuple(epochs))


def seal_path(change: Callable[[Hashes], Hashes]) -> Dossier:
    return with_epoch(across(), 1, path=change(across().epochs[1].path))


def without_seal(end: int) -> Dossier:
    return rebuilt(case("held"), Chain(ends=(3, 30, 40), history={end: FLIPPED}))


def next_set_swapped() -> Dossier:
    sound, other = across(), validator_set(2)
    swapped = replace(other, validators=other.validators[::-1])
    return with_epoch(sound, 1, link=replace(sound.epochs[1].link, validators=swapped))


CHAIN: dict[str, Forgery] = {
    "a checkpoint of another chain": (
        "chain",
        lambda: header_says("alone", top, chain_id=OTHER_CHAIN),
    ),
    "a block of another chain": (
        "chain",
        lambda: header_says("alone", first, chain_id=OTHER_CHAIN),
    ),
    "a parent of another chain": (
        "chain",
        lambda: header_says("alone", lambda d: first(d) - 1, chain_id=OTHER_CHAIN),
    ),
    "rules that nobody knows": ("chain", lambda: header_says("alone", top, version=99)),
    "an order for another chain": (
        "chain",
        lambda: rebuilt(with_envelope(case("alone"), 0, chain_id=OTHER_CHAIN)),
    ),
    "a hold for another chain": (
        "chain",
        lambda: rebuilt(with_envelope(case("held"), 1, chain_id=OTHER_CHAIN)),
    ),
    "a checkpoint of other validators": (
        "validators",
        lambda: header_says("alone", top, validator_set=FLIPPED, next_validator_set=FLIPPED),
    ),
    "a block of other validators": (
        "validators",
        lambda: header_says("alone", first, validator_set=FLIPPED),
    ),
    "another next set": ("validators", next_set_swapped),
    **{
        f"a history without the seal of epoch {epoch}": ("seals", partial(without_seal, end))
        for epoch, end in enumerate((3, 30, 40))
    },
    **{
        f"a seal's path {what}": ("seals", partial(seal_path, change))
        for what, change in PATHS.items()
    },
    "a seal's path swapped for another's": (
        "seals",
        lambda: with_epoch(across(), 1, path=across().epochs[2].path),
    ),
}


# --- finality -----------------------------------------------------------------------------------


def carried_without_seal() -> Dossier:
    sound = rebuilt(case("alone"))
    header = sound.blocks[-1].header
    assert sound.finality is not None
    carriers = carriers_of(header, 1)
    certificate = finalization(carriers[0], header.view)
    return replace(
        sound, finality=replace(sound.finality, certificate=certificate, carriers=carriers)
    )


def carrier_says(**fields: Any) -> Dossier:
    """A sealing checkpoint with two carriers, of which the last says something else."""
    base = case("alone")
    sound = rebuilt(base, Chain(ends=(top(base),), carriers=2))
    assert sound.finality is not None
    below, carrier = sound.finality.carriers
    changed = replace(carrier, **fields)
    certificate = finalization(changed, below.view)
    return replace(
        sound,
        finality=replace(sound.finality, certificate=certificate, carriers=(below, changed)),
    )


def sealed(change: Callable[[tuple[Header, ...]], tuple[Header, ...]]) -> Dossier:
    """A sealing checkpoint with two carriers, and others in their place."""
    base = case("alone")
    sound = rebuilt(base, Chain(ends=(top(base),), carriers=2))
    assert sound.finality is not None
    carriers = change(sound.finality.carriers)
    return replace(sound, finality=replace(sound.finality, carriers=carriers))


def of_old_keys() -> Dossier:
    return rebuilt(case("held"), Chain(ends=(3, 30), certificate={"keys": 1}))


FINALITY: dict[str, Forgery] = {
    "a quorum one short": ("finality", lambda: certified("alone", signers=(0, 1))),
    "no signature at all": ("finality", lambda: certified("alone", signers=())),
    "a signer twice": ("finality", lambda: certified("alone", signers=(0, 1, 1))),
    "signers out of order": ("finality", lambda: certified("alone", signers=(2, 1, 0))),
    "a signature by another member": (
        "finality",
        lambda: with_signatures(lambda s: [(s[0][0], s[1][1]), *s[1:]]),
    ),
    "a signer that is not in the set": (
        "finality",
        lambda: with_signatures(lambda s: [*s[:2], (9, s[2][1])]),
    ),
    "a notarization": ("finality", lambda: certified("alone", kind=Kind.NOTARIZE)),
    "a certificate of another epoch": ("finality", lambda: certified("alone", epoch=1)),
    "a certificate of another view": ("finality", lambda: certified("alone", view=99)),
    "a certificate of another block": ("finality", lambda: certified("alone", block=FLIPPED)),
    "a certificate of another chain": (
        "finality",
        lambda: certified("alone", chain_id=OTHER_CHAIN),
    ),
    "votes by the keys of the epoch before": ("finality", of_old_keys),
    "a carrier that no block sealed": ("finality", carried_without_seal),
    "a carrier with another height": ("finality", lambda: carrier_says(height=99)),
    "a carrier with another state": ("finality", lambda: carrier_says(state_root=FLIPPED)),
    "a carrier with instructions": ("finality", lambda: carrier_says(instructions_count=1)),
    "a carrier too few": ("finality", lambda: sealed(lambda c: c[:1])),
    "carriers reordered": ("finality", lambda: sealed(lambda c: c[::-1])),
    "a carrier twice": ("finality", lambda: sealed(lambda c: (*c, c[-1]))),
    "a carrier with another parent view": (
        "finality",
        lambda: rebuilt(
            case("alone"),
            Chain(ends=(top(case("alone")),), carriers=1, certificate={"parent_view": 0}),
        ),
    ),
}


# --- history ------------------------------------------------------------------------------------


def block_path(change: Callable[[Hashes], Hashes]) -> Dossier:
    sound = rebuilt(case("alone"))
    return with_block(sound, 0, path=change(sound.blocks[0].path))


def doubled(index: int) -> Dossier:
    sound = rebuilt(case("many"))
    blocks = list(sound.blocks)
    blocks.insert(index, blocks[index])
    return with_blocks(sound, *blocks)


def other_parent() -> Dossier:
    """The same state, in a parent that the block does not have."""
    sound = rebuilt(case("alone"))
    parent = sound.blocks[0].parent
    assert parent is not None
    return with_block(sound, 0, parent=replace(parent, timestamp=parent.timestamp + 1))


def parent_for_nothing() -> Dossier:
    """The checkpoint's own parent, though nothing is proven in its state."""
    sound = rebuilt(case("alone"), Chain(ends=(top(case("alone")) - 1,)))
    seal = sound.epochs[-1].link.seal
    return with_block(sound, len(sound.blocks) - 1, parent=seal)


def of_epoch(height: int, ends: tuple[int, ...], epoch: int) -> Dossier:
    """A block that says that it is of another epoch than its height."""
    fields = {"epoch": epoch, "validator_set": validator_set_digest(validator_set(epoch))}
    return rebuilt(case("held"), Chain(ends=ends, headers={height: fields}))


HISTORY: dict[str, Forgery] = {
    **{
        f"a block's path {what}": ("history", partial(block_path, change))
        for what, change in PATHS.items()
    },
    "a history without the block": (
        "history",
        lambda: rebuilt(case("alone"), Chain(history={first(case("alone")): FLIPPED})),
    ),
    "a path for the checkpoint itself": (
        "history",
        lambda: with_block(rebuilt(case("alone")), -1, path=(FLIPPED,)),
    ),
    "blocks reordered": (
        "history",
        lambda: with_blocks(
            rebuilt(case("held")),
            *rebuilt(case("held")).blocks[:-1][::-1],
            rebuilt(case("held")).blocks[-1],
        ),
    ),
    "a block in which nothing stands": (
        "history",
        lambda: rebuilt(case("alone"), Chain(extra=(7,))),
    ),
    "a block twice": ("history", lambda: doubled(0)),
    "the checkpoint twice": ("history", lambda: doubled(-1)),
    "a parent that the block does not have": ("history", other_parent),
    "a parent of another height": (
        "history",
        lambda: header_says("alone", lambda d: first(d) - 1, height=77),
    ),
    "a parent for nothing": ("history", parent_for_nothing),
    "a block of a later epoch below its beginning": (
        "history",
        lambda: of_epoch(first(case("held")), (30,), 1),
    ),
    "a block of an earlier epoch above its end": (
        "history",
        lambda: of_epoch(first(case("held")), (3,), 0),
    ),
}
