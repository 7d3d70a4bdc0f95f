"""The family: what its members decide. Every spec but the base says only its differences, each with a link.

Reference: RT-DETR: Zhao et al., arXiv 2304.08069; DETR: Carion et al., arXiv 2005.12872; Deformable DETR: Zhu et al.,
arXiv 2010.04159; DINO: Zhang et al., arXiv 2203.03605; Mask DINO: Li et al., arXiv 2206.02777; D-FINE: Peng et al.,
arXiv 2410.13842; DEIM: Huang et al., arXiv 2412.04234; LW-DETR: Chen et al., arXiv 2406.03459; RF-DETR: https://github.com/roboflow/rf-detr.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from detr_conformance.reference.base_spec import (
    NO_ALPHA,
    NO_AREA,
    NON_FINITE,
    ULTRALYTICS,
    as_in_base,
    detached_iou,
    differs,
)
from detr_conformance.reference.boxes import Guard, corners_of_centre_form
from detr_conformance.reference.classification import (
    FOCAL,
    IOU_AWARE,
    LABEL_ENTROPY,
    MATCHABILITY_AWARE,
    SOFTMAX,
    detached_varifocal_weight,
)
from detr_conformance.reference.denoising import every_target, moved_edges
from detr_conformance.reference.distribution_terms import DDF, FGL
from detr_conformance.reference.keys import LayerKeys
from detr_conformance.reference.layers import LayerPlan
from detr_conformance.reference.mask_terms import DICE, DICE_AT_POINTS, MASK, MASK_AT_POINTS
from detr_conformance.reference.masks import PointCounts, entropy_costs
from detr_conformance.reference.matcher import (
    barely_guarded_focal_class_cost,
    recipe_focal_class_cost,
    softmax_class_cost,
    unguarded_focal_class_cost,
)
from detr_conformance.reference.normaliser import per_matched_pair, per_target, per_target_and_group, per_weighted_query
from detr_conformance.reference.options import LossConfig, MatcherConfig
from detr_conformance.reference.pairing import own_per_layer, union_of_layers, votes_are_clear
from detr_conformance.reference.ranks import boxes_over_ranks, mean_over_ranks, pairs_over_ranks
from detr_conformance.reference.recipe import gains, published
from detr_conformance.reference.tape import Array


def as_asked(config: LossConfig, pairs: int) -> str:
    """The loss that is asked for."""
    return config.classification


def softmax_alone(config: LossConfig, pairs: int) -> str:
    """Softmax cross-entropy: there is no other."""
    return "softmax"


def focal_alone(config: LossConfig, pairs: int) -> str:
    """The focal loss: there is no other."""
    return "focal"


def and_no_object(nc: int) -> int:
    """C + 1 columns, the last for "no object"."""
    return nc + 1


def gamma_is_two(config: LossConfig) -> LossConfig:
    """Gamma is 2, whatever is asked for."""
    return replace(config, gamma=2.0)


def recipe_of_each_loss(config: LossConfig) -> LossConfig:
    """Gamma is 2; alpha is 0.75 in the varifocal loss and 0.25 in the focal one."""
    return replace(config, gamma=2.0, alpha=0.75 if config.classification == "varifocal" else 0.25)


def groups_asked_for(config: LossConfig) -> int:
    """As many groups as the option says."""
    return config.query_groups


def class_gain_of_one(config: LossConfig) -> MatcherConfig:
    """Gains class 1, bbox 5, giou 2 and the softmax probability."""
    return MatcherConfig(cost_gain={"class": 1.0, "bbox": 5.0, "giou": 2.0}, use_fl=False)


def class_gain_of_four_and_masks(config: LossConfig) -> MatcherConfig:
    """Gains class 4, bbox 5, giou 2, mask 5, dice 5; alpha 0.25, gamma 2."""
    return MatcherConfig(cost_gain={**gains(4.0), **_GAINS_OF_MASKS})


def points_of_any_mask(height: int, width: int) -> int:
    """112 x 112 points, whatever the size."""
    return 112 * 112


def through_corners(boxes: Array) -> Array:
    """Targets come as corners and are turned into centre and size, which rounds them."""
    corners = corners_of_centre_form(boxes)
    return np.concatenate([(corners.low + corners.high) / 2.0, corners.size], axis=-1)


def turned_right_side_out(
    boxes: Float[np.ndarray, "slots 4"], box_noise_scale: float, half: int, rng: np.random.Generator
) -> Float[np.ndarray, "slots 4"]:
    """Move every edge; a size that comes out below 0 changes its sign, which turns the box right side out again."""
    moved = moved_edges(boxes, box_noise_scale, half, rng)
    return np.where(moved < 0.0, -moved, moved)


def iou_of_a_larger_eps(boxes: Array, wanted: np.ndarray, guard: Guard) -> np.ndarray:
    """The IoU as target score, with 1e-9 in the union whatever the box losses have."""
    return detached_iou(boxes, wanted, Guard(1e-9))


_GAINS_OF_MASKS = {"mask": 5.0, "dice": 5.0}
NO_CHOICE_OF_LAYER = {"uni_match": "No layer is asked to share the matching of another."}
NO_DENOISING = dict.fromkeys(
    ("denoising", "denoising_subset", "denoising_indices", "denoising_group"), "There are no denoising queries."
)
OPEN = {
    NON_FINITE: "Implementations raise, or replace the cost by a large number.",
    NO_AREA: "IoU is 0 / 0 there, and implementations refuse boxes turned inside out.",
    NO_ALPHA: "Foreground counts nothing in the focal loss then, or as much as background.",
}

_CRITERION = "https://github.com/lyuwenyu/RT-DETR, rtdetr_pytorch/src/zoo/rtdetr/rtdetr_criterion.py"
_DENOISING = "https://github.com/lyuwenyu/RT-DETR, rtdetr_pytorch/src/zoo/rtdetr/denoising.py"
_BOXES = "https://github.com/lyuwenyu/RT-DETR, rtdetr_pytorch/src/zoo/rtdetr/box_ops.py"
_RTDETR_CONFIG = "https://github.com/lyuwenyu/RT-DETR, rtdetr_pytorch/configs/rtdetr/include/rtdetr_r50vd.yml"
_COSTS = {"cost_gain": gains(2.0), "cost_alpha": 0.25, "cost_gamma": 2.0}

RTDETR = differs(
    ULTRALYTICS,
    "rtdetr",
    choose_class_term=(
        as_asked,
        "A batch without targets keeps the loss that is asked for; Ultralytics' takes focal for varifocal.",
        _CRITERION,
    ),
    class_terms__varifocal__weight=(
        detached_varifocal_weight,
        "The weight of the varifocal loss is a constant: no gradient flows through it.",
        _CRITERION,
    ),
    class_terms__bce=(LABEL_ENTROPY, "Cross-entropy is taken against the label, not against the IoU.", _CRITERION),
    normaliser=(
        dict.fromkeys(ULTRALYTICS.normaliser, per_target),
        (
            "Every loss is divided by the number of targets, cross-entropy too, also where an image has more targets "
            "than queries; a denoising loss by its pairs, which are the targets times the groups."
        ),
        _CRITERION,
    ),
    guard=(Guard(0.0), "Nothing is added to the union or to the enclosing area; Ultralytics adds 1e-7.", _BOXES),
    matcher__guard=(Guard(0.0), "Nothing is added to them in the matching cost either.", _BOXES),
    pairing=(own_per_layer, "Every layer is matched on its own.", _CRITERION),
    layers=(
        LayerPlan(least=2, denoising=lambda layers: layers - 1),
        "The first layer is the encoder's, which has no denoising queries.",
        _CRITERION,
    ),
    keys=(
        LayerKeys({"varifocal": ("vfl",), "focal": ("focal", "vfl"), "bce": ("bce",)}),
        (
            "One key for each layer; no denoising keys without denoising queries. The encoder's is the last of the "
            "auxiliary ones, or _enc_0."
        ),
        _CRITERION,
    ),
    over_ranks=(
        mean_over_ranks,
        "All ranks divide by the mean of their numbers of targets, at least 1; in Ultralytics' each by its own number.",
        _CRITERION,
    ),
    recipe=(
        {"varifocal": published(_RTDETR_CONFIG, gamma=2.0, alpha=0.75, loss_gain=gains(1.0), **_COSTS)},
        "Gamma is 2 and alpha 0.75; gains are class 1, bbox 5, giou 2, in the matching cost class 2.",
        _RTDETR_CONFIG,
    ),
    denoising__generator__logit_eps=(
        1e-5,
        "Boxes are clipped to [1e-5, 1 - 1e-5] before the inverse sigmoid; Ultralytics clips to 1e-6.",
        _DENOISING,
    ),
    denoising__generator__padding_is_zero=(
        False,
        "Padding boxes are the logits of an empty box, and no zeros.",
        _DENOISING,
    ),
    denoising__generator__contributed=(
        every_target,
        "Every target is denoised, however many there are; Ultralytics draws at most num_dn of an image.",
        _DENOISING,
    ),
    denoising__generator__without_targets=(
        frozenset({"nothing", "dummy"}),
        (
            "A batch without targets gets no denoising queries, or one dummy query for each image, which keeps the "
            "ranks of a data-parallel run from waiting for each other."
        ),
        "https://github.com/lyuwenyu/RT-DETR/pull/684",
    ),
    undefined=(
        {**OPEN, **NO_CHOICE_OF_LAYER, "denoising_subset": "Every target is denoised."},
        "What implementations do there differs, or does not exist.",
        _CRITERION,
    ),
)
"""RT-DETR as lyuwenyu's repositories and `transformers` compute it. Gamma, alpha and the gains of the
losses are the caller's; other specs fix some of them in `options`. Its recipes train with gamma 2 and alpha 0.75.

