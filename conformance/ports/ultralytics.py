"""Ports with the signature of Ultralytics' loss, and the `ultralytics` package itself."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
import torch

from detr_conformance.ports import ultralytics_signatures as signatures
from detr_conformance.ports.torch_port import (
    CaseTensors,
    TorchPort,
    arrays_of,
    embedding_gradient,
    one_thread,
    tensors_of,
    watched,
)
from detr_conformance.properties.case import LossCase, MatcherConfig
from detr_conformance.properties.port import (
    ATTRIBUTES,
    CLASS_LOSSES,
    LATER,
    OF_CLASS_LOSSES,
    DenoisingGroup,
    LossResult,
    Matching,
)
from detr_conformance.reference import LossSpec

ALWAYS = frozenset(
    {"varifocal", "focal", "bce", "uni_match", "no_aux", "denoising", "gradients", "one_object", "ranks"}
)
"""What every class with this signature has. Of ranks it need not be told: each divides by its own count."""
NOT_THEIRS = frozenset({"class_loss", "query_groups"})
"""Options of other members of the family, which Ultralytics' constructor does not take."""


class UltralyticsPort(TorchPort):
    """Any class with the constructor and `forward` of Ultralytics' `RTDETRDetectionLoss`.

    Its attribute `matcher` gives the capability `match`, its `get_dn_match_indices` gives `denoising_indices`.

    Args:
        loss_class: the class; it is built with keyword arguments only, but by the rules on its signature.
        denoising: a function with the signature of Ultralytics' `get_cdn_group`; gives `denoising_group`.
        name: what the report calls the port.

    Raises:
        TypeError: the class cannot be built or called this way.
    """

    profile: str | LossSpec = "ultralytics"
    # Not float64: Ultralytics' class fails on it, and a class says nothing of the dtypes that it takes.
    dtypes = frozenset({"float16", "bfloat16", "float32"})

    def __init__(
        self, loss_class: Callable[..., Any], denoising: Callable[..., Any] | None = None, name: str = "ultralytics"
    ) -> None:
        """Build one instance, to see what it offers."""
        self.name = name
        self.loss_class = loss_class
        self.denoising = denoising
        sample = self._sample()
        capabilities = set(ALWAYS)
        if callable(getattr(sample, "matcher", None)):
            capabilities.add("match")
            if _accepts(type(sample.matcher), asdict(MatcherConfig())):
                capabilities |= {"matcher_options", "matcher_constructor"}
        self.counts_targets = False
        if callable(getattr(sample, "get_dn_match_indices", None)):
            capabilities.add("denoising_indices")
            takes = inspect.signature(sample.get_dn_match_indices).parameters
            may_count = "gt_groups" in takes and "dn_gt_idx" not in takes
            self.counts_targets = may_count and not _takes_indices(sample.get_dn_match_indices)
        if not self.counts_targets:
            capabilities.add("denoising_subset")
        if denoising is not None:
            capabilities |= {"denoising_group", "generator_arguments", "embedding_gradient"}
        if type(self).build is UltralyticsPort.build:  # who builds in another way has another signature
            capabilities.add("constructor")
        self.capabilities = frozenset(capabilities)

    def _sample(self) -> Any:
        named = getattr(self.loss_class, "__name__", repr(self.loss_class))
        try:
            sample = self.loss_class(nc=2, loss_gain={"class": 1.0, "bbox": 5.0, "giou": 2.0}, use_vfl=True)
        except Exception as error:
            raise TypeError(
                f"the ultralytics adapter cannot build {named}(nc=…, loss_gain=…, use_vfl=…): {error}"
            ) from error
        if not callable(sample):
            raise TypeError(
                f"the ultralytics adapter needs a loss to call, but {named}(nc=2) is {type(sample).__name__}"
            )
        return sample

    def build(self, case: LossCase) -> Any:
        """The loss, built with keyword arguments."""
        return self.loss_class(**_options(case))

    def loss_built(self, case: LossCase, passing: str) -> LossResult:
        """The loss built, and called on denoising queries, in one of the ways of `properties.port.PASSING`.

        Or built otherwise, and then changed.
        """
        if passing == LATER:
            return self._result(self._changed_after_a_call(case), case)
        loss = signatures.called(self.loss_class, signatures.LOSS, _options(case), passing)
        return self._result(loss, case, _called_by_position if passing == "positions" else None)

    @one_thread()
    def _changed_after_a_call(self, case: LossCase) -> Any:
        """A loss that was built and called with other options, as far as it has attributes that say so."""
        options = _options(case)
        own = {name for _, name in _attributes(self.loss_class(**options))}
        others = {name: _another(each) if name in own else each for name, each in options.items()}
        others["uni_match_ind"] = min(others["uni_match_ind"], max(case.layers - 2, 0))  # there has to be such a layer
        loss = self.loss_class(**others)
        self.call(loss, case, tensors_of(case, self.device))
        for holder, name in _attributes(loss):
            before, value = getattr(holder, name), options[name]
            setattr(holder, name, before.new_tensor(value) if isinstance(before, torch.Tensor) else value)
        return loss

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """Call the loss as Ultralytics' trainer does."""
        return loss(*given_arguments(case, tensors), **denoising_arguments(case, tensors))  # type: ignore[no-any-return]  # judged by the caller

    @one_thread()
    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        """Every layer's predictions through the matcher of the loss."""
        matcher = self.build(case).matcher
        if case.changes_matcher:
            matcher = type(matcher)(**asdict(case.matcher))
        return self._matched(matcher, case)

    @one_thread()
    def match_built(self, case: LossCase, passing: str) -> Sequence[Sequence[Matching]]:
        """Every layer's predictions through another matcher of the same class."""
        kind = type(self.build(case).matcher)
        options = asdict(case.matcher)
        return self._matched(signatures.called(kind, signatures.signature_of_matcher(kind), options, passing), case)

    def _matched(self, matcher: Callable[..., Any], case: LossCase) -> list[list[Matching]]:
        tensors = tensors_of(case, self.device)
        layers = zip(tensors.predictions["pred_bboxes"], tensors.predictions["pred_scores"], strict=True)
        targets = (tensors.gt_bboxes, tensors.gt_cls, list(case.gt_groups))
        return [[arrays_of(pair) for pair in matcher(boxes, logits, *targets)] for boxes, logits in layers]

    @one_thread()
    def denoising_indices(self, case: LossCase) -> Sequence[Matching]:
        """The pairing by the loss's own `get_dn_match_indices`, in the form of arguments that it takes.

        In the third place one release of the package has the numbers of targets, another what a group reconstructs. Who
        has names for both is given both.
        """
        tensors = tensors_of(case, self.device)
        match, meta = self.build(case).get_dn_match_indices, _meta(case, tensors)
        targets = {"gt_groups": list(case.gt_groups), "dn_gt_idx": meta["dn_gt_idx"]}
        if targets.keys() <= inspect.signature(match).parameters.keys():
            pairs = match(meta["dn_pos_idx"], meta["dn_num_group"], **targets)
        else:
            third = targets["gt_groups" if self.counts_targets else "dn_gt_idx"]
            pairs = match(meta["dn_pos_idx"], meta["dn_num_group"], third)
        return [arrays_of(pair) for pair in pairs]

    @one_thread()
    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        """Denoising queries by the function that the port was given, with one unit vector for each class."""
        return self._generated(case, lambda generate, first, options: generate(*first, **options))

    @one_thread()
    def denoising_group_called(self, case: LossCase, passing: str) -> DenoisingGroup | None:
        """The same, with options passed in one of the ways of `properties.port.PASSING`."""

        def call(generate: Callable[..., Any], first: Sequence[Any], options: Mapping[str, Any]) -> Any:
            return signatures.called(generate, signatures.GENERATOR, options, passing, first)

        return self._generated(case, call)

    def _generated(self, case: LossCase, call: Callable[..., Any]) -> DenoisingGroup | None:
        assert self.denoising is not None  # noqa: S101  # otherwise the capability is not declared
        options = asdict(case.generator)
        _seed_everything(options.pop("seed"), self.device)
        embedding = torch.eye(case.config.nc, device=self.device, requires_grad=True)
        tensors = tensors_of(case, self.device)
        first = (tensors.handed_over.watch("batch", _batch(case, tensors)), case.config.nc, case.queries, embedding)
        changed = watched(tensors)
        labels, boxes, blocked, meta = call(self.denoising, first, options)
        if meta is None:
            return None
        return DenoisingGroup(
            labels=labels.detach().cpu().numpy(),
            boxes=boxes.cpu().numpy(),
            blocked=blocked.cpu().numpy(),
            pos_idx=_arrays(meta["dn_pos_idx"]),
            gt_idx=_arrays(meta["dn_gt_idx"]) if "dn_gt_idx" in meta else None,
            num_group=meta["dn_num_group"],
            num_split=list(meta["dn_num_split"]),
            mutated=changed(),
            embedding_gradient=embedding_gradient(labels, embedding),
        )


