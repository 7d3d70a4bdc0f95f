"""Whatever a port returns or raises ends in a verdict with a message, never in another exception."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port import DenoisingGroup, LossResult
from detr_conformance.properties.port_under_test import OutOfScope, PortError, PortUnderTest
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.strategies import Domain, loss_cases
from detr_conformance.properties.tolerance import PRECISIONS, UNITS
from detr_conformance.reference import RTDETR, Tracked

from .sample_cases import drawn_cases, grid_of_boxes, grid_of_logits, home_of, small_case

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # garbage would not get past the checks of shapes

THREE_LAYERS = {
    "pred_bboxes": grid_of_boxes(3, 3, 4),
    "pred_scores": grid_of_logits(3, 3, 4, 2),
    "denoising": None,
}
METHODS = ("loss", "losses_in_turn", "match", "denoising_indices", "denoising_group")
METHODS += ("losses_of_ranks", "losses_of_steps", "defaults", "point_counts")


class Stubborn(ReferencePort):
    """Answers everything with what it was told."""

    def __init__(self, answer: Callable[[], object]) -> None:
        super().__init__(name="stubborn")
        for method in METHODS:
            setattr(self, method, lambda _asked: answer())


class Exploding:
    """Cannot be read, and cannot be printed either."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        raise RuntimeError("on another device")

    def __iter__(self) -> Iterator[object]:
        raise RuntimeError("on another device")

    def __str__(self) -> str:
        raise RuntimeError("on another device")


def raising(error: BaseException) -> Callable[[], object]:
    def answer() -> object:
        raise error

    return answer


def breaking_off() -> Iterator[object]:
    yield LossResult({})
    raise RuntimeError("half-way")


def losses(value: object, key: object = "loss_class", **others: object) -> Callable[[], LossResult]:
    return lambda: LossResult({key: value}, **others)


def group(**changes: object) -> Callable[[], DenoisingGroup]:
    """Denoising queries that are right in kind, except for the changes."""
    parts = {
        "labels": np.zeros((1, 2, 1)),
        "boxes": np.zeros((1, 2, 4)),
        "blocked": np.zeros((3, 3), dtype=bool),
        "pos_idx": [np.array([0])],
        "gt_idx": [np.array([0])],
        "num_group": 1,
        "num_split": [2, 1],
    }
    return lambda: DenoisingGroup(**parts | changes)


