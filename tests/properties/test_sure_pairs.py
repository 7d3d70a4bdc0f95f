"""Cases whose pairs are sure: they are those that are said to be, under every spec, and none is trivial."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import modes, num_non_finite
from detr_conformance.properties.strategies import Domain
from detr_conformance.properties.sure_pairs import with_sure_pairs
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.reference.boxes import Guard, iou

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # dozens of cases under every spec

REQUEST = replace(num_non_finite.REQUEST, denoising="sometimes")


def sure_cases(spec, logit=modes.LOGIT, count=4):
    domain = Domain.of(PortUnderTest(ReferencePort(spec)))
    return [with_sure_pairs(case, logit) for case in islice(pool(REQUEST, domain, 0), count)]


@pytest.mark.parametrize("logit", [modes.LOGIT, num_non_finite.LOGIT])
@pytest.mark.parametrize("spec", FAMILY.values(), ids=FAMILY)
def test_query_t_answers_for_target_t(spec: LossSpec, logit: float) -> None:
    for case in sure_cases(spec, logit):
        for layer in ReferencePort(spec).match(case):
            for image, (queries, targets) in enumerate(layer):
                assert queries.tolist() == [*range(case.gt_groups[image])]
                assert targets.tolist() == [*range(case.targets)[case.of_image(image)]]


@pytest.mark.parametrize("spec", FAMILY.values(), ids=FAMILY)
def test_rounding_to_bfloat16_decides_nothing(spec: LossSpec) -> None:
    for case in sure_cases(spec):
        modes._require_certain_in_bfloat16(PortUnderTest(ReferencePort(spec)), case)


def test_matched_boxes_overlap_their_targets_in_part() -> None:
    for case in sure_cases(FAMILY["ultralytics"], count=12):
        for image, count in enumerate(case.gt_groups):
            wanted = case.gt_bboxes[case.of_image(image)]
            shares = np.asarray(iou(case.pred_bboxes[:, image, :count], wanted, Guard(0.0)))
            assert ((shares > 0.1) & (shares < 0.95)).all()


def test_every_format_holds_the_numbers() -> None:
    for case in sure_cases(FAMILY["ultralytics"]):
        assert [case.change(dtype=dtype).dtype for dtype in ("bfloat16", "float16")] == ["bfloat16", "float16"]


def test_columns_of_absent_classes_keep_their_logits() -> None:
    [case] = islice(pool(REQUEST, Domain.of(PortUnderTest(ReferencePort())), 0), 1)
    sure = with_sure_pairs(case, 1.0)
    assert np.allclose(sure.pred_scores[..., 2:], case.pred_scores[..., 2:], rtol=2.0**-8)
    assert set(np.unique(sure.pred_scores[..., :2])) == {-1.0, 1.0}
