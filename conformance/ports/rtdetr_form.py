"""What ports of RT-DETR's form share: what they declare, and denoising queries by a generator of one signature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from detr_conformance.ports.torch_port import embedding_gradient
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup

CAPABILITIES = frozenset(
    {
        "varifocal",
        "no_aux",
        "denoising",
        "gradients",
        "one_object",
        "match",
        "matcher_options",
        "denoising_indices",
        "denoising_group",
        "embedding_gradient",
    }
)
# Half precision runs under autocast only: torch.cdist has no CPU kernel for it.
DTYPES = frozenset({"float32", "float64"})


def denoising_group(
    generate: Callable[..., Any], case: LossCase, targets: Sequence[dict[str, torch.Tensor]], number: str
) -> DenoisingGroup | None:
    """Denoising queries for the case's targets; None where there are none.

    Args:
        generate: takes targets, classes, queries and an embedding, whose last row is that of padding. `training` is the
            model's business there, so it is decided here.
        case: what is asked for.
        targets: a dictionary for each image.
        number: what `generate` calls the number of denoising queries.
    """
    generator, nc = case.generator, case.config.nc
    if not generator.training:
        return None
    torch.manual_seed(generator.seed)
    embedding = torch.nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]  # torch does not type it
        torch.cat([torch.eye(nc), torch.zeros(1, nc)]), freeze=False, padding_idx=nc
    )
    noise = {"label_noise_ratio": generator.cls_noise_ratio, "box_noise_scale": generator.box_noise_scale}
    labels, boxes, mask, meta = generate(targets, nc, case.queries, embedding, **{number: generator.num_dn}, **noise)
    if meta is None:
        return None
    return DenoisingGroup(
        labels=labels.detach().numpy(),
        boxes=boxes.numpy(),
        blocked=(mask != 0).numpy(),
        pos_idx=[np.asarray(each) for each in meta["dn_positive_idx"]],
        gt_idx=None,
        num_group=meta["dn_num_group"],
        num_split=list(meta["dn_num_split"]),
        embedding_gradient=embedding_gradient(labels, embedding.weight)[:nc],
    )
