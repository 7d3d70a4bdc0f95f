"""The reference and a real package agree in every loss and every gradient, on cases that reach every corner.

Runs where the package is installed: `tox run -e agreement-ultralytics`, which asks for 5,000 cases. Our own fast loss
is one more package.
"""

from __future__ import annotations

import importlib
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, reject, settings

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain, loss_cases

WIDEST = Request(layers=(1, 5), images=(1, 5), queries=(1, 8), classes=(1, 5), targets=(0, 5), uni_match=(False, True))


EVERYWHERE = {
    *(f"B = {images}" for images in range(1, 6)),
    *(f"L = {layers}" for layers in range(2, 6)),
    *("varifocal", "denoising", "several denoising groups", "duplicate boxes"),
    *("empty image first", "empty image in the middle", "empty image last", "no target at all"),
    *("Q < n", "Q = n", "C = 1", "Q = 1"),
}
BASE_ONLY = {
    *(f"uni_match on layer {layer}" for layer in range(4)),
    *("bce", "focal", "L = 1", "box without area", "box inside out"),
}


VOTED = EVERYWHERE - {"varifocal"} | {"mal"}
FOUR_LAYERS = EVERYWHERE - {"L = 2", "L = 3"}


MASKS = {
    *(f"B = {images}" for images in range(1, 6)),
    *(f"L = {layers}" for layers in range(1, 6)),
    *("empty image first", "empty image in the middle", "empty image last", "no target at all", "Q < n", "Q = n"),
    *("images of several sizes", "masks made larger", "masks made smaller", "masks of one size", "empty object"),
}


POINTS = MASKS - {"L = 1"}


def corners_of(case: LossCase) -> set[str]:
    """The corners that a case lies in."""
    groups, config = case.gt_groups, case.config
    boxes = [*case.gt_bboxes.tolist(), *case.pred_bboxes.reshape(-1, 4).tolist()]
    corners = {
        f"B = {case.images}": True,
        f"L = {case.layers}": True,
        config.classification: True,
        f"gains {tuple(config.loss_gain.values())}": True,
        f"gamma {config.gamma}": True,
        "empty image first": groups[0] == 0 < max(groups),
        "empty image in the middle": 0 in groups[1:-1] and min(groups[0], groups[-1]) > 0,
        "empty image last": groups[-1] == 0 < max(groups),
        "no target at all": max(groups) == 0,
        "Q < n": any(case.queries < count for count in groups),
        "Q = n": case.queries in groups,
        "C = 1": config.nc == 1,
        "Q = 1": case.queries == 1,
        "denoising": case.denoising is not None,
        "several denoising groups": case.denoising is not None and case.denoising.num_group > 1,
        f"uni_match on layer {config.uni_match_ind}": config.use_uni_match,
        "duplicate boxes": len({tuple(box) for box in boxes}) < len(boxes),
        "box without area": any(box[2] == 0 for box in boxes),
        "box inside out": any(box[2] < 0 for box in boxes),
        "distributions": case.distributions is not None,
    }
    return {name for name, holds in (corners | corners_of_masks(case)).items() if holds}


def corners_of_masks(case: LossCase) -> dict[str, bool]:
    """Those of its masks, if it has any."""
    if case.masks is None:
        return {}
    predicted, wanted = case.masks.pred_masks.shape[3:], case.masks.size
    return {
        "images of several sizes": len(set(case.masks.sizes)) > 1,
        "masks made larger": predicted[0] < wanted[0] and predicted[1] < wanted[1],
        "masks made smaller": predicted[0] > wanted[0] and predicted[1] > wanted[1],
        "masks of one size": predicted == wanted,
        "empty object": not case.masks.gt_masks.any(axis=(1, 2)).all(),
    }


class Census:
    """What was seen: how often each corner, how many gradient entries were judged, how many left open."""

    def __init__(self) -> None:
        self.cases = 0
        self.uncertain = 0
        self.corners: Counter[str] = Counter()
        self.judged_entries = 0
        self.open_entries = 0

    def add(self, case: LossCase, expected: object) -> None:
        """Count one case that was compared."""
        self.cases += 1
        self.corners.update(corners_of(case))
        for loss in expected.values():
            for gradient in loss.gradients.values():
                is_open = np.isinf(gradient.magnitude)
                self.open_entries += int(is_open.sum())
                self.judged_entries += int((~is_open).sum())


def compare_all(judged: PortUnderTest, cases: int) -> Census:
    """Compare every loss and gradient of so many drawn cases."""
    census = Census()

    @settings(max_examples=cases)
    @given(loss_cases(WIDEST, Domain.of(judged)))
    def agree(case: LossCase) -> None:
        try:
            expected = judged.expected(case)
        except OutOfScope:
            census.uncertain += 1
            reject()
        returned = judged.loss(case)
        returned.assert_values(expected)
        returned.assert_gradients(expected)
        census.add(case, expected)

    agree()
    return census


def report(judged: PortUnderTest, census: Census, capsys: pytest.CaptureFixture[str]) -> None:
    """Print the figures, also when the test passes."""
    with capsys.disabled():
        print(  # noqa: T201  # the figures are what the run is for
            f"\n{judged.port.name}: {census.cases} cases agree, {census.uncertain} left out because rounding decides "
            f"their matching; largest share of a budget {judged.largest_share:.3f}; gradient entries: "
            f"{census.judged_entries} judged, {census.open_entries} left open at kinks"
        )
        print(  # noqa: T201
            "  " + ", ".join(f"{name}: {count}" for name, count in sorted(census.corners.items()))
        )


@pytest.mark.timeout(3600)  # thousands of cases take minutes
@pytest.mark.usefixtures("shapes_unchecked")  # hundreds of calls
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")  # of packages, at import
@pytest.mark.parametrize(
    ("package", "factory", "corners"),
    [
        ("ultralytics", "ultralytics:port", EVERYWHERE | BASE_ONLY),
        ("transformers", "transformers_rtdetr:port", EVERYWHERE),
        ("transformers", "transformers_detr:masks_port", MASKS),
        ("transformers", "transformers_dfine:port", EVERYWHERE | {"distributions"}),
        ("transformers", "transformers_dfine:deimv2_port", VOTED | {"distributions"}),
        ("lightly_train", "lightly_train:dfine_port", FOUR_LAYERS | {"distributions"}),
        ("rfdetr", "rfdetr:masks_port", POINTS),
        ("torch", "optimized:port", EVERYWHERE | BASE_ONLY),
        pytest.param("torch", "optimized_faces:dfine_port", EVERYWHERE | {"distributions"}, marks=pytest.mark.thorough),
    ],
    ids=[
        "ultralytics",
        "transformers",
        "transformers-masks",
        "transformers-dfine",
        "transformers-deimv2",
        "lightly-dfine",
        "rfdetr-masks",
        "optimized",
        "optimized-dfine",
    ],
)
def test_the_reference_agrees_with(
    package: str, factory: str, corners: set[str], cases: int, capsys: pytest.CaptureFixture[str]
) -> None:
    module, _, name = factory.partition(":")
    if find_spec(package) is None:  # some packages cannot be imported as a whole
        pytest.skip(f"needs the {package} package, which an environment of tox.ini has")
    judged = PortUnderTest(getattr(importlib.import_module(f"detr_conformance.ports.{module}"), name)())
    census = compare_all(judged, cases)
    report(judged, census, capsys)
    assert judged.largest_share <= 1.0
    assert census.open_entries < 0.05 * census.judged_entries
    assert not corners - set(census.corners)
