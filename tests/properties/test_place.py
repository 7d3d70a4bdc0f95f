"""An exception names the line of the port that it came from."""

from __future__ import annotations

import importlib
import sys
import textwrap

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.place import raised_by
from detr_conformance.properties.port_under_test import PortError, PortUnderTest

from .sample_cases import small_case

PORT = """
import json
import numpy as np


def misspelt(boxes):
    return boxes.shpe


def in_a_library(boxes):
    return np.linalg.inv(boxes)


def with_a_helper():
    return helper('many')


def in_python(text):
    return json.loads(text)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of somebody else."""
    folder = tmp_path / "their_project"
    folder.mkdir()
    (folder / "__init__.py").write_text("def at_the_top():\n    raise KeyError('boxes')\n")
    (folder / "losses.py").write_text(textwrap.dedent(PORT))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("their_project.losses")
    for name in ("their_project", "their_project.losses"):
        del sys.modules[name]


def raising(function, *arguments):
    with pytest.raises(Exception) as caught:  # noqa: PT011  # whatever it is
        function(*arguments)
    error = caught.value
    error.__traceback__ = error.__traceback__.tb_next  # as the suite sees it: from the call on
    return error


def test_the_line_is_the_last_one_of_the_port(package):
    line = PORT.splitlines().index("    return boxes.shpe") + 1
    place = raised_by(raising(package.misspelt, np.zeros(4))).place
    assert place == f"their_project/losses.py, line {line}, in misspelt"


def test_of_what_an_installed_package_raises_it_is_also_the_line_that_calls_it(package):
    package.helper = importlib.import_module("packaging.version").Version
    line = PORT.splitlines().index("    return helper('many')") + 1
    place = raised_by(raising(package.with_a_helper)).place
    assert place.startswith("packaging/version.py, line ")
    assert place.endswith(f", in __init__, called at their_project/losses.py, line {line}, in with_a_helper")


def test_the_traceback_starts_in_the_port_and_names_no_folder_of_this_machine(package, tmp_path):
    raised = raised_by(raising(package.in_a_library, np.zeros(4)))
    first, source, *_, last = raised.traceback.splitlines()
    assert first == f"their_project/losses.py, line {PORT.splitlines().index(source) + 1}, in in_a_library"
    assert source == "    return np.linalg.inv(boxes)"
    assert last == f"LinAlgError: {raised.message}"
    assert str(tmp_path) not in raised.traceback


@pytest.mark.parametrize(("name", "argument"), [("in_a_library", np.zeros(4)), ("in_python", "{")])
def test_of_what_a_library_or_python_raises_it_is_the_line_that_calls_them(name, argument, package):
    place = raised_by(raising(getattr(package, name), argument)).place
    assert place.startswith("their_project/losses.py, line ")
    assert place.endswith(f", in {name}")


@pytest.mark.usefixtures("package")
def test_a_package_itself_is_a_file_too():
    place = raised_by(raising(sys.modules["their_project"].at_the_top)).place
    assert place == "their_project/__init__.py, line 2, in at_the_top"


def test_an_exception_of_no_line_of_theirs_has_no_place():
    assert raised_by(raising(np.linalg.inv, np.zeros(4))).place is None


def test_the_message_of_a_failing_call_has_the_place(package):
    class Misspelt(ReferencePort):
        def loss(self, case):
            return package.misspelt(case.pred_bboxes)

    with pytest.raises(PortError) as caught:
        PortUnderTest(Misspelt()).loss(small_case())
    assert caught.value.args[0].endswith(
        "loss(case) raised AttributeError: 'numpy.ndarray' object has no attribute 'shpe', "
        "at their_project/losses.py, line 7, in misspelt"
    )
