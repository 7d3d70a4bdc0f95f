"""Lines about denoising queries that a port generated: as far as they do not depend on random numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detr_conformance.packets.lines import Line, entries, number, text
from detr_conformance.properties import answers
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules.generated import layout_of
from detr_conformance.reference.denoising import NEGATIVE, POSITIVE

ROUNDING = 2.0**-20
"""How far float32 moves a number of a box before its logit is taken."""


def group_lines(answer: object, case: LossCase, judged: PortUnderTest) -> list[Line]:
    """Everything in the group that has one right value or range, and sums of what has not."""
    wanted = case.targets > 0 and case.generator.training and case.generator.num_dn > 0
    try:
        group = answers.denoising_group(answer)
    except (TypeError, ValueError):
        return [text("type", "type of the answer", [], type(answer).__name__, "DenoisingGroup")]
    if group is None or not wanted:
        kind = "DenoisingGroup" if wanted else "NoneType"
        return [text("type", "type of the answer", [], type(answer).__name__, kind)]
    return list(GroupLines(group, case, judged).lines())


class GroupLines:
    """Denoising queries beside the slots that there have to be; see `detr_conformance.reference.get_cdn_group`.

    Args:
        group: what the port returned.
        case: the case that it was made for.
        judged: the port.
    """

    def __init__(self, group: DenoisingGroup, case: LossCase, judged: PortUnderTest) -> None:
        """Work out the sizes."""
        self.group = group
        self.case = case
        self.generator = judged.spec.denoising.generator
        self.layout = layout_of(case, judged.spec)

    def lines(self) -> Iterator[Line]:
        """Sizes; where those are right, slots, mask, labels and boxes."""
        sizes = list(self._sizes())
        yield from sizes
        if not any(line.off for line in sizes):
            for image in range(self.case.images):
                yield from self._indices(image)
            blocked = np.asarray(self.group.blocked, dtype=float)
            wanted = self.generator.mask(self.layout, self.case.queries).astype(float)
            yield from entries("blocked", [["blocked"]], blocked, wanted, 0.0)
            yield from self._contents()
        for name in ("labels", "boxes"):
            total = float(np.sum(getattr(self.group, name)))
            yield number(f"sum of {name}", [[name]], total, total, 0.0).recorded()

    def _sizes(self) -> Iterator[Line]:
        case, layout = self.case, self.layout
        every = layout.queries + case.queries
        shapes = {
            "labels": (case.images, layout.queries, case.config.nc),
            "boxes": (case.images, layout.queries, 4),
            "blocked": (every, every),
        }
        for name, shape in shapes.items():
            yield text("shape", f"shape of {name}", [name], np.shape(getattr(self.group, name)), shape)
        yield number("num_group", [["num_group"]], float(self.group.num_group), float(layout.groups), 0.0)
        yield text("list", "num_split", ["num_split"], list(self.group.num_split), [layout.queries, case.queries])

    def _indices(self, image: int) -> Iterator[Line]:
        count, own = len(self.layout.chosen[image]), self.case.of_image(image)
        wanted = self.layout.slots(image, POSITIVE).tolist()
        yield text("list", f"pos_idx of image {image}", ["pos_idx", image], _listed(self.group.pos_idx[image]), wanted)
        if self.group.gt_idx is not None and count == self.case.gt_groups[image]:
            named = _listed(self.group.gt_idx[image])
            yield text("list", f"gt_idx of image {image}", ["gt_idx", image], named, list(range(own.start, own.stop)))

    def _contents(self) -> Iterator[Line]:
        """Labels and boxes, with infinite allowance where chance decides."""
        case = self.case
        labels, boxes = np.zeros(np.shape(self.group.labels)), np.zeros(np.shape(self.group.boxes))
        eps = self.generator.logit_eps
        if not self.generator.padding_is_zero and case.generator.box_noise_scale:
            boxes[:] = np.log(eps / (1.0 - eps))
        of_labels, of_boxes = np.zeros(labels.shape), 1e-4 * np.abs(boxes)
        for image in range(case.images):
            for half in (POSITIVE, NEGATIVE):
                slots, sources = self._filled(image, half)
                labels[image, slots] = case.gt_cls[sources][:, None] == np.arange(case.config.nc)
                of_labels[image, slots] = np.inf if case.generator.cls_noise_ratio else 0.0
                boxes[image, slots], of_boxes[image, slots] = self._range(case.gt_bboxes[sources], half)
        yield from entries("labels", [["labels"]], np.asarray(self.group.labels), labels, of_labels)
        yield from entries("boxes", [["boxes"]], np.asarray(self.group.boxes), boxes, of_boxes)

    def _filled(self, image: int, half: int) -> tuple[np.ndarray, np.ndarray]:
        """The slots of an image, and the target of each."""
        own = np.arange(self.case.targets)[self.case.of_image(image)]
        count = len(self.layout.chosen[image])
        if len(own) > count:
            named = own if self.group.gt_idx is None else np.asarray(self.group.gt_idx[image])
            own = named if np.isin(named, own).all() and len(named) == count else own[:count]
        return self.layout.slots(image, half), np.tile(own, self.layout.groups)

    def _range(self, boxes: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
        """Middle and half width of where noise may take each number."""
        scale, eps = self.case.generator.box_noise_scale, self.generator.logit_eps
        if not scale:
            return boxes, np.zeros(boxes.shape)
        reach = (half + 1) * scale * boxes[:, 2:] / 2.0
        low, high = boxes[:, :2] - boxes[:, 2:] / 2.0, boxes[:, :2] + boxes[:, 2:] / 2.0
        ends = [np.clip(edge + sign * reach, 0.0, 1.0) for edge in (low, high) for sign in (-1.0, 1.0)]
        least = np.concatenate([(ends[0] + ends[2]) / 2.0, ends[2] - ends[1]], axis=1)
        most = np.concatenate([(ends[1] + ends[3]) / 2.0, ends[3] - ends[0]], axis=1)
        least, most = (_logit(each, eps) for each in (least - ROUNDING, most + ROUNDING))
        return (least + most) / 2.0, (most - least) / 2.0 + ROUNDING


def _logit(numbers: np.ndarray, eps: float) -> np.ndarray:
    inside = np.clip(numbers, eps, 1.0 - eps)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def _listed(indices: object) -> list[int]:
    return [int(each) for each in np.asarray(indices).reshape(-1)]
