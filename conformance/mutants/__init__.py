"""The bug museum: real bugs of public implementations, and plausible mistakes, each a function from spec to spec."""

from detr_conformance.mutants.background import BACKGROUND_MUTANTS
from detr_conformance.mutants.backward import BACKWARD_MUTANTS
from detr_conformance.mutants.box_costs import BOX_COST_MUTANTS
from detr_conformance.mutants.box_eps import BOX_EPS_MUTANTS
from detr_conformance.mutants.box_noise import BOX_NOISE_MUTANTS
from detr_conformance.mutants.boxes import BOX_MUTANTS
from detr_conformance.mutants.class_costs import CLASS_COST_MUTANTS
from detr_conformance.mutants.classification import CLASSIFICATION_MUTANTS
from detr_conformance.mutants.connections import CONNECTION_MUTANTS
from detr_conformance.mutants.constructor import CONSTRUCTOR_MUTANTS
from detr_conformance.mutants.denoising import DENOISING_MUTANTS
from detr_conformance.mutants.denoising_losses import DENOISING_LOSS_MUTANTS
from detr_conformance.mutants.distillation import DISTILLATION_MUTANTS
from detr_conformance.mutants.ends import END_MUTANTS
from detr_conformance.mutants.focal import FOCAL_MUTANTS
from detr_conformance.mutants.generator import GENERATOR_MUTANTS
from detr_conformance.mutants.gradients import GRADIENT_MUTANTS
from detr_conformance.mutants.half_costs import HALF_COST_MUTANTS
from detr_conformance.mutants.interactions import INTERACTION_MUTANTS
from detr_conformance.mutants.interface import INTERFACE_MUTANTS
from detr_conformance.mutants.invariance import INVARIANCE_MUTANTS
from detr_conformance.mutants.iou_aware import IOU_AWARE_MUTANTS
from detr_conformance.mutants.label_noise import LABEL_NOISE_MUTANTS
from detr_conformance.mutants.layer_matching import LAYER_MATCHING_MUTANTS
from detr_conformance.mutants.layers import LAYER_MUTANTS
from detr_conformance.mutants.localisation import LOCALISATION_MUTANTS
from detr_conformance.mutants.main_layer import MAIN_LAYER_MUTANTS
from detr_conformance.mutants.mask_costs import MASK_COST_MUTANTS
from detr_conformance.mutants.mask_forms import MASK_FORM_MUTANTS
from detr_conformance.mutants.mask_points import MASK_POINT_MUTANTS
from detr_conformance.mutants.masks import MASK_MUTANTS
from detr_conformance.mutants.matchability import MATCHABILITY_MUTANTS
from detr_conformance.mutants.matching import MATCHING_MUTANTS
from detr_conformance.mutants.matching_inside import MATCHING_INSIDE_MUTANTS
from detr_conformance.mutants.members import MEMBER_MUTANTS
from detr_conformance.mutants.modes import MODE_MUTANTS
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.mutants.mutation import MUTATION_MUTANTS
from detr_conformance.mutants.non_finite import NON_FINITE_MUTANTS
from detr_conformance.mutants.normaliser import NORMALISER_MUTANTS
from detr_conformance.mutants.numerics import NUMERICS_MUTANTS
from detr_conformance.mutants.query_groups import QUERY_GROUP_MUTANTS
from detr_conformance.mutants.ranks import RANK_MUTANTS
from detr_conformance.mutants.regression import REGRESSION_MUTANTS
from detr_conformance.mutants.shortcuts import SHORTCUT_MUTANTS
from detr_conformance.mutants.situations import SITUATION_MUTANTS
from detr_conformance.mutants.sizes import SIZE_MUTANTS
from detr_conformance.mutants.slots import SLOT_MUTANTS
from detr_conformance.mutants.softmax import SOFTMAX_MUTANTS
from detr_conformance.mutants.solving import SOLVING_MUTANTS
from detr_conformance.mutants.state import STATE_MUTANTS
from detr_conformance.mutants.union import UNION_MUTANTS
from detr_conformance.mutants.varifocal import VARIFOCAL_MUTANTS

__all__ = ["MUSEUM", "Mutant"]

MUSEUM: tuple[Mutant, ...] = (
    *FOCAL_MUTANTS,
    *VARIFOCAL_MUTANTS,
    *CLASSIFICATION_MUTANTS,
    *BACKGROUND_MUTANTS,
    *NORMALISER_MUTANTS,
    *BOX_MUTANTS,
    *BOX_EPS_MUTANTS,
    *REGRESSION_MUTANTS,
    *LAYER_MUTANTS,
    *MAIN_LAYER_MUTANTS,
    *LAYER_MATCHING_MUTANTS,
    *GRADIENT_MUTANTS,
    *CONNECTION_MUTANTS,
    *INVARIANCE_MUTANTS,
    *SOLVING_MUTANTS,
    *MATCHING_MUTANTS,
    *CLASS_COST_MUTANTS,
    *BOX_COST_MUTANTS,
    *HALF_COST_MUTANTS,
    *MATCHING_INSIDE_MUTANTS,
    *DENOISING_MUTANTS,
    *DENOISING_LOSS_MUTANTS,
    *GENERATOR_MUTANTS,
    *SLOT_MUTANTS,
    *BOX_NOISE_MUTANTS,
    *LABEL_NOISE_MUTANTS,
    *NUMERICS_MUTANTS,
    *STATE_MUTANTS,
    *MUTATION_MUTANTS,
    *INTERFACE_MUTANTS,
    *SOFTMAX_MUTANTS,
    *MATCHABILITY_MUTANTS,
    *IOU_AWARE_MUTANTS,
    *UNION_MUTANTS,
    *LOCALISATION_MUTANTS,
    *DISTILLATION_MUTANTS,
    *QUERY_GROUP_MUTANTS,
    *MEMBER_MUTANTS,
    *RANK_MUTANTS,
    *MASK_MUTANTS,
    *MASK_FORM_MUTANTS,
    *MASK_POINT_MUTANTS,
    *MASK_COST_MUTANTS,
    *SIZE_MUTANTS,
    *BACKWARD_MUTANTS,
    *MODE_MUTANTS,
    *SITUATION_MUTANTS,
    *SHORTCUT_MUTANTS,
    *END_MUTANTS,
    *NON_FINITE_MUTANTS,
    *CONSTRUCTOR_MUTANTS,
    *INTERACTION_MUTANTS,
)
