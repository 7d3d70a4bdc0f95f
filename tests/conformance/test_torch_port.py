"""A port of twenty lines in PyTorch, judged through the adapter that all torch ports share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from detr_conformance.ports.torch_port import CaseTensors, TorchPort, tensors_of
from detr_conformance.properties.case import Denoising, LossCase, LossConfig
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortError, PortUnderTest
from detr_conformance.properties.rule import FAMILIES
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import HungarianMatcher

from ..thorough import thorough_but

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # hundreds of calls


class TinyPort(TorchPort):
    """Focal, L1 and GIoU loss of every layer; the matching is the reference's.

    Without `denoising` among its capabilities it gets no denoising queries.
    """

    name = "tiny"
    profile = "ultralytics"
    capabilities = frozenset({"focal", "gradients", "one_object"})
    dtypes = frozenset({"float32", "float64", "float16", "bfloat16"})

    def build(self, case: LossCase) -> LossConfig:
        return case.config

    def call(self, loss: LossConfig, case: LossCase, tensors: CaseTensors) -> dict[str, torch.Tensor]:
        layers = [self.layer(loss, case, tensors, index) for index in range(case.layers)]
        names = [f"loss_{term}" for term in ("class", "bbox", "giou")]
        losses = dict(zip(names, layers[-1], strict=True))
        sums = (sum((layer[place] for layer in layers[:-1]), torch.zeros(())) for place in range(3))
        losses |= {f"{name}_aux": total for name, total in zip(names, sums, strict=True)}
        return losses | {f"{name}_dn": torch.zeros(()) for name in losses}

    def layer(self, loss: LossConfig, case: LossCase, tensors: CaseTensors, index: int) -> list[torch.Tensor]:
        gain, matcher = loss.loss_gain, HungarianMatcher({"class": 2.0, "bbox": 5.0, "giou": 2.0})
        targets = (case.gt_bboxes, case.gt_cls, case.gt_groups)
        pairs = matcher(case.pred_bboxes[index], case.pred_scores[index], *targets)
        image = np.repeat(range(case.images), [len(queries) for queries, _ in pairs])
        query, target = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
        boxes, logits = (tensors.predictions[name][index] for name in ("pred_bboxes", "pred_scores"))
        if boxes.dtype != torch.float64:
            boxes, logits = boxes.float(), logits.float()
        y = torch.zeros(logits.shape, dtype=torch.bool)
        y[image, query, case.gt_cls[target]] = True
        right = torch.where(y, logits, -logits)
        balance = torch.where(y, *(torch.tensor(each, dtype=torch.float64) for each in (loss.alpha, 1 - loss.alpha)))
        balance = balance.to(logits.dtype) if loss.alpha > 0 else 1.0
        focal = (
            balance
            * (loss.gamma * torch.nn.functional.logsigmoid(-right)).exp()
            * -torch.nn.functional.logsigmoid(right)
        )
        pairs_or_1 = max(len(target), 1)
        pred, wanted = boxes[image, query], tensors.gt_bboxes[target]
        parts = (focal.sum(), (pred - wanted).abs().sum(), (1 - giou(pred, wanted)).sum())
        return [gain[term] * part / pairs_or_1 for term, part in zip(("class", "bbox", "giou"), parts, strict=True)]


def giou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    low, high = ([one[:, :2] + side * one[:, 2:] / 2 for one in (a, b)] for side in (-1, 1))
    inter = (torch.minimum(*high) - torch.maximum(*low)).clamp(min=0).prod(dim=1)
    union = a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - inter + 1e-7
    hull = (torch.maximum(*high) - torch.minimum(*low)).prod(dim=1) + 1e-7
    return inter / union - (hull - union) / hull


JUDGED_ON = [rule for rule in RULES if not rule.missing(PortUnderTest(TinyPort()))]


def test_a_port_that_does_not_show_its_matching_is_judged_by_all_families():
    assert {rule.family for rule in JUDGED_ON} == set(FAMILIES) - {
        "MASK",
        "DIST",
        "RANK",
    }  # which its spec lacks, or the port
    assert len(JUDGED_ON) > 35


@pytest.mark.parametrize("rule", thorough_but(JUDGED_ON[::6], JUDGED_ON), ids=lambda rule: rule.id)
def test_the_tiny_port_passes(rule):
    outcome = judge(rule, TinyPort(), level="smoke")
    assert (outcome.verdict, outcome.message) == ("pass", "")


def case_of(dtype: str = "float32") -> LossCase:
    queries = np.array([[[0.5, 0.5, 0.25, 0.25], [0.25, 0.75, 0.125, 0.5]]])
    return LossCase(
        config=LossConfig(nc=2),
        pred_bboxes=np.tile(queries, (2, 1, 1, 1)),
        pred_scores=np.tile([[[[1.5, -2.0], [0.25, -1.0]]]], (2, 1, 1, 1)),
        gt_cls=np.array([1]),
        gt_bboxes=np.array([[0.5, 0.625, 0.25, 0.5]]),
        gt_groups=(1,),
        dtype=dtype,
        denoising=Denoising(
            queries[None, :, :1], np.zeros((1, 1, 1, 2)), (np.array([0]),), (np.array([0]),), num_group=1
        ),
    )


@pytest.mark.parametrize("dtype", sorted(TinyPort.dtypes))
def test_tensors_have_the_dtype_of_the_case_and_its_numbers(dtype):
    tensors = tensors_of(case_of(dtype))
    assert {each.dtype for each in tensors.predictions.values()} == {getattr(torch, dtype)}
    assert tensors.gt_bboxes.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    assert tensors.predictions["dn_scores"].double().tolist() == case_of().denoising.scores.tolist()
    assert all(each.requires_grad and each.is_leaf for each in tensors.predictions.values())


def test_every_tensor_of_a_case_has_a_name():
    assert set(tensors_of(case_of()).named()) == {
        "pred_bboxes", "pred_scores", "dn_bboxes", "dn_scores", "gt_cls", "gt_bboxes", "batch_idx", "dn_pos_idx[0]",
        "dn_gt_idx[0]",
    }  # fmt: skip


class OneLoss(TinyPort):
    """Returns one loss, made by a function of the tensors."""

    def __init__(self, make: Callable[[CaseTensors], torch.Tensor]) -> None:
        self.make = make

    def call(self, loss: LossConfig, case: LossCase, tensors: CaseTensors) -> dict[str, torch.Tensor]:  # noqa: ARG002  # the signature
        return {"loss_class": self.make(tensors)}


def test_gradients_are_those_of_autograd_and_absent_where_there_is_no_connection():
    case = case_of()
    result = OneLoss(lambda tensors: (tensors.predictions["pred_scores"] ** 2).sum()).loss(case)
    assert set(result.gradients["loss_class"]) == {"pred_scores"}
    assert np.array_equal(result.gradients["loss_class"]["pred_scores"], 2 * case.pred_scores)


def test_a_loss_without_a_graph_has_no_gradients():
    assert OneLoss(lambda _tensors: torch.ones(())).loss(case_of()).gradients == {"loss_class": {}}


def test_shape_and_dtype_are_reported_as_they_come():
    result = OneLoss(lambda tensors: tensors.predictions["pred_scores"].half().sum().reshape(1)).loss(case_of())
    assert (result.dtypes, result.losses["loss_class"].shape) == ({"loss_class": "float16"}, (1,))


def in_place(name: str, change: Callable[[torch.Tensor], object]) -> Callable[[CaseTensors], torch.Tensor]:
    def make(tensors: CaseTensors) -> torch.Tensor:
        with torch.no_grad():
            change(tensors.named()[name])
        return torch.ones(())

    return make


def test_denoising_queries_that_are_split_off_hold_the_same_numbers_and_are_differentiable():
    one = case_of()
    boxes, scores = (np.tile(each, (2, 1, 1, 1)) for each in (one.denoising.bboxes, one.denoising.scores))
    case = one.change(denoising=replace(one.denoising, bboxes=boxes, scores=scores))
    whole, split = (tensors_of(case, split=each).predictions for each in (False, True))
    assert {name for name, each in split.items() if not each.is_contiguous()} == {"dn_bboxes", "dn_scores"}
    assert all(torch.equal(whole[name], split[name]) and split[name].is_leaf for name in whole)


class OneMemoryForAllResults(TinyPort):
    """Without gradients it writes its losses where the last ones were."""

    def build(self, case):
        return case.config, {}

    def call(self, loss, case, tensors):
        config, kept = loss
        losses = super().call(config, case, tensors)
        if torch.is_grad_enabled():
            return losses
        return {name: kept.setdefault(name, each.clone()).copy_(each) for name, each in losses.items()}


class KnowsPredictionsByTheirPlace(TinyPort):
    """Computes losses once for each place in memory."""

    def build(self, case):
        return case.config, {}

    def call(self, loss, case, tensors):
        config, known = loss
        place = tensors.predictions["pred_scores"].data_ptr()
        if place not in known:
            known[place] = super().call(config, case, tensors)
        return known[place]


@pytest.mark.parametrize("port", [OneMemoryForAllResults, KnowsPredictionsByTheirPlace])
def test_what_is_kept_from_one_call_to_another_shows_without_gradients(port):
    [rule] = [rule for rule in RULES if rule.id == "API-10"]
    # It has no losses of denoising queries: whoever asks for them fails.
    case = case_of().change(denoising=None)
    assert judge(rule, TinyPort(), real_cases=[case], generate=False).verdict == "pass"
    failed = judge(rule, port(), real_cases=[case], generate=False)
    assert failed.verdict == "fail"
    assert "off by" in failed.message


class WantsRows(TinyPort):
    """Reads denoising queries as a row of boxes, which needs them to lie one after the other."""

    capabilities = TinyPort.capabilities | {"denoising"}

    def call(self, loss, case, tensors):
        if case.denoising is not None:
            tensors.predictions["dn_bboxes"].view(-1, 4)
        return super().call(loss, case, tensors)


def test_a_port_that_raises_on_what_was_split_is_an_error_there_alone():
    rules = {rule.id: rule for rule in RULES}
    found = {each: judge(rules[each], WantsRows(), level="smoke", shrink=False) for each in ("API-10", "API-19")}
    assert found["API-19"].verdict == "error"
    assert "view size is not compatible" in found["API-19"].message
    assert found["API-10"].verdict == "fail"  # it ignores denoising queries, whatever they lie in


@pytest.mark.parametrize("name", list(tensors_of(case_of()).named()))
def test_an_input_that_is_changed_in_place_is_named(name):
    assert OneLoss(in_place(name, lambda tensor: tensor.add_(1))).loss(case_of()).mutated == [name]


def test_an_input_that_becomes_nan_or_another_size_is_named_too():
    assert OneLoss(in_place("pred_scores", lambda tensor: tensor.fill_(torch.nan))).loss(case_of()).mutated
    assert OneLoss(in_place("gt_cls", lambda tensor: tensor.resize_(0))).loss(case_of()).mutated == ["gt_cls"]
    assert not OneLoss(in_place("pred_scores", lambda _tensor: None)).loss(case_of()).mutated


def test_the_case_itself_is_out_of_reach():
    case = case_of()
    before = case.pred_bboxes.copy()
    OneLoss(in_place("pred_bboxes", lambda tensor: tensor.zero_())).loss(case)
    assert np.array_equal(case.pred_bboxes, before)


def test_what_is_no_dictionary_of_tensors_is_an_error_of_the_port():
    class Wrong(TinyPort):
        def call(self, loss: LossConfig, case: LossCase, tensors: CaseTensors) -> list[float]:  # noqa: ARG002  # the signature
            return [1.0]

    with pytest.raises(PortError, match=r"loss\(case\) raised"):
        PortUnderTest(Wrong()).loss(case_of())


def test_several_calls_share_one_loss_object():
    built = []

    class Counting(TinyPort):
        def build(self, case: LossCase) -> LossConfig:
            built.append(case)
            return super().build(case)

    results = Counting().losses_in_turn([case_of().change(denoising=None)] * 3)
    assert (len(built), len(results)) == (1, 3)


class Refusing(TinyPort):
    """Cannot be called under autocast, as `binary_cross_entropy` cannot on CUDA."""

    def call(self, loss: LossConfig, case: LossCase, tensors: CaseTensors) -> dict[str, torch.Tensor]:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("unsafe to autocast")
        return super().call(loss, case, tensors)


def test_under_autocast_products_of_matrices_are_in_bfloat16():
    dtypes = []

    class Multiplying(TinyPort):
        def call(self, loss: LossConfig, case: LossCase, tensors: CaseTensors) -> dict[str, torch.Tensor]:
            dtypes.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
            return super().call(loss, case, tensors)

    Multiplying().loss_in_mode(case_of().change(denoising=None), "autocast")
    Multiplying().loss(case_of().change(denoising=None))
    assert dtypes == [torch.bfloat16, torch.float32]


def test_a_port_that_raises_under_autocast_is_an_error_in_mixed_precision_alone():
    about_modes = [rule for rule in RULES if rule.id in ("API-10", "API-11", "API-12")]
    outcomes = {rule.id: judge(rule, Refusing(), level="smoke") for rule in about_modes}
    assert {name: each.verdict for name, each in outcomes.items()} == {
        "API-10": "pass",
        "API-11": "pass",
        "API-12": "error",
    }
    assert "unsafe to autocast" in outcomes["API-12"].message
