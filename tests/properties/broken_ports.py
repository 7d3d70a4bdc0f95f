"""For every rule a port that breaks it: the reference with one thing wrong, or an entry of the bug museum."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detr_conformance.deviations import MUSEUM
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase, MatcherConfig
from detr_conformance.properties.port import DenoisingGroup, LossResult, Matching
from detr_conformance.properties.profiles import ULTRALYTICS, RTDETRConventionLoss
from detr_conformance.properties.tolerance import rounded
from detr_conformance.properties.transforms import select_images
from detr_conformance.reference import HungarianMatcher, RTDETRDetectionLoss, bbox_iou, track
from detr_conformance.reference.classification import sigmoid

from .altered_ports import (
    MAIN,
    Altered,
    Generator,
    Losses,
    OtherMatching,
    WrongSlopes,
    asked_otherwise,
    matcher_with,
    matches_otherwise,
    more_gain,
    plus,
    times,
    with_matcher,
)


class Greedy(HungarianMatcher):
    """Every target in turn takes the cheapest query that is left."""

    def assign(self, cost: np.ndarray) -> Matching:
        left, chosen = np.array(cost, dtype=np.float64), []
        for target in range(min(cost.shape)):
            chosen.append(int(left[:, target].argmin()))
            left[chosen[-1]] = np.inf
        return np.array(chosen, dtype=np.int64), np.arange(len(chosen))


class DearWhereBroken(HungarianMatcher):
    """What is not finite costs more than anything."""

    def replace_non_finite(self, cost: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(cost), cost, 1e6)


class DividedByTargets(RTDETRDetectionLoss):
    """Cross-entropy is divided by the number of targets."""

    def _get_loss_class(self, pred_scores: Any, targets: Any, gt_scores: Any, num_gts: int, postfix: str = "") -> Any:
        losses = super()._get_loss_class(pred_scores, targets, gt_scores, num_gts, postfix)
        if self.use_fl:
            return losses
        return {key: loss * (pred_scores.shape[1] / max(num_gts, 1)) for key, loss in losses.items()}


class Remembering(ReferencePort):
    """A loss object that grows with every call, or that keeps a rounded alpha."""

    def __init__(self, later: Callable[[LossCase, LossCase], LossCase], growth: float = 0.0) -> None:
        super().__init__("remembering")
        self.later = later
        self.growth = growth

    def losses_in_turn(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        results = [
            self.loss(self.later(earlier, case)) for earlier, case in zip([cases[0], *cases], cases, strict=False)
        ]
        return [
            replace(each, losses={key: loss * (1 + self.growth * call) for key, loss in each.losses.items()})
            for call, each in enumerate(results)
        ]


def half_alpha(earlier: LossCase, case: LossCase) -> LossCase:
    if earlier.dtype != "bfloat16":
        return case
    return case.change(alpha=float(rounded(np.array(case.config.alpha), "bfloat16")))


def logits_of(boxes: np.ndarray) -> np.ndarray:
    inside = np.clip(boxes, 1e-6, 1 - 1e-6)
    return np.log(inside / (1 - inside))


def without_giou(losses: Losses, _case: LossCase) -> Losses:
    return {key: loss for key, loss in losses.items() if "giou" not in key}


def in_single_precision(losses: Losses, _case: LossCase) -> Losses:
    return {key: np.float64(np.float32(loss)) for key, loss in losses.items()}


def hidden(losses: Losses, _case: LossCase) -> Losses:
    return {key: np.nan_to_num(loss, posinf=0.0) for key, loss in losses.items()}


def shared_by_layer_0(case: LossCase) -> LossCase:
    return case.change(uni_match_ind=0)


def each_image_for_itself(losses: Losses, case: LossCase) -> Losses:
    return {key: loss * case.targets / (max(case.gt_groups) * case.images or 1) for key, loss in losses.items()}


def groups_not_counted(losses: Losses, case: LossCase) -> Losses:
    count = 1 if case.denoising is None else case.denoising.num_group
    return {key: loss * (count if key.endswith("_dn") else 1) for key, loss in losses.items()}


def first_targets_denoised(case: LossCase) -> LossCase:
    if case.denoising is None:
        return case
    first = [np.arange(len(own)) + case.of_image(image).start for image, own in enumerate(case.denoising.gt_idx)]
    return case.change(denoising=replace(case.denoising, gt_idx=tuple(first)))


def main_from_first_layer(losses: Losses, case: LossCase) -> Losses:
    first = case.change(pred_bboxes=case.pred_bboxes[:1], pred_scores=case.pred_scores[:1], use_uni_match=False)
    ours = oracle.expected_losses(first, ULTRALYTICS)
    return losses | {key: np.asarray(float(ours[key])) for key in MAIN}


def weighted_layers(losses: Losses, case: LossCase) -> Losses:
    return losses | {"loss_bbox_aux": losses["loss_bbox_aux"] + case.pred_bboxes[0].sum()}


class BareUnion(RTDETRDetectionLoss):
    """Nothing is added to the union or the hull."""

    iou_eps = 0.0


def _denoising(case: LossCase) -> float:
    return 0.0 if case.denoising is None else float(case.denoising.scores[-1, 0, 0, 0])


def _rolled(case: LossCase) -> LossCase:
    return case.change(pred_bboxes=np.roll(case.pred_bboxes, 1, axis=1))


def _of(name: str) -> ReferencePort:
    return next(each for each in MUSEUM if each.id == name).port()


def _half_dtypes(port: ReferencePort) -> ReferencePort:
    class Halved(ReferencePort):
        def loss(self, case: LossCase) -> LossResult:
            return replace(port.loss(case), dtypes={"loss_class": "float32", "loss_bbox": "float16"})

    return Halved("halved")


class GIoUScores(RTDETRDetectionLoss):
    """The target score is GIoU instead of IoU."""

    def _target_scores(self, pred_bboxes: np.ndarray, gt_bboxes: np.ndarray) -> np.ndarray:
        return bbox_iou(track(pred_bboxes), track(gt_bboxes), GIoU=True)[..., 0]


class HalfPrecisionCosts(HungarianMatcher):
    """The class cost is computed in float16, where a sigmoid becomes 0 or 1 and 1e-8 is nothing."""

    def focal_class_cost(self, logits: np.ndarray, gt_cls: np.ndarray) -> np.ndarray:
        p = sigmoid(np.asarray(logits[:, gt_cls])).astype(np.float16)
        positive = self.alpha * (1 - p) ** self.gamma * -np.log(p)
        negative = (1 - self.alpha) * p**self.gamma * -np.log(1 - p)
        return (positive - negative).astype(np.float64)


class OtherIndices(ReferencePort):
    """The reference, with the pairing of another case."""

    def denoising_indices(self, case: LossCase) -> Sequence[Matching]:
        return super().denoising_indices(first_targets_denoised(case))


class Growing(ReferencePort):
    """Every call returns a little more than the one before."""

    calls = 0

    def loss(self, case: LossCase) -> LossResult:
        self.calls += 1
        result = super().loss(case)
        return replace(result, losses={key: loss * (1 + 0.01 * self.calls) for key, loss in result.losses.items()})


class Racing(ReferencePort):
    """Keeps the case where another thread can change it."""

    def loss(self, case: LossCase) -> LossResult:
        self.case = case
        time.sleep(0.005)
        return super().loss(self.case)


class Drawing(ReferencePort):
    """Draws from NumPy's global random generator."""

    def loss(self, case: LossCase) -> LossResult:
        np.random.random()  # noqa: NPY002  # what it is there for
        return super().loss(case)


