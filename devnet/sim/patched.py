"""Cores with some of their source text replaced: mutants, and what runs inside a liar.

A patch that no longer fits the source is an error, never silently left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import consensus
from devnet.sim.actor import CoreFactory

SHARED = ("consensus.messages", "consensus.interface")
"""Types that a patched core and the simulator must agree on; never patched, never loaded twice."""


class StalePatch(AssertionError):
    """A patch does not fit the core's source any more: bring it up to date."""


@dataclass(frozen=True, slots=True)
class Patched:
    """The core with some of its text replaced."""

    name: str
    patches: tuple[tuple[str, str, str], ...]
    """(module, old, new): in consensus.<module>, `old` stands once and is replaced by `new`."""

    def load(self) -> CoreFactory:
        """The patched core's class. Raises StalePatch."""
        saved = {name: sys.modules.pop(name) for name in list(sys.modules) if _reloaded(name)}
        attributes = dict(vars(consensus))
        for name in saved:  # `from consensus import x` would find the original here
            vars(consensus).pop(name.rpartition(".")[2], None)
        finder = _Finder(self)
        sys.meta_path.insert(0, finder)
        try:
            changed: CoreFactory = import_module("consensus.epochs").Epochs
        finally:
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if _reloaded(name)]:
                del sys.modules[name]
            sys.modules.update(saved)
            vars(consensus).update(attributes)
        missed = {module for module, _, _ in self.patches} - finder.patched
        if missed:
            raise StalePatch(f"{self.name}: the core does not import {sorted(missed)}")
        return changed

    def apply(self, module: str, source: str) -> str:
        """The source of consensus.<module> with the patches made. Raises StalePatch."""
        for patched, old, new in self.patches:
            if patched != module:
                continue
            if source.count(old) != 1:
                raise StalePatch(
                    f"{self.name}: stands {source.count(old)} times in {module}: {old!r}"
                )
            source = source.replace(old, new)
        return source


def _reloaded(name: str) -> bool:
    return name.startswith("consensus.") and name not in SHARED


class _Finder:
    """Loads a core's modules from patched text, ahead of the usual finders."""

    def __init__(self, core: Patched) -> None:
        self._core = core
        self._wanted = {module for module, _, _ in core.patches}
        self.patched: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, module = fullname.rpartition(".")
        if package != "consensus" or module not in self._wanted:
            return None
        self.patched.add(module)
        file = str(Path(next(iter(path or ()))) / f"{module}.py")
        return spec_from_file_location(fullname, file, loader=_Loader(fullname, file, self._core))


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, core: Patched) -> None:
        super().__init__(name, path)
        self._core = core

    def get_code(self, fullname: str) -> CodeType:
        module = fullname.rpartition(".")[2]
        source = self._core.apply(module, Path(self.path).read_text(encoding="utf-8"))
        code: Any = compile(source, self.path, "exec", dont_inherit=True)
        assert isinstance(code, CodeType)
        return code
