"""AUX: decoder layers and the auxiliary losses."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.divisors import ordinary_keys, term_of, weight
from detr_conformance.properties.port_under_test import PortUnderTest, ReturnedLosses
from detr_conformance.properties.questions import adds_layers_up, counts_layers, is_alike_in_all_layers
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.staged import assert_layers_counted, marks, staged
from detr_conformance.properties.transforms import repeat_main_layer, reverse_auxiliary_layers

SEVERAL_LAYERS = Request(layers=(2, 5), targets=(0, 3), denoising="never")
MAIN_KEYS = ("loss_class", "loss_bbox", "loss_giou")
AUX_KEYS = tuple(f"{key}_aux" for key in MAIN_KEYS)


@rule(
    "AUX-01",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.2, auxiliary decoding losses",
    request=SEVERAL_LAYERS,
)
def sum_over_layers(port: PortUnderTest, case: LossCase) -> None:
    """The auxiliary losses are the sums of the losses of all layers but the last, each layer matched on its own; none
    is left out and none counted twice."""
    expected = port.expected(case)
    port.loss(case).assert_values(expected, ordinary_keys(expected)[1])


@rule("AUX-02", source="Carion et al., DETR, arXiv 2005.12872, section 3.2", request=SEVERAL_LAYERS)
def order_of_auxiliary_layers(port: PortUnderTest, case: LossCase) -> None:
    """The order of the auxiliary layers does not matter."""
    expected = port.expected(case)
    once, reordered = port.loss(case), port.loss(reverse_auxiliary_layers(case))
    for key in itertools.chain(*ordinary_keys(expected)):
        if is_alike_in_all_layers(port.spec, term_of(key), case.layers):
            reordered.assert_alike(once, key, expected[key])


@rule(
    "AUX-03",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.2",
    request=SEVERAL_LAYERS,
    among=lambda spec: spec.layers.independent,
)
def main_layer_is_the_last(port: PortUnderTest, case: LossCase) -> None:
    """The main losses depend on the last layer alone: when every other layer becomes a copy of it, they stay, and
    each auxiliary loss is that of so many equal layers: where the profile adds them up, as many times the main one."""
    expected = port.expected(case)
    once, copied = port.loss(case), port.loss(repeat_main_layer(case))
    for key, auxiliary in zip(*ordinary_keys(expected), strict=True):
        if not is_alike_in_all_layers(port.spec, term_of(key), case.layers):
            continue
        copied.assert_alike(once, key, expected[key])
        layers = counts_layers(port.spec, _auxiliary_layers(once, term_of(key)))
        copied.assert_multiple(auxiliary, key, layers, expected[key])


def _auxiliary_layers(returned: ReturnedLosses, term: str) -> int:
    """How many layers before the last have a term."""
    last, extra = returned.call.layers - 1, returned.call.extra
    return len(extra[term].ordinary - {last}) if term in extra else last


@rule(
    "AUX-04",
    source="Ultralytics DETRLoss: zeros where L = 1",
    request=replace(SEVERAL_LAYERS, layers=(1, 1), real=False),
    among=lambda spec: spec.layers.least == 1,
)
def one_layer(port: PortUnderTest, case: LossCase) -> None:
    """With a single layer every auxiliary loss is 0."""
    returned = port.loss(case)
    returned.assert_values(port.expected(case), MAIN_KEYS)
    for key in AUX_KEYS:
        value = float(returned.value(key))
        assert value == 0.0, f"{key} must be 0 with a single layer, the port returned {value:.9g}"


@rule(
    "AUX-05",
    source="Ultralytics DETRLoss, aux_loss=False",
    request=replace(SEVERAL_LAYERS, aux_loss=(False,), uni_match=(False, True)),
)
def auxiliary_losses_left_out(port: PortUnderTest, case: LossCase) -> None:
    """Without aux_loss no auxiliary loss is returned, and the main losses are the same as with it, whatever matching
    auxiliary layers would share."""
    returned = port.loss(case)
    returned.assert_values(port.expected(case), MAIN_KEYS)
    extra = sorted(set(returned.values) & set(AUX_KEYS))
    assert not extra, f"without aux_loss the port returned {', '.join(extra)}"


@rule(
    "AUX-06",
    source="Ultralytics DETRLoss, use_uni_match and uni_match_ind",
    request=replace(SEVERAL_LAYERS, uni_match=(True,)),
)
def shared_matching(port: PortUnderTest, case: LossCase) -> None:
    """With use_uni_match all auxiliary layers use the matching of auxiliary layer uni_match_ind, whichever that is,
    while the main layer keeps its own."""
    for shared in range(case.layers - 1):
        same = case.change(uni_match_ind=shared)
        port.loss(same).assert_values(port.expected(same), (*MAIN_KEYS, *AUX_KEYS))


@rule(
    "AUX-07",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.2, auxiliary decoding losses",
    request=replace(SEVERAL_LAYERS, queries=(3, 6), targets=(1, 3), special=(), real=False),
    among=adds_layers_up,
)
def every_layer_counts_once(port: PortUnderTest, case: LossCase) -> None:
    """The last layer is the main one, and each of the others counts once in the auxiliary losses: none is left out,
    none counted twice, and their sum is not a mean."""
    marked = staged(case, marks(case.layers))
    expected, returned = port.expected(marked), port.loss(marked)
    last, gain = case.layers - 1, weight(port, marked, "bbox") * marked.targets
    for key, layers in (("loss_bbox", [last]), ("loss_bbox_aux", list(range(last)))):
        assert_layers_counted(returned, key, layers, gain, expected)


@rule(
    "AUX-09",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.2: matching in every decoder layer",
    request=replace(SEVERAL_LAYERS, queries=(3, 6), targets=(1, 3), special=(), real=False),
)
def layers_that_share_boxes_or_logits(port: PortUnderTest, case: LossCase) -> None:
    """Layers with the same boxes and other logits, or the same logits and other boxes, are each matched by both: that
    layers are alike in one of them is no reason to take over another one's matching."""
    for name in ("pred_bboxes", "pred_scores"):
        shared = np.repeat(getattr(case, name)[-1:], case.layers, axis=0)
        same = case.change(**{name: shared})
        port.loss(same).assert_values(port.expected(same), (*MAIN_KEYS, *AUX_KEYS))


@rule(
    "AUX-08",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.2: matching in every decoder layer",
    request=replace(SEVERAL_LAYERS, queries=(3, 6), targets=(1, 3), special=(), real=False),
    among=lambda spec: spec.layers.independent,
)
def every_layer_has_its_own_matching(port: PortUnderTest, case: LossCase) -> None:
    """Where every layer predicts every target exactly, but each by other queries, loss_bbox and loss_bbox_aux are 0: no
    layer uses another one's matching."""
    returned = port.loss(staged(case, turned=True))
    for key in ("loss_bbox", "loss_bbox_aux"):
        value = float(returned.value(key))
        assert value == 0.0, (
            f"{key} must be 0 where every layer has a perfect prediction of every target, is {value:.9g}"
        )
