from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTALLED_AS = {
    "conformance": "detr_conformance",
    "optimized": "detr_conformance/optimized",
    "properties": "detr_conformance/properties",
    "reference": "detr_conformance/reference",
}
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")


def run(*command: object, cwd: Path) -> str:
    __tracebackhide__ = True
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A wheel, and the wheel that pip makes of an sdist: from a copy, which keeps the checkout clean."""
    tree, out = tmp_path_factory.mktemp("copy") / "tree", tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, tree, ignore=NOT_SOURCE)
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir")
    run(*build, out / "wheel", "--wheel", tree, cwd=out)
    run(*build, out, "--sdist", tree, cwd=out)
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", out / "sdist", *out.glob("*.tar.gz"), cwd=out)
    return out


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A folder of a user whose own modules have our folders' names."""
    (tmp_path / "reference").mkdir()
    for name in ("reference/__init__.py", "properties.py"):
        (tmp_path / name).write_text(f"raise RuntimeError('imported the {name} of the working folder')\n")
    return tmp_path


def fresh_environment(wheel: Path, folder: Path) -> Path:
    """The wheel alone; what it depends on is borrowed from the running environment, behind it on the path."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    [site_packages] = folder.glob("lib/python*/site-packages")
    borrowed = dict.fromkeys(sysconfig.get_path(scheme) for scheme in ("purelib", "platlib"))
    (site_packages / "borrowed.pth").write_text("\n".join(borrowed))
    return python


@pytest.mark.parametrize("source", ["wheel", "sdist"])
def test_works_beside_a_users_modules_of_the_same_names(source, built, elsewhere, tmp_path_factory):
    [wheel] = (built / source).glob("*.whl")
    python = fresh_environment(wheel, tmp_path_factory.mktemp(source) / "venv")
    modules = "detr_conformance, detr_conformance.reference, detr_conformance.properties"
    imported = run(python, "-c", f"import {modules}; print(detr_conformance.__file__)", cwd=elsewhere)
    assert Path(imported.strip()).is_relative_to(python.parents[1]), "the fresh copy was not the one imported"
    assert run(python.with_name("detr-conformance"), "list", cwd=elsewhere).strip()


@pytest.mark.parametrize("source", ["wheel", "sdist"])
def test_every_module_of_the_tree_is_in_the_wheel(source, built):
    [wheel] = (built / source).glob("*.whl")
    in_tree = {
        f"{installed}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, installed in INSTALLED_AS.items()
        for pattern in ("*.py", "*.ini", "*.json", "*.css", "*.html", "py.typed")
        for path in (ROOT / folder).rglob(pattern)
    }
    in_wheel = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert in_wheel == in_tree


def test_importing_the_reference_loads_no_framework_and_no_test_tool(tmp_path):
    unwanted = "{'hypothesis', 'pytest', 'rich', 'scipy', 'torch'}"
    loaded = f"import sys, detr_conformance.reference; print({unwanted} & set(sys.modules))"
    assert run(sys.executable, "-c", loaded, cwd=tmp_path).strip() == "set()"
