"""A chain that commits to whatever a dossier says, made by someone who holds every key.

`rebuilt` makes trees, states, history, epochs and certificates that fit what the dossier says. What
it is told to do otherwise is the one thing that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from consensus.messages import VOTE_DOMAIN, Certificate, Content, Kind, quorum, vote_payload
from node.audit.dossier import (
    AccountRow,
    Act,
    Balances,
    DisputeRow,
    Dossier,
    EndedEpoch,
    Finality,
    Gridlocked,
    Linked,
    Netted,
    PaymentRow,
    Place,
    Placed,
    ProvenBlock,
)
from node.audit.epochs import EpochLink, leader
from node.audit.verify_books import account_keys, moved_at
from node.audit.verify_changes import NO_CHANGES
from node.audit.verify_known import used_heights
from node.audit.verify_order import order_of, sender_of
from node.chain.block import (
    header_digest,
    may_be_carrier,
    outcome_leaf,
    validator_set_digest,
)
from node.chain.encoding import encode
from node.chain.instruction import signed_envelope_leaf
from node.chain.merkle import EMPTY_ROOT, history_leaf, inclusion_proof, root
from node.chain.records import CycleKey, DisputeKey, ParticipantKey, PaymentKey
from node.chain.signature import Ed25519Signer
from node.chain.state_map import MapProof, StateMap
from node.chain.types import (
    Header,
    Joined,
    Outcome,
    ValidatorSet,
)
from tests.support.epoch_links import some_digest, vote_signer
from tests.support.evidence_world import evidence_world
from tests.support.forge import genesis, with_record


@dataclass
class Chain:
    """How the forger's chain is made. Blocks have the heights that the dossier gives them."""

    ends: Sequence[int] = ()
    """Heights at which an epoch ends. An original's are folded into the first epoch."""
    headers: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Other fields of headers, before they are signed, by height."""
    carriers: int = 0
    """Of each sealing block, and of the checkpoint if it is one."""
    signers: Sequence[int] | None = None
    """Of the checkpoint's certificate; None: a quorum."""
    certificate: Mapping[str, Any] = field(default_factory=dict)
    """Other parts of it: `kind`, `epoch`, `view`, `parent_view`, `block`, `keys` (of which
    epoch)."""
    history: Mapping[int, bytes] = field(default_factory=dict)
    """Header digests that the history has instead of the blocks', by height."""
    extra: Sequence[int] = ()
    """Heights of blocks in which nothing stands."""
    chained: bool = True
    """Whether the payment's record counts and chains the steps as they are."""


def rebuilt(dossier: Dossier, chain: Chain | None = None) -> Dossier:
    """The dossier on a chain that commits to all that it says, finalized by its validators."""
    how = chain or Chain()
    made = _chained(dossier) if how.chained else dossier
    heights = sorted({*how.extra, *(block.header.height for block in dossier.blocks)})
    used, parents = used_heights(made)
    states = _states(made)
    headers, leaves = _headers(dossier, made, how, states)
    top = heights[-1]
    ends = [end for end in how.ends if end < top]
    blocks = []
    for height in heights:
        epoch = sum(end < height for end in ends)
        last = ends[epoch] if epoch < len(ends) else top
        path = () if height == last else tuple(inclusion_proof(leaves[:last], height))
        below = height in parents or (height == top and may_be_carrier(headers[height]))
        parent = headers[height - 1] if below else None
        blocks.append(ProvenBlock(headers[height], parent, path))
    assert set(heights) <= used | {top, *how.extra}, "the forger keeps what the original has"
    sizes = [*ends[1:], top]
    epochs = tuple(
        EndedEpoch(_link(headers[end], epoch, how), tuple(inclusion_proof(leaves[:size], end)))
        for epoch, (end, size) in enumerate(zip(ends, sizes, strict=False))
    )
    placed = _placed(dossier, made, states)
    return replace(
        placed,
        blocks=tuple(blocks),
        epochs=epochs,
        finality=_finality(headers, top, len(ends), how),
    )


