"""Pure functions under `torch.func`: the layers by `vmap`, the gradients by `jacrev`; nothing has a state."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.func import jacrev, vmap

from detr_conformance.ports.torch_port import tensors_of
from detr_conformance.properties.port import LossResult

from .denoising_one_by_one import denoising_group

EPS = 1e-7
MAIN = ("loss_class", "loss_bbox", "loss_giou")


class FunctionalPort:
    """Every call of `loss` differentiates one function of the predictions."""

    name = "torch-func"
    profile = "ultralytics"
    capabilities = frozenset(
        {"varifocal", "focal", "bce", "uni_match", "no_aux", "denoising", "denoising_subset", "gradients", "one_object"}
        | {"concurrent", "match", "matcher_options", "denoising_indices", "denoising_group"}
    )
    dtypes = frozenset({"float16", "bfloat16", "float32", "float64"})

    def loss(self, case):
        tensors = tensors_of(case)
        predictions = {name: each.detach() for name, each in tensors.predictions.items()}
        targets = (tensors.gt_bboxes, tensors.gt_cls)
        pairs = {"pred": stacked(every_matching(case)), "dn": stacked([self.denoising_indices(case)])}

        def losses(differentiable):
            return all_losses(differentiable, targets, pairs, case.config)

        values, gradients = losses(predictions), jacrev(losses)(predictions)
        return LossResult(
            losses={key: loss.double().numpy() for key, loss in values.items()},
            gradients={
                key: {name: slope.double().numpy() for name, slope in slopes.items()}
                for key, slopes in gradients.items()
            },
            dtypes={key: str(loss.dtype).removeprefix("torch.") for key, loss in values.items()},
        )

    def losses_in_turn(self, cases):
        """There is no object that could remember anything; the configuration is the first one's."""
        return [self.loss(case.change(config=cases[0].config)) for case in cases]

    def match(self, case):
        return [matching(case, layer, case.matcher) for layer in range(case.layers)]

    def denoising_indices(self, case):
        if case.denoising is None:
            return []
        made = case.denoising
        return [(slots, np.tile(own, made.num_group)) for slots, own in zip(made.pos_idx, made.gt_idx, strict=True)]

    def denoising_group(self, case):
        return denoising_group(case)


def every_matching(case):
    """For each layer the pairs that the loss uses."""
    of_layer = list(range(case.layers))
    if case.config.use_uni_match:
        of_layer[:-1] = [case.config.uni_match_ind] * (case.layers - 1)
    return [matching(case, layer, None) for layer in of_layer]


def matching(case, layer, options):
    """Pairs of every image, with the options of a matcher or those of the loss."""
    if not case.targets:  # nothing to map over
        return [(np.zeros(0, np.int64), np.zeros(0, np.int64))] * case.images
    tensors = tensors_of(case)
    boxes, logits = (precise(tensors.predictions[name][layer].detach()) for name in ("pred_bboxes", "pred_scores"))
    # One query of all images at a time, and one target: vmap over queries, then targets.
    costs = vmap(vmap(cost_of_pair, (None, None, 0, 0, None)), (0, 0, None, None, None))
    terms = costs(boxes.flatten(0, 1), logits.flatten(0, 1), tensors.gt_bboxes, tensors.gt_cls, options)
    cost = torch.where(torch.isfinite(terms), terms, 0.0).unflatten(0, boxes.shape[:2]).numpy()
    pairs = []
    for image in range(case.images):
        own = case.of_image(image)
        queries, targets = linear_sum_assignment(cost[image][:, own])
        pairs.append((queries, targets + own.start))
    return pairs


def cost_of_pair(box, logits, gt_bbox, gt_cls, options):
    gain = {"class": 2.0, "bbox": 5.0, "giou": 2.0} if options is None else options.cost_gain
    alpha, gamma = (0.25, 2.0) if options is None else (options.alpha, options.gamma)
    hit = torch.arange(len(logits)) == gt_cls
    p = torch.where(hit, torch.sigmoid(logits), 0.0).sum()
    of_class = -alpha * (1 - p) ** gamma * torch.log(p + 1e-8) + (1 - alpha) * p**gamma * torch.log(1 - p + 1e-8)
    if options is not None and not options.use_fl:
        of_class = -torch.where(hit, torch.softmax(logits, dim=-1), 0.0).sum()
    l1 = torch.linalg.vector_norm(box - gt_bbox, ord=1)
    return gain["class"] * of_class + gain["bbox"] * l1 + gain["giou"] * (1 - iou_and_giou(box, gt_bbox)[1])


