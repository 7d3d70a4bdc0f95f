"""A generator of denoising queries as it is taught, with the signature of Ultralytics' `get_cdn_group`."""

from __future__ import annotations

import torch

EPS = 1e-6


def get_cdn_group(
    batch,
    num_classes,
    num_queries,
    class_embed,
    num_dn=100,
    cls_noise_ratio=0.5,
    box_noise_scale=1.0,
    training=False,
):
    """Embedded labels, boxes as logits, attention mask and indices; four Nones where there is nothing to denoise."""
    if not training or batch is None or num_dn <= 0 or max(batch["gt_groups"], default=0) == 0:
        return None, None, None, None
    chosen = chosen_targets(batch["gt_groups"], num_dn)
    width = max(len(each) for each in chosen)
    groups = num_dn // width
    slots = 2 * width * groups
    labels = torch.zeros(len(chosen), slots, class_embed.shape[1])
    boxes = torch.zeros(len(chosen), slots, 4)
    starts = 2 * width * torch.arange(groups)[:, None]
    pos_idx = [(starts + torch.arange(len(own))).flatten() for own in chosen]
    for image, own in enumerate(chosen):
        for farther in (0, 1):
            where, targets = pos_idx[image] + farther * width, own.repeat(groups)
            labels[image, where] = class_embed[noisy_labels(batch["cls"][targets], num_classes, cls_noise_ratio)]
            boxes[image, where] = noisy_boxes(batch["bboxes"][targets].float(), box_noise_scale, farther)
    meta = {"dn_pos_idx": pos_idx, "dn_gt_idx": chosen, "dn_num_group": groups, "dn_num_split": [slots, num_queries]}
    return labels, boxes, blocked(slots, 2 * width, num_queries), meta


def chosen_targets(gt_groups, num_dn):
    """For each image its targets, or a random subset of them that is small enough."""
    chosen, first = [], 0
    for count in gt_groups:
        kept = torch.randperm(count)[:num_dn].sort().values
        chosen.append(kept + first)
        first += count
    return chosen


def noisy_labels(labels, num_classes, ratio):
    """With half the ratio as probability, any class instead of the right one."""
    flipped = torch.rand(len(labels)) < ratio / 2
    return torch.where(flipped, torch.randint(num_classes, labels.shape), labels)


def noisy_boxes(boxes, scale, farther):
    """Boxes as logits whose edges have moved by up to half their size, or by half to all of it."""
    if scale <= 0:
        return boxes
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    edges = torch.stack([centre - half, centre + half])
    sign = torch.randint(2, edges.shape) * 2 - 1
    moved = (edges + sign * (torch.rand(edges.shape) + farther) * half * scale).clamp(0, 1)
    noisy = torch.cat([moved.mean(dim=0), moved[1] - moved[0]], dim=1)
    return torch.logit(noisy, eps=EPS)


def blocked(slots, group, num_queries):
    """True where a query may not attend to another."""
    owner = torch.cat([torch.arange(slots) // group, torch.full((num_queries,), -1)])
    return (owner[:, None] != owner) & (owner >= 0)