Reference: Zhao et al., RT-DETR, arXiv 2304.08069, section 4.
"""

_DETR = "https://github.com/facebookresearch/detr, models/detr.py"
_DETR_MATCHER = "https://github.com/facebookresearch/detr, models/matcher.py"
_DETR_MAIN = "https://github.com/facebookresearch/detr, main.py"
_NOTHING_ADDED = (Guard(0.0), "Nothing is added to the union or to the enclosing area.", _DETR)

DETR = differs(
    ULTRALYTICS,
    "detr",
    choose_class_term=(softmax_alone, "Classification is softmax cross-entropy.", _DETR),
    class_terms=({"softmax": SOFTMAX}, "A query without a target counts a tenth of one with a target.", _DETR),
    columns=(and_no_object, "Logits have one more column, the last, for no object.", _DETR),
    normaliser=(
        {"softmax": per_weighted_query, "bbox": per_target, "giou": per_target},
        "The classification loss is a weighted mean over all queries; box losses are divided by the number of targets.",
        _DETR,
    ),
    guard=_NOTHING_ADDED,
    matcher__guard=_NOTHING_ADDED,
    matcher__configured=(class_gain_of_one, "Gains are class 1, bbox 5 and giou 2.", _DETR_MATCHER),
    matcher__class_costs=(
        {"softmax": softmax_class_cost},
        "The class cost is minus the probability among all columns.",
        _DETR_MATCHER,
    ),
    pairing=(own_per_layer, "Every layer is matched on its own.", _DETR),
    keys=(
        LayerKeys({"softmax": ("ce",)}, auxiliary="loss_{term}_{layer}", encoder=None),
        "Keys are loss_ce, loss_bbox and loss_giou; those of layer i end in _i.",
        _DETR,
    ),
    over_ranks=(
        boxes_over_ranks,
        (
            "Box losses of all ranks are divided by the mean of their numbers of targets, at least 1; the weighted "
            "mean of the classification loss is that of the rank."
        ),
        _DETR,
    ),
    recipe=(
        {"softmax": published(_DETR_MAIN, loss_gain=gains(1.0), cost_gain=gains(1.0))},
        "Gains are class 1, bbox 5, giou 2, in the matching cost too.",
        _DETR_MAIN,
    ),
    undefined=({**OPEN, **NO_CHOICE_OF_LAYER, **NO_DENOISING}, "What implementations do there differs.", _DETR),
)
"""DETR, and what copies its criterion: YOLOS, Table Transformer.

