"""What those do who run or watch the settlement world: the day, restrictions, keys, governance."""

from __future__ import annotations

from typing import Any

from node.chain import types as t
from node.chain.signature import ROLE_PARTICIPANT, prove_possession
from tests.support.ledger_world import DAY_MS, HOUR_MS, signer
from tests.support.settlement_actions import (
    ADMITTED,
    ALL,
    ASSETS,
    MINUTE_MS,
    OPERATORS,
    PARTIES,
    SOON,
    Actions,
    Choice,
)
from tests.support.settlement_world import SPARE_KEYS

BARS = ((False, False),) * 3 + ((True, False), (False, True))


class Governing(Actions):
    """Whoever runs or watches the system."""

    def freeze(self, choice: Choice) -> None:
        sender = choice.pick(("WATCHDOG",) * 9 + ("CENTRALBANK",))
        frozen = [
            party.lei
            for party in self.driver.book.parties.values()
            if party.debit_frozen or party.credit_frozen
        ]
        if frozen and choice.number(0, 2):
            self.send(sender, t.Freeze(choice.pick(frozen), False, False, "LEGL"))
            return
        debit, credit = choice.pick(BARS)
        self.send(sender, t.Freeze(self.lei(choice.pick(PARTIES)), debit, credit, "LEGL"))

    def suspend_or_lift(self, choice: Choice) -> None:
        suspended = [p.lei for p in self.driver.book.parties.values() if p.suspended]
        if suspended and choice.number(0, 3):
            self.decide_safely(t.LiftSuspension(choice.pick(suspended)))
        else:
            party = choice.pick(("BANKA", "BANKB", "BANKC", "PAYCO"))
            self.decide_safely(t.SuspendParticipant(self.lei(party)))

    def decide_safely(self, change: Any) -> None:
        """By both keys of the first operator, which nobody suspends."""
        central = self.lei("CENTRALBANK")
        signers = self.driver.signers[central][:2]
        valid = {k.public_key for k in self.driver.book.parties[central].keys if k.valid(self.next)}
        able = [each for each in signers if each.public_key in valid]
        if able:
            self.driver.send(central, t.Propose((change,), self.at(HOUR_MS)), able)

    @property
    def next(self) -> int:
        return self.driver.book.height + 1

    def propose(self, choice: Choice) -> None:
        changes = [self.change(choice) for _ in range(choice.pick((1, 1, 1, 2)))]
        expires = self.at(choice.pick((HOUR_MS, DAY_MS, *SOON)))
        proposed = self.send(choice.pick(OPERATORS), t.Propose(tuple(changes), expires))
        if proposed is not None:
            self.proposals.append(proposed.digest)
            approver = choice.pick(("BANKA",) * 6 + (None, "CENTRALBANK", "BANKB"))
            if approver is not None:
                self.send(approver, t.Approve(proposed.digest))

    def approve(self, choice: Choice) -> None:
        if self.proposals:
            self.send(choice.pick(OPERATORS), t.Approve(choice.pick(self.proposals[-4:])))

    def found_a_net_system(self, choice: Choice) -> None:
        self.decide(*self.net_system(choice, choice.pick(("EUR", "EUR", "CNY"))))

    def publish_days(self, choice: Choice) -> None:
        length = choice.pick((MINUTE_MS, 10 * MINUTE_MS, HOUR_MS))
        flat = choice.pick((0, 0, 0, 1, 2))
        self.decide(self.schedule(choice.pick((1_001, MINUTE_MS)), length, 3, flat))

    def order_day(self, choice: Choice) -> None:
        day = self.driver.book.day
        if day is None and choice.number(0, 9):
            return
        if day is not None and day.phase == t.Phase.CLOSED and not self._days_after(day.date):
            self.publish_days(choice)
            return
        date = 20_300_101 if day is None else day.date
        phase = choice.pick(tuple(t.Phase))
        sender = choice.pick(OPERATORS)
        if choice.number(0, 3):
            until = self.at(choice.pick(SOON))
            self.send(sender, t.DelayPhase(date, phase, until))
        else:
            self.send(sender, t.ProceedDay(date, phase))

    def _days_after(self, date: int) -> list[int]:
        return [each for each in self.driver.book.days if each > date]

    # --- keys -----------------------------------------------------------------------------------

    def register_key(self, choice: Choice) -> None:
        sender = choice.pick(ALL)
        holder = sender if choice.number(0, 3) else choice.pick(ALL)
        key = signer("settlement", holder, "spare", choice.number(0, SPARE_KEYS - 1))
        self.send(sender, t.RegisterKey(key.public_key, self._possession(key, self.lei(holder))))

    def revoke_key(self, choice: Choice) -> None:
        sender = choice.pick(ALL)
        holder = sender if choice.number(0, 5) else choice.pick(ALL)
        signers = self.driver.signers[self.lei(holder)]
        self.send(sender, t.RevokeKey(choice.pick(signers).public_key))

    def _possession(self, key: Any, holder: str) -> bytes:
        return prove_possession(key, ROLE_PARTICIPANT, holder, self.driver.world.chain_id)

    # --- changes --------------------------------------------------------------------------------

    def change(self, choice: Choice) -> Any:
        """Of any kind, not always a possible one."""
        kinds = (
            self._admit,
            self._admit,
            self._admit,
            self._close,
            self._close,
            self._suspend,
            self._replace_keys,
            self._add_asset,
            self._netting,
            self._member,
            self._parameters,
            self._schedule,
            self._rules,
        )
        return choice.pick(kinds)(choice)

    def _admit(self, choice: Choice) -> Any:
        number = choice.number(0, 1)
        name = ADMITTED[number]
        key = signer("settlement", name, 0)
        new = self.lei(name)
        self.driver.signers.setdefault(new, [key])
        possession = self._possession(key, new) if choice.number(0, 5) else bytes(64)
        return t.AdmitParticipant(
            new,
            f"NEW{chr(65 + number)}DEFF",
            name if choice.number(0, 5) else "BANKA",
            (("direct-participant",), ("indirect-participant",))[number],
            (t.ProvenKey(key.public_key, possession),),
            1 + (not choice.number(0, 7)),
            self.lei(choice.pick(("BANKB", "BANKB", "PAYCO", "VILLAGE"))) if number else None,
            int(not choice.number(0, 9)),
        )

    def _close(self, choice: Choice) -> Any:
        admitted = [name for name in ADMITTED if self.lei(name) in self.driver.book.parties]
        return t.CloseParticipant(self.lei(choice.pick(admitted * 40 + [*PARTIES, "DEPOSITORY"])))

    def _suspend(self, choice: Choice) -> Any:
        body = choice.pick((t.SuspendParticipant, t.LiftSuspension))
        return body(self.lei(choice.pick((*PARTIES, *ADMITTED))))

    def _replace_keys(self, choice: Choice) -> Any:
        party = choice.pick(("BANKB", "BANKC", "PAYCO", NOT_OFTEN[choice.number(0, 2)]))
        lei = self.lei(party)
        held = self.driver.book.parties.get(lei)
        own = () if held is None else tuple(key.public_key for key in held.keys)
        key = signer("settlement", party, "spare", choice.number(0, SPARE_KEYS - 1))
        proven = t.ProvenKey(key.public_key, self._possession(key, lei))
        threshold = 1 + (not choice.number(0, 9))
        return t.ReplaceKeys(lei, own[: choice.number(0, 1)], (proven,), threshold)

    def _add_asset(self, choice: Choice) -> Any:
        code = choice.pick(("USD", "JPY", "XS0000000009", "XS0000000017", "usd"))
        return t.AddAsset(code, 2, self.lei(choice.pick(("CENTRALBANK", "DEPOSITORY", "BANKA"))))

    def _netting(self, choice: Choice) -> Any:
        enabled = bool(choice.number(0, 2))
        funding = choice.pick((0, MINUTE_MS, HOUR_MS))
        return t.SetNetting(choice.pick(ASSETS), enabled, funding)

    def _member(self, choice: Choice) -> Any:
        lei = self.lei(choice.pick(PARTIES))
        terms = (choice.number(0, 120), choice.number(0, 9), choice.number(0, 30))
        return t.SetMember(lei, choice.pick(ASSETS), *terms)

    def _parameters(self, choice: Choice) -> Any:
        rule = t.CloseRule(choice.number(0, 1))
        return t.SetParameters(choice.pick((1, 2, 2, 2, 9)), 60_000, rule)

    def _schedule(self, choice: Choice) -> Any:
        wait, length = choice.number(0, 20) * MINUTE_MS, 1 + choice.number(0, 60) * MINUTE_MS
        days = self.schedule(wait, length, choice.number(1, 2), choice.number(0, 4))
        if choice.number(0, 4):
            return days
        first = days.days[0]
        odd = choice.pick((20_300_230, first.date + 1, 20_300_101))
        begins = tuple(time + choice.pick((0, -1, DAY_MS)) for time in first.begins)
        return t.PublishSchedule((t.BusinessDay(odd, begins, first.closes), *days.days[1:]))

    def _rules(self, choice: Choice) -> Any:
        """The second version, or one that is refused: this software knows no third."""
        version = 2 if choice.number(0, 5) and self.driver.book.version == 1 else 4
        return t.ActivateRules(version, self.driver.book.height + choice.number(0, 6))


NOT_OFTEN = ("BANKA", "CENTRALBANK", "WATCHDOG")
