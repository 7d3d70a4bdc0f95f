"""What an error may call the arguments that do not fit."""

from __future__ import annotations

NAMES = {"bboxes": "gt_bboxes", "cls": "gt_cls", "gt_of_images": "gt_bboxes"}
GROUPS = (
    ("bboxes", "cls", "gt_groups"),
    ("dn_bboxes", "dn_scores", "dn_pos_idx", "dn_num_group", "dn_gt_idx"),
    ("pred_bboxes", "pred_scores", "targets", "gt_scores", "gt_bboxes", "gt_of_images"),
    ("match_indices",),
    ("box1", "box2"),
    ("costs", "sizes"),
    ("pred", "label"),
    ("gt_score", "pred_score"),
)
"""Arguments that must fit each other: where one does not, the error may name any of them."""


def named(slots):
    """The public names of arguments."""
    return tuple(NAMES.get(slot, slot) for slot in slots)


def names_of(call, slot):
    """What an error about an argument that does not fit the others may name."""
    group = next((group for group in GROUPS if slot in group), (slot,))
    return named(group) + (("nc",) if "nc" in call.options else ())
