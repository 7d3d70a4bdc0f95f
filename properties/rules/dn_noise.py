"""DN: the noise that a generator puts on targets. Statistical rules accuse a correct generator with a probability below
1e-9 in a whole judgement (`FALSE_ALARM`)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import caps_targets, hides_groups, turns_right_side_out
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.dn_generator import DINO, DN_DETR, NEEDS, REQUEST
from detr_conformance.properties.rules.generated import Generated, generate
from detr_conformance.properties.tolerance import FALSE_ALARM
from detr_conformance.reference.classification import sigmoid
from detr_conformance.reference.denoising import NEGATIVE, POSITIVE

MANY = 400
"""Positives of an image, where a distribution is to be seen."""
BOX = np.array([0.5, 0.5, 0.25, 0.25])
"""So far from the border of the image that no noise reaches it."""
CALLS = 24
"""That all of so many calls pick the same one of four targets has a probability below `FALSE_ALARM`."""


@rule(
    "DN-14",
    source=f"{DN_DETR}, section 4, label flipping",
    request=replace(REQUEST, classes=(2, 5), targets=(1, 4), cheap=False),
    needs=NEEDS,
)
def label_noise(port: PortUnderTest, case: LossCase) -> None:
    """With probability cls_noise_ratio / 2 a label is replaced by a class drawn uniformly from all of them, so a share
    of cls_noise_ratio / 2 (1 - 1/C) changes. Judged by a binomial test."""
    for ratio in (1.0, 0.4):
        changed, slots = 0, 0
        for wanted, came in _labels(port, case, ratio):
            changed, slots = changed + int((came != wanted).sum()), slots + len(wanted)
        share = ratio / 2 * (1 - 1 / case.config.nc)
        assert _likelihood(changed, slots, share) >= FALSE_ALARM / 2, (
            f"with cls_noise_ratio {ratio} {changed} of {slots} labels were changed, expected a share of {share:.4f}"
        )


OF_ENDS = 0.1
"""What the logit of an end may be off by: float32 keeps 1 - 1e-6 to 6 percent of its distance from 1."""


@rule("DN-15", source=f"{DINO}, lambda_1 and lambda_2", request=REQUEST, needs=NEEDS)
def box_noise(port: PortUnderTest, case: LossCase) -> None:
    """Each edge of a positive moves by less than half the width or height times box_noise_scale, each edge of a
    negative by once to twice that, both clipped to the image; by some profiles a negative whose edges have crossed may
    be turned right side out. Boxes come as logits, by the inverse sigmoid of numbers that are clipped to
    [eps, 1 - eps] with the profile's eps, so that none lies beyond those of the ends."""
    # The default, which every recipe trains with, and another one.
    for scale in (1.0, 0.4):
        noisy = case.change(generator=replace(case.generator, box_noise_scale=scale))
        made = generate(port, noisy)
        for image in range(case.images):
            boxes = made.sources(image, noisy.gt_bboxes)
            for half in (POSITIVE, NEGATIVE):
                _assert_moved(port, noisy, image, half, boxes, made.boxes(image, half))


@rule(
    "DN-20",
    source=f"{DINO}: a positive and a negative query for each target in every group",
    request=replace(REQUEST, images=(1, 3), targets=(0, 3), cheap=False),
    needs=NEEDS,
    among=hides_groups,
)
def positives_and_negatives_in_pairs(port: PortUnderTest, case: LossCase) -> None:
    """Among the denoising queries that may see each other, every image has one positive and one negative query for each
    target that it contributes: as many of either, of the same classes."""
    made = generate(port, case.change(generator=replace(case.generator, cls_noise_ratio=0.0, num_dn=12)))
    seen = ~np.asarray(made.group.blocked)[: made.layout.queries, : made.layout.queries]
    for members in np.unique(seen & seen.T, axis=0):
        for image in range(case.images):
            positive = np.isin(np.arange(made.layout.queries), np.asarray(made.group.pos_idx[image]))
            labels = np.asarray(made.group.labels[image])
            wanted = np.bincount(case.gt_cls[made.targets(image)], minlength=case.config.nc)
            for kind, chosen in (("positive", members & positive), ("negative", members & ~positive)):
                came = labels[chosen].sum(axis=0)
                assert np.array_equal(came, wanted), (
                    f"image {image}: the group of query {int(members.argmax())} has {came.astype(int).tolist()} {kind} "
                    f"queries of each class, expected {wanted.tolist()}"
                )


