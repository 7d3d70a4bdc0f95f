"""DN: the losses of denoising queries, and their pairing with targets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties import oracle
from detr_conformance.properties.case import Denoising, LossCase
from detr_conformance.properties.divisors import denoising_divisor, divisor, term_of
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest, ReturnedLosses
from detr_conformance.properties.questions import adds_layers_up, divides_by_counts
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.staged import assert_layers_counted, marks, staged_denoising
from detr_conformance.properties.transforms import as_denoising, keep_first_group, repeat_first_group
from detr_conformance.reference import Loss, Tracked, linear_sum_assignment, track
from detr_conformance.reference.rounding import plain

ALWAYS = Request(layers=(2, 4), images=(1, 4), targets=(0, 4), denoising="always")
MAIN_KEYS = tuple(f"loss_{term}{part}" for term in ("class", "bbox", "giou") for part in ("", "_aux"))
DN_KEYS = tuple(f"{key}_dn" for key in MAIN_KEYS)
DINO = "Zhang et al., DINO, arXiv 2203.03605, section 3.3"


@rule("DN-01", source=DINO, request=ALWAYS)
def denoising_losses(port: PortUnderTest, case: LossCase) -> None:
    """The denoising losses are those of the positive slots with the targets they were made from, in every layer and
    without matching; negatives and padding are background. The normaliser is the profile's: by the base profile the
    number of pairs, the denoised targets times the number of groups, or of BCE the number of slots."""
    port.loss(case).assert_values(port.expected(case), DN_KEYS)


@rule(
    "DN-02",
    source="data-parallel training: the ranks must agree on the keys",
    request=replace(ALWAYS, denoising="never"),
    convention="denoising",
)
def no_denoising_queries(port: PortUnderTest, case: LossCase) -> None:
    """Without denoising queries every denoising loss that the profile has is exactly 0."""
    returned = port.loss(case)
    for key in DN_KEYS:
        value = float(returned.value(key))
        assert value == 0.0, f"{key} must be 0 without denoising queries, the port returned {value:.9g}"


@rule("DN-03", source=DINO, request=ALWAYS, needs={"denoising_indices"})
def pairs(port: PortUnderTest, case: LossCase) -> None:
    """Positive slot j of every group belongs to the j-th denoised target of the image, counted through the whole batch;
    an image without targets has no pair."""
    assert_paired(port, case)


@rule("DN-04", source="the two parts share nothing but the targets", request=replace(ALWAYS, layers=(1, 4)))
def parts_do_not_mix(port: PortUnderTest, case: LossCase) -> None:
    """The main and auxiliary losses do not depend on the denoising predictions, nor the denoising losses on the
    others."""
    denoising_of(case)
    expected, once = port.expected(case), port.loss(case)
    without = port.loss(case.change(denoising=None))
    for key in MAIN_KEYS:
        without.assert_alike(once, key, expected[key])
    others = case.change(pred_scores=-case.pred_scores, pred_bboxes=case.pred_bboxes[:, :, ::-1].copy())
    again = port.loss(others)
    for key in DN_KEYS:
        again.assert_alike(once, key, expected[key])


@rule(
    "DN-05",
    source=f"{DINO}; normaliser: pairs of all groups",
    request=ALWAYS,
    among=divides_by_counts,
)
def equal_groups_count_once(port: PortUnderTest, case: LossCase) -> None:
    """When all groups predict the same, the denoising losses are those of a single group, as far as the profile's
    normaliser counts groups: the base profile divides by the pairs of all groups, or without use_fl by the slots."""
    groups = denoising_of(case).num_group
    repeated = repeat_first_group(case)
    single = keep_first_group(repeated)
    expected, many, one = port.expected(repeated), port.loss(repeated), port.loss(single)
    for key in DN_KEYS:
        once, all_together = (denoising_divisor(each, port.spec, term_of(key)) for each in (single, repeated))
        many.assert_alike(one, key, expected[key], factor=groups * once / all_together)


@rule(
    "DN-06",
    source="Ultralytics get_cdn_group: an image with more targets than num_dn denoises some of them",
    request=replace(ALWAYS, targets=(2, 5)),
    needs={"denoising_subset"},
)
def some_targets_denoised(port: PortUnderTest, case: LossCase) -> None:
    """Where dn_gt_idx names some of an image's targets, the slots belong to those, and the others take no part."""
    if sum(map(len, denoising_of(case).gt_idx)) == case.targets:
        raise OutOfScope("all targets are denoised")
    port.loss(case).assert_values(port.expected(case), DN_KEYS)


