"""The UETRs that outcomes named, committed at each close: which, when, and alike on every node."""

from __future__ import annotations

import pytest

from node.chain import named, records
from node.chain.encoding import Malformed, encode
from node.chain.instruction import CheckedInstruction
from node.chain.records import UetrsKey, UetrsRecord, UetrTreeKey, UetrTreeRecord
from node.chain.types import Outcome, Payment, Phase, ProceedDay
from node.chain.uetr_tree import prove_uetr, sorted_uetrs, uetr_root, verify_uetr_absent
from node.ledger.apply import BlockContext, begin, conclude, execute
from node.ledger.entries import OutcomesGone
from node.ledger.ledger import Ledger, load_state
from node.ledger.state import State, StateDamaged
from node.ledger.tables import UETR_TREES, UETRS
from node.ledger.uetr_trees import MAX_AGE_MS, MAX_NAMED
from tests.support.days import FIRST_DATE, day, days, opening, publish, settling_world
from tests.support.ledger_world import DAY_MS, Chain, MadeBlock, uetr


def pending(chain: Chain) -> UetrsRecord:
    record = chain.state.get(UETRS, UetrsKey())
    assert record is not None
    return record


def tree(chain: Chain, number: int) -> UetrTreeRecord:
    record = chain.state.get(UETR_TREES, UetrTreeKey(number))
    assert record is not None
    return record


def named_by(*blocks: MadeBlock) -> list[bytes]:
    return [each.uetr for block in blocks for each in block.outcomes if each.uetr is not None]


def sent(chain: Chain, *payments: Payment) -> CheckedInstruction:
    """By BANKA."""
    return chain.world.pay("BANKA", *payments, valid_until=chain.state.time + 3 * DAY_MS)


def paid(chain: Chain, amount: int = 1) -> CheckedInstruction:
    return sent(chain, chain.world.payment("BANKA", "BANKB", amount))


def reloaded(chain: Chain) -> State:
    """The committed state as a node that starts here reads it."""
    tip = chain.blocks[-1].header
    state = chain.state
    return load_state(chain.records.items(), tip, state.history, chain.index, chain.nodes.get)


@pytest.fixture
def chain() -> Chain:
    """Five days published, none begun; BANKA has 1,000."""
    made = Chain(settling_world())
    made.fund(1_000)
    publish(made, days(5))
    return made


def to_clearing(chain: Chain, number: int = 0) -> list[MadeBlock]:
    """Blocks at the beginning of every phase but the close."""
    phases = [phase for phase in Phase if phase is not Phase.CLOSED]
    return [chain.block(time=day(number).begins[phase]) for phase in phases]


def close(chain: Chain, *instructions: CheckedInstruction, number: int = 0) -> MadeBlock:
    return chain.block(*instructions, time=day(number).begins[Phase.CLOSED])


# --- which and when -------------------------------------------------------------------------------


def test_a_ledger_without_a_schedule_has_no_rows_of_them() -> None:
    chain = Chain(settling_world())
    chain.fund(1_000)
    for _ in range(3):
        chain.block(paid(chain), time=chain.state.time + DAY_MS)
    assert not [key for key in chain.records if b"uetr" in key]
    assert list(chain.state.untreed()) == []


def test_it_counts_from_the_block_on_with_which_the_first_day_begins(chain: Chain) -> None:
    before = chain.state
    assert chain.state.get(UETRS, UetrsKey()) is None
    opened = chain.block(paid(chain), time=opening(0))
    assert pending(chain) == UetrsRecord(0, before.height, before.time, 1)
    assert named_by(opened) == list(chain.state.untreed())


