"""A replay finds the first block at which the stored chain is not what genesis leads to."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from consensus.messages import Kind
from node.audit.books import Books, BooksDisagree
from node.audit.chain_audit import AuditReport, audit_chain
from node.audit.report import INVALID, UNDECIDED, VALID
from node.chain.block import encode_block, header_digest, inspect_block
from node.chain.encoding import decode, encode
from node.chain.instruction import check_instruction
from node.chain.types import Header, Outcome
from tests.support import wire, world
from tests.support.small_chain import SmallChain, finalization, issue, pay, sample
from tests.support.world import BANKA


def copied() -> SmallChain:
    chain = copy.copy(sample())
    for name in ("blocks", "stored_outcomes", "finalizations", "records"):
        setattr(chain, name, dict(getattr(chain, name)))
    return chain


def audited(change: Callable[[SmallChain], object]) -> AuditReport:
    chain = copied()
    change(chain)
    return audit_chain(chain, world.genesis_bytes())


def found(change: Callable[[SmallChain], object]) -> tuple[int, str]:
    """(height, field) of the finding after this change."""
    report = audited(change)
    assert (report.verdict, report.exit_code) == (INVALID, 1)
    assert report.finding is not None
    assert report.height == report.finding.height - 1 or report.finding.height == 6
    assert f"FAIL  {report.finding}" in report.text()
    return report.finding.height, report.finding.where


def test_a_sound_chain_is_replayed_to_its_tip_and_its_money_counted() -> None:
    seen: list[tuple[int, int]] = []
    report = audit_chain(
        sample(), world.genesis_bytes(), lambda so_far, tip: seen.append((so_far.height, tip))
    )
    assert (report.verdict, report.exit_code, report.finding) == (VALID, 0, None)
    assert seen == [(height, 6) for height in range(1, 7)]
    assert report.digest == header_digest(sample().tip)
    assert (report.instructions, report.payments, report.certificates) == (12, 19, 4 + 6 + 2)
    assert report.signatures == 12 * 3 + 13
    assert (report.epochs, report.equivocations) == (1, 0)
    assert report.totals == {"EUR": 10**9 + 500 - 600, "CNY": 10**9}
    assert "EUR: 999,999,900 minor units = issued − redeemed = sum of balances" in report.text()


def test_a_chain_of_nothing_but_genesis_needs_no_certificate() -> None:
    assert audit_chain(SmallChain(), world.genesis_bytes()).verdict == VALID


def rewritten(chain: SmallChain, at: int, **fields: object) -> None:
    """The block with other header fields, and a certificate for it."""
    block = inspect_block(chain.blocks[at])
    parent = inspect_block(chain.blocks[at - 1]).header
    header: Header = replace(block.header, **fields)
    chain.blocks[at] = encode_block(header, block.instructions)
    chain.finalizations[at] = finalization(
        header_digest(header), view=header.view, parent_view=parent.view
    )


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("version", 2, "header.version"),
        ("chain_id", bytes(32), "header.chain_id"),
        ("epoch", 1, "header.epoch"),
        ("height", 5, "header.height"),
        ("parent", bytes(32), "header.parent"),
        ("proposer", 9, "header.proposer"),
        ("validator_set", bytes(32), "header.validator_set"),
        ("next_validator_set", bytes(32), "header.next_validator_set"),
        ("timestamp", world.GENESIS_TIME, "execution"),
        ("timestamp", 2**64 - 1, "execution"),
        ("instructions_root", bytes(32), "body"),
        ("outcomes_count", 1, "execution"),
        ("outcomes_root", bytes(32), "execution"),
        ("state_root", bytes(32), "execution"),
        ("history_root", bytes(32), "execution"),
    ],
)
def test_every_header_field_is_recomputed_even_where_a_quorum_signed_it(
    field: str, value: object, where: str
) -> None:
    assert found(lambda c: rewritten(c, 4, **{field: value})) == (4, where)


def test_a_view_that_does_not_ascend_is_found() -> None:
    assert found(lambda c: rewritten(c, 4, view=5, proposer=1)) == (4, "header.view")


def test_damaged_missing_and_foreign_blocks_are_found() -> None:
    assert found(lambda c: c.blocks.pop(3)) == (3, "block")
    assert found(lambda c: c.blocks.__setitem__(3, b"junk")) == (3, "block, byte 1")
    assert found(lambda c: c.blocks.pop(0)) == (0, "block")
    assert found(lambda c: c.blocks.__setitem__(0, c.blocks[1])) == (0, "block")
    assert found(lambda c: c.blocks.__setitem__(3, c.blocks[4])) == (3, "header.height")
    other = audit_chain(sample(), world.genesis_bytes() + b"\n")
    assert other.finding is not None
    assert (other.finding.height, other.finding.where) == (0, "block")


def test_no_flipped_bit_of_a_block_passes() -> None:
    chain = copied()
    sound = chain.blocks[6]
    for position, changed in enumerate(wire.flipped(sound)):
        if position % 97 == 0:
            chain.blocks[6] = changed
            assert audit_chain(chain, world.genesis_bytes()).verdict == INVALID


def test_every_stored_outcome_is_compared() -> None:
    def improve(chain: SmallChain) -> None:
        outcomes = list(chain.stored_outcomes[2])
        outcome = decode(outcomes[7], Outcome)
        outcomes[7] = encode(replace(outcome, status="ACSC", reason=None))
        chain.stored_outcomes[2] = outcomes

    assert found(improve) == (2, "stored outcome 7")
    assert found(lambda c: c.stored_outcomes.pop(2)) == (2, "stored outcomes")
    cut = sample().stored_outcomes[2][:-1]
    assert found(lambda c: c.stored_outcomes.__setitem__(2, cut)) == (
        2,
        "number of stored outcomes",
    )


def certified(chain: SmallChain, height: int, **options: object) -> None:
    header = inspect_block(chain.blocks[height]).header
    parent = inspect_block(chain.blocks[height - 1]).header
    chosen: dict[str, object] = {"view": header.view, "parent_view": parent.view} | options
    chain.finalizations[height] = finalization(header_digest(header), **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"kind": Kind.NOTARIZE}, "certificate.kind"),
        ({"epoch": 1}, "certificate.epoch"),
        ({"view": 99}, "certificate.view"),
        ({"parent_view": 1}, "certificate.parent_view"),
        ({"signers": (0, 1)}, "certificate.signatures"),
        ({"signers": (0, 1, 1)}, "certificate.signatures"),
        ({"chain_id": bytes(32)}, "certificate.signatures"),
    ],
)
def test_every_certificate_is_checked(options: dict[str, object], where: str) -> None:
    assert found(lambda c: certified(c, 5, **options)) == (5, where)


def test_a_certificate_for_another_block_is_found() -> None:
    chain = sample()
    assert found(lambda c: c.finalizations.__setitem__(5, chain.finalizations[4]))[0] == 5


def test_a_tip_that_nobody_finalized_is_found_and_a_gap_below_it_is_not_one() -> None:
    assert found(lambda c: c.finalizations.pop(6)) == (6, "certificate")
    assert audited(lambda c: c.finalizations.pop(5)).verdict == VALID


def test_the_stored_state_must_be_what_the_replay_ends_with() -> None:
    key = next(iter(sample().records))
    where = (6, "key of a stored state record")
    assert found(lambda c: c.records.pop(key)) == where
    assert found(lambda c: c.records.__setitem__(b"\x00", b"\x00")) == where
    changed = (6, f"stored state record {key.hex()}")
    assert found(lambda c: c.records.__setitem__(key, b"\x00")) == changed
    after = (6, "stored state records")
    assert found(lambda c: c.records.__setitem__(b"\xff", b"\x00")) == after


def test_without_chain_or_genesis_file_nothing_is_decided() -> None:
    empty = copied()
    empty.blocks = {}
    for report in (
        audit_chain(empty, world.genesis_bytes()),
        audit_chain(sample(), b"{}"),
    ):
        assert (report.verdict, report.exit_code) == (UNDECIDED, 2)
        assert "NOTE" in report.text()


# --- the second bookkeeping -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"creditor_balance": 1}, "outcome 0.creditor_balance"),
        ({"debtor_balance": 1}, "outcome 0.debtor_balance"),
        ({"status": "RJCT"}, f"balance of {(BANKA.lei, 'EUR', 0)}"),
        ({"uetr": None}, "outcome 0.uetr"),
        ({"payment": 1}, "outcome 0.uetr"),
    ],
)
def test_outcomes_that_do_not_follow_from_the_orders_disagree_with_the_books(
    change: dict[str, object], where: str
) -> None:
    chain = SmallChain()
    raw = issue(chain, 1)
    chain.add(raw)
    checked = [check_instruction(raw, chain.genesis.chain_id)]
    outcome = decode(chain.stored_outcomes[1][0], Outcome)
    records = chain.applied[1].records
    Books().post(checked, [encode(outcome)], chain.state, records)
    with pytest.raises(BooksDisagree) as caught:
        Books().post(checked, [encode(replace(outcome, **change))], chain.state, records)
    assert caught.value.where == where
    for outcomes in ([], [encode(outcome)] * 2):
        with pytest.raises(BooksDisagree):
            Books().post(checked, outcomes, chain.state)


def test_the_books_hold_every_account_against_the_state() -> None:
    chain, books = SmallChain(), Books()

    def entered(raw: bytes) -> None:
        chain.add(raw)
        checked = [check_instruction(raw, chain.genesis.chain_id)]
        books.post(checked, chain.stored_outcomes[chain.tip.height], chain.state)

    entered(issue(chain, 1))
    entered(pay(chain, "E2E-1", 2))
    books.compare_all(chain.state)
    chain.add(pay(chain, "E2E-2", 3))
    with pytest.raises(BooksDisagree, match="balance of"):
        books.compare_all(chain.state)
