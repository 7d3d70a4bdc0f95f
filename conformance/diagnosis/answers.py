"""What a port answers on a case when it is asked once: losses, denoising queries, matching, gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from detr_conformance.diagnosis.denoising_answers import denoising_queries
from detr_conformance.diagnosis.observation import Observation
from detr_conformance.diagnosis.port_of_spec import PortOfSpec, gradients_with_bounds, parts_of, with_bound
from detr_conformance.numbers_by_name import gradient_name
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import Matching
from detr_conformance.properties.port_under_test import PortUnderTest, ReturnedLosses
from detr_conformance.reference import LossSpec

Question = Literal["losses", "denoising queries", "matching", "gradients"]
QUESTIONS: tuple[Question, ...] = ("losses", "denoising queries", "matching", "gradients")
"""What a port is asked once, the quickest to answer and to tell mutants apart first."""
USUAL = ("float32", "float64")
"""What a loss may be in without a word: of these ports choose freely."""
GENERATOR = "denoising.generator"
"""The decisions on which denoising queries depend, and nothing else that is asked once."""


def is_answered_by(question: Question, path: str) -> bool:
    """Whether a decision, given as a path into a spec, can have to do with the answer to a question."""
    return path.startswith(GENERATOR) == (question == "denoising queries")


class Answers:
    """What a port answers on a case, question by question; it is asked when the answer is looked at.

    Args:
        judged: the port.
        case: what it is asked about.
    """

    def __init__(self, judged: PortUnderTest, case: LossCase) -> None:
        """Keep both."""
        self.judged = judged
        self.case = case

    def to(self, question: Question) -> Observation:
        """The answer to a question; empty where the port does not declare it.

        Raises:
            PortError: it gives no answer.
        """
        if question == "losses":
            return Observation(self._losses(), self._facts_of_losses())
        if question == "gradients":
            return Observation(self._gradients() if has_gradients(self.judged, self.case) else {}, {})
        if question == "matching":
            return _matching(self.judged, self.case)
        return denoising_queries(self.judged, self.case)

    @cached_property
    def _returned(self) -> ReturnedLosses:
        return self.judged.loss(self.case)

    def _losses(self) -> dict[str, np.ndarray]:
        return dict(self._returned.values)

    def _facts_of_losses(self) -> dict[str, Any]:
        return {
            **keys_of([self._returned]),
            "odd losses": _odd_losses(self._returned),
            "changed inputs": tuple(self._returned.result.mutated),
        }

    def _gradients(self) -> dict[str, np.ndarray]:
        returned = self._returned
        named = ((key, name) for key in finite_losses(returned) for name in returned.inputs())
        return {gradient_name(key, name): returned.gradient_of_parts(key, name) for key, name in named}


class AnswersOfSpec(Answers):
    """What a port of a spec, such as a mutant, would answer to the same questions, with the bounds of its own errors.

    Args:
        spec: the spec.
        judged: whose declarations are asked about.
        case: what is asked about.
    """

    def __init__(self, spec: LossSpec, judged: PortUnderTest, case: LossCase) -> None:
        super().__init__(PortUnderTest(PortOfSpec(spec, judged), judged.spec), case)

    def _losses(self) -> dict[str, np.ndarray]:
        return {key: with_bound(self._returned, key) for key in self._returned.values}

    def _gradients(self) -> dict[str, np.ndarray]:
        returned = self._returned
        found = {key: gradients_with_bounds(returned, parts_of(returned, key)) for key in finite_losses(returned)}
        return {gradient_name(key, name): grad for key, grads in found.items() for name, grad in grads.items()}


def _matching(judged: PortUnderTest, case: LossCase) -> Observation:
    facts: dict[str, Any] = {}
    if judged.can("match"):
        facts["matching"] = [pairs_of_images(layer) for layer in judged.match(case)]
    if judged.can("denoising_indices") and case.denoising is not None:
        facts["denoising pairs"] = pairs_of_images(judged.denoising_indices(case))
    return Observation({}, facts)


def pairs_of_images(images: Iterable[Matching]) -> list[list[tuple[int, int]]]:
    """Of each image the pairs of query and target, whatever their order."""
    return [sorted(zip(map(int, queries), map(int, targets), strict=True)) for queries, targets in images]


def keys_of(calls: Sequence[ReturnedLosses]) -> dict[str, Any]:
    """Which losses came, and of which a part is missing."""
    return {
        "keys": [sorted(returned.values) for returned in calls],
        "parts of losses that are absent": [
            sorted(str(returned.canonical(key)) for key in returned.absent) for returned in calls
        ],
    }


def _odd_losses(returned: ReturnedLosses) -> list[tuple[str, tuple[int, ...], str]]:
    """Losses under keys without a meaning, of another shape than (), or of less than single precision."""
    losses, dtypes = returned.result.losses, returned.result.dtypes
    unusual = {key: dtype for key, dtype in dtypes.items() if dtype not in USUAL}
    every = [(key, np.shape(loss), unusual.get(key, "")) for key, loss in losses.items()]
    return sorted(
        (key, shape, dtype) for key, shape, dtype in every if returned.canonical(key) is None or shape or dtype
    )


def finite_losses(returned: ReturnedLosses) -> list[str]:
    """Losses whose gradients can be compared: where one is infinite or NaN they are what each library makes of it."""
    return [key for key, value in returned.values.items() if np.isfinite(value)]


def has_gradients(judged: PortUnderTest, case: LossCase) -> bool:
    """Whether gradients can be compared: a NaN among the predictions spreads as each library pleases."""
    return judged.can("gradients") and all(np.isfinite(array).all() for array in case.float_arrays().values())
