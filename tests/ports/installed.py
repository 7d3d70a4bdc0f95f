"""Which packages of built-in ports there are."""

from __future__ import annotations

from importlib import metadata

import pytest

from detr_conformance.resolve import BUILT_IN


def require(name: str) -> None:
    """Skip where the package of a built-in port is not installed."""
    package = BUILT_IN[name].extra
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"needs the {package} package, which an environment of tox.ini has")
