"""Compile before the first step what is compiled for the CPU: `python -m detr_conformance.optimized.warm_up`."""

from __future__ import annotations

import torch

from detr_conformance.optimized.assignment import linear_sum_assignment
from detr_conformance.optimized.rtdetr_loss import RTDETRDetectionLoss

CLASSES, QUERIES, COUNTS = 3, 8, (2, 1)


def warm_up() -> None:
    """Take one small step with the `native` backend, so that no step of a training compiles anything.

    What is compiled is kept on the disk where numba may write; later processes load it in about a second.

    Raises:
        RuntimeError: numba does not import.
    """
    loss = RTDETRDetectionLoss(CLASSES, use_vfl=True, backend="native")
    boxes, logits = (torch.zeros(2, len(COUNTS), QUERIES, size, requires_grad=True) for size in (4, CLASSES))
    targets = sum(COUNTS)
    batch = {
        "cls": torch.zeros(targets, dtype=torch.int64),
        "bboxes": torch.full((targets, 4), 0.5),
        "gt_groups": list(COUNTS),
    }
    slots = [torch.arange(count) for count in COUNTS]
    meta = {"dn_pos_idx": slots, "dn_num_group": 1, "dn_num_split": [QUERIES, QUERIES]}
    losses = loss((boxes, logits), batch, dn_bboxes=boxes * 1, dn_scores=logits * 1, dn_meta=meta)
    torch.stack([*losses.values()]).sum().backward()  # type: ignore[no-untyped-call]  # torch does not type it
    linear_sum_assignment(torch.zeros(1, 2, 3), backend="native")  # on its own, as costs of masks need it


if __name__ == "__main__":
    warm_up()
