"""DN: how a generator arranges denoising queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import leaves_boxes
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.generated import generate
from detr_conformance.properties.transforms import without_targets
from detr_conformance.reference.denoising import NEGATIVE, POSITIVE

REQUEST = Request(
    layers=(2, 2), images=(1, 4), targets=(0, 4), denoising="never", special=("tiny", "border", "duplicate"), cheap=True
)
NEEDS = frozenset({"denoising_group"})
DINO = "Zhang et al., DINO, arXiv 2203.03605, section 3.3"
DN_DETR = "Li et al., DN-DETR, arXiv 2203.01305"


@rule("DN-10", source=DINO, request=REQUEST, needs=NEEDS)
def arrangement(port: PortUnderTest, case: LossCase) -> None:
    """With M the largest number of targets that an image contributes there are K groups of 2 M slots. The profile says
    how many targets an image contributes, num_dn at most by the base profile, and K: there max(num_dn // M, 1)."""
    made = generate(port, case)
    count, split = made.group.num_group, list(made.group.num_split)
    assert count == made.layout.groups, f"dn_num_group is {count}, expected {made.layout.groups}"
    wanted = [made.layout.queries, case.queries]
    assert split == wanted, f"dn_num_split is {split}, expected {wanted}"


@rule("DN-11", source=DINO, request=REQUEST, needs=NEEDS)
def positive_slots(port: PortUnderTest, case: LossCase) -> None:
    """Every group holds M positive slots, then M negative ones; the j-th target of an image fills slot j of each half,
    so its positives are j + 2 M g in group g."""
    made = generate(port, case)
    for image in range(case.images):
        wanted = made.slots(image, POSITIVE).tolist()
        came = np.asarray(made.group.pos_idx[image]).reshape(-1).tolist()
        assert came == wanted, f"image {image}: positive slots are {came}, expected {wanted}"


@rule("DN-12", source=f"{DN_DETR}, section 4, attention mask", request=REQUEST, needs=NEEDS)
def attention_mask(port: PortUnderTest, case: LossCase) -> None:
    """The attention mask is the profile's: ordinary queries do not see denoising ones, a group does not see another
    group, and everything else is open."""
    made = generate(port, case)
    layout, blocked = made.layout, np.asarray(made.group.blocked)
    wanted = port.spec.denoising.generator.mask(layout, case.queries)
    wrong = np.argwhere(blocked != wanted)
    assert not len(wrong), (
        f"query {wrong[0][0]} must {'not ' if wanted[tuple(wrong[0])] else ''}see query {wrong[0][1]}, "
        f"where the first {layout.queries} are denoising queries in {layout.groups} groups of {2 * layout.width}"
    )


@rule("DN-13", source=f"{DN_DETR}, section 4, label flipping", request=REQUEST, needs=NEEDS)
def labels_without_noise(port: PortUnderTest, case: LossCase) -> None:
    """Without label noise every positive and every negative slot carries the class of its target, and padding slots
    carry zeros."""
    quiet = case.change(generator=replace(case.generator, cls_noise_ratio=0.0))
    made = generate(port, quiet)
    for image in range(case.images):
        classes = np.full(made.layout.queries, -1)
        for half in (POSITIVE, NEGATIVE):
            classes[made.slots(image, half)] = made.sources(image, quiet.gt_cls)
        wanted = classes[:, None] == np.arange(case.config.nc)
        wrong = np.argwhere(np.asarray(made.group.labels[image]) != wanted)
        assert not len(wrong), (
            f"image {image}, slot {wrong[0][0]}: the label is not that of class {classes[wrong[0][0]]} (-1 is padding)"
        )


@rule("DN-16", source="Ultralytics get_cdn_group, box_noise_scale=0", request=REQUEST, needs=NEEDS, among=leaves_boxes)
def boxes_without_noise(port: PortUnderTest, case: LossCase) -> None:
    """With box_noise_scale 0 the boxes of targets come back as they are, and not as logits."""
    quiet = case.change(generator=replace(case.generator, box_noise_scale=0.0))
    made = generate(port, quiet)
    for image in range(case.images):
        boxes = made.sources(image, quiet.gt_bboxes)
        for half in (POSITIVE, NEGATIVE):
            came = made.boxes(image, half)
            assert np.array_equal(came, boxes), f"image {image}: boxes are {came.tolist()}, expected {boxes.tolist()}"


@rule("DN-17", source="Ultralytics get_cdn_group", request=REQUEST, needs=NEEDS)
def nothing_to_denoise(port: PortUnderTest, case: LossCase) -> None:
    """There are no denoising queries outside training, for num_dn 0, and in a batch without targets, where a profile
    may allow one dummy query for each image instead."""
    situations = {
        "outside training": case.change(generator=replace(case.generator, training=False)),
        "for num_dn 0": case.change(generator=replace(case.generator, num_dn=0)),
    }
    for situation, same in situations.items():
        assert port.denoising_group(same) is None, f"the port made denoising queries {situation}"
    group, allowed = port.denoising_group(without_targets(case)), port.spec.denoising.generator.without_targets
    if group is not None:
        assert "dummy" in allowed, "the port made denoising queries in a batch without targets"
        assert not any(map(len, group.pos_idx)), "a dummy query belongs to no target"


@rule(
    "DN-18",
    source="what a decoder is given for slots that nothing fills",
    request=replace(REQUEST, images=(2, 4)),
    needs=NEEDS,
)
def padding(port: PortUnderTest, case: LossCase) -> None:
    """Boxes in padding slots are what the profile says: zeros, or the logits of an empty box."""
    noisy = case.change(generator=replace(case.generator, box_noise_scale=1.0))
    made = generate(port, noisy)
    eps = port.spec.denoising.generator.logit_eps
    value = 0.0 if port.spec.denoising.generator.padding_is_zero else float(np.log(eps / (1.0 - eps)))
    for image in range(case.images):
        filled = np.concatenate([made.slots(image, half) for half in (POSITIVE, NEGATIVE)])
        boxes = np.delete(np.asarray(made.group.boxes[image]), filled, axis=0)
        off = float(np.abs(boxes - value).max(initial=0.0))
        assert off <= 1e-4 * abs(value), f"image {image}: a box in a padding slot is {off:.3g} away from {value:.6g}"


@rule(
    "DN-27",
    source=f"{DN_DETR}, section 4, label embedding: it is learned",
    request=replace(REQUEST, cheap=False),
    needs=NEEDS | {"embedding_gradient"},
)
def gradient_of_the_embedding(port: PortUnderTest, case: LossCase) -> None:
    """Every denoising query passes its gradient on to the embedding of its class, positives, negatives and replaced
    labels alike: nothing else trains that embedding."""
    made = generate(port, case)
    gradient, size = made.group.embedding_gradient, (case.config.nc,) * 2
    assert gradient is not None, "embedding_gradient is None, although the port declares it"
    assert gradient.shape == size, f"the gradient of the embedding has shape {gradient.shape}, expected {size}"
    wanted = np.asarray(made.group.labels).sum(axis=(0, 1))
    wrong = np.argwhere(gradient != wanted[:, None])
    assert not len(wrong), (
        f"the embedding of class {wrong[0][0]} gets the gradient {gradient[tuple(wrong[0])]:.9g} where each of its "
        f"queries has a gradient of 1, expected {wanted[wrong[0][0]]:.9g}, one for each query of that class"
    )
