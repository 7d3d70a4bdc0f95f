"""INV: changes of the input that must not change the loss, or change it in a known way."""

from __future__ import annotations

import itertools
from dataclasses import replace

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.divisors import divisor, is_mean, ordinary_keys, term_of
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest, ReturnedLosses
from detr_conformance.properties.questions import divides_by_counts
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.tolerance import PRECISIONS
from detr_conformance.properties.transforms import (
    images_of_one_size,
    mirror,
    reverse_queries,
    reverse_targets,
    rotate_classes,
    rotate_images,
    select_images,
    snap,
    transpose,
)
from detr_conformance.reference import Loss, Losses

ANY = Request(targets=(0, 4))
SET = "a loss over sets: Carion et al., DETR, arXiv 2005.12872, section 3.1"


@rule("INV-01", source=SET, request=replace(ANY, queries=(2, 8)))
def order_of_queries(port: PortUnderTest, case: LossCase) -> None:
    """The order of the queries does not matter."""
    _assert_unchanged(port, case, reverse_queries(case))


@rule("INV-02", source=SET, request=replace(ANY, targets=(0, 5)))
def order_of_targets(port: PortUnderTest, case: LossCase) -> None:
    """The order of the targets of an image does not matter."""
    _assert_unchanged(port, case, reverse_targets(case))


@rule("INV-03", source=SET, request=replace(ANY, images=(2, 5)))
def order_of_images(port: PortUnderTest, case: LossCase) -> None:
    """The order of the images does not matter, wherever the empty ones stand."""
    _assert_unchanged(port, case, rotate_images(case))


@rule("INV-04", source="every class is a binary problem of its own", request=replace(ANY, classes=(2, 5)))
def names_of_classes(port: PortUnderTest, case: LossCase) -> None:
    """Renaming the classes, in logits and targets alike, does not matter."""
    _assert_unchanged(port, case, rotate_classes(case))


@rule("INV-05", source="areas and distances do not know left from right", request=ANY)
def mirrored_image(port: PortUnderTest, case: LossCase) -> None:
    """Reflecting the image left to right does not matter."""
    straight = snap(case)
    _assert_unchanged(port, straight, mirror(straight))


@rule(
    "INV-06",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.1: normalised by the number of objects in the batch",
    request=replace(ANY, images=(2, 4), queries=(4, 8), targets=(1, 4), denoising="never"),
    among=lambda spec: divides_by_counts(spec) and spec.layers.independent,
)
def batch_is_the_mean_of_its_images(port: PortUnderTest, case: LossCase) -> None:
    """Where all images have a target, and enough queries, the loss of a batch is made of those of its images: each
    times what the profile divides the image by, their sum over what it divides the batch by."""
    if not all(0 < count <= case.queries for count in case.gt_groups):
        raise OutOfScope("an image without targets has a loss, but no weight; one with too many is not fully matched")
    case = images_of_one_size(case)  # of masks: an image's own padding is that of its batch
    expected, whole = port.expected(case), port.loss(case)
    images = [select_images(case, [image]) for image in range(case.images)]
    parts = [port.loss(image) for image in images]
    for key in itertools.chain(*ordinary_keys(expected)):
        if is_mean(port.spec, term_of(key)):  # over the queries of all images together
            continue
        whole_divisor, *divisors = (divisor(each, port.spec, term_of(key)) for each in (case, *images))
        weights = [each / whole_divisor for each in divisors]
        mean = sum(weight * float(part.value(key)) for weight, part in zip(weights, parts, strict=True))
        _assert_close(port, whole, key, mean, expected[key])


@rule("INV-09", source="areas and distances do not know across from down", request=ANY)
def transposed_image(port: PortUnderTest, case: LossCase) -> None:
    """Reflecting the image along its diagonal, so that x and y, width and height change places, does not matter."""
    straight = snap(case)
    _assert_unchanged(port, straight, transpose(straight))


def _assert_unchanged(port: PortUnderTest, case: LossCase, changed: LossCase) -> None:
    __tracebackhide__ = True
    expected, elsewhere = port.expected(case), port.expected(changed)
    once, again = port.loss(case), port.loss(changed)
    for key in expected:
        again.assert_alike(once, key, _less_certain(expected, elsewhere, key))


def _less_certain(first: Losses, second: Losses, key: str) -> Loss:
    """Of two expectations of the same loss the one with more rounding."""
    return max(first[key], second[key], key=lambda loss: loss.magnitude)


def _assert_close(port: PortUnderTest, returned: ReturnedLosses, key: str, wanted: float, expected: Loss) -> None:
    """Equal to a number that was made from the port's own answers for parts of the case."""
    __tracebackhide__ = True
    allowed = 2.0 * port.budget(expected, returned.case.dtype) + PRECISIONS[returned.case.dtype].smallest
    off = abs(float(returned.value(key)) - wanted)
    assert off <= allowed, (
        f"{key} of the whole batch is {float(returned.value(key)):.9g}, its images together give {wanted:.9g}; "
        f"off by {off:.3g}, {off / allowed:.3g} times what rounding in {returned.case.dtype} explains"
    )
    port.use(off / allowed)
