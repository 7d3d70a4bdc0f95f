"""What the contenders compute, and the form in which each is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

GAINS = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
Losses = dict[str, torch.Tensor]
Gradients = tuple[torch.Tensor, ...]
Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class Setting:
    """One loss to compute: in every layer, matched by RT-DETR's matcher, with the gains 1, 5 and 2."""

    name: str
    use_vfl: bool
    alpha: float
    gamma: float
    denoising: bool


VARIFOCAL = Setting("varifocal", use_vfl=True, alpha=0.75, gamma=2.0, denoising=True)
FOCAL = Setting("focal", use_vfl=False, alpha=0.25, gamma=1.5, denoising=True)
NO_DENOISING = Setting("focal, no denoising", use_vfl=False, alpha=0.25, gamma=2.0, denoising=False)
AS_BUILT = Setting("varifocal, as ultralytics builds it", use_vfl=True, alpha=0.25, gamma=1.5, denoising=True)
SETTINGS = (VARIFOCAL, AS_BUILT, FOCAL, NO_DENOISING)


@dataclass(frozen=True)
class Step:
    """Forward and backward of the sum of all losses, back to the predictions.

    Attributes:
        forward: gives the losses under the contender's own names.
        predictions: the tensors that the gradients are taken by, in the contender's own layout.
        canonical: gives the losses under Ultralytics' names; None where they are others by design.
        same_gradients: whether the gradients, too, are the same by design and in layout.
    """

    forward: Callable[[], Losses]
    predictions: tuple[torch.Tensor, ...]
    canonical: Callable[[Losses], Losses] | None
    same_gradients: bool

    def __call__(self) -> tuple[Losses, Gradients]:
        losses = self.forward()
        return losses, torch.autograd.grad(sum(losses.values()), self.predictions)


def installed(candidates: Mapping[str, Callable[[], Prepared]]) -> tuple[dict[str, Prepared], dict[str, str]]:
    """Those that are installed, prepared; and for the absent ones the reason."""
    found = {name: _prepared(prepare) for name, prepare in candidates.items()}
    absent = {name: str(each) for name, each in found.items() if isinstance(each, ImportError)}
    return {name: each for name, each in found.items() if name not in absent}, absent


def _prepared(prepare: Callable[[], Prepared]) -> Prepared | ImportError:
    try:
        return prepare()
    except ImportError as error:
        return error
