"""Judges ports of the DETR / RT-DETR training loss.

`parametrize_with_rules` turns a test function into one test for each rule. It is imported when it is asked for: pytest
imports this package in every session of every environment that it is installed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detr_conformance.parametrize import parametrize_with_rules

    __version__: str

__all__ = ["__version__", "parametrize_with_rules"]


def __getattr__(name: str) -> object:
    if name == "parametrize_with_rules":
        from detr_conformance.parametrize import parametrize_with_rules

        return parametrize_with_rules
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("detr-conformance")
        except metadata.PackageNotFoundError:
            return "0+not-installed"  # a source tree that was put on the path by hand
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
