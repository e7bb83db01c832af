"""A checkpoint rests on a checked certificate, and no key signs two that contradict each other."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from consensus.messages import Kind
from node.audit.build_chain import EvidenceUnavailable
from node.audit.checkpoint import (
    Signed,
    SigningRefused,
    StoredHistory,
    cosign,
    make_checkpoint,
)
from node.audit.fault import Fault, Missing
from node.audit.note import BadNote, Checkpoint, parse_checkpoint, parse_note, verified
from node.audit.verify_checkpoint import check_pin, read_pin
from node.chain.block import encode_block, header_digest, inspect_block
from node.chain.types import Header
from node.storage.errors import SignerUnusable, StoreLocked
from tests.support import notes, world
from tests.support.epoch_chain import sample_of_epochs
from tests.support.small_chain import SmallChain, finalization, issue, pay, sample

GENESIS = world.genesis()


def header(chain: SmallChain, height: int) -> Header:
    return inspect_block(chain.blocks[height]).header


def damaged(chain: SmallChain) -> SmallChain:
    other = copy.copy(chain)
    for name in ("blocks", "finalizations", "seals", "history", "records"):
        setattr(other, name, dict(getattr(chain, name)))
    return other


def change(chain: SmallChain, height: int) -> None:
    """Have the store hold another block of this height."""
    block = inspect_block(chain.blocks[height])
    other = replace(block.header, state_root=bytes(32))
    chain.blocks[height] = encode_block(other, block.instructions)


def forked() -> SmallChain:
    """Another chain from the same genesis, finalized by the same validators."""
    chain = SmallChain()
    chain.add(issue(chain, 1000, amount=5))
    for number in range(7):
        chain.add(pay(chain, f"OTHER-{number}", number, amount=1))
    return chain


# --- what a checkpoint is made of -----------------------------------------------------------------


@pytest.mark.parametrize("height", range(1, 7))
def test_any_final_block_can_be_named_with_its_own_history_and_digest(height: int) -> None:
    found = make_checkpoint(sample(), GENESIS, height)
    of = header(sample(), height)
    origin = f"nostro/{GENESIS.network}/{GENESIS.chain_id.hex()}"
    assert found == Checkpoint(origin, height, of.history_root, header_digest(of))
    assert parse_checkpoint(found.text) == found


def test_without_a_height_it_is_of_the_last_final_block() -> None:
    assert make_checkpoint(sample(), GENESIS).height == 6
    assert make_checkpoint(sample_of_epochs(), GENESIS).height == 12


def test_blocks_of_every_epoch_are_proven_by_their_own_validators() -> None:
    for height in range(1, 13):
        assert make_checkpoint(sample_of_epochs(), GENESIS, height).height == height


def test_what_is_not_final_is_never_signed() -> None:
    chain = damaged(sample())
    change(chain, 5)
    with pytest.raises(EvidenceUnavailable, match="a finalization of block 5"):
        make_checkpoint(chain, GENESIS, 5)


def test_a_head_without_a_quorum_is_never_signed() -> None:
    chain = damaged(sample())
    last = header(chain, 6)
    chain.finalizations[6] = finalization(
        header_digest(last), view=last.view, parent_view=header(chain, 5).view, signers=[0, 1]
    )
    with pytest.raises(Fault, match="signatures"):
        make_checkpoint(chain, GENESIS)
    chain.finalizations[6] = finalization(
        header_digest(last),
        view=last.view,
        parent_view=header(chain, 5).view,
        kind=Kind.NOTARIZE,
    )
    with pytest.raises(Fault, match="kind"):
        make_checkpoint(chain, GENESIS)


def test_a_block_that_a_later_certificate_covers_must_be_in_its_history() -> None:
    chain = damaged(sample())  # blocks 2 and 3 have no certificate of their own
    change(chain, 2)
    with pytest.raises(Fault, match="history"):
        make_checkpoint(chain, GENESIS, 2)


def test_a_store_that_lacks_the_proof_or_the_block_is_named() -> None:
    chain = damaged(sample())
    chain.finalizations.clear()
    for height in (None, 99, 0):
        with pytest.raises(EvidenceUnavailable):
            make_checkpoint(chain, GENESIS, height)


# --- signing --------------------------------------------------------------------------------------


def test_a_signed_note_verifies_and_its_key_signs_the_same_again(tmp_path: Path) -> None:
    first = notes.signed_note(sample(), tmp_path)
    key, _ = notes.signer_key(GENESIS)
    assert [each.key for each in verified(parse_note(first), [key])] == [key]
    assert notes.signed_note(sample(), tmp_path) == first


def test_a_signer_signs_lower_heights_of_the_history_that_it_signed(tmp_path: Path) -> None:
    notes.signed_note(sample(), tmp_path)
    assert parse_checkpoint(parse_note(notes.signed_note(sample(), tmp_path, 3)).text).height == 3


@pytest.mark.parametrize("height", [3, 6, 8])
def test_a_signer_never_signs_a_fork_of_what_it_signed(tmp_path: Path, height: int) -> None:
    notes.signed_note(sample(), tmp_path)
    with pytest.raises(SigningRefused, match="contradicts the own copy"):
        notes.signed_note(forked(), tmp_path, height)


def test_a_signer_is_not_led_astray_by_a_store_of_two_branches(tmp_path: Path) -> None:
    notes.signed_note(sample(), tmp_path, 4)
    chain = damaged(forked())
    chain.blocks[4] = sample().blocks[4]  # the header that the key remembers, on the other branch
    with pytest.raises(SigningRefused, match="holds two branches"):
        notes.signed_note(chain, tmp_path, 8)


def test_a_signer_never_signs_from_a_copy_that_ends_below_what_it_signed(tmp_path: Path) -> None:
    notes.signed_note(sample(), tmp_path)
    shorter = SmallChain()
    shorter.add(issue(shorter, 1000))
    with pytest.raises(SigningRefused, match="ends at 1"):
        notes.signed_note(shorter, tmp_path)


def test_a_witness_adds_its_cosignature_below_the_others(tmp_path: Path) -> None:
    note = notes.signed_note(sample(), tmp_path)
    once = notes.cosigned(note, sample(), tmp_path)
    twice = notes.cosigned(once, sample(), tmp_path, "auditor.example/w2")
    assert once.startswith(note)
    assert twice.startswith(once)
    keys = [notes.witness_key()[0], notes.witness_key("auditor.example/w2")[0]]
    assert [(each.key, each.time) for each in verified(parse_note(twice), keys)] == [
        (key, notes.NOW) for key in keys
    ]
    # Signature lines may be put together by hand: the text is the same.
    alone = notes.cosigned(note, sample(), tmp_path, "auditor.example/w2")
    assert once + alone[len(note) :] == twice


def test_a_witness_never_cosigns_a_smaller_tree(tmp_path: Path) -> None:
    lower = notes.signed_note(sample(), tmp_path, 3)
    notes.cosigned(notes.signed_note(sample(), tmp_path), sample(), tmp_path)
    with pytest.raises(SigningRefused, match="smaller tree"):
        notes.cosigned(lower, sample(), tmp_path)


def test_a_witness_never_cosigns_what_its_own_copy_does_not_hold(tmp_path: Path) -> None:
    forged = notes.signed_note(forked(), tmp_path)
    with pytest.raises(SigningRefused, match="ends at 6"):
        notes.cosigned(forged, sample(), tmp_path)
    other = notes.signed_note(forked(), tmp_path, 4)
    with pytest.raises(SigningRefused, match="contradicts the own copy"):
        notes.cosigned(other, sample(), tmp_path)
    aside = tmp_path / "aside"
    aside.mkdir()
    assert notes.cosigned(notes.signed_note(sample(), aside, 4), sample(), tmp_path)


def test_a_witness_whose_copy_was_replaced_by_a_fork_refuses_both_branches(tmp_path: Path) -> None:
    notes.cosigned(notes.signed_note(sample(), tmp_path), sample(), tmp_path)
    aside = tmp_path / "aside"
    aside.mkdir()
    with pytest.raises(SigningRefused, match="what this key signed before contradicts"):
        notes.cosigned(notes.signed_note(forked(), aside), forked(), tmp_path)


def test_a_witness_cosigns_nothing_of_another_chain(tmp_path: Path) -> None:
    note = notes.signed_note(sample(), tmp_path)
    with pytest.raises(SigningRefused, match="genesis file"):
        notes.cosigned(note, sample(), tmp_path, genesis=world.genesis(7))


# --- the record -----------------------------------------------------------------------------------


def test_the_record_is_durable_before_the_signature_is_made(tmp_path: Path) -> None:
    key, _ = notes.witness_key()
    path = notes.record(tmp_path, key)
    checkpoint = make_checkpoint(sample(), GENESIS)

    class Died(Exception):
        """As if the process were gone."""

    class Dying:
        def sign_note(self, text: bytes) -> bytes:
            raise Died

    note = parse_note(notes.signed_note(sample(), tmp_path))
    with Signed(path, key) as signed:
        attempt = partial(
            cosign,
            note,
            GENESIS,
            key=key,
            signer=Dying(),
            signed=signed,
            history=StoredHistory(sample()),
            clock=lambda: 0,
        )
        with pytest.raises(Died):
            attempt()
    with Signed(path, key) as signed:
        assert signed.last(checkpoint.origin) == checkpoint


def test_a_key_whose_record_is_gone_damaged_or_anothers_never_signs_again(tmp_path: Path) -> None:
    key, _ = notes.witness_key()
    path = notes.record(tmp_path, key)
    sound = path.read_bytes()
    other, _ = notes.witness_key("auditor.example/w2")
    for data in (b"", b"{}", sound[:-2], sound.replace(b"signed", b"sIgned"), sound + b" ",
                 notes.record(tmp_path, other).read_bytes(), b"[" * 100_000):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(SignerUnusable, match="must not sign again"):
            Signed(path, key)
    path.unlink()
    with pytest.raises(SignerUnusable, match="is gone"):
        Signed(path, key)


def test_two_processes_never_sign_with_one_record(tmp_path: Path) -> None:
    key, _ = notes.witness_key()
    path = notes.record(tmp_path, key)
    with Signed(path, key), pytest.raises(StoreLocked):
        Signed(path, key)
    with Signed(path, key):
        pass


# --- what a reader makes of it --------------------------------------------------------------------

W1, W2, W3 = (notes.witness_key(f"auditor.example/w{n}")[0] for n in (1, 2, 3))


def witnessed(tmp_path: Path) -> bytes:
    note = notes.signed_note(sample(), tmp_path, 5)
    return notes.cosigned(notes.cosigned(note, sample(), tmp_path), sample(), tmp_path, W2.name)


def test_enough_witnesses_make_a_checkpoint_one_to_rely_on(tmp_path: Path) -> None:
    data = witnessed(tmp_path)
    assert len(read_pin(data, GENESIS, [W1, W2]).witnesses) == 2
    assert read_pin(data, GENESIS, [W1, W2, W3], 2).text().startswith("signed by 2 of the 3")
    assert read_pin(data, GENESIS, []).text().startswith("pinned by its reader")
    signer, _ = notes.signer_key(GENESIS)
    assert len(read_pin(data, GENESIS, [signer]).witnesses) == 1


def test_too_few_unknown_doubled_or_false_witnesses_are_refused(tmp_path: Path) -> None:
    data = witnessed(tmp_path)
    with pytest.raises(BadNote, match="3 of the 3"):
        read_pin(data, GENESIS, [W1, W2, W3])
    with pytest.raises(BadNote, match="signed: none"):
        read_pin(data, GENESIS, [W3])
    with pytest.raises(BadNote, match="count twice"):
        read_pin(data, GENESIS, [W1, W1])
    for needed in (0, 3, -1):
        with pytest.raises(BadNote, match="cannot be asked for"):
            read_pin(data, GENESIS, [W1, W2], needed)
    with pytest.raises(BadNote, match="does not hold"):
        read_pin(data.replace(b"\n5\n", b"\n4\n"), GENESIS, [W1])
    with pytest.raises(BadNote, match="genesis file"):
        read_pin(data, world.genesis(7), [])
    with pytest.raises(BadNote, match="at most"):
        read_pin(data, GENESIS, [W1] * 65)


def test_evidence_of_the_checkpoints_history_passes_and_a_forks_fails(tmp_path: Path) -> None:
    pin = read_pin(witnessed(tmp_path), GENESIS, [W1])
    tip = header(sample(), 6)
    assert "height 5" in check_pin(pin, [header(sample(), 5), tip], None, tip)
    with pytest.raises(Fault, match="forks from the checkpoint"):
        check_pin(pin, [header(forked(), 5)], None, header(forked(), 8))
    with pytest.raises(Missing, match="ends at height 4"):
        check_pin(pin, [header(sample(), 4)], None, header(sample(), 4))
    with pytest.raises(Missing, match="nostro evidence --checkpoint"):
        check_pin(pin, [header(sample(), 4), tip], None, tip)
