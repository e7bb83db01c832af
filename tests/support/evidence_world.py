"""One real ledger on which a payment of each kind comes to each end, and its dossiers.

Three epochs, real signatures, a real `ChainStore`. `CASES` names the payments with the status that
their dossiers prove. Shared by all tests of a process: copy what you damage.

Things that are easily overlooked, and are here:
 - a hold or a cancellation of an all-or-none entry may name any payment of the entry (`group`);
 - a freeze, a suspension or its end holds and frees payments (`frozen`, `suspended`);
 - outcomes of one payment may share a block, also its first one (`gridlock-last`);
 - a UETR of a rejected copy or a retry is another order's (`copied`, `retry`, `duplicate`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from node.audit.build import build_dossier
from node.audit.dossier import Dossier, decode_dossier
from node.chain.block import header_digest, outcome_leaf
from node.chain.build import build_ready
from node.chain.signature import ROLE_VOTE, prove_possession
from node.chain.types import (
    AccountKind,
    Acknowledge,
    Cancel,
    Change,
    CycleAction,
    DecideDispute,
    Freeze,
    Header,
    Hold,
    InstructionBody,
    LiftSuspension,
    Link,
    Mode,
    MoveOwn,
    OpenDispute,
    OrderCycle,
    Payment,
    Post,
    Priority,
    Propose,
    Recall,
    RefuseRecall,
    Release,
    Reprioritise,
    Reserve,
    Return,
    SubmitEvidence,
    SuspendParticipant,
    Verdict,
    Void,
)
from node.ledger.entries import UetrEntry
from node.storage.chain_store import ChainStore
from node.storage.memory import MemoryStore
from tests.support.epoch_links import vote_signer
from tests.support.ledger_world import HOUR_MS, World
from tests.support.netting_world import FUNDING_MS, MARGIN, netting_world
from tests.support.small_chain import SmallChain
from tests.support.stored_chain import stored

CASES: dict[str, str] = {
    "issue": "settled",
    "redeem": "settled",
    "move": "settled",
    "alone": "settled",
    "batch": "settled",
    "nothing": "rejected",
    "copied": "rejected",
    "retry": "settled",
    "duplicate": "rejected",
    "queued": "queued",
    "expired": "expired",
    "cancelled": "cancelled",
    "held": "held",
    "many": "queued",
    "group-1": "cancelled",
    "group-2": "cancelled",
    "gridlock-first": "settled",
    "gridlock-last": "settled",
    "frozen": "held",
    "suspended": "settled",
    "reserved": "reserved",
    "posted": "posted",
    "part": "posted",
    "voided": "voided",
    "timed-out": "expired",
    "link-eur": "settled",
    "link-cny": "settled",
    "link-open": "accepted",
    "link-expired": "expired",
    "net-settled": "settled",
    "net-waterfall": "settled",
    "net-unwound": "rejected",
    "net-unsettled": "accepted",
    "net-funding": "accepted",
    "net-open": "accepted",
    "net-recalled": "settled",
    "returned": "settled",
    "return": "settled",
    "return-queued": "settled",
    "recalled": "settled",
    "disputed": "settled",
    "acknowledged": "settled",
}
"""Name → status that the dossier proves."""
PREIMAGE = sha256(b"shown to post").digest()


@dataclass
class EvidenceWorld:
    """The members, their chain, and the payments by name."""

    members: World = field(default_factory=netting_world)
    payments: dict[str, Payment] = field(default_factory=dict)
    entries: dict[str, UetrEntry] = field(default_factory=dict)
    """Of what has no UETR of its own."""
    uetrs: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chain = SmallChain(self.members.genesis)
        for vote in self.members.votes:
            self.chain.know(vote)

    # --- orders ---------------------------------------------------------------------------------

    def lei(self, name: str) -> str:
        return self.members.lei(name)

    def order(self, sender: str, body: InstructionBody) -> bytes:
        return self.members.order(sender, body).raw

    def draft(
        self, name: str, debtor: str, creditor: str, amount: int, asset: str = "EUR", **more: Any
    ) -> Payment:
        """A payment, known by its name from now on."""
        plain = self.members.payment(debtor, creditor, amount, asset)
        made = self.payments[name] = replace(plain, **more)
        self.uetrs[name] = made.uetr
        return made

    def pay(
        self, name: str, debtor: str, creditor: str, amount: int, *rest: Any, **more: Any
    ) -> bytes:
        return self.members.pay(
            debtor, self.draft(name, debtor, creditor, amount, *rest, **more)
        ).raw

    def net(self, name: str, debtor: str, creditor: str, amount: int) -> bytes:
        return self.pay(name, debtor, creditor, amount, mode=Mode.NET)

    def issue(self, name: str, creditor: str, amount: int, asset: str = "EUR") -> bytes:
        made = self.members.issue("CENTRALBANK", creditor, amount, asset)
        self.uetrs[name] = made.instruction.envelope.body.uetr  # type: ignore[union-attr]
        return made.raw

    def move(self, name: str, sender: str, amount: int, target: AccountKind) -> bytes:
        uetr = self.uetrs[name] = self.members.payment("BANKA", "BANKB", 1).uetr
        body = MoveOwn(uetr, "EUR", AccountKind.SETTLEMENT, target, amount)
        return self.order(sender, body)

    def reserve(self, name: str, *rest: Any, ms: int = HOUR_MS, lock: bool = False) -> bytes:
        made = self.draft(name, *rest)
        poster = None if lock else self.lei("BANKC")
        hash_lock = sha256(PREIMAGE).digest() if lock else None
        body = Reserve(made, poster, hash_lock, self.chain.state.time + ms)
        return self.order(self.name(made.debtor), body)

    def name(self, lei: str) -> str:
        return next(each.name for each in self.members.banks.values() if each.lei == lei)

    def link(self, *names: str, ms: int) -> Link:
        legs = tuple(self.payments[name] for name in names)
        return Link(legs, self.chain.state.time + ms)

    def acknowledge(self, name: str) -> bytes:
        """The creditor's word that it has seen the last outcome."""
        payment = self.payments[name]
        entry = self.chain.uetrs[payment.uetr]
        header = self.chain.header(entry.changed)
        assert header is not None
        raw = next(
            each
            for each in reversed(self.chain.stored_outcomes[entry.changed])
            if payment.uetr in each
        )
        body = Acknowledge(payment, outcome_leaf(raw), header_digest(header))
        return self.order(self.name(payment.creditor), body)

    def end_epoch(self, *others: bytes, carriers: int = 0) -> Header:
        """The same validators, with fresh vote keys."""
        chain, epoch = self.chain, self.chain.epoch() + 1
        chain.add(self.order("CENTRALBANK", Propose((), chain.state.time + HOUR_MS)))
        pending = chain.state.pending_epoch
        assert pending is not None
        ready = []
        for index, member in enumerate(pending.members):
            vote = vote_signer(index, epoch)
            chain.know(vote)
            ready.append(
                build_ready(
                    chain.genesis.chain_id,
                    member.operator,
                    f"READY-{epoch}-{index}",
                    chain.state.time + HOUR_MS,
                    name=member.name,
                    epoch=epoch,
                    vote_key=vote.public_key,
                    possession=prove_possession(
                        vote, ROLE_VOTE, member.operator, chain.genesis.chain_id
                    ),
                    node=self.members.nodes[index],
                )
            )
        sealed = chain.add(*others, *ready, carriers=carriers)
        assert chain.epoch() == epoch
        return sealed

    # --- evidence -------------------------------------------------------------------------------

    @cached_property
    def store(self) -> ChainStore:
        """The whole chain as a node stores it."""
        return stored(self.chain, MemoryStore())

    def entry(self, name: str) -> UetrEntry:
        return self.entries.get(name) or self.chain.uetrs[self.uetrs[name]]


