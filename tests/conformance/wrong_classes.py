"""Losses in float32 torch that classify wrongly, each by one mistake of the museum: families CLASS, INV and NUM."""

from __future__ import annotations

import torch

from ..correct.plain_boxes import iou_and_giou
from ..correct.plain_loss import PlainLoss, power


class AlphaForAll(PlainLoss):
    """Alpha weighs target and background alike."""

    def focal(self, logits, label):
        wrong = (logits * (1 - 2 * label)).sigmoid()
        return self.alpha * power(wrong, self.gamma) * self.cross_entropy(logits, label)


class AlphaSwapped(PlainLoss):
    """Alpha weighs the background."""

    def focal(self, logits, label):
        wrong = (logits * (1 - 2 * label)).sigmoid()
        balance = (1 - self.alpha) * label + self.alpha * (1 - label) if self.alpha > 0 else 1
        return balance * power(wrong, self.gamma) * self.cross_entropy(logits, label)


class AlphaAlways(PlainLoss):
    """A negative alpha is a balance like any other."""

    def focal(self, logits, label):
        wrong = (logits * (1 - 2 * label)).sigmoid()
        balance = self.alpha * label + (1 - self.alpha) * (1 - label)
        return balance * power(wrong, self.gamma) * self.cross_entropy(logits, label)


class WrongAnswersFade(PlainLoss):
    """The focal factor is a power of p_t."""

    def focal(self, logits, label):
        right = (logits * (2 * label - 1)).sigmoid()
        balance = self.alpha * label + (1 - self.alpha) * (1 - label) if self.alpha > 0 else 1
        return balance * power(right, self.gamma) * self.cross_entropy(logits, label)


class SilentlyFocal(PlainLoss):
    """The varifocal branch ends in the focal loss."""

    def varifocal(self, logits, label, _score):
        return self.focal(logits, label)


class OwnDefaults(PlainLoss):
    """The varifocal loss has a gamma and an alpha of its own."""

    def varifocal(self, logits, label, score):
        weight = 0.75 * logits.sigmoid() ** 2 * (1 - label) + score
        return weight * self.cross_entropy(logits, score)


class HardTargets(PlainLoss):
    """The varifocal cross-entropy is taken against the label."""

    def varifocal(self, logits, label, score):
        weight = self.alpha * power(logits.sigmoid(), self.gamma) * (1 - label) + score
        return weight * self.cross_entropy(logits, label)


class TargetsUnweighted(PlainLoss):
    """The terms of targets have weight 1."""

    def varifocal(self, logits, label, score):
        weight = self.alpha * power(logits.sigmoid(), self.gamma) * (1 - label) + label
        return weight * self.cross_entropy(logits, score)


class TargetsPartlyBackground(PlainLoss):
    """The background's weight is multiplied by 1 - q."""

    def varifocal(self, logits, _label, score):
        weight = self.alpha * power(logits.sigmoid(), self.gamma) * (1 - score) + score
        return weight * self.cross_entropy(logits, score)


class MissedTargetsAreBackground(PlainLoss):
    """What has no overlap with its target has no label."""

    def varifocal(self, logits, _label, score):
        return super().varifocal(logits, (score > 0).to(logits.dtype), score)


class VarifocalWithoutFocal(PlainLoss):
    """`use_vfl` is enough."""

    def __init__(self, use_fl=True, use_vfl=False, **options):
        super().__init__(use_fl=use_fl or use_vfl, use_vfl=use_vfl, **options)


class HardLabels(PlainLoss):
    """Plain cross-entropy is taken against the label."""

    def class_loss(self, logits, address, scores):
        return super().class_loss(logits, address, scores if self.use_fl else torch.ones_like(scores))


class GIoUAsScore(PlainLoss):
    """The target score is the GIoU."""

    def scores(self, matched, wanted):
        return iou_and_giou(matched, wanted)[1]


class NothingWithoutTargets(PlainLoss):
    """A batch without targets returns early."""

    def class_loss(self, logits, address, scores):
        return super().class_loss(logits, address, scores) if len(scores) else logits.sum() * 0


class FocalMean(PlainLoss):
    """The focal losses are means."""

    def class_loss(self, logits, address, scores):
        loss = super().class_loss(logits, address, scores)
        return loss * max(len(scores), 1) / logits.numel() if self.use_fl else loss


class CrossEntropyByPairs(PlainLoss):
    """Cross-entropy is divided by the number of pairs."""

    def class_loss(self, logits, address, scores):
        loss = super().class_loss(logits, address, scores)
        return loss if self.use_fl else loss * logits.shape[1] / max(len(scores), 1)


