"""What in a genesis file contradicts itself: references, repeated names and keys, possession.

Each check yields its faults in words that start with the field. A later check may rely on what
the earlier ones found sound, so only the first fault of a file is to be believed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator

from node.chain.genesis_file import GenesisFile, GenesisParticipant
from node.chain.isin import is_isin, is_security
from node.chain.records import ACCOUNT_ROLES, ROLES
from node.chain.signature import (
    NO_CHAIN,
    ROLE_NODE,
    ROLE_PARTICIPANT,
    ROLE_VOTE,
    BadKey,
    check_possession,
    genesis_holder,
)

INDIRECT = "indirect-participant"


def faults(file: GenesisFile) -> Iterator[str]:
    """All that speaks against the file, the cheapest first."""
    yield from _participants(file)
    yield from _sponsors(file)
    yield from _assets(file)
    yield from _validators(file)
    yield from _governance(file)
    yield from _netting(file)
    yield from _schedule(file)
    yield from _policies(file)
    yield from _keys(file)


def repeated(values: Iterable[Hashable]) -> Hashable | None:
    """A value that occurs twice; None if all differ."""
    value, count = next(iter(Counter(values).most_common(1)), (None, 0))
    return value if count > 1 else None


# --- participants -----------------------------------------------------------------------------


def _participants(file: GenesisFile) -> Iterator[str]:
    for field in ("name", "lei", "bic"):
        twice = repeated(getattr(p, field) for p in file.participants)
        if twice is not None:
            yield f"participants: {field} {twice} stands twice"
    yield from _names(file)
    for index, participant in enumerate(file.participants):
        where = f"participants[{index}] ({participant.name})"
        for role in participant.roles:
            if role not in ROLES:
                yield f"{where}.roles: {role!r} is none of {', '.join(ROLES)}"
        if repeated(participant.roles) is not None:
            yield f"{where}.roles: a role stands twice"
        if participant.threshold > len(participant.keys):
            yield (
                f"{where}.threshold: {participant.threshold} signatures of "
                f"{len(participant.keys)} keys can never be had"
            )


def _names(file: GenesisFile) -> Iterator[str]:
    # People name a participant by any of the three: were one's short name another's BIC, a
    # payment could reach the wrong one.
    codes = {
        code: (index, field)
        for index, participant in enumerate(file.participants)
        for field, code in (("lei", participant.lei), ("bic", participant.bic))
    }
    for index, participant in enumerate(file.participants):
        other, field = codes.get(participant.name, (index, ""))
        if other != index:
            yield (
                f"participants[{index}] ({participant.name}).name: the same as "
                f"participants[{other}] ({file.participants[other].name}).{field}"
            )


def _sponsors(file: GenesisFile) -> Iterator[str]:
    known = _by_lei(file)
    for index, participant in enumerate(file.participants):
        where = f"participants[{index}] ({participant.name})"
        if INDIRECT not in participant.roles:
            if participant.sponsor is not None:
                yield f"{where}.sponsor: only an {INDIRECT} has one"
            continue
        accounts = [role for role in participant.roles if role in ACCOUNT_ROLES]
        if accounts:
            yield f"{where}.roles: an {INDIRECT} has no account, but {accounts[0]!r} has"
        if participant.sponsor is None:
            yield f"{where}.sponsor: an {INDIRECT} needs one"
        else:
            yield from _role(
                known, f"{where}.sponsor", participant.sponsor, ("direct-participant",)
            )


_Known = dict[str, GenesisParticipant]
_HOLDERS = tuple(sorted(ACCOUNT_ROLES))


def _by_lei(file: GenesisFile) -> _Known:
    return {participant.lei: participant for participant in file.participants}


def _role(known: _Known, where: str, lei: str, roles: Iterable[str]) -> Iterator[str]:
    participant = known.get(lei)
    if participant is None:
        yield f"{where}: no participant has the LEI {lei}"
    elif not any(role in participant.roles for role in roles):
        yield f"{where}: {participant.name} does not have the role {' or '.join(map(repr, roles))}"


# --- assets, validators, governance -----------------------------------------------------------


def _assets(file: GenesisFile) -> Iterator[str]:
    known = _by_lei(file)
    twice = repeated(asset.code for asset in file.assets)
    if twice is not None:
        yield f"assets: code {twice} stands twice"
    for index, asset in enumerate(file.assets):
        where = f"assets[{index}] ({asset.code})"
        yield from _role(known, f"{where}.issuer", asset.issuer, ("issuer", "depository"))
        issuer = known.get(asset.issuer)
        if issuer is not None and is_security(asset.code, issuer.roles) and not is_isin(asset.code):
            yield (
                f"{where}.code: {issuer.name} is a depository, but this is no ISIN: two letters, "
                "nine letters or digits, and the check digit that belongs to them"
            )


def _validators(file: GenesisFile) -> Iterator[str]:
    known = _by_lei(file)
    twice = repeated(validator.name for validator in file.validators)
    if twice is not None:
        yield f"validators: name {twice} stands twice"
    for index, validator in enumerate(file.validators):
        where = f"validators[{index}] ({validator.name}).operator"
        yield from _role(known, where, validator.operator, ("validator",))


def _governance(file: GenesisFile) -> Iterator[str]:
    # A threshold out of reach would leave the validators as they are for ever. Without operators
    # that is what the file says; its threshold is then the default and decides nothing.
    threshold = file.parameters.governance_threshold
    keys = sum(len(p.keys) for p in file.participants if "operator" in p.roles)
    if threshold > max(keys, 1):
        yield (
            f"parameters.governance_threshold: {threshold} approvals of {keys} operator keys can "
            "never be had"
        )


# --- settlement -------------------------------------------------------------------------------


def _netting(file: GenesisFile) -> Iterator[str]:
    known, members = _by_lei(file), file.members
    twice = repeated(each.asset for each in file.netting)
    if twice is not None:
        yield f"netting: asset {twice} stands twice"
    issuers = {asset.code: known[asset.issuer] for asset in file.assets}
    for index, each in enumerate(file.netting):
        where = f"netting[{index}].asset"
        if each.asset not in issuers:
            yield f"{where}: no asset has the code {each.asset}"
        elif is_security(each.asset, issuers[each.asset].roles):
            yield f"{where}: {each.asset} is a security; cycles are of currencies"
    member_in = repeated(f"{each.participant} stands twice in {each.asset}" for each in members)
    if member_in is not None:
        yield f"members: {member_in}"
    netted = {each.asset for each in file.netting}
    for index, member in enumerate(members):
        where = f"members[{index}]"
        yield from _role(known, f"{where}.participant", member.participant, _HOLDERS)
        if member.asset not in netted:
            yield f"{where}.asset: {member.asset} has no clearing cycles (netting)"


def _schedule(file: GenesisFile) -> Iterator[str]:
    """References and doubles; whether the days follow on each other the ledger judges, as for any
    schedule."""
    twice = repeated(day.date for day in file.schedule)
    if twice is not None:
        yield f"schedule: date {twice} stands twice"
    if file.schedule and file.schedule[0].begins[0] <= file.time:
        # No block has the genesis time but the genesis block, which opens nothing.
        yield "schedule[0].begins: the first day begins at the genesis time or before"
    netted = {each.asset for each in file.netting}
    for index, day in enumerate(file.schedule):
        where = f"schedule[{index}] ({day.date}).closes"
        for number, close in enumerate(day.closes):
            if close.asset not in netted:
                yield f"{where}[{number}].asset: {close.asset} has no clearing cycles (netting)"


def _policies(file: GenesisFile) -> Iterator[str]:
    known = _by_lei(file)
    assets = {asset.code for asset in file.assets}
    twice = repeated(each.participant for each in file.policies)
    if twice is not None:
        yield f"policies: participant {twice} stands twice"
    for index, policy in enumerate(file.policies):
        where = f"policies[{index}]"
        yield from _role(known, f"{where}.participant", policy.participant, _HOLDERS)
        swept = repeated(sweep.asset for sweep in policy.sweeps)
        if swept is not None:
            yield f"{where}.sweeps: asset {swept} stands twice"
        for number, sweep in enumerate(policy.sweeps):
            at = f"{where}.sweeps[{number}]"
            if sweep.asset not in assets:
                yield f"{at}.asset: no asset has the code {sweep.asset}"
            yield from _role(known, f"{at}.to", sweep.to, _HOLDERS)
            if sweep.to == policy.participant:
                yield f"{at}.to: the participant itself"


# --- keys -------------------------------------------------------------------------------------


def _keys(file: GenesisFile) -> Iterator[str]:
    # One key in two places would let a quorum be met by fewer holders than it counts, and make
    # one signature ambiguous between two.
    places: dict[str, str] = {}

    def check(where: str, key: str, possession: str, role: str, lei: str) -> Iterator[str]:
        if key in places:
            yield f"{where}: the same key as {places[key]}"
        places[key] = where
        holder = genesis_holder(file.network, lei)
        try:
            check_possession(bytes.fromhex(key), role, holder, NO_CHAIN, bytes.fromhex(possession))
        except BadKey as error:
            yield f"{where}: {error}"

    for i, participant in enumerate(file.participants):
        for j, key in enumerate(participant.keys):
            where = f"participants[{i}].keys[{j}] ({participant.name})"
            held = (key.public_key, key.possession, ROLE_PARTICIPANT, participant.lei)
            yield from check(where, *held)
    for i, v in enumerate(file.validators):
        where = f"validators[{i}] ({v.name})"
        yield from check(f"{where}.vote_key", v.vote_key, v.vote_possession, ROLE_VOTE, v.operator)
        yield from check(f"{where}.node_key", v.node_key, v.node_possession, ROLE_NODE, v.operator)
