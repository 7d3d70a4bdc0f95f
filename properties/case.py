"""LossCase: everything that one call of a loss needs, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from detr_conformance.properties.case_options import (
    CLASSIFICATION,
    GeneratorConfig,
    LossConfig,
    MatcherConfig,
    check_options,
)
from detr_conformance.properties.tolerance import PRECISIONS, rounded
from detr_conformance.reference.validation import check_count, check_indices, check_predictions, check_targets

__all__ = ["CLASSIFICATION", "Denoising", "GeneratorConfig", "LossCase", "LossConfig", "MatcherConfig"]


@dataclass(frozen=True, eq=False)
class Denoising:
    """Predictions of the denoising queries, and where they came from.

    Attributes:
        bboxes: predicted boxes, shape (layers, images, denoising, 4).
        scores: their logits, shape (layers, images, denoising, columns).
        pos_idx: for each image its positive slots, group after group.
        gt_idx: for each image the targets, counted through the whole batch, that one group reconstructs.
        num_group: number of groups.
    """

    bboxes: Float[np.ndarray, "layers images denoising 4"]
    scores: Float[np.ndarray, "layers images denoising columns"]
    pos_idx: tuple[Int64[np.ndarray, " _slots"], ...]
    gt_idx: tuple[Int64[np.ndarray, " _targets"], ...]
    num_group: int


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

    def __post_init__(self) -> None:
        """Check that the fields fit each other, and lock the arrays."""
        if self.dtype not in PRECISIONS:
            raise ValueError(f"dtype is {self.dtype!r}, expected one of {', '.join(PRECISIONS)}")
        check_predictions(self.pred_bboxes, self.pred_scores, "layers images queries")
        check_options(self.config, self.matcher, self.generator)
        if self.columns not in (self.config.nc, self.config.nc + 1):
            raise ValueError(f"pred_scores has {self.columns} columns, but config.nc is {self.config.nc}")
        if self.queries % self.config.query_groups:
            raise ValueError(f"config.query_groups is {self.config.query_groups}, but there are {self.queries} queries")
        check_targets(self.gt_bboxes, self.gt_cls, self.gt_groups, self.images, self.config.nc)
        if self.gt_cls.dtype != np.int64:
            raise TypeError(f"gt_cls has dtype {self.gt_cls.dtype}, expected int64")
        last = max(self.layers - 2, 0)
        if self.config.use_uni_match and self.config.uni_match_ind > last:
            raise ValueError(f"config.uni_match_ind is {self.config.uni_match_ind}, expected 0 to {last}")
        if self.denoising is not None:
            _check_denoising(self.denoising, self)
        for name, array in self.float_arrays().items():
            _check_representable(name, array, self.target_dtype if name == "gt_bboxes" else self.dtype)
        _lock(self)

    def __eq__(self, other: object) -> bool:
        """Whether the other case holds the same."""
        return isinstance(other, LossCase) and self._digest == other._digest

    def __hash__(self) -> int:
        """What the reference says about a case is kept by what the case holds."""
        return hash(self._digest)

    @cached_property
    def _digest(self) -> bytes:
        options = (self.config, self.matcher, self.generator, self.gt_groups, self.dtype)
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
            arrays |= {"dn_bboxes": self.denoising.bboxes, "dn_scores": self.denoising.scores}
        return arrays

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


_CONFIG_FIELDS = frozenset(each.name for each in fields(LossConfig))


def _arrays(case: LossCase) -> list[np.ndarray]:
    """Every array of the case."""
    denoising = case.denoising
    indices = () if denoising is None else (*denoising.pos_idx, *denoising.gt_idx)
    return [*case.float_arrays().values(), case.gt_cls, *indices]


def _lock(case: LossCase) -> None:
    """Make every array read-only."""
    for array in _arrays(case):
        array.setflags(write=False)


def _check_representable(name: str, array: np.ndarray, dtype: str) -> None:
    """Ports get the numbers in this dtype: a value that it cannot hold would differ from port to port."""
    if array.dtype != np.float64:
        raise TypeError(f"{name} has dtype {array.dtype}, expected float64, whatever ports are given")
    wrong = (rounded(array, dtype) != array) & np.isfinite(array)
    if wrong.any():
        where = tuple(int(axis) for axis in np.argwhere(wrong)[0])
        raise ValueError(f"{name}{list(where)} is {array[where]!r}, which {dtype} cannot hold exactly")


def _check_denoising(denoising: Denoising, case: LossCase) -> None:
    """Denoising queries of the same layers, images and classes, with slots and targets that exist."""
    names = ("denoising.bboxes", "denoising.scores")
    check_predictions(denoising.bboxes, denoising.scores, "layers images denoising", names=names)
    check_count("denoising.num_group", denoising.num_group, least=1)
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
