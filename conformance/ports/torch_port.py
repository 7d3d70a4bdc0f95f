"""What every port written in PyTorch shares: tensors out of a case, and losses and gradients back into arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from detr_conformance.ports.gradients_on_demand import GradientsOnDemand
from detr_conformance.ports.handed_over import HandedOver
from detr_conformance.ports.ranks import in_ranks
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import FROZEN, LossResult, Matching
from detr_conformance.reference import LossSpec


@dataclass(frozen=True)
class CaseTensors:
    """A case as tensors; see `LossCase` for shapes.

    Attributes:
        predictions: `pred_bboxes` and `pred_scores`, with denoising also `dn_bboxes` and `dn_scores`, with masks also
            `pred_masks` and `dn_masks`; leaves that require a gradient, in the dtype of the case.
        gt_cls: class of each target, int64.
        gt_bboxes: box of each target, float32 or float64.
        batch_idx: image of each target, int64.
        pos_idx: for each image its positive denoising slots, int64; empty without denoising.
        gt_idx: for each image the targets of one denoising group, int64; empty without denoising.
        constants: what extra terms read beside predictions, by name, float32 or float64: with masks `gt_masks`, with
            points for them `loss_points` and `cost_points`.
        handed_over: lists and dictionaries that a port makes of these for its loss; it is told of a change in those
            that `call` has it watch.
    """

    predictions: Mapping[str, torch.Tensor]
    gt_cls: torch.Tensor
    gt_bboxes: torch.Tensor
    batch_idx: torch.Tensor
    pos_idx: tuple[torch.Tensor, ...]
    gt_idx: tuple[torch.Tensor, ...]
    constants: Mapping[str, torch.Tensor] = field(default_factory=dict)
    handed_over: HandedOver = field(default_factory=HandedOver)

    def named(self) -> dict[str, torch.Tensor]:
        """Every tensor by a name for messages."""
        tensors = {**self.predictions, "gt_cls": self.gt_cls, "gt_bboxes": self.gt_bboxes, "batch_idx": self.batch_idx}
        tensors |= self.constants
        tensors |= {f"dn_pos_idx[{image}]": each for image, each in enumerate(self.pos_idx)}
        return tensors | {f"dn_gt_idx[{image}]": each for image, each in enumerate(self.gt_idx)}


def tensors_of(case: LossCase, device: str = "cpu", differentiable: bool = True, split: bool = False) -> CaseTensors:
    """Fresh tensors with the numbers of the case.

    Args:
        case: the case.
        device: where they lie.
        differentiable: predictions ask for gradients.
        split: predictions of denoising queries are views of larger tensors.
    """
    predicted, denoising = case.predictions(), case.denoising
    predictions = {name: float_tensor(each, case.dtype, device) for name, each in predicted.items()}
    if split:
        predictions |= {name: _first_half(each) for name, each in predictions.items() if name.startswith("dn_")}
    others = {name: each for name, each in case.float_arrays().items() if name not in (*predicted, "gt_bboxes")}
    return CaseTensors(
        predictions={name: each.requires_grad_(differentiable) for name, each in predictions.items()},
        gt_cls=torch.tensor(case.gt_cls, dtype=torch.int64, device=device),
        gt_bboxes=float_tensor(case.gt_bboxes, case.target_dtype, device),
        batch_idx=torch.tensor(case.batch_idx, dtype=torch.int64, device=device),
        pos_idx=() if denoising is None else index_tensors(denoising.pos_idx, device),
        gt_idx=() if denoising is None else index_tensors(denoising.gt_idx, device),
        constants={name: float_tensor(each, case.target_dtype, device) for name, each in others.items()},
    )


def _first_half(queries: torch.Tensor) -> torch.Tensor:
    """A view with the same numbers of a tensor with twice as many queries, which is what comes of torch.split."""
    return torch.cat([queries, queries], dim=2)[:, :, : queries.shape[2]]


def float_tensor(array: np.ndarray, dtype: str, device: str = "cpu") -> torch.Tensor:
    """A copy of the array as a tensor of the dtype."""
    return torch.tensor(np.array(array), dtype=getattr(torch, dtype), device=device)


def index_tensors(indices: Iterable[np.ndarray], device: str = "cpu") -> tuple[torch.Tensor, ...]:
    """Copies of index arrays as int64 tensors."""
    return tuple(torch.tensor(each, dtype=torch.int64, device=device) for each in indices)


def arrays_of(pair: Iterable[Any]) -> Matching:
    """Queries and targets as arrays."""
    queries, targets = (np.asarray(torch.as_tensor(each).detach().cpu()) for each in pair)
    return queries, targets


class TorchPort(ABC):
    """A port in PyTorch: implement `build` and `call`, and the methods of the capabilities that you declare.

    The gradient of each loss is taken by autograd, one loss at a time. With `ranks` the loss is called once for each
    rank, in a process group of `torch.distributed` that needs no other process; with `normaliser` implement
    `call_in_step`.

    Attributes:
        device: where the tensors lie that the port is called with.
    """

    name: str
    profile: str | LossSpec
    capabilities: frozenset[str]
    dtypes: frozenset[str]
    device: str = "cpu"

    @abstractmethod
    def build(self, case: LossCase) -> Any:
        """The loss object for the configuration of the case."""

    @abstractmethod
    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """Call a loss object on these tensors, and return its dictionary of losses as it comes."""

    def call_in_step(
        self, loss: Any, case: LossCase, tensors: CaseTensors, step: Sequence[LossCase]
    ) -> Mapping[str, torch.Tensor]:
        """As `call`, for one of the micro-batches of a step, and divided by what all of them are divided by."""
        raise NotImplementedError(f"{type(self).__name__} declares 'normaliser' and has no call_in_step")

    def as_rank(self, rank: int, ranks: int) -> AbstractContextManager[object]:  # noqa: ARG002  # for those who need them
        """What the loss needs around it to know that it is a rank, beside `torch.distributed`."""
        return nullcontext()

    def loss(self, case: LossCase) -> LossResult:
        """All losses of a fresh loss object, their gradients, and which inputs the call has changed."""
        return self._result(self.build(case), case)

    def losses_in_turn(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """The same for several cases, from one loss object."""
        loss = self.build(cases[0])
        return [self._result(loss, case) for case in cases]

    def losses_of_ranks(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """Those of every rank, each from a loss object that is built and called in the group of its ranks."""
        return in_ranks(self.loss, cases, self.as_rank)

    def losses_of_steps(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """Those of every micro-batch, from one loss object."""
        loss = self.build(cases[0])
        return [self._result(loss, case, partial(self.call_in_step, step=cases)) for case in cases]

    def loss_in_mode(self, case: LossCase, mode: str) -> LossResult:
        """Losses in one of the modes of `detr_conformance.properties.port.MODES`."""
        loss = self.build(case)
        if mode == "evaluation":
            if callable(getattr(loss, "eval", None)):
                loss.eval()
            return self._result(loss, case)
        if mode == "split":
            return self._result(loss, case, tensors=tensors_of(case, self.device, split=True))
        with self._surroundings(mode):
            if mode == "autocast":
                return self._result(loss, case)
            return self._between_other_calls(loss, case)

    def _between_other_calls(self, loss: Any, case: LossCase) -> LossResult:
        """After a call with other predictions in the same memory; what is returned is read after one more."""
        given, own, other = (tensors_of(case, self.device, differentiable=False) for _ in range(3))
        for each in other.predictions.values():
            each.mul_(0.5)

        def before_another(loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
            losses = self.call(loss, case, tensors)
            self.call(loss, case, other)
            return losses

        with one_thread():
            self.call(loss, case, _refilled(given, other))
        return self._result(loss, case, before_another, _refilled(given, own))

    def loss_in_situation(self, case: LossCase, situation: str) -> LossResult:
        """Losses in one of the situations of `detr_conformance.properties.port.SITUATIONS`."""
        loss, tensors = self.build(case), tensors_of(case, self.device)
        for name in FROZEN.get(situation, ()):
            if name in tensors.predictions:
                tensors.predictions[name].requires_grad_(False)
        if situation == "validated":
            with torch.inference_mode(), one_thread():
                self.call(loss, case, tensors_of(case, self.device, differentiable=False))
        elif situation not in FROZEN:
            with one_thread():
                self.call(loss, case, _with_other_predictions(tensors))
        return self._result(deepcopy(loss) if situation == "copied" else loss, case, tensors=tensors)

    def _surroundings(self, mode: str) -> AbstractContextManager[object]:
        if mode == "autocast":
            return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)
        return torch.no_grad() if mode == "no_grad" else torch.inference_mode()

    def accumulated_gradients(
        self, case: LossCase, passes: Sequence[Mapping[str, float]]
    ) -> list[dict[str, np.ndarray]]:
        """What `backward` leaves in the gradients of predictions, pass after pass through one graph."""
        tensors, found = tensors_of(case, self.device), list[dict[str, np.ndarray]]()
        with one_thread():
            losses = self.call(self.build(case), case, tensors)
            for weights in passes:
                terms = [weight * losses[key].sum() for key, weight in weights.items() if losses[key].requires_grad]
                if terms:
                    torch.autograd.backward(torch.stack(terms).sum(), retain_graph=True)
                grads = {name: each.grad for name, each in tensors.predictions.items()}
                found.append({name: _array(each) for name, each in grads.items() if each is not None})
        return found

    def _result(
        self,
        loss: Any,
        case: LossCase,
        call: Callable[..., Mapping[str, torch.Tensor]] | None = None,
        tensors: CaseTensors | None = None,
    ) -> LossResult:
        tensors = tensors or tensors_of(case, self.device)
        changed = watched(tensors)
        with one_thread():
            losses = dict((call or self.call)(loss, case, tensors))
        mutated = changed()
        return LossResult(
            losses={key: _array(loss) for key, loss in losses.items()},
            gradients=GradientsOnDemand(losses, lambda key: _gradients(losses[key], tensors.predictions)),
            dtypes={key: str(loss.dtype).removeprefix("torch.") for key, loss in losses.items()},
            mutated=mutated,
        )


def _with_other_predictions(tensors: CaseTensors) -> CaseTensors:
    """The same targets, and whatever holds them, with the predictions of the queries the other way round."""
    other = {name: each.detach().flip(2).requires_grad_() for name, each in tensors.predictions.items()}
    return replace(tensors, predictions=other)


def _refilled(tensors: CaseTensors, numbers: CaseTensors) -> CaseTensors:
    """The same tensors, with the predictions of others in them."""
    for name, each in tensors.predictions.items():
        each.copy_(numbers.predictions[name])
    return tensors


@contextmanager
def one_thread() -> Iterator[None]:
    """Cases are small: several threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _gradients(loss: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, np.ndarray]:
    """Of one loss by each input that asks for it and that it is connected to."""
    if not loss.requires_grad:
        return {}
    inputs = {name: each for name, each in inputs.items() if each.requires_grad}
    with one_thread():
        gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
            loss.sum(), list(inputs.values()), retain_graph=True, allow_unused=True
        )
    return {name: _array(each) for name, each in zip(inputs, gradients, strict=True) if each is not None}


