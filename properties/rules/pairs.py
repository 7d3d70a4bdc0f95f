"""API: two options, or an option and a size, together."""

from __future__ import annotations

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.option_pairs import CLASSES, IMAGES, LAYERS, QUERIES, cases_of_pairs
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.tolerance import PRECISIONS

PAIRS = Request(
    layers=(1, max(LAYERS)),
    images=(1, max(IMAGES)),
    queries=(1, max(QUERIES)),
    classes=(1, max(CLASSES)),
    targets=(0, max(QUERIES) + 2),
    aux_loss=(True, False),
    uni_match=(False, True),
    query_groups=(1, 3),
    special=(),
    logit_scale=1.5,
    further_dtypes=tuple(PRECISIONS),
)


@rule(
    "API-18",
    source="loss specification, DETRLoss, options; Cohen et al., The AETG system, doi 10.1109/32.605761: every pair",
    request=PAIRS,
    cases=cases_of_pairs,
)
def pairs_of_options(port: PortUnderTest, case: LossCase) -> None:
    """An option means the same whatever the others are, and whatever the sizes and the dtype: losses and gradients are
    those of their formulas where any two values meet, as the shared matching without auxiliary losses, or denoising
    queries beside a single layer. At level smoke a few of these pairs are tried, above it all."""
    expected, returned = port.expected(case), port.loss(case)
    returned.assert_values(expected)
    if port.can("gradients"):
        returned.assert_gradients(expected)