def _seed_everything(seed: int, device: str) -> None:
    """Seed every global generator as trainers do: a function takes no seed, and may draw from any of them."""
    if device == "cpu":
        torch.default_generator.manual_seed(seed)  # torch.manual_seed writes down who called, for every other device
    else:
        torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # the global generator is what is meant
    random.seed(seed)


def _options(case: LossCase) -> dict[str, Any]:
    """Every option of Ultralytics' constructor."""
    return {name: each for name, each in asdict(case.config).items() if name not in NOT_THEIRS}


def _attributes(loss: Any) -> list[tuple[Any, str]]:
    """The options that a loss has as attributes, each with what has it: the loss, or its classification loss."""
    parts = [getattr(loss, name, None) for name in CLASS_LOSSES]
    wanted = [(loss, name) for name in ATTRIBUTES] + list(product(parts, OF_CLASS_LOSSES))
    return [(holder, name) for holder, name in wanted if hasattr(holder, name)]


def _another(option: Any) -> Any:
    """Another value of an option: gains twice as large, a switch the other way, another layer, a larger number."""
    if isinstance(option, Mapping):
        return {term: 2.0 * gain for term, gain in option.items()}
    if isinstance(option, bool):
        return not option
    return option + 0.5 if isinstance(option, float) else 1 - min(option, 1)


