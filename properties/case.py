"""LossCase: everything that one call of a loss needs, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from detr_conformance.properties.case_distributions import Distributions, check_distributions
from detr_conformance.properties.case_masks import Masks, check_masks, check_padding
from detr_conformance.properties.case_options import (
    CLASSIFICATION,
    GeneratorConfig,
    LossConfig,
    MatcherConfig,
    check_options,
)
from detr_conformance.properties.rows import Chosen, ChosenQueries, taken
from detr_conformance.properties.tolerance import PRECISIONS, rounded
from detr_conformance.reference.validation import (
    check_array,
    check_count,
    check_indices,
    check_predictions,
    check_targets,
)

__all__ = [
    "CLASSIFICATION",
    "Denoising",
    "Distributions",
    "GeneratorConfig",
    "LossCase",
    "LossConfig",
    "Masks",
    "MatcherConfig",
]

RECORDS = ("masks", "distributions")
"""Fields that hold what extra terms read, or None."""


@dataclass(frozen=True, eq=False)
class Denoising:
    """Predictions of the denoising queries, and where they came from.

    Attributes:
        bboxes: predicted boxes, shape (layers, images, denoising, 4).
        scores: their logits, shape (layers, images, denoising, columns).
        pos_idx: for each image its positive slots, group after group.
        gt_idx: for each image the targets, counted through the whole batch, that one group reconstructs.
        num_group: number of groups.
        masks: their predicted masks, shape (layers, images, denoising, height, width), or None.
        corners: logits of where the sides of their boxes lie, shape (layers, images, denoising, 4, 33), or None.
        references: the boxes that these start from, shape (images, denoising, 4), or None.
    """

    bboxes: Float[np.ndarray, "layers images denoising 4"]
    scores: Float[np.ndarray, "layers images denoising columns"]
    pos_idx: tuple[Int64[np.ndarray, " _slots"], ...]
    gt_idx: tuple[Int64[np.ndarray, " _targets"], ...]
    num_group: int
    masks: Float[np.ndarray, "layers images denoising height width"] | None = None
    corners: Float[np.ndarray, "layers images denoising 4 33"] | None = None
    references: Float[np.ndarray, "images denoising 4"] | None = None

    def predictions(self) -> dict[str, np.ndarray]:
        """Every array of predictions by its field."""
        arrays = {"bboxes": self.bboxes, "scores": self.scores, "masks": self.masks, "corners": self.corners}
        return {name: array for name, array in arrays.items() if array is not None}

    def taken(self, images: Chosen = None, queries: ChosenQueries = None, **changes: Any) -> Denoising:
        """Only these images and slots, in this order, and with some fields replaced; see `rows.taken`."""
        own: dict[str, Any] = {name: taken(each, None, images, queries) for name, each in self.predictions().items()}
        if self.references is not None:
            own["references"] = taken(self.references[None], None, images, queries)[0]
        return replace(self, **(own | changes))


@dataclass(frozen=True, eq=False)
class LossCase:
    """One call of a loss: configuration, predictions, targets, denoising queries.

    All floats are float64 arrays whose values `dtype` can hold exactly, so that every port receives the same numbers.
    Arrays are read-only: a port that writes into its input is found out at once. Two cases are equal if they hold the
    same numbers, bit for bit.

    Attributes:
        config: how the loss is built.
        pred_bboxes: predicted boxes in centre form, shape (layers, images, queries, 4), the main layer last.
        pred_scores: logits, shape (layers, images, queries, columns): a column for each class, and a last one for no
            object where the loss has one.
        gt_cls: class of each target, image 0's first.
        gt_bboxes: box of each target in centre form, finite.
        gt_groups: number of targets of each image.
        dtype: of the predictions: float16, bfloat16, float32 or float64.
        denoising: the denoising queries, or None.
        matcher: how a matcher is built, for `Port.match`.
        generator: how denoising queries are to be made, for `Port.denoising_group`.
        masks: predicted masks and those of targets, or None.
        distributions: where the sides of predicted boxes lie, or None.

    Raises:
        ValueError, TypeError, KeyError: a field does not fit the others; it is named with its value.
    """

    config: LossConfig
    pred_bboxes: Float[np.ndarray, "layers images queries 4"]
    pred_scores: Float[np.ndarray, "layers images queries columns"]
    gt_cls: Int64[np.ndarray, " targets"]
    gt_bboxes: Float[np.ndarray, "targets 4"]
    gt_groups: tuple[int, ...]
    dtype: str = "float32"
    denoising: Denoising | None = None
    matcher: MatcherConfig = field(default_factory=MatcherConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    masks: Masks | None = None
    distributions: Distributions | None = None

    def __post_init__(self) -> None:
        """Check that the fields fit each other, and lock the arrays."""
        if self.dtype not in PRECISIONS:
            raise ValueError(f"dtype is {self.dtype!r}, expected one of {', '.join(PRECISIONS)}")
        check_predictions(self.pred_bboxes, self.pred_scores, "layers images queries")
        check_options(self.config, self.matcher, self.generator)
        _check_options(self)
        check_targets(self.gt_bboxes, self.gt_cls, self.gt_groups, self.images, self.config.nc)
        if self.gt_cls.dtype != np.int64:
            raise TypeError(f"gt_cls has dtype {self.gt_cls.dtype}, expected int64")
        if self.masks is not None:
            check_masks(self.masks, self.pred_bboxes.shape[:3], self.images, self.targets)
            check_padding(self.masks, self.batch_idx.tolist())
        if self.distributions is not None:
            check_distributions("distributions", self.distributions, self.pred_bboxes.shape[:3])
        if self.denoising is not None:
            _check_denoising(self.denoising, self)
        for name, array in self.float_arrays().items():
            is_predicted = name.startswith(PREDICTED)
            _check_representable(name, array, self.dtype if is_predicted else self.target_dtype)
        _lock(self)

    def __eq__(self, other: object) -> bool:
        """Whether the other case holds the same."""
        return isinstance(other, LossCase) and self._digest == other._digest

    def __hash__(self) -> int:
        """What the reference says about a case is kept by what the case holds."""
        return hash(self._digest)

    @cached_property
    def _digest(self) -> bytes:
        options = (self.config, self.matcher, self.generator, self.gt_groups, self.dtype, _sizes(self))
        digest = sha256(repr((options, [(each.shape, each.dtype.str) for each in _arrays(self)])).encode())
        for each in _arrays(self):
            digest.update(each.tobytes())
        return digest.digest()

    @property
    def layers(self) -> int:
        """L, the number of decoder layers."""
        return len(self.pred_bboxes)

    @property
    def images(self) -> int:
        """B, the number of images."""
        return self.pred_bboxes.shape[1]

    @property
    def queries(self) -> int:
        """Q, the number of ordinary queries of an image."""
        return self.pred_bboxes.shape[2]

    @property
    def columns(self) -> int:
        """Columns of the logits: the number of classes, and one more where there is one for no object."""
        return self.pred_scores.shape[-1]

    @property
    def targets(self) -> int:
        """G, the number of targets in the batch."""
        return len(self.gt_cls)

    @property
    def target_dtype(self) -> str:
        """Dtype of the target boxes: that of the predictions, but never less than float32."""
        return "float64" if self.dtype == "float64" else "float32"

    @property
    def batch_idx(self) -> Int64[np.ndarray, " targets"]:
        """Image of each target."""
        return np.repeat(np.arange(self.images), self.gt_groups)

    def of_image(self, image: int) -> slice:
        """Where an image's own targets lie among all of them."""
        first = sum(self.gt_groups[:image])
        return slice(first, first + self.gt_groups[image])

    def float_arrays(self) -> dict[str, Float[np.ndarray, "..."]]:
        """Every array of floats by the name it goes by in a loss call."""
        arrays = {"pred_bboxes": self.pred_bboxes, "pred_scores": self.pred_scores, "gt_bboxes": self.gt_bboxes}
        if self.denoising is not None:
            arrays |= {f"dn_{name}": array for name, array in self.denoising.predictions().items()}
            if self.denoising.references is not None:
                arrays["denoising_references"] = self.denoising.references
        for record in self.records().values():
            arrays |= record.arrays()
        return arrays

    def predictions(self) -> dict[str, Float[np.ndarray, "..."]]:
        """The arrays by which losses are differentiated, by name."""
        return {name: array for name, array in self.float_arrays().items() if name.startswith(PREDICTED)}

    def records(self) -> dict[str, Masks | Distributions]:
        """What extra terms read, by field, as far as the case has it."""
        return {name: getattr(self, name) for name in RECORDS if getattr(self, name) is not None}

    def taken(
        self, layers: Chosen = None, images: Chosen = None, queries: ChosenQueries = None, targets: Chosen = None
    ) -> dict[str, Any]:
        """The predictions of these layers, images and queries, and what extra terms read of them and of these targets.

        By default all of them; for `change`. Denoising queries, classes and boxes of targets are left alone.
        """
        arrays = {name: taken(getattr(self, name), layers, images, queries) for name in ("pred_bboxes", "pred_scores")}
        return arrays | {name: each.taken(layers, images, queries, targets) for name, each in self.records().items()}

    @property
    def changes_matcher(self) -> bool:
        """Whether the case asks for a matcher with other options than the loss's own."""
        return self.matcher != MatcherConfig()

    def change(self, **changes: Any) -> LossCase:
        """The same case with some fields replaced; a change of a single option goes by the option's name.

        Example:
            `case.change(gt_groups=(2, 0), use_vfl=True)`
        """
        options = {name: changes.pop(name) for name in list(changes) if name in _CONFIG_FIELDS}
        config = replace(changes.pop("config", self.config), **options)
        return replace(self, **changes, config=config)


