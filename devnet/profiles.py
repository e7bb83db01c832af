"""Ready profiles of a devnet: what kind of system it is.

A profile is configuration alone: who else takes part, which assets there are, and what the genesis
file says about the operating day and net systems. The ledger's rules are the same in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from devnet import identity
from node.chain.genesis_file import (
    GenesisAsset,
    GenesisDay,
    GenesisMember,
    GenesisNetting,
    GenesisPolicy,
    GenesisSweep,
)

DEPOSITORY = "CSD"
SUPERVISOR = "SUPERVISOR"
AUDITOR = "AUDITOR"
PAYMENT_INSTITUTION = "PAYCO"
INDIRECT = "SAVINGSBANK"
SPONSOR = "BANKA"
BOND = "XS0000000009"
"""An ISIN (ISO 6166) with a right check digit that nobody was given."""
BOND_OPENING = 1_000_000
"""Units of the bond that each bank is issued, where the profile has it."""

SCHEDULED_DAYS = 60
"""Business days that a devnet with an operating day begins with."""
HOUR_MS = 3_600_000
BEGINS = (0, 16, 17, 18, 19)
"""Hours after the devnet was made, and every 24 hours, at which the phases begin: open,
customer cut-off, interbank only, clearing, closed. Long days: developers work late."""
FUNDING_MS = 10_000
"""How long a short debtor of a net cycle may bring money: long enough to watch."""
CAP = 500_000_000_00
MARGIN = 0
CONTRIBUTION = 50_000_000_00
"""Minor units: of each bank in the net profile. Its fund account begins empty."""


@dataclass(frozen=True, slots=True)
class Extra:
    """A participant besides the central bank and the banks."""

    name: str
    roles: tuple[str, ...]
    sponsor: str | None = None


def _always_open(now: int) -> tuple[GenesisDay, ...]:
    return ()


def _days(now: int) -> tuple[GenesisDay, ...]:
    """Days of 24 hours from now on. Their dates count from today's, UTC, one a day."""
    first = datetime.fromtimestamp(now / 1000, UTC).date()
    return tuple(
        GenesisDay(
            _number(first + timedelta(days=day)),
            tuple(now + (24 * day + hours) * HOUR_MS + 1 for hours in BEGINS),
        )
        for day in range(SCHEDULED_DAYS)
    )


def _number(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day


@dataclass(frozen=True, slots=True)
class Profile:
    """What a devnet is made with besides banks and validators."""

    name: str
    text: str
    """For people."""
    extras: tuple[Extra, ...] = ()
    bond: bool = False
    """Whether a depository issues `BOND`, and the operator posts a price for it in euros."""
    schedule: Callable[[int], tuple[GenesisDay, ...]] = _always_open
    """Business days, from the time that the devnet is made."""
    close_rule: Literal["expire", "roll-over"] | None = None
    netted: tuple[str, ...] = ()
    """Currencies with clearing cycles."""
    swept: str | None = None
    """Currency whose balances go to the central bank at close of day."""

    def assets(self) -> list[GenesisAsset]:
        """Securities."""
        return [GenesisAsset(BOND, 0, identity.lei(DEPOSITORY))] if self.bond else []

    def netting(self) -> tuple[GenesisNetting, ...]:
        """How its clearing cycles run."""
        return tuple(GenesisNetting(asset, FUNDING_MS) for asset in self.netted)

    def members(self, banks: Sequence[str]) -> tuple[GenesisMember, ...]:
        """What each bank is to the net systems."""
        return tuple(
            GenesisMember(identity.lei(bank), asset, CAP, MARGIN, CONTRIBUTION)
            for asset in self.netted
            for bank in banks
        )

    def policies(self, banks: Sequence[str]) -> tuple[GenesisPolicy, ...]:
        """How the banks' accounts are run."""
        if self.swept is None:
            return ()
        sweeps = (GenesisSweep(self.swept, identity.lei(identity.CENTRAL_BANK)),)
        return tuple(GenesisPolicy(identity.lei(bank), sweeps=sweeps) for bank in banks)


OVERSEERS = (Extra(SUPERVISOR, ("supervisor",)), Extra(AUDITOR, ("auditor",)))

PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("plain", "always open, two currencies, banks and a central bank"),
        Profile(
            "rtgs",
            "large-value gross settlement: an operating day, queues that roll over, intraday "
            "credit against bonds, an indirect participant and a payment institution",
            extras=(
                Extra(DEPOSITORY, ("depository",)),
                *OVERSEERS,
                Extra(PAYMENT_INSTITUTION, ("payment-institution",)),
                Extra(INDIRECT, ("indirect-participant",), sponsor=SPONSOR),
            ),
            bond=True,
            schedule=_days,
            close_rule="roll-over",
        ),
        Profile(
            "net",
            "deferred net settlement of euros: clearing cycles with caps, margin, a default fund "
            "and a funding window",
            extras=OVERSEERS,
            netted=("EUR",),
        ),
        Profile(
            "crossborder",
            "payment versus payment between euros and renminbi, delivery versus payment of a "
            "bond, and renminbi accounts that are swept at close of day",
            extras=(Extra(DEPOSITORY, ("depository",)), *OVERSEERS),
            bond=True,
            schedule=_days,
            swept="CNY",
        ),
    )
}
"""By name; `plain` is what a devnet is without the option."""
DEFAULT = "plain"
