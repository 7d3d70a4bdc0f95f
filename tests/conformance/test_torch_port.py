"""What ports in PyTorch share: tensors out of a case, gradients by autograd, and an eye on the inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detr_conformance.properties.case import LossCase, LossConfig

torch = pytest.importorskip("torch", reason="ports in PyTorch need torch")

from detr_conformance.ports.torch_port import TorchPort, tensors_of  # noqa: E402  # imports torch


class SumOfSquares(TorchPort):
    """Returns the sum of squares of all boxes."""

    name, profile = "sum-of-squares", "ultralytics"
    capabilities, dtypes = frozenset({"gradients"}), frozenset({"float32", "bfloat16"})
    spoil = False

    def build(self, case):  # noqa: ARG002  # every port has this signature
        return lambda boxes: {"loss_bbox": (boxes**2).sum()}

    def call(self, loss, case, tensors):  # noqa: ARG002
        if self.spoil:
            tensors.gt_bboxes.zero_()
        return loss(tensors.predictions["pred_bboxes"])


@pytest.fixture
def case() -> LossCase:
    boxes = np.arange(1.0, 9.0).reshape(1, 1, 2, 4) / 8
    return LossCase(LossConfig(nc=1), boxes, np.zeros((1, 1, 2, 1)), np.array([0]), np.full((1, 4), 0.5), (1,))


def test_losses_and_gradients_come_back_as_arrays(case: LossCase) -> None:
    result = SumOfSquares().loss(case)
    assert result.losses["loss_bbox"] == (case.pred_bboxes**2).sum()
    assert np.array_equal(result.gradients["loss_bbox"]["pred_bboxes"], 2 * case.pred_bboxes)
    assert "pred_scores" not in result.gradients["loss_bbox"]


def test_the_dtype_of_a_loss_is_reported(case: LossCase) -> None:
    assert SumOfSquares().loss(replace(case, dtype="bfloat16")).dtypes == {"loss_bbox": "bfloat16"}


def test_an_input_that_was_changed_is_named(case: LossCase) -> None:
    port = SumOfSquares()
    port.spoil = True
    assert list(port.loss(case).mutated) == ["gt_bboxes"]
    assert list(SumOfSquares().loss(case).mutated) == []


def test_targets_are_never_less_than_float32(case: LossCase) -> None:
    tensors = tensors_of(replace(case, dtype="bfloat16"))
    assert tensors.predictions["pred_bboxes"].dtype == torch.bfloat16
    assert tensors.gt_bboxes.dtype == torch.float32


def test_the_number_of_threads_is_left_as_it_was(case: LossCase) -> None:
    before = torch.get_num_threads()
    SumOfSquares().loss(case)
    assert torch.get_num_threads() == before
