"""Broken cores: does the oracle see what it was made to see?

Each mutant is the real core with one rule broken by a patch of its source text. `hunt` runs seeds
until a rule catches it. A patch that no longer fits the source is an error, never a silent
survivor.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import consensus
from devnet.sim.actor import CoreFactory
from devnet.sim.run import run_seed
from devnet.sim.world import Violation

SHARED = ("consensus.messages", "consensus.interface")
"""Types that mutant and simulator must agree on; never patched, never loaded twice."""


class StalePatch(AssertionError):
    """A mutant's patch does not fit the core's source any more: bring it up to date."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A core with one rule broken: in `module`, each (old, new) replaced where it stands once."""

    name: str
    module: str
    patches: tuple[tuple[str, str], ...]

    def load(self) -> CoreFactory:
        """The mutated core's class. Raises StalePatch."""
        saved = {name: sys.modules.pop(name) for name in list(sys.modules) if _reloaded(name)}
        attributes = dict(vars(consensus))
        finder = _Finder(self)
        sys.meta_path.insert(0, finder)
        try:
            mutated: CoreFactory = import_module("consensus.core").Core
        finally:
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if _reloaded(name)]:
                del sys.modules[name]
            sys.modules.update(saved)
            vars(consensus).update(attributes)
        if not finder.patched:
            raise StalePatch(f"{self.name}: consensus.{self.module} is not imported by the core")
        return mutated

    def apply(self, source: str) -> str:
        """The module's source with the rule broken. Raises StalePatch."""
        for old, new in self.patches:
            if source.count(old) != 1:
                raise StalePatch(
                    f"{self.name}: stands {source.count(old)} times in {self.module}: {old!r}"
                )
            source = source.replace(old, new)
        return source


def _reloaded(name: str) -> bool:
    return name.startswith("consensus.") and name not in SHARED


class _Finder:
    """Loads the mutant's module from patched text, ahead of the usual finders."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self.patched = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != f"consensus.{self._mutant.module}":
            return None
        self.patched = True
        file = Path(next(iter(path or ()))) / f"{self._mutant.module}.py"
        return spec_from_file_location(
            fullname, file, loader=_Loader(fullname, str(file), self._mutant)
        )


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, mutant: Mutant) -> None:
        super().__init__(name, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        source = self._mutant.apply(Path(self.path).read_text(encoding="utf-8"))
        code: Any = compile(source, self.path, "exec", dont_inherit=True)
        assert isinstance(code, CodeType)
        return code


def hunt(mutant: Mutant, seeds: Iterable[int], validators: int | None = None) -> Violation | None:
    """Run seeds until one catches the mutant; None if it survives them all.

    The signer guard is left out: it would refuse what the core's own guards must prevent.
    """
    core = mutant.load()
    for seed in seeds:
        try:
            run_seed(seed, validators, core=core, guarded=False)
        except Violation as caught:
            return caught
    return None


MUTANTS: tuple[Mutant, ...] = ()