def last_class_lost(group: DenoisingGroup, _case: LossCase) -> DenoisingGroup:
    labels = group.labels.copy()
    labels[..., 0] += labels[..., -1]
    labels[..., -1] = 0
    return replace(group, labels=labels)


def without_empty_images(case: LossCase) -> LossCase:
    kept = [image for image, count in enumerate(case.gt_groups) if count]
    return select_images(case, kept) if kept else case


def in_half_precision(case: LossCase) -> LossCase:
    arrays = (case.pred_bboxes, case.pred_scores)
    return case.change(
        **dict(zip(("pred_bboxes", "pred_scores"), (rounded(a, "float16") for a in arrays), strict=True))
    )


def centres_inside(case: LossCase) -> LossCase:
    boxes = case.pred_bboxes.copy()
    boxes[..., :2] = np.clip(boxes[..., :2], 0.125, 0.875)
    return case.change(pred_bboxes=boxes)


def perfect_is_missing(losses: Losses, _case: LossCase) -> Losses:
    return {key: loss for key, loss in losses.items() if loss != 0 or key != "loss_bbox"}


def mean_of_layers(losses: Losses, case: LossCase) -> Losses:
    return {key: loss / (max(case.layers - 1, 1) if "aux" in key else 1) for key, loss in losses.items()}


def only_large_ones_wrong(losses: Losses, case: LossCase) -> Losses:
    return {key: loss * (1.001 if case.queries >= 100 else 1.0) for key, loss in losses.items()}


def copies_left_out(losses: Losses, case: LossCase) -> Losses:
    kinds = len(np.unique(case.pred_scores[-1, 0], axis=0))
    return losses | {"loss_class": losses["loss_class"] * kinds / case.queries}


class Mutating(ReferencePort):
    def loss(self, case: LossCase) -> LossResult:
        return replace(super().loss(case), mutated=["pred_scores"])


