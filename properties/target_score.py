"""The IoU that a port uses as target score, read off its classification loss."""

from __future__ import annotations

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.divisors import weight
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest, ReturnedLosses
from detr_conformance.reference.classification import Probe


def readable(port: PortUnderTest, case: LossCase) -> LossCase:
    """A case of one query, one target and one class, with the logit at which the score can be read."""
    return case.change(pred_scores=np.full(case.pred_scores.shape, _probe(port, case).logit))


def target_score(returned: ReturnedLosses) -> tuple[float, float]:
    """The score q that the port uses in the main layer of a `readable` case, and how far off it may be."""
    case, port = returned.case, returned.judged
    probe = _probe(port, case)
    factor = weight(port, case, "class")
    loss = float(returned.value("loss_class")) / factor
    budget = 2.0 * port.budget(port.expected(case)["loss_class"], case.dtype) / factor
    return probe.score(loss), budget / probe.slope


def _probe(port: PortUnderTest, case: LossCase) -> Probe:
    """Where the score can be read.

    Raises:
        OutOfScope: nowhere in this classification loss.
    """
    probe = port.class_term(case).probe
    if probe is None:
        raise OutOfScope("the target score cannot be read off this classification loss")
    return probe