def test_a_close_commits_all_that_its_day_named_whatever_became_of_it(chain: Chain) -> None:
    """Settled, retried, a duplicate, without authority, rejected, queued and expired with the
    close; a payment is named by several outcomes and counts once."""
    blocks = [chain.block(paid(chain), time=opening(0))]
    start = blocks[0].header.height - 1
    settled = chain.world.payment("BANKA", "BANKB", 5)
    large = chain.world.payment("BANKA", "BANKB", 10**6)
    blocks.append(chain.block(sent(chain, settled)))
    again = chain.world.payment("BANKA", "BANKB", 6, uetr=settled.uetr)
    others = chain.world.payment("BANKB", "BANKA", 7)
    blocks.append(chain.block(sent(chain, settled, large), sent(chain, again, others)))
    reasons = {each.reason for each in blocks[-1].outcomes}
    assert {None, "AM04", "AM05", "DS0H"} <= reasons
    blocks += [chain.block(time=day(0).begins[phase]) for phase in list(Phase)[1:4]]
    closing = close(chain, paid(chain))
    assert ("CANC", "AB03") in {(each.status, each.reason) for each in closing.outcomes}
    blocks.append(closing)
    uetrs = sorted_uetrs(named_by(*blocks))
    assert {settled.uetr, large.uetr, others.uetr} <= set(uetrs)
    assert len(uetrs) < len(named_by(*blocks))
    made, header = tree(chain, 0), closing.header
    assert made == UetrTreeRecord(
        after=start,
        after_time=chain.blocks[start - 1].header.timestamp,
        through=header.height,
        through_time=header.timestamp,
        date=FIRST_DATE,
        count=len(uetrs),
        root=uetr_root(uetrs),
    )
    assert pending(chain) == UetrsRecord(1, header.height, header.timestamp, 0)
    assert list(chain.state.untreed()) == []
    never = uetr(99_999)
    verify_uetr_absent(made.root, made.count, never, prove_uetr(uetrs, never))


def test_the_next_tree_begins_where_the_last_one_ended(chain: Chain) -> None:
    to_clearing(chain)
    first = close(chain)
    late = chain.block(paid(chain), time=first.header.timestamp + 1)
    later = to_clearing(chain, 1)
    second = close(chain, number=1)
    made = tree(chain, 1)
    assert (made.after, made.through) == (first.header.height, second.header.height)
    assert (made.after_time, made.date) == (first.header.timestamp, FIRST_DATE + 1)
    assert made.root == uetr_root(sorted_uetrs(named_by(late, *later, second)))


def test_a_day_on_which_nothing_was_named_has_a_tree_of_nothing(chain: Chain) -> None:
    to_clearing(chain)
    close(chain)
    assert (tree(chain, 0).count, tree(chain, 0).root) == (0, uetr_root([]))
    verify_uetr_absent(tree(chain, 0).root, 0, uetr(1), ())


def test_several_days_that_are_closed_in_one_block_have_one_tree(chain: Chain) -> None:
    """After an outage the operator begins what was jumped over, one phase after another."""
    chain.block(paid(chain), time=opening(0))
    chain.block(time=opening(2) + 1)
    orders = [
        chain.world.order(
            "CENTRALBANK", ProceedDay(FIRST_DATE + number, phase), valid_until=opening(3)
        )
        for number in (0, 1)
        for phase in Phase
        if (number, phase) > (0, Phase.CUSTOMER_CUTOFF)
    ]
    made = chain.block(*orders, time=opening(2) + 2)
    assert {each.reason for each in made.outcomes} == {None}
    assert tree(chain, 0).date == FIRST_DATE + 1
    assert (tree(chain, 0).count, pending(chain).next_tree) == (1, 1)


def test_a_tree_is_made_when_many_were_named_though_the_day_goes_on(chain: Chain) -> None:
    chain.block(paid(chain), time=opening(0))
    for lacking in (1, 0):
        state = chain.state
        work = begin(state, BlockContext(state.height + 1, state.time + 1))
        execute(work, 0, paid(chain))
        work.named += [uetr(1)] * (MAX_NAMED - 2 - lacking)
        applied = conclude(work)
        record = applied.state.get(UETRS, UetrsKey())
        made = applied.state.get(UETR_TREES, UetrTreeKey(0))
        assert record is not None
        if lacking:
            assert (made, record.named) == (None, MAX_NAMED - 1)
            continue
        assert made is not None
        assert (made.date, made.count, made.through) == (0, 3, state.height + 1)
        assert (record.named, record.after) == (0, state.height + 1)
        assert list(applied.state.untreed()) == []


def test_a_tree_is_made_when_the_last_one_is_old_though_no_day_was_closed(chain: Chain) -> None:
    chain.block(paid(chain), time=opening(0))
    since = pending(chain).time
    chain.block(time=since + MAX_AGE_MS - 1)
    assert pending(chain).next_tree == 0
    chain.block(paid(chain), time=since + MAX_AGE_MS)
    assert (tree(chain, 0).date, tree(chain, 0).count) == (0, 2)
    assert pending(chain).next_tree == 1


