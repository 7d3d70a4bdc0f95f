"""Empty modules in the place of packages that a peer imports and its loss never calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from unittest.mock import MagicMock


@contextmanager
def standing_in_for(*packages: str) -> Iterator[None]:
    """Within the block, those of the packages that are not installed import all the same, and hold anything."""
    finder = _StandIns(packages)
    sys.meta_path.append(finder)  # last: what is installed is found before
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _StandIns(MetaPathFinder, Loader):
    def __init__(self, packages: tuple[str, ...]) -> None:
        self.packages = packages

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in self.packages else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return MagicMock(name=spec.name, __path__=[], __version__="0")

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""
