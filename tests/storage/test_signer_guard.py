"""The guard never lets a key contradict itself, whatever happens to core, journal or disk."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.interface import SigningRefused
from consensus.messages import VOTE_DOMAIN, Content, Epoch, Kind, View, Vote, vote_payload
from node.chain.signature import verify
from node.storage import signer as module
from node.storage.disk import FileDisk
from node.storage.errors import SignerUnusable, StoreLocked, StoreUnwritable
from node.storage.signer import GuardedSigner, create_signer_log
from node.storage.simulated_disk import SimulatedCrash, SimulatedDisk
from tests.support import world

HERE = "signer"
CHAIN = bytes(range(32))
KEY = world.vote_signer(0)
E0 = Epoch(0)
A = Content(0, b"a" * 32)
B = Content(0, b"b" * 32)
OTHER_PARENT = Content(1, b"a" * 32)

Wanted = tuple[Kind, Content | None]
NOTARIZE_A: Wanted = (Kind.NOTARIZE, A)
NULLIFY: Wanted = (Kind.NULLIFY, None)
FINALIZE_A: Wanted = (Kind.FINALIZE, A)


def open_guard(disk: SimulatedDisk) -> GuardedSigner:
    return GuardedSigner(KEY, CHAIN, disk, HERE)


def new_guard(disk: SimulatedDisk) -> GuardedSigner:
    create_signer_log(disk, HERE, CHAIN, KEY.public_key)
    return open_guard(disk)


def vote(guard: GuardedSigner, view: int, wanted: Wanted) -> bytes:
    return guard.sign_vote(E0, View(view), *wanted)


def segment(disk: SimulatedDisk) -> str:
    (name,) = [name for name in disk.list(HERE) if name.endswith(".segment")]
    return f"{HERE}/{name}"


def restart(disk: SimulatedDisk) -> GuardedSigner:
    disk.crash(random.Random(0))
    return open_guard(disk)


def test_a_signature_verifies_under_the_votes_domain_and_this_chain() -> None:
    guard = new_guard(SimulatedDisk())
    signature = vote(guard, 1, NOTARIZE_A)
    payload = vote_payload(0, 1, Kind.NOTARIZE, A)
    assert guard.public_key == KEY.public_key
    assert verify(KEY.public_key, VOTE_DOMAIN, CHAIN, payload, signature)
    assert not verify(KEY.public_key, VOTE_DOMAIN, bytes(32), payload, signature)


def test_an_identical_vote_gets_the_identical_signature_also_after_a_restart() -> None:
    disk = SimulatedDisk()
    guard = new_guard(disk)
    signatures = [vote(guard, 1, wanted) for wanted in (NOTARIZE_A, FINALIZE_A)]
    assert guard.dirty
    guard.sync()
    assert not guard.dirty
    assert [vote(guard, 1, wanted) for wanted in (NOTARIZE_A, FINALIZE_A)] == signatures
    assert not guard.dirty
    guard = restart(disk)
    assert [vote(guard, 1, wanted) for wanted in (NOTARIZE_A, FINALIZE_A)] == signatures


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (NOTARIZE_A, (Kind.NOTARIZE, B)),
        (NOTARIZE_A, (Kind.NOTARIZE, OTHER_PARENT)),
        (FINALIZE_A, (Kind.FINALIZE, B)),
        (FINALIZE_A, (Kind.FINALIZE, OTHER_PARENT)),
        (FINALIZE_A, NULLIFY),
        (NULLIFY, FINALIZE_A),
        (NULLIFY, NOTARIZE_A),
    ],
)
def test_a_conflicting_vote_is_refused(first: Wanted, then: Wanted, restarted: bool) -> None:
    disk = SimulatedDisk()
    guard = new_guard(disk)
    vote(guard, 5, first)
    guard.sync()
    if restarted:
        guard = restart(disk)
    with pytest.raises(SigningRefused, match="epoch 0 view 5"):
        vote(guard, 5, then)
    vote(guard, 6, then)


def test_what_no_rule_forbids_is_signed() -> None:
    guard = new_guard(SimulatedDisk())
    vote(guard, 1, NOTARIZE_A)
    vote(guard, 1, NULLIFY)  # giving up on a view after notarizing in it is no fault
    vote(guard, 2, NOTARIZE_A)
    vote(guard, 3, NOTARIZE_A)
    vote(guard, 2, FINALIZE_A)  # a record per view, not a high-water mark
    guard.sign_vote(Epoch(1), View(1), Kind.NOTARIZE, B)  # epochs are apart


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from(
                [NOTARIZE_A, (Kind.NOTARIZE, B), NULLIFY, FINALIZE_A, (Kind.FINALIZE, B)]
            ),
            st.sampled_from(["", "sync", "crash", "prune"]),
        ),
        max_size=25,
    ),
    st.integers(0, 2**32),
)
def test_published_votes_never_incriminate_the_key(
    steps: list[tuple[int, Wanted, str]], seed: int
) -> None:
    """Whatever is asked in whatever order, with crashes: what was synced never conflicts."""
    disk = SimulatedDisk(seed)
    rng = random.Random(seed)
    guard = new_guard(disk)
    published: set[tuple[int, Wanted]] = set()
    signed: set[tuple[int, Wanted]] = set()
    for view, wanted, then in steps:
        try:
            vote(guard, view, wanted)
        except SigningRefused:
            pass
        else:
            signed.add((view, wanted))
        if then == "crash":
            disk.crash(rng, power=rng.random() < 0.5)
            signed.clear()
            guard = open_guard(disk)
        elif then:
            guard.sync()
            published |= signed
            signed.clear()
            if then == "prune":
                guard.prune(E0, View(view))
    for view in (1, 2, 3):
        kinds = [wanted for at, wanted in published if at == view]
        assert sum(kind is Kind.NOTARIZE for kind, _ in kinds) <= 1
        assert sum(kind is Kind.FINALIZE for kind, _ in kinds) <= 1
        assert not (NULLIFY in kinds and any(kind is Kind.FINALIZE for kind, _ in kinds))


def test_a_vote_below_the_pruned_view_is_refused_even_if_it_was_signed_before() -> None:
    disk = SimulatedDisk()
    guard = new_guard(disk)
    vote(guard, 1, NOTARIZE_A)
    guard.sync()
    guard.prune(E0, View(5))
    guard.prune(E0, View(3))  # never goes back
    for view in (1, 4):
        with pytest.raises(SigningRefused, match="pruned"):
            vote(guard, view, NOTARIZE_A)
    vote(guard, 5, NOTARIZE_A)
    guard.prune(Epoch(1), View(0))
    with pytest.raises(SigningRefused, match="pruned"):
        vote(guard, 6, NOTARIZE_A)


def test_a_rewritten_log_still_holds_the_pruned_view_and_every_vote_above_it() -> None:
    disk = SimulatedDisk()
    guard = new_guard(disk)
    last = module.PRUNE_RECORDS + 10
    for view in range(1, last):
        vote(guard, view, NULLIFY)
    kept = vote(guard, last, FINALIZE_A)
    guard.sync()
    before = len(disk.read(segment(disk)))
    guard.prune(E0, View(last - 1))
    guard.sync()
    assert len(disk.read(segment(disk))) < before / 100
    guard = restart(disk)
    assert vote(guard, last, FINALIZE_A) == kept
    with pytest.raises(SigningRefused, match="after finalize"):
        vote(guard, last, NULLIFY)
    with pytest.raises(SigningRefused, match="pruned"):
        vote(guard, last - 2, NOTARIZE_A)


def test_a_crash_at_any_operation_of_a_rewrite_forgets_no_synced_vote() -> None:
    for operation in range(9):
        disk = SimulatedDisk(operation)
        guard = new_guard(disk)
        for view in range(1, module.PRUNE_RECORDS + 2):
            vote(guard, view, NULLIFY)  # enough of them that pruning rewrites the log
        vote(guard, 9_999, FINALIZE_A)
        guard.sync()
        guard.prune(E0, View(9_000))
        disk.crash_after = operation
        with contextlib.suppress(SimulatedCrash):
            guard.sync()
        disk.crash(random.Random(operation))
        guard = open_guard(disk)
        with pytest.raises(SigningRefused):
            vote(guard, 9_999, NULLIFY)
        with pytest.raises(SigningRefused):
            vote(guard, 1, NOTARIZE_A)


# --- a key whose record is not what it was never signs again --------------------------------------


def used(disk: SimulatedDisk) -> None:
    guard = new_guard(disk)
    for view in range(1, 6):
        vote(guard, view, NOTARIZE_A)
        guard.sync()
    guard.close()


def refused(disk: SimulatedDisk, why: str) -> None:
    with pytest.raises(SignerUnusable, match=why) as error:
        open_guard(disk)
    assert "never sign again" in str(error.value)
    # The refusal leaves no lock and heals nothing: it stands at the next start as well.
    with pytest.raises(SignerUnusable, match=why):
        open_guard(disk)


@pytest.mark.parametrize("gone", ["segment", "mark"])
def test_with_its_log_or_mark_missing_the_key_never_signs(gone: str) -> None:
    disk = SimulatedDisk()
    new_guard(disk).close()
    disk.remove(segment(disk) if gone == "segment" else f"{HERE}/mark")
    refused(disk, "gone")


def test_with_its_directory_missing_the_key_never_signs() -> None:
    with pytest.raises(SignerUnusable, match="gone"):
        open_guard(SimulatedDisk())


def test_with_its_log_cut_the_key_never_signs() -> None:
    whole = SimulatedDisk()
    used(whole)
    data = whole.read(segment(whole))
    for length in range(0, len(data), 11):
        disk = SimulatedDisk()
        used(disk)
        disk.overwrite(segment(disk), disk.read(segment(disk))[:length])
        refused(disk, r"durable|shorter than its header")


def test_with_its_log_damaged_the_key_never_signs() -> None:
    disk = SimulatedDisk()
    used(disk)
    pristine = disk.read(segment(disk))
    for offset in range(0, len(pristine), 17):
        changed = bytearray(pristine)
        changed[offset] ^= 0x10
        disk.overwrite(segment(disk), bytes(changed))
        refused(disk, "damaged|durable|checksum|not a segment")


def test_another_keys_or_chains_log_is_refused() -> None:
    disk = SimulatedDisk()
    used(disk)
    for key, chain in ((world.vote_signer(1), CHAIN), (KEY, bytes(32))):
        with pytest.raises(SignerUnusable, match="another chain or key"):
            GuardedSigner(key, chain, disk, HERE)


def test_a_copied_log_with_votes_is_refused_since_the_original_may_still_sign(
    tmp_path: Path,
) -> None:
    original, copy = str(tmp_path / "original"), str(tmp_path / "copy")
    create_signer_log(FileDisk(), original, CHAIN, KEY.public_key)
    guard = GuardedSigner(KEY, CHAIN, FileDisk(), original)
    guard.sign_vote(E0, View(1), *NOTARIZE_A)
    guard.sync()
    shutil.copytree(original, copy)
    for _ in range(2):
        with pytest.raises(SignerUnusable, match="copy"):
            GuardedSigner(KEY, CHAIN, FileDisk(), copy)
    guard.close()
    GuardedSigner(KEY, CHAIN, FileDisk(), original).close()


def test_a_log_that_was_never_used_may_travel_with_its_home(tmp_path: Path) -> None:
    original, copy = str(tmp_path / "original"), str(tmp_path / "copy")
    create_signer_log(FileDisk(), original, CHAIN, KEY.public_key)
    shutil.copytree(original, copy)
    GuardedSigner(KEY, CHAIN, FileDisk(), copy).close()


def test_an_older_log_under_a_newer_mark_is_refused() -> None:
    disk = SimulatedDisk()
    used(disk)
    old = disk.read(segment(disk))
    guard = open_guard(disk)
    vote(guard, 9, NOTARIZE_A)
    guard.sync()
    guard.close()
    disk.overwrite(segment(disk), old)
    refused(disk, "durable")


def test_a_vote_that_peers_show_and_the_guard_does_not_know_gives_the_key_away() -> None:
    disk = SimulatedDisk()
    guard = new_guard(disk)
    signature = vote(guard, 3, NOTARIZE_A)
    guard.sync()
    assert guard.remembers(Vote(0, 3, Kind.NOTARIZE, A, 0, signature))
    assert not guard.remembers(Vote(0, 3, Kind.NOTARIZE, B, 0, signature))
    assert not guard.remembers(Vote(0, 4, Kind.NULLIFY, None, 0, signature))
    guard.prune(E0, View(4))
    assert guard.remembers(Vote(0, 2, Kind.NULLIFY, None, 0, signature))


def test_a_condemned_key_signs_nothing_more_now_and_at_any_later_start() -> None:
    disk = SimulatedDisk()
    guard = new_guard(disk)
    vote(guard, 3, NOTARIZE_A)
    guard.condemn("a peer showed a vote that it does not remember")
    guard.condemn("again")
    for view in (3, 4):
        with pytest.raises(SigningRefused, match="a peer showed"):
            vote(guard, view, NOTARIZE_A)
    disk.crash(random.Random(0))
    for _ in range(2):
        with pytest.raises(SignerUnusable, match="a peer showed"):
            open_guard(disk)


# --- one process, one disk ------------------------------------------------------------------------


def test_one_process_at_a_time_holds_the_guard(tmp_path: Path) -> None:
    directory = str(tmp_path / HERE)
    create_signer_log(FileDisk(), directory, CHAIN, KEY.public_key)
    guard = GuardedSigner(KEY, CHAIN, FileDisk(), directory)
    with pytest.raises(StoreLocked, match="in use by process"):
        GuardedSigner(KEY, CHAIN, FileDisk(), directory)
    guard.close()
    GuardedSigner(KEY, CHAIN, FileDisk(), directory).close()


def test_a_signature_whose_record_cannot_be_made_durable_is_the_last_one() -> None:
    disk = SimulatedDisk()
    guard = new_guard(disk)
    vote(guard, 1, NOTARIZE_A)
    disk.fail_next_sync = True
    with pytest.raises(StoreUnwritable):
        guard.sync()
    with pytest.raises(StoreUnwritable):
        vote(guard, 2, NOTARIZE_A)
    assert guard.dirty
