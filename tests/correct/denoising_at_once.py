"""A generator of denoising queries that makes those of all images, groups and halves in one array."""

from __future__ import annotations

import numpy as np

from detr_conformance.properties.port import DenoisingGroup

INSIDE = 1e-5
"""Boxes stay so far inside (0, 1) before they become logits."""


def denoising_group(case, right_side_out=False):
    """For every target of every image, in every group, a positive and a negative; None where there are no targets."""
    options, counts = case.generator, np.array(case.gt_groups)
    if not (case.targets and options.training and options.num_dn > 0):
        return None
    rng, width = np.random.default_rng(options.seed), counts.max()
    groups = max(1, options.num_dn // width)
    filled = np.arange(width) < counts[:, None]
    target = np.where(filled, np.arange(width) + (np.cumsum(counts) - counts)[:, None], 0)
    shape = (case.images, groups, 2, width)
    every = np.broadcast_to(target[:, None, None], shape)
    boxes = noisy(case.gt_bboxes[every], options.box_noise_scale, rng, right_side_out)
    labels = flipped(case.gt_cls[every], case.config.nc, options.cls_noise_ratio, rng)
    is_filled = np.broadcast_to(filled[:, None, None], shape)[..., None]
    boxes = np.where(is_filled, boxes, np.log(INSIDE) - np.log1p(-INSIDE)).reshape(case.images, -1, 4)
    labels = np.where(is_filled, labels, 0.0).reshape(case.images, -1, case.config.nc)
    slots = np.arange(2 * width * groups).reshape(groups, 2, width)[:, 0]
    pos_idx = [slots[:, :count].reshape(-1) for count in counts]
    gt_idx = [own[:count] for own, count in zip(target, counts, strict=True)]
    blocked = mask(groups, 2 * width, case.queries)
    return DenoisingGroup(labels, boxes, blocked, pos_idx, gt_idx, int(groups), [boxes.shape[1], case.queries])


def noisy(boxes, scale, rng, right_side_out):
    """Each side moves by up to half the size of the box, those of negatives by half to all of it."""
    if not scale:
        return boxes
    centre, size = boxes[..., :2], boxes[..., 2:]
    step = rng.random((2, *size.shape)) + np.arange(2)[:, None, None]
    step *= 1 - 2 * rng.integers(0, 2, step.shape)
    low, high = (
        np.clip(centre + (move * scale + side) * size / 2, 0, 1) for side, move in ((-1, step[0]), (1, step[1]))
    )
    size = np.maximum(high - low, low - high) if right_side_out else high - low
    shares = np.clip(np.concatenate([low + (high - low) / 2, size], axis=-1), INSIDE, 1 - INSIDE)
    return np.log(shares / (1 - shares))


def flipped(classes, number, ratio, rng):
    """One-hot rows; half the ratio of them of a class drawn from all."""
    drawn = rng.integers(number, size=classes.shape)
    return np.eye(number)[np.where(rng.random(classes.shape) < ratio / 2, drawn, classes)]


def mask(groups, width, queries):
    """The complement of: anybody sees an ordinary query, and within a group all see each other."""
    size = groups * width
    open_to = np.zeros((size + queries, size + queries), dtype=bool)
    open_to[:, size:] = True
    open_to[:size, :size] = np.kron(np.eye(groups), np.ones((width, width))) > 0
    return ~open_to
