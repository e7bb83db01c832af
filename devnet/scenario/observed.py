"""What a scenario saw from the outside: what nodes told clients, and when. The judge's evidence.

Nothing in here comes from the load's own bookkeeping but the list of what was sent, and nothing is
concluded here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Outcome(NamedTuple):
    """One outcome of one payment, as a node told it."""

    uetr: str
    height: int
    instruction: int | None
    payment: int
    status: str


class BlockSeen(NamedTuple):
    """One block of a node's chain."""

    height: int
    digest: str
    parent: str
    outcomes: int


class Claim(NamedTuple):
    """What a node once said of its chain, during the run."""

    node: str
    height: int
    digest: str


@dataclass(frozen=True, slots=True)
class Read:
    """The balances of all accounts as one node told them, and what was issued by then."""

    node: str
    height: int
    balances: dict[tuple[str, str, str], int]
    """(LEI, account, asset) → minor units."""
    supply: dict[str, int]
    """Asset → issued − redeemed, as the node told it before and after the balances."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """How the network came back after something was mended."""

    after: str
    """The step that mended it."""
    seconds: float | None
    """Until all nodes up stood at one height and a fresh payment was final; None: never."""
    detail: str = ""
    """What was still missing."""


@dataclass(slots=True)
class Observations:
    """Everything the judge is given."""

    nodes: list[str]
    """Those that were up at the end, and so are judged."""
    supply: dict[str, int]
    """Asset → what there was when the run began. Nobody issues or redeems during a run."""
    begun: int = 0
    """Height that a node had then. A node that was behind may still tell of less issued."""
    sent: set[str] = field(default_factory=set)
    """UETRs of all payments that were handed in and not refused."""
    refused: dict[str, str] = field(default_factory=dict)
    """UETR → why a node refused it for good."""
    told: dict[str, list[Outcome]] = field(default_factory=dict)
    """Node → what it told its clients to be final, in order, during the run."""
    claims: list[Claim] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    chains: dict[str, list[BlockSeen]] = field(default_factory=dict)
    """Node → its blocks from height 0, read at the end."""
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    """Node → every outcome of these blocks, read again at the end."""
    recoveries: list[Recovery] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """Alarms, nodes that stopped signing or ended unasked, what could not be read."""
