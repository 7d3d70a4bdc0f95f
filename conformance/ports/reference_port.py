"""The reference as a port of any spec: the suite judging its own yardstick, and the frame for mutants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase, MatcherConfig
from detr_conformance.properties.port import CAPABILITIES, DenoisingGroup, LossResult, Matching
from detr_conformance.properties.tolerance import PRECISIONS, arithmetic
from detr_conformance.reference import ULTRALYTICS, Criterion, Losses, LossSpec
from detr_conformance.reference.inputs import Inputs
from detr_conformance.reference.loss import matcher_for
from detr_conformance.reference.matcher import group_by_group
from detr_conformance.reference.merged_batch import losses_of_ranks, losses_of_steps


class ReferencePort:
    """The NumPy reference behind the port protocol.

    Args:
        spec: the conventions that it follows.
        name: what the report calls it; by default the spec's name.
        profile: the conventions to hold it to; by default those that it follows.
    """

    capabilities = frozenset(CAPABILITIES)
    dtypes = frozenset(PRECISIONS)
    bounded = False
    """Whether the losses carry error bounds, which no rule reads in what a port returns."""

    def __init__(self, spec: LossSpec = ULTRALYTICS, name: str | None = None, profile: LossSpec | None = None) -> None:
        """Keep the spec."""
        self.spec = spec
        self.name = spec.name if name is None else name
        self.profile: str | LossSpec = spec if profile is None else profile

    def loss(self, case: LossCase) -> LossResult:
        """Losses and gradients, in float64 whatever the dtype of the case."""
        return self._result(Criterion(self.spec, case.config), case, self._inputs_of(case))

    def losses_in_turn(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """The same for several cases, from one loss object."""
        criterion = Criterion(self.spec, cases[0].config)
        given = {id(case): self._inputs_of(case) for case in cases}  # what one call changes, the next gets
        return [self._result(criterion, case, given[id(case)]) for case in cases]

    def losses_of_ranks(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """Those of every rank, each from a loss object of its own."""
        given = [self._inputs_of(case) for case in cases]
        losses = losses_of_ranks(self.spec, cases[0].config, given, named=True)
        return [self._returned(*each) for each in zip(losses, cases, given, strict=True)]

    def losses_of_steps(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """Those of every micro-batch, likewise."""
        given = [self._inputs_of(case) for case in cases]
        losses = losses_of_steps(self.spec, cases[0].config, given, named=True)
        return [self._returned(*each) for each in zip(losses, cases, given, strict=True)]

    def defaults(self, case: LossCase) -> Mapping[str, Any]:
        """The options of the spec's recipe."""
        return {name: each.value for name, each in self.spec.recipe.get(case.config.classification, {}).items()}

    def point_counts(self, case: LossCase) -> Mapping[str, int]:
        """Those of the spec."""
        assert case.masks is not None  # noqa: S101  # the rules draw such cases only
        assert self.spec.mask_points is not None  # noqa: S101  # and ask such specs
        size = case.masks.pred_masks.shape[-2:]
        return {"losses": self.spec.mask_points.losses(*size), "matcher": self.spec.mask_points.matcher(*size)}

    def _inputs_of(self, case: LossCase) -> Inputs:
        """What the loss is called with."""
        return replace(deepcopy(oracle.inputs_of(case)), bounded=self.bounded)

    def _result(self, criterion: Criterion, case: LossCase, given: Inputs) -> LossResult:
        return self._returned(criterion(given, named=True), case, given)

    def _returned(self, losses: Losses, case: LossCase, given: Inputs) -> LossResult:
        returned = {key: self.spec.returned(key, loss.value.values, case.dtype) for key, loss in losses.items()}
        return LossResult(
            losses={key: array for key, (array, _) in returned.items()},
            gradients=GradientsOfReference(losses),
            dtypes={key: dtype for key, (_, dtype) in returned.items()},
            mutated=_mutated(given, oracle.inputs_of(case)),
        )

    def loss_in_mode(self, case: LossCase, mode: str) -> LossResult:
        """The losses of what the spec makes of a mode."""
        port = ReferencePort(self.spec.in_mode(self.spec, mode))
        port.bounded = self.bounded
        return port.loss(case)

    def loss_in_situation(self, case: LossCase, situation: str) -> LossResult:
        """Likewise of a situation."""
        return self.loss_in_mode(case, situation)

    def loss_built(self, case: LossCase, passing: str) -> LossResult:
        """The losses by what the spec makes of options that are passed so."""
        return self._result(Criterion(self.spec, self.spec.built(case.config, passing)), case, self._inputs_of(case))

    def accumulated_gradients(
        self, case: LossCase, passes: Sequence[Mapping[str, float]]
    ) -> list[dict[str, np.ndarray]]:
        """As the spec adds them up."""
        return self.spec.accumulated(self.loss(case).gradients, passes)

    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        """Every layer through the matcher of the loss, or one with the options of the case if it has some."""
        own = self.spec.matcher.configured(self.spec.options(case.config))
        return self._matched(case, case.matcher if case.changes_matcher else own)

    def match_built(self, case: LossCase, passing: str) -> Sequence[Sequence[Matching]]:
        """Every layer through a matcher with what the spec makes of options that are passed so."""
        return self._matched(case, self.spec.matcher.built(case.matcher, passing))

    def _matched(self, case: LossCase, options: MatcherConfig) -> list[list[Matching]]:
        matcher, targets = matcher_for(self.spec, arithmetic(case.dtype)), oracle.targets_of(case)
        targets = targets._replace(boxes=self.spec.target_boxes(targets.boxes))
        match, groups = partial(matcher.match, options), self.spec.query_groups(case.config)
        layers = zip(case.pred_bboxes, case.pred_scores, oracle.masks_of_layers(case), strict=True)
        return [group_by_group(match, boxes, logits, targets, groups, masks) for boxes, logits, masks in layers]

    def denoising_indices(self, case: LossCase) -> Sequence[Matching]:
        """The pairing of the case's denoising queries."""
        assert case.denoising is not None  # noqa: S101  # the rules draw such cases only
        denoising = case.denoising
        return self.spec.denoising.pairs(denoising.pos_idx, denoising.num_group, case.gt_groups, denoising.gt_idx)

    def denoising_group_called(self, case: LossCase, passing: str) -> DenoisingGroup | None:
        """By what the spec makes of options that are passed so."""
        return self.denoising_group(
            case.change(generator=self.spec.denoising.generator.called(case.generator, passing))
        )

    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        """Denoising queries with one unit vector for each class."""
        classes, generator = case.config.nc, self.spec.denoising.generator
        rng = np.random.default_rng(case.generator.seed)
        labels, boxes, blocked, meta = generator.generate(
            oracle.targets_of(case), classes, case.queries, np.eye(classes), case.generator, rng
        )
        if meta is None:
            return None
        return DenoisingGroup(
            labels,
            boxes,
            blocked,
            meta["dn_pos_idx"],
            meta["dn_gt_idx"],
            meta["dn_num_group"],
            meta["dn_num_split"],
            embedding_gradient=generator.embedding_gradient(labels),
        )


