"""What `nostro propose` proposes: each option is one change, in the order of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from node.cli.common import duration_option, hex32
from node.cli.errors import CommandError

if TYPE_CHECKING:
    from node.chain.types import Change, ProvenKey
    from node.cli.instruct import Desk

C = TypeVar("C", bound=msgspec.Struct)
MAX_CHANGES = 32
"""Changes of one proposal."""
CLOSE_RULES = ("expire", "roll-over")
"""As they are written, by the number of `CloseRule`."""
MEMBER_PARTS = 5
ASSET_PARTS = 3


class Wanted(NamedTuple):
    """An option of the command line with its value."""

    flag: str
    value: str


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key as `nostro keystore prove` prints it."""

    public_key: str
    possession: str


class AdmitFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of `--admit`."""

    name: str
    lei: str
    bic: str
    roles: list[str]
    keys: list[KeyEntry]
    threshold: int = 1
    sponsor: str | None = None
    approvals: int = 0


class KeysFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of `--replace-keys`."""

    participant: str
    register: list[KeyEntry]
    revoke: list[str] | None = None
    """Public keys; left out: all that it has now."""
    threshold: int | None = None


class _Collect(argparse.Action):
    """Keeps the order of different options: changes are applied in it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        changes: list[Wanted] = [*(getattr(namespace, "changes", None) or ())]
        changes.append(Wanted(self.option_strings[0], str(values)))
        namespace.changes = changes


def add_changes(parser: argparse.ArgumentParser) -> None:
    """The options, each of which may be repeated and mixed with the others."""
    group = parser.add_argument_group("changes, applied together in this order or not at all")
    for flag, (metavar, help, _) in _READERS.items():
        group.add_argument(flag, metavar=metavar, action=_Collect, dest="changes", help=help)


def read_changes(desk: Desk, wanted: Sequence[Wanted]) -> list[Change]:
    """The changes that the options ask for. Raises CommandError."""
    if len(wanted) > MAX_CHANGES:
        raise CommandError(f"{len(wanted)} changes; a proposal holds at most {MAX_CHANGES}")
    return [_READERS[each.flag][2](desk, each.value) for each in wanted]


def _bad(flag: str, value: str, form: str) -> CommandError:
    return CommandError(f"{flag} {value!r}: write it as {form}")


# --- validators -----------------------------------------------------------------------------------


def _add(desk: Desk, value: str) -> Change:
    from node.chain.types import AddValidator  # noqa: PLC0415

    return AddValidator(*_candidate(Path(value), desk.chain_id))


def _rekey(desk: Desk, value: str) -> Change:
    from node.chain.types import RekeyValidator  # noqa: PLC0415

    return RekeyValidator(*_candidate(Path(value), desk.chain_id))


def _remove(desk: Desk, value: str) -> Change:
    from node.chain.types import RemoveValidator  # noqa: PLC0415

    return RemoveValidator(value)


def _candidate(path: Path, chain_id: bytes) -> tuple[Any, bytes, bytes]:
    """(validator, possession of its vote key, of its node key). Raises CommandError."""
    from node.chain.encoding import Malformed, decode, encode  # noqa: PLC0415
    from node.chain.types import AddValidator, Validator  # noqa: PLC0415
    from node.cli.joining import read_candidate  # noqa: PLC0415

    record = read_candidate(path)
    if record.chain_id != chain_id.hex():
        raise CommandError(
            f"{path} was made for chain {record.chain_id}, this one is {chain_id.hex()}; its "
            "operator must make a new one"
        )
    found = record.validator
    try:
        change = AddValidator(
            Validator(
                found.name,
                found.operator,
                bytes.fromhex(found.vote_key),
                bytes.fromhex(found.node_key),
                found.address,
            ),
            bytes.fromhex(record.vote_possession),
            bytes.fromhex(record.node_possession),
        )
        # The node would only say that the whole proposal is malformed.
        decode(encode(change), AddValidator)
    except (ValueError, Malformed) as error:
        raise CommandError(f"{path} is not a candidate's record: {error}") from error
    return change.validator, change.vote_possession, change.node_possession


# --- participants ---------------------------------------------------------------------------------


def _admit(desk: Desk, value: str) -> Change:
    from node.chain.types import AdmitParticipant  # noqa: PLC0415
    from node.ledger.identifiers import BadIdentifier, check_bic, check_lei  # noqa: PLC0415

    path = Path(value)
    found = _read_file(path, AdmitFile)
    try:
        check_lei(found.lei)
        check_bic(found.bic)
    except BadIdentifier as error:
        raise CommandError(f"{path}: {error}") from error
    sponsor = None if found.sponsor is None else desk.book.participant(found.sponsor).lei
    return _checked(
        path,
        AdmitParticipant(
            found.lei,
            found.bic,
            found.name,
            tuple(sorted(found.roles)),
            _proven(path, found.keys, found.lei, desk.chain_id),
            found.threshold,
            sponsor,
            found.approvals,
        ),
    )


def _replace_keys(desk: Desk, value: str) -> Change:
    from node.chain.types import ReplaceKeys  # noqa: PLC0415

    path = Path(value)
    found = _read_file(path, KeysFile)
    who = desk.book.participant(found.participant)
    revoke = found.revoke
    if revoke is None:
        revoke = [key.public_key for key in who.keys if key.revoked_from is None]
    keys = [hex32(text) for text in revoke]
    if None in keys:
        raise CommandError(f"{path}: a key in `revoke` is not 64 lower-case hexadecimal digits")
    return _checked(
        path,
        ReplaceKeys(
            who.lei,
            tuple(sorted(key for key in keys if key is not None)),
            _proven(path, found.register, who.lei, desk.chain_id),
            who.threshold if found.threshold is None else found.threshold,
        ),
    )


def _proven(
    path: Path, entries: Sequence[KeyEntry], lei: str, chain_id: bytes
) -> tuple[ProvenKey, ...]:
    """Keys ascending, each with a proof of possession that holds for this LEI on this chain."""
    from node.chain.signature import ROLE_PARTICIPANT, BadKey, check_possession  # noqa: PLC0415
    from node.chain.types import ProvenKey  # noqa: PLC0415

    keys = []
    for entry in entries:
        try:
            key = ProvenKey(bytes.fromhex(entry.public_key), bytes.fromhex(entry.possession))
            check_possession(key.public_key, ROLE_PARTICIPANT, lei, chain_id, key.possession)
        except (ValueError, BadKey) as error:
            raise CommandError(
                f"{path}: {error}; its holder makes the entry with: nostro keystore prove"
            ) from error
        keys.append(key)
    return tuple(sorted(keys, key=lambda key: key.public_key))


def _close(desk: Desk, value: str) -> Change:
    from node.chain.types import CloseParticipant  # noqa: PLC0415

    return CloseParticipant(desk.book.participant(value).lei)


def _suspend(desk: Desk, value: str) -> Change:
    from node.chain.types import SuspendParticipant  # noqa: PLC0415

    return SuspendParticipant(desk.book.participant(value).lei)


def _lift(desk: Desk, value: str) -> Change:
    from node.chain.types import LiftSuspension  # noqa: PLC0415

    return LiftSuspension(desk.book.participant(value).lei)


# --- assets and net systems -----------------------------------------------------------------------


def _add_asset(desk: Desk, value: str) -> Change:
    from node.chain.types import AddAsset  # noqa: PLC0415

    parts = value.split(",")
    if len(parts) != ASSET_PARTS or not (parts[1].isascii() and parts[1].isdigit()):
        raise _bad("--add-asset", value, "CODE,DECIMALS,ISSUER, such as GBP,2,CENTRALBANK")
    code, decimals, issuer = parts
    return _checked("--add-asset", AddAsset(code, int(decimals), desk.book.participant(issuer).lei))


def _netting(desk: Desk, value: str) -> Change:
    from node.chain.types import SetNetting  # noqa: PLC0415

    code, _, window = value.partition("=")
    if not window:
        raise _bad("--netting", value, "CURRENCY=FUNDING, such as EUR=30m, or CURRENCY=off")
    try:
        funding = 0 if window == "off" else duration_option(window)
    except argparse.ArgumentTypeError as error:
        raise CommandError(f"--netting {value!r}: {error}") from error
    asset = desk.book.asset(code)
    return _checked("--netting", SetNetting(asset.code, window != "off", funding))


def _member(desk: Desk, value: str) -> Change:
    from node.chain.types import SetMember  # noqa: PLC0415

    parts = value.split(",")
    if len(parts) != MEMBER_PARTS:
        raise _bad("--member", value, "PARTICIPANT,CURRENCY,CAP,MARGIN,CONTRIBUTION")
    who, asset = desk.book.participant(parts[0]), desk.book.asset(parts[1])
    cap, margin, contribution = (desk.book.amount(text, asset, zero=True) for text in parts[2:])
    return _checked("--member", SetMember(who.lei, asset.code, cap, margin, contribution))


# --- the ledger's rules ---------------------------------------------------------------------------


def _parameters(desk: Desk, value: str) -> Change:
    """Given ones replace those in force; the rest stays."""
    from node.chain.types import CloseRule, SetParameters  # noqa: PLC0415

    now = desk.parameters
    assert now is not None, "asked before changes are read"
    threshold, readiness, rule = now.governance_threshold, now.readiness_ms, now.close_rule
    for part in value.split(","):
        name, _, given = part.partition("=")
        try:
            if name == "threshold" and given.isascii() and given.isdigit():
                threshold = int(given)
            elif name == "readiness":
                readiness = duration_option(given)
            elif name == "close" and given in CLOSE_RULES:
                rule = given
            else:
                raise _bad(
                    "--parameters", value, "threshold=N,readiness=DURATION,close=expire|roll-over"
                )
        except argparse.ArgumentTypeError as error:
            raise CommandError(f"--parameters {value!r}: {error}") from error
    return _checked(
        "--parameters", SetParameters(threshold, readiness, CloseRule(CLOSE_RULES.index(rule)))
    )


def _schedule(desk: Desk, value: str) -> Change:
    from node.chain.types import PublishSchedule  # noqa: PLC0415
    from node.cli.schedule import read_days  # noqa: PLC0415

    return PublishSchedule(read_days(Path(value)))


def _rules(desk: Desk, value: str) -> Change:
    from node.chain.types import ActivateRules  # noqa: PLC0415

    version, _, height = value.partition("@")
    ahead = height.removeprefix("+")
    if not all(text.isascii() and text.isdigit() and len(text) <= 18 for text in (version, ahead)):
        raise _bad("--rules", value, "VERSION@HEIGHT or VERSION@+BLOCKS, such as 2@+500")
    assert desk.parameters is not None
    first = int(ahead) + (desk.parameters.height if height.startswith("+") else 0)
    return ActivateRules(int(version), first)


# --- reading --------------------------------------------------------------------------------------


def _read_file(path: Path, kind: type[Any]) -> Any:
    from node.cli.connection import read_input  # noqa: PLC0415

    try:
        return msgspec.json.decode(read_input(path, "the change"), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError(f"{path} is not what this option reads: {error}") from error


def _checked(where: object, change: C) -> C:
    """A node would only say that the whole proposal is malformed."""
    from node.chain.encoding import Malformed, decode, encode  # noqa: PLC0415

    try:
        return decode(encode(change), type(change))
    except (Malformed, OverflowError) as error:
        raise CommandError(f"{where}: no node would take this change: {error}") from error


_READERS: dict[str, tuple[str, str, Callable[[Desk, str], Change]]] = {
    "--add": ("FILE.json", "a new validator, as nostro init --join made it", _add),
    "--remove": ("NAME", "a validator leaves", _remove),
    "--rekey": ("FILE.json", "new keys and address for the validator of the same name", _rekey),
    "--admit": ("FILE.json", "a new participant", _admit),
    "--close": ("PARTICIPANT", "it leaves for ever; it must hold and owe nothing", _close),
    "--suspend": ("PARTICIPANT", "its instructions are refused until that is lifted", _suspend),
    "--lift": ("PARTICIPANT", "it is suspended no longer", _lift),
    "--replace-keys": ("FILE.json", "for a participant that lost its keys", _replace_keys),
    "--add-asset": ("CODE,DECIMALS,ISSUER", "a currency or a security (ISIN)", _add_asset),
    "--netting": ("CURRENCY=FUNDING", "clear a currency net; CURRENCY=off: no more", _netting),
    "--member": ("PARTICIPANT,CURRENCY,CAP,MARGIN,CONTRIBUTION", "of a net system", _member),
    "--parameters": ("NAME=VALUE,…", "threshold, readiness, close", _parameters),
    "--schedule": ("FILE.json", "business days, as nostro schedule make made them", _schedule),
    "--rules": ("VERSION@HEIGHT", "rules that are in force from a height on", _rules),
}
"""Option → (what it takes, what it does, how it is read)."""