Reference: Carion et al., DETR, arXiv 2005.12872, section 3.1 and appendix A.4.
"""

_DETR_MASKS = "https://github.com/facebookresearch/detr, models/segmentation.py"

DETR_MASKS = differs(
    DETR,
    "detr-masks",
    extra_terms=(
        {"mask": MASK, "dice": DICE},
        "The main layer has two losses of masks, each a sum over pairs, divided by the number of targets.",
        _DETR_MASKS,
    ),
)
"""DETR for segmentation.

Reference: Carion et al., DETR, arXiv 2005.12872, section 4.4.
"""

_DEFORMABLE = "https://github.com/fundamentalvision/Deformable-DETR, models/deformable_detr.py"
_DEFORMABLE_MAIN = "https://github.com/fundamentalvision/Deformable-DETR, main.py"
_DINO = "https://github.com/IDEA-Research/DINO, models/dino/dino.py"

DEFORMABLE = differs(
    ULTRALYTICS,
    "deformable",
    options=(gamma_is_two, "Gamma is 2.", _DEFORMABLE),
    choose_class_term=(focal_alone, "Classification is the focal loss.", _DEFORMABLE),
    class_terms=({"focal": FOCAL}, "There is no other classification loss.", _DEFORMABLE),
    normaliser=(
        {"focal": per_target, "bbox": per_target, "giou": per_target},
        "Every loss is divided by the number of targets; a denoising loss by its pairs, the targets times the groups.",
        _DEFORMABLE,
    ),
    guard=_NOTHING_ADDED,
    matcher__guard=_NOTHING_ADDED,
    matcher__class_costs=(
        {"focal": recipe_focal_class_cost},
        "Alpha is 0.25 and gamma 2 in the cost of a matcher that is called alone, too.",
        _DEFORMABLE,
    ),
    pairing=(own_per_layer, "Every layer is matched on its own.", _DEFORMABLE),
    layers=(
        LayerPlan(denoising=lambda layers: layers),
        "All layers are the decoder's, and each has denoising queries or none has.",
        _DINO,
    ),
    denoising__regular=(True, "Groups of denoising queries are equally wide, and no slot is left over.", _DINO),
    keys=(
        LayerKeys({"focal": ("ce",)}, auxiliary="loss_{term}_{layer}", encoder=None, last_denoising="loss_{term}_dn"),
        "Keys are loss_ce, loss_bbox and loss_giou; those of layer i end in _i, those of denoising in _dn or _dn_i.",
        _DINO,
    ),
    over_ranks=(mean_over_ranks, "All ranks divide by the mean of their numbers of targets, at least 1.", _DEFORMABLE),
    recipe=(
        # The gain of the class is 2 in Deformable DETR and 1 in DINO.
        {"focal": published(_DEFORMABLE_MAIN, gamma=2.0, alpha=0.25, loss_gain={"bbox": 5.0, "giou": 2.0}, **_COSTS)},
        "Gamma is 2 and alpha 0.25; gains are bbox 5, giou 2, in the matching cost class 2, bbox 5, giou 2.",
        _DEFORMABLE_MAIN,
    ),
    undefined=(
        {
            **OPEN,
            **NO_CHOICE_OF_LAYER,
            "denoising_group": "Deformable DETR has none, and DINO counts its groups in a way of its own.",
            "denoising_subset": "Every target is denoised.",
        },
        "What implementations do there differs.",
        _DEFORMABLE,
    ),
)
"""Deformable DETR, and DINO's denoising queries; Conditional and DAB-DETR compute the same.