class GradientsOfReference(Mapping[str, Mapping[str, np.ndarray]]):
    """Gradient of each loss with respect to each input, taken when it is asked for: many rules never do.

    Attributes:
        losses: with their bounds.
    """

    def __init__(self, losses: Losses) -> None:
        self.losses = losses

    def __getitem__(self, key: str) -> dict[str, np.ndarray]:
        return {name: gradient.values for name, gradient in self.losses[key].gradients.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.losses)

    def __len__(self) -> int:
        return len(self.losses)


def _mutated(given: Inputs, before: Inputs) -> list[str]:
    """Names of arrays that are no longer as they were."""
    after, first = _arrays(given), _arrays(before)
    return [name for name, each in after.items() if not np.array_equal(each, first[name], equal_nan=True)]


def _arrays(inputs: Inputs) -> dict[str, np.ndarray]:
    arrays = {"pred_bboxes": inputs.boxes, "pred_scores": inputs.logits}
    arrays |= {f"pred_{name}": each for name, each in inputs.further.items()}
    arrays |= {name: each for name, each in inputs.constants.items() if isinstance(each, np.ndarray)}
    arrays |= {"gt_bboxes": inputs.targets.boxes, "gt_cls": inputs.targets.classes}
    denoising = inputs.denoising
    if denoising is not None:
        arrays |= {"dn_bboxes": denoising.boxes, "dn_scores": denoising.logits}
        arrays |= {f"dn_{name}": each for name, each in denoising.further.items()}
        arrays |= {f"dn_pos_idx[{image}]": each for image, each in enumerate(denoising.pos_idx)}
    return arrays


def port() -> ReferencePort:
    """The NumPy reference."""
    return ReferencePort(name="reference")
