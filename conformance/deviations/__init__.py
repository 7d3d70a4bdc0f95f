"""The bug museum: real bugs of public implementations, each a small change to one step of the reference."""

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.losses import LOSS_DEVIATIONS
from detr_conformance.deviations.matching import MATCHING_DEVIATIONS

__all__ = ["MUSEUM", "Deviation"]

MUSEUM: tuple[Deviation, ...] = (*LOSS_DEVIATIONS, *MATCHING_DEVIATIONS)
