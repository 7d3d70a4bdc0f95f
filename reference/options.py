"""The arguments that a loss, a matcher and a generator of denoising queries are built with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

LOSS_GAIN = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
HARD_WIRED_COST_GAIN = {"class": 2.0, "bbox": 5.0, "giou": 2.0}
FURTHER_CLASS_LOSSES = ("softmax", "mal", "ia_bce")
"""Classification losses of other members of the family: DETR, DEIM and LW-DETR."""


@dataclass(frozen=True)
class LossConfig:
    """Constructor arguments of the loss.

    Attributes:
        nc: number of classes; background is none of them.
        loss_gain: weight of each loss.
        aux_loss: also compute the layers before the last.
        use_fl: focal or varifocal classification; otherwise cross-entropy.
        use_vfl: varifocal instead of focal.
        class_loss: one of `FURTHER_CLASS_LOSSES`, whatever use_fl and use_vfl say; empty for none.
        use_uni_match: all auxiliary layers share one of their matchings.
        uni_match_ind: the auxiliary layer whose matching they share.
        gamma: exponent of the classification loss, >= 0.
        alpha: balance of the classification loss.
        query_groups: number of groups of ordinary queries, all of one size, each matched on its own.
    """

    nc: int = 80
    loss_gain: Mapping[str, float] = field(default_factory=lambda: dict(LOSS_GAIN))
    aux_loss: bool = True
    use_fl: bool = True
    use_vfl: bool = False
    class_loss: str = ""
    use_uni_match: bool = False
    uni_match_ind: int = 0
    gamma: float = 1.5
    alpha: float = 0.25
    query_groups: int = 1

    @property
    def classification(self) -> str:
        """The classification loss that is asked for: `bce`, `varifocal`, `focal` or a further one."""
        if self.class_loss:
            return self.class_loss
        if not self.use_fl:
            return "bce"
        return "varifocal" if self.use_vfl else "focal"


@dataclass(frozen=True)
class MatcherConfig:
    """Constructor arguments of the matcher; the defaults are those that Ultralytics' loss hard-wires.

    Attributes:
        cost_gain: weight of each term of the cost.
        use_fl: focal class cost on sigmoids; otherwise the softmax probability.
        alpha: balance of the focal class cost.
        gamma: exponent of the focal class cost, >= 0.
    """

    cost_gain: Mapping[str, float] = field(default_factory=lambda: dict(HARD_WIRED_COST_GAIN))
    use_fl: bool = True
    alpha: float = 0.25
    gamma: float = 2.0


@dataclass(frozen=True)
class GeneratorConfig:
    """Arguments of the denoising generator; see `detr_conformance.reference.get_cdn_group`.

    Attributes:
        num_dn: at most how many positives to make for each image.
        cls_noise_ratio: twice the probability that a label is replaced, in [0, 2].
        box_noise_scale: size of the noise on boxes in half box sizes, >= 0.
        training: make none otherwise.
        seed: of the random numbers.
    """

    num_dn: int = 100
    cls_noise_ratio: float = 0.5
    box_noise_scale: float = 1.0
    training: bool = True
    seed: int = 0


Options = TypeVar("Options", LossConfig, MatcherConfig, GeneratorConfig)


def as_meant(options: Options, passing: str) -> Options:
    """However they are passed, options are those that the caller means."""
    return options
