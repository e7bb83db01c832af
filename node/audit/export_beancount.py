"""Books as plain text for beancount (version 3), whose `bean-check` confirms them.

The accounts are those of the ledger, seen from who holds them: `Assets:BANKA:Settlement` has the
ledger's own sign, so a drawn credit line is a negative balance. `Equity:Issued` is what each issuer
answers for, `Equity:Clearing` passes on the net positions of clearing cycles.

A balance directive holds at the *beginning* of a date. Every UTC date that has blocks ends with the
balance of every account, asserted on the date after it. Checkpoints within a date cannot be told
apart by date, so where they are asked for, what moved in each stretch between two of them stands in
sub-accounts of the stretch (`Assets:BANKA:Settlement:H120` from block 120 on), which are asserted
one by one: together they are the account's balance at each checkpoint.

Tolerance is zero, in transactions and in assertions: beancount's own would let a cent pass.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import IO

from node.audit.export import DAY_MS, Balances, Names, Point, by_account, date_of, instant_text
from node.audit.movements import Account, Movement
from node.chain.amounts import format_amount
from node.chain.uetr import uetr_text

_DAY = timedelta(days=1)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9-]")
_HEAD = """\
;; The books of a nostro chain, as a replay from its genesis gave them.
;; Accounts have the ledger's own sign; see docs/reference/exports.md.
option "title" "{title}"
option "tolerance_multiplier" "0"
"""
OPENING = "Equity:Opening"
"""What a participant's opening balances come from where only its accounts are exported."""


