"""The options of a case: how loss, matcher and denoising generator are built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from detr_conformance.reference.validation import check_count, check_gains, check_number

DEFAULT_LOSS_GAIN = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
DEFAULT_COST_GAIN = {"class": 2.0, "bbox": 5.0, "giou": 2.0}

CLASSIFICATION = {
    "varifocal": {"use_fl": True, "use_vfl": True},
    "focal": {"use_fl": True, "use_vfl": False},
    "bce": {"use_fl": False, "use_vfl": False},
}
"""The arguments that select each classification loss."""

GAINS = frozenset({"class", "bbox", "giou", "no_object", "mask", "dice"})
"""Every gain that Ultralytics' loss or matcher knows; the last three are optional, and nothing here reads them."""


@dataclass(frozen=True)
class LossConfig:
    """Constructor arguments of the loss; see `detr_conformance.reference.DETRLoss`."""

    nc: int = 80
    loss_gain: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_LOSS_GAIN))
    aux_loss: bool = True
    use_fl: bool = True
    use_vfl: bool = False
    use_uni_match: bool = False
    uni_match_ind: int = 0
    gamma: float = 1.5
    alpha: float = 0.25

    @property
    def classification(self) -> str:
        """The classification loss that these arguments select: `bce`, `varifocal` or `focal`."""
        if not self.use_fl:
            return "bce"
        return "varifocal" if self.use_vfl else "focal"


@dataclass(frozen=True)
class MatcherConfig:
    """Constructor arguments of the matcher; see `detr_conformance.reference.HungarianMatcher`.

    The defaults are those that the loss hard-wires. They matter to `Port.match` alone: no argument of the loss
    reaches its matcher.
    """

    cost_gain: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_COST_GAIN))
    use_fl: bool = True
    alpha: float = 0.25
    gamma: float = 2.0


@dataclass(frozen=True)
class GeneratorConfig:
    """Arguments of the denoising generator; see `detr_conformance.reference.get_cdn_group`."""

    num_dn: int = 100
    cls_noise_ratio: float = 0.5
    box_noise_scale: float = 1.0
    training: bool = True
    seed: int = 0


def check_options(loss: LossConfig, matcher: MatcherConfig, generator: GeneratorConfig) -> None:
    """Options that define one loss, one matcher and one generator.

    Raises:
        KeyError, TypeError, ValueError: one of them does not; it is named with its value.
    """
    check_count("config.nc", loss.nc, least=1)
    check_count("config.uni_match_ind", loss.uni_match_ind)
    check_count("generator.num_dn", generator.num_dn)
    check_count("generator.seed", generator.seed)
    _check_gains("config.loss_gain", loss.loss_gain)
    _check_gains("matcher.cost_gain", matcher.cost_gain)
    check_number("config.alpha", loss.alpha)
    check_number("matcher.alpha", matcher.alpha)
    _check_range("config.gamma", loss.gamma)
    _check_range("matcher.gamma", matcher.gamma)
    _check_range("generator.cls_noise_ratio", generator.cls_noise_ratio, most=2.0)
    _check_range("generator.box_noise_scale", generator.box_noise_scale)


def _check_gains(name: str, gains: Mapping[str, float]) -> None:
    """The gains that must be there, and no others than those that may be."""
    check_gains(name, gains)
    for term in sorted(set(gains) - GAINS):
        raise ValueError(f"{name} has the unknown gain {term!r}, expected only {', '.join(sorted(GAINS))}")
    for term, gain in gains.items():
        check_number(f"{name}[{term!r}]", gain)


def _check_range(name: str, number: float, most: float | None = None) -> None:
    """A finite number from 0 to `most`."""
    check_number(name, number)
    if number < 0 or (most is not None and number > most):
        limit = "at least 0" if most is None else f"0 to {most:g}"
        raise ValueError(f"{name} is {number}, expected {limit}")