def given_arguments(case: LossCase, tensors: CaseTensors) -> tuple[Any, ...]:
    """What the loss is always called with."""
    predictions = tensors.predictions
    batch = tensors.handed_over.watch("batch", _batch(case, tensors))
    return (predictions["pred_bboxes"], predictions["pred_scores"]), batch


def denoising_arguments(case: LossCase, tensors: CaseTensors) -> dict[str, Any]:
    """What it is called with beside that where there are denoising queries."""
    if case.denoising is None:
        return {}
    meta = tensors.handed_over.watch("dn_meta", _meta(case, tensors))
    predictions = tensors.predictions
    return {"dn_bboxes": predictions["dn_bboxes"], "dn_scores": predictions["dn_scores"], "dn_meta": meta}


def _called_by_position(loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
    """The losses of a call with all arguments, in their order."""
    arguments = {**signatures.FORWARD, **denoising_arguments(case, tensors)}
    shape = getattr(loss, "forward", loss)  # a module itself takes anything
    return signatures.by_position(loss, shape, arguments, given_arguments(case, tensors))  # type: ignore[no-any-return]  # judged by the caller


def _batch(case: LossCase, tensors: CaseTensors) -> dict[str, Any]:
    """The targets as Ultralytics' trainer hands them to the loss."""
    return {
        "cls": tensors.gt_cls,
        "bboxes": tensors.gt_bboxes,
        "batch_idx": tensors.batch_idx,
        "gt_groups": list(case.gt_groups),
    }


def _meta(case: LossCase, tensors: CaseTensors) -> dict[str, Any]:
    """`dn_meta` with both forms of target indices; each release reads the one it knows."""
    assert case.denoising is not None  # noqa: S101  # callers have looked
    return {
        "dn_pos_idx": list(tensors.pos_idx),
        "dn_gt_idx": list(tensors.gt_idx),
        "dn_num_group": case.denoising.num_group,
        "dn_num_split": [case.denoising.bboxes.shape[2], case.queries],
    }


def _arrays(rows: Sequence[Any]) -> list[np.ndarray]:
    """Rows of indices as arrays, from whatever device they are on."""
    return [np.asarray(torch.as_tensor(row).cpu()) for row in rows]


def _takes_indices(pair: Callable[..., Any]) -> bool:
    """Whether a function that pairs denoising queries takes the targets of a group, by whatever name, beside counts."""
    slot, second_target = torch.tensor([0]), torch.tensor([1])
    try:
        [[_, targets]] = pair([slot], 1, [second_target])
        return bool(targets.tolist() == [1])
    except Exception:  # noqa: BLE001  # of whoever expects a count
        return False


def _accepts(function: Callable[..., Any], options: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(**options)
    except (TypeError, ValueError):
        return False
    return True


class PackagePort(UltralyticsPort):
    """The installed `ultralytics` package, which also tells the defaults of its constructor."""

    def __init__(self) -> None:
        """Import what it judges."""
        from ultralytics.models.utils.loss import RTDETRDetectionLoss
        from ultralytics.models.utils.ops import get_cdn_group

        super().__init__(RTDETRDetectionLoss, get_cdn_group)
        self.capabilities |= {"defaults"}

    def defaults(self, case: LossCase) -> dict[str, Any]:
        """What a loss has to which only the choice of the classification loss was passed."""
        loss = self.loss_class(nc=case.config.nc, use_fl=case.config.use_fl, use_vfl=case.config.use_vfl)
        focal, matcher = loss.vfl if case.config.use_vfl else loss.fl, loss.matcher
        return {
            "gamma": float(focal.gamma),
            "alpha": float(focal.alpha),
            "loss_gain": dict(loss.loss_gain),
            "cost_gain": dict(matcher.cost_gain),
            "cost_alpha": matcher.alpha,
            "cost_gamma": matcher.gamma,
        }


def port() -> PackagePort:
    """The installed `ultralytics` package."""
    return PackagePort()