def _chained(dossier: Dossier) -> Dossier:
    """With a record that counts and chains the steps."""
    row, first = dossier.row, dossier.steps[0].outcome
    if row is None or row.record is None or row.record.first.height < first.height:
        return dossier
    changes, chain = 0, NO_CHANGES
    for step in dossier.steps:
        if step.outcome.height > first.height:
            changes += 1
            chain = sha256(chain + outcome_leaf(encode(step.outcome))).digest()
    last = dossier.steps[-1].outcome.status
    return with_record(dossier, changes=changes, chain=chain, status=last)


def _acts(dossier: Dossier) -> list[tuple[int, Act]]:
    found = [(step.outcome.height, step.act) for step in dossier.steps if step.act is not None]
    if isinstance(dossier.together, Linked):
        found += [(each.height, each.act) for each in dossier.together.agreements]
    return found + [(each.outcome.height, each.act) for each in dossier.related]


def _outcomes(dossier: Dossier) -> list[tuple[int, int, Outcome]]:
    """(height, index, outcome) of each outcome that the dossier shows."""
    found = [(step.outcome.height, step.place.index, step.outcome) for step in dossier.steps]
    found += [(each.outcome.height, each.place.index, each.outcome) for each in dossier.related]
    for name in ("summary", "closed", "decided"):
        placed: Placed | None = getattr(dossier.together, name, None)
        if placed is not None:
            found.append((placed.outcome.height, placed.place.index, placed.outcome))
    return found


def _states(dossier: Dossier) -> dict[int, StateMap]:
    """What the dossier says of the states, by height of the block after which they are."""
    held: dict[int, dict[bytes, bytes]] = {}

    def put(height: int, key: Any, record: Any) -> None:
        state = held.setdefault(height, {})
        if record is not None:
            state[encode(key)] = encode(record)

    top = dossier.blocks[-1].header.height
    for height, act in _acts(dossier):
        if act.authority is not None:
            put(height - 1, ParticipantKey(act.signed.envelope.sender), act.authority.sender)
    order, moved = order_of(dossier), moved_at(dossier)
    if dossier.row is not None:
        put(top, PaymentKey(order.uetr), dossier.row.record)
    if dossier.dispute is not None:
        put(top, DisputeKey(order.uetr), dossier.dispute.record)
    if isinstance(dossier.together, Netted):
        put(top, _cycle_key(dossier), dossier.together.record)
    for key, balances in zip(
        account_keys(order, sender_of(dossier)), (dossier.debtor, dossier.creditor), strict=True
    ):
        if key is not None and balances is not None and moved is not None:
            put(moved - 1, key, balances.before.record)
            put(moved, key, balances.after.record)
    filler = {sha256(b"filler %d" % number).digest(): b"\x90" for number in range(9)}
    return {height: StateMap.empty().update(records | filler) for height, records in held.items()}


def _cycle_key(dossier: Dossier) -> CycleKey:
    event = dossier.steps[-1].outcome.event
    assert isinstance(event, Joined)
    return CycleKey(order_of(dossier).asset, event.cycle)


def _trees(original: Dossier, made: Dossier) -> tuple[Leaves, Leaves]:
    """(instructions, outcomes): leaves by height, with fillers where the original has others."""
    acts: Leaves = {}
    outcomes: Leaves = {}
    for block in original.blocks:
        height, header = block.header.height, block.header
        acts[height] = _fillers(height, header.instructions_count)
        outcomes[height] = _fillers(height, header.outcomes_count)
    for height, act in _acts(made):
        _put(acts, height, act.place.index, signed_envelope_leaf(act.signed))
    for height, index, outcome in _outcomes(made):
        _put(outcomes, height, index, outcome_leaf(encode(outcome)))
    return acts, outcomes


Leaves = dict[int, list[bytes]]


def _fillers(height: int, end: int, first: int = 0) -> list[bytes]:
    return [some_digest(f"leaf {height}/{index}") for index in range(first, end)]


def _put(leaves: Leaves, height: int, index: int, leaf: bytes) -> None:
    tree = leaves.setdefault(height, [])
    tree += _fillers(height, index + 1, len(tree))
    tree[index] = leaf