PREDICTED = ("pred_", "dn_")
"""How the names of predictions begin."""
_CONFIG_FIELDS = frozenset(each.name for each in fields(LossConfig))


def _arrays(case: LossCase) -> list[np.ndarray]:
    """Every array of the case."""
    denoising = case.denoising
    indices = () if denoising is None else (*denoising.pos_idx, *denoising.gt_idx)
    return [*case.float_arrays().values(), case.gt_cls, *indices]


def _sizes(case: LossCase) -> tuple[tuple[int, int], ...] | None:
    """Of the images, where the case has masks."""
    return None if case.masks is None else case.masks.sizes


def _lock(case: LossCase) -> None:
    """Make every array read-only."""
    for array in _arrays(case):
        array.setflags(write=False)


def _check_options(case: LossCase) -> None:
    """Options that fit the numbers of columns, queries and layers."""
    config = case.config
    if case.columns not in (config.nc, config.nc + 1):
        raise ValueError(f"pred_scores has {case.columns} columns, but config.nc is {config.nc}")
    if case.queries % config.query_groups:
        raise ValueError(f"config.query_groups is {config.query_groups}, but there are {case.queries} queries")
    last = max(case.layers - 2, 0)
    if config.use_uni_match and config.uni_match_ind > last:
        raise ValueError(f"config.uni_match_ind is {config.uni_match_ind}, expected 0 to {last}")


