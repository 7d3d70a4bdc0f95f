"""DN: the losses of denoising queries, and their pairing with targets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judged import Judged
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.transforms import keep_first_group, repeat_first_group

ALWAYS = Request(layers=(2, 4), images=(1, 4), targets=(0, 4), denoising="always")
MAIN_KEYS = tuple(f"loss_{term}{part}" for term in ("class", "bbox", "giou") for part in ("", "_aux"))
DN_KEYS = tuple(f"{key}_dn" for key in MAIN_KEYS)
DINO = "Zhang et al., DINO, arXiv 2203.03605, section 3.3"


@rule("DN-01", source=DINO, request=ALWAYS)
def denoising_losses(port: Judged, case: LossCase) -> None:
    """The denoising losses are those of the positive slots with the targets they were made from, in every layer and
    without matching; negatives and padding are background. The normaliser is the number of pairs: the denoised
    targets times the number of groups."""
    port.loss(case).assert_values(port.expected(case), DN_KEYS)


@rule(
    "DN-02",
    source="data-parallel training: the ranks must agree on the keys",
    request=replace(ALWAYS, denoising="never"),
)
def no_denoising_queries(port: Judged, case: LossCase) -> None:
    """Without denoising queries every denoising loss that the profile has is exactly 0."""
    returned = port.loss(case)
    for key in DN_KEYS:
        value = float(returned.value(key))
        assert value == 0.0, f"{key} must be 0 without denoising queries, the port returned {value:.9g}"


@rule("DN-03", source=DINO, request=ALWAYS, needs={"denoising_indices"})
def pairs(port: Judged, case: LossCase) -> None:
    """Positive slot j of every group belongs to the j-th denoised target of the image, counted through the whole batch;
    an image without targets has no pair."""
    if case.denoising is None:
        return
    images = port.denoising_indices(case)
    assert len(images) == case.images, f"expected pairs for {case.images} images, the port returned {len(images)}"
    for image, (slots, targets) in enumerate(images):
        wanted = np.tile(case.denoising.gt_idx[image], case.denoising.num_group)
        assert len(slots) == len(targets), f"image {image}: {len(slots)} slots for {len(targets)} targets"
        came = sorted(zip(slots.tolist(), targets.tolist(), strict=True))
        right = sorted(zip(case.denoising.pos_idx[image].tolist(), wanted.tolist(), strict=True))
        assert came == right, f"image {image}: expected (slot, target) to be {right}, the port returned {came}"


@rule("DN-04", source="the two parts share nothing but the targets", request=ALWAYS)
def parts_do_not_mix(port: Judged, case: LossCase) -> None:
    """The main and auxiliary losses do not depend on the denoising predictions, nor the denoising losses on the
    others."""
    if case.denoising is None:
        return
    expected, once = port.expected(case), port.loss(case)
    without = port.loss(case.change(denoising=None))
    for key in MAIN_KEYS:
        without.assert_alike(once, key, expected[key])
    others = case.change(pred_scores=-case.pred_scores, pred_bboxes=case.pred_bboxes[:, :, ::-1].copy())
    again = port.loss(others)
    for key in DN_KEYS:
        again.assert_alike(once, key, expected[key])


@rule("DN-05", source=f"{DINO}; normaliser: pairs of all groups", request=ALWAYS)
def equal_groups_count_once(port: Judged, case: LossCase) -> None:
    """When all groups predict the same, the denoising losses are those of a single group: box losses and focal losses
    are averages over the pairs, and without use_fl loss_class is one over the slots."""
    if case.denoising is None:
        return
    repeated = repeat_first_group(case)
    single = keep_first_group(repeated)
    expected, many, one = port.expected(repeated), port.loss(repeated), port.loss(single)
    for key in DN_KEYS:
        many.assert_alike(one, key, expected[key])


@rule(
    "DN-06",
    source="Ultralytics get_cdn_group: an image with more targets than num_dn denoises some of them",
    request=replace(ALWAYS, targets=(2, 5)),
    needs={"denoising_subset"},
)
def some_targets_denoised(port: Judged, case: LossCase) -> None:
    """Where dn_gt_idx names some of an image's targets, the slots belong to those, and the others take no part."""
    port.loss(case).assert_values(port.expected(case), DN_KEYS)