ANSWERS = {
    "nothing": lambda: None,
    "a number": lambda: 3.5,
    "text": lambda: "loss",
    "bytes": lambda: b"loss",
    "an empty list": list,
    "an empty dictionary": dict,
    "the losses themselves": lambda: {"loss_class": 1.0},
    "a list of nothing": lambda: [None],
    "nested nothing": lambda: [[None, None]],
    "nested numbers": lambda: [[1.5, 2.5]],
    "an array": lambda: np.zeros((2, 3)),
    "an array of objects": lambda: np.array([None, "x"], dtype=object),
    "a generator": lambda: (each for each in [1, 2]),
    "a generator that breaks off": breaking_off,
    "something that cannot be read": Exploding,
    "a class": lambda: LossResult,
    "itself": lambda: Stubborn(lambda: None),
    "no losses": lambda: LossResult({}),
    "losses that are nothing": lambda: LossResult(None),
    "losses in a list": lambda: LossResult([1.0, 2.0]),
    "a loss that is nothing": losses(None),
    "a loss that is text": losses("1.5"),
    "a loss that is true": losses(True),
    "a complex loss": losses(1.0 + 2.0j),
    "an array of complex losses": losses(np.array(1.0 + 2.0j)),
    "a loss in a list": losses([1.0]),
    "a list of losses": losses([1.0, 2.0]),
    "a ragged list": losses([[1.0], [2.0, 3.0]]),
    "a date": losses(np.datetime64("2024-01-01")),
    "a loss that cannot be read": losses(Exploding()),
    "a loss that is a generator": losses(each for each in [1.0]),
    "a key that is a number": losses(1.0, key=0),
    "a key that is nothing": losses(1.0, key=None),
    "a key that is unknown": losses(1.0, key="cardinality_error"),
    "gradients that are nothing": losses(1.0, gradients=None),
    "gradients in a list": losses(1.0, gradients=[np.zeros(4)]),
    "gradients of nothing": losses(1.0, gradients={"loss_class": None}),
    "gradients of one shape too few": losses(1.0, gradients={"loss_class": {"pred_scores": np.zeros(3)}}),
    "gradients that are text": losses(1.0, gradients={"loss_class": {"pred_scores": "x", "pred_bboxes": "y"}}),
    "gradients that cannot be read": losses(1.0, gradients={"loss_class": {"pred_scores": Exploding()}}),
    "gradients not by name": losses(1.0, gradients={"loss_class": [1.0, 2.0]}),
    "dtypes that are nothing": losses(1.0, dtypes=None),
    "dtypes that are numbers": losses(1.0, dtypes={"loss_class": 32}),
    "mutations that are nothing": losses(1.0, mutated=None),
    "a mutation in one word": losses(1.0, mutated="pred_bboxes"),
    "mutations that are numbers": losses(1.0, mutated=[0]),
    "three arrays for an image": lambda: [[([0], [0], [0])]],
    "queries without targets": lambda: [[([0, 1], [0])]],
    "indices between numbers": lambda: [[([0.5], [0.5])]],
    "indices that are text": lambda: [[("0", "0")]],
    "negative indices": lambda: [[([-1], [-1])]],
    "indices far out": lambda: [[([10**6], [10**6])]],
    "pairs of one image": lambda: [([0], [0])],
    "slots without targets": lambda: [([0, 1], [0])],
    "another group's sizes": group(),
    "labels that are nothing": group(labels=None),
    "labels of one axis": group(labels=np.zeros(3)),
    "boxes of three numbers": group(boxes=np.zeros((1, 2, 3))),
    "a mask of zeros and ones": group(blocked=np.zeros((3, 3))),
    "a gradient of the embedding without axes": group(embedding_gradient=np.zeros(())),
    "a mask that is not square": group(blocked=np.zeros((3, 2), dtype=bool)),
    "no positive slots": group(pos_idx=None),
    "positive slots between numbers": group(pos_idx=[np.array([0.5])]),
    "targets of no image": group(gt_idx=[]),
    "a number of groups in words": group(num_group="one"),
    "a split that is one number": group(num_split=3),
    "an error": raising(RuntimeError("CUDA out of memory\nsomewhere")),
    "an error without words": raising(Exploding.__class__("Silent", (Exception,), {"__str__": lambda _: 1})()),
    "an assertion of its own": raising(AssertionError("shapes differ")),
    "the end of the program": raising(SystemExit(3)),
    "the end of an iteration": raising(StopIteration()),
    "a case out of scope": raising(OutOfScope("not mine")),
}


@pytest.fixture(scope="module")
def cases_of_rules() -> list[tuple[Rule, LossCase]]:
    """A case for every rule; the second one drawn, since the first is the smallest there is."""
    return [(rule, drawn_cases(loss_cases(rule.request, Domain.of(home_of(rule))), 2)[1]) for rule in RULES]


def verdict(rule: Rule, port: Stubborn, case: LossCase) -> str:
    """The message of a rule that was broken or not answered."""
    try:
        rule.check(PortUnderTest(port, home_of(rule).spec), case)
    except (AssertionError, PortError) as failure:
        return str(failure) or "\n"
    except OutOfScope:
        return "out of scope"
    return "the rule holds"


@pytest.mark.parametrize("name", ANSWERS)
def test_any_answer_to_every_third_rule_ends_in_a_verdict_with_a_message_of_one_line(name, cases_of_rules):
    port = Stubborn(ANSWERS[name])
    for rule, case in cases_of_rules[[*ANSWERS].index(name) % 3 :: 3]:
        assert "\n" not in verdict(rule, port, case), rule.id


NO_LOSSES = [
    name
    for name in ANSWERS
    if not name.startswith(("gradients", "no losses", "a key that is unknown")) and name != "a loss in a list"
] + ["gradients that are nothing", "gradients in a list"]


@pytest.mark.parametrize("name", NO_LOSSES)
def test_what_is_no_set_of_losses_is_an_error_and_no_failure(name):
    with pytest.raises(PortError, match=r"^loss(\(case\) (returned|raised)| 'loss_class' has shape)"):
        PortUnderTest(Stubborn(ANSWERS[name])).loss(small_case())


