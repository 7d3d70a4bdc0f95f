"""What ports of RT-DETR's form share: what they declare, the call of a loss function, and a generator's signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from detr_conformance.ports.list_of_dicts_port import ListOfDictsPort, Names
from detr_conformance.ports.torch_port import CaseTensors, embedding_gradient
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup

NAMES = Names(logits="logits", boxes="pred_boxes", labels="class_labels")

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


class LossFunctionPort(ListOfDictsPort):
    """A function with the arguments of `RTDetrForObjectDetectionLoss` of `transformers`, which takes a configuration.

    Layer 0 of a case is the encoder's, which comes in arguments of its own.

    Attributes:
        config_class: of the configuration.
        loss_function: the function.
        class_weight: what the configuration calls the gain of the classification loss.
    """

    names = NAMES
    config_class: Callable[..., Any]
    loss_function: Callable[..., Any]
    class_weight = "weight_loss_vfl"

    def build(self, case: LossCase) -> Any:
        """The case's options under the names of `transformers`; its loss function builds a criterion in every call."""
        gain, cost = case.config.loss_gain, case.matcher.cost_gain
        return self.config_class(
            num_labels=case.config.nc,
            auxiliary_loss=case.config.aux_loss,
            focal_loss_alpha=case.config.alpha,
            focal_loss_gamma=case.config.gamma,
            weight_loss_bbox=gain["bbox"],
            weight_loss_giou=gain["giou"],
            use_focal_loss=case.matcher.use_fl,
            matcher_alpha=case.matcher.alpha,
            matcher_gamma=case.matcher.gamma,
            matcher_class_cost=cost["class"],
            matcher_bbox_cost=cost["bbox"],
            matcher_giou_cost=cost["giou"],
            **{self.class_weight: gain["class"]},
        )

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """Hand the layers over as the model does: batch first, decoder layers stacked, denoising queries in front."""
        boxes, logits = tensors.predictions["pred_bboxes"], tensors.predictions["pred_scores"]
        config, labels = loss, self.targets(case, tensors)
        if not config.auxiliary_loss:
            _, losses, _ = self.loss_function(logits[-1], labels, logits.device, boxes[-1], config)
            return losses  # type: ignore[no-any-return]  # judged by the caller
        decoder = {"boxes": boxes[1:].transpose(0, 1), "logits": logits[1:].transpose(0, 1)}
        meta = None
        if case.denoising is not None:
            meta = self.meta(case, tensors)
            decoder["boxes"] = torch.cat([tensors.predictions["dn_bboxes"].transpose(0, 1), decoder["boxes"]], dim=2)
            decoder["logits"] = torch.cat([tensors.predictions["dn_scores"].transpose(0, 1), decoder["logits"]], dim=2)
        _, losses, _ = self.loss_function(
            decoder["logits"][:, -1],
            labels,
            logits.device,
            decoder["boxes"][:, -1],
            config,
            outputs_class=decoder["logits"],
            outputs_coord=decoder["boxes"],
            enc_topk_logits=logits[0],
            enc_topk_bboxes=boxes[0],
            denoising_meta_values=meta,
            **self.more(case, tensors, decoder["boxes"]),
        )
        return losses  # type: ignore[no-any-return]  # judged by the caller

    def more(
        self,
        case: LossCase,  # noqa: ARG002  # for others
        tensors: CaseTensors,  # noqa: ARG002  # as above
        boxes: torch.Tensor,  # noqa: ARG002  # as above
    ) -> dict[str, torch.Tensor]:
        """What the loss function wants besides, beside boxes of all queries and layers of the decoder: nothing."""
        return {}


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
