"""A generator of denoising queries that makes slot after slot, with random numbers of NumPy in an order of its own."""

from __future__ import annotations

import numpy as np
from scipy.special import logit

from detr_conformance.properties.port import DenoisingGroup

EPS = 1e-6


def denoising_group(case, eps=EPS, capped=True, padding=0.0, outward=False):
    """Denoising queries for the targets of a case, or None; with `outward` a size below 0 changes its sign."""
    options, rng = case.generator, np.random.default_rng(case.generator.seed)
    most = max(case.gt_groups, default=0)
    if not (options.training and options.num_dn and most):
        return None
    width = min(most, options.num_dn) if capped else most
    groups = max(options.num_dn // width, 1)
    slots = 2 * width * groups
    labels = np.zeros((case.images, slots, case.config.nc), dtype=np.float32)
    boxes = np.full((case.images, slots, 4), padding, dtype=np.float32)
    pos_idx, gt_idx = [], []
    for image, count in enumerate(case.gt_groups):
        kept = np.sort(rng.choice(count, size=min(count, width), replace=False)) + case.of_image(image).start
        positive = [2 * width * group + place for group in range(groups) for place in range(len(kept))]
        for slot in positive:
            for farther in (True, False):
                target, where = kept[slot % (2 * width)], slot + farther * width
                noise = options.box_noise_scale, farther, rng
                boxes[image, where] = noisy_box(case.gt_bboxes[target], *noise, eps, outward)
                labels[image, where, noisy_label(case.gt_cls[target], case.config.nc, options.cls_noise_ratio, rng)] = 1
        pos_idx.append(np.array(positive, dtype=np.int64))
        gt_idx.append(kept.astype(np.int64))
    mask = attention_mask(slots, 2 * width, case.queries)
    return DenoisingGroup(labels, boxes, mask, pos_idx, gt_idx, groups, [slots, case.queries])


def noisy_label(label, classes, ratio, rng):
    return rng.integers(classes) if rng.random() < ratio / 2 else label


def noisy_box(box, scale, farther, rng, eps, outward):
    """Edge after edge: a positive's moves by a number drawn from -1 to 1, a negative's by 1 to 2 either way."""
    if scale == 0:
        return box
    low, high = np.empty(2), np.empty(2)
    for axis in (1, 0):
        half = box[2 + axis] / 2
        for edge, sign in ((high, 1), (low, -1)):
            way = rng.uniform(1, 2) * rng.choice([-1, 1]) if farther else rng.uniform(-1, 1)
            edge[axis] = min(max(box[axis] + sign * half + way * half * scale, 0.0), 1.0)
    size = abs(high - low) if outward else high - low
    return logit(np.clip(np.concatenate([(low + high) / 2, size]), eps, 1 - eps))


def attention_mask(slots, group, queries):
    """Blocks of open squares along the diagonal; ordinary queries, which come last, are seen by all."""
    mask = np.ones((slots + queries, slots + queries), dtype=bool)
    mask[:, slots:] = False
    for start in range(0, slots, group):
        mask[start : start + group, start : start + group] = False
    return mask
