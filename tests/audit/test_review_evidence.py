"""What a liar once could make a verifier believe of real histories, and honest evidence that was
once not believed: each is a chain with real signatures, and a dossier that was made from it."""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from io import StringIO

import pytest
from msgspec.structs import replace

from node.audit.build import build_dossier
from node.audit.build_state import build_balance
from node.audit.dossier import (
    Act,
    Agreement,
    Dossier,
    Linked,
    ProvenBlock,
    Step,
    decode_dossier,
    encode_dossier,
)
from node.audit.report import INVALID, NOTE, UNDECIDED, VALID, Line, Report
from node.audit.state_proofs import BalanceProof, decode_state_proof, encode_state_proof
from node.audit.verify import verify_file
from node.audit.verify_order import MAX_UNCOMMITTED
from node.chain.block import header_digest
from node.chain.build import build_ready
from node.chain.signature import ROLE_VOTE, Ed25519Signer, prove_possession
from node.chain.types import (
    AccountKind,
    CycleAction,
    DecideDispute,
    Header,
    InstructionBody,
    Mode,
    OpenDispute,
    OrderCycle,
    Payment,
    Propose,
    Recall,
    Verdict,
)
from node.cli.output import Output
from node.ledger.entries import UetrEntry
from tests.support.epoch_links import vote_signer
from tests.support.evidence_world import EvidenceWorld, case, evidence_world
from tests.support.forge import FIRST, act_of, sign
from tests.support.ledger_world import HOUR_MS
from tests.support.netting_world import netting_world

DAY_MS = 24 * HOUR_MS


def judged(world: EvidenceWorld, dossier: Dossier | bytes) -> Report:
    data = dossier if isinstance(dossier, bytes) else encode_dossier(dossier)
    return verify_file(data, world.members.genesis_bytes)


def made(world: EvidenceWorld, entry: UetrEntry) -> Dossier:
    return decode_dossier(build_dossier(world.store, entry))


def line(report: Report, check: str) -> Line:
    return next(each for each in report.lines if each.check == check)


# --- a checkpoint that is no block --------------------------------------------------------------


@cache
def ended(*, empty: bool) -> tuple[EvidenceWorld, Header]:
    """A chain whose last block ends its epoch, final through two carriers. `empty`: because its
    time had come, and without an instruction."""
    world = EvidenceWorld()
    world.chain.add(world.issue("issue", "BANKA", 1_000))
    world.chain.add(world.pay("paid", "BANKA", "BANKB", 10))
    if not empty:
        return world, world.end_epoch(carriers=2)
    chain = world.chain
    chain.add(world.order("CENTRALBANK", Propose((), chain.state.time + HOUR_MS)))
    pending = chain.state.pending_epoch
    assert pending is not None
    ready = []
    for index, member in enumerate(pending.members[:3]):
        vote = vote_signer(index, 1)
        chain_id = chain.genesis.chain_id
        ready.append(
            build_ready(
                chain_id,
                member.operator,
                f"READY-{index}",
                chain.state.time + HOUR_MS,
                name=member.name,
                epoch=1,
                vote_key=vote.public_key,
                possession=prove_possession(vote, ROLE_VOTE, member.operator, chain_id),
                node=world.members.nodes[index],
            )
        )
    chain.add(*ready)
    seal = chain.add(after_ms=61_000, carriers=2)
    assert chain.epoch() == 1
    assert (seal.instructions_count, seal.outcomes_count) == (0, 0)
    return world, seal


@pytest.mark.parametrize("empty", [False, True])
def test_a_carrier_passes_for_no_block(empty: bool) -> None:
    """It has the height of the sealing block that it carries, and another digest: whoever notes it
    as the block of that height takes the chain's own history for a fork."""
    world, seal = ended(empty=empty)
    sound = made(world, world.entry("paid"))
    report = judged(world, sound)
    assert report.verdict == VALID, report.text()
    assert report.payment is not None
    assert report.payment.checkpoint_digest == header_digest(seal).hex()
    assert sound.finality is not None
    carriers = sound.finality.carriers
    assert len(carriers) == 2
    for number, below in enumerate((seal, carriers[0])):
        for parent in (None, below, sound.blocks[-1].parent):
            block = ProvenBlock(carriers[number], parent, ())
            finality = replace(sound.finality, carriers=carriers[number + 1 :])
            forged = replace(sound, blocks=(*sound.blocks[:-1], block), finality=finality)
            assert judged(world, forged).verdict == INVALID


