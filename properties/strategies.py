"""Hypothesis strategies for loss cases. Public: use them to test a port in ways that the rules do not.

Every strategy shrinks towards the fewest images, queries, classes, layers and targets, and towards numbers on a coarse
grid that a person can read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from jaxtyping import Float, Int64

from detr_conformance.properties.case import (
    CLASSIFICATION,
    Denoising,
    GeneratorConfig,
    LossCase,
    LossConfig,
    MatcherConfig,
)
from detr_conformance.properties.distribution_strategies import with_distributions
from detr_conformance.properties.mask_strategies import with_masks, with_points
from detr_conformance.properties.numbers import Numbers
from detr_conformance.properties.port import options_of
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.reference.base_spec import NO_AREA, one_for_each_class
from detr_conformance.reference.keys import TERMS
from detr_conformance.reference.pairing import always_clear

Draw = Callable[..., Any]
"""Hypothesis' DrawFn, which beartype cannot check at run time."""

GAINS = ((1.0, 5.0, 2.0), (1.25, 3.0, 0.75), (0.5, 2.0, 4.0))
"""Gains of class, bbox and giou. They differ pairwise, or a gain that is applied to the wrong term would not show."""
GAMMAS = (1.5, 2.0, 1.0, 0.0, 3.0)
"""Below 1 only 0: there the derivative of the focal weight has a pole at a saturated logit, which GRAD-09 looks at."""
ALPHAS = (0.25, 0.75, 0.1, 1.0)
"""Above 0: below, the focal loss has no balance, which CLASS-01 looks at, and the varifocal loss no meaning."""
COST_GAINS = ((2.0, 5.0, 2.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 3.0, 1.25))
GRIDS = (16, 0, 0, 0)
"""Mostly no grid: on a grid many matchings tie, and rules on the loss itself cannot use such cases."""

KEPT = 0.6
"""Where layers vote, so many of the queries keep their prediction from one layer to the next."""

_ALPHAS, _COST_GAINS, _GRIDS = map(st.sampled_from, (ALPHAS, COST_GAINS, GRIDS))
_EXTRA_GAINS = st.sampled_from((1.0, 0.5, 2.0))
"""The first extra term has such a gain, the second twice as much, and so on: they differ pairwise."""
_MOSTLY = st.sampled_from((True, True, False))
_MATCHER_GAMMAS = st.sampled_from((2.0, 1.0, 0.0, 3.0))
_SEEDS = st.integers(0, 2**16 - 1)
_GENERATORS = st.builds(
    GeneratorConfig,
    num_dn=st.sampled_from((12, 1, 3, 5, 40)),
    cls_noise_ratio=st.sampled_from((0.5, 0.0, 1.0)),
    box_noise_scale=st.sampled_from((1.0, 0.4, 0.0)),
    seed=_SEEDS,
)


def by_term(gains: tuple[float, float, float]) -> dict[str, float]:
    """Gains of class, bbox and giou by their names."""
    return dict(zip(TERMS, gains, strict=True))


