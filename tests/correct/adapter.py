"""How the losses of this folder that have Ultralytics' signature become ports."""

from __future__ import annotations

from detr_conformance.ports.ultralytics import UltralyticsPort

from .plain_denoising import get_cdn_group


class CorrectPort(UltralyticsPort):
    """Takes every dtype, and may be called from several threads."""

    dtypes = frozenset({"float16", "bfloat16", "float32", "float64"})

    def __init__(self, name, loss_class, denoising=get_cdn_group, without=()):
        super().__init__(loss_class, denoising, name)
        self.capabilities = self.capabilities | {"concurrent"} - set(without)