def embedding_gradient(labels: torch.Tensor, embedding: torch.Tensor) -> np.ndarray:
    """Gradient of the sum of embedded labels with respect to the embedding, and in its shape, (classes, channels).

    Zeros where they are not connected.
    """
    if not labels.requires_grad:
        return np.zeros(embedding.shape)
    gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(labels.sum(), [embedding], allow_unused=True)
    return _array(embedding.new_zeros(embedding.shape) if gradients[0] is None else gradients[0])


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().to(torch.float64).numpy()


def watched(tensors: CaseTensors) -> Callable[[], list[str]]:
    """A function that names what of a case, and of what was handed over with it, has changed since."""
    before = {name: (each.detach().clone(), each.requires_grad) for name, each in tensors.named().items()}
    return lambda: [*_touched(tensors.named(), before), *tensors.handed_over.changed()]


def _touched(tensors: Mapping[str, torch.Tensor], before: Mapping[str, tuple[torch.Tensor, bool]]) -> Iterator[str]:
    """Names of tensors with other numbers, and of what else a call has left on them."""
    for name, each in tensors.items():
        numbers, required = before[name]
        if not _same(each.detach(), numbers):
            yield name
        if each.requires_grad != required:
            yield f"{name}.requires_grad"
        if each.is_leaf and each.grad is not None:
            yield f"{name}.grad"


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