class BeancountWriter:
    """Writes to a binary file. May raise OSError."""

    def __init__(self, file: IO[bytes], *, whole: bool = True, stretches: bool = False) -> None:
        """`whole`: all participants are exported, so that everything sums to zero. `stretches`:
        there are checkpoints within a date."""
        self._file = file
        self._whole = whole
        self._stretches = stretches
        self._paths: dict[Account, str] = {}
        self._components: dict[str, str] = {}
        """Path component → LEI."""
        self._assets: set[str] = set()
        self._first = 1
        """Height with which the stretch began."""
        self._net: dict[tuple[Account, str], int] = {}
        """What moved in it."""
        self._opened_now: set[str] = set()
        """Sub-accounts of it."""
        self._date = (-1, "")
        """Day since the Unix epoch, and its text."""

    # --- the writer's parts -----------------------------------------------------------------------

    def begin(self, chain_id: bytes, at: Point, balances: Balances, names: Names) -> None:
        """Header, and a transaction for what there was before."""
        self._names = names
        self._first = at.height + 1
        self._write(_HEAD.format(title=f"nostro chain {chain_id.hex()}, after block {at.height}"))
        if not balances:
            return
        day = self._text(at.time)
        postings: list[str] = []
        left: dict[str, int] = {}
        for (account, asset), balance in sorted(balances.items(), key=by_account):
            path = self._account(day, account)
            postings.append(f"  {path}  {self._amount(day, balance, asset)}\n")
            left[asset] = left.get(asset, 0) + balance
        if any(left.values()):
            self._opened(day, OPENING)
        for asset, balance in sorted(left.items()):
            if balance:
                postings.append(f"  {OPENING}  {self._amount(day, -balance, asset)}\n")
        self._write(
            f'\n{day} * "opening" "balances after block {at.height}"\n'
            f"{_about(at)}" + "".join(postings)
        )

    def movement(self, time: int, height: int, movement: Movement) -> None:
        """A transaction of two postings."""
        day = self._text(time)
        asset, amount = movement.asset, movement.amount
        debtor = self._side(day, movement.debtor, asset, -amount)
        creditor = self._side(day, movement.creditor, asset, amount)
        debit, credit = self._amount(day, -amount, asset), self._amount(day, amount, asset)
        links, metadata = "", ""
        if movement.uetr is not None:
            uetr = uetr_text(movement.uetr)
            links, metadata = f" ^{uetr}", f'  uetr: "{uetr}"\n'
        if movement.related is not None:
            related = uetr_text(movement.related)
            links, metadata = f"{links} ^{related}", f'{metadata}  related: "{related}"\n'
        if movement.cycle is not None:
            metadata = f"{metadata}  cycle: {movement.cycle}\n"
        self._write(
            f'\n{day} * "{movement.kind}"{links}\n'
            f'  proof: "{height}:{movement.position}"\n'
            f'  outcome: "{movement.outcome.hex()}"\n'
            f'  time: "{instant_text(time)}"\n'
            f"{metadata}  {debtor}  {debit}\n  {creditor}  {credit}\n"
        )

    def checkpoint(self, at: Point, balances: Balances) -> None:
        """What moved in the stretch that ends here, on the date after the block's."""
        self._write(f"\n;; checkpoint: block {at.height}, {instant_text(at.time)}\n")
        after, about = str(at.date + _DAY), _about(at)
        for (account, asset), net in sorted(self._net.items(), key=by_account):
            if (account, asset) not in balances:
                continue  # another participant's, where one's alone are exported
            closing = format_amount(balances[account, asset], self._names.exponent(asset))
            path = f"{self._paths[account]}:H{self._first}"
            self._assert(after, path, net, asset, f'{about}  closing: "{closing}"\n')
        self._net.clear()
        self._opened_now.clear()
        self._first = at.height + 1

    def day(self, at: Point, balances: Balances) -> None:
        """The balance of every account, on the date after the block's."""
        if self._net:
            self.checkpoint(at, balances)
        self._write(f"\n;; end of day: block {at.height}, {instant_text(at.time)}\n")
        after, about = str(at.date + _DAY), _about(at)
        for (account, asset), balance in sorted(balances.items(), key=by_account):
            if account.holder is not None or self._whole:
                # One that was emptied before this export begins has not been opened yet.
                path = self._account(self._text(at.time), account)
                self._assert(after, path, balance, asset, about)

    def end(self, at: Point) -> None:
        """A last line, so that a file that was cut is seen to be."""
        self._write(f"\n;; end: block {at.height} {at.digest.hex()}\n")

    def abandon(self) -> None:
        """Nothing is owed."""

    # --- their parts ------------------------------------------------------------------------------

    def _assert(self, after: str, path: str, balance: int, asset: str, about: str) -> None:
        amount = format_amount(balance, self._names.exponent(asset))
        self._write(f"{after} balance {path}  {amount} ~ 0 {asset}\n{about}")

    def _side(self, day: str, account: Account, asset: str, amount: int) -> str:
        """The account that a posting names."""
        path = self._account(day, account)
        if not self._stretches:
            return path
        key = account, asset
        self._net[key] = self._net.get(key, 0) + amount
        path = f"{path}:H{self._first}"
        if path not in self._opened_now:
            self._opened_now.add(path)
            self._write(f"\n{day} open {path}\n")
        return path

    def _account(self, day: str, account: Account) -> str:
        """Its path, opened on this date if it is new."""
        path = self._paths.get(account)
        if path is not None:
            return path
        kind = "-".join(part.capitalize() for part in account.kind.split("-"))
        about = ""
        if account.holder is None:
            path = f"Equity:{kind}"
        else:
            name = self._names.name(account)
            path = f"Assets:{self._component(name, account.holder)}:{kind}"
            about = f'  lei: "{account.holder}"\n  name: "{name}"\n'
        self._paths[account] = path
        self._opened(day, path, about)
        return path

    def _component(self, name: str, lei: str) -> str:
        """A part of a path that belongs to this participant alone: its short name, where that is
        one. Beancount wants an upper-case letter or a digit first, and knows no dot and no
        underscore; names that differ in these alone are told apart by the LEI."""
        plain = _NOT_IN_A_NAME.sub("-", name)
        plain = plain[0].upper() + plain[1:]
        number = 1
        for component in (plain, f"{plain}-{lei}"):
            if self._components.setdefault(component, lei) == lei:
                return component
        while True:  # whoever chose another's name with its LEI as its own name
            number += 1
            component = f"{plain}-{lei}-{number}"
            if self._components.setdefault(component, lei) == lei:
                return component

    def _opened(self, day: str, path: str, about: str = "") -> None:
        self._write(f"\n{day} open {path}\n{about}")

    def _amount(self, day: str, minor: int, asset: str) -> str:
        exponent = self._names.exponent(asset)
        if asset not in self._assets:
            self._assets.add(asset)
            self._write(f"\n{day} commodity {asset}\n  exponent: {exponent}\n")
        return f"{format_amount(minor, exponent)} {asset}"

    def _text(self, time: int) -> str:
        """The UTC date of a block time."""
        number = time // DAY_MS
        if self._date[0] != number:
            self._date = number, str(date_of(time))
        return self._date[1]

    def _write(self, text: str) -> None:
        self._file.write(text.encode())


def _about(at: Point) -> str:
    return f'  height: {at.height}\n  block: "{at.digest.hex()}"\n'
