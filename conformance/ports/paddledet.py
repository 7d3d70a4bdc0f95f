"""The loss of DINO in the `paddledet` package, in Paddle: there is no torch in its environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from detr_conformance.ports.foreign_packages import without_init
from detr_conformance.ports.gradients_on_demand import GradientsOnDemand
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import LossResult, Matching
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.reference.base_spec import differs
from detr_conformance.reference.pairing import own_per_layer

# The package imports the whole of training; the losses need Paddle alone. They import two names from `transformers`.
without_init("ppdet", "ppdet.core", "ppdet.modeling", "ppdet.modeling.losses", "ppdet.modeling.transformers")

import ppdet.modeling.transformers as bare  # noqa: E402  # after the above
from ppdet.modeling.transformers import utils  # noqa: E402  # as above

vars(bare).update({name: getattr(utils, name) for name in ("bbox_cxcywh_to_xyxy", "sigmoid_focal_loss")})

from ppdet.modeling.losses.detr_loss import DINOLoss  # noqa: E402  # as above
from ppdet.modeling.transformers.matchers import HungarianMatcher  # noqa: E402  # as above

_LOSS = "https://github.com/PaddlePaddle/PaddleDetection/blob/release/2.6/ppdet/modeling/losses/detr_loss.py"

PADDLEDET = differs(
    FAMILY["paddle"],
    "paddledet",
    class_terms=({"focal": FAMILY["paddle"].class_terms["focal"]}, "Classification is the focal loss.", _LOSS),
    pairing=(own_per_layer, "Every layer is matched on its own.", _LOSS),
    undefined=(
        {
            **FAMILY["paddle"].undefined,
            "uni_match": "No layer is asked to share the matching of another.",
            "denoising_subset": "Every target is denoised.",
            "denoising_indices": "The loss pairs them within its call.",
        },
        "What the package does there is an error, or there is no such thing.",
        _LOSS,
    ),
)
"""Release 2.6, which is older than RT-DETR: no varifocal loss."""


@dataclass(frozen=True)
class PaddleTensors:
    """A case as tensors of Paddle.

    Attributes:
        predictions: as in the case, with gradients.
        gt_bbox: for each image the boxes of its targets; gt_class likewise, shape (targets, 1).
        positives: for each image its positive denoising slots.
    """

    predictions: Mapping[str, paddle.Tensor]
    gt_bbox: list[paddle.Tensor]
    gt_class: list[paddle.Tensor]
    positives: list[paddle.Tensor]

    @staticmethod
    def of(case: LossCase) -> PaddleTensors:
        """Fresh tensors with the numbers of the case."""
        arrays = {name: each for name, each in case.float_arrays().items() if name != "gt_bboxes"}
        own = [case.of_image(image) for image in range(case.images)]
        slots = () if case.denoising is None else case.denoising.pos_idx
        return PaddleTensors(
            {name: paddle.to_tensor(each.astype(case.dtype), stop_gradient=False) for name, each in arrays.items()},
            [paddle.to_tensor(case.gt_bboxes[each].astype(case.target_dtype)) for each in own],
            [paddle.to_tensor(case.gt_cls[each, None].astype(np.int32)) for each in own],
            [paddle.to_tensor(each) for each in slots],
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """What they hold, by names for messages."""
        lists = {"gt_bbox": self.gt_bbox, "gt_class": self.gt_class, "dn_positive_idx": self.positives}
        rows = {f"{name}[{place}]": each for name, row in lists.items() for place, each in enumerate(row)}
        return {name: each.numpy().copy() for name, each in {**self.predictions, **rows}.items()}


class PaddleDetPort:
    """`DINOLoss` with its `HungarianMatcher`; layer 0 of a case is the encoder's.

    The package's generator of denoising queries is older than Paddle 3 and cannot run on it (see docs/findings.md).
    """

    name = "paddledet"
    profile: str | LossSpec = PADDLEDET
    capabilities = frozenset({"focal", "no_aux", "denoising", "gradients", "one_object", "match", "matcher_options"})
    dtypes = frozenset({"float32"})

    def loss(self, case: LossCase) -> LossResult:
        """All losses of a fresh loss object."""
        return _result(self.build(case), case)

    def losses_in_turn(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """The same for several cases, from one loss object."""
        loss = self.build(cases[0])
        return [_result(loss, case) for case in cases]

    def build(self, case: LossCase) -> DINOLoss:
        """The loss with the options of the case."""
        config = case.config
        gains = dict(config.loss_gain)
        return DINOLoss(config.nc, self.matcher(case), gains, aux_loss=config.aux_loss, use_focal_loss=True)

    def matcher(self, case: LossCase) -> HungarianMatcher:
        """The matcher with the options of the case."""
        options = case.matcher
        return HungarianMatcher(dict(options.cost_gain), options.use_fl, options.alpha, options.gamma)

    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        """Every layer through the matcher."""
        matcher, tensors = self.matcher(case), PaddleTensors.of(case)
        layers = zip(*(tensors.predictions[name] for name in ("pred_bboxes", "pred_scores")), strict=True)
        targets = (tensors.gt_bbox, tensors.gt_class)
        return [_through_the_batch(case, matcher(boxes, logits, *targets)) for boxes, logits in layers]


def _result(loss: DINOLoss, case: LossCase) -> LossResult:
    """Losses, gradients, and which inputs the call has changed."""
    tensors = PaddleTensors.of(case)
    before = tensors.arrays()
    losses = _called(loss, case, tensors)
    after = tensors.arrays()
    return LossResult(
        losses={key: each.numpy() for key, each in losses.items()},
        gradients=GradientsOnDemand(losses, lambda key: _gradients(losses[key], tensors.predictions)),
        dtypes={key: str(each.dtype).removeprefix("paddle.") for key, each in losses.items()},
        mutated=[name for name in before if not np.array_equal(before[name], after[name], equal_nan=True)],
    )


def _called(loss: DINOLoss, case: LossCase, tensors: PaddleTensors) -> dict[str, Any]:
    """As the model calls it. Losses have shape (1,) there, from a time when Paddle had no scalars."""
    predictions = tensors.predictions
    denoising: dict[str, Any] = {}
    if case.denoising is not None:
        meta = {"dn_positive_idx": tensors.positives, "dn_num_group": case.denoising.num_group}
        outputs = {"dn_out_bboxes": predictions["dn_bboxes"], "dn_out_logits": predictions["dn_scores"]}
        denoising = {**outputs, "dn_meta": meta}
    layers = (predictions["pred_bboxes"], predictions["pred_scores"])
    losses = loss(*layers, tensors.gt_bbox, tensors.gt_class, **denoising)
    return {key: each.reshape([]) for key, each in losses.items()}


def _gradients(loss: Any, inputs: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
    """Of one loss by each input that it is connected to."""
    if loss.stop_gradient:
        return {}
    gradients = paddle.grad(loss, list(inputs.values()), retain_graph=True, allow_unused=True)
    return {name: each.numpy() for name, each in zip(inputs, gradients, strict=True) if each is not None}


def _through_the_batch(case: LossCase, pairs: Sequence[Sequence[Any]]) -> list[Matching]:
    """Targets counted from the start of the batch."""
    return [
        (queries.numpy(), targets.numpy() + case.of_image(image).start)
        for image, (queries, targets) in enumerate(pairs)
    ]


def port() -> PaddleDetPort:
    """The installed `paddledet` package."""
    return PaddleDetPort()
