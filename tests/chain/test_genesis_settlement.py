"""What a genesis file founds beside participants and validators: schedule, securities, clearing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import isin as stdnum_isin
from stdnum.exceptions import ValidationError

from node.chain import types as t
from node.chain.genesis import BadGenesis, Genesis, dump_genesis, genesis_key, load_genesis
from node.chain.genesis_file import (
    GenesisAsset,
    GenesisClose,
    GenesisDay,
    GenesisMember,
    GenesisNetting,
    GenesisParameters,
    GenesisParticipant,
    GenesisPolicy,
    GenesisSweep,
    GenesisValidator,
)
from node.chain.isin import has_isin_form, is_isin
from tests.support import world
from tests.support.golden_settlement import BOND
from tests.support.world import BANKA, BANKB, CENTRALBANK, EUR

HOUR = 3_600_000
DEPOSITORY = world.lei(20)
INDIRECT = world.lei(21)
A, B = BANKA.lei, BANKB.lei


def participant(name: str, lei: str, role: str, sponsor: str | None = None) -> GenesisParticipant:
    key = genesis_key(world.signer(name), world.NETWORK, lei)
    return GenesisParticipant(name, lei, f"{name[:4]}DEFF", (role,), 1, (key,), sponsor)


def day(date: int, number: int = 0) -> GenesisDay:
    begins = tuple(world.GENESIS_TIME + (number * 24 + hour) * HOUR for hour in (1, 8, 9, 10, 11))
    return GenesisDay(date, begins, (GenesisClose(begins[3], EUR),))


def founded() -> bytes:
    """The file of the test world with everything that settlement can be founded with."""
    plain = load_genesis(world.genesis_bytes())
    file = json.loads(world.genesis_bytes())
    validators = tuple(GenesisValidator(**each) for each in file["validators"])
    return dump_genesis(
        network=plain.network,
        devnet=True,
        time=plain.time,
        parameters=GenesisParameters(close_rule="roll-over"),
        assets=[*plain.assets, GenesisAsset(BOND, 0, DEPOSITORY)],
        participants=[
            *plain.participants,
            participant("CSDX", DEPOSITORY, "depository"),
            participant("SMALLBANK", INDIRECT, "indirect-participant", A),
        ],
        validators=validators,
        schedule=[day(20_250_616), day(20_250_617, 1)],
        netting=[GenesisNetting(EUR, 30 * 60_000)],
        members=[GenesisMember(A, EUR, 500, 20, 30), GenesisMember(B, EUR, 400, 10, 15)],
        policies=[
            GenesisPolicy(
                A,
                fifo_bypass=True,
                sweeps=(
                    GenesisSweep(EUR, CENTRALBANK.lei),
                    GenesisSweep("CNY", CENTRALBANK.lei),
                ),
            )
        ],
    )


GOOD = founded()
DOCUMENT = json.loads(GOOD)
Change = Callable[[Any], None]


def put(*path: Any, value: Any) -> Change:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


def twice(*path: Any) -> Change:
    def change(document: Any) -> None:
        for step in path:
            document = document[step]
        document.append(document[0])

    return change


def broken(change: Change) -> str:
    document = json.loads(GOOD)
    change(document)
    with pytest.raises(BadGenesis) as caught:
        load_genesis(json.dumps(document).encode())
    return str(caught.value)


def test_the_file_founds_what_it_says() -> None:
    genesis = load_genesis(GOOD)
    assert genesis.close_rule is t.CloseRule.ROLL_OVER
    assert genesis.securities == {BOND}
    first = day(20_250_616)
    assert genesis.schedule[0] == t.BusinessDay(
        20_250_616, first.begins, (t.CycleClose(first.begins[3], EUR),)
    )
    assert [each.date for each in genesis.schedule] == [20_250_616, 20_250_617]
    assert genesis.netting == (t.SetNetting(EUR, True, 30 * 60_000),)
    assert genesis.members[0] == t.SetMember(A, EUR, 500, 20, 30)
    sweeps = (t.Sweep("CNY", CENTRALBANK.lei), t.Sweep(EUR, CENTRALBANK.lei))
    assert genesis.policies == ((A, t.SetPolicy(True, sweeps)),)
    sponsors = {each.lei: each.sponsor for each in genesis.participants}
    assert (sponsors[INDIRECT], sponsors[A]) == (A, None)


def test_a_file_without_any_of_it_founds_none_of_it_and_keeps_its_bytes() -> None:
    genesis = load_genesis(world.genesis_bytes())
    assert genesis.close_rule is t.CloseRule.EXPIRE
    assert genesis.securities == frozenset()
    assert (genesis.schedule, genesis.netting) == ((), ())
    assert (genesis.members, genesis.policies) == ((), ())
    plain = json.loads(world.genesis_bytes())
    new = {"schedule", "netting", "members", "policies"}
    assert not new & plain.keys()
    assert "close_rule" not in plain["parameters"]
    assert all("sponsor" not in each for each in plain["participants"])


def test_what_is_left_out_may_also_be_said() -> None:
    document = json.loads(world.genesis_bytes())
    document["parameters"]["close_rule"] = "expire"
    document["schedule"] = []
    said: Genesis = load_genesis(json.dumps(document).encode())
    assert (said.close_rule, said.schedule) == (t.CloseRule.EXPIRE, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("parameters", "close_rule", value="keep"), "$.parameters.close_rule"),
        (put("parameters", "close_rule", value=None), "$.parameters.close_rule"),
        (put("participants", 5, "sponsor", value=world.lei(77)), "no participant has the LEI"),
        (
            put("participants", 5, "sponsor", value=CENTRALBANK.lei),
            "participants[5] (SMALLBANK).sponsor: CENTRALBANK does not have the role "
            "'direct-participant'",
        ),
        (put("participants", 5, "sponsor", value=None), "(SMALLBANK).sponsor: an indirect"),
        (put("participants", 5, "sponsor", value="short"), "$.participants[5].sponsor"),
        (put("participants", 1, "sponsor", value=B), "(BANKA).sponsor: only an indirect"),
        (
            put("participants", 5, "roles", value=["direct-participant", "indirect-participant"]),
            "(SMALLBANK).roles: an indirect-participant has no account, but 'direct-participant'",
        ),
        (put("assets", 2, "code", value="DE0001102581"), "assets[2] (DE0001102581).code: CSDX"),
        (put("assets", 2, "code", value="BUND"), "is a depository, but this is no ISIN"),
        (put("schedule", 0, "date", value=20_250_617), "schedule: date 20250617 stands twice"),
        (put("schedule", 0, "begins", 0, value=world.GENESIS_TIME), "schedule[0].begins"),
        (put("schedule", 0, "begins", value=[1, 2, 3, 4]), "$.schedule[0].begins"),
        (put("schedule", 0, "begins", 0, value=2**53), "$.schedule[0].begins[0]"),
        (put("schedule", 0, "date", value=2_025), "$.schedule[0].date"),
        (put("schedule", 1, "closes", 0, "asset", value="CNY"), "schedule[1] (20250617).closes[0]"),
        (put("schedule", 1, "closes", 0, "asset", value="USD"), "has no clearing cycles"),
        (twice("netting"), "netting: asset EUR stands twice"),
        (put("netting", 0, "asset", value="USD"), "netting[0].asset: no asset has the code USD"),
        (put("netting", 0, "asset", value=BOND), "is a security; cycles are of currencies"),
        (put("netting", 0, "funding_ms", value=-1), "$.netting[0].funding_ms"),
        (put("netting", 0, "funding_ms", value=24 * HOUR + 1), "$.netting[0].funding_ms"),
        (twice("members"), f"members: {A} stands twice in EUR"),
        (put("members", 0, "participant", value=world.lei(77)), "members[0].participant: no"),
        (put("members", 0, "participant", value=INDIRECT), "members[0].participant: SMALLBANK"),
        (put("members", 0, "asset", value="CNY"), "members[0].asset: CNY has no clearing cycles"),
        (put("members", 0, "cap", value=2**63), "$.members[0].cap"),
        (twice("policies"), f"policies: participant {A} stands twice"),
        (put("policies", 0, "participant", value=INDIRECT), "policies[0].participant: SMALLBANK"),
        (twice("policies", 0, "sweeps"), "policies[0].sweeps: asset EUR stands twice"),
        (
            put("policies", 0, "sweeps", 0, "asset", value="USD"),
            "policies[0].sweeps[0].asset: no asset has the code USD",
        ),
        (put("policies", 0, "sweeps", 0, "to", value=INDIRECT), "sweeps[0].to: SMALLBANK"),
        (put("policies", 0, "sweeps", 0, "to", value=A), "sweeps[0].to: the participant itself"),
        (put("policies", 0, "surprise", value=1), "unknown field `surprise`"),
    ],
)
def test_what_contradicts_itself_is_refused_by_field(change: Change, message: str) -> None:
    assert message in broken(change)


def test_an_issuer_that_is_a_depository_too_issues_securities_under_isins_alone() -> None:
    document = json.loads(GOOD)
    document["participants"][0]["roles"].append("depository")
    document["assets"][2]["issuer"] = CENTRALBANK.lei
    assert load_genesis(json.dumps(document).encode()).securities == {BOND}
    document["assets"][2]["code"] = "DE0001102581"
    with pytest.raises(BadGenesis, match="no ISIN"):
        load_genesis(json.dumps(document).encode())


# --- ISINs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["US0378331005", "DE0001102580", "GB0002634946", "CNE100000296", "XS0104440986"]
)
def test_published_isins_are_isins(code: str) -> None:
    assert is_isin(code)


@pytest.mark.parametrize(
    "code",
    ["", "EUR", "US0378331006", "us0378331005", "US037833100", "US03783310055", "0S0378331005"],
)
def test_what_is_no_isin_is_none(code: str) -> None:
    assert not is_isin(code)


@given(
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=9, max_size=9),
    st.sampled_from("0123456789"),
)
def test_the_check_digit_is_the_one_of_python_stdnum(body: str, digit: str) -> None:
    code = f"DE{body}{digit}"
    assert has_isin_form(code)
    try:
        stdnum_isin.validate(code)
        known = True
    except ValidationError:
        known = False
    assert is_isin(code) == known
