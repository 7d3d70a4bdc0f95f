"""Denoising queries as a porter makes them: all images and groups at once. Mutants are made of this module."""

from __future__ import annotations

import torch


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
    if not training or batch is None or num_dn <= 0:
        return None, None, None, None
    gt_groups = batch["gt_groups"]
    if max(gt_groups) == 0:
        return None, None, None, None
    device = batch["bboxes"].device
    chosen = chosen_targets(gt_groups, num_dn, device)
    width = max(len(targets) for targets in chosen)
    groups = num_dn // width
    slots = 2 * width * groups

    target = torch.cat(chosen).repeat(2 * groups)
    image = torch.cat([torch.full_like(targets, index) for index, targets in enumerate(chosen)]).repeat(2 * groups)
    rank = torch.cat([torch.arange(len(targets), device=device) for targets in chosen])
    slot = torch.cat([rank + half * width for half in range(2 * groups)])
    is_negative = slot // width % 2
    labels = noisy_labels(batch["cls"][target].long(), num_classes, cls_noise_ratio)
    boxes = noisy_boxes(batch["bboxes"][target].float(), is_negative, box_noise_scale)

    dn_labels = torch.zeros(len(gt_groups), slots, class_embed.shape[-1], device=device)
    dn_labels[image, slot] = class_embed[labels]
    dn_bboxes = torch.zeros(len(gt_groups), slots, 4, device=device)
    dn_bboxes[image, slot] = boxes
    is_positive = is_negative == 0
    dn_meta = {
        "dn_pos_idx": [slot[is_positive & (image == index)] for index in range(len(gt_groups))],
        "dn_gt_idx": chosen,
        "dn_num_group": groups,
        "dn_num_split": [slots, num_queries],
    }
    return dn_labels, dn_bboxes, attention_mask(width, groups, num_queries, device), dn_meta


def chosen_targets(gt_groups, num_dn, device):
    """For each image its targets, counted through the batch; a random subset where there are more than `num_dn`."""
    chosen, first = [], 0
    for count in gt_groups:
        targets = torch.arange(count, device=device)
        if count > num_dn:
            targets = torch.randperm(count, device=device)[:num_dn].sort().values
        chosen.append(targets + first)
        first += count
    return chosen


def noisy_labels(labels, num_classes, cls_noise_ratio):
    """With half the ratio as probability any class instead of the right one."""
    if cls_noise_ratio > 0:
        flipped = torch.rand(labels.shape, device=labels.device) < cls_noise_ratio * 0.5
        labels[flipped] = torch.randint(0, num_classes, (int(flipped.sum()),), device=labels.device)
    return labels


def noisy_boxes(boxes, is_negative, box_noise_scale):
    """As logits; the edges of positives move by up to half the size of the box, those of negatives by half to all."""
    if box_noise_scale <= 0:
        return boxes
    half = boxes[:, 2:] / 2
    edges = torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], dim=-1)
    sign = torch.randint(0, 2, edges.shape, device=boxes.device) * 2.0 - 1.0
    distance = torch.rand(edges.shape, device=boxes.device) + is_negative[:, None]
    edges = edges + sign * distance * half.repeat(1, 2) * box_noise_scale
    edges = edges.clamp(min=0.0, max=1.0)
    low, high = edges[:, :2], edges[:, 2:]
    moved = torch.cat([(low + high) / 2, high - low], dim=-1)
    return inverse_sigmoid(moved)


def inverse_sigmoid(boxes, eps=1e-6):
    boxes = boxes.clamp(min=eps, max=1 - eps)
    return torch.log(boxes / (1 - boxes))


def attention_mask(width, groups, num_queries, device):
    """True where a query may not attend to another; denoising queries come first."""
    slots = 2 * width * groups
    mask = torch.zeros(slots + num_queries, slots + num_queries, dtype=torch.bool, device=device)
    mask[slots:, :slots] = True
    for group in range(groups):
        first, end = 2 * width * group, 2 * width * (group + 1)
        mask[first:end, :first] = True
        mask[first:end, end:slots] = True
    return mask
