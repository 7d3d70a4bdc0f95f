"""What a generator of denoising queries made, slot by slot, as far as its sizes are right."""

from __future__ import annotations

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.reference import LossSpec
from detr_conformance.reference.denoising import Layout


def layout_of(case: LossCase, spec: LossSpec) -> Layout:
    """Where the denoising queries of a case with targets have to be; which targets are chosen is left to chance."""
    return spec.denoising.generator.arranged(case.gt_groups, case.generator.num_dn, np.random.default_rng(0))


def first_difference(one: DenoisingGroup | None, other: DenoisingGroup | None) -> str:
    """The first thing in which two groups differ; empty for none."""
    if one is None or other is None:
        return "" if one is other else "choices of when to make any"
    for name in ("num_group", "num_split", "labels", "boxes", "blocked"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            return name
    return ""


class Generated:
    """Denoising queries of a case, beside the layout that its spec gives them.

    Args:
        port: the port that made them.
        case: the case that they were made for.
        group: what the port returned.

    Raises:
        AssertionError: an array has not as many images, slots and numbers as it must. Without these no rule can be
            checked.
    """

    def __init__(self, port: PortUnderTest, case: LossCase, group: DenoisingGroup) -> None:
        """Check the sizes."""
        __tracebackhide__ = True
        self.case = case
        self.group = group
        self.layout = layout_of(case, port.spec)
        self._assert_sizes()

    def targets(self, image: int) -> np.ndarray:
        """The targets that an image contributes, counted through the batch."""
        own = np.arange(self.case.targets)[self.case.of_image(image)]
        wanted = len(self.layout.chosen[image])
        if self.group.gt_idx is None:
            assert wanted == len(own), (
                f"image {image}: no dn_gt_idx says which {wanted} of {len(own)} targets are denoised"
            )
            return own
        named = np.asarray(self.group.gt_idx[image])
        legal = set(named.tolist()) <= set(own.tolist()) and len(named) == wanted and bool((np.diff(named) > 0).all())
        assert legal, f"image {image}: dn_gt_idx is {named.tolist()}, expected {wanted} of {own.tolist()}, ascending"
        return named

    def slots(self, image: int, half: int) -> np.ndarray:
        """The filled slots of an image's positives or negatives, group after group."""
        return self.layout.slots(image, half)

    def sources(self, image: int, of_targets: np.ndarray) -> np.ndarray:
        """What belongs to the target of each of these slots."""
        return np.concatenate([of_targets[self.targets(image)]] * self.layout.groups)

    def boxes(self, image: int, half: int) -> np.ndarray:
        """The boxes of an image's positives or negatives, as the port returned them."""
        return np.asarray(self.group.boxes[image], dtype=np.float64)[self.slots(image, half)]

    def labels(self, image: int, half: int) -> np.ndarray:
        """The embedded labels of an image's positives or negatives."""
        return np.asarray(self.group.labels[image])[self.slots(image, half)]

    def _assert_sizes(self) -> None:
        __tracebackhide__ = True
        case, group, layout = self.case, self.group, self.layout
        first = (case.images, layout.queries)
        for name, array, last in (("labels", group.labels, case.config.nc), ("boxes", group.boxes, 4)):
            assert array.shape == (*first, last), (
                f"{name} have shape {array.shape}, expected {(*first, last)}: "
                f"{layout.groups} groups of 2 times {layout.width} slots"
            )
        every = layout.queries + case.queries
        assert group.blocked.shape == (every, every), (
            f"the attention mask has shape {group.blocked.shape}, expected {(every, every)}"
        )
        for name, indices in (("dn_pos_idx", group.pos_idx), ("dn_gt_idx", group.gt_idx)):
            assert indices is None or len(indices) == case.images, (
                f"{name} has {len(indices or ())} entries, expected one for each of the {case.images} images"
            )


def generate(port: PortUnderTest, case: LossCase) -> Generated:
    """Denoising queries of a batch that has targets.

    Raises:
        OutOfScope: there is nothing to denoise, and nothing to check: the rule DN-17 is about that.
        AssertionError: the port made none, or not as many as it must.
    """
    __tracebackhide__ = True
    if not case.targets or not case.generator.training or case.generator.num_dn == 0:
        raise OutOfScope("there is nothing to denoise")
    group = port.denoising_group(case)
    assert group is not None, "the port made no denoising queries for a batch with targets in training"
    return Generated(port, case, group)