Reference: Zhu et al., Deformable DETR, arXiv 2010.04159, section 4; Zhang et al., DINO, arXiv 2203.03605, section 3.3.
"""

_MASKDINO = "https://github.com/IDEA-Research/MaskDINO, maskdino/modeling/criterion.py"
_MASKDINO_MATCHER = "https://github.com/IDEA-Research/MaskDINO, maskdino/modeling/matcher.py"
_MASKDINO_CONFIG = (
    "https://github.com/IDEA-Research/MaskDINO, configs/coco/instance-segmentation/maskdino_R50_bs16_50ep_3s.yaml"
)
_OF_MASKDINO = {**gains(4.0), **_GAINS_OF_MASKS}

MASKDINO = differs(
    DEFORMABLE,
    "maskdino",
    extra_terms=(
        {"mask": MASK_AT_POINTS, "dice": DICE_AT_POINTS},
        "Every layer, also of denoising queries, has two losses of masks at points, each divided as the others are.",
        _MASKDINO,
    ),
    matcher__configured=(
        class_gain_of_four_and_masks,
        "Gains are class 4, bbox 5, giou 2, mask 5 and dice 5.",
        _MASKDINO_CONFIG,
    ),
    matcher__mask_costs=(
        entropy_costs,
        "Masks are compared too, at points that the queries and targets of an image share.",
        _MASKDINO_MATCHER,
    ),
    mask_points=(
        PointCounts(losses=points_of_any_mask, matcher=points_of_any_mask),
        "Training draws 112 x 112 points.",
        _MASKDINO_CONFIG,
    ),
    recipe=(
        {"focal": published(_MASKDINO_CONFIG, gamma=2.0, alpha=0.25, loss_gain=_OF_MASKDINO, cost_gain=_OF_MASKDINO)},
        "Gamma is 2 and alpha 0.25; gains are class 4, bbox 5, giou 2, mask 5, dice 5, in the matching cost too.",
        _MASKDINO_CONFIG,
    ),
)
"""Mask DINO.