def _plain(w: EvidenceWorld) -> None:
    add = w.chain.add
    add(
        w.issue("issue", "BANKA", 10_000_000),
        *(w.issue(f"issue {name}", name, 10_000_000) for name in ("BANKB", "BANKC", "CENTRALBANK")),
    )
    redeem = w.members.redeem("CENTRALBANK", 700)
    w.uetrs["redeem"] = redeem.instruction.envelope.body.uetr  # type: ignore[union-attr]
    add(redeem.raw, w.move("move", "BANKA", 5_000, MARGIN), w.pay("alone", "BANKA", "BANKB", 125))
    batch = [w.draft(f"batch {number}", "BANKB", "BANKC", 10 + number) for number in range(6)]
    w.uetrs["batch"] = batch[4].uetr
    add(
        w.members.pay("BANKB", *batch).raw,
        w.pay("nothing", "BANKA", "BANKB", 0),
        final=False,
    )
    # A copy by somebody else, the order itself, a retry and another payment under its UETR.
    own = w.draft("own", "BANKA", "BANKC", 77)
    other = replace(own, amount=78)
    add(*(w.members.pay(x, y).raw for x, y in (("BANKC", own), ("BANKA", own), ("BANKA", other))))
    again = add(w.members.pay("BANKA", own).raw)
    stands = w.chain.uetrs[own.uetr]
    w.entries["copied"] = stands._replace(instruction=0, status="RJCT")
    w.entries["duplicate"] = stands._replace(instruction=2, status="RJCT")
    w.entries["retry"] = stands._replace(height=again.height, instruction=0)


