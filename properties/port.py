"""Port: what an implementation of the loss must look like to be judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.tolerance import PRECISIONS
from detr_conformance.reference import LossSpec
from detr_conformance.reference.keys import TERMS, KeyTable
from detr_conformance.reference.validation import check_number

CAPABILITIES = {
    "varifocal": "computes the varifocal classification loss (use_fl and use_vfl)",
    "focal": "computes the focal classification loss (use_fl without use_vfl)",
    "bce": "computes the cross-entropy classification loss (use_fl off)",
    "softmax": "computes DETR's softmax cross-entropy (class_loss)",
    "mal": "computes DEIM's matchability-aware loss (class_loss)",
    "ia_bce": "computes LW-DETR's IoU-aware cross-entropy (class_loss)",
    "uni_match": "lets auxiliary layers share a matching (use_uni_match)",
    "no_aux": "can leave the auxiliary losses out (aux_loss off)",
    "query_groups": "matches groups of queries each on its own (query_groups)",
    "denoising": "computes the losses of denoising queries",
    "denoising_subset": "takes dn_gt_idx, so that a group may reconstruct only some targets of an image",
    "gradients": "returns the gradient of every loss with respect to the predictions",
    "one_object": "lets one loss object be called several times: Port.losses_in_turn",
    "concurrent": "may be called from several threads at the same time",
    "match": "exposes its matching: Port.match",
    "matcher_options": "builds its matcher with other gains, alpha, gamma and class cost",
    "denoising_indices": "exposes the pairing of denoising queries: Port.denoising_indices",
    "denoising_group": "generates denoising queries: Port.denoising_group",
    "masks": "computes the losses of masks, pixel by pixel (LossCase.masks)",
    "mask_points": "computes the losses of masks, and what they cost in matching, at points that the case sets "
    "(Masks.loss_points, Masks.cost_points)",
    "distributions": "computes D-FINE's losses of distributions of box sides (LossCase.distributions)",
    "ranks": "computes its losses as each rank of a data-parallel run does: Port.losses_of_ranks",
    "normaliser": "takes the normaliser of all micro-batches of an optimiser step: Port.losses_of_steps",
    "defaults": "tells what its constructor sets where nothing is passed: Port.defaults",
    "weighted_gradients": "differentiates weighted sums of its losses, several times: Port.accumulated_gradients",
    "modes": "can be called without recording gradients, in an evaluation and in mixed precision: Port.loss_in_mode",
    "situations": "can be called where a layer is frozen, after an evaluation, and the like: Port.loss_in_situation",
    "point_counts": "tells how many points it draws to compare masks at: Port.point_counts",
    "constructor": "builds its loss by defaults and by position, in the order of a signature: Port.loss_built",
    "matcher_constructor": "builds its matcher likewise: Port.match_built",
    "generator_arguments": "calls its generator of denoising queries likewise: Port.denoising_group_called",
    "embedding_gradient": "tells which gradient reaches the embedding of classes: DenoisingGroup.embedding_gradient",
}
"""What a port may declare beyond `loss`, each with its meaning."""

OFFERS = frozenset(
    {"normaliser", "defaults", "point_counts", "weighted_gradients", "modes", "situations"}
    | {"constructor", "matcher_constructor", "generator_arguments", "embedding_gradient"}
)
"""Capabilities that no loss of the family has to have: a port that does not declare one lacks nothing."""

BY_METHOD = frozenset({"weighted_gradients", "modes", "situations"})
"""Capabilities that need no declaration: whoever has the method has them."""

OPTIONS = {
    "gamma": "exponent of the classification loss",
    "alpha": "balance of the classification loss",
    "loss_gain": "gains of class, bbox and giou, each above 0: a mapping",
}
"""What a port may restrict, each with its meaning."""

Matching = tuple[Int[np.ndarray, " _pairs"], Int[np.ndarray, " _pairs"]]
"""Queries of one image, and the target of each, counted through the whole batch."""


@dataclass(frozen=True)
class LossResult:
    """What a loss returned.

    Attributes:
        losses: every loss by the port's own key, as an array of the shape that came.
        gradients: for each key the gradient with respect to `pred_bboxes`, `pred_scores`, `dn_bboxes` and `dn_scores`,
            with masks also `pred_masks` and `dn_masks`, each of the input's shape. An input that a loss is not
            connected to may be absent or None; it counts as 0.
        dtypes: name of each loss's dtype, such as "float32"; empty if the port's language has none.
        mutated: names of the inputs that the call has changed.
    """

    losses: Mapping[str, Float[np.ndarray, "..."]]
    gradients: Mapping[str, Mapping[str, Float[np.ndarray, "..."] | None]] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    mutated: Sequence[str] = ()


@dataclass(frozen=True)
class DenoisingGroup:
    """Denoising queries that a generator made.

    Attributes:
        labels: embedded labels, made with one unit vector for each class: one-hot rows, zero rows in padding.
        boxes: boxes as logits.
        blocked: [i, j] is True where query i may not attend to query j; denoising queries come first.
        pos_idx: for each image its positive slots, group after group.
        gt_idx: for each image the targets of one group, counted through the batch; None if the generator says nothing.
        num_group: number of groups.
        num_split: number of denoising and of ordinary queries.
        mutated: names of the inputs that the call has changed.
        embedding_gradient: gradient of the sum of all embedded labels with respect to the embedding of each class; None
            if the port does not tell.
    """

    labels: Float[np.ndarray, "images denoising classes"]
    boxes: Float[np.ndarray, "images denoising 4"]
    blocked: Bool[np.ndarray, "all all"]
    pos_idx: Sequence[Int[np.ndarray, " _slots"]]
    gt_idx: Sequence[Int[np.ndarray, " _targets"]] | None
    num_group: int
    num_split: Sequence[int]
    mutated: Sequence[str] = ()
    embedding_gradient: Float[np.ndarray, "classes classes"] | None = None


@runtime_checkable
class Port(Protocol):
    """An implementation of the loss. Only the attributes and `loss` are required.

    Attributes:
        name: what the report calls it.
        profile: the conventions that it follows: a name of `detr_conformance.reference.FAMILY`, or a spec of your own.
        capabilities: which of `CAPABILITIES` it has. What is not declared is reported as unsupported.
        dtypes: dtypes of predictions that it takes: any of float16, bfloat16, float32, float64.

    A port may also have `options`: for some of `OPTIONS` the values that may be asked for, such as `{"gamma": (2.0,)}`
    where gamma is hard-coded. No rule asks for others. And `keys`, a `KeyTable`, if its losses go by other names than
    those of its spec.
    """

    name: str
    profile: str | LossSpec
    capabilities: frozenset[str]
    dtypes: frozenset[str]

    def loss(self, case: LossCase) -> LossResult:
        """All losses of the case under the port's own keys, and their gradients if declared."""


