"""The ledger with some of its source text replaced, in a process of its own.

`python -m tests.support.planted NAME` plants a bug and runs seeds until model and ledger disagree:
does the settlement machine see it? Exit code 0: caught; 1: not in so many steps. Without a name it
makes the ledger's bounds so small that the machine meets them, and the two must never disagree.

A patch that no longer fits the source is an error, never a bug that nobody planted.
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

from tests.support.settlement_model.rows import Bounds

MAX_STEPS = 4_000
"""As many as the seeded run of the tests has."""


class StalePatch(AssertionError):
    """A patch does not fit the ledger's source any more: bring it up to date."""


@dataclass(frozen=True, slots=True)
class Patch:
    """In node.ledger.<module>, `old` stands once and is replaced by `new`."""

    module: str
    old: str
    new: str


BUGS: dict[str, Patch] = {
    "a payment passes others of its own priority": Patch(
        "queue", "return any(self.lines[: priority + 1])", "return any(self.lines[:priority])"
    ),
    "what comes in makes no room under a limit": Patch(
        "limits",
        "use(work, payment.creditor, payment.asset, {payment.debtor: -payment.amount})",
        "use(work, payment.creditor, payment.asset, {payment.debtor: 0})",
    ),
    "a pending return is forgotten when it settles": Patch(
        "waiting", "returning=original.returning - amount", "returning=original.returning"
    ),
    "an unwound cycle keeps what it set aside": Patch(
        "cycles",
        "    cycle = _closed(work, key)\n    _free(work, key.asset, cycle)\n",
        "    cycle = _closed(work, key)\n",
    ),
    "a posted part counts in full": Patch(
        "reservations", "_count_back(work, record, payment, payment.amount - amount)", "pass"
    ),
    "nobody looks at a queue again when money comes in": Patch(
        "work",
        "        if (participant, kind) in self.queued_in(asset):\n"
        "            self.stirred.add(asset)\n",
        "        pass\n",
    ),
    "a payment expires at its latest time, not after it": Patch(
        "due", "first.latest + 1", "first.latest"
    ),
    "a link ignores what is set aside": Patch(
        "links",
        "book.available(lei) + gain < 0",
        "(book.load(lei) or 0) + gain < 0",
    ),
    "a tree of used UETRs lacks what was rejected as a duplicate": Patch(
        "lifecycle",
        "    _first(work, origin, REJECTED, reason)\n",
        "    _first(work, origin, REJECTED, reason)\n"
        "    if reason == DUPLICATE:\n"
        "        work.named.pop()\n",
    ),
    "a tree of used UETRs lacks the block that closes the day": Patch(
        "uetr_trees",
        "sorted_uetrs([*parent.untreed(), *work.named])",
        "sorted_uetrs(parent.untreed())",
    ),
    "what was named before a tree is in the next one, too": Patch(
        "state", "                base.untreed = []\n", "                pass\n"
    ),
}


SMALL = Bounds(
    candidates=(2, 4),
    queued=5,
    bilateral=1,
    open_links=2,
    evidence=1,
    consents=1,
    proposals=2,
    keys=4,
    named=20,
)
SMALL_PATCHES = (
    Patch("rules", "CANDIDATES = {1: 1_000, 2: 10_000}", "CANDIDATES = {1: 2, 2: 4}"),
    Patch("queue", "MAX_QUEUED = 100_000", "MAX_QUEUED = 5"),
    Patch("limits", "MAX_BILATERAL = 256", "MAX_BILATERAL = 1"),
    Patch("links", "MAX_OPEN_LINKS = 1_000", "MAX_OPEN_LINKS = 2"),
    Patch("disputes", "MAX_EVIDENCE = 64", "MAX_EVIDENCE = 1"),
    Patch("restriction", "MAX_CONSENTS = 10_000", "MAX_CONSENTS = 1"),
    Patch("governance", "MAX_OPEN_PROPOSALS = 8", "MAX_OPEN_PROPOSALS = 2"),
    Patch("keys", "MAX_KEYS = 256", "MAX_KEYS = 4"),
    Patch("uetr_trees", "MAX_NAMED = 131_072", "MAX_NAMED = 20"),
)
"""What makes a ledger with these bounds."""


class _Finder:
    """Loads modules of the ledger from patched text, ahead of the usual finders."""

    def __init__(self, patches: Sequence[Patch]) -> None:
        self._patches = patches

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, module = fullname.rpartition(".")
        mine = [patch for patch in self._patches if patch.module == module]
        if package != "node.ledger" or not mine:
            return None
        file = str(Path(next(iter(path or ()))) / f"{module}.py")
        return spec_from_file_location(fullname, file, loader=_Loader(fullname, file, mine))


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, patches: Sequence[Patch]) -> None:
        super().__init__(name, path)
        self._patches = patches

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text(encoding="utf-8")
        for patch in self._patches:
            source = patched(patch, source)
        code: Any = compile(source, self.path, "exec", dont_inherit=True)
        assert isinstance(code, CodeType)
        return code


def patched(patch: Patch, source: str) -> str:
    """The module's source with the patch made. Raises StalePatch."""
    if source.count(patch.old) != 1:
        raise StalePatch(f"stands {source.count(patch.old)} times in {patch.module}: {patch.old!r}")
    return source.replace(patch.old, patch.new)


def main(name: str | None) -> int:
    """Run the machine on the ledger with this bug, or with small bounds."""
    assert not any(each.startswith("node.ledger") for each in sys.modules), "loaded too early"
    sys.meta_path.insert(0, _Finder(SMALL_PATCHES if name is None else (BUGS[name],)))
    from tests.support.settlement_machine import STEPS, Tally, play  # noqa: PLC0415 - patched now

    tally = Tally()
    for seed in range(MAX_STEPS // STEPS):
        try:
            play(seed, tally, bounds=SMALL if name is None else None)
        except AssertionError as difference:
            if name is None or isinstance(difference, StalePatch):
                raise
            print(f"caught after {tally.steps:,} steps: {str(difference)[:300]}")
            return 0
    print(tally if name is None else f"survived {tally.steps:,} steps")
    return 0 if name is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
