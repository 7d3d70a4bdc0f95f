"""`identify` names the convention of every built-in port whose package is installed."""

from __future__ import annotations

import pytest

from detr_conformance.identify.reporting import report_of
from detr_conformance.identify.searching import Search
from detr_conformance.options import CheckOptions
from detr_conformance.reference import FAMILY
from detr_conformance.resolve import BUILT_IN, resolve

from .installed import require

NEAREST = {
    "transformers-dfine": "rtdetr",
    "transformers-deimv2": "deim",
    "transformers-deformable-masks": "deformable",
    "transformers-rf-detr": "lwdetr",
    "lightly-dfine": "dfine",
    "rfdetr-masks": "rfdetr",
    "mmdet-detr": "detr",
    "keras-dfine": "dfine",
    "paddledet": "paddle",
}
"""The member of the family that a port with a spec of its own is nearest to."""


@pytest.mark.thorough
@pytest.mark.filterwarnings("default")  # mmdet and Paddle warn where they are imported
@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("name", [name for name, built_in in BUILT_IN.items() if built_in.version])
def test_the_nearest_member_is_named(name: str) -> None:
    require(name)
    port, profile = resolve(CheckOptions(port=name))
    found = report_of(Search(port, lambda _: None).run())
    assert NEAREST.get(name, profile.name) in found.nearest
    assert NEAREST.get(name) is not None or profile.name in FAMILY