Reference: Li et al., Mask DINO, arXiv 2206.02777, section 3; Cheng et al., Mask2Former, arXiv 2112.01527, section 3.3.
"""

_DFINE = "https://github.com/Peterande/D-FINE, src/zoo/dfine/dfine_criterion.py"
_DFINE_CONFIG = "https://github.com/Peterande/D-FINE, configs/dfine/include/dfine_hgnetv2.yml"
_DFINE_DENOISING = "https://github.com/Peterande/D-FINE, src/zoo/dfine/denoising.py"

DFINE = differs(
    RTDETR,
    "dfine",
    class_terms=(
        {"varifocal": RTDETR.class_terms["varifocal"]},
        "Of RT-DETR's classification losses there is the varifocal one alone.",
        _DFINE,
    ),
    normaliser=(
        {"varifocal": per_target, "bbox": per_matched_pair, "giou": per_matched_pair},
        "The classification loss is divided by the number of targets, box losses by that of their pairs.",
        _DFINE,
    ),
    pairing=(
        union_of_layers,
        "Boxes of every layer answer to the vote of all layers: each query to its most frequent target.",
        _DFINE,
    ),
    clear=(votes_are_clear, "A query with two most frequent targets may keep either.", _DFINE),
    layers=(
        LayerPlan(least=3, denoising=lambda layers: layers - 1, independent=False),
        "The first layer is the encoder's, which has no denoising queries; the decoder has two at least.",
        _DFINE,
    ),
    keys=(
        LayerKeys({"varifocal": ("vfl",)}),
        "One key for each layer; no denoising keys without denoising queries.",
        _DFINE,
    ),
    over_ranks=(
        mean_over_ranks,
        "All ranks divide by the mean of their numbers of targets, or of pairs of the union, at least 1.",
        _DFINE,
    ),
    recipe=(
        {"varifocal": published(_DFINE_CONFIG, gamma=2.0, alpha=0.75, loss_gain=gains(1.0), **_COSTS)},
        "Gamma is 2 and alpha 0.75; gains are class 1, bbox 5, giou 2, in the matching cost class 2.",
        _DFINE_CONFIG,
    ),
    denoising__generator__moved=(
        turned_right_side_out,
        "A size below 0 may change its sign, so that a negative may lie on its object.",
        _DFINE_DENOISING,
    ),
    extra_terms=(
        {"fgl": FGL, "ddf": DDF},
        "Layers of the decoder say where the sides of boxes lie by distributions, which have two losses.",
        _DFINE,
    ),
    undefined=(
        {**RTDETR.undefined, "no_aux": "Layers without losses vote, or do not, or are refused."},
        "What implementations do there differs.",
        _DFINE,
    ),
)
"""D-FINE.

Reference: Peng et al., D-FINE, arXiv 2410.13842, section 4.
"""

_DEIM = "https://github.com/ShihuaHuang95/DEIM, engine/deim/deim_criterion.py"
_DEIM_CONFIG = "https://github.com/ShihuaHuang95/DEIM, configs/base/deim.yml"

DEIM = differs(
    DFINE,
    "deim",
    class_terms=(
        {"mal": MATCHABILITY_AWARE, "varifocal": DFINE.class_terms["varifocal"]},
        "Classification is the matchability-aware loss, or the varifocal one.",
        _DEIM,
    ),
    normaliser=(
        {"mal": per_target, "varifocal": per_target, "bbox": per_matched_pair, "giou": per_matched_pair},
        "The classification loss is divided by the number of targets, box losses by that of their pairs.",
        _DEIM,
    ),
    layers=(
        LayerPlan(least=2, denoising=lambda layers: layers - 1, independent=False),
        "The first layer is the encoder's, which has no denoising queries.",
        _DEIM,
    ),
    keys=(
        LayerKeys({"mal": ("mal",), "varifocal": ("vfl",)}),
        "One key for each layer; no denoising keys without denoising queries.",
        _DEIM,
    ),
    recipe=(
        {"mal": published(_DEIM_CONFIG, gamma=1.5, loss_gain=gains(1.0), **_COSTS)},
        "Gamma is 1.5; gains are class 1, bbox 5, giou 2, in the matching cost class 2.",
        _DEIM_CONFIG,
    ),
)
"""DEIM and DEIMv2.