@dataclass(frozen=True)
class Domain:
    """Which cases a port can be asked for: what it declares, and what its spec defines.

    Attributes:
        classification: classification losses that it has.
        working: those that rules ask for which are not about classification.
        readable: those of which the target score can be read.
        uni_match: whether auxiliary layers may share a matching; `no_aux`, `denoising` and `denoising_subset` likewise.
        columns: number of columns of the logits, from the number of classes.
        layers_vote: whether layers vote on pairs; those of layers that have nothing in common are mostly undecided.
        class_costs: class costs that a matcher can be built with.
        areas: whether boxes without area, or turned inside out, are defined.
        least_layers: least number of layers.
        denoising_layers: number of layers of denoising queries beside so many others; None for any number.
        surplus: whether slots may be left over after all denoising groups.
        no_gamma_of_0: classification losses whose gamma is above 0.
        gammas: values of gamma; alphas likewise, and gains by term.
        extra: the extra terms that it has.
        further: the predictions that those read, by the names in `Term.inputs`.
        points: whether some of them are computed at points.
        extra_gains: rows of gains of these; empty for any.
    """

    classification: frozenset[str] = frozenset({"varifocal", "focal", "bce"})
    working: frozenset[str] = frozenset({"varifocal", "focal", "bce"})
    readable: frozenset[str] = frozenset({"varifocal", "bce"})
    uni_match: bool = True
    no_aux: bool = True
    denoising: bool = True
    denoising_subset: bool = True
    columns: Callable[[int], int] = one_for_each_class
    layers_vote: bool = False
    class_costs: tuple[str, ...] = ("focal", "softmax")
    areas: bool = True
    least_layers: int = 1
    denoising_layers: Callable[[int], int] | None = None
    surplus: bool = True
    no_gamma_of_0: frozenset[str] = frozenset()
    gammas: tuple[float, ...] = GAMMAS
    alphas: tuple[float, ...] = ALPHAS
    gains: tuple[tuple[float, float, float], ...] = GAINS
    extra: tuple[str, ...] = ()
    further: frozenset[str] = frozenset()
    points: bool = False
    extra_gains: tuple[tuple[float, ...], ...] = ()

    @staticmethod
    def of(judged: PortUnderTest) -> Domain:
        """The domain of a port under its spec."""
        plan, options = judged.spec.layers, options_of(judged.port)
        classification = frozenset(CLASSIFICATION) & judged.port.capabilities & frozenset(judged.spec.class_terms)
        gains = options.get("loss_gain")
        extra = tuple(name for name, term in judged.spec.extra_terms.items() if judged.can(term.needs))
        return Domain(
            classification=classification,
            working=classification,
            readable=frozenset(name for name in classification if judged.spec.class_terms[name].probe is not None),
            uni_match=judged.can("uni_match"),
            no_aux=judged.can("no_aux"),
            denoising=judged.can("denoising"),
            denoising_subset=judged.can("denoising_subset"),
            columns=judged.spec.columns,
            layers_vote=judged.spec.clear is not always_clear,
            class_costs=tuple(judged.spec.matcher.class_costs),
            areas=NO_AREA not in judged.spec.undefined,
            least_layers=plan.least,
            denoising_layers=plan.denoising,
            surplus=not judged.spec.denoising.regular,
            no_gamma_of_0=frozenset(name for name, term in judged.spec.class_terms.items() if not term.any_gamma),
            gammas=tuple(options.get("gamma", GAMMAS)),
            alphas=tuple(options.get("alpha", ALPHAS)),
            gains=GAINS if gains is None else tuple((each["class"], each["bbox"], each["giou"]) for each in gains),
            extra=extra,
            further=frozenset(name for term in extra for name in judged.spec.extra_terms[term].inputs),
            points=any(judged.spec.extra_terms[term].needs == "mask_points" for term in extra),
            extra_gains=tuple(
                tuple(each[name] for name in extra) for each in gains or () if extra and each.keys() >= set(extra)
            ),
        )

    def gammas_of(self, classification: str) -> tuple[float, ...]:
        """Values of gamma that this classification loss may be asked for with."""
        return tuple(gamma for gamma in self.gammas if gamma > 0.0 or classification not in self.no_gamma_of_0)

    def allowed(self, case: LossCase) -> LossCase:
        """The case with the first value that the port can be asked for in place of each option that it cannot."""
        config = case.config
        if tuple(config.loss_gain[term] for term in TERMS) not in self.gains:
            config = replace(config, loss_gain=by_term(self.gains[0]))
        gamma = config.gamma if config.gamma in self.gammas else self.gammas[0]
        alpha = config.alpha if config.alpha in self.alphas else self.alphas[0]
        config = replace(config, gamma=gamma, alpha=alpha)
        if case.columns != self.columns(config.nc):  # a case that was written down: its logits are all alike
            return case.change(config=config, **_with_no_object(case))
        return case if config == case.config else case.change(config=config)

    def narrow(self, request: Request) -> Request:
        """The request without what the port cannot be asked for.

        Raises:
            ValueError: nothing is left to choose from.
        """
        choices: dict[str, Any] = {
            "classification": tuple(each for each in request.classification if each in self._classification(request)),
            "uni_match": tuple(each for each in request.uni_match if self.uni_match or not each),
            "aux_loss": tuple(each for each in request.aux_loss if self.no_aux or each),
        }
        for name, left in choices.items():
            if not left:
                raise ValueError(f"request.{name} is {getattr(request, name)}, of which the domain allows nothing")
        special = (each for each in request.special if self.areas or each not in ("no_area", "inverted"))
        denoising = request.denoising if self.denoising else "never"
        return replace(request, **choices, denoising=denoising, special=tuple(special))

    def _classification(self, request: Request) -> frozenset[str]:
        allowed = self.classification if request.about_class else self.classification & self.working
        allowed = allowed & self.readable if request.readable_score else allowed
        return allowed if allowed & set(request.classification) else self.classification


def _with_no_object(case: LossCase) -> dict[str, Any]:
    """The logits of a case with a column of zeros for no object, by field."""
    changes: dict[str, Any] = {"pred_scores": _widened(case.pred_scores)}
    if case.denoising is not None:
        changes["denoising"] = replace(case.denoising, scores=_widened(case.denoising.scores))
    return changes


