"""Parameters of which a plain run takes a part; `tox run -e thorough` takes the rest."""

from __future__ import annotations

import pytest


def thorough_but(quick, every):
    """All sets of parameters, each marked `thorough` but those that are quick, which every run takes."""
    quick, every = list(quick), list(every)
    unknown = [each for each in quick if each not in every]
    assert not unknown, f"{unknown} is among the quick parameters and not among all: {every}"
    return [each if each in quick else _marked(each) for each in every]


def _marked(each):
    return pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=pytest.mark.thorough)
