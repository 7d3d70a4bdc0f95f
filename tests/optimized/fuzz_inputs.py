"""Valid calls, one function for each kind of surface."""

from __future__ import annotations

from itertools import accumulate

import torch

from .fuzz_calls import Call, Draw

OF_ONE_LAYER = {"layer", "matcher"}
WEIGHTS = {"loss": 24, "detr": 12, "matcher": 6, "generator": 6, "denoising indices": 5, "assignment": 5}
WEIGHTS |= {"layer": 4, "auxiliary": 4, "focal": 3, "varifocal": 3, "iou": 4, "class": 3, "boxes": 3, "index": 2}
WEIGHTS |= {"assigned": 2}


def valid_call(draw: Draw) -> Call:
    """A call that is neither bad nor extreme."""
    [surface] = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))
    return MAKERS[surface](draw, surface)


def gains(draw):
    names = ("class", "bbox", "giou", *draw.choice([(), ("no_object",), ("mask", "dice")]))
    return {name: draw.choice([1.0, 5.0, 2.0, 0.5, 0.1, 0, 3]) for name in names}


def _loss_options(draw, nc, layers=1):
    options = {
        "nc": nc,
        "gamma": draw.choice([1.5, 2.0, 2, 0, 1.0, 0.5, 3.0]),
        "alpha": draw.choice([0.25, 0.1, 1, 0, -1.0]),
    }
    options |= {name: draw.flip() for name in ("use_fl", "use_vfl")}
    options |= {"aux_loss": draw.flip(0.8), "loss_gain": draw.choice([None, gains(draw)])}
    if layers > 2 and draw.flip(0.3):
        options |= {"use_uni_match": True, "uni_match_ind": draw.randrange(layers - 1)}
    return options


def targets_of(draw, images, classes):
    counts = draw.choice([[draw.randint(0, 3) for _ in range(images)]] * 9 + [[0] * images])
    total = sum(counts)
    return {"cls": draw.integers(classes, total), "bboxes": draw.boxes(total), "gt_groups": counts}


def _matching(draw, queries, counts):
    """For each image some of its queries, and as many targets, of whatever image."""
    pairs = [min(draw.randint(0, count), queries) for count in counts]
    of_images = zip(pairs, accumulate(counts, initial=0), counts, strict=False)
    return [
        (draw.without_repetition(queries, size), first + draw.without_repetition(count, size))
        for size, first, count in of_images
    ]


def _predictions(draw, surface):
    """What the losses and the matcher have in common."""
    layers, images, queries, classes = (draw.randint(1, most) for most in (4, 3, 5, 4))
    leading = (images, queries) if surface in OF_ONE_LAYER else (layers, images, queries)
    arguments = {"pred_bboxes": draw.boxes(*leading), "pred_scores": draw.logits(*leading, classes)}
    return arguments | targets_of(draw, images, classes), _loss_options(draw, classes, layers)


def _loss(draw, surface):
    arguments, options = _predictions(draw, surface)
    arguments["denoising"] = draw.flip(0.6)
    if arguments["denoising"]:
        arguments |= denoising(draw, arguments["gt_groups"], options["nc"])
    return Call(surface, options, arguments)


def denoising(draw, counts, classes):
    """Denoising queries: M positive slots, then M negative ones, in every group; or a part of the targets only."""
    ends, groups, width = list(accumulate(counts)), draw.randint(1, 3), max(1, *counts)
    chosen = [torch.arange(end - count, end) for end, count in zip(ends, counts, strict=True)]
    given = draw.flip()
    if given and draw.flip():
        chosen = [each[1:] for each in chosen]
    slots = 2 * width * groups + draw.choice([0, 0, 1])
    leading = (draw.randint(1, 3), len(counts), slots)
    starts = 2 * width * torch.arange(groups)[:, None]
    return {
        "dn_bboxes": draw.boxes(*leading),
        "dn_scores": draw.logits(*leading, classes),
        "dn_pos_idx": [(starts + torch.arange(len(each))).view(-1) for each in chosen],
        "dn_num_group": groups,
        **({"dn_gt_idx": chosen} if given else {}),
    }


def _detr(draw, surface):
    arguments, options = _predictions(draw, surface)
    arguments["match_indices"] = None
    if surface == "detr":
        arguments["postfix"] = draw.choice(["", "_dn", "_x"])
    if draw.flip():
        arguments["match_indices"] = _matching(draw, arguments["pred_bboxes"].shape[-2], arguments["gt_groups"])
    if surface == "auxiliary" and options.get("uni_match_ind", 0) >= len(arguments["pred_bboxes"]):
        options["uni_match_ind"] = 0
    return Call(surface, options, arguments)


