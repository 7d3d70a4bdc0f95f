"""NumPy alone, in float32 as a port in C would be: losses, gradients by hand, an own solver, an own generator."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from detr_conformance.properties.port import CAPABILITIES, OFFERS, LossResult

from .closed_forms import layer_forms, pair_costs
from .denoising_one_by_one import denoising_group
from .solvers import augmenting_paths

DEFAULT_COSTS = {"cost_gain": {"class": 2.0, "bbox": 5.0, "giou": 2.0}}


class NumPyPort:
    """No object is built at all: what is called for is computed from the case."""

    name = "numpy-in-float32"
    profile = "ultralytics"
    capabilities = (
        frozenset(CAPABILITIES)
        - OFFERS
        - {"query_groups", "softmax", "mal", "ia_bce", "masks", "mask_points", "distributions"}
    )
    dtypes = frozenset({"float16", "bfloat16", "float32", "float64"})

    def loss(self, case):
        boxes, logits = precise(case.pred_bboxes, case), precise(case.pred_scores, case)
        result = {"losses": {}, "gradients": {}, "dtypes": {}}
        add_losses(result, case, ("pred", ""), (boxes, logits), self.matchings(case))
        if case.denoising is None:
            add_zeros(result, boxes.dtype.type(0.0))
        else:
            layers = precise(case.denoising.bboxes, case), precise(case.denoising.scores, case)
            add_losses(result, case, ("dn", "_dn"), layers, [self.denoising_indices(case)] * len(layers[0]))
        return LossResult(**result)

    def losses_in_turn(self, cases):
        return [self.loss(case.change(config=cases[0].config)) for case in cases]

    def losses_of_ranks(self, cases):
        """Each knows of no other."""
        return [self.loss(case) for case in cases]

    def matchings(self, case):
        """Pairs for every layer, as the loss uses them."""
        shared = case.config.uni_match_ind if case.config.use_uni_match else None
        of_layer = [layer if shared is None else shared for layer in range(case.layers - 1)]
        return [self.matching(case, layer, DEFAULT_COSTS) for layer in [*of_layer, case.layers - 1]]

    def match(self, case):
        return [self.matching(case, layer, asdict(case.matcher)) for layer in range(case.layers)]

    def matching(self, case, layer, options):
        gain, others = options["cost_gain"], {name: each for name, each in options.items() if name != "cost_gain"}
        pairs = []
        for image in range(case.images):
            own = case.of_image(image)
            boxes, logits = (precise(each[layer, image], case) for each in (case.pred_bboxes, case.pred_scores))
            cost = pair_costs(boxes, logits, case.gt_bboxes[own], case.gt_cls[own], gain, **others)
            queries, targets = augmenting_paths(cost)
            pairs.append((queries, targets + own.start))
        return pairs

    def denoising_indices(self, case):
        made = case.denoising
        return [(slots, np.tile(own, made.num_group)) for slots, own in zip(made.pos_idx, made.gt_idx, strict=True)]

    def denoising_group(self, case):
        return denoising_group(case)


def precise(array, case):
    """A copy in float32, or in float64 where that was given."""
    return np.array(array, dtype=np.float64 if case.dtype == "float64" else np.float32)


def add_losses(result, case, names, predictions, pairs):
    """The losses of the last layer, and the sums of those of the others, with their gradients."""
    part, suffix = names
    targets = (case.gt_bboxes, case.gt_cls)
    layers = [layer_forms(*layer, targets, own, case.config) for *layer, own in zip(*predictions, pairs, strict=True)]
    last = len(layers) - 1
    for term in ("class", "bbox", "giou"):
        which = {f"loss_{term}{suffix}": [last]}
        if case.config.aux_loss:
            which[f"loss_{term}_aux{suffix}"] = list(range(last))
        for key, chosen in which.items():
            add_loss(result, key, [layers[layer][term][0] for layer in chosen], predictions[0].dtype.type(0.0))
            slopes = {}
            for index, name in ((1, f"{part}_bboxes"), (2, f"{part}_scores")):
                if layers[0][term][index] is not None:
                    slopes[name] = np.zeros_like(predictions[index - 1])
                    for layer in chosen:
                        slopes[name][layer] = layers[layer][term][index]
            result["gradients"][key] = slopes


def add_loss(result, key, values, zero):
    result["losses"][key] = sum(values, start=zero)
    result["dtypes"][key] = str(result["losses"][key].dtype)


def add_zeros(result, zero):
    for key in list(result["losses"]):
        add_loss(result, f"{key}_dn", [], zero)
