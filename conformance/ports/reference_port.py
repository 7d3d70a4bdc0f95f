"""The reference itself as a port: the suite judging its own yardstick, and the frame for its deviations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from detr_conformance.diagnosis.trace import Arrays, trace_of
from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import CAPABILITIES, DenoisingGroup, LossResult, Matching
from detr_conformance.properties.profiles import ULTRALYTICS
from detr_conformance.properties.tolerance import PRECISIONS
from detr_conformance.reference import RTDETRDetectionLoss, get_cdn_group


class ReferencePort:
    """The NumPy reference, or a variation of it, behind the port protocol.

    Args:
        name: what the report calls it.
        loss_class: the loss, built from the case's configuration.
        denoising: the generator, called as `detr_conformance.reference.get_cdn_group`.
    """

    profile = "ultralytics"
    capabilities = frozenset(CAPABILITIES)
    dtypes = frozenset(PRECISIONS)

    def __init__(
        self,
        name: str = "reference",
        loss_class: type[RTDETRDetectionLoss] = RTDETRDetectionLoss,
        denoising: Callable[..., tuple[Any, ...]] = get_cdn_group,
    ) -> None:
        """Keep the pieces."""
        self.name = name
        self.loss_class = loss_class
        self.generate = denoising

    def loss(self, case: LossCase) -> LossResult:
        """Losses and closed-form gradients, in float64 whatever the dtype of the case."""
        return _result(oracle.build_loss(case, ULTRALYTICS, self.loss_class), case)

    def trace(self, case: LossCase) -> Mapping[str, Sequence[Arrays]]:
        """What every step came to, for whoever asks where this loss and another part ways."""
        return trace_of(case, ULTRALYTICS, self.loss_class).steps

    def losses_in_turn(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """The same for several cases, from one loss object."""
        loss = oracle.build_loss(cases[0], ULTRALYTICS, self.loss_class)
        return [_result(loss, case) for case in cases]

    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        """Every layer through the matcher."""
        matcher = oracle.build_loss(case, ULTRALYTICS, self.loss_class).matcher
        matcher.cost_gain = dict(case.matcher.cost_gain)
        matcher.use_fl, matcher.alpha, matcher.gamma = case.matcher.use_fl, case.matcher.alpha, case.matcher.gamma
        layers = zip(case.pred_bboxes, case.pred_scores, strict=True)
        return [matcher(boxes, logits, case.gt_bboxes, case.gt_cls, case.gt_groups) for boxes, logits in layers]

    def denoising_indices(self, case: LossCase) -> Sequence[Matching]:
        """The pairing of the case's denoising queries."""
        assert case.denoising is not None  # noqa: S101  # the rules draw such cases only
        denoising = case.denoising
        return self.loss_class.get_dn_match_indices(
            denoising.pos_idx, denoising.num_group, case.gt_groups, denoising.gt_idx
        )

    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        """Denoising queries with one unit vector for each class."""
        options = case.generator
        batch = {"cls": case.gt_cls, "bboxes": case.gt_bboxes, "gt_groups": case.gt_groups}
        labels, boxes, blocked, meta = self.generate(
            batch,
            case.config.nc,
            case.queries,
            np.eye(case.config.nc),
            num_dn=options.num_dn,
            cls_noise_ratio=options.cls_noise_ratio,
            box_noise_scale=options.box_noise_scale,
            training=options.training,
            rng=np.random.default_rng(options.seed),
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
        )


def _result(loss: RTDETRDetectionLoss, case: LossCase) -> LossResult:
    losses = oracle.evaluate(loss, case)
    return LossResult(
        losses={key: loss.value.values for key, loss in losses.items()},
        gradients={
            key: {name: gradient.values for name, gradient in loss.gradients.items()} for key, loss in losses.items()
        },
        dtypes=dict.fromkeys(losses, "float64"),
    )


def port() -> ReferencePort:
    """The NumPy reference."""
    return ReferencePort()
