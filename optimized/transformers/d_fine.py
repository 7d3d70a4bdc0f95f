"""The loss of D-FINE for models of the `transformers` package: `model.loss_function = d_fine_loss`.

Reference: Peng et al., D-FINE, arXiv 2410.13842, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.by_layer import Queries, Recipe, denoising_pairs, matched, number_of_targets
from detr_conformance.optimized.distributions import (
    SIDES,
    Distributions,
    QuerySet,
    bin_offsets,
    local_losses,
)
from detr_conformance.optimized.normaliser import check_process_group
from detr_conformance.optimized.options import Weight
from detr_conformance.optimized.precision import arithmetic_dtype
from detr_conformance.optimized.targets import Pairs, Targets
from detr_conformance.optimized.targets_of_images import targets_of_queries
from detr_conformance.optimized.transformers.configuration import KEYS, costs_of, number, recipe_of
from detr_conformance.optimized.transformers.model_outputs import (
    TARGETS,
    as_outputs,
    decoder_layers,
    encoder_layer,
    last_layer,
    named,
    needed,
    split_of,
)
from detr_conformance.optimized.upload import on_device
from detr_conformance.optimized.validation import check_count, check_device, check_floats

ALL_KEYS = (*KEYS, "loss_fgl", "loss_ddf")


def d_fine_loss(
    logits: Float[Tensor, "images all_queries classes"],
    labels: Sequence[Mapping[str, Tensor]],
    device: torch.device | str | None,  # noqa: ARG001  # the argument list is that of `transformers`
    pred_boxes: Float[Tensor, "images all_queries 4"],
    config: Any,
    outputs_class: Float[Tensor, "images layers all_queries classes"] | None = None,
    outputs_coord: Float[Tensor, "images layers all_queries 4"] | None = None,
    enc_topk_logits: Float[Tensor, "images queries classes"] | None = None,
    enc_topk_bboxes: Float[Tensor, "images queries 4"] | None = None,
    denoising_meta_values: Mapping[str, Any] | None = None,
    predicted_corners: Float[Tensor, "images corner_layers all_queries numbers"] | None = None,
    initial_reference_points: Float[Tensor, "images corner_layers all_queries 4"] | None = None,
    *,
    process_group: dist.ProcessGroup | None = None,
    **kwargs: object,  # noqa: ARG001  # as above
) -> tuple[Tensor, dict[str, Tensor], list[dict[str, Tensor]] | None]:
    """What `DFineForObjectDetectionLoss` of `transformers` returns, in a fraction of its time.

    Every layer has the losses of `rt_detr_loss`, of boxes clipped to [0, 1]. Those of the decoder before the last, and
    all with denoising queries, have two more, which `distributions.local_losses` spells out:

        loss_fgl = weight_loss_fgl FGL / N          loss_ddf = weight_loss_ddf DDF

    over the layer's own matching, where N is multiplied by the groups for denoising queries.

    quirk: the predictions of a layer go with the distributions at the same place. A model hands over predictions of
    one layer more than distributions, those of a head before its first layer. So that head goes with the first layer's
    distributions, the first layer with the second's, and so on; the layer before the last has no loss of ordinary
    queries then, and the last none of denoising queries.

    Args:
        logits: see `rt_detr_loss`, as for all that is not said here.
        labels: for each image `class_labels` (targets,) and `boxes` (targets, 4) in centre form.
        device: not read, as in `transformers`.
        pred_boxes: boxes of the last layer in centre form.
        config: is read at each call: what `rt_detr_loss` reads, and with `auxiliary_loss` also `weight_loss_fgl`,
            `weight_loss_ddf`, `max_num_bins`, `up` and `reg_scale`.
        outputs_class: logits of all layers of the decoder; needed with `auxiliary_loss`, like what follows but the
            denoising values. The last layer's say how much DDF weighs a query that is not matched.
        outputs_coord: their boxes.
        enc_topk_logits: logits of the encoder's layer, which is the last of the auxiliary ones.
        enc_topk_bboxes: its boxes.
        denoising_meta_values: `dn_positive_idx`, `dn_num_group` and `dn_num_split`; None without denoising queries.
        predicted_corners: logits of `max_num_bins` + 1 bins for each of the sides left, top, right and bottom.
        initial_reference_points: boxes in centre form, from whose sides the bins are counted.
        process_group: see `rt_detr_loss`. DDF is a mean already and is divided by nothing.
        kwargs: not read.

    Returns:
        As `rt_detr_loss`; the predictions of an auxiliary layer hold what its two losses are about, too.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
        RuntimeError: the backend cannot run here.
    """
    recipe, costs = recipe_of(config), costs_of(config)
    split = None if denoising_meta_values is None else split_of(denoising_meta_values)
    main = _clipped(last_layer(logits, pred_boxes, split, config.num_labels))
    targets = targets_of_queries(labels, TARGETS, *main)
    check_process_group(process_group)
    count = number_of_targets(targets, process_group)

    losses = named(KEYS, recipe.losses(main, targets, matched(main, targets, costs), count), [""])
    if not config.auxiliary_loss:
        return torch.stack([*losses.values()]).sum(), losses, None
    encoder = _clipped(encoder_layer(enc_topk_logits, enc_topk_bboxes, main))
    distributions = _distributions(predicted_corners, initial_reference_points, logits, targets, config)
    layers = distributions.corners.shape[1]
    decoder, denoising = decoder_layers(outputs_class, outputs_coord, split, main, at_most=layers)
    decoder, first = _clipped(decoder), 0 if split is None else split[0]
    sets = []
    if len(decoder.pred_scores):
        sets.append(Answering("_aux", decoder, matched(decoder, targets, costs), count, first))
    if denoising is not None:
        pairs, groups = denoising_pairs(denoising, targets, denoising_meta_values, "denoising_meta_values")
        sets.append(Answering("_dn", _clipped(denoising), pairs, count * groups, 0))
    teacher = needed("outputs_class", outputs_class)[:, -1]
    of_sets = _losses_of_sets(sets, targets, recipe, distributions, teacher, config)
    of_encoder = recipe.losses(encoder, targets, matched(encoder, targets, costs), count)
    losses |= of_sets.get("_aux", {}) | named(KEYS, of_encoder, [f"_aux_{len(decoder.pred_scores)}"])
    losses |= of_sets.get("_dn", {})
    outputs = [*_as_outputs(decoder, distributions, teacher, first), *as_outputs(encoder)]
    return torch.stack([*losses.values()]).sum(), losses, outputs


class Answering(NamedTuple):
    """Queries of the decoder, in some layers, that have all losses.

    Attributes:
        kind: what their keys end in before the layer.
        queries: the predictions.
        pairs: a row of them for each layer, or one for all layers.
        normaliser: what every loss but DDF is divided by.
        first: the place of the first of them among all queries.
    """

    kind: str
    queries: Queries
    pairs: Pairs
    normaliser: Weight
    first: int


def _losses_of_sets(
    sets: Sequence[Answering],
    targets: Targets,
    recipe: Recipe,
    distributions: Distributions,
    teacher: Float[Tensor, "images all_queries classes"],
    config: Any,
) -> dict[str, dict[str, Tensor]]:
    """All losses of each set under their keys, by its kind."""
    confidence = teacher.detach().amax(-1).to(targets.boxes.dtype).sigmoid()
    weights = [number(config, f"weight_{key}") for key in ALL_KEYS[len(KEYS) :]]
    asked = [_with_confidence(each, confidence) for each in sets]
    found = {}
    for own, local in zip(sets, local_losses(distributions, asked, targets), strict=True):
        shared = recipe.losses(own.queries, targets, own.pairs, own.normaliser)
        fgl, ddf = local.fgl * (weights[0] / own.normaliser), local.ddf * weights[1]
        every = [(*layer, *(each.clone() for each in more)) for layer, *more in zip(shared, fgl, ddf, strict=True)]
        found[own.kind] = named(ALL_KEYS, every, [f"{own.kind}_{at}" for at in range(len(every))])
    return found


def _with_confidence(own: Answering, confidence: Float[Tensor, "images all_queries"]) -> QuerySet:
    """What the local losses ask of a set."""
    layers, _, queries, _ = own.queries.pred_bboxes.shape
    of_own = confidence[:, own.first : own.first + queries]
    return QuerySet(own.first, own.queries.pred_bboxes, of_own, own.pairs.in_layers(layers))


def _clipped(queries: Queries) -> Queries:
    """Boxes whose four numbers lie in [0, 1]."""
    return Queries(queries.pred_bboxes.clamp(0, 1), queries.pred_scores)


def _distributions(
    corners: Tensor | None, references: Tensor | None, logits: Tensor, targets: Targets, config: Any
) -> Distributions:
    """The distributions, if they fit the queries."""
    corners = check_floats("predicted_corners", needed("predicted_corners", corners))
    references = check_floats("initial_reference_points", needed("initial_reference_points", references))
    bins, (images, queries) = _number_of_bins(config), logits.shape[:2]
    _check_shape("predicted_corners", corners, (images, "layers", queries, SIDES * bins), logits)
    _check_shape("initial_reference_points", references, (images, corners.shape[1], queries, 4), logits)
    reach, flatness = (_magnitude(config, name) for name in ("up", "reg_scale"))
    of_bins = bins, reach, 1 / flatness, arithmetic_dtype(corners, targets.boxes)
    return Distributions(corners, references, on_device(bin_offsets, *of_bins, device=logits.device))


def _check_shape(name: str, tensor: Tensor, expected: tuple[int | str, ...], logits: Tensor) -> None:
    """A tensor of this shape, where an axis with a name is of any size but 0, on the device of the logits."""
    shape = tuple(tensor.shape)
    fits = [size == each if isinstance(each, int) else size > 0 for size, each in zip(shape, expected, strict=False)]
    if len(shape) != len(expected) or not all(fits):
        raise ValueError(f"{name} has shape {shape}, expected ({', '.join(map(str, expected))}) as in logits")
    check_device(name, tensor, "logits", logits.device)


def _number_of_bins(config: Any) -> int:
    """How many bins a side has."""
    last = check_count("config.max_num_bins", config.max_num_bins, least=4)
    if last % 2:
        raise ValueError(f"config.max_num_bins is {last}, expected an even number")
    return last + 1


def _magnitude(config: Any, name: str) -> float:
    """A number of the configuration without its sign."""
    magnitude = abs(number(config, name))
    if not magnitude:
        raise ValueError(f"config.{name} is {magnitude}, expected a number that is not 0")
    return magnitude


def _as_outputs(
    decoder: Queries, given: Distributions, teacher: Float[Tensor, "images all_queries classes"], first: int
) -> list[dict[str, Tensor]]:
    """The predictions of each layer before the last with its distributions, as `transformers` returns them."""
    corners, references = given.corners[:, :, first:], given.references[:, :, first:]
    taught_by = {"teacher_corners": corners[:, -1], "teacher_logits": teacher[:, first:]}
    return [
        {**own, "pred_corners": corners[:, layer], "ref_points": references[:, layer], **taught_by}
        for layer, own in enumerate(as_outputs(decoder))
    ]
