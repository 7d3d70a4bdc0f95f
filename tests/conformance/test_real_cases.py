"""Cases on real targets: every image takes part, and the rules' requests are honoured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detr_conformance.coco import CocoTargets, read_targets
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judged import Judged
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.run import run
from detr_conformance.real_cases import real_cases

RULES_BY_ID = {rule.id: rule for rule in RULES}


@pytest.fixture(scope="module")
def targets() -> CocoTargets:
    return read_targets(Path(__file__).parents[1] / "targets" / "coco_sample.json")


def cases(rule: str, targets: CocoTargets, level: str = "standard") -> list[LossCase]:
    return list(real_cases(targets, RULES_BY_ID[rule], Judged(ReferencePort()), level))


def test_every_image_and_every_box_takes_part(targets: CocoTargets) -> None:
    counts = [count for case in cases("MATCH-01", targets) for count in case.gt_groups]
    assert (len(counts), sum(counts), counts.count(0), max(counts)) == (196, 1750, 2, 51)


def test_the_boxes_are_those_of_the_file(targets: CocoTargets) -> None:
    boxes = np.concatenate([case.gt_bboxes for case in cases("MATCH-01", targets)])
    wanted = np.concatenate([image.boxes for image in targets.images])
    assert np.array_equal(boxes, wanted.astype(np.float32))


def test_every_target_can_have_a_query(targets: CocoTargets) -> None:
    assert all(case.queries > max(case.gt_groups) for case in cases("MATCH-01", targets))


def test_a_rule_that_wants_targets_gets_no_empty_image(targets: CocoTargets) -> None:
    assert all(min(case.gt_groups) >= 1 for case in cases("INV-06", targets))


def test_a_rule_about_other_things_gets_no_case(targets: CocoTargets) -> None:
    assert cases("BOX-01", targets) == cases("CLASS-04", targets) == []


def test_the_same_file_gives_the_same_cases(targets: CocoTargets) -> None:
    once, again = (cases("DN-01", targets, "smoke") for _ in range(2))
    assert all(np.array_equal(a.pred_scores, b.pred_scores) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize("rule", ["CLASS-02", "DN-01", "INV-06", "MATCH-02", "REG-02"])
def test_the_reference_passes_on_real_targets(rule: str, targets: CocoTargets) -> None:
    given = cases(rule, targets, "smoke")
    outcome = run(RULES_BY_ID[rule], ReferencePort(), real_cases=given, generate=False)
    assert (outcome.verdict, outcome.examples) == ("pass", len(given))
