"""The losses of D-FINE and DEIMv2 in the `transformers` package, through its public loss functions."""

from __future__ import annotations

from transformers import Deimv2Config, DFineConfig
from transformers.loss.loss_d_fine import DFineForObjectDetectionLoss
from transformers.loss.loss_deimv2 import Deimv2ForObjectDetectionLoss
from transformers.models.d_fine import modeling_d_fine
from transformers.models.deimv2 import modeling_deimv2

from detr_conformance.ports.dfine_form import DistributionsPort
from detr_conformance.ports.transformers_dfine_spec import TRANSFORMERS_DEIM, TRANSFORMERS_DFINE
from detr_conformance.ports.transformers_rtdetr import TransformersRTDetrPort


class TransformersDFinePort(DistributionsPort, TransformersRTDetrPort):
    """`DFineForObjectDetectionLoss`: RT-DETR's losses and two on distributions of box sides.

    The package does not unite the matchings of the layers, as D-FINE's own code does.
    """

    name = "transformers-dfine"
    profile = TRANSFORMERS_DFINE
    capabilities = TransformersRTDetrPort.capabilities | {"distributions"}
    dtypes = frozenset({"float32"})  # its loss on distributions fails on float64
    config_class = DFineConfig
    loss_function = staticmethod(DFineForObjectDetectionLoss)
    generator = staticmethod(modeling_d_fine.get_contrastive_denoising_training_group)


class TransformersDeimV2Port(TransformersDFinePort):
    """`Deimv2ForObjectDetectionLoss`, which unites the matchings."""

    name = "transformers-deimv2"
    profile = TRANSFORMERS_DEIM
    capabilities = TransformersDFinePort.capabilities - {"varifocal", "no_aux"} | {"mal"}
    config_class = Deimv2Config
    loss_function = staticmethod(Deimv2ForObjectDetectionLoss)
    generator = staticmethod(modeling_deimv2.get_contrastive_denoising_training_group)
    class_weight = "weight_loss_mal"


def port() -> TransformersDFinePort:
    """D-FINE of the installed `transformers` package."""
    return TransformersDFinePort()


def deimv2_port() -> TransformersDeimV2Port:
    """DEIMv2 of the installed `transformers` package."""
    return TransformersDeimV2Port()