# --- alike on every node --------------------------------------------------------------------------


def test_competing_blocks_name_each_for_itself(chain: Chain) -> None:
    """Of two blocks only one is committed; what the other named is nowhere."""
    to_clearing(chain)
    left, right = chain.make(paid(chain)), chain.make(paid(chain), paid(chain))
    closing = day(0).begins[Phase.CLOSED]
    after_left = chain.make(parent=left.state, time=closing)
    after_right = chain.make(parent=right.state, time=closing)
    for block, child, count in ((left, after_left, 1), (right, after_right, 2)):
        made = child.state.get(UETR_TREES, UetrTreeKey(0))
        assert made is not None
        assert (made.count, made.root) == (count, uetr_root(sorted_uetrs(named_by(block))))
        assert list(child.state.untreed()) == []
    chain.commit(right)
    assert sorted(chain.state.untreed()) == sorted(named_by(right))
    # Begun before its parent was committed, it goes on alike after.
    late = paid(chain)
    beyond = chain.make(late, parent=after_right.state, time=closing + 1)
    chain.commit(after_right)
    again = chain.make(late, parent=after_right.state, time=closing + 1)
    assert beyond.header == again.header
    assert list(beyond.state.untreed()) == named_by(beyond)
    chain.commit(beyond)
    assert list(chain.state.untreed()) == named_by(beyond)


def test_a_node_that_starts_anew_after_any_block_makes_the_same_trees(chain: Chain) -> None:
    steps: list[tuple[int, list[CheckedInstruction]]] = [(opening(0), [])]
    steps += [(day(0).begins[phase], []) for phase in list(Phase)[1:]]
    steps += [(opening(1), []), *((day(1).begins[phase], []) for phase in list(Phase)[1:])]
    for number, (time, _) in enumerate(steps):
        instructions = [paid(chain) for _ in range(number % 3)]
        here = chain.make(*instructions, time=time)
        there = chain.make(*instructions, time=time, parent=reloaded(chain))
        assert here.header == there.header
        assert sorted(here.state.untreed()) == sorted(there.state.untreed())
        chain.commit(here)
        if number % 2:
            chain.ledger = Ledger(reloaded(chain))
    assert pending(chain).next_tree == 2


def test_a_node_without_the_outcomes_says_so_and_does_not_start(chain: Chain) -> None:
    chain.block(paid(chain), time=opening(0))
    last = chain.block(paid(chain))
    kept = chain.index.outcomes.pop(last.header.height)
    with pytest.raises(StateDamaged, match=r"are not held here.*no tree of used UETRs was made"):
        reloaded(chain)
    chain.index.outcomes[last.header.height] = kept[:-1]
    with pytest.raises(StateDamaged, match=r"1 stored outcomes after block .* the state says 2"):
        reloaded(chain)
    chain.index.outcomes[last.header.height] = kept
    assert sorted(reloaded(chain).untreed()) == sorted(chain.state.untreed())


def test_the_uetrs_of_a_past_tree_are_read_from_stored_outcomes(chain: Chain) -> None:
    to_clearing(chain)
    chain.block(paid(chain), paid(chain))
    close(chain)
    chain.block(paid(chain))
    made = tree(chain, 0)
    uetrs = sorted_uetrs(chain.index.uetrs_between(made.after, made.through))
    assert (len(uetrs), uetr_root(uetrs)) == (made.count, made.root)
    with pytest.raises(OutcomesGone, match="block 99"):
        list(chain.index.uetrs_between(98, 99))


# --- reading outcomes -----------------------------------------------------------------------------


def test_the_uetr_of_an_outcome_is_read_without_the_rest_of_it() -> None:
    plain = Outcome(7, 8, 1, 2, uetr(1), "ACSC", None, 3, 4, None, None, None)
    bare = Outcome(7, 8, None, 0, None, "ACSC", None, None, None, None, None, None)
    assert list(named.named_uetrs([encode(plain), encode(bare), encode(plain)])) == [uetr(1)] * 2
    for wrong in (b"", encode(plain)[:-1], encode(records.UetrsKey())):
        with pytest.raises(Malformed):
            list(named.named_uetrs([wrong]))
