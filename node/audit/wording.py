"""How the verifier tells people about times, amounts and parties."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from node.chain.genesis import Genesis

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_text(ms: int) -> str:
    """A block's or a node's time, UTC."""
    try:
        return (EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    except OverflowError:
        return f"{ms} ms since 1970"


def decimals(minor: int, asset: str, genesis: Genesis) -> str | None:
    """An amount in the asset's own decimals; None: the genesis file does not know the asset."""
    exponent = next((a.exponent for a in genesis.assets if a.code == asset), None)
    if exponent is None:
        return None
    sign, digits = "-" if minor < 0 else "", f"{abs(minor):0{exponent + 1}d}"
    return f"{sign}{digits[:-exponent]}.{digits[-exponent:]}" if exponent else f"{sign}{digits}"


def amount_text(minor: int, asset: str, genesis: Genesis) -> str:
    """An amount with its asset."""
    found = decimals(minor, asset, genesis)
    if found is None:
        return f"{minor} minor units of {asset}, which the genesis file does not know,"
    return f"{found} {asset}"


def party_text(lei: str, genesis: Genesis) -> str:
    """A participant by LEI, with its name if the genesis file has it: a name that only the
    evidence gives, a forger may have chosen."""
    name = next((each.name for each in genesis.participants if each.lei == lei), None)
    return lei if name is None else f"{name} ({lei})"
