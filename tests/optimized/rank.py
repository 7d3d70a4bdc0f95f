"""One of several processes: computes its share of every batch, and leaves what came out in the folder.

    python rank.py FOLDER RANK

The folder has `shares.pt`: for each case a share for each of the first processes. By `store` they find each other.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detr_conformance.optimized import RTDETRDetectionLoss

PROCESSES = 3


class Heads(nn.Module):
    """Parameters that every prediction depends on."""

    def __init__(self, like: list[Tensor]) -> None:
        super().__init__()
        self.factors = nn.ParameterList(each.new_ones(each.shape[-1]) for each in like[:2])

    def forward(self, predictions: list[Tensor]) -> list[Tensor]:
        return [each * factor for each, factor in zip(predictions, list(self.factors) * 2, strict=False)]


def computed(share: dict, heads: nn.Module, group: dist.ProcessGroup | None = None, talks=lambda: 0) -> dict:
    """Losses, gradients with respect to predictions and parameters, and how often the loss talks to other processes."""
    predictions = [each.requires_grad_() for each in share["predictions"]]
    boxes, scores, *denoising = heads(predictions)
    loss = RTDETRDetectionLoss(scores.shape[-1], **share["options"], process_group=group)
    before = talks()
    losses = loss((boxes, scores), share["batch"], *denoising, dn_meta=share["dn_meta"])
    talked = talks() - before
    sum(losses.values()).backward()
    gradients = [[each.grad for each in leaves] for leaves in (predictions, heads.parameters())]
    values = {key: each.detach() for key, each in losses.items()}
    return {"losses": values, "by predictions": gradients[0], "by parameters": gradients[1], "talked": talked}


def main(folder: Path, rank: int) -> None:
    """Meet the others, and compute one case after the other."""
    store, patience = dist.FileStore(str(folder / "store")), timedelta(seconds=60)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES, timeout=patience)
    groups = {size: dist.new_group(range(size)) for size in range(1, PROCESSES + 1)}
    own = [group for size, group in groups.items() if rank < size]

    def talks() -> int:
        """Collectives so far, as each group numbers them; no public function tells."""
        return sum(group._get_sequence_number_for_group() for group in (dist.group.WORLD, *own))

    answers = {}
    for name, shares in torch.load(folder / "shares.pt", weights_only=True).items():
        if rank < len(shares):
            share, group = shares[rank], groups[len(shares)]
            heads = DistributedDataParallel(Heads(share["predictions"]), process_group=group)
            answers[name] = computed(share, heads, group if share["is_grouped"] else None, talks)
    torch.save(answers, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