def _check_representable(name: str, array: np.ndarray, dtype: str) -> None:
    """Ports get the numbers in this dtype: a value that it cannot hold would differ from port to port."""
    if array.dtype != np.float64:
        raise TypeError(f"{name} has dtype {array.dtype}, expected float64, whatever ports are given")
    wrong = (rounded(array, dtype) != array) & np.isfinite(array)
    if wrong.any():
        where = tuple(int(axis) for axis in np.argwhere(wrong)[0])
        raise ValueError(f"{name}{list(where)} is {array[where]!r}, which {dtype} cannot hold exactly")


def _check_denoising_masks(denoising: Denoising, case: LossCase) -> None:
    """Masks for denoising queries only where there are others, and of their size."""
    if denoising.masks is None:
        return
    if case.masks is None:
        raise ValueError("denoising.masks are given, expected masks of ordinary queries and targets beside them")
    check_array("denoising.masks", denoising.masks)
    expected = (*denoising.bboxes.shape[:3], *case.masks.pred_masks.shape[3:])
    if denoising.masks.shape != expected:
        raise ValueError(f"denoising.masks has shape {denoising.masks.shape}, expected {expected}")


def _check_denoising_distributions(denoising: Denoising, case: LossCase) -> None:
    """Distributions of denoising queries only where there are others, logits and reference boxes together."""
    given = [name for name in ("corners", "references") if getattr(denoising, name) is not None]
    if not given:
        return
    if len(given) == 1 or case.distributions is None:
        raise ValueError(
            f"denoising.{given[0]} are given, expected corners and references, and case.distributions beside them"
        )
    own = Distributions(denoising.corners, denoising.references)  # type: ignore[arg-type]  # both are there
    check_distributions("denoising", own, denoising.bboxes.shape[:3])


def _check_denoising(denoising: Denoising, case: LossCase) -> None:
    """Denoising queries of the same layers, images and classes, with slots and targets that exist."""
    names = ("denoising.bboxes", "denoising.scores")
    check_predictions(denoising.bboxes, denoising.scores, "layers images denoising", names=names)
    check_count("denoising.num_group", denoising.num_group, least=1)
    _check_denoising_masks(denoising, case)
    _check_denoising_distributions(denoising, case)
    expected = (case.images, case.columns)
    if denoising.scores.shape[1::2] != expected:
        raise ValueError(
            f"denoising.scores has shape {denoising.scores.shape}, expected (images, columns) = {expected}"
        )
    if not len(denoising.pos_idx) == len(denoising.gt_idx) == case.images:
        raise ValueError(
            f"denoising.pos_idx has {len(denoising.pos_idx)} and denoising.gt_idx {len(denoising.gt_idx)} entries, "
            f"expected one for each of the {case.images} images"
        )
    slots = denoising.bboxes.shape[2]
    for image, (positive, targets) in enumerate(zip(denoising.pos_idx, denoising.gt_idx, strict=True)):
        own = case.of_image(image)
        check_indices(f"denoising.pos_idx[{image}]", positive, slots)
        check_indices(f"denoising.gt_idx[{image}]", targets, own.stop, own.start)
        if len(positive) != len(targets) * denoising.num_group:
            raise ValueError(
                f"denoising.pos_idx[{image}] has {len(positive)} slots, expected {len(targets)} targets times "
                f"{denoising.num_group} groups"
            )
        if len(set(positive.tolist())) != len(positive):
            raise ValueError(f"denoising.pos_idx[{image}] is {positive.tolist()}, expected every slot at most once")