def _queue(w: EvidenceWorld) -> None:
    """BANKD has no money, so that what it orders waits."""
    add, soon = w.chain.add, w.chain.state.time + 20_000
    group = [w.draft(f"group-{n}", "BANKD", "BANKA", n, "CNY") for n in (1, 2)]
    add(
        w.pay("queued", "BANKD", "BANKA", 900, "CNY"),
        w.pay("expired", "BANKD", "BANKB", 901, "CNY", latest=soon),
        w.pay("cancelled", "BANKD", "BANKC", 902, "CNY"),
        w.pay("held", "BANKD", "BANKA", 903, "CNY"),
        w.pay("many", "BANKD", "BANKB", 904, "CNY"),
        w.members.pay("BANKD", *group, all_or_none=True).raw,
        final=False,
    )
    many = w.uetrs["many"]
    add(w.order("BANKD", Hold(w.uetrs["held"])), w.order("BANKD", Hold(many)))
    add(
        w.order("BANKD", Cancel(w.uetrs["cancelled"])),
        w.order("BANKD", Cancel(w.uetrs["group-2"])),
        w.order("BANKD", Release(many)),
        w.order("BANKD", Reprioritise(many, Priority.HIGH)),
    )
    w.end_epoch(w.order("BANKD", Hold(many)), carriers=1)
    add(w.order("BANKD", Release(many)))
    # A circle that none of its members could begin.
    add(
        w.pay("gridlock-first", "BANKA", "BANKB", 400, "CNY"),
        w.pay("gridlock-more", "BANKB", "BANKC", 400, "CNY"),
    )
    add(w.pay("gridlock-last", "BANKC", "BANKA", 400, "CNY"), after_ms=21_000)


def _restricted(w: EvidenceWorld) -> None:
    add, outsider = w.chain.add, w.lei("OUTSIDER")

    def decided(change: Change) -> bytes:
        return w.order("CENTRALBANK", Propose((change,), w.chain.state.time + HOUR_MS))

    add(decided(SuspendParticipant(outsider)))
    add(w.pay("suspended", "BANKA", "OUTSIDER", 31))
    add(decided(LiftSuspension(outsider)))
    later = w.chain.state.time + HOUR_MS
    add(w.pay("frozen", "BANKB", "OUTSIDER", 32, earliest=later))
    frozen = Freeze(outsider, debit=False, credit=True, reason="LEGL")
    add(w.order("WATCHDOG", frozen), final=False)


def _two_phases(w: EvidenceWorld) -> None:
    add, parties = w.chain.add, ("BANKA", "BANKB")
    add(
        w.reserve("reserved", *parties, 500),
        w.reserve("posted", *parties, 501, lock=True),
        w.reserve("part", *parties, 502),
        w.reserve("voided", *parties, 503),
        w.reserve("timed-out", *parties, 504, ms=5_000),
    )
    add(
        w.order("BANKB", Post(w.uetrs["posted"], None, PREIMAGE)),
        w.order("BANKC", Post(w.uetrs["part"], 200, None)),
        w.order("BANKB", Void(w.uetrs["voided"])),
    )
    add(after_ms=6_000)


def _linked(w: EvidenceWorld) -> None:
    """Payment versus payment: EUR against CNY."""
    add = w.chain.add
    add(w.issue("issue CNY", "BANKB", 5_000, "CNY"))
    w.draft("link-eur", "BANKA", "BANKB", 700)
    w.draft("link-cny", "BANKB", "BANKA", 5_000, "CNY")
    both = w.link("link-eur", "link-cny", ms=HOUR_MS)
    add(w.order("BANKA", both))
    w.end_epoch(carriers=2)
    add(w.order("BANKB", both))
    w.draft("link-open", "BANKA", "BANKB", 701)
    w.draft("link-other", "BANKB", "BANKC", 702)
    w.draft("link-third", "BANKC", "BANKA", 703)
    three = w.link("link-open", "link-other", "link-third", ms=HOUR_MS)
    w.draft("link-expired", "BANKA", "BANKB", 704)
    w.draft("link-never", "BANKB", "BANKA", 705)
    short = w.link("link-expired", "link-never", ms=5_000)
    add(w.order("BANKA", short), w.order("BANKC", three), w.order("BANKA", three))
    add(after_ms=6_000)