@rule(
    "DN-21",
    source=f"{DINO}, lambda_1 and lambda_2; bound: Massart, doi 10.1214/aop/1176990746",
    request=replace(REQUEST, images=(1, 3), targets=(1, 3), cheap=False),
    needs=NEEDS,
)
def distribution_of_box_noise(port: PortUnderTest, case: LossCase) -> None:
    """The distances by which edges move are uniform, with independent signs that are as often plus as minus: in units
    of half the size, from 0 to 1 for positives, so that their edges are uniform from -1 to 1, and from 1 to 2 for
    negatives. Judged by the largest difference between the distribution functions (Dvoretzky, Kiefer, Wolfowitz)."""
    made = generate(port, _on_one_box(case, num_dn=MANY))
    edges, centres = _edges_and_centres(made, POSITIVE)
    _, of_negatives = _edges_and_centres(made, NEGATIVE)
    _assert_distributed("the edges of positives", edges, (np.clip(edges, -1.0, 1.0) + 1.0) / 2)
    _assert_distributed("the centres of positives", centres, _triangle(centres, 0.0, 1.0))
    # Both edges the same way, with probability 1/4 each, or towards or away from each other.
    outwards = 0.25 * (_triangle(of_negatives, -1.5, 0.5) + _triangle(of_negatives, 1.5, 0.5))
    _assert_distributed("the centres of negatives", of_negatives, outwards + 0.5 * _triangle(of_negatives, 0.0, 0.5))


@rule(
    "DN-22",
    source=f"{DN_DETR}, section 4, label flipping",
    request=replace(REQUEST, classes=(3, 5), targets=(1, 4), cheap=False),
    needs=NEEDS,
)
def replaced_labels_are_uniform(port: PortUnderTest, case: LossCase) -> None:
    """A label that is replaced becomes each of the other classes equally often. Judged by a binomial test for each
    pair of classes."""
    classes = case.config.nc
    counts = np.zeros((classes, classes), dtype=int)
    for wanted, came in _labels(port, case, 1.0):
        np.add.at(counts, (wanted, came), 1)
    changed = counts - np.diag(np.diag(counts))
    totals = changed.sum(axis=1)
    for own, other in zip(*np.where(~np.eye(classes, dtype=bool) & (totals > 0)[:, None]), strict=True):
        became, total = int(changed[own, other]), int(totals[own])
        assert _likelihood(became, total, 1 / (classes - 1)) >= FALSE_ALARM / classes**2, (
            f"of {total} labels of class {own} that were changed {became} became class {other}, "
            f"expected a share of {1 / (classes - 1):.4f}"
        )


@rule(
    "DN-23",
    source="Ultralytics get_cdn_group: an image with more targets than num_dn contributes a random subset",
    request=replace(REQUEST, images=(1, 1), targets=(4, 4), cheap=False, real=False),
    needs=NEEDS,
    among=caps_targets,
)
def subset_is_drawn_anew(port: PortUnderTest, case: LossCase) -> None:
    """Where the profile has a cap, the targets that an image with more than num_dn of them contributes are drawn anew
    in each call, and not always the same."""
    made = [generate(port, _on_one_box(case, num_dn=1, seed=call)) for call in range(CALLS)]
    seen = {tuple(each.targets(0).tolist()) for each in made}
    assert len(seen) > 1, f"{CALLS} calls all denoised the same of {case.gt_groups[0]} targets: {seen}"


@rule("DN-24", source=f"{DN_DETR}, section 4: every query has its own noise", request=REQUEST, needs=NEEDS)
def every_slot_has_its_own_noise(port: PortUnderTest, case: LossCase) -> None:
    """No two positives have the same noise, be it of one target in two groups, in two images, or in calls with two
    seeds."""
    boxes = []
    for seed in (case.generator.seed, case.generator.seed + 1):
        made = generate(port, _on_one_box(case, num_dn=6, seed=seed))
        boxes += [made.boxes(image, POSITIVE) for image in range(case.images)]
    rows = np.concatenate(boxes)
    different = len(np.unique(rows, axis=0))
    assert different == len(rows), (
        f"of {len(rows)} positives that were made from equal targets {different} are different"
    )


def _on_one_box(case: LossCase, num_dn: int, seed: int | None = None) -> LossCase:
    """The case with the same box for every target, far from the border, and the full noise."""
    seed = case.generator.seed if seed is None else seed
    generator = replace(case.generator, box_noise_scale=1.0, num_dn=num_dn, seed=seed)
    return case.change(gt_bboxes=np.tile(BOX, (case.targets, 1)), generator=generator)


