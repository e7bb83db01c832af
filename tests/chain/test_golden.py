"""The bytes of every format stand still, and each value has exactly one encoding."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import msgspec
import pytest

from consensus import messages
from node.audit import dossier, epochs, proofs, state_proofs
from node.chain import records, state_map, types, uetr_tree
from node.chain.encoding import Malformed, decode, encode
from node.chain.genesis import load_genesis
from node.engine import snapshot, window
from node.storage import backup
from tests.support import golden, wire

MODULES = (
    types, records, state_map, uetr_tree, messages, epochs, dossier, proofs, state_proofs, snapshot,
    window, backup,
)  # fmt: skip
SAMPLES = golden.samples()
DOCUMENT: dict[str, Any] = json.loads(golden.PATH.read_text(encoding="utf-8"))


def test_the_golden_file_is_what_this_code_writes() -> None:
    assert golden.PATH.read_text(encoding="utf-8") == golden.text()


def test_every_struct_of_the_chain_and_of_consensus_has_a_golden_vector() -> None:
    structs = {
        name
        for module in MODULES
        for name, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, msgspec.Struct)
        and member.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert structs == {name.partition(",")[0] for name in DOCUMENT["encodings"]}


def test_golden_bytes_decode_to_the_sample_and_nothing_else() -> None:
    for name, value in SAMPLES.items():
        data = bytes.fromhex(DOCUMENT["encodings"][name])
        assert decode(data, type(value)) == value
        for other in {type(v) for v in SAMPLES.values()} - {type(value)}:
            try:
                found = decode(data, other)
            except Malformed:
                continue
            # Only types without a tag of their own, which stand inside others, can look alike.
            assert other.__struct_config__.tag is None, (name, other)
            assert encode(found) == data


def test_every_format_names_itself_and_its_version() -> None:
    inner = {"KeySignature", "OutcomePlace", "KeyRecord", "Neighbour", "Content"}
    inner |= {"Place", "PaymentPart", "Authority", "ProvenBlock", "EndedEpoch", "Finality"}
    inner |= {"Act", "Step", "PaymentRow", "AccountRow", "Balances", "Related", "DisputeRow"}
    inner |= {"Placed", "Agreement", "Pinned", "Page", "TreeAbsence", "AccountPosition"}
    inner |= {"PendingEpoch", "Branch", "Rival"}
    inner |= {"StateChunkRef", "HistoryChunkRef", "WindowBlock"}
    inner |= {"Sweep", "ProvenKey", "CycleClose", "BilateralLimit", "MultilateralLimit"}
    inner |= {"NetPosition", "Cover", "Shortfall", "SurvivorShare"}
    for name, value in SAMPLES.items():
        tag = type(value).__struct_config__.tag
        if name.partition(",")[0] in inner:
            assert tag is None, name
        elif name.endswith("Key") and type(value).__module__ == records.__name__:
            # Names of records' places; their version is the record's.
            assert isinstance(tag, str), name
            assert re.fullmatch(r"[a-z-]+", tag), name
        else:
            assert isinstance(tag, str), name
            assert re.search(r"/[1-9]\d*$", tag), name


def test_no_two_formats_have_one_name() -> None:
    named = {(type(value), type(value).__struct_config__.tag) for value in SAMPLES.values()}
    tags = [tag for _, tag in named if tag is not None]
    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize("name", SAMPLES)
def test_any_flipped_bit_fails_to_decode_or_gives_another_value(name: str) -> None:
    value = SAMPLES[name]
    data = encode(value)
    for changed in wire.flipped(data):
        try:
            found = decode(changed, type(value))
        except Malformed:
            continue
        assert found != value


@pytest.mark.parametrize("name", SAMPLES)
def test_over_long_integers_lengths_and_counts_are_refused(name: str) -> None:
    value = SAMPLES[name]
    data = encode(value)
    variants = 0
    for longer in wire.widened(data):
        # MessagePack itself would take it: only the canonical check stands in the way.
        assert msgspec.msgpack.decode(longer) == msgspec.msgpack.decode(data)
        with pytest.raises(Malformed, match="canonical"):
            decode(longer, type(value))
        variants += 1
    assert variants > 0


@pytest.mark.parametrize("name", SAMPLES)
def test_missing_extra_and_trailing_elements_are_refused(name: str) -> None:
    value = SAMPLES[name]
    fields = msgspec.msgpack.decode(encode(value))
    assert isinstance(fields, list)
    for wrong in (fields[:-1], [*fields, None], [*fields, 0], {"payload": fields}):
        with pytest.raises(Malformed):
            decode(msgspec.msgpack.encode(wrong), type(value))
    for broken in (encode(value) + b"\xc0", encode(value)[:-1], b""):
        with pytest.raises(Malformed):
            decode(broken, type(value))


def test_the_golden_genesis_file_still_has_its_chain_id() -> None:
    chain_id = load_genesis(DOCUMENT["genesis"].encode()).chain_id
    assert chain_id.hex() == DOCUMENT["derived"]["chain id of the test genesis file"]
