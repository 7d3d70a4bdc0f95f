"""Losses in float32 torch whose box terms are wrong, each by one mistake of the museum: families BOX, REG and INV."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from ..correct.plain_boxes import EPS, corners, iou_and_giou
from ..correct.plain_loss import PlainLoss


def areas(a, b, clamp=True):
    """Intersection, union and hull of boxes given by their lower and upper corners."""
    (a_low, a_high), (b_low, b_high) = a, b
    overlap = torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)
    inter = (overlap.clamp(min=0) if clamp else overlap).prod(dim=-1)
    union = (a_high - a_low).prod(dim=-1) + (b_high - b_low).prod(dim=-1) - inter
    return inter, union + EPS, (torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)).prod(dim=-1) + EPS


class IoULoss(PlainLoss):
    """The box loss is 1 - IoU."""

    def giou(self, matched, wanted):
        return iou_and_giou(matched, wanted)[0]


class DistanceRewarded(PlainLoss):
    """Union and hull change places in what is subtracted from the IoU."""

    def giou(self, matched, wanted):
        inter, union, hull = areas(corners(matched), corners(wanted))
        return inter / union - (union - hull) / hull


class IntersectionCountedTwice(PlainLoss):
    """The union is the sum of the areas."""

    def giou(self, matched, wanted):
        inter, union, hull = areas(corners(matched), corners(wanted))
        return inter / (union + inter) - (hull - union - inter) / hull


class OverlapUnclamped(PlainLoss):
    """The sides of the intersection may be negative."""

    def giou(self, matched, wanted):
        inter, union, hull = areas(corners(matched), corners(wanted), clamp=False)
        return inter / union - (hull - union) / hull


class SidesSwapped(PlainLoss):
    """Corners are made of (x, y, height, width)."""

    def giou(self, matched, wanted):
        return iou_and_giou(matched[..., [0, 1, 3, 2]], wanted[..., [0, 1, 3, 2]])[1]


class ReadAsCorners(PlainLoss):
    """Centre and size are taken for the lower and the upper corner."""

    def giou(self, matched, wanted):
        inter, union, hull = areas(matched.split(2, dim=-1), wanted.split(2, dim=-1))
        return inter / union - (hull - union) / hull


class LargerEps(PlainLoss):
    """The eps of IoU and GIoU is 1e-6."""

    def scores(self, matched, wanted):
        return iou_and_giou(matched, wanted, eps=1e-6)[0]

    def giou(self, matched, wanted):
        return iou_and_giou(matched, wanted, eps=1e-6)[1]


class WeightedByGIoU(PlainLoss):
    """Each 1 - GIoU is weighted by the GIoU."""

    def box_losses(self, matched, wanted):
        giou = self.giou(matched, wanted)
        weighted = ((1 - giou) * giou.detach()).sum() / max(len(matched), 1)
        return super().box_losses(matched, wanted) | {"giou": weighted}


class CompleteIoU(PlainLoss):
    """CIoU: the distance of the centres and the difference of the shapes are subtracted from the IoU."""

    def giou(self, matched, wanted):
        (low, high), (wanted_low, wanted_high) = corners(matched), corners(wanted)
        iou, _ = iou_and_giou(matched, wanted)
        diagonal = (torch.maximum(high, wanted_high) - torch.minimum(low, wanted_low)).square().sum(dim=-1) + EPS
        distance = (matched - wanted)[..., :2].square().sum(dim=-1)
        angle, wanted_angle = ((size[..., 0] / size[..., 1]).atan() for size in (matched[..., 2:], wanted[..., 2:]))
        shape = 4 / math.pi**2 * (wanted_angle - angle).square()
        weight = (shape / (shape - iou + 1 + EPS)).detach()
        return iou - distance / diagonal - weight * shape


class PredictionsClamped(PlainLoss):
    """Predicted boxes are clamped to [0, 1] before the box losses."""

    def box_losses(self, matched, wanted):
        return super().box_losses(matched.clamp(0, 1), wanted)


class SmoothL1(PlainLoss):
    """Differences below 1 are squared and halved."""

    def box_losses(self, matched, wanted):
        smooth = functional.smooth_l1_loss(matched, wanted, reduction="sum") / max(len(matched), 1)
        return super().box_losses(matched, wanted) | {"bbox": smooth}


class L1OverCoordinates(PlainLoss):
    """The L1 loss is divided by the four numbers of a box as well."""

    def box_losses(self, matched, wanted):
        losses = super().box_losses(matched, wanted)
        return losses | {"bbox": losses["bbox"] / 4}


class TargetsAsCorners(PlainLoss):
    """The L1 loss compares predictions in centre form with the corners of the targets."""

    def box_losses(self, matched, wanted):
        distance = (matched - torch.cat(corners(wanted), dim=-1)).abs().sum() / max(len(matched), 1)
        return super().box_losses(matched, wanted) | {"bbox": distance}


class L1OfCorners(PlainLoss):
    """The L1 loss compares corners with corners."""

    def box_losses(self, matched, wanted):
        apart = torch.cat(corners(matched), dim=-1) - torch.cat(corners(wanted), dim=-1)
        return super().box_losses(matched, wanted) | {"bbox": apart.abs().sum() / max(len(matched), 1)}


class MinusGIoU(PlainLoss):
    """The GIoU loss lacks its 1."""

    def box_losses(self, matched, wanted):
        giou = self.giou(matched, wanted).sum() / max(len(matched), 1)
        return super().box_losses(matched, wanted) | {"giou": -giou}


class MeanOfNothing(PlainLoss):
    """The box losses are means over the pairs, of which there may be none."""

    def box_losses(self, matched, wanted):
        return {
            "bbox": (matched - wanted).abs().sum(dim=-1).mean(),
            "giou": (1 - self.giou(matched, wanted)).mean(),
        }


class GainOfGIoUOnL1(PlainLoss):
    """The L1 loss has the gain of the GIoU loss."""

    def __init__(self, **options):
        super().__init__(**options)
        self.gain = {**self.gain, "bbox": self.gain["giou"]}


class WidthForHeight(PlainLoss):
    """A wrong index takes the width twice."""

    def giou(self, matched, wanted):
        return iou_and_giou(matched[..., [0, 1, 2, 2]], wanted[..., [0, 1, 2, 2]])[1]


WRONG_BOXES = {
    "plausible-iou-for-giou": IoULoss,
    "plausible-hull-minus-union-swapped": DistanceRewarded,
    "plausible-union-without-subtraction": IntersectionCountedTwice,
    "plausible-negative-overlap": OverlapUnclamped,
    "plausible-width-and-height-swapped": SidesSwapped,
    "plausible-centre-form-read-as-corners": ReadAsCorners,
    "scenic-larger-eps": LargerEps,
    "rtdetrv2-giou-weighted-by-itself": WeightedByGIoU,
    "khub-ciou-for-giou": CompleteIoU,
    "lightly-box-sanitise-clamps-gradient": PredictionsClamped,
    "plausible-smooth-l1": SmoothL1,
    "plausible-l1-averaged-over-coordinates": L1OverCoordinates,
    "netspresso-l1-on-corner-boxes": TargetsAsCorners,
    "scenic-l1-on-corners": L1OfCorners,
    "plausible-minus-giou": MinusGIoU,
    "detrtf-mean-of-nothing": MeanOfNothing,
    "plausible-giou-gain-on-l1": GainOfGIoUOnL1,
    "plausible-width-for-height": WidthForHeight,
}