Reference: Huang et al., DEIM, arXiv 2412.04234, section 3.3.
"""

_LWDETR = "https://github.com/Atten4Vis/LW-DETR, models/lwdetr.py"
_LWDETR_SCRIPT = "https://github.com/Atten4Vis/LW-DETR, scripts/lwdetr_tiny_coco_train.sh"
_LW_LOSSES = ("ia_bce", "focal")

LWDETR = differs(
    ULTRALYTICS,
    "lwdetr",
    options=(gamma_is_two, "Gamma is 2.", _LWDETR),
    choose_class_term=(as_asked, "A batch without targets keeps the loss that is asked for.", _LWDETR),
    class_terms=({"ia_bce": IOU_AWARE, "focal": FOCAL}, "Classification is IA-BCE, or the focal loss.", _LWDETR),
    normaliser=(
        dict.fromkeys((*_LW_LOSSES, "bbox", "giou"), per_target_and_group),
        "Every loss is divided by the number of targets times that of the groups of queries.",
        _LWDETR,
    ),
    guard=_NOTHING_ADDED,
    matcher__guard=_NOTHING_ADDED,
    matcher__class_costs=(
        {"focal": recipe_focal_class_cost},
        "Alpha is 0.25 and gamma 2 in the cost of a matcher that is called alone, too.",
        _LWDETR,
    ),
    query_groups=(groups_asked_for, "Queries fall into groups, each of which is matched with all targets.", _LWDETR),
    pairing=(own_per_layer, "Every layer is matched on its own.", _LWDETR),
    layers=(LayerPlan(least=2), "The first layer is the encoder's.", _LWDETR),
    keys=(
        LayerKeys(dict.fromkeys(_LW_LOSSES, ("ce",)), auxiliary="loss_{term}_{layer}", encoder="loss_{term}_enc"),
        "Keys are loss_ce, loss_bbox and loss_giou; those of layer i end in _i, the encoder's in _enc or in _i.",
        _LWDETR,
    ),
    over_ranks=(
        mean_over_ranks,
        "All ranks divide by the mean of their numbers of targets times groups of queries, at least 1.",
        _LWDETR,
    ),
    recipe=(
        {"ia_bce": published(_LWDETR_SCRIPT, alpha=0.25, loss_gain=gains(1.0), **_COSTS)},
        "Alpha is 0.25; gains are class 1, bbox 5, giou 2, in the matching cost class 2.",
        _LWDETR_SCRIPT,
    ),
    undefined=({**OPEN, **NO_CHOICE_OF_LAYER, **NO_DENOISING}, "What implementations do there differs.", _LWDETR),
)
"""LW-DETR.