class MatchingPort(Port, Protocol):
    """A port that declares `match`."""

    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        """For each layer, and in it for each image, the pairs that the matcher finds.

        It is the loss's own, or where `case.changes_matcher` one built with the options `case.matcher`.
        """


class ReusablePort(Port, Protocol):
    """A port that declares `one_object`."""

    def losses_in_turn(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """Build one loss from the first case's configuration, and call it on every case, one after the other."""


class IndexingPort(Port, Protocol):
    """A port that declares `denoising_indices`."""

    def denoising_indices(self, case: LossCase) -> Sequence[Matching]:
        """For each image the slots of `case.denoising` and the target of each."""


class GeneratingPort(Port, Protocol):
    """A port that declares `denoising_group`."""

    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        """Denoising queries for the targets of the case, as `case.generator` asks; None where there are none."""


class DistributedPort(Port, Protocol):
    """A port that declares `ranks`."""

    def losses_of_ranks(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """What each rank of a data-parallel run returns, which has as many ranks as there are cases.

        Each rank has a batch of its own; all have the same options. No rank waits for ever, also where some have no
        target.
        """


class AccumulatingPort(Port, Protocol):
    """A port that declares `normaliser`."""

    def losses_of_steps(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        """What each micro-batch of one optimiser step returns, told what all of them together are divided by."""


class ConfiguredPort(Port, Protocol):
    """A port that declares `defaults`."""

    def defaults(self, case: LossCase) -> Mapping[str, float | Mapping[str, float]]:
        """The options of a loss, and of its matcher, to whose constructor nothing was passed.

        Nothing but what selects the classification loss of the case. Names are those of
        `detr_conformance.reference.recipe.OPTIONS`; gains are mappings by term. What is not an option is left out.
        """


class PointCountingPort(Port, Protocol):
    """A port that declares `point_counts`."""

    def point_counts(self, case: LossCase) -> Mapping[str, int]:
        """How many points `losses` draw for each pair, and the `matcher` for all masks of the case.

        That is what they ask their samplers for, not what they get: the points of the case.
        """


class DifferentiatedPort(Port, Protocol):
    """A port that has `weighted_gradients`."""

    def accumulated_gradients(
        self, case: LossCase, passes: Sequence[Mapping[str, float]]
    ) -> Sequence[Mapping[str, Float[np.ndarray, "..."] | None]]:
        """Call a loss once, and differentiate a weighted sum of its losses several times through the same graph.

        Each row of `passes` has weights by the port's own keys. The answer to each is what has accumulated in the
        gradient of every prediction by then, as after `backward`.
        """


MODES = {
    "no_grad": "no gradients are recorded; the object is called before and after with other numbers in the same memory",
    "inference": "likewise, and nothing is recorded at all, as in torch.inference_mode",
    "evaluation": "the loss object is told that this is no training, as by Module.eval",
    "autocast": "mixed precision, as in torch.autocast with bfloat16; where there is no such thing, as always",
    "split": "predictions of denoising queries are part of a larger array, as a decoder's output is split",
}
"""Modes that a loss is called in, each with its meaning."""


class ModalPort(Port, Protocol):
    """A port that has `modes`."""

    def loss_in_mode(self, case: LossCase, mode: str) -> LossResult:
        """As `loss`, in one of `MODES`; without gradients."""


SITUATIONS = {
    "same_targets": "the object has been called with the same targets, in the same lists and dictionaries, and with "
    "other predictions",
    "validated": "the object has been called where nothing is recorded, as in torch.inference_mode",
    "frozen_boxes": "predicted boxes ask for no gradient, those of denoising queries included",
    "frozen_logits": "logits ask for no gradient, likewise",
    "copied": "the object is a copy of one that has been called, as by copy.deepcopy",
}
"""Situations of a training run in which a loss is called, each with its meaning."""
FROZEN = {"frozen_boxes": ("pred_bboxes", "dn_bboxes"), "frozen_logits": ("pred_scores", "dn_scores")}
"""Predictions that ask for no gradient there."""


class SituatedPort(Port, Protocol):
    """A port that has `situations`."""

    def loss_in_situation(self, case: LossCase, situation: str) -> LossResult:
        """As `loss`, in one of `SITUATIONS`; with gradients, but for those by what is `FROZEN`."""


PASSING = {
    "defaults": "what is at its default is not passed, all else by keyword; of a loss the number of classes always",
    "positions": "every option is passed by position",
}
"""Ways to pass options other than all of them by keyword, each with its meaning.

Order and defaults are those of a signature that the port copies, as adapters know it: without one neither has a right
value. Where its own code demands an argument, or takes it by keyword alone, it has promised neither, and gets it so.
What published recipes train with is another question, that of `defaults`.
"""
LATER = "attributes"
"""The loss is built with other options and called, and then its attributes are set to those of the case."""
ATTRIBUTES = ("loss_gain", "aux_loss", "use_uni_match", "uni_match_ind")
"""Options that the class API says are attributes of a loss."""
CLASS_LOSSES, OF_CLASS_LOSSES = ("fl", "vfl"), ("gamma", "alpha")
"""Attributes that are its classification losses, and the options that are attributes of these."""


class SignedPort(Port, Protocol):
    """A port that declares `constructor`."""

    def loss_built(self, case: LossCase, passing: str) -> LossResult:
        """As `loss`, with options passed in one of the ways of `PASSING`, and denoising queries likewise.

        Or with those of `ATTRIBUTES` and `OF_CLASS_LOSSES` set `LATER`, as far as the loss has them; otherwise they are
        passed by keyword.
        """


class SignedMatchingPort(MatchingPort, Protocol):
    """A port that declares `matcher_constructor`."""

    def match_built(self, case: LossCase, passing: str) -> Sequence[Sequence[Matching]]:
        """As `match`, of a matcher with the options `case.matcher`, passed in one of these ways."""


class SignedGeneratingPort(GeneratingPort, Protocol):
    """A port that declares `generator_arguments`."""

    def denoising_group_called(self, case: LossCase, passing: str) -> DenoisingGroup | None:
        """As `denoising_group`, with the options of `case.generator` passed in one of these ways."""


def capabilities_of(port: Port) -> frozenset[str]:
    """Those that a port declares, and those that it has by having their method."""
    return port.capabilities | {name for name in BY_METHOD if callable(getattr(port, METHODS[name], None))}


def options_of(port: Port) -> Mapping[str, Sequence[Any]]:
    """For each restricted option the values that the port may be asked for."""
    return getattr(port, "options", {})


def keys_of(port: Port) -> KeyTable | None:
    """The port's own table of keys; None if its losses go by the names of its spec.

    Raises:
        TypeError: what the port has under this name is no such table.
    """
    table: Any = getattr(port, "keys", None)
    if table is None or isinstance(table, KeyTable):
        return table
    raise TypeError(
        f"{type(port).__name__}.keys is {table!r}, expected a KeyTable of detr_conformance.reference.keys, "
        "or no such attribute where the losses go by the names of the spec"
    )


METHODS = {
    "one_object": "losses_in_turn",
    "match": "match",
    "denoising_indices": "denoising_indices",
    "denoising_group": "denoising_group",
    "ranks": "losses_of_ranks",
    "normaliser": "losses_of_steps",
    "defaults": "defaults",
    "point_counts": "point_counts",
    "weighted_gradients": "accumulated_gradients",
    "modes": "loss_in_mode",
    "situations": "loss_in_situation",
    "constructor": "loss_built",
    "matcher_constructor": "match_built",
    "generator_arguments": "denoising_group_called",
}
"""The method that a port with one of these capabilities must have."""

SEVERAL = ("losses_in_turn", "losses_of_ranks", "losses_of_steps")
"""Methods that are given several cases, and answer each."""


def check_port(candidate: Any) -> Port:
    """The candidate, if it can be judged.

    Raises:
        TypeError: an attribute or a declared method is missing or of a wrong type, or a capability is unknown; the
            message names it.
        ValueError: an option is restricted to a value that no loss can have.
    """
    if isinstance(candidate, type) or not isinstance(candidate, Port):
        absent = [
            name for name in ("name", "profile", "capabilities", "dtypes", "loss") if not hasattr(candidate, name)
        ]
        kind = f"the class {candidate.__name__}" if isinstance(candidate, type) else type(candidate).__name__
        lack = f"it lacks {', '.join(absent)}" if absent else "expected an instance, or a function that returns one"
        raise TypeError(f"{kind} is not a port: {lack}")
    _check_declarations(candidate)
    for capability, method in METHODS.items():
        if capability in candidate.capabilities and not callable(getattr(candidate, method, None)):
            raise TypeError(f"port {candidate.name!r} declares {capability!r} but has no method {method}(case)")
    return candidate


def _check_declarations(port: Port) -> None:
    """Strings and sets, of known names."""
    kinds = {"name": str, "profile": (str, LossSpec), "capabilities": Set, "dtypes": Set}
    expected = {"name": "a str", "profile": "a str or a LossSpec", "capabilities": "a set", "dtypes": "a set"}
    for name, kind in kinds.items():
        value = getattr(port, name)
        if not isinstance(value, kind):  # type: ignore[arg-type]  # a class, or several
            raise TypeError(f"{type(port).__name__}.{name} is {value!r}, expected {expected[name]}")
    _check_options(port)
    keys_of(port)
    for what, declared, known in (
        ("capability", port.capabilities, CAPABILITIES),
        ("dtype", port.dtypes, PRECISIONS),
    ):
        for each in sorted(map(str, declared - set(known))):
            raise TypeError(f"port {port.name!r} declares the unknown {what} {each!r}, known are: {', '.join(known)}")
    if not port.dtypes:
        raise TypeError(f"port {port.name!r} declares no dtypes, expected at least one such as float32")


def _check_options(port: Port) -> None:
    """For known options at least one value each."""
    options: Any = options_of(port)
    if not isinstance(options, Mapping):
        raise TypeError(f"{type(port).__name__}.options is {options!r}, expected a mapping")
    for name, values in options.items():
        if name not in OPTIONS:
            raise TypeError(
                f"port {port.name!r} restricts the unknown option {name!r}, known are: {', '.join(OPTIONS)}"
            )
        if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence) or not values:
            raise TypeError(f"port {port.name!r}: options[{name!r}] is {values!r}, expected a row of values")
        for place, value in enumerate(values):
            _check_value(f"port {port.name!r}: options[{name!r}][{place}]", name, value)


def _check_value(where: str, name: str, value: Any) -> None:
    """A value that a loss can have as this option."""
    if name == "loss_gain":
        _check_gains(where, value)
        return
    check_number(where, value)
    if name == "gamma" and value < 0:
        raise ValueError(f"{where} is {value}, expected at least 0")


def _check_gains(where: str, gains: Any) -> None:
    """A number above 0 for each term: a loss of gain 0 says nothing about the step that computed it."""
    expected = f"expected a gain for each of {', '.join(TERMS)}"
    if not isinstance(gains, Mapping):
        raise TypeError(f"{where} is {gains!r}, {expected}")
    for term in TERMS:
        if term not in gains:
            raise ValueError(f"{where} is {gains!r} and lacks {term!r}, {expected}")
        check_number(f"{where}[{term!r}]", gains[term])
        if gains[term] <= 0:
            raise ValueError(f"{where}[{term!r}] is {gains[term]}, expected a number above 0")