def _widened(logits: np.ndarray) -> np.ndarray:
    return np.concatenate([logits, np.zeros((*logits.shape[:-1], 1))], axis=-1)


@dataclass(frozen=True)
class Sizes:
    """The structure of a case before its numbers.

    Attributes:
        layers: number of decoder layers.
        denoising_layers: number of layers of the denoising queries.
        queries: number of queries.
        query_groups: number of groups that they fall into.
        classes: number of classes.
        columns: number of columns of the logits.
        gt_groups: number of targets of each image.
        kept: share of the queries that predict in a layer what they do in the one before.
    """

    layers: int
    denoising_layers: int
    queries: int
    classes: int
    gt_groups: tuple[int, ...]
    columns: int
    query_groups: int = 1
    kept: float = 0.0


@st.composite
def loss_cases(draw: Draw, request: Request = Request(), domain: Domain = Domain()) -> LossCase:  # noqa: B008  # frozen
    """Cases for the loss.

    They reach empty images first, in the middle and last, more targets than queries, one class, one query, one layer,
    and the special boxes that the request names.

    Args:
        draw: given by Hypothesis.
        request: what the cases look like.
        domain: what the port can be asked for.
    """
    request = domain.narrow(request)
    sizes = draw(_sizes(request, domain))
    config = draw(_configs(request, sizes, domain))
    numbers = Numbers(
        rng=np.random.default_rng(draw(_SEEDS)),
        grid=draw(_GRIDS),
        special=draw(st.sampled_from(((), request.special))),
        dtype=request.dtype,
    )
    wanted = request.denoising in ("always", "where declared")
    with_denoising = wanted or (request.denoising == "sometimes" and draw(st.booleans()))
    groups, surplus = draw(st.integers(1, 3)), draw(st.integers(0, 1)) if domain.surplus else 0
    subset = domain.denoising_subset and draw(st.booleans())
    case = assemble(sizes, config, numbers, request)
    # Untested: denoising queries without a target to repair. No generator makes any.
    if with_denoising and case.targets:
        case = case.change(denoising=denoising_queries(case, sizes.denoising_layers, groups, surplus, subset, numbers))
    case = case.change(matcher=draw(_matchers(request, domain)), generator=draw(_GENERATORS))
    return draw(_with_extra(case, numbers, request, domain)) if domain.extra and request.extra != "never" else case


@st.composite
def _with_extra(draw: Draw, case: LossCase, numbers: Numbers, request: Request, domain: Domain) -> LossCase:
    """The case with what extra terms read, and gains for them: drawn last, so that other cases stay as they are."""
    with_sides = "corners" in domain.further
    # Distributions are large: rules that are not about them look at some.
    if with_sides and request.extra == "sometimes" and draw(_MOSTLY):
        return case
    factor = draw(_EXTRA_GAINS)
    gains = [factor * (1.0 + place) for place in range(len(domain.extra))]
    if domain.extra_gains:
        gains = draw(st.sampled_from(domain.extra_gains))
    case = case.change(loss_gain={**dict(zip(domain.extra, gains, strict=True)), **case.config.loss_gain})
    if "masks" in domain.further:
        case = draw(with_masks(case, numbers))
        case = draw(with_points(case, numbers)) if domain.points else case
    if with_sides:
        case = draw(with_distributions(case, numbers))
    return case


@st.composite
def _sizes(draw: Draw, request: Request, domain: Domain) -> Sizes:
    smallest, largest = max(request.layers[0], domain.least_layers), max(request.layers[1], domain.least_layers)
    layers = draw(st.integers(smallest, largest))
    images = draw(st.integers(*request.images))
    fewest, most = (0, 0) if request.all_empty else request.targets
    counts = [draw(st.integers(fewest, most)) for _ in range(images)]
    denoising_layers = domain.denoising_layers(layers) if domain.denoising_layers else draw(st.integers(1, 4))
    groups = draw(st.integers(*request.query_groups))
    queries, classes = draw(st.integers(*request.queries)), draw(st.integers(*request.classes))
    return Sizes(
        layers=layers,
        denoising_layers=denoising_layers,
        queries=groups * queries,
        classes=classes,
        gt_groups=tuple(counts),
        columns=domain.columns(classes),
        query_groups=groups,
        kept=KEPT if domain.layers_vote else 0.0,
    )