BROKEN: dict[str, ReferencePort] = {
    "BOX-01": _of("khub-ciou-for-giou"),
    "BOX-02": plus(lambda case: case.pred_bboxes[-1, 0, 0, 2], "loss_giou"),
    "BOX-03": plus(lambda case: case.pred_bboxes[-1, 0, 0, 0], "loss_giou"),
    "BOX-04": times(-1.0, "loss_giou"),
    "BOX-05": ReferencePort("bare union", BareUnion),
    "BOX-06": plus(lambda case: case.pred_bboxes[-1, 0, 0, 2], "loss_giou"),
    "BOX-07": _of("netspresso-l1-on-corner-boxes"),
    "BOX-08": _of("khub-ciou-for-giou"),
    "BOX-09": Altered(
        lambda losses, case: losses | {"loss_giou": np.minimum(losses["loss_giou"], case.config.loss_gain["giou"])}
    ),
    "BOX-10": times(0.5, "loss_giou"),
    "BOX-11": ReferencePort("bare union", BareUnion),
    "MATCH-01": OtherMatching(lambda queries, targets, _case: (queries * 0, targets)),
    "MATCH-02": with_matcher(Greedy),
    "MATCH-03": OtherMatching(lambda queries, targets, _case: (queries, targets[::-1])),
    "MATCH-04": with_matcher(Greedy),
    "MATCH-05": matches_otherwise(lambda case: case.change(matcher=MatcherConfig())),
    "MATCH-06": matches_otherwise(_rolled),
    "MATCH-07": with_matcher(DearWhereBroken),
    "MATCH-08": OtherMatching(lambda queries, targets, _case: (queries, targets - min(targets.tolist(), default=0))),
    "MATCH-09": matcher_with(cost_gain=more_gain("bbox", 1.001)),
    "MATCH-10": matcher_with(cost_gain=more_gain("giou", 1.001)),
    "MATCH-11": matches_otherwise(in_half_precision),
    "MATCH-12": Altered(copies_left_out),
    "MATCH-13": with_matcher(Greedy),
    "MATCH-14": with_matcher(HalfPrecisionCosts),
    "MATCH-15": _of("mmdet-force-fp32-wrong-names"),
    "MATCH-16": _of("detr-cost-without-iou-eps"),
    "MATCH-17": _of("plausible-loss-kind-in-matcher"),
    "CLASS-01": asked_otherwise(lambda case: case.change(alpha=1.0 - case.config.alpha)),
    "CLASS-02": _of("paddle-vfl-dangling-else"),
    "CLASS-03": ReferencePort("divided by targets", DividedByTargets),
    "CLASS-04": ReferencePort("varifocal without targets", RTDETRConventionLoss),
    "CLASS-05": asked_otherwise(lambda case: case.change(loss_gain=case.config.loss_gain | {"class": 1.0})),
    "CLASS-06": WrongSlopes(lambda key, name, slope: slope + ("class" in key and "bboxes" in name)),
    "CLASS-07": asked_otherwise(lambda case: case.change(alpha=1.0 - case.config.alpha)),
    "CLASS-08": _of("paddle-vfl-dangling-else"),
    "CLASS-09": asked_otherwise(lambda case: case.change(use_fl=True)),
    "CLASS-10": asked_otherwise(lambda case: case.change(alpha=case.config.alpha**2)),
    "CLASS-11": ReferencePort("GIoU as score", GIoUScores),
    "CLASS-12": asked_otherwise(without_empty_images),
    "REG-01": _of("netspresso-l1-on-corner-boxes"),
    "REG-02": _of("khub-ciou-for-giou"),
    "REG-03": plus(lambda _case: 1e-12, "loss_bbox"),
    "REG-04": Altered(lambda losses, case: {key: loss * 0.9 for key, loss in losses.items() if case.queries < 3}),
    "REG-05": asked_otherwise(lambda case: case.change(loss_gain=case.config.loss_gain | {"giou": 2.0})),
    "REG-06": _of("netspresso-l1-on-corner-boxes"),
    "REG-07": Altered(each_image_for_itself),
    "AUX-01": _of("hf-aux-sliced-twice"),
    "AUX-02": Altered(weighted_layers),
    "AUX-03": Altered(main_from_first_layer),
    "AUX-04": plus(lambda _case: 1.0, "loss_class_aux"),
    "AUX-05": asked_otherwise(lambda case: case.change(aux_loss=True)),
    "AUX-06": asked_otherwise(shared_by_layer_0),
    "AUX-07": _of("hf-aux-sliced-twice"),
    "AUX-08": asked_otherwise(lambda case: case.change(use_uni_match=True, uni_match_ind=0)),
    "DN-01": Altered(groups_not_counted),
    "DN-02": plus(lambda _case: 1e-9, "loss_class_dn"),
    "DN-03": _of("khub-dn-rows-columns-swapped"),
    "DN-04": plus(_denoising, "loss_class"),
    "DN-05": Altered(groups_not_counted),
    "DN-06": asked_otherwise(first_targets_denoised),
    "DN-07": _of("khub-dn-rows-columns-swapped"),
    "DN-08": OtherIndices("other indices"),
    "DN-09": times(0.5, "loss_bbox_aux_dn"),
    "DN-10": Generator(lambda group, _case: replace(group, num_group=group.num_group + 1)),
    "DN-11": _of("ul-cdn-pos-neg-unpaired"),
    "DN-12": Generator(lambda group, _case: replace(group, blocked=~group.blocked)),
    "DN-13": Generator(cls_noise_ratio=1.0),
    "DN-14": Generator(cls_noise_ratio=0.0),
    "DN-15": Generator(lambda group, _case: replace(group, boxes=-group.boxes)),
    "DN-16": Generator(lambda group, _case: replace(group, boxes=logits_of(group.boxes))),
    "DN-17": Generator(training=True),
    "DN-18": Generator(lambda group, _case: replace(group, boxes=group.boxes + (group.boxes == 0) * 1e-6)),
    "DN-19": times(2.0, "loss_class_dn"),
    "DN-20": _of("ul-cdn-pos-neg-unpaired"),
    "DN-21": Generator(box_noise_scale=0.5),
    "DN-22": Generator(last_class_lost),
    "DN-23": Generator(seed=0),
    "DN-24": Generator(seed=0),
    "DN-25": _of("plausible-noise-without-seed"),
    "DN-26": _of("ul-inverse-sigmoid-double-eps"),
    "INV-01": plus(lambda case: case.pred_scores[-1, 0, 0].sum()),
    "INV-02": plus(lambda case: sum(case.gt_bboxes[case.of_image(image)][:1].sum() for image in range(case.images))),
    "INV-03": _of("khub-missing-target-offset"),
    "INV-04": plus(lambda case: case.pred_scores[-1, ..., 0].sum()),
    "INV-05": plus(lambda case: case.pred_bboxes[-1, ..., 0].sum()),
    "INV-06": Altered(each_image_for_itself),
    "INV-07": Altered(mean_of_layers),
    "INV-08": plus(lambda case: 0.01 * case.queries),
    "INV-09": plus(lambda case: case.pred_bboxes[-1, ..., 0].sum()),
    "INV-10": asked_otherwise(
        lambda case: case.change(loss_gain={term: max(gain, 0.125) for term, gain in case.config.loss_gain.items()})
    ),
    "INV-11": plus(lambda case: 0.01 * case.images),
    "GRAD-01": WrongSlopes(lambda key, _name, slope: slope * (1.001 if "class" in key else 1.0)),
    "GRAD-02": WrongSlopes(lambda key, _name, slope: slope * (0.0 if "bbox" in key else 1.0)),
    "GRAD-03": _of("hf-lwdetr-enc-coords-detached"),
    "GRAD-04": WrongSlopes(lambda key, name, slope: slope + 1e-9 * ("giou" in key and "scores" in name)),
    "GRAD-05": WrongSlopes(lambda _key, _name, slope: slope + np.where(slope == 0, np.nan, 0.0)),
    "GRAD-06": WrongSlopes(lambda key, _name, slope: slope * (0.0 if "class" in key else 1.0)),
    "GRAD-07": WrongSlopes(lambda _key, _name, slope: -slope),
    "GRAD-08": WrongSlopes(lambda _key, _name, slope: slope + 1e-9),
    "GRAD-09": _of("ul-focal-gradient-nan"),
    "NUM-01": Altered(in_single_precision),
    "NUM-02": times(1.5, "loss_class", "loss_bbox", "loss_giou"),
    "NUM-03": times(4.0, "loss_class", "loss_bbox", "loss_giou"),
    "NUM-04": _of("rfdetr-log-of-saturated-sigmoid"),
    "NUM-05": Altered(hidden),
    "NUM-06": Remembering(lambda _earlier, case: case, growth=0.01),
    "NUM-07": Remembering(half_alpha),
    "NUM-08": asked_otherwise(centres_inside),
    "NUM-09": Altered(only_large_ones_wrong),
    "NUM-10": Growing("growing"),
    "NUM-11": Racing("racing"),
    "NUM-12": Drawing("drawing"),
    "API-01": Altered(without_giou),
    "API-02": Altered(lambda losses, _case: {key: np.reshape(loss, 1) for key, loss in losses.items()}),
    "API-03": _half_dtypes(ReferencePort()),
    "API-04": Mutating("mutating"),
    "API-05": _of("rtdetr-empty-rank-hangs"),
    "API-06": _half_dtypes(ReferencePort()),
    "API-07": _half_dtypes(ReferencePort()),
    "API-08": Altered(perfect_is_missing),
}