@pytest.mark.parametrize("name", ["the end of the program", "an error", "a list of losses", "another group's sizes"])
def test_a_run_goes_on_to_an_outcome(name):
    outcome = judge(next(rule for rule in RULES if rule.id == "API-01"), Stubborn(ANSWERS[name]), level="smoke")
    assert outcome.verdict == "error"
    assert outcome.message


def test_the_message_names_what_was_wrong():
    returned = PortUnderTest(Stubborn(losses(1.0, gradients={"loss_class": {"pred_scores": np.zeros(3)}}))).loss(
        small_case()
    )
    with pytest.raises(
        PortError, match=r"gradient of 'loss_class' with respect to pred_scores of shape \(3,\), expected \(2, 3, 4,"
    ):
        returned.gradient("loss_class", "pred_scores")


def result(value: float, **others: object) -> LossResult:
    return LossResult({"loss_class": np.array(value)}, **others)


def test_a_gradient_that_is_absent_or_none_is_zero():
    for by_input in ({}, {"loss_class": {}}, {"loss_class": {"pred_scores": None}}, {"loss_class": None}):
        returned = PortUnderTest(Stubborn(lambda by_input=by_input: result(1.0, gradients=by_input))).loss(small_case())
        assert not returned.gradient("loss_class", "pred_scores").any()


def test_a_loss_that_is_absent_is_named_with_what_came_instead():
    returned = PortUnderTest(Stubborn(lambda: LossResult({"loss_iou": np.array(1.0)}))).loss(small_case())
    with pytest.raises(AssertionError, match=r"^the port returned no loss_giou; unknown here: loss_iou$"):
        returned.value("loss_giou")
    with pytest.raises(AssertionError, match=r"^the port returned no loss_bbox_aux_dn; unknown here: loss_iou$"):
        returned.gradient("loss_bbox_aux_dn", "dn_bboxes")


def test_a_layer_that_is_absent_is_named_and_no_part_of_the_sum():
    class Renaming(ReferencePort):
        def loss(self, case: LossCase) -> LossResult:
            losses = super().loss(case).losses
            return LossResult({key.replace("vfl_aux_0", "vfl_early_0"): loss for key, loss in losses.items()})

    returned = PortUnderTest(Renaming(RTDETR)).loss(small_case(**THREE_LAYERS).change(use_vfl=True))
    with pytest.raises(AssertionError, match=r"^the port returned no loss_vfl_aux_0; unknown here: loss_vfl_early_0$"):
        returned.value("loss_class_aux")
    assert returned.value("loss_bbox_aux") > 0


def test_a_port_without_a_denoising_part_may_leave_its_keys_out():
    port = Stubborn(lambda: result(1.0))
    port.capabilities = frozenset({"focal"})
    assert PortUnderTest(port).loss(small_case(denoising=None)).value("loss_giou_dn") == 0.0
    with pytest.raises(AssertionError, match="returned no loss_giou"):
        PortUnderTest(port).loss(small_case(denoising=None)).value("loss_giou")


def test_what_a_call_has_no_part_of_is_zero():
    returned = PortUnderTest(ReferencePort(RTDETR)).loss(small_case(denoising=None))
    assert returned.value("loss_class_dn") == returned.value("loss_class_aux_dn") == 0.0


def test_half_precision_of_another_package_is_read():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    half = np.array(1.5, dtype=ml_dtypes.bfloat16)
    assert (
        PortUnderTest(Stubborn(lambda: LossResult({"loss_class": half}))).loss(small_case()).value("loss_class") == 1.5
    )


def test_a_tensor_that_requires_a_gradient_is_an_error_that_says_so():
    torch = pytest.importorskip("torch")
    tensor = torch.ones((), requires_grad=True)
    with pytest.raises(PortError, match="requires grad"):
        PortUnderTest(Stubborn(lambda: LossResult({"loss_class": tensor}))).loss(small_case())