def stacked(layers):
    """Image, query and target of every pair, of shape (layers, pairs): every layer has as many."""
    rows = []
    for pairs in layers:
        image = np.repeat(np.arange(len(pairs)), [len(queries) for queries, _ in pairs])
        rows.append([image, *(np.concatenate([*side, np.zeros(0, np.int64)]) for side in zip(*pairs, strict=True))])
    return [torch.as_tensor(np.array(each, dtype=np.int64)) for each in zip(*rows, strict=True)] if layers[0] else None


def all_losses(predictions, targets, pairs, config):
    """Every loss by its key, as a function of the predictions."""
    losses = {}
    for part, suffix in (("pred", ""), ("dn", "_dn")):
        if pairs[part] is None:
            losses |= {f"{key}{suffix}": loss for key, loss in zeros_of(predictions, config).items()}
            continue
        boxes, logits = predictions[f"{part}_bboxes"], predictions[f"{part}_scores"]
        address = [each.expand(len(boxes), -1) for each in pairs[part]]
        of_layers = vmap(lambda *layer: one_layer(*layer, *targets, config))(boxes, logits, *address)
        losses |= {f"{key}{suffix}": loss[-1] for key, loss in of_layers.items()}
        if config.aux_loss:
            losses |= {f"{key}_aux{suffix}": loss[:-1].sum() for key, loss in of_layers.items()}
    return losses


def zeros_of(predictions, config):
    zero = precise(predictions["pred_bboxes"]).new_zeros(())
    return {f"{key}{part}": zero.clone() for key in MAIN for part in (("", "_aux") if config.aux_loss else ("",))}


def one_layer(boxes, logits, image, query, target, gt_bboxes, gt_cls, config):
    matched, x = precise(boxes)[image, query], precise(logits)
    wanted = gt_bboxes[target].to(matched.dtype)
    number = max(len(query), 1)
    score, giou = vmap(iou_and_giou)(matched, wanted) if len(query) else (matched[:, 0], matched[:, 0])
    hits = torch.nn.functional.one_hot(gt_cls[target], config.nc).to(x.dtype)
    empty = torch.zeros_like(x)
    y = empty.index_put((image, query), hits)
    q = empty.index_put((image, query), hits * score.detach()[:, None])
    divisor = number if config.use_fl else boxes.shape[1]
    gain = config.loss_gain
    return {
        "loss_class": gain["class"] * class_terms(x, y, q, config, varifocal=len(query) > 0).sum() / divisor,
        "loss_bbox": gain["bbox"] * (matched - wanted).abs().sum() / number,
        "loss_giou": gain["giou"] * (1 - giou).sum() / number,
    }


def class_terms(x, y, q, config, varifocal):
    log_p, log_background = torch.nn.functional.logsigmoid(x), torch.nn.functional.logsigmoid(-x)
    if not config.use_fl:
        return -q * log_p - (1 - q) * log_background
    if config.use_vfl and varifocal:
        weight = config.alpha * torch.exp(config.gamma * log_p) * (1 - y) + q
        return -weight * (q * log_p + (1 - q) * log_background)
    positive, negative = (config.alpha, 1 - config.alpha) if config.alpha > 0 else (1, 1)
    right = positive * torch.exp(config.gamma * log_background) * log_p
    return -y * right - (1 - y) * negative * torch.exp(config.gamma * log_p) * log_background


def iou_and_giou(a, b):
    """Both for a single pair of boxes."""
    ax, ay, aw, ah = a.unbind()
    bx, by, bw, bh = b.unbind()
    across = torch.minimum(ax + aw / 2, bx + bw / 2) - torch.maximum(ax - aw / 2, bx - bw / 2)
    down = torch.minimum(ay + ah / 2, by + bh / 2) - torch.maximum(ay - ah / 2, by - bh / 2)
    inter = torch.relu(across) * torch.relu(down)
    union = aw * ah + bw * bh - inter + EPS
    wide = torch.maximum(ax + aw / 2, bx + bw / 2) - torch.minimum(ax - aw / 2, bx - bw / 2)
    high = torch.maximum(ay + ah / 2, by + bh / 2) - torch.minimum(ay - ah / 2, by - bh / 2)
    hull = wide * high + EPS
    return inter / union, inter / union - (hull - union) / hull


def precise(tensor):
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
