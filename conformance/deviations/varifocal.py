"""Deviations in the varifocal loss: its terms, its options, and when it is used."""

from __future__ import annotations

from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.frames import OtherVarifocal, with_varifocal
from detr_conformance.reference import RTDETRDetectionLoss, VarifocalLoss
from detr_conformance.reference.classification import Terms, binary_cross_entropy
from detr_conformance.reference.rounding import plain

FORMULA = "loss specification, DETRLoss, step 4: varifocal"


class NeverVarifocal(RTDETRDetectionLoss):
    """The IoU is thrown away after it was computed, and the varifocal loss becomes focal."""

    def _uses_varifocal(self, num_gts: int) -> bool:  # noqa: ARG002  # the step's signature
        return False


class AlwaysVarifocal(RTDETRDetectionLoss):
    """The varifocal loss is used without a target too."""

    def _uses_varifocal(self, num_gts: int) -> bool:  # noqa: ARG002  # the step's signature
        return self.use_vfl


class VarifocalWithoutFocal(RTDETRDetectionLoss):
    """The varifocal loss needs no use_fl."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with either option enough."""
        super().__init__(*args, **options)
        self.use_fl = self.use_fl or self.use_vfl


class OwnDefaults(RTDETRDetectionLoss):
    """The varifocal loss is built without the loss's gamma and alpha."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with 2 and 0.75."""
        super().__init__(*args, **options)
        self.varifocal = VarifocalLoss()


class OptionsOfMatcher(RTDETRDetectionLoss):
    """The varifocal loss is built with the matcher's gamma and alpha."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the reference, with 2 and 0.25."""
        super().__init__(*args, **options)
        self.varifocal = VarifocalLoss(self.matcher.gamma, self.matcher.alpha)


class NoOverlapIsBackground(VarifocalLoss):
    """A target whose box is missed altogether weighs as much as background."""

    def terms(self, x: Terms, q: Terms, y: Terms) -> Terms:
        """A positive is what has a score."""
        return super().terms(x, q, np.where(plain(q) > 0, y, 0.0))

    def slopes(self, x: Terms, q: Terms, y: Terms) -> Terms:
        """Likewise."""
        return super().slopes(x, q, np.where(plain(q) > 0, y, 0.0))


class UnweightedTargets(VarifocalLoss):
    """Every target weighs 1."""

    def _weight(self, x: Terms, q: Terms, y: Terms) -> Terms:
        return super()._weight(x, q, y) - q + y


class HardTargets(OtherVarifocal):
    """The score weighs the terms, and is not what they are held against."""

    def terms(self, x: Terms, q: Terms, y: Terms) -> Terms:
        """Cross-entropy against the label."""
        return self._weight(x, q, y) * binary_cross_entropy(x, y)


class PartlyBackground(OtherVarifocal):
    """A target that is half covered counts as half background."""

    def _weight(self, x: Terms, q: Terms, y: Terms) -> Terms:  # noqa: ARG002  # the step's signature
        return super()._weight(x, q, q)


class ScoreOfEveryClass(VarifocalLoss):
    """A matched query is held against its IoU in every class."""

    def terms(self, x: Terms, q: Terms, y: Terms) -> Terms:
        """With the score of the row."""
        return super().terms(x, _of_row(q), y)

    def slopes(self, x: Terms, q: Terms, y: Terms) -> Terms:
        """Likewise."""
        return super().slopes(x, _of_row(q), y)


def _of_row(q: Terms) -> Terms:
    return np.zeros(q.shape) + plain(q).max(axis=-1, keepdims=True)


VARIFOCAL_DEVIATIONS = (
    Deviation(
        "paddle-vfl-dangling-else",
        "CLASS",
        "A dangling else reset the IoU after it was computed, so that the varifocal loss was silently the focal one. "
        "Right: if / elif / else. Shows on any matched query.",
        "PaddlePaddle/PaddleDetection, pull request 8409",
        loss=NeverVarifocal,
    ),
    Deviation(
        "ul-vfl-own-defaults",
        "CLASS",
        "The varifocal loss had gamma 2 and alpha 0.75 whatever the loss was built with, as before 8.3.116. Right "
        "under this profile: gamma and alpha of the loss, by default 1.5 and 0.25. Shows with any target.",
        "ultralytics/ultralytics, pull request 20292",
        loss=OwnDefaults,
    ),
    Deviation(
        "khub-vfl-options-of-matcher",
        "CLASS",
        "The varifocal loss was built with the alpha of the matcher. Right: the loss has its own. Shows with any other "
        "alpha.",
        "keras-team/keras-hub 0.32.0, models/d_fine/d_fine_loss.py",
        loss=OptionsOfMatcher,
    ),
    Deviation(
        "rfdetr-vfl-no-overlap-is-background",
        "CLASS",
        "A matched query whose box does not touch its target was weighted as background. Right under this profile: its "
        "weight is the IoU, 0. Shows where a prediction misses its target.",
        "roboflow/rf-detr 1.11.2, use_varifocal_loss",
        loss=with_varifocal(NoOverlapIsBackground),
    ),
    Deviation(
        "plausible-vfl-without-targets",
        "CLASS",
        "A batch without targets keeps the varifocal loss, as lyuwenyu/RT-DETR has it. Right under this profile: the "
        "focal loss takes its place. Shows in the weight of the background of such a batch.",
        FORMULA,
        loss=AlwaysVarifocal,
    ),
    Deviation(
        "plausible-vfl-without-fl",
        "CLASS",
        "use_vfl alone selects the varifocal loss. Right: without use_fl it is ignored. Shows with use_fl off.",
        "loss specification, DETRLoss, step 4: not use_fl",
        loss=VarifocalWithoutFocal,
    ),
    Deviation(
        "plausible-vfl-unweighted-targets",
        "CLASS",
        "Terms of targets have weight 1. Right: weight q, the IoU. Shows on any matched query.",
        FORMULA,
        loss=with_varifocal(UnweightedTargets),
    ),
    Deviation(
        "plausible-vfl-hard-targets",
        "CLASS",
        "The IoU weighs the cross-entropy, which is taken against the label. Right: against the IoU too. Shows on any "
        "matched query.",
        FORMULA,
        loss=with_varifocal(HardTargets),
    ),
    Deviation(
        "plausible-vfl-partly-background",
        "CLASS",
        "The background's weight is multiplied by 1 - q. Right: by 1 - y, so that a target's class has none of it. "
        "Shows on any matched query.",
        FORMULA,
        loss=with_varifocal(PartlyBackground),
    ),
    Deviation(
        "plausible-vfl-score-of-every-class",
        "CLASS",
        "The IoU of a matched query is the target of all its classes. Right: of its target's class, 0 for the others. "
        "Shows with two classes.",
        FORMULA,
        loss=with_varifocal(ScoreOfEveryClass),
    ),
)
