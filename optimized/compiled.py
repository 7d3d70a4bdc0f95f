"""The loss as a single operator, for callers that `torch.compile` traces.

A tracer cannot look into the assignment solver, and should not unroll what is one batch already. It sees one operator
that returns the losses and their derivatives, which it can scale together with its own code. There is no graph break,
neither on the CPU nor on CUDA.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from detr_conformance.optimized.loss_weights import gain_inside

_classes: dict[str, Callable[..., Any]] = {}
_groups: dict[str, dist.ProcessGroup] = {}


def known_to_compiler(loss_class: Any) -> Any:
    """Let the operator find a loss class by its name: it is called with numbers, strings and tensors only."""
    loss_class.operator_name = loss_class.__name__  # that of a subclass too, as far as it overrides nothing
    _classes[loss_class.__name__] = loss_class
    return loss_class


def name_of_group(process_group: dist.ProcessGroup | None) -> str:
    """A name by which the operator finds the group; empty for none."""
    if process_group is None:
        return ""
    _groups[process_group.group_name] = process_group
    return str(process_group.group_name)


def group_of_name(name: str) -> dist.ProcessGroup | None:
    """The group that `name_of_group` gave this name.

    Raises:
        RuntimeError: this process has no such group, as where a loss has been unpickled in another one.
    """
    if name and name not in _groups:
        raise RuntimeError(f"process_group {name!r} is not known in this process: build the loss anew, with its group")
    return _groups[name] if name else None


OPTIONS: dict[str, Callable[[float], Any]] = {
    "nc": int,
    "aux_loss": bool,
    "use_fl": bool,
    "use_vfl": bool,
    "use_uni_match": bool,
    "uni_match_ind": int,
    "validate": bool,
}
"""Of a loss, each with its type: an operator takes numbers alone."""
GAINS = ("class", "bbox", "giou")
OF_CLASS_LOSSES = ("gamma", "alpha")
OF_MATCHER: dict[str, Callable[[float], Any]] = {"alpha": float, "gamma": float, "use_fl": bool}


def options_as_numbers(loss: Any) -> list[float]:
    """What `_loss` builds one like it from, as it is now."""
    options = [float(getattr(loss, name)) for name in OPTIONS]
    gains = [float(gain_inside(loss.loss_gain, term)) for term in GAINS]
    parts = [
        0.0 if part is None else float(getattr(part, name)) for part in (loss.fl, loss.vfl) for name in OF_CLASS_LOSSES
    ]
    costs = [float(loss.matcher.cost_gain[term]) for term in GAINS]
    return [*options, *gains, *parts, *costs, *(float(getattr(loss.matcher, name)) for name in OF_MATCHER)]


@lru_cache(maxsize=64)
def _loss(name: str, numbers: tuple[float, ...], backend: str, process_group: dist.ProcessGroup | None) -> Any:
    """A loss with these options, for these processes."""
    given = iter(numbers)
    options = {option: kind(next(given)) for option, kind in OPTIONS.items()}
    gains = {term: next(given) for term in GAINS}
    loss = _classes[name](**options, loss_gain=gains, backend=backend or None, process_group=process_group)
    for part in (loss.fl, loss.vfl):
        for option in OF_CLASS_LOSSES:
            value = next(given)
            if part is not None:
                setattr(part, option, value)
    loss.matcher.cost_gain = {term: next(given) for term in GAINS}
    for option, kind in OF_MATCHER.items():
        setattr(loss.matcher, option, kind(next(given)))
    return loss


@torch.library.custom_op("detr_conformance::detr_losses", mutates_args=())
def detr_losses(  # noqa: PLR0913, PLR0917  # an operator takes no records
    predictions: Sequence[Tensor],
    gt_bboxes: Tensor,
    gt_cls: Tensor,
    gt_groups: Sequence[int],
    queries: Sequence[Tensor],
    targets: Sequence[Tensor],
    groups: int,
    name: str,
    options: Sequence[float],
    backend: str,
    group: str,
) -> list[Tensor]:
    """Losses and derivatives of one step: see `DETRLoss.terms` for arguments and result."""
    loss = _loss(name, tuple(options), backend, group_of_name(group))
    batch = {"bboxes": gt_bboxes, "cls": gt_cls, "gt_groups": list(gt_groups)}
    parts = loss.terms(predictions, batch, list(queries), list(targets), groups)
    return [tensor for part in parts for tensor in part]


@detr_losses.register_fake
def _outputs(predictions: Sequence[Tensor], *_: Any) -> list[Tensor]:
    outputs = []
    for boxes, scores in _parts(predictions):
        dtype = torch.promote_types(torch.promote_types(boxes.dtype, scores.dtype), torch.float32)
        outputs += [scores.new_empty(6, dtype=dtype), scores.new_empty(scores.shape)]
        outputs += [boxes.new_empty(boxes.shape), boxes.new_empty(boxes.shape)]
    return outputs


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(*output)
    ctx.indices = [len(inputs[4]), len(inputs[5])]


def _backward(ctx: Any, of_outputs: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """The chain rule: each layer's derivative times what arrives at its loss. Nothing arrives at a derivative."""
    saved, gradients = ctx.saved_tensors, []
    for first in range(0, len(saved), 4):
        _, by_class, by_bbox, by_giou = saved[first : first + 4]
        of_losses = of_outputs[first]
        assert of_losses is not None  # noqa: S101  # torch makes zeros of what is not used
        main, auxiliary = of_losses.view(2, 3, 1)
        of_layers = torch.cat([auxiliary.expand(3, len(by_class) - 1), main], dim=1)
        of_class, of_bbox, of_giou = of_layers.view(3, -1, 1, 1, 1)
        of_boxes = by_bbox * of_bbox + by_giou * of_giou
        gradients += [of_boxes.to(by_bbox.dtype), (by_class * of_class).to(by_class.dtype)]
    of_queries, of_targets = ([None] * length for length in ctx.indices)
    return gradients, None, None, None, of_queries, of_targets, None, None, None, None, None


detr_losses.register_autograd(_backward, setup_context=_save)


def _parts(predictions: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Boxes and logits of each set of queries."""
    return list(zip(predictions[::2], predictions[1::2], strict=True))


def losses_of_parts(
    loss: Any,
    predictions: Sequence[Tensor],
    batch: Any,
    queries: Sequence[Tensor] = (),
    targets: Sequence[Tensor] = (),
    groups: int = 0,
) -> list[Tensor]:
    """The losses of each set of queries, those of `LayerLosses` in one tensor.

    Derivatives of float16 would be stored before a gradient scaler's factor is known, which they may need to be
    representable; so the operator gets and returns float32 in its place.
    """
    exact = [each.float() if each.dtype == torch.float16 else each for each in predictions]
    how = (loss.operator_name, options_as_numbers(loss), loss.backend or "", loss.name_of_group)
    given = (batch["bboxes"], batch["cls"], batch["gt_groups"])
    return list(detr_losses(exact, *given, list(queries), list(targets), groups, *how)[::4])