def _headers(
    original: Dossier, made: Dossier, how: Chain, states: Mapping[int, StateMap]
) -> tuple[dict[int, Header], list[bytes]]:
    """The headers that the dossier needs, by height, and the history's leaves up to the last."""
    acts, outcomes = _trees(original, made)
    given = {block.header.height: block.header for block in original.blocks}
    top = original.blocks[-1].header
    shown = {*given, *how.extra}
    needed = {*shown, *(height - 1 for height in shown), *how.ends}
    headers: dict[int, Header] = {}
    leaves: list[bytes] = []
    digest = bytes(32)
    for height in range(top.height + 1):
        if height in needed:
            headers[height] = header = _header(height, given.get(height), digest, leaves, how)
            fields: dict[str, Any] = {}
            if height in acts or height in outcomes:
                acts.setdefault(height, [])
                outcomes.setdefault(height, [])
                fields = {
                    "instructions_count": len(acts[height]),
                    "instructions_root": root(acts[height]),
                    "outcomes_count": len(outcomes[height]),
                    "outcomes_root": root(outcomes[height]),
                }
            if height in states:
                fields["state_root"] = states[height].root
            headers[height] = replace(header, **fields | dict(how.headers.get(height, {})))
            digest = header_digest(headers[height])
        else:
            digest = some_digest(f"block {height}")
        leaves.append(history_leaf(how.history.get(height, digest)))
    return headers, leaves


def _header(
    height: int, given: Header | None, parent: bytes, leaves: list[bytes], how: Chain
) -> Header:
    ends = sorted(how.ends)
    epoch = sum(end < height for end in ends)
    view = height - (ends[epoch - 1] if epoch else 0)
    own = validator_set_digest(validator_set(epoch))
    following = validator_set_digest(validator_set(epoch + 1)) if height in ends else own
    return Header(
        version=1,
        chain_id=genesis().chain_id,
        epoch=epoch,
        view=view,
        height=height,
        parent=parent,
        timestamp=given.timestamp if given else genesis().time + 500 * height,
        proposer=leader(validator_set(epoch), view),
        instructions_count=0,
        instructions_root=EMPTY_ROOT,
        outcomes_count=0,
        outcomes_root=EMPTY_ROOT,
        state_root=some_digest(f"state {height}"),
        history_root=root(leaves),
        validator_set=own,
        next_validator_set=following,
    )


def validator_set(epoch: int) -> ValidatorSet:
    """The forger's set of an epoch; that of epoch 0 is the genesis file's."""
    first: ValidatorSet = genesis().validator_set
    if epoch == 0:
        return first
    return ValidatorSet(
        epoch,
        tuple(
            replace(each, vote_key=vote_signer(index, epoch).public_key)
            for index, each in enumerate(first.validators)
        ),
    )


def voter(index: int, epoch: int) -> Ed25519Signer:
    """Whose key votes in an epoch at this index."""
    return evidence_world().members.votes[index] if epoch == 0 else vote_signer(index, epoch)


def finalization(
    header: Header,
    below: int,
    *,
    signers: Sequence[int] | None = None,
    keys: int | None = None,
    **fields: Any,
) -> Certificate:
    """A finalization of the header by validators of its epoch, or with keys of another one.

    `below`: view of the parent."""
    chosen = {"kind": Kind.FINALIZE, "epoch": header.epoch, "view": header.view} | {
        name: fields[name] for name in ("kind", "epoch", "view") if name in fields
    }
    block = fields.get("block", header_digest(header))
    content = Content(fields.get("parent_view", below), block)
    payload = vote_payload(chosen["epoch"], chosen["view"], chosen["kind"], content)
    count = len(validator_set(header.epoch).validators)
    whose = header.epoch if keys is None else keys
    chain_id = fields.get("chain_id", genesis().chain_id)
    return Certificate(
        chosen["epoch"],
        chosen["view"],
        chosen["kind"],
        content,
        tuple(
            (index, voter(index, whose).sign(VOTE_DOMAIN, chain_id, payload))
            for index in (range(quorum(count)) if signers is None else signers)
        ),
    )


