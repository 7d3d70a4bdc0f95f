"""Versions that can change what a port returns, or which cases are drawn."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

FRAMEWORKS = (
    "accelerate",
    "hypothesis",
    "jax",
    "keras",
    "keras_hub",
    "lightly_train",
    "mmdet",
    "mmengine",
    "numpy",
    "paddle",
    "ppdet",
    "rfdetr",
    "scipy",
    "tensorflow",
    "torch",
    "torchvision",
    "transformers",
    "ultralytics",
)
"""By the names that they are imported by."""

DISTRIBUTIONS = {"paddle": "paddlepaddle", "ppdet": "paddledet"}
"""Where such a name does not lead to the distribution too."""


def versions_for(port: str) -> dict[str, str]:
    """Versions of Python, of the frameworks that are loaded, and of the package that a port comes from."""
    versions = {"python": platform.python_version()}
    own = metadata.packages_distributions().get(port.partition(":")[0].split(".")[0], ()) if ":" in port else ()
    names = sorted({*own, *(DISTRIBUTIONS.get(each, each) for each in FRAMEWORKS if each in sys.modules)})
    return versions | {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"  # a package that was put on the path by hand
