"""The reference is there to be read: short functions, a source for every formula, and nothing but NumPy."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

from detr_conformance import reference

FOLDER = Path(reference.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
LONGEST_FUNCTION = 40
LONGEST_FILE = 400
IMPORTS = {"numpy", "jaxtyping", "detr_conformance"} | sys.stdlib_module_names

PUBLIC = sorted(reference.__all__)
FORMULAS = (
    "DETRLoss",
    "FocalLoss",
    "HungarianMatcher",
    "RTDETRDetectionLoss",
    "VarifocalLoss",
    "bbox_iou",
    "get_cdn_group",
    "giou_gradient",
    "linear_sum_assignment",
)

files = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def definitions(body):
    """Every function and class in a module or class, and in the classes in it."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node
        if isinstance(node, ast.ClassDef):
            yield from definitions(node.body)


def lines_of_code(function) -> int:
    """Lines of the body from its first statement on, without the signature and the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_every_file_is_looked_at():
    assert {file.stem for file in FILES} >= {"assignment", "boxes", "detr_loss", "denoising", "rounding", "__init__"}


@files
def test_no_function_has_more_than_forty_lines(file):
    functions = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    too_long = {node.name: lines_of_code(node) for node in functions if lines_of_code(node) > LONGEST_FUNCTION}
    assert not too_long


@files
def test_no_file_has_more_than_four_hundred_lines(file):
    assert len(file.read_text().splitlines()) <= LONGEST_FILE


@files
def test_every_file_and_everything_public_in_it_says_what_it_is(file):
    module = ast.parse(file.read_text())
    assert ast.get_docstring(module)
    public = [node for node in definitions(module.body) if not node.name.startswith("_") or node.name == "__init__"]
    assert not [node.name for node in public if not ast.get_docstring(node)]


@files
def test_nothing_is_imported_but_numpy_and_its_types(file):
    nodes = list(ast.walk(ast.parse(file.read_text())))
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {module.split(".")[0] for module in modules} <= IMPORTS
    ours = [module for module in modules if module.startswith("detr_conformance")]
    assert all(module.startswith("detr_conformance.reference.") for module in ours)


@pytest.mark.parametrize("name", FORMULAS)
def test_every_formula_names_its_source_with_a_number_to_look_it_up_by(name):
    documentation = getattr(reference, name).__doc__
    assert "Reference: " in documentation
    assert "arXiv" in documentation or "doi" in documentation


@pytest.mark.parametrize("name", PUBLIC)
def test_what_the_package_exports_is_documented_and_there(name):
    assert getattr(reference, name).__doc__


def test_files_are_named_after_what_they_hold_and_can_be_imported_alone():
    for file in FILES:
        if file.stem != "__init__":
            assert importlib.import_module(f"detr_conformance.reference.{file.stem}").__doc__


@pytest.mark.parametrize(
    ("name", "count"), [("boxes", 2), ("classification", 2), ("denoising", 1), ("detr_loss", 6), ("matcher", 2)]
)
def test_every_quirk_of_the_specification_is_marked_where_it_is(name, count):
    assert (FOLDER / f"{name}.py").read_text().count("quirk") >= count
