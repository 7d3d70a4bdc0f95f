"""Batches for the denoising generator, and what it makes of them."""

from __future__ import annotations

import numpy as np
import torch

from detr_conformance.optimized import get_cdn_group

CLASSES, QUERIES = 5, 4
# Counts of targets and num_dn: every image contributes all, or one of them a subset.
WHOLE = [((3, 1), 10), ((0, 2, 0, 1, 0), 5), ((0, 0, 3), 7), ((4, 4), 4), ((1,), 1), ((2, 3, 0), 100), ((1, 0, 6), 6)]
CROWDED = [((3, 1), 2), ((0, 2, 9, 0, 4, 0), 4), ((5, 2), 1), ((7,), 6), ((5, 0, 5), 3)]


def make_batch(gt_groups, seed=0, dtype=torch.float64):
    """Targets near the middle of the image, whose noise never reaches the border."""
    rng, total = np.random.default_rng(seed), sum(gt_groups)
    boxes = np.concatenate([rng.uniform(0.45, 0.55, (total, 2)), rng.uniform(0.05, 0.1, (total, 2))], axis=1)
    labels = torch.from_numpy(rng.integers(0, CLASSES, total))
    return {"cls": labels, "bboxes": torch.from_numpy(boxes).to(dtype), "gt_groups": list(gt_groups)}


def seeded(seed, device="cpu"):
    """A generator of random numbers."""
    return torch.Generator(device).manual_seed(seed)


def generate(gt_groups, num_dn, seed=0, batch=None, **options):
    """The four results, without label noise, and with one unit vector for each class as its embedding."""
    batch = make_batch(gt_groups) if batch is None else batch
    options = {"cls_noise_ratio": 0.0, "training": True, "generator": seeded(seed)} | options
    return get_cdn_group(batch, CLASSES, QUERIES, torch.eye(CLASSES), num_dn, **options)
