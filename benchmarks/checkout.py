"""The checkout's own package on the path, without pip or a network: links as a strict editable install lays them."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[1]


def put_on_path() -> None:
    """For this process and for those that it starts."""
    folder = Path(tempfile.mkdtemp(prefix="detr-conformance-"))
    atexit.register(shutil.rmtree, folder)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-dir"]
    for name, source in sorted(packages.items()):  # sorted: a package comes before what is in it
        _link(ROOT / source, folder.joinpath(*name.split(".")))
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def _link(source: Path, package: Path) -> None:
    if package.exists():
        return  # it came as a folder of the package around it
    package.mkdir()
    for entry in source.iterdir():
        (package / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