def _matcher(draw, surface):
    arguments, _ = _predictions(draw, surface)
    options = {"cost_gain": draw.choice([None, gains(draw)]), "use_fl": draw.flip(0.7)}
    options |= {"gamma": draw.choice([2.0, 1, 0, 1.5]), "alpha": draw.choice([0.25, 0.1, 1, 0])}
    return Call(surface, options, arguments)


def _generator(draw, surface):
    classes = draw.randint(1, 4)
    arguments = targets_of(draw, draw.randint(1, 3), classes)
    arguments |= {"num_classes": classes, "num_queries": draw.randint(1, 4), "num_dn": draw.choice([1, 2, 5, 10, 0])}
    arguments |= {"class_embed": draw.logits(classes + draw.choice([0, 1]), 3), "training": draw.flip(0.9)}
    arguments |= {"cls_noise_ratio": draw.choice([0.5, 0, 1.0, 2]), "box_noise_scale": draw.choice([1.0, 0, 0.4])}
    return Call(surface, {}, arguments)


def _indices(draw, surface):
    arguments = {"dn_gt_idx": None, "gt_groups": [draw.randint(0, 3) for _ in range(draw.randint(1, 3))]}
    made = denoising(draw, arguments["gt_groups"], 1)
    return Call(surface, {}, arguments | {name: made[name] for name in made if name not in ("dn_bboxes", "dn_scores")})


def _assignment(draw, surface):
    shape = [draw.randint(0, 4) for _ in range(3)]
    sizes = torch.stack([draw.integers(shape[axis] + 1, shape[0]) for axis in (1, 2)], dim=1)
    return Call(surface, {}, {"costs": draw.logits(*shape), "sizes": draw.choice([None, sizes])})


def _terms(draw, surface):
    shape = [draw.randint(1, 4) for _ in range(3)]
    label = draw.integers(2, *shape).to(draw.dtype)
    options = {"gamma": draw.choice([1.5, 2, 0, 0.5]), "alpha": draw.choice([0.25, 1, 0, 0.1])}
    if surface == "focal":
        return Call(surface, options, {"pred": draw.logits(*shape), "label": label})
    score = label * draw.boxes(*shape)[..., 0]
    return Call(surface, options, {"pred_score": draw.logits(*shape), "gt_score": score, "label": label})


def _iou(draw, surface):
    shape = [draw.randint(1, 3) for _ in range(draw.randint(0, 3))]
    other = draw.choice([shape, shape[1:], [1 for _ in shape]])
    arguments = {"box1": draw.boxes(*shape), "box2": draw.boxes(*other)}
    return Call(surface, {}, arguments | {name: draw.flip(0.4) for name in ("xywh", "GIoU", "DIoU", "CIoU")})


def _class(draw, surface):
    images, queries, classes = (draw.randint(1, most) for most in (3, 4, 4))
    targets = draw.integers(classes + 1, images, queries)
    scores = draw.boxes(images, queries)[..., 0] * (targets < classes)
    arguments = {"pred_scores": draw.logits(images, queries, classes), "targets": targets, "gt_scores": scores}
    return Call(surface, _loss_options(draw, classes), arguments | {"num_gts": int((targets < classes).sum())})


def _pairs(draw, surface):
    count = draw.randint(0, 4)
    return Call(surface, _loss_options(draw, 3), {"pred_bboxes": draw.boxes(count), "gt_bboxes": draw.boxes(count)})


def _index(draw, surface):
    counts, queries = [draw.randint(0, 3) for _ in range(draw.randint(1, 3))], draw.randint(1, 4)
    matching = _matching(draw, queries, counts)
    if surface == "index":
        return Call(surface, {}, {"match_indices": matching})
    firsts = accumulate(counts, initial=0)
    own = [(queries, targets - first) for (queries, targets), first in zip(matching, firsts, strict=False)]
    arguments = {"pred_bboxes": draw.boxes(len(counts), queries), "gt_of_images": [draw.boxes(each) for each in counts]}
    return Call(surface, {}, arguments | {"match_indices": own})


MAKERS = {"loss": _loss, "detr": _detr, "layer": _detr, "auxiliary": _detr, "matcher": _matcher}
MAKERS |= {"generator": _generator, "denoising indices": _indices, "assignment": _assignment, "focal": _terms}
MAKERS |= {"varifocal": _terms, "iou": _iou, "class": _class, "boxes": _pairs, "index": _index, "assigned": _index}