@rule(
    "DN-09",
    source=f"{DINO}; auxiliary decoding losses: Carion et al., DETR, section 3.2",
    request=replace(ALWAYS, targets=(0, 3), queries=(3, 6), special=(), real=False),
    among=adds_layers_up,
)
def every_denoising_layer_counts_once(port: PortUnderTest, case: LossCase) -> None:
    """Every layer of denoising predictions uses the given pairs and counts once: the last one in the main denoising
    losses, each of the others in the auxiliary ones, none left out and none twice."""
    denoising = denoising_of(case)
    layers, pairs = len(denoising.bboxes), sum(map(len, denoising.pos_idx))
    marked = staged_denoising(case, marks(layers))
    expected, returned = port.expected(marked), port.loss(marked)
    gain = port.config(case).loss_gain["bbox"] * pairs / denoising_divisor(marked, port.spec, "bbox")
    for key, which in (("loss_bbox_dn", [layers - 1]), ("loss_bbox_aux_dn", list(range(layers - 1)))):
        assert_layers_counted(returned, key, which, gain, expected)


@rule(
    "DN-19",
    source="the losses of a pair do not depend on how it was found",
    request=replace(ALWAYS, layers=(2, 2), images=(1, 3), queries=(6, 8), targets=(0, 3), denoising="never"),
    needs={"denoising"},
    among=lambda spec: divides_by_counts(spec) and spec.layers.independent,
)
def same_pairs_same_losses(port: PortUnderTest, case: LossCase) -> None:
    """Denoising queries that predict what the ordinary ones do, and are paired as those are matched, have the same
    losses and the same gradients, but for the normaliser: nothing is differentiated through the matching."""
    if not 0 < 2 * max(case.gt_groups) <= case.queries:
        raise OutOfScope("a group has two slots for each target of the image that has most")
    number = port.spec.layers.denoising
    both = as_denoising(case, _matched_queries(port, case), 1 if number is None else number(case.layers))
    expected, returned = port.expected(both), port.loss(both)
    for key in ("loss_class", "loss_bbox", "loss_giou"):
        ordinary, dn = (of(both, port.spec, term_of(key)) for of in (divisor, denoising_divisor))
        returned.assert_multiple(f"{key}_dn", key, ordinary / dn, expected[key])
        for name in ("bboxes", "scores") if port.can("gradients") else ():
            _assert_same_gradient(returned, key, name, expected[key], ordinary / dn)


def denoising_of(case: LossCase) -> Denoising:
    """The case's denoising queries.

    Raises:
        OutOfScope: it has none, which is so of every batch without targets.
    """
    if case.denoising is None:
        raise OutOfScope("without targets there are no denoising queries")
    return case.denoising


def assert_paired(port: PortUnderTest, case: LossCase) -> None:
    """The pairs that the port makes of a case's denoising queries are those that its indices say."""
    __tracebackhide__ = True
    denoising = denoising_of(case)
    images = port.denoising_indices(case)
    assert len(images) == case.images, f"expected pairs for {case.images} images, the port returned {len(images)}"
    for image, (slots, targets) in enumerate(images):
        wanted = np.tile(denoising.gt_idx[image], denoising.num_group)
        assert len(slots) == len(targets), f"image {image}: {len(slots)} slots for {len(targets)} targets"
        came = sorted(zip(slots.tolist(), targets.tolist(), strict=True))
        right = sorted(zip(denoising.pos_idx[image].tolist(), wanted.tolist(), strict=True))
        assert came == right, f"image {image}: expected (slot, target) to be {right}, the port returned {came}"


def _assert_same_gradient(returned: ReturnedLosses, key: str, name: str, expected: Loss, factor: float) -> None:
    """The denoising loss has the gradient with respect to its last layer that the main loss has with respect to its
    own, times a factor."""
    __tracebackhide__ = True
    ordinary = returned.gradient(key, f"pred_{name}")
    bound = expected.gradients.get(f"pred_{name}", track(np.zeros(ordinary.shape))).magnitude
    wanted = Tracked(factor * ordinary[-1:], (1.0 + factor) * bound[-1:])
    what = f"gradient of {key}_dn with respect to dn_{name}"
    returned.judged.compare(what, returned.gradient(f"{key}_dn", f"dn_{name}")[-1:], wanted, returned.case.dtype)


def _matched_queries(port: PortUnderTest, case: LossCase) -> list[np.ndarray]:
    """For each image the query that the main layer matches with each target, in the order of the targets."""
    matched = []
    for cost in oracle.matching_costs(case, port.spec, inside_loss=True)[-1]:
        assignment = linear_sum_assignment(plain(cost))
        matched.append(assignment.rows[np.argsort(assignment.columns)])
    return matched
