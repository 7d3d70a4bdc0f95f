"""DN: the generator of denoising queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import bdtr, bdtrc, expit

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judged import Judged
from detr_conformance.properties.port import DenoisingGroup
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule

REQUEST = Request(
    layers=(2, 2), images=(1, 4), targets=(0, 4), denoising="never", special=("tiny", "border", "duplicate"), cheap=True
)
NEEDS = frozenset({"denoising_group"})
DINO = "Zhang et al., DINO, arXiv 2203.03605, section 3.3"
DN_DETR = "Li et al., DN-DETR, arXiv 2203.01305"
FALSE_ALARM = 1e-9
"""Probability that a statistical rule accuses a correct generator, for each case it looks at."""


@rule("DN-10", source=DINO, request=REQUEST, needs=NEEDS)
def arrangement(port: Judged, case: LossCase) -> None:
    """With M the largest number of targets that an image contributes there are K = max(num_dn // M, 1) groups of 2 M
    slots; a profile with a cap lets an image contribute at most num_dn targets."""
    group = _group(port, case)
    if group is None:
        return
    width, groups = _arrangement(port, case)
    slots = 2 * width * groups
    assert group.num_group == groups, f"dn_num_group is {group.num_group}, expected {groups}"
    assert list(group.num_split) == [slots, case.queries], (
        f"dn_num_split is {list(group.num_split)}, expected {[slots, case.queries]}"
    )


@rule("DN-11", source=DINO, request=REQUEST, needs=NEEDS)
def positive_slots(port: Judged, case: LossCase) -> None:
    """Every group holds M positive slots, then M negative ones; the j-th target of an image fills slot j of each half,
    so its positives are j + 2 M g in group g."""
    group = _group(port, case)
    if group is None:
        return
    width, groups = _arrangement(port, case)
    for image in range(case.images):
        contributed = len(_targets(port, case, group, image))
        wanted = [2 * width * g + j for g in range(groups) for j in range(contributed)]
        came = np.asarray(group.pos_idx[image]).reshape(-1).tolist()
        assert came == wanted, f"image {image}: positive slots are {came}, expected {wanted}"


@rule("DN-12", source=f"{DN_DETR}, section 4, attention mask", request=REQUEST, needs=NEEDS)
def attention_mask(port: Judged, case: LossCase) -> None:
    """Ordinary queries do not see denoising ones, a group does not see another group, and everything else is open."""
    group = _group(port, case)
    if group is None:
        return
    width, groups = _arrangement(port, case)
    slots = 2 * width * groups
    owner = np.full(slots + case.queries, -1)
    owner[:slots] = np.arange(slots) // (2 * width)
    blocked = np.asarray(group.blocked)
    wanted = (owner[:, None] != owner[None, :]) & (owner[None, :] >= 0)
    assert blocked.shape == wanted.shape, f"the attention mask has shape {blocked.shape}, expected {wanted.shape}"
    wrong = np.argwhere(blocked != wanted)
    assert not len(wrong), (
        f"query {wrong[0][0]} must {'not ' if wanted[tuple(wrong[0])] else ''}see query {wrong[0][1]}, "
        f"where the first {slots} are denoising queries in {groups} groups of {2 * width}"
    )


@rule("DN-13", source=f"{DN_DETR}, section 4, label flipping", request=REQUEST, needs=NEEDS)
def labels_without_noise(port: Judged, case: LossCase) -> None:
    """Without label noise every positive and every negative slot carries the class of its target, and padding slots
    carry zeros."""
    quiet = case.change(generator=replace(case.generator, cls_noise_ratio=0.0))
    group = _group(port, quiet)
    if group is None:
        return
    for image in range(case.images):
        classes = np.full(group.labels.shape[1], -1)
        for half in (0, 1):
            classes[_slots(port, quiet, group, image, half)] = _sources(port, quiet, group, image, quiet.gt_cls)
        wanted = classes[:, None] == np.arange(case.config.nc)
        wrong = np.argwhere(np.asarray(group.labels[image]) != wanted)
        assert not len(wrong), (
            f"image {image}, slot {wrong[0][0]}: the label is not that of class {classes[wrong[0][0]]} (-1 is padding)"
        )


@rule(
    "DN-14",
    source=f"{DN_DETR}, section 4, label flipping",
    request=replace(REQUEST, classes=(2, 5), targets=(1, 4)),
    needs=NEEDS,
)
def label_noise(port: Judged, case: LossCase) -> None:
    """With probability cls_noise_ratio / 2 a label is replaced by a class drawn uniformly from all of them, so a share
    of cls_noise_ratio / 2 (1 - 1/C) changes. Judged by a binomial test with an error probability of 1e-9."""
    noisy = case.change(generator=replace(case.generator, cls_noise_ratio=1.0, num_dn=400))
    group = _group(port, noisy)
    if group is None:
        return
    changed, slots = 0, 0
    for image in range(case.images):
        wanted = _sources(port, noisy, group, image, noisy.gt_cls)
        for half in (0, 1):
            rows = np.asarray(group.labels[image])[_slots(port, noisy, group, image, half)]
            assert (rows.sum(axis=1) == 1).all(), f"image {image}: a label is not the embedding of one class"
            changed, slots = changed + int((rows.argmax(axis=1) != wanted).sum()), slots + len(wanted)
    share = 0.5 * (1 - 1 / case.config.nc)
    # So few or fewer, so many or more: the two tails of the binomial distribution.
    likelihood = 2.0 * min(bdtr(changed, slots, share), bdtrc(changed - 1, slots, share) if changed else 1.0)
    assert likelihood >= FALSE_ALARM, f"{changed} of {slots} labels were changed, expected a share of {share:.4f}"


@rule("DN-15", source=f"{DINO}, lambda_1 and lambda_2", request=REQUEST, needs=NEEDS)
def box_noise(port: Judged, case: LossCase) -> None:
    """Each edge of a positive moves by less than half the width or height times box_noise_scale, each edge of a
    negative by once to twice that, both clipped to the image; boxes come as logits, by the inverse sigmoid."""
    noisy = case.change(generator=replace(case.generator, box_noise_scale=case.generator.box_noise_scale or 0.5))
    group = _group(port, noisy)
    if group is None:
        return
    for image in range(case.images):
        boxes = _sources(port, noisy, group, image, noisy.gt_bboxes)
        for half in (0, 1):
            logits = np.asarray(group.boxes[image])[_slots(port, noisy, group, image, half)]
            _assert_moved(port, noisy, image, half, boxes, logits)


@rule("DN-16", source="Ultralytics get_cdn_group, box_noise_scale=0", request=REQUEST, needs=NEEDS)
def boxes_without_noise(port: Judged, case: LossCase) -> None:
    """With box_noise_scale 0 the boxes of targets come back as they are, and not as logits."""
    quiet = case.change(generator=replace(case.generator, box_noise_scale=0.0))
    group = _group(port, quiet)
    if group is None:
        return
    for image in range(case.images):
        boxes = _sources(port, quiet, group, image, quiet.gt_bboxes)
        for half in (0, 1):
            came = np.asarray(group.boxes[image])[_slots(port, quiet, group, image, half)]
            assert np.array_equal(came, boxes), f"image {image}: boxes are {came.tolist()}, expected {boxes.tolist()}"


@rule("DN-17", source="Ultralytics get_cdn_group", request=REQUEST, needs=NEEDS)
def nothing_to_denoise(port: Judged, case: LossCase) -> None:
    """There are no denoising queries outside training, for num_dn 0, and in a batch without targets."""
    none = np.zeros(0, dtype=np.int64)
    empty = case.change(gt_cls=none, gt_bboxes=np.zeros((0, 4)), gt_groups=(0,) * case.images)
    situations = {
        "outside training": case.change(generator=replace(case.generator, training=False)),
        "for num_dn 0": case.change(generator=replace(case.generator, num_dn=0)),
        "in a batch without targets": empty,
    }
    for situation, same in situations.items():
        assert port.denoising_group(same) is None, f"the port made denoising queries {situation}"


@rule(
    "DN-18",
    source="what a decoder is given for slots that nothing fills",
    request=replace(REQUEST, images=(2, 4)),
    needs=NEEDS,
)
def padding(port: Judged, case: LossCase) -> None:
    """Boxes in padding slots are what the profile says: zeros, or the logits of an empty box."""
    noisy = case.change(generator=replace(case.generator, box_noise_scale=1.0))
    group = _group(port, noisy)
    if group is None:
        return
    eps = port.profile.denoising.logit_eps
    value = 0.0 if port.profile.denoising.padding_is_zero else float(np.log(eps / (1.0 - eps)))
    for image in range(case.images):
        filled = np.concatenate([_slots(port, noisy, group, image, half) for half in (0, 1)])
        boxes = np.delete(np.asarray(group.boxes[image]), filled, axis=0)
        off = float(np.abs(boxes - value).max(initial=0.0))
        assert off <= 1e-4 * abs(value), f"image {image}: a box in a padding slot is {off:.3g} away from {value:.6g}"


def _group(port: Judged, case: LossCase) -> DenoisingGroup | None:
    """Denoising queries of a batch that has targets; None, and nothing to check, where DN-17 expects none."""
    if not case.targets or not case.generator.training or case.generator.num_dn == 0:
        return None
    group = port.denoising_group(case)
    assert group is not None, "the port made no denoising queries for a batch with targets in training"
    _assert_sizes(port, case, group)
    return group


def _assert_sizes(port: Judged, case: LossCase, group: DenoisingGroup) -> None:
    """As many images, slots and numbers as there have to be: without these no other rule can be checked."""
    __tracebackhide__ = True
    width, groups = _arrangement(port, case)
    first = (case.images, 2 * width * groups)
    for name, array, last in (("labels", group.labels, case.config.nc), ("boxes", group.boxes, 4)):
        assert array.shape == (*first, last), (
            f"{name} have shape {array.shape}, expected {(*first, last)}: {groups} groups of 2 times {width} slots"
        )
    for name, indices in (("dn_pos_idx", group.pos_idx), ("dn_gt_idx", group.gt_idx)):
        assert indices is None or len(indices) == case.images, (
            f"{name} has {len(indices or ())} entries, expected one for each of the {case.images} images"
        )


def _arrangement(port: Judged, case: LossCase) -> tuple[int, int]:
    """M and K."""
    most = max(case.gt_groups)
    width = min(most, case.generator.num_dn) if port.profile.denoising.capped else most
    return width, max(case.generator.num_dn // width, 1)


def _targets(port: Judged, case: LossCase, group: DenoisingGroup, image: int) -> np.ndarray:
    """The targets that an image contributes, counted through the batch."""
    own = np.arange(case.targets)[case.of_image(image)]
    wanted = min(len(own), _arrangement(port, case)[0])
    if group.gt_idx is None:
        assert wanted == len(own), f"image {image}: no dn_gt_idx says which {wanted} of {len(own)} targets are denoised"
        return own
    named = np.asarray(group.gt_idx[image])
    legal = set(named.tolist()) <= set(own.tolist()) and len(named) == wanted and bool((np.diff(named) > 0).all())
    assert legal, f"image {image}: dn_gt_idx is {named.tolist()}, expected {wanted} of {own.tolist()}, ascending"
    return named


def _slots(port: Judged, case: LossCase, group: DenoisingGroup, image: int, half: int) -> np.ndarray:
    """The filled slots of an image's positives (half 0) or negatives (half 1), group after group."""
    width, groups = _arrangement(port, case)
    starts = 2 * width * np.arange(groups) + half * width
    return (starts[:, None] + np.arange(len(_targets(port, case, group, image)))).reshape(-1)


def _sources(port: Judged, case: LossCase, group: DenoisingGroup, image: int, of_targets: np.ndarray) -> np.ndarray:
    """What belongs to the target of each of these slots."""
    return np.concatenate([of_targets[_targets(port, case, group, image)]] * _arrangement(port, case)[1])


def _assert_moved(port: Judged, case: LossCase, image: int, half: int, boxes: np.ndarray, logits: np.ndarray) -> None:
    """Each edge of each box moved by a legal distance."""
    __tracebackhide__ = True
    eps = port.profile.denoising.logit_eps
    decoded = expit(np.asarray(logits, dtype=np.float64))
    size = boxes[:, 2:]
    # What the clipping of the logit and float32 can hide.
    blur = 2.0 * eps + 1e-6
    for axis, name in enumerate("xy"):
        for sign, edge in ((-1, "lower"), (1, "upper")):
            came = decoded[:, axis] + sign * decoded[:, 2 + axis] / 2
            start = boxes[:, axis] + sign * size[:, axis] / 2
            unit = size[:, axis] / 2 * case.generator.box_noise_scale
            moved = np.abs(came - start)
            inside = (came > blur) & (came < 1 - blur)
            # A size that came out below 0 was clipped: its edges cannot be told from the logits.
            known = decoded[:, 2 + axis] > 2 * eps
            too_far = known & (moved > (half + 1) * unit + blur) & inside
            too_near = known & (moved < half * unit - blur) & inside
            for row in np.flatnonzero(too_far | too_near)[:1]:
                kind, legal = ("positive", "negative")[half], unit[row] * np.array([half, half + 1])
                raise AssertionError(
                    f"image {image}, {kind} {row}: the {edge} {name} edge moved by {moved[row]:.4g}, "
                    f"expected {legal[0]:.4g} to {legal[1]:.4g} for a box of size {size[row, axis]:.4g}"
                )
