"""Bad input is refused with a reason, before any costly check, and never grows memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from consensus.epochs import MAX_EARLY, Epochs
from consensus.interface import Effect, Floor, Now, Received, Rejected
from consensus.messages import (
    BlockRequest,
    BlockResponse,
    Certificate,
    CertificateRequest,
    Content,
    Epoch,
    EpochSealed,
    Kind,
    Message,
    OwnVotesRequest,
    OwnVotesResponse,
    Proposal,
    SyncResponse,
    ValidatorIndex,
    Vote,
)
from tests.support.consensus_harness import (
    CODEC,
    START,
    TIMING,
    Chain,
    MemorySigner,
    Solo,
    only,
)

CHAIN = Chain()
ONE = CHAIN.block(1)
NOISE = bytes(64)
CONTENT = Content(0, b"\x07" * 32)
GOOD = CHAIN.nullification(1)
FAR = 2**40
"""A view that no chain reaches."""


def certificate(**fields: object) -> Certificate:
    values: dict[str, object] = {
        "epoch": 0,
        "view": 1,
        "kind": Kind.NULLIFY,
        "content": None,
        "signatures": GOOD.signatures,
    }
    return Certificate(**(values | fields))  # type: ignore[arg-type]


REFUSED: list[tuple[str, Message, str]] = [
    ("a vote of a far view", CHAIN.vote(2, FAR, Kind.NULLIFY), "vote: of a view far ahead"),
    (
        "a vote signed for another chain",
        Vote(0, 1, Kind.NULLIFY, None, 2, NOISE),
        "vote: the signature does not verify",
    ),
    (
        "a vote of nobody",
        Vote(0, 1, Kind.NULLIFY, None, 4, NOISE),
        "vote: the voter is not in the validator set",
    ),
    (
        "a certificate with a signer twice",
        certificate(signatures=(GOOD.signatures[0], *GOOD.signatures[:2])),
        "certificate: signers are not strictly ascending",
    ),
    (
        "an unsorted certificate",
        certificate(signatures=tuple(reversed(GOOD.signatures))),
        "certificate: signers are not strictly ascending",
    ),
    (
        "a truncated certificate",
        certificate(signatures=GOOD.signatures[:2]),
        "certificate: fewer signatures than a quorum",
    ),
    (
        "an empty certificate",
        certificate(signatures=()),
        "certificate: fewer signatures than a quorum",
    ),
    (
        "an over-full certificate",
        certificate(signatures=tuple((i, NOISE) for i in range(5))),
        "certificate: a signer is not in the validator set",
    ),
    (
        "a giant certificate",
        certificate(signatures=tuple((i, NOISE) for i in range(256))),
        "certificate: a signer is not in the validator set",
    ),
    (
        "a certificate of another statement",
        certificate(view=2),
        "certificate: a signature does not verify",
    ),
    (
        "a certificate of view 0",
        certificate(view=0, kind=Kind.FINALIZE, content=CONTENT),
        "",  # below the floor: a late one is no fault
    ),
    (
        "a nullification with a content",
        certificate(content=CONTENT),
        "certificate: a nullify has no content",
    ),
    (
        "a block that nobody asked for",
        BlockResponse(0, ONE.raw),
        "block: not asked for",
    ),
    (
        "blocks that nobody asked for",
        SyncResponse((ONE.raw,), (), CHAIN.finalization(ONE)),
        "sync: not asked for",
    ),
    (
        "a proposal that is not its leader's",
        Proposal(CHAIN.vote(3, 1, Kind.NOTARIZE, ONE.content), ONE.raw),
        "proposal: not signed by the leader of its view",
    ),
    (
        "a proposal with another vote",
        Proposal(CHAIN.vote(1, 1, Kind.NULLIFY), ONE.raw),
        "proposal: does not carry a notarize",
    ),
    (
        "a body that is not the one voted for",
        Proposal(CHAIN.vote(1, 1, Kind.NOTARIZE, CONTENT), ONE.raw),
        "proposal: the body is not the one voted for",
    ),
    (
        "a request for no range",
        CertificateRequest(0, 3, 2),
        "certificate request: of another epoch, or an empty range",
    ),
    (
        "a seal that is no finalization",
        EpochSealed(0, (), CHAIN.nullification(1)),
        "epoch sealed: the certificate is no finalization of this epoch",
    ),
]
IN_OTHER_EPOCHS: list[Callable[[int], Message]] = [
    lambda e: Vote(e, 1, Kind.NULLIFY, None, 2, NOISE),
    lambda e: certificate(epoch=e),
    lambda e: Proposal(Vote(e, 1, Kind.NOTARIZE, CONTENT, 1, NOISE), bytes(10_000)),
    lambda e: BlockRequest(e, 1, bytes(32)),
    lambda e: BlockResponse(e, bytes(10_000)),
    lambda e: CertificateRequest(e, 1, 2),
    lambda e: OwnVotesRequest(e, 7),
    lambda e: OwnVotesResponse(e, 7, None, ()),
]


class Node:
    """A validator over its epochs; it answers no execution, since nothing here gets so far."""

    def __init__(self) -> None:
        self.time = 0
        self.verified = 0
        self.epochs = Epochs(
            index=0,
            validators=CHAIN.keys,
            epoch=Epoch(0),
            floor=Floor(CHAIN.genesis.info, None),
            timing=TIMING,
            codec=CODEC,
            verify=self.verify,
            signer=MemorySigner(CHAIN.secrets[0]),
            records=(),
        )
        self.epochs.start(Now(0, START))

    def verify(self, key: bytes, domain: str, payload: bytes, signature: bytes) -> bool:
        """Every signature here is forged; and nothing is remembered of it."""
        self.verified += 1
        return False

    def get(self, message: Message, sender: int = 3) -> list[Effect]:
        self.time += 1
        return self.epochs.handle(
            Received(ValidatorIndex(sender), message), Now(self.time, START + self.time)
        )


@pytest.mark.parametrize(
    ("message", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_each_is_refused_with_its_reason_and_changes_nothing(message: Message, reason: str) -> None:
    solo = Solo()
    refused = [each.reason for each in only(solo.get(message, sender=3), Rejected)]
    assert refused == ([reason] if reason else [])
    assert solo.core.view == 1
    assert solo.core.stopped is None
    assert solo.core.live_records() == []


@pytest.mark.parametrize("make", IN_OTHER_EPOCHS)
def test_what_is_said_in_a_far_epoch_is_refused_unverified(make: Callable[[int], Message]) -> None:
    node = Node()
    refused = only(node.get(make(7)), Rejected)
    assert [each.reason for each in refused] == ["message: of an epoch that has not begun here"]
    assert node.verified == 0


def test_what_is_said_in_the_next_epoch_is_kept_for_it_within_a_bound() -> None:
    node = Node()
    for view in range(10 * MAX_EARLY):
        node.get(Vote(1, view, Kind.NULLIFY, None, 2, NOISE))
    assert node.verified == 0
    assert sum(len(kept) for kept in node.epochs._early.values()) == MAX_EARLY


FLOODS: list[tuple[str, Callable[[int], Message]]] = [
    ("votes of far views", lambda i: Vote(0, 2 + i, Kind.NULLIFY, None, 2, NOISE)),
    ("forged votes", lambda i: Vote(0, 1, Kind(i % 3), _content(i), 2, NOISE)),
    ("forged certificates", lambda i: certificate(view=1 + i)),
    ("bodies", lambda i: BlockResponse(0, i.to_bytes(4, "big") * 2_000)),
    ("chunks", lambda i: SyncResponse((bytes(5_000),), (), certificate(view=1 + i))),
    (
        "proposals of another's view",
        lambda i: Proposal(Vote(0, 1 + i, Kind.NOTARIZE, _content(0, i), 3, NOISE), bytes(9_000)),
    ),
    ("far epochs", lambda i: IN_OTHER_EPOCHS[i % len(IN_OTHER_EPOCHS)](2 + i)),
    ("the next epoch", lambda i: IN_OTHER_EPOCHS[i % len(IN_OTHER_EPOCHS)](1)),
    ("requests", lambda i: BlockRequest(0, 1 + i, i.to_bytes(32, "big"))),
    ("questions", lambda i: OwnVotesRequest(0, i)),
    ("answers", lambda i: OwnVotesResponse(0, i, None, (_vote(i),) * 20)),
]
FLOOD = 4_000
"""Messages of one flood: kept, the smallest kind would take several times the bound."""
BOUND = 256 * 1024
"""Bytes by which a flood of one peer may make a node grow."""


def _content(i: int, parent: int = 0) -> Content | None:
    return None if i % 3 == Kind.NULLIFY else Content(parent, i.to_bytes(32, "big"))


def _vote(i: int) -> Vote:
    return Vote(0, 1 + i, Kind.NOTARIZE, Content(0, i.to_bytes(32, "big")), 0, NOISE)


@pytest.mark.parametrize("flood", [row[1] for row in FLOODS], ids=[row[0] for row in FLOODS])
def test_no_flood_of_a_peer_grows_memory(flood: Callable[[int], Message]) -> None:
    node = Node()
    for i in range(100):
        node.get(flood(i))
    gc.collect()
    tracemalloc.start()
    try:
        for i in range(100, FLOOD):
            node.get(flood(i))
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < BOUND, f"{grown:,} bytes after {FLOOD:,} messages"