def _labels(port: PortUnderTest, case: LossCase, ratio: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each image and half the classes of the targets, and the classes that came, slot by slot."""
    made = generate(port, case.change(generator=replace(case.generator, cls_noise_ratio=ratio, num_dn=MANY)))
    pairs = []
    for image in range(case.images):
        for half in (POSITIVE, NEGATIVE):
            rows = made.labels(image, half)
            assert (rows.sum(axis=1) == 1).all(), f"image {image}: a label is not the embedding of one class"
            pairs.append((made.sources(image, case.gt_cls), rows.argmax(axis=1)))
    return pairs


def _likelihood(hits: int, trials: int, share: float) -> float:
    """Twice the probability of so few hits or fewer, or of so many or more: the smaller tail of the binomial."""
    from scipy.special import bdtr, bdtrc  # noqa: PLC0415  # its import takes longer than that of the whole suite

    return 2.0 * min(float(bdtr(hits, trials, share)), float(bdtrc(hits - 1, trials, share)) if hits else 1.0)


def _edges_and_centres(made: Generated, half: int) -> tuple[np.ndarray, np.ndarray]:
    """How far edges and centres have moved, in units of half the size of `BOX`.

    Edges are known for positives alone: a negative's size may come out below 0, and is clipped then.
    """
    decoded = sigmoid(np.concatenate([made.boxes(image, half) for image in range(made.case.images)]))
    unit = BOX[2:] / 2
    centres = (decoded[:, :2] - BOX[:2]) / unit
    growth = (decoded[:, 2:] - BOX[2:]) / 2 / unit
    return np.concatenate([centres - growth, centres + growth]).ravel(), centres.ravel()


def _triangle(values: np.ndarray, centre: float, reach: float) -> np.ndarray:
    """The distribution function of the mean of two uniform numbers: a triangle around `centre`."""
    x = np.clip((values - centre) / reach, -1.0, 1.0)
    return np.where(x < 0, (1.0 + x) ** 2 / 2, 1.0 - (1.0 - x) ** 2 / 2)


def _assert_distributed(what: str, values: np.ndarray, probabilities: np.ndarray) -> None:
    """A sample that has this distribution, given as its function at the values.

    P(sup |F_n - F| > d) <= 2 exp(-2 n d^2), whatever the distribution.
    """
    __tracebackhide__ = True
    count, ordered = len(values), np.sort(probabilities)
    steps = np.arange(count + 1) / count
    apart = float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))
    allowed = math.sqrt(math.log(2.0 * 3.0 / FALSE_ALARM) / (2.0 * count))
    assert apart <= allowed, (
        f"{what} are distributed otherwise: of {count} the share below some distance is off by {apart:.3f}, "
        f"which chance explains up to {allowed:.3f}; they are {values.mean():.3f} on average, "
        f"from {values.min():.3f} to {values.max():.3f} half sizes"
    )


def _turned(came: np.ndarray, start: np.ndarray, scale: float, blur: float) -> np.ndarray:
    """Whether the edges of a negative may have changed places, from centre and size along one axis.

    Each is then where a legal move of the other one leads, or clipped to the image.
    """
    unit, legal = start[:, 1] / 2 * scale, np.ones(len(came), dtype=bool)
    for sign in (-1.0, 1.0):
        edge = came[:, 0] + sign * came[:, 1] / 2
        moved = np.abs(edge - (start[:, 0] - sign * start[:, 1] / 2))
        clipped = (edge <= blur) | (edge >= 1 - blur)
        legal &= clipped | ((moved >= unit - blur) & (moved <= 2 * unit + blur))
    return legal


def _assert_moved(
    port: PortUnderTest, case: LossCase, image: int, half: int, boxes: np.ndarray, logits: np.ndarray
) -> None:
    """Each edge of each box moved by a legal distance."""
    __tracebackhide__ = True
    eps = port.spec.denoising.generator.logit_eps
    end, furthest = math.log((1.0 - eps) / eps), float(np.abs(np.asarray(logits)).max(initial=0.0))
    assert furthest <= end + OF_ENDS, (
        f"image {image}: a logit of a box is {furthest:.4f} in magnitude, expected at most {end:.4f}, "
        f"that of {eps} and of 1 - {eps}"
    )
    decoded = sigmoid(np.asarray(logits, dtype=np.float64))
    size = boxes[:, 2:]
    may_turn = half == NEGATIVE and turns_right_side_out(port.spec)
    # What the clipping of the logit and float32 can hide.
    blur = 2.0 * eps + 1e-6
    for axis, name in enumerate("xy"):
        turned = may_turn & _turned(decoded[:, axis::2], boxes[:, axis::2], case.generator.box_noise_scale, blur)
        for sign, edge in ((-1, "lower"), (1, "upper")):
            came = decoded[:, axis] + sign * decoded[:, 2 + axis] / 2
            start = boxes[:, axis] + sign * size[:, axis] / 2
            unit = size[:, axis] / 2 * case.generator.box_noise_scale
            moved = np.abs(came - start)
            inside = (came > blur) & (came < 1 - blur)
            # A size that came out below 0 was clipped: its edges cannot be told from the logits.
            known = (decoded[:, 2 + axis] > 2 * eps) & ~turned
            too_far = known & (moved > (half + 1) * unit + blur) & inside
            too_near = known & (moved < half * unit - blur) & inside
            for row in np.flatnonzero(known & ((came < -blur) | (came > 1 + blur)))[:1]:
                raise AssertionError(
                    f"image {image}, {('positive', 'negative')[half]} {row}: the {edge} {name} edge is at "
                    f"{came[row]:.4g}, expected it to be clipped to the image, from 0 to 1"
                )
            for row in np.flatnonzero(too_far | too_near)[:1]:
                kind, legal = ("positive", "negative")[half], unit[row] * np.array([half, half + 1])
                raise AssertionError(
                    f"image {image}, {kind} {row}: the {edge} {name} edge moved by {moved[row]:.4g}, "
                    f"expected {legal[0]:.4g} to {legal[1]:.4g} for a box of size {size[row, axis]:.4g}"
                )
