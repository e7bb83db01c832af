"""The ledger with a bug planted in it: does the settlement machine see it?

`python -m tests.support.planted NAME` loads the ledger with some of its source text replaced, in a
process of its own, and runs seeds until model and ledger disagree. Exit code 0: caught; 1: not in
so many steps. A patch that no longer fits the source is an error, never a bug that nobody planted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

MAX_STEPS = 4_000
"""As many as the seeded run of the tests has."""


class StalePatch(AssertionError):
    """A patch does not fit the ledger's source any more: bring it up to date."""


@dataclass(frozen=True, slots=True)
class Bug:
    """In node.ledger.<module>, `old` stands once and is replaced by `new`."""

    module: str
    old: str
    new: str


BUGS: dict[str, Bug] = {
    "a payment passes others of its own priority": Bug(
        "queue", "entry.priority <= priority", "entry.priority < priority"
    ),
    "what comes in makes no room under a limit": Bug(
        "limits",
        "use(work, payment.creditor, payment.asset, {payment.debtor: -payment.amount})",
        "use(work, payment.creditor, payment.asset, {payment.debtor: 0})",
    ),
    "a pending return is forgotten when it settles": Bug(
        "waiting", "returning=original.returning - amount", "returning=original.returning"
    ),
    "an unwound cycle keeps what it set aside": Bug(
        "cycles",
        "    cycle = _closed(work, key)\n    _free(work, key.asset, cycle)\n",
        "    cycle = _closed(work, key)\n",
    ),
    "a posted part counts in full": Bug(
        "reservations", "_count(work, payment, amount - payment.amount)", "pass"
    ),
    "nobody looks at a queue again when money comes in": Bug(
        "work",
        "        if (participant, kind) in self.queued_in(asset):\n"
        "            self.stirred.add(asset)\n",
        "        pass\n",
    ),
    "a payment expires at its latest time, not after it": Bug(
        "due", "first.latest + 1", "first.latest"
    ),
    "a link ignores what is set aside": Bug(
        "links",
        "book.available(lei) + gain < 0",
        "(book.load(lei) or 0) + gain < 0",
    ),
}


class _Finder:
    """Loads one module of the ledger from patched text, ahead of the usual finders."""

    def __init__(self, bug: Bug) -> None:
        self._bug = bug

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != f"node.ledger.{self._bug.module}":
            return None
        file = str(Path(next(iter(path or ()))) / f"{self._bug.module}.py")
        return spec_from_file_location(fullname, file, loader=_Loader(fullname, file, self._bug))


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, bug: Bug) -> None:
        super().__init__(name, path)
        self._bug = bug

    def get_code(self, fullname: str) -> CodeType:
        source = patched(self._bug, Path(self.path).read_text(encoding="utf-8"))
        code: Any = compile(source, self.path, "exec", dont_inherit=True)
        assert isinstance(code, CodeType)
        return code


def patched(bug: Bug, source: str) -> str:
    """The module's source with the bug in it. Raises StalePatch."""
    if source.count(bug.old) != 1:
        raise StalePatch(f"stands {source.count(bug.old)} times in {bug.module}: {bug.old!r}")
    return source.replace(bug.old, bug.new)


def main(name: str) -> int:
    """Run the machine on the ledger with this bug."""
    assert not any(each.startswith("node.ledger") for each in sys.modules), "loaded too early"
    sys.meta_path.insert(0, _Finder(BUGS[name]))
    from tests.support.settlement_machine import STEPS, Tally, play  # noqa: PLC0415 - patched now

    tally = Tally()
    for seed in range(MAX_STEPS // STEPS):
        try:
            play(seed, tally)
        except AssertionError as difference:
            if isinstance(difference, StalePatch):
                raise
            print(f"caught after {tally.steps:,} steps: {str(difference)[:300]}")
            return 0
    print(f"survived {tally.steps:,} steps")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
