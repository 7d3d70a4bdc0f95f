"""Deviations in the form of the result: keys, shapes, dtypes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import LossResult
from detr_conformance.properties.tolerance import rounded
from detr_conformance.reference import Losses, RTDETRDetectionLoss


class NoDenoisingKeysWithoutTargets(RTDETRDetectionLoss):
    """A batch without targets has other keys than one with targets."""

    def forward(self, *args: Any, **options: Any) -> Losses:
        """As the reference, but a rank whose images are all empty reports no denoising losses."""
        losses, (_, batch, *_) = super().forward(*args, **options), args
        return losses if sum(batch["gt_groups"]) else {key: loss for key, loss in losses.items() if "_dn" not in key}


def keyed(change: Callable[[Losses, int, int], Losses]) -> type[RTDETRDetectionLoss]:
    """The loss with other keys: a function of the right losses, the number of targets and that of layers."""

    class Loss(RTDETRDetectionLoss):
        def forward(self, preds: Any, batch: Any, *denoising: Any) -> Losses:  # type: ignore[override]
            losses = super().forward(preds, batch, *denoising)
            return change(losses, sum(batch["gt_groups"]), len(preds[0]))

    return Loss


def renamed(old: str, new: str, when: Callable[[Losses], bool] = bool) -> type[RTDETRDetectionLoss]:
    """The loss with a part of each key replaced."""

    def rename(losses: Losses, *_: int) -> Losses:
        return {key.replace(old, new) if when(losses) else key: loss for key, loss in losses.items()}

    return keyed(rename)


def no_denoising(losses: Losses) -> bool:
    """Whether all denoising losses are 0."""
    return not any(float(loss) for key, loss in losses.items() if "_dn" in key)


def without_zero_boxes(losses: Losses, targets: int, _layers: int) -> Losses:
    """Keys of box losses where there are boxes."""
    return {key: loss for key, loss in losses.items() if targets or "class" in key}


def without_zero_denoising(losses: Losses, *_: int) -> Losses:
    """Keys of denoising losses where there are such queries."""
    return {key: loss for key, loss in losses.items() if "_dn" not in key or not no_denoising(losses)}


def without_aux_of_one_layer(losses: Losses, _targets: int, layers: int) -> Losses:
    """Keys of auxiliary losses where there are such layers."""
    return {key: loss for key, loss in losses.items() if layers > 1 or "_aux" not in key}


def with_total(losses: Losses, *_: int) -> Losses:
    """The sum of all, too."""
    first, *others = losses.values()
    return {**losses, "loss": sum(others, start=first)}


class MainDenoisingKeysWithoutSuffix(RTDETRDetectionLoss):
    """The main denoising losses overwrite the others."""

    def _denoising_losses(self, *args: Any) -> Losses:
        losses = super()._denoising_losses(*args)
        return {key if "_aux" in key else key.removesuffix("_dn"): loss for key, loss in losses.items()}


class OneEntryEach(ReferencePort):
    """Losses of shape (1,)."""

    def loss(self, case: LossCase) -> LossResult:
        """Every loss with an axis."""
        result = super().loss(case)
        return replace(result, losses={key: loss.reshape(1) for key, loss in result.losses.items()})


class BoxLossesInHalf(ReferencePort):
    """The main box losses in the precision of the predictions."""

    def loss(self, case: LossCase) -> LossResult:
        """In float16 and bfloat16, too."""
        result = super().loss(case)
        if case.dtype not in ("float16", "bfloat16"):
            return result
        keys = [f"loss_{term}{part}" for term in ("bbox", "giou") for part in ("", "_dn")]
        cast = {key: rounded(result.losses[key], case.dtype) for key in keys}
        dtypes = {**result.dtypes, **dict.fromkeys(keys, case.dtype)}
        return replace(result, losses={**result.losses, **cast}, dtypes=dtypes)


class LossesInSingle(ReferencePort):
    """Every loss in float32."""

    def loss(self, case: LossCase) -> LossResult:
        """Of float64 predictions too."""
        result = super().loss(case)
        cast = {key: rounded(loss, "float32") for key, loss in result.losses.items()}
        return replace(result, losses=cast, dtypes=dict.fromkeys(cast, "float32"))


class WholeZeros(ReferencePort):
    """A loss of nothing is the integer 0."""

    def loss(self, case: LossCase) -> LossResult:
        """Zeros as int64."""
        result = super().loss(case)
        dtypes = {key: dtype if result.losses[key] else "int64" for key, dtype in result.dtypes.items()}
        return replace(result, dtypes=dtypes)


KEYS = "loss specification, DETRLoss and RTDETRDetectionLoss: keys"
SCALAR = "loss specification, DETRLoss: every loss is a scalar of shape () in float32 or better"

INTERFACE_DEVIATIONS = (
    Deviation(
        "rtdetr-empty-rank-hangs",
        "API",
        "A rank without targets had no denoising losses, so that ranks disagreed on the keys and hung. "
        "Right: the same keys, zero. Shows in a batch without targets.",
        "lyuwenyu/RT-DETR, issues 529 and 672, pull request 684",
        loss=NoDenoisingKeysWithoutTargets,
    ),
    Deviation(
        "detrex-dn-zero-loss-wrong-key",
        "API",
        "Without denoising queries the zeros went by loss_ce_dn, and the losses otherwise by loss_class_dn. Right: the "
        "same keys. Shows without denoising queries.",
        "IDEA-Research/detrex, commit 2913d2a, pull request 36",
        loss=renamed("class_dn", "ce_dn", no_denoising),
    ),
    Deviation(
        "dfine-ddf-key-missing",
        "API",
        "A loss that came out as nothing was not reported, so that ranks disagreed on the keys. Right: the same keys, "
        "zero. Shows in a batch without targets.",
        "Peterande/D-FINE, commit 580a018",
        loss=keyed(without_zero_boxes),
    ),
    Deviation(
        "plausible-no-denoising-keys",
        "API",
        "Without denoising queries there are no keys for them. Right: the same keys, zero. Shows without denoising "
        "queries.",
        KEYS,
        loss=keyed(without_zero_denoising),
    ),
    Deviation(
        "plausible-no-aux-keys-of-one-layer",
        "API",
        "With one layer there are no auxiliary keys. Right: the same keys, zero. Shows with one layer.",
        KEYS,
        loss=keyed(without_aux_of_one_layer),
    ),
    Deviation(
        "plausible-main-denoising-keys-without-suffix",
        "API",
        "The main denoising losses go by the names of the ordinary ones, and overwrite them. Right: with _dn. Shows "
        "with denoising queries.",
        KEYS,
        loss=MainDenoisingKeysWithoutSuffix,
    ),
    Deviation(
        "plausible-suffixes-exchanged",
        "API",
        "Auxiliary denoising losses end in _dn_aux. Right: in _aux_dn. Shows always.",
        KEYS,
        loss=renamed("_aux_dn", "_dn_aux"),
    ),
    Deviation(
        "plausible-total-among-the-losses",
        "API",
        "The sum of all losses is one of them, and a trainer that adds them up counts them twice. Right: the parts "
        "alone. Shows always.",
        KEYS,
        loss=keyed(with_total),
    ),
    Deviation(
        "paddle-losses-of-shape-1",
        "API",
        "Losses had shape (1,). Right: (). Shows always.",
        "PaddlePaddle/PaddleDetection, DINOLoss",
        port_class=OneEntryEach,
    ),
    Deviation(
        "plausible-box-losses-in-half",
        "API",
        "The main box losses come in the precision of the predictions. Right: in float32 or better. Shows with "
        "float16.",
        SCALAR,
        port_class=BoxLossesInHalf,
    ),
    Deviation(
        "plausible-losses-in-single",
        "API",
        "Every loss is cast to float32, also that of float64 predictions, as a port does that calls .float() on all it "
        "is given. Right: a loss is as precise as its predictions. Shows with float64.",
        SCALAR,
        port_class=LossesInSingle,
    ),
    Deviation(
        "plausible-integer-zeros",
        "API",
        "A loss of nothing is the integer 0. Right: in float32 or better. Shows without denoising queries.",
        SCALAR,
        port_class=WholeZeros,
    ),
)