@st.composite
def _configs(draw: Draw, request: Request, sizes: Sizes, domain: Domain) -> LossConfig:
    classification = draw(st.sampled_from(request.classification))
    uni_match = draw(st.sampled_from(request.uni_match)) and sizes.layers > 1
    gains = draw(st.sampled_from(domain.gains))
    return LossConfig(
        nc=sizes.classes,
        loss_gain=by_term(gains),
        aux_loss=draw(st.sampled_from(request.aux_loss)),
        **CLASSIFICATION[classification],
        use_uni_match=uni_match,
        uni_match_ind=draw(st.integers(0, sizes.layers - 2)) if uni_match else 0,
        gamma=draw(st.sampled_from(domain.gammas_of(classification))),
        alpha=draw(st.sampled_from(domain.alphas)),
        query_groups=sizes.query_groups,
    )


@st.composite
def _matchers(draw: Draw, request: Request, domain: Domain) -> MatcherConfig:
    if not request.matcher_options:
        return MatcherConfig()
    return MatcherConfig(
        cost_gain=by_term(draw(_COST_GAINS)),
        use_fl=draw(st.sampled_from(domain.class_costs)) == "focal",
        alpha=draw(_ALPHAS),
        gamma=draw(_MATCHER_GAMMAS),
    )


def assemble(sizes: Sizes, config: LossConfig, numbers: Numbers, request: Request) -> LossCase:
    """A case of these sizes, without denoising queries."""
    total = sum(sizes.gt_groups)
    # Untested: targets turned inside out, which are bad input. "equal" is about predictions.
    target_numbers = replace(
        numbers,
        dtype="float64" if request.dtype == "float64" else "float32",
        special=tuple(each for each in numbers.special if each not in ("inverted", "equal")),
    )
    gt_bboxes = target_numbers.boxes(total)
    gt_cls = numbers.rng.integers(0, sizes.classes, size=total)
    return predict(gt_bboxes, gt_cls, sizes, config, numbers, request)


def predict(
    gt_bboxes: Float[np.ndarray, "targets 4"],
    gt_cls: Int64[np.ndarray, " targets"],
    sizes: Sizes,
    config: LossConfig,
    numbers: Numbers,
    request: Request,
) -> LossCase:
    """A case with these targets and with predictions for them."""
    shape = (sizes.layers, len(sizes.gt_groups), sizes.queries)
    boxes = _predicted(shape, gt_bboxes, sizes.gt_groups, numbers, near=request.near)
    logits = numbers.logits((*shape, sizes.columns), request.logit_scale)
    for layer in range(1, sizes.layers if sizes.kept else 1):
        same = numbers.rng.random(shape[1:]) < sizes.kept
        boxes[layer, same], logits[layer, same] = boxes[layer - 1, same], logits[layer - 1, same]
    return LossCase(
        config=config,
        pred_bboxes=boxes,
        pred_scores=logits,
        gt_cls=gt_cls,
        gt_bboxes=gt_bboxes,
        gt_groups=sizes.gt_groups,
        dtype=request.dtype,
    )


def _predicted(
    shape: tuple[int, int, int],
    gt_bboxes: Float[np.ndarray, "targets 4"],
    gt_groups: tuple[int, ...],
    numbers: Numbers,
    near: bool,
) -> Float[np.ndarray, "layers images queries 4"]:
    """Predicted boxes of all layers and images."""
    layers, images, queries = shape
    ends = np.cumsum(gt_groups)
    boxes = np.zeros((*shape, 4))
    for layer in range(layers):
        for image in range(images):
            own = gt_bboxes[ends[image] - gt_groups[image] : ends[image]]
            boxes[layer, image] = numbers.boxes_near(own, queries) if near else numbers.boxes(queries)
    return boxes


def denoising_queries(
    case: LossCase, layers: int, groups: int, surplus: int, subset: bool, numbers: Numbers
) -> Denoising:
    """Denoising queries for the targets of a case: M positive slots, then M negative ones, in every group.

    Args:
        case: the case that they are for; it has at least one target.
        layers: number of layers of their predictions.
        groups: number of groups.
        surplus: number of slots that nothing fills, after all groups.
        subset: images with at least two targets leave out their first. Untested: other subsets, and an image that
            leaves out all of its targets.
        numbers: where their predictions come from.
    """
    own = [np.arange(case.targets)[case.of_image(image)] for image in range(case.images)]
    gt_idx = [each[1:] if subset and len(each) > 1 else each for each in own]
    width = max(len(each) for each in gt_idx)
    starts = 2 * width * np.arange(groups)
    pos_idx = [(starts[:, None] + np.arange(len(each))).reshape(-1) for each in gt_idx]
    shape = (layers, case.images, 2 * width * groups + surplus)
    return Denoising(
        bboxes=_predicted(shape, case.gt_bboxes, case.gt_groups, numbers, near=True),
        scores=numbers.logits((*shape, case.columns), 4.0),
        pos_idx=tuple(pos_idx),
        gt_idx=tuple(gt_idx),
        num_group=groups,
    )