@pytest.mark.parametrize(("factor", "off", "right"), [(1.0, 1.9, True), (2.0, 3.9, True), (2.0, 4.1, False)])
def test_two_answers_may_be_off_by_the_budgets_of_both_together(factor, off, right):
    """Each of two answers at the opposite end of its own budget: that of the larger one is `factor` times as wide."""
    judged = PortUnderTest(ReferencePort())
    expected = judged.expected(small_case())["loss_class"]
    budget = UNITS * PRECISIONS["float32"].eps * expected.magnitude
    base = PortUnderTest(Stubborn(lambda: result(float(expected)))).loss(small_case())
    other = PortUnderTest(Stubborn(lambda: result(factor * float(expected) + off * budget))).loss(small_case())
    if right:
        return other.assert_alike(base, "loss_class", expected, factor=factor)
    with pytest.raises(AssertionError, match="times what rounding in float32 explains"):
        other.assert_alike(base, "loss_class", expected, factor=factor)
    return None


@pytest.mark.parametrize(("off", "right"), [(1.9, True), (2.1, False)])
def test_a_number_worked_out_by_hand_has_the_budget_twice(off, right):
    judged = PortUnderTest(ReferencePort())
    expected = judged.expected(small_case())["loss_class"]
    budget = UNITS * PRECISIONS["float32"].eps * expected.magnitude
    returned = PortUnderTest(Stubborn(lambda: result(float(expected) + off * budget))).loss(small_case())
    if right:
        return returned.assert_number("loss_class", float(expected), expected)
    with pytest.raises(AssertionError, match="times what rounding in float32 explains"):
        returned.assert_number("loss_class", float(expected), expected)
    return None


def test_an_answer_may_be_another_one_and_a_number_more():
    expected = PortUnderTest(ReferencePort()).expected(small_case())["loss_class"]
    first, second = (
        PortUnderTest(Stubborn(lambda value=value: result(value))).loss(small_case()) for value in (1.5, 4.0)
    )
    second.assert_alike(first, "loss_class", expected, factor=2.0, more=1.0)
    with pytest.raises(AssertionError, match="expected 2 by its own answer to another call, the port returned 4"):
        second.assert_alike(first, "loss_class", expected, factor=0.0, more=2.0)


def with_slope(value: float) -> Stubborn:
    slopes = np.full(small_case().pred_scores.shape, value)
    return Stubborn(lambda: result(1.0, gradients={"loss_class": {"pred_scores": slopes}}))


def test_a_gradient_may_be_another_one_times_a_factor_but_for_what_is_open():
    expected = PortUnderTest(ReferencePort()).expected(small_case())["loss_class"]
    one, three = (PortUnderTest(with_slope(value)).loss(small_case()) for value in (1.0, 3.0))
    three.assert_gradient_alike(one, "loss_class", "pred_scores", expected, 3.0)
    with pytest.raises(
        AssertionError, match=r"to pred_scores\[0, 0, 0, 0\]: expected 0 by its own .*, the port returned 3"
    ):
        three.assert_gradient_alike(one, "loss_class", "pred_scores", expected, 0.0)
    left_open = expected.map_gradients(lambda slope: Tracked(slope, np.full(slope.shape, np.inf)))
    three.assert_gradient_alike(one, "loss_class", "pred_scores", left_open, 0.0)


def test_a_failure_names_the_entry_both_values_and_the_share():
    judged = PortUnderTest(ReferencePort())
    case = small_case()
    gradients = np.zeros(case.pred_scores.shape)
    returned = PortUnderTest(Stubborn(lambda: result(1.0, gradients={"loss_class": {"pred_scores": gradients}}))).loss(
        case
    )
    with pytest.raises(
        AssertionError,
        match=r"gradient of loss_class with respect to pred_scores\[1, \d, \d, \d\]: expected .*, the port returned 0",
    ):
        returned.assert_gradient("loss_class", "pred_scores", judged.expected(case)["loss_class"])


def test_a_case_that_rounding_decides_is_out_of_scope():
    twins = small_case(denoising=None)
    twins = twins.change(
        pred_bboxes=np.tile(twins.pred_bboxes[:, :, :1], (1, 1, 4, 1)),
        pred_scores=np.tile(twins.pred_scores[:, :, :1], (1, 1, 4, 1)),
    )
    with pytest.raises(OutOfScope):
        PortUnderTest(ReferencePort()).expected(twins)


def test_a_profile_that_does_not_exist_is_refused():
    port = ReferencePort()
    port.profile = "yolo"
    with pytest.raises(ValueError, match="names the profile 'yolo', known are: ultralytics, rtdetr"):
        PortUnderTest(port)