def _netted(w: EvidenceWorld) -> None:
    """Cycles one after another, each to another end. BANKD has no money but what margins hold."""
    add, numbers = w.chain.add, iter(range(1, 10))

    def closed(action: CycleAction = CycleAction.CLOSE, number: int | None = None) -> bytes:
        cycle = next(numbers) if number is None else number
        return w.order("CENTRALBANK", OrderCycle("EUR", cycle, action, None))

    add(w.net("net-settled", "BANKA", "BANKB", 900), w.net("net 2", "BANKB", "BANKC", 901))
    add(w.net("net 3", "BANKC", "BANKA", 902), w.net("net-recalled", "BANKA", "BANKC", 903))
    add(closed())
    add(w.pay("endow", "BANKA", "BANKD", 50))
    add(w.move("margin", "BANKD", 50, MARGIN), w.move("fund", "BANKB", 60, AccountKind.FUND))
    add(w.net("net-waterfall", "BANKD", "BANKA", 100), w.net("net 5", "BANKB", "BANKC", 7))
    add(closed())
    add(after_ms=FUNDING_MS + 1)
    add(w.net("net-unwound", "BANKD", "BANKA", 90_000), w.net("net 6", "BANKD", "BANKC", 8))
    add(closed())
    add(after_ms=FUNDING_MS + 1)
    add(closed(CycleAction.UNWIND, 3))
    add(w.net("net-unsettled", "BANKD", "BANKA", 80_000))
    add(closed())
    add(after_ms=FUNDING_MS + 1)
    add(w.net("net-funding", "BANKD", "BANKA", 70_000))
    add(closed())
    add(w.net("net-open", "BANKA", "BANKB", 11))


def _afterwards(w: EvidenceWorld) -> None:
    """What is said about payments that settled."""
    add, names = w.chain.add, ("returned", "recalled", "disputed", "acknowledged")
    add(*(w.pay(name, "BANKA", "BANKB", 600 + at) for at, name in enumerate(names)))
    returned, recalled, disputed = (w.payments[name] for name in names[:3])
    back = w.draft("return", "BANKB", "BANKA", 250)
    add(
        w.order("BANKA", Recall(returned, "DUPL")),
        w.order("BANKA", Recall(recalled, "CUST")),
        w.order("BANKA", Recall(w.payments["net-recalled"], "CUST")),
        w.order("BANKB", OpenDispute(disputed, "FRAD")),
        w.acknowledge("acknowledged"),
    )
    add(
        w.order("BANKB", Return(back, returned, "DUPL")),
        w.order("BANKB", RefuseRecall(recalled, "LEGL")),
        w.order("BANKA", SubmitEvidence(disputed.uetr, PREIMAGE)),
        w.acknowledge("part"),
        w.acknowledge("nothing"),
    )
    add(
        w.order("BANKB", SubmitEvidence(disputed.uetr, PREIMAGE)),
        w.order("WATCHDOG", DecideDispute(disputed.uetr, Verdict.UPHELD, "LEGL")),
        # Rejected: it is no party, and it is none of its evidence.
        w.order("BANKC", SubmitEvidence(disputed.uetr, PREIMAGE)),
    )
    # BANKC has no CNY left to give back, until it is paid.
    add(w.issue("CNY", "BANKA", 40, "CNY"))
    add(w.pay("given", "BANKA", "BANKC", 40, "CNY"), w.pay("on", "BANKC", "BANKB", 40, "CNY"))
    given = w.payments["given"]
    back = w.draft("return-queued", "BANKC", "BANKA", 30, "CNY")
    add(w.order("BANKC", Return(back, given, "DUPL")), final=False)
    add(w.pay("again", "BANKB", "BANKC", 40, "CNY"))
    add()


@cache
def evidence_world() -> EvidenceWorld:
    """The ledger with all of it."""
    made = EvidenceWorld()
    for act in (_plain, _queue, _restricted, _two_phases, _linked, _netted, _afterwards):
        act(made)
    return made


@cache
def case_bytes(name: str, clear: str | None = None, checkpoint: int | None = None) -> bytes:
    """The dossier of a case, made from the store. `clear`: name of a participant, or `all`."""
    made = evidence_world()
    reader = clear if clear is None or clear == "all" else made.lei(clear)
    return build_dossier(made.store, made.entry(name), clear=reader, checkpoint=checkpoint)


def case(name: str, clear: str | None = None, checkpoint: int | None = None) -> Dossier:
    """The same, decoded."""
    return decode_dossier(case_bytes(name, clear, checkpoint))
