"""What the adapter for criteria of dictionaries makes of a case, and of the losses that come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detr_conformance.ports.list_of_dicts_port import ListOfDictsPort, Names, points_of_pairs, weighted
from detr_conformance.ports.torch_port import tensors_of
from detr_conformance.properties.case import Denoising, LossCase, LossConfig, Masks

from ..correct.list_of_dicts import ListOfDicts


def case_of(layers: int = 3) -> LossCase:
    """Two images with one and two targets; the logits of layer i are i."""
    boxes = np.broadcast_to([0.5, 0.5, 0.25, 0.25], (layers, 2, 3, 4)).copy()
    slots = (np.array([0, 2]), np.array([0, 1, 2, 3]))
    return LossCase(
        config=LossConfig(nc=2),
        pred_bboxes=boxes,
        pred_scores=np.broadcast_to(np.arange(float(layers))[:, None, None, None], (layers, 2, 3, 2)).copy(),
        gt_cls=np.array([1, 0, 1]),
        gt_bboxes=np.array([[0.5, 0.5, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25], [0.75, 0.75, 0.25, 0.25]]),
        gt_groups=(1, 2),
        denoising=Denoising(
            np.full((layers - 1, 2, 4, 4), 0.5), np.zeros((layers - 1, 2, 4, 2)), slots,
            (np.array([0]), np.array([1, 2])), 2,
        ),
    )  # fmt: skip


def outputs_by(names: Names, case: LossCase) -> dict:
    port = ListOfDicts()
    port.names = names
    return port.outputs(case, tensors_of(case))


def layers_in(outputs: list[dict]) -> list[float]:
    """Which layers these are, by their logits."""
    return [each["pred_logits"].flatten()[0].item() for each in outputs]


def test_the_main_layer_is_the_last_and_the_others_keep_their_order():
    outputs = outputs_by(Names(), case_of())
    assert layers_in([outputs]) == [2.0]
    assert layers_in(outputs["aux_outputs"]) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("names", "auxiliary", "encoder"),
    [
        (Names(encoder="enc_outputs"), [1.0], "enc_outputs"),
        (Names(encoders="enc_aux_outputs"), [1.0], "enc_aux_outputs"),
        (Names(encoders="aux_outputs"), [1.0, 0.0], "aux_outputs"),
    ],
)
def test_the_encoder_s_layer_goes_where_the_criterion_looks_for_it(names, auxiliary, encoder):
    outputs = outputs_by(names, case_of())
    assert layers_in(outputs["aux_outputs"]) == auxiliary
    found = outputs[encoder] if isinstance(outputs[encoder], list) else [outputs[encoder]]
    assert layers_in(found[-1:]) == [0.0]


def test_without_auxiliary_losses_there_are_no_lists_of_layers():
    case = case_of()
    outputs = outputs_by(Names(encoder="enc_outputs"), case.change(config=replace(case.config, aux_loss=False)))
    assert {"aux_outputs", "enc_outputs"}.isdisjoint(outputs)


def test_a_single_layer_has_no_auxiliary_ones_and_no_encoder():
    case = case_of().change(denoising=None)
    single = case.change(pred_bboxes=case.pred_bboxes[-1:], pred_scores=case.pred_scores[-1:])
    outputs = outputs_by(Names(encoder="enc_outputs"), single)
    assert outputs["aux_outputs"] == []
    assert "enc_outputs" not in outputs


def test_denoising_queries_come_with_what_pairs_them():
    outputs = outputs_by(Names(denoising="dn_aux_outputs", positives="dn_pos"), case_of())
    assert len(outputs["dn_aux_outputs"]) == 2
    meta = outputs["dn_meta"]
    assert [each.tolist() for each in meta["dn_pos"]] == [[0, 2], [0, 1, 2, 3]]
    assert (meta["dn_num_group"], meta["dn_num_split"]) == (2, [4, 3])


def test_targets_are_split_by_image_under_the_names_of_the_criterion():
    port, case = ListOfDicts(), case_of()
    port.names = Names(labels="class_labels")
    targets = port.targets(case, tensors_of(case))
    assert [each["class_labels"].tolist() for each in targets] == [[1], [0, 1]]
    assert [each["boxes"].shape for each in targets] == [(1, 4), (2, 4)]


def test_masks_of_targets_have_the_size_of_their_image_and_the_main_layer_has_those_of_queries():
    objects = np.zeros((3, 4, 5))
    objects[1, 1, 2] = 1.0
    masks = Masks(np.arange(3.0)[:, None, None, None, None] + np.zeros((3, 2, 3, 1, 2)), objects, ((4, 5), (2, 3)))
    case = case_of().change(masks=masks)
    outputs, targets = outputs_by(Names(), case), ListOfDicts().targets(case, tensors_of(case))
    assert outputs["pred_masks"].tolist() == masks.pred_masks[-1].tolist()
    assert [each["masks"].shape for each in targets] == [(1, 4, 5), (2, 2, 3)]
    assert targets[1]["masks"].nonzero().tolist() == [[0, 1, 2]]


def test_every_layer_has_its_masks_and_those_of_targets_are_padded_where_there_are_points():
    case = case_of()
    points = {"loss_points": np.arange(6.0).reshape(3, 1, 2) / 8, "cost_points": np.full((2, 4, 2), 0.5)}
    masks = Masks(np.zeros((3, 2, 3, 1, 2)), np.zeros((3, 4, 5)), ((4, 5), (2, 3)), **points)
    with_dn = replace(case.denoising, masks=np.ones((2, 2, 4, 1, 2)))
    case = case.change(masks=masks, denoising=with_dn)
    outputs, tensors = outputs_by(Names(), case), tensors_of(case)
    layers = [outputs, *outputs["aux_outputs"], *outputs["dn_outputs"]]
    assert [each["pred_masks"].mean().item() for each in layers] == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert [each["masks"].shape for each in ListOfDicts().targets(case, tensors)] == [(1, 4, 5), (2, 4, 5)]
    pairs = [(torch.tensor([2]), torch.tensor([0])), (torch.tensor([0, 1]), torch.tensor([1, 0]))]
    assert points_of_pairs(case, tensors, pairs).tolist() == masks.loss_points[[0, 2, 1]].tolist()


def test_pairs_count_targets_through_the_batch():
    port, case = ListOfDicts(), case_of()
    assert [sorted(targets.tolist()) for _, targets in port.match(case)[0]] == [[0], [1, 2]]
    assert [targets.tolist() for _, targets in port.denoising_indices(case)] == [[0, 0], [1, 2, 1, 2]]


def test_a_weight_counts_for_every_layer_without_one_of_its_own_and_what_has_none_is_left_out():
    losses = dict.fromkeys(("loss_ce", "loss_ce_0", "loss_ce_enc", "loss_ce_enc_0", "class_error"), torch.ones(()))
    weights = {"loss_ce": 2.0, "loss_ce_enc": 3.0}
    found = {key: float(loss) for key, loss in weighted(losses, weights).items()}
    assert found == {"loss_ce": 2.0, "loss_ce_0": 2.0, "loss_ce_enc": 3.0, "loss_ce_enc_0": 3.0}


def test_weights_that_the_trainer_applies_are_applied_once():
    class Outside(ListOfDicts):
        def weights(self, loss, case):  # noqa: ARG002  # the signature
            return dict.fromkeys(("loss_vfl", "loss_bbox", "loss_giou"), 2.0)

    case = case_of().change(use_vfl=True)
    inside, outside = (port.loss(case).losses for port in (ListOfDicts(), Outside()))
    assert inside.keys() == outside.keys()
    assert all(outside[key] == 2.0 * inside[key] for key in inside)


def test_a_port_that_says_only_how_its_criterion_is_built_is_complete():
    assert ListOfDictsPort.__abstractmethods__ == {"build"}