@pytest.mark.parametrize("empty", [False, True])
def test_nor_where_a_balance_is_proven(empty: bool) -> None:
    world, seal = ended(empty=empty)
    lei = world.lei("BANKA")
    for height in (2, seal.height):
        data = build_balance(world.store, lei, "EUR", AccountKind.SETTLEMENT, height)
        assert judged(world, data).verdict == VALID, judged(world, data).text()
        sound = decode_state_proof(data, BalanceProof)
        assert sound.finality is not None
        first, rest = sound.finality.carriers[0], sound.finality.carriers[1:]
        forged = replace(
            sound,
            blocks=(*sound.blocks[:-1], ProvenBlock(first, None, ())),
            finality=replace(sound.finality, carriers=rest),
        )
        assert judged(world, encode_state_proof(forged)).verdict == INVALID


# --- a UETR that is used anew -------------------------------------------------------------------


class Reused(EvidenceWorld):
    """A ledger that remembers UETRs for a day."""

    def __init__(self) -> None:
        super().__init__(netting_world(uetr_window_days=1))
        self.chain.add(self.issue("a", "BANKA", 10_000), self.issue("b", "BANKB", 10_000))

    def late(self, sender: str, body: InstructionBody) -> bytes:
        until = self.chain.state.time + 3 * DAY_MS
        return self.members.order(sender, body, valid_until=until).raw

    def again(self, payment: Payment) -> UetrEntry:
        """Pay it once more, as soon as its UETR may be used again."""
        until = self.chain.state.time + 3 * DAY_MS
        sender = self.name(payment.debtor)
        self.chain.add(self.members.pay(sender, payment, valid_until=until).raw)
        return self.chain.uetrs[payment.uetr]


@cache
def reused() -> tuple[Reused, dict[str, UetrEntry]]:
    """Payments of every end whose UETRs others took a day later, which wait and so have rows."""
    world = Reused()
    add = world.chain.add
    add(
        world.pay("at once", "BANKA", "BANKB", 100),
        world.pay("waited", "BANKD", "BANKA", 50),
        world.pay("nothing", "BANKA", "BANKB", 0),
        world.pay("expired", "BANKD", "BANKA", 60, latest=world.chain.state.time + 20_000),
    )
    add(world.net("net", "BANKA", "BANKB", 9))
    add(world.order("CENTRALBANK", OrderCycle("EUR", 1, CycleAction.CLOSE, None)))
    add(after_ms=21_000)
    add(world.pay("given", "BANKA", "BANKD", 50))
    names = ("at once", "waited", "nothing", "expired", "net")
    entries = {name: world.entry(name) for name in names}
    add(after_ms=2 * DAY_MS)
    for name in names:
        soon = world.chain.state.time + HOUR_MS
        other = replace(world.payments[name], amount=777, mode=Mode.GROSS, latest=None)
        assert world.again(replace(other, earliest=soon)).status == "PDNG"
    return world, entries


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("at once", "settled"),
        ("waited", "settled"),
        ("nothing", "rejected"),
        ("expired", "expired"),
        ("net", "settled"),
    ],
)
def test_nobody_takes_the_proof_of_a_decided_payment_away(name: str, status: str) -> None:
    """A debtor may give its old UETR to another payment: what was decided stays proven."""
    world, entries = reused()
    report = judged(world, made(world, entries[name]))
    assert (report.verdict, report.status) == (VALID, status), report.text()
    assert "used anew" in line(report, "record").text


def test_of_one_that_waited_when_last_heard_of_nothing_is_proven() -> None:
    world, entries = reused()
    sound = made(world, entries["waited"])
    kept = (sound.steps[0].outcome.height, sound.blocks[-1].header.height)
    blocks = tuple(each for each in sound.blocks if each.header.height in kept)
    less = replace(
        sound, steps=sound.steps[:1], blocks=blocks, together=None, debtor=None, creditor=None
    )
    report = judged(world, less)
    assert (report.verdict, report.status) == (UNDECIDED, None), report.text()


@cache
def disputed() -> tuple[Reused, UetrEntry, UetrEntry]:
    """Two payments of one UETR, one pair of parties and different amounts; the later is
    disputed."""
    world = Reused()
    world.chain.add(world.pay("earlier", "BANKA", "BANKB", 100))
    earlier = world.entry("earlier")
    world.chain.add(after_ms=2 * DAY_MS)
    other = replace(world.payments["earlier"], amount=200)
    later = world.again(other)
    world.chain.add(world.late("BANKB", OpenDispute(other, "FRAD")))
    verdict = DecideDispute(other.uetr, Verdict.UPHELD, "LEGL")
    world.chain.add(world.late("WATCHDOG", verdict))
    return world, earlier, later


