"""The bug museum: real bugs of public implementations, and plausible mistakes, each a change to one step."""

from detr_conformance.deviations.background import BACKGROUND_DEVIATIONS
from detr_conformance.deviations.box_costs import BOX_COST_DEVIATIONS
from detr_conformance.deviations.box_eps import BOX_EPS_DEVIATIONS
from detr_conformance.deviations.box_noise import BOX_NOISE_DEVIATIONS
from detr_conformance.deviations.boxes import BOX_DEVIATIONS
from detr_conformance.deviations.class_costs import CLASS_COST_DEVIATIONS
from detr_conformance.deviations.classification import CLASSIFICATION_DEVIATIONS
from detr_conformance.deviations.connections import CONNECTION_DEVIATIONS
from detr_conformance.deviations.denoising import DENOISING_DEVIATIONS
from detr_conformance.deviations.denoising_losses import DENOISING_LOSS_DEVIATIONS
from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.focal import FOCAL_DEVIATIONS
from detr_conformance.deviations.generator import GENERATOR_DEVIATIONS
from detr_conformance.deviations.gradients import GRADIENT_DEVIATIONS
from detr_conformance.deviations.half_costs import HALF_COST_DEVIATIONS
from detr_conformance.deviations.interface import INTERFACE_DEVIATIONS
from detr_conformance.deviations.invariance import INVARIANCE_DEVIATIONS
from detr_conformance.deviations.label_noise import LABEL_NOISE_DEVIATIONS
from detr_conformance.deviations.layer_matching import LAYER_MATCHING_DEVIATIONS
from detr_conformance.deviations.layers import LAYER_DEVIATIONS
from detr_conformance.deviations.main_layer import MAIN_LAYER_DEVIATIONS
from detr_conformance.deviations.matching import MATCHING_DEVIATIONS
from detr_conformance.deviations.mutation import MUTATION_DEVIATIONS
from detr_conformance.deviations.normaliser import NORMALISER_DEVIATIONS
from detr_conformance.deviations.numerics import NUMERICS_DEVIATIONS
from detr_conformance.deviations.regression import REGRESSION_DEVIATIONS
from detr_conformance.deviations.slots import SLOT_DEVIATIONS
from detr_conformance.deviations.solving import SOLVING_DEVIATIONS
from detr_conformance.deviations.state import STATE_DEVIATIONS
from detr_conformance.deviations.varifocal import VARIFOCAL_DEVIATIONS

__all__ = ["MUSEUM", "Deviation"]

MUSEUM: tuple[Deviation, ...] = (
    *FOCAL_DEVIATIONS,
    *VARIFOCAL_DEVIATIONS,
    *CLASSIFICATION_DEVIATIONS,
    *BACKGROUND_DEVIATIONS,
    *NORMALISER_DEVIATIONS,
    *BOX_DEVIATIONS,
    *BOX_EPS_DEVIATIONS,
    *REGRESSION_DEVIATIONS,
    *LAYER_DEVIATIONS,
    *MAIN_LAYER_DEVIATIONS,
    *LAYER_MATCHING_DEVIATIONS,
    *GRADIENT_DEVIATIONS,
    *CONNECTION_DEVIATIONS,
    *INVARIANCE_DEVIATIONS,
    *SOLVING_DEVIATIONS,
    *MATCHING_DEVIATIONS,
    *CLASS_COST_DEVIATIONS,
    *BOX_COST_DEVIATIONS,
    *HALF_COST_DEVIATIONS,
    *DENOISING_DEVIATIONS,
    *DENOISING_LOSS_DEVIATIONS,
    *GENERATOR_DEVIATIONS,
    *SLOT_DEVIATIONS,
    *BOX_NOISE_DEVIATIONS,
    *LABEL_NOISE_DEVIATIONS,
    *NUMERICS_DEVIATIONS,
    *STATE_DEVIATIONS,
    *MUTATION_DEVIATIONS,
    *INTERFACE_DEVIATIONS,
)