Reference: Chen et al., LW-DETR, arXiv 2406.03459, section 3.3; groups: Chen et al., Group DETR, arXiv 2207.13085.
"""

_RFDETR = "https://github.com/roboflow/rf-detr, rfdetr/models"
_FLOOR = (Guard(1e-7, as_floor=True), "Union and enclosing area are at least 1e-7 where they divide.", _RFDETR)

RFDETR = differs(
    LWDETR,
    "rfdetr",
    guard=_FLOOR,
    matcher__guard=_FLOOR,
    matcher__class_costs=(
        {"focal": unguarded_focal_class_cost},
        "Gamma is 2 in the cost, and nothing is added inside its logarithms.",
        _RFDETR,
    ),
)
"""RF-DETR."""

_PADDLE = "https://github.com/PaddlePaddle/PaddleDetection, ppdet/modeling/losses/detr_loss.py"
_PADDLE_BOXES = "https://github.com/PaddlePaddle/PaddleDetection, ppdet/modeling/losses/iou_loss.py"
_PADDLE_IOU = "https://github.com/PaddlePaddle/PaddleDetection, ppdet/modeling/bbox_utils.py"
_PADDLE_CONFIG = "https://github.com/PaddlePaddle/PaddleDetection, configs/rtdetr/_base_/rtdetr_r50vd.yml"
_PADDLE_DENOISING = "https://github.com/PaddlePaddle/PaddleDetection, ppdet/modeling/transformers/utils.py"

PADDLE = differs(
    ULTRALYTICS,
    "paddle",
    options=(recipe_of_each_loss, "Gamma is 2; alpha is 0.75 in the varifocal loss, 0.25 in the focal one.", _PADDLE),
    choose_class_term=(
        as_asked,
        "A batch without targets has the background of the varifocal loss: focal with alpha 0.25 is the same there.",
        _PADDLE,
    ),
    class_terms=(
        {name: ULTRALYTICS.class_terms[name] for name in ("focal", "varifocal")},
        "Classification is the focal or the varifocal loss.",
        _PADDLE,
    ),
    normaliser=(
        dict.fromkeys(("focal", "varifocal", "bbox", "giou"), per_target),
        "Every loss is divided by the number of targets; a denoising loss by its pairs.",
        _PADDLE,
    ),
    score=(iou_of_a_larger_eps, "1e-9 is added to the union of the IoU that is the target score.", _PADDLE_IOU),
    guard=(Guard(1e-10), "1e-10 is added to the union and to the enclosing area.", _PADDLE_BOXES),
    matcher__guard=(Guard(1e-10), "1e-10 is added to them in the matching cost too.", _PADDLE_BOXES),
    layers=(
        LayerPlan(least=3, denoising=lambda layers: layers - 1),
        "The first layer is the encoder's, which has no denoising queries; the decoder has two at least.",
        _PADDLE,
    ),
    denoising__generator__logit_eps=(
        1e-5,
        "Boxes are clipped to [1e-5, 1 - 1e-5] before the inverse sigmoid.",
        _PADDLE_DENOISING,
    ),
    denoising__generator__padding_is_zero=(
        False,
        "Padding boxes are the logits of an empty box.",
        _PADDLE_DENOISING,
    ),
    denoising__generator__contributed=(every_target, "Every target is denoised, however many.", _PADDLE_DENOISING),
    over_ranks=(mean_over_ranks, "All ranks divide by the mean of their numbers of targets, at least 1.", _PADDLE),
    recipe=(
        {"varifocal": published(_PADDLE_CONFIG, gamma=2.0, alpha=0.75, loss_gain=gains(1.0), **_COSTS)},
        "Gamma is 2 and alpha 0.75; gains are class 1, bbox 5, giou 2, in the matching cost class 2.",
        _PADDLE_CONFIG,
    ),
    undefined=(
        {**OPEN, NON_FINITE: "The solver refuses such costs."},
        "What the package does there is an error.",
        _PADDLE,
    ),
)
"""PaddleDetection's RT-DETR, from which Ultralytics' loss has its keys."""

_MMDET = "https://github.com/open-mmlab/mmdetection, mmdet/models/dense_heads/deformable_detr_head.py"
_MMDET_COSTS = "https://github.com/open-mmlab/mmdetection, mmdet/models/task_modules/assigners/match_cost.py"

MMDET = differs(
    as_in_base(DEFORMABLE, "options"),
    "mmdet",
    target_boxes=(through_corners, "Targets come as corners.", _MMDET),
    normaliser=(
        {"focal": per_matched_pair, "bbox": per_matched_pair, "giou": per_matched_pair},
        "Every loss is divided by the number of matched pairs.",
        _MMDET,
    ),
    matcher__class_costs=(
        {"focal": barely_guarded_focal_class_cost},
        "1e-12 is added inside the logarithms of the class cost.",
        _MMDET_COSTS,
    ),
    keys=(
        LayerKeys(
            {"focal": ("cls",)},
            box_names={"bbox": "bbox", "giou": "iou"},
            auxiliary="d{layer}.loss_{term}",
            encoder=None,
            denoising="d{layer}.dn_loss_{term}",
            last_denoising="dn_loss_{term}",
        ),
        "Keys are loss_cls, loss_bbox and loss_iou; those of layer i begin with di., those of denoising with dn_.",
        "https://github.com/open-mmlab/mmdetection, mmdet/models/dense_heads/dino_head.py",
    ),
    over_ranks=(
        pairs_over_ranks,
        "All ranks divide by the mean of their numbers of pairs, at least 1, as its configurations ask for.",
        _MMDET,
    ),
)
"""mmdetection's heads with a focal loss: Deformable DETR and DINO."""

FAMILY = {
    spec.name: spec
    for spec in (
        ULTRALYTICS,
        RTDETR,
        DETR,
        DETR_MASKS,
        DEFORMABLE,
        MASKDINO,
        DFINE,
        DEIM,
        LWDETR,
        RFDETR,
        PADDLE,
        MMDET,
    )
}
"""Every spec by its name."""
