"""Who takes part in a devnet follows from its seed alone, and looks like the real thing."""

from __future__ import annotations

from stdnum import bic, lei

from devnet import identity

GOLDEN = "8dc81667818695c03d79607c61c7a64edf49dd9457d9538a45e92845034d3485"


def test_every_participant_has_a_valid_lei_and_bic_of_its_own() -> None:
    names = identity.participant_names(identity.MAX_BANKS)
    leis = [identity.lei(name) for name in names]
    bics = [identity.bic(index) for index in range(len(names))]
    assert all(lei.is_valid(number) for number in leis)
    assert all(bic.is_valid(code) for code in bics)
    assert len(set(names)) == len(set(leis)) == len(set(bics)) == identity.MAX_BANKS + 1


def test_banks_are_named_by_letters_beyond_the_alphabet() -> None:
    names = identity.participant_names(54)
    assert names[:3] == ["CENTRALBANK", "BANKA", "BANKB"]
    assert names[26:29] == ["BANKZ", "BANKAA", "BANKAB"]
    assert names[53:55] == ["BANKBA", "BANKBB"]


def test_the_same_seed_gives_the_same_keys_and_another_seed_others() -> None:
    seen = {
        identity.key_seed(seed, role, holder)
        for seed in (1, 2)
        for role, holder in (("participant", "BANKA"), ("vote", "node0"), ("node", "node0"))
    }
    assert len(seen) == 6
    assert identity.key_seed(1, "vote", "node0") == identity.key_seed(1, "vote", "node0")
    # Golden: a change of the derivation would give every existing devnet other keys.
    assert identity.key_seed(1, "participant", "BANKA").hex() == GOLDEN