class GainTwice(PlainLoss):
    """The class gain is applied a second time."""

    def one_layer(self, *of_layer):
        losses = super().one_layer(*of_layer)
        return losses | {"class": self.gain["class"] * losses["class"]}


class GainIgnored(PlainLoss):
    """The class gain is 1."""

    def __init__(self, loss_gain=None, **options):
        super().__init__(loss_gain=loss_gain and {**loss_gain, "class": 1}, **options)


class FirstClassIsBackground(PlainLoss):
    """Class 0 stands for no object."""

    def focal(self, logits, label):
        return super().focal(logits, without_first(label))

    def varifocal(self, logits, label, score):
        return super().varifocal(logits, without_first(label), without_first(score))

    def cross_entropy(self, logits, score):
        return super().cross_entropy(logits, without_first(score))


def without_first(of_classes):
    return torch.cat([torch.zeros_like(of_classes[..., :1]), of_classes[..., 1:]], dim=-1)


class LogOfSaturated(PlainLoss):
    """The focal cross-entropy is the logarithm of a probability that was rounded."""

    def focal(self, logits, label):
        wrong = (logits * (1 - 2 * label)).sigmoid()
        balance = self.alpha * label + (1 - self.alpha) * (1 - label) if self.alpha > 0 else 1
        return balance * power(wrong, self.gamma) * self.entropy(logits, label)

    def entropy(self, logits, label):
        p = logits.sigmoid()
        return -torch.where(label > 0, p, 1 - p).log()


class Overflowing(LogOfSaturated):
    """The focal cross-entropy is log(1 + exp(x)) - x y."""

    def entropy(self, logits, label):
        return (1 + logits.exp()).log() - logits * label


class Clamped(LogOfSaturated):
    """The focal cross-entropy is that of a clamped probability."""

    def entropy(self, logits, label):
        p = logits.sigmoid().clamp(1e-7, 1 - 1e-7)
        return -(label * p.log() + (1 - label) * (1 - p).log())


class NaNToZero(PlainLoss):
    """A loss that is NaN becomes 0."""

    def __call__(self, *args, **named):
        losses = super().__call__(*args, **named)
        return {key: torch.nan_to_num(loss, nan=0.0, posinf=torch.inf) for key, loss in losses.items()}


class Capped(PlainLoss):
    """A loss is cut off at ten thousand."""

    def __call__(self, *args, **named):
        return {key: loss.clamp(max=1e4) for key, loss in super().__call__(*args, **named).items()}


class SumsInFloat32(PlainLoss):
    """Auxiliary losses are added up in float32."""

    def over_layers(self, losses, boxes):
        return super().over_layers([loss.float() for loss in losses], boxes)


WRONG_CLASSES = {
    "rtdetrv3-focal-constant-alpha": AlphaForAll,
    "plausible-focal-alpha-swapped": AlphaSwapped,
    "plausible-focal-negative-alpha": AlphaAlways,
    "plausible-focal-fades-what-is-wrong": WrongAnswersFade,
    "paddle-vfl-dangling-else": SilentlyFocal,
    "ul-vfl-own-defaults": OwnDefaults,
    "plausible-vfl-hard-targets": HardTargets,
    "plausible-vfl-unweighted-targets": TargetsUnweighted,
    "plausible-vfl-partly-background": TargetsPartlyBackground,
    "rfdetr-vfl-no-overlap-is-background": MissedTargetsAreBackground,
    "plausible-vfl-without-fl": VarifocalWithoutFocal,
    "plausible-bce-hard-labels": HardLabels,
    "plausible-giou-as-score": GIoUAsScore,
    "plausible-no-class-loss-without-targets": NothingWithoutTargets,
    "rtdetrv3-focal-mean": FocalMean,
    "plausible-bce-by-pairs": CrossEntropyByPairs,
    "plausible-class-gain-twice": GainTwice,
    "hf-lwdetr-class-coef-ignored": GainIgnored,
    "plausible-class-0-is-background": FirstClassIsBackground,
    "rfdetr-log-of-saturated-sigmoid": LogOfSaturated,
    "plausible-cross-entropy-overflow": Overflowing,
    "plausible-probability-clamped": Clamped,
    "dfine-losses-nan-to-zero": NaNToZero,
    "plausible-loss-capped": Capped,
    "plausible-sums-in-float32": SumsInFloat32,
}
