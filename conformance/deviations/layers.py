"""Deviations in the auxiliary losses: which layers are auxiliary, and how often each counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.frames import placed
from detr_conformance.reference import Losses, RTDETRDetectionLoss
from detr_conformance.reference.loss_value import zero_loss

AUX = "loss specification, DETRLoss, forward"


class WeightedLayers(RTDETRDetectionLoss):
    """Auxiliary layers do not count once each."""

    def _weights(self, layers: int) -> Sequence[float]:
        """The weight of each of so many auxiliary layers."""
        raise NotImplementedError

    def _get_loss_aux(self, *args: Any, **options: Any) -> Losses:
        pred_bboxes, pred_scores, *targets = args
        if options.get("match_indices") is None and self.use_uni_match and len(pred_bboxes):
            shared = self._shared_layer(len(pred_bboxes))
            options["match_indices"] = self.matcher(pred_bboxes[shared], pred_scores[shared], *targets)
        totals = super()._get_loss_aux(pred_bboxes[:0], pred_scores[:0], *targets, **options)
        for layer, weight in enumerate(self._weights(len(pred_bboxes))):
            own = slice(layer, layer + 1)
            losses = super()._get_loss_aux(pred_bboxes[own], pred_scores[own], *targets, **options)
            for key, loss in losses.items() if weight else ():
                totals[key] += placed(loss, layer, pred_bboxes.shape[:3]) * weight
        return totals


class LastLayerDropped(WeightedLayers):
    """The last auxiliary layer is dropped, by a helper that slices although its caller already did."""

    def _weights(self, layers: int) -> Sequence[float]:
        return [*[1.0] * (layers - 1), 0.0][:layers]


class FirstLayerDropped(WeightedLayers):
    """The first layer, the encoder's, is dropped."""

    def _weights(self, layers: int) -> Sequence[float]:
        return [0.0, *[1.0] * (layers - 1)][:layers]


class LastLayerTwice(WeightedLayers):
    """The last auxiliary layer counts twice."""

    def _weights(self, layers: int) -> Sequence[float]:
        return [*[1.0] * (layers - 1), 2.0][:layers]


class LastLayerOnly(WeightedLayers):
    """Each layer's losses overwrite those of the one before."""

    def _weights(self, layers: int) -> Sequence[float]:
        return [*[0.0] * (layers - 1), 1.0][:layers]


class MeanOfLayers(WeightedLayers):
    """The layers are averaged."""

    def _weights(self, layers: int) -> Sequence[float]:
        return [1.0 / layers] * layers if layers else []


class FadingLayers(WeightedLayers):
    """A layer counts half as much as the one after it."""

    def _weights(self, layers: int) -> Sequence[float]:
        return [2.0 ** (layer - layers) for layer in range(layers)]


def has_denoising(_preds: Any, _batch: Any, *denoising: Any) -> bool:
    """Whether the loss was called with denoising queries."""
    return any(each is not None for each in denoising)


class EncoderOnlyWithDenoising(FirstLayerDropped):
    """The first layer, the encoder's, is dropped where there are no denoising queries."""

    with_denoising = False

    def _weights(self, layers: int) -> Sequence[float]:
        return [1.0] * layers if self.with_denoising else super()._weights(layers)

    def forward(self, *args: Any, **options: Any) -> Losses:
        """As the reference, remembering what it was called with."""
        self.with_denoising = has_denoising(*args)
        return super().forward(*args, **options)


class AuxiliaryOnlyWithDenoising(RTDETRDetectionLoss):
    """There are no auxiliary losses where there are no denoising queries."""

    def forward(self, *args: Any, **options: Any) -> Losses:
        """As the reference, with zeros."""
        losses = super().forward(*args, **options)
        gone = not has_denoising(*args)
        return {key: zero_loss() if gone and "_aux" in key else loss for key, loss in losses.items()}


LAYER_DEVIATIONS = (
    Deviation(
        "hf-aux-sliced-twice",
        "AUX",
        "A helper that drops the last layer was imported where the caller had dropped it already: one auxiliary layer "
        "was lost. Right: L - 1 auxiliary terms. Shows in the sum over layers.",
        "huggingface/transformers 4.46.3 to 4.48.3, loss/loss_rt_detr.py",
        loss=LastLayerDropped,
    ),
    Deviation(
        "hf-enc-loss-dropped",
        "AUX",
        "The encoder's losses were computed and had no weight, and later were not computed at all. Right: the first "
        "layer is an auxiliary layer like the others. Shows in the sum over layers.",
        "huggingface/transformers, modeling_deformable_detr.py 4.35 to 4.44, loss/loss_deformable_detr.py since 4.46",
        loss=FirstLayerDropped,
    ),
    Deviation(
        "hf-enc-loss-only-with-dn",
        "AUX",
        "The encoder's outputs were filled in only beside denoising queries. Right: they do not depend on them. Shows "
        "without denoising queries.",
        "huggingface/transformers 4.46.3 to 4.48.3, modeling_rt_detr.py",
        loss=EncoderOnlyWithDenoising,
    ),
    Deviation(
        "hf-dfine-aux-gated-on-dn",
        "AUX",
        "All auxiliary losses were inside a condition on the denoising queries. Right: only the denoising losses "
        "depend on them. Shows without denoising queries.",
        "huggingface/transformers up to 5.6, loss/loss_d_fine.py, issue 45593, pull request 45601",
        loss=AuxiliaryOnlyWithDenoising,
    ),
    Deviation(
        "plausible-aux-averaged",
        "AUX",
        "The auxiliary losses are averages over the layers. Right: sums. Shows with three layers.",
        AUX,
        loss=MeanOfLayers,
    ),
    Deviation(
        "plausible-aux-fading",
        "AUX",
        "Earlier layers have smaller weights. Right: every layer counts once. Shows with two layers.",
        AUX,
        loss=FadingLayers,
    ),
    Deviation(
        "plausible-aux-layer-twice",
        "AUX",
        "One auxiliary layer is counted twice. Right: once. Shows with two layers.",
        AUX,
        loss=LastLayerTwice,
    ),
    Deviation(
        "plausible-aux-overwritten",
        "AUX",
        "The loop over the layers assigns the losses instead of adding them, and the last one stays. Right: the sum. "
        "Shows with three layers.",
        AUX,
        loss=LastLayerOnly,
    ),
)
