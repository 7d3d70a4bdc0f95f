"""Request: which cases a rule wants, whether they are drawn by Hypothesis or built from real targets."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[int, int]
"""Smallest and largest number, both included."""


@dataclass(frozen=True)
class Request:
    """What a rule's cases look like. The defaults are the widest: a rule narrows what it has to.

    Attributes:
        classification: classification losses to choose from; those that the port lacks are left out.
        layers: number of decoder layers; `images`, `queries` and `classes` likewise.
        targets: number of targets of one image. Above `queries` some go without a query.
        all_empty: no image has a target.
        denoising: never, sometimes or always with denoising queries.
        aux_loss: values to choose from; False only where the port declares `no_aux`.
        uni_match: values to choose from; True only where the port declares `uni_match`.
        near: predictions lie near targets for the most part; otherwise anywhere.
        special: special boxes to mix in, see `detr_conformance.properties.numbers`; those that the profile leaves
            open are left out.
        logit_scale: logits are spread this widely around 0.
        dtype: of the predictions.
        matcher_options: the matcher is built with other options than the loss's own.
        real: the rule may run on real targets as well.
    """

    classification: tuple[str, ...] = ("varifocal", "focal", "bce")
    layers: Range = (1, 4)
    images: Range = (1, 4)
    queries: Range = (1, 8)
    classes: Range = (1, 5)
    targets: Range = (0, 4)
    all_empty: bool = False
    denoising: str = "sometimes"
    aux_loss: tuple[bool, ...] = (True,)
    uni_match: tuple[bool, ...] = (False,)
    near: bool = True
    special: tuple[str, ...] = ("tiny", "border", "no_area", "inverted", "duplicate", "equal")
    logit_scale: float = 4.0
    dtype: str = "float32"
    matcher_options: bool = False
    real: bool = True

    @property
    def implied_needs(self) -> frozenset[str]:
        """Capabilities and dtypes without which no such case can be judged."""
        needs = {self.dtype}
        needs |= {"denoising"} if self.denoising == "always" else set()
        needs |= {"uni_match"} if self.uni_match == (True,) else set()
        needs |= {"no_aux"} if self.aux_loss == (False,) else set()
        needs |= {"matcher_options"} if self.matcher_options else set()
        return frozenset(needs)