def test_the_dispute_of_another_payment_is_not_this_ones() -> None:
    """The state knows disputes by UETR alone: which payment it is of, only its opening tells."""
    world, earlier, later = disputed()
    mine, other = made(world, earlier), made(world, later)
    assert judged(world, mine).verdict == VALID
    assert judged(world, other).verdict == VALID
    assert other.dispute is not None
    assert judged(world, replace(mine, dispute=other.dispute)).verdict == UNDECIDED
    said = tuple(
        each for each in other.related if isinstance(each.act.signed.envelope.body, DecideDispute)
    )
    blocks = {each.header.height: each for each in (*mine.blocks, *other.blocks)}
    used = {mine.steps[0].outcome.height, *(each.outcome.height for each in said)}
    kept = tuple(blocks[height] for height in sorted({*used, mine.blocks[-1].header.height}))
    forged = replace(mine, dispute=other.dispute, related=said, blocks=kept)
    assert judged(world, forged).verdict == UNDECIDED
    forged = replace(
        forged,
        related=other.related,
        blocks=tuple(
            blocks[height]
            for height in sorted(
                {
                    *(each.header.height for each in mine.blocks),
                    *(each.outcome.height for each in other.related),
                }
            )
        ),
    )
    assert judged(world, forged).verdict == INVALID


def test_what_was_said_of_the_same_payment_made_anew_is_not_the_older_ones() -> None:
    """Two payments of one content: only the heights tell which of them a recall is of."""
    world = Reused()
    world.chain.add(world.pay("twice", "BANKA", "BANKB", 100))
    payment, first = world.payments["twice"], world.entry("twice")
    world.chain.add(after_ms=2 * DAY_MS)
    second = world.again(payment)
    assert second.height > first.height
    world.chain.add(world.late("BANKA", Recall(payment, "CUST")))
    older, newer = made(world, first), made(world, second)
    assert (len(older.related), len(newer.related)) == (0, 1)
    for each in (older, newer):
        assert judged(world, each).verdict == VALID, judged(world, each).text()
    blocks = {each.header.height: each for each in (*newer.blocks, *older.blocks)}
    heights = {*(each.header.height for each in older.blocks), newer.related[0].outcome.height}
    kept = tuple(blocks[height] for height in sorted(heights - {second.height}))
    # Where the recall's block is the checkpoint too, the newer dossier has what it needs.
    top = {each.header.height: each for each in newer.blocks}[kept[-1].header.height]
    forged = replace(older, related=newer.related, blocks=(*kept[:-1], top))
    report = judged(world, forged)
    assert (report.verdict, line(report, "related").result) == (UNDECIDED, NOTE), report.text()


# --- words --------------------------------------------------------------------------------------


def test_a_return_is_told_of_with_what_became_of_it_at_first() -> None:
    """One that waits may still expire: then nothing was given back."""
    text = line(judged(evidence_world(), case("returned")), "related").text
    assert "return of 2.50 EUR (settled at first) by " in text


def test_of_an_open_link_is_told_who_signed_it() -> None:
    """A debtor's instruction that the ledger rejected is its signature all the same."""
    sound = case("link-open")
    assert isinstance(sound.together, Linked)
    assert all(isinstance(each, Agreement) for each in sound.together.agreements)
    assert "shown to have signed: 2 of 3" in line(judged(evidence_world(), sound), "together").text


def test_no_document_turns_the_writing_of_a_terminal_round() -> None:
    """Names in evidence are any text; escapes mean the same to a program."""
    said = {"name": "\u202eBANK\u009b2J\U000e0001 Zürich"}
    out = StringIO()
    Output(as_json=True, stdout=out).document(said)
    assert all(c.isprintable() or c == "\n" for c in out.getvalue())
    assert "Zürich" in out.getvalue()
    assert json.loads(out.getvalue()) == said


def test_an_outcome_of_a_payment_that_waits_is_not_its_final_one() -> None:
    world = EvidenceWorld()
    world.chain.add(world.pay("queued", "BANKD", "BANKA", 9))
    world.chain.add(world.acknowledge("queued"))
    report = judged(world, made(world, world.entry("queued")))
    assert (report.verdict, report.status) == (VALID, "queued"), report.text()
    assert "to have seen its latest outcome" in line(report, "delivery").text


# --- time ---------------------------------------------------------------------------------------


def test_masses_of_signatures_are_only_looked_at_where_a_final_block_holds_them() -> None:
    """Whoever signs by the thousand with keys of its own does not keep a verifier busy."""
    sound = case("many")
    step, signed = sound.steps[1], act_of(sound, 1).signed
    keys = [Ed25519Signer(sha256(bytes((number,))).digest()) for number in range(32)]
    forged = sign(signed.envelope, *keys)
    act = Act(forged, FIRST, None)
    count = MAX_UNCOMMITTED // 32 + 1
    steps = (sound.steps[0], *(Step(step.outcome, step.place, act) for _ in range(count)))
    report = judged(evidence_world(), replace(sound, steps=steps))
    assert report.verdict == INVALID
    found = line(report, "signatures")
    assert found.result == NOTE
    assert "cannot be decided" in found.text
