"""Generators of denoising queries in float32 torch that make one mistake of the museum each: family DN."""

from __future__ import annotations

import torch

from ..correct.plain_denoising import EPS, get_cdn_group


def remade(change):
    """The plain generator, whose labels, boxes, mask and meta are changed; `change` is given the embedding too."""

    def generate(batch, num_classes, num_queries, class_embed, **options):
        made = get_cdn_group(batch, num_classes, num_queries, class_embed, **options)
        return made if made[3] is None else change(*made, batch, class_embed)

    return generate


def mask_of_visible(labels, boxes, blocked, meta, *_):
    """The mask is true where a query may look."""
    return labels, boxes, ~blocked, meta


def nothing_blocked(labels, boxes, blocked, meta, *_):
    """The mask blocks nothing."""
    return labels, boxes, torch.zeros_like(blocked), meta


def blind_to_itself(labels, boxes, blocked, meta, *_):
    """A query does not see itself."""
    return labels, boxes, blocked | torch.eye(len(blocked), dtype=torch.bool), meta


def groups_see_each_other(labels, boxes, blocked, meta, *_):
    """Only ordinary queries are kept from denoising ones."""
    slots = meta["dn_num_split"][0]
    mask = torch.zeros_like(blocked)
    mask[slots:, :slots] = True
    return labels, boxes, mask, meta


def halves_counted(labels, boxes, blocked, meta, *_):
    """The number of groups counts halves."""
    return labels, boxes, blocked, {**meta, "dn_num_group": 2 * meta["dn_num_group"]}


def split_of_all(labels, boxes, blocked, meta, *_):
    """The second part of the split counts all queries."""
    return labels, boxes, blocked, {**meta, "dn_num_split": [meta["dn_num_split"][0], len(blocked)]}


def within_images(labels, boxes, blocked, meta, batch, _):
    """Denoised targets count within each image."""
    first = torch.tensor([0, *batch["gt_groups"][:-1]]).cumsum(0)
    within = [own - at for own, at in zip(meta["dn_gt_idx"], first, strict=True)]
    return labels, boxes, blocked, {**meta, "dn_gt_idx": within}


def negatives_unlabelled(labels, boxes, blocked, meta, *_):
    """Only positives carry a label."""
    kept = torch.zeros_like(labels)
    for image, slots in enumerate(meta["dn_pos_idx"]):
        kept[image, slots] = labels[image, slots]
    return kept, boxes, blocked, meta


def padding_of_class_0(labels, boxes, blocked, meta, _, class_embed):
    """Padding has the label 0."""
    return torch.where(labels.any(dim=-1, keepdim=True), labels, class_embed[0]), boxes, blocked, meta


def in_any_mode(*args, **options):
    """Denoising queries are made in evaluation, too."""
    return get_cdn_group(*args, **options | {"training": True})


def labels_unchanged(*args, **options):
    """No label is replaced."""
    return get_cdn_group(*args, **options | {"cls_noise_ratio": 0.0})


def noise_not_scaled(*args, box_noise_scale=1.0, **options):
    """The scale says whether there is noise."""
    return get_cdn_group(*args, box_noise_scale=float(box_noise_scale > 0), **options)


def always_logits(*args, box_noise_scale=1.0, **options):
    """Boxes without noise are logits, too."""
    labels, boxes, blocked, meta = get_cdn_group(*args, box_noise_scale=box_noise_scale, **options)
    if meta is not None and box_noise_scale <= 0:
        filled = labels.any(dim=-1, keepdim=True)
        boxes = torch.where(filled, boxes.logit(eps=EPS), boxes)
    return labels, boxes, blocked, meta


WRONG_GENERATORS = {
    "paddle-mask-of-visible": remade(mask_of_visible),
    "hf-dn-mask-added-as-bool": remade(nothing_blocked),
    "plausible-query-blind-to-itself": remade(blind_to_itself),
    "plausible-groups-see-each-other": remade(groups_see_each_other),
    "plausible-num-group-of-halves": remade(halves_counted),
    "plausible-num-split-of-all": remade(split_of_all),
    "plausible-gt-idx-within-image": remade(within_images),
    "plausible-negatives-unlabelled": remade(negatives_unlabelled),
    "plausible-padding-of-class-0": remade(padding_of_class_0),
    "plausible-denoising-in-any-mode": in_any_mode,
    "plausible-label-noise-missing": labels_unchanged,
    "plausible-noise-scale-ignored": noise_not_scaled,
    "plausible-logits-without-noise": always_logits,
}