def carriers_of(seal: Header, count: int) -> tuple[Header, ...]:
    """Carriers of a sealing block, one above the other."""
    found, below = [], seal
    for _ in range(count):
        view = below.view + 1
        below = replace(
            below,
            view=view,
            parent=header_digest(below),
            proposer=leader(validator_set(seal.epoch), view),
            instructions_count=0,
            instructions_root=EMPTY_ROOT,
            outcomes_count=0,
            outcomes_root=EMPTY_ROOT,
        )
        found.append(below)
    return tuple(found)


def _link(seal: Header, epoch: int, how: Chain) -> EpochLink:
    carriers = carriers_of(seal, how.carriers)
    chain = (seal, *carriers)
    below = chain[-2].view if carriers else seal.view - 1
    return EpochLink(seal, carriers, finalization(chain[-1], below), validator_set(epoch + 1))


def _finality(headers: Mapping[int, Header], top: int, epoch: int, how: Chain) -> Finality:
    seal = headers[top]
    carriers = carriers_of(seal, how.carriers if top in how.ends else 0)
    chain = (seal, *carriers)
    parent = chain[-2] if carriers else headers.get(top - 1)
    below = seal.view - 1
    if parent is not None:
        below = parent.view if parent.epoch == seal.epoch else 0
    return Finality(
        finalization(chain[-1], below, signers=how.signers, **how.certificate), carriers
    )


def _placed(original: Dossier, made: Dossier, states: Mapping[int, StateMap]) -> Dossier:
    """With every place and every proof of a state as the forger's trees and states have them."""
    acts, outcomes = _trees(original, made)
    top = original.blocks[-1].header.height
    order, moved = order_of(made), moved_at(made)

    def proof(height: int, key: Any) -> MapProof:
        return states[height].prove(encode(key))[1]

    def place(leaves: Leaves, height: int, index: int) -> Place:
        return Place(index, tuple(inclusion_proof(leaves[height], index)))

    def act_at(act: Act | None, height: int) -> Act | None:
        if act is None:
            return None
        authority = act.authority
        if authority is not None:
            key = ParticipantKey(act.signed.envelope.sender)
            authority = replace(authority, proof=proof(height - 1, key))
        return Act(act.signed, place(acts, height, act.place.index), authority)

    def at(placed: Any) -> Any:
        if placed is None:
            return None
        height = placed.outcome.height
        return replace(placed, place=place(outcomes, height, placed.place.index))

    steps = tuple(
        replace(at(step), act=act_at(step.act, step.outcome.height)) for step in made.steps
    )
    related = tuple(
        replace(at(each), act=act_at(each.act, each.outcome.height)) for each in made.related
    )
    together = made.together
    match together:
        case Gridlocked():
            together = replace(together, summary=at(together.summary))
        case Linked():
            agreements = tuple(
                replace(each, act=act_at(each.act, each.height)) for each in together.agreements
            )
            together = replace(together, agreements=agreements, closed=at(together.closed))
        case Netted():
            together = replace(
                together,
                proof=proof(top, _cycle_key(made)),
                closed=at(together.closed),
                decided=at(together.decided),
            )
    sides: list[Balances | None] = []
    for key, balances in zip(
        account_keys(order, sender_of(made)), (made.debtor, made.creditor), strict=True
    ):
        if key is None or balances is None or moved is None:
            sides.append(balances)
            continue
        sides.append(
            Balances(
                AccountRow(balances.before.record, proof(moved - 1, key)),
                AccountRow(balances.after.record, proof(moved, key)),
            )
        )
    row, dispute = made.row, made.dispute
    if row is not None:
        row = PaymentRow(row.record, proof(top, PaymentKey(order.uetr)))
    if dispute is not None:
        dispute = DisputeRow(dispute.record, proof(top, DisputeKey(order.uetr)))
    return replace(
        made,
        steps=steps,
        related=related,
        together=together,
        debtor=sides[0],
        creditor=sides[1],
        row=row,
        dispute=dispute,
    )
