"""Request: which cases a rule wants, whether they are drawn by Hypothesis or built from real targets."""

from __future__ import annotations

from dataclasses import dataclass, fields

from detr_conformance.properties.case import CLASSIFICATION, LossCase

Range = tuple[int, int]
"""Smallest and largest number, both included."""


@dataclass(frozen=True)
class Request:
    """What a rule's cases look like. The defaults are the widest: a rule narrows what it has to.

    Attributes:
        classification: classification losses to choose from; those that the port lacks are left out.
        query_groups: number of groups of queries, each as large as `queries` says.
        layers: number of decoder layers; `images`, `queries` and `classes` likewise.
        targets: number of targets of one image. Above `queries` some go without a query.
        all_empty: no image has a target.
        denoising: never, sometimes or always with denoising queries, or where the port declares them; a batch without
            targets has none.
        aux_loss: values to choose from; False only where the port declares `no_aux`.
        uni_match: values to choose from; True only where the port declares `uni_match`.
        near: predictions lie near targets for the most part; otherwise anywhere.
        special: special boxes to mix in, see `detr_conformance.properties.numbers`; those that the spec leaves
            open are left out.
        logit_scale: logits are spread this widely around 0.
        dtype: of the predictions.
        matcher_options: the matcher is built with other options than the loss's own.
        real: the rule may run on real targets as well.
        cheap: checking a case takes no evaluation of the loss, so the rule can look at more of them.
        readable_score: only classification losses of which the target score can be read.
        about_class: the rule is about the classification loss, and looks at every one that the port declares. Others
            look at those that work: one that is broken is one cause, and no reason to fail rules on boxes and layers.
        extra: never, sometimes or always with what extra terms read, where the spec has such terms and the port
            declares them. Sometimes is always, but for distributions, which every third case has. A port that lacks
            them is asked about the rest.
        large: the rule sees cases as large as training has them, if its family does.
        further_dtypes: dtypes of cases that the rule makes itself, beside `dtype`, where the port has them.
    """

    classification: tuple[str, ...] = tuple(CLASSIFICATION)
    query_groups: Range = (1, 1)
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
    cheap: bool = False
    readable_score: bool = False
    about_class: bool = False
    extra: str = "sometimes"
    large: bool = True
    further_dtypes: tuple[str, ...] = ()

    @property
    def narrowed(self) -> str:
        """The fields that are not as wide as by default. A field that is added later does not change this text."""
        values = {
            each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) != each.default
        }
        return ", ".join(f"{name}={value!r}" for name, value in values.items())

    @property
    def implied_needs(self) -> frozenset[str]:
        """Capabilities and dtypes without which no such case can be judged."""
        needs = {self.dtype}
        needs |= {"denoising"} if self.denoising == "always" else set()
        needs |= {"uni_match"} if self.uni_match == (True,) else set()
        needs |= {"no_aux"} if self.aux_loss == (False,) else set()
        needs |= {"matcher_options"} if self.matcher_options else set()
        needs |= {"query_groups"} if self.query_groups[0] > 1 else set()
        return frozenset(needs)

    def fits(self, case: LossCase) -> bool:
        """Whether a rule that asks for such cases can be checked on this one.

        Sizes have to lie in their ranges. A rule that runs on real targets takes larger ones as well: its ranges
        only keep drawn cases small.
        """
        config = case.config
        options = (
            config.classification in self.classification,
            config.aux_loss in self.aux_loss,
            config.use_uni_match in self.uni_match,
            case.dtype in (self.dtype, *self.further_dtypes),
            self.denoising in ("sometimes", "where declared")
            or (self.denoising == "always") == (case.denoising is not None),
            self.matcher_options or not case.changes_matcher,
            self.query_groups[0] <= config.query_groups <= self.query_groups[1],
            self.extra == "sometimes" or (self.extra == "always") == bool(case.records()),
        )
        return (
            all(options)
            and self._fits_targets(case)
            and all(
                smallest <= size and (self.real or size <= largest)
                for size, (smallest, largest) in (
                    (case.layers, self.layers),
                    (case.images, self.images),
                    (case.queries, self.queries),
                    (config.nc, self.classes),
                )
            )
        )

    def _fits_targets(self, case: LossCase) -> bool:
        if self.all_empty:
            return case.targets == 0
        smallest, largest = self.targets
        if self.real:  # as real images do, some may be empty
            return case.targets >= smallest
        return all(smallest <= count <= largest for count in case.gt_groups)
