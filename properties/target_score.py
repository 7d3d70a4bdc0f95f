"""The IoU that a port uses as target score, read off its classification loss."""

from __future__ import annotations

import math

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judged import Returned

# Of the logits at which the score can be read; at 0 cross-entropy does not depend on it.
LOGITS = {"varifocal": 0.0, "bce": 2.0}


def readable(case: LossCase) -> LossCase:
    """A case of one query, one target and one class, with the logit at which the score can be read."""
    logit = LOGITS[case.config.classification]
    return case.change(pred_scores=np.full(case.pred_scores.shape, logit))


def target_score(returned: Returned) -> tuple[float, float]:
    """The score q that the port uses in the main layer of a `readable` case, and how far off it may be.

    varifocal at logit 0        loss = gain q log 2
    cross-entropy at logit x    loss = gain ((1 - q) x - log p)
    """
    case, port = returned.case, returned.judged
    gain = case.config.loss_gain["class"]
    loss = float(returned.value("loss_class")) / gain
    budget = 2.0 * port.budget(port.expected(case)["loss_class"], case.dtype) / gain
    if case.config.classification == "varifocal":
        return loss / math.log(2.0), budget / math.log(2.0)
    logit = LOGITS["bce"]
    return 1.0 - (loss - math.log1p(math.exp(-logit))) / logit, budget / logit
