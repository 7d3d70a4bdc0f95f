"""D-FINE and DEIMv2 as `transformers` has them: their specs, which need no package."""

from __future__ import annotations

from dataclasses import replace

from detr_conformance.reference import FAMILY
from detr_conformance.reference.base_spec import differs
from detr_conformance.reference.distribution_terms import DDF, FGL, Distillation, of_decoder, of_own_queries, of_taught
from detr_conformance.reference.layers import Stack, Weights
from detr_conformance.reference.normaliser import per_target


def but_the_main_layer(stack: Stack) -> Weights:
    """The layers of the decoder, of ordinary queries without the last."""
    return of_decoder(stack) if stack.is_denoising else of_taught(stack)


LOCALISATION = replace(FGL, layers=but_the_main_layer)
DISTILLATION = replace(DDF, total=Distillation(counts=of_own_queries))
DISTRIBUTIONS = (
    "The main layer has no localisation loss; in distillation denoising queries are counted for themselves.",
    "https://github.com/huggingface/transformers, src/transformers/loss/loss_d_fine.py",
)

TRANSFORMERS_DFINE = differs(
    FAMILY["rtdetr"],
    "transformers-dfine",
    extra_terms=({"fgl": replace(LOCALISATION, normaliser=per_target), "ddf": DISTILLATION}, *DISTRIBUTIONS),
)
"""RT-DETR's losses, without a union of matchings, and the two of distributions."""

TRANSFORMERS_DEIM = differs(
    FAMILY["deim"],
    "transformers-deim",
    extra_terms=({"fgl": LOCALISATION, "ddf": DISTILLATION}, *DISTRIBUTIONS),
    denoising__generator__moved=(
        FAMILY["rtdetr"].denoising.generator.moved,
        "A size below 0 stays so, as in RT-DETR.",
        "https://github.com/huggingface/transformers, src/transformers/models/deimv2/modeling_deimv2.py",
    ),
)
"""DEIM with RT-DETR's denoising queries."""
