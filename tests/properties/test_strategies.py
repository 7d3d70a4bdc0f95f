"""What the strategies reach, keep to, and shrink towards."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_conformance.properties.case import LossCase, MatcherConfig
from detr_conformance.properties.drawing import Pool
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import (
    ALPHAS,
    COST_GAINS,
    GAINS,
    GAMMAS,
    Domain,
    by_term,
    loss_cases,
)
from detr_conformance.reference import RTDETR

from ..thorough import thorough_but
from .sample_cases import drawn_cases, small_case

pytestmark = pytest.mark.usefixtures(
    "shapes_unchecked"
)  # hundreds of cases; test_rules.py draws some with shapes checked

WIDE = Request(uni_match=(False, True), aux_loss=(True, False), matcher_options=True, images=(1, 5), layers=(1, 5))
DRAWN = 400


@pytest.fixture(scope="module")
def drawn() -> list[LossCase]:
    """So many cases of the widest request, always the same."""
    return drawn_cases(loss_cases(WIDE), DRAWN)


def boxes_of(case: LossCase) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Predictions of each layer and image, with the image's targets."""
    for image in range(case.images):
        for layer in range(case.layers):
            yield case.pred_bboxes[layer, image], case.gt_bboxes[case.of_image(image)]


def some_box(is_special: Callable[[np.ndarray], np.ndarray]) -> Callable[[LossCase], bool]:
    return lambda case: bool(is_special(np.moveaxis(case.pred_bboxes, -1, 0)).any())


def has_duplicates(case: LossCase) -> bool:
    return any(len(np.unique(predictions, axis=0)) < len(predictions) for predictions, _ in boxes_of(case))


def is_right_somewhere(case: LossCase) -> bool:
    return any((predictions[:, None] == targets).all(axis=-1).any() for predictions, targets in boxes_of(case))


def denoises_a_subset(case: LossCase) -> bool:
    return case.denoising is not None and sum(map(len, case.denoising.gt_idx)) < case.targets


def groups(case: LossCase) -> int:
    return 0 if case.denoising is None else case.denoising.num_group


def shared(case: LossCase) -> int:
    return case.config.uni_match_ind if case.config.use_uni_match else -1


CORNERS: dict[str, Callable[[LossCase], bool]] = {
    "the first image empty": lambda case: case.gt_groups[0] == 0 < case.targets,
    "an image in the middle empty": lambda case: (
        0 in case.gt_groups[1:-1] and case.gt_groups[0] > 0 < case.gt_groups[-1]
    ),
    "the last image empty": lambda case: case.gt_groups[-1] == 0 < case.targets,
    "all of several images empty": lambda case: case.images > 1 and case.targets == 0,
    "five images": lambda case: case.images == 5,
    "more targets than queries": lambda case: case.queries < max(case.gt_groups),
    "as many targets as queries": lambda case: case.queries in case.gt_groups,
    "one class": lambda case: case.config.nc == 1,
    "one query": lambda case: case.queries == 1,
    "one layer": lambda case: case.layers == 1,
    "four layers": lambda case: case.layers == 4,
    "five layers": lambda case: case.layers == 5,
    "no denoising": lambda case: case.denoising is None,
    "one denoising group": lambda case: groups(case) == 1,
    "two denoising groups for two targets": lambda case: groups(case) == 2 and max(case.gt_groups) > 1,
    "three denoising groups": lambda case: groups(case) == 3,
    "a subset denoised": denoises_a_subset,
    "a denoising slot left over": lambda case: groups(case) > 0 and case.denoising.bboxes.shape[2] % 2 == 1,
    "denoising in more layers than the rest": lambda case: (
        groups(case) > 0 and len(case.denoising.bboxes) > case.layers
    ),
    "denoising in fewer layers than the rest": lambda case: (
        groups(case) > 0 and len(case.denoising.bboxes) < case.layers
    ),
    "focal loss": lambda case: case.config.classification == "focal",
    "varifocal loss": lambda case: case.config.classification == "varifocal",
    "cross-entropy": lambda case: case.config.classification == "bce",
    "no auxiliary losses": lambda case: not case.config.aux_loss,
    "the softmax cost": lambda case: not case.matcher.use_fl,
    "a tiny box": some_box(lambda box: (box[2] == 2.0**-10) & (box[3] == 2.0**-9)),
    "a box in the corner of the image": some_box(lambda box: (box[0] == box[2] / 2) & (box[1] == 1 - box[3] / 2)),
    "a box without area": some_box(lambda box: box[2] == 0),
    "a box turned inside out": some_box(lambda box: box[2] < 0),
    "two equal boxes": has_duplicates,
    "a perfect prediction": is_right_somewhere,
    "a target without area": lambda case: (case.gt_bboxes[:, 2] == 0).any(),
    "no special box": lambda case: (case.pred_bboxes[..., 2:] > 2.0**-9).all() and not has_duplicates(case),
    "a logit of exactly 0": lambda case: (case.pred_scores == 0).any(),
    "numbers on a grid": lambda case: (case.pred_scores * 4 % 1 == 0).all() and case.pred_scores.size > 8,
    "numbers off the grid": lambda case: (case.pred_scores * 4 % 1 != 0).any(),
    **{f"matching shared from layer {index}": lambda case, index=index: shared(case) == index for index in range(4)},
    **{f"gains {gains}": lambda case, gains=gains: case.config.loss_gain == by_term(gains) for gains in GAINS},
    **{
        f"cost gains {gains}": lambda case, gains=gains: case.matcher.cost_gain == by_term(gains)
        for gains in COST_GAINS
    },
    **{f"gamma {gamma}": lambda case, gamma=gamma: case.config.gamma == gamma for gamma in GAMMAS},
    **{f"alpha {alpha}": lambda case, alpha=alpha: case.config.alpha == alpha for alpha in ALPHAS},
}


RARE = {"all of several images empty": 400}  # a rule that is about such batches asks for them


@pytest.mark.parametrize("corner", CORNERS)
def test_a_corner_is_reached_in_at_least_one_case_of_two_hundred(drawn, corner):
    reached = sum(bool(CORNERS[corner](case)) for case in drawn)
    assert reached >= DRAWN / RARE.get(corner, 200), f"{reached} of {DRAWN} cases"


def test_classes_of_targets_are_spread_over_all(drawn):
    several = [case for case in drawn if case.config.nc > 2 and case.targets > 4]
    assert np.mean([len(set(case.gt_cls.tolist())) > 1 for case in several]) > 0.9


def test_centres_of_predictions_lie_in_the_image(drawn):
    for case in drawn:
        assert ((case.pred_bboxes[..., :2] >= 0) & (case.pred_bboxes[..., :2] <= 1)).all()


ranges = st.tuples(st.integers(1, 3), st.integers(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1]))
requests = st.builds(
    Request,
    classification=st.sampled_from([("focal",), ("bce", "varifocal"), ("varifocal", "focal", "bce")]),
    layers=ranges,
    images=ranges,
    queries=ranges,
    classes=ranges,
    targets=st.sampled_from([(0, 0), (0, 2), (1, 3), (3, 5)]),
    all_empty=st.booleans(),
    denoising=st.sampled_from(["never", "sometimes", "always"]),
    aux_loss=st.sampled_from([(True,), (False,), (True, False)]),
    uni_match=st.sampled_from([(False,), (True, False)]),
    special=st.sampled_from([(), ("tiny",), ("no_area", "inverted"), Request().special]),
    dtype=st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
    matcher_options=st.booleans(),
    real=st.just(False),
)


@settings(max_examples=300)
@given(data=st.data(), request=requests)
def test_a_case_keeps_to_its_request(data, request):
    case = data.draw(loss_cases(request))
    asked = (
        request if case.targets or request.denoising != "always" else Request(**vars(request) | {"denoising": "never"})
    )
    assert asked.fits(case)
    sizes = (case.layers, case.images, case.queries, case.config.nc)
    limits = (request.layers, request.images, request.queries, request.classes)
    assert all(low <= size <= high for size, (low, high) in zip(sizes, limits, strict=True))
    assert not request.all_empty or case.targets == 0
    assert "inverted" in request.special or (case.pred_bboxes[..., 2:] >= 0).all()
    assert "no_area" in request.special or (case.gt_bboxes[..., 2:] > 0).all()
    assert request.matcher_options or case.matcher == MatcherConfig()


@settings(max_examples=200)
@given(
    case=loss_cases(
        WIDE,
        Domain(
            classification=frozenset({"varifocal"}),
            uni_match=False,
            no_aux=False,
            areas=False,
            least_layers=2,
            denoising_layers=RTDETR.layers.denoising,
            surplus=False,
            gammas=(2.0,),
            alphas=(0.75,),
            gains=((1.0, 5.0, 2.0),),
            denoising_subset=False,
        ),
    )
)
def test_a_case_keeps_to_what_the_port_can_be_asked_for(case):
    assert case.config.classification == "varifocal"
    assert case.config.aux_loss
    assert not case.config.use_uni_match
    assert (case.pred_bboxes[..., 2:] > 0).all()
    assert not denoises_a_subset(case)
    assert case.layers >= 2
    assert case.denoising is None or len(case.denoising.bboxes) == case.layers - 1
    assert case.denoising is None or case.denoising.bboxes.shape[2] % (2 * case.denoising.num_group) == 0
    assert (case.config.gamma, case.config.alpha) == (2.0, 0.75)
    assert case.config.loss_gain == {"class": 1.0, "bbox": 5.0, "giou": 2.0}


WORKING = Domain(working=frozenset({"bce"}))


@pytest.mark.parametrize(
    ("request_", "left"),
    [
        (Request(), ("bce",)),
        (Request(about_class=True), ("varifocal", "focal", "bce")),
        (Request(classification=("focal",)), ("focal",)),
        (Request(about_class=True, readable_score=True), ("varifocal", "bce")),
    ],
)
def test_rules_about_something_else_get_the_classification_losses_that_work(request_, left):
    assert WORKING.narrow(request_).classification == left


def test_an_option_that_a_port_does_not_have_becomes_the_first_that_it_has():
    case = small_case().change(gamma=1.5, alpha=0.25)
    restricted = Domain(gammas=(2.0, 3.0), gains=((1.0, 1.0, 1.0),)).allowed(case)
    assert (restricted.config.gamma, restricted.config.alpha) == (2.0, 0.25)
    assert restricted.config.loss_gain == {"class": 1.0, "bbox": 1.0, "giou": 1.0}
    assert Domain().allowed(case) is case


@settings(max_examples=50)
@given(case=loss_cases(WIDE, Domain(denoising=False)))
def test_a_port_without_denoising_gets_none(case):
    assert case.denoising is None


def test_a_request_of_which_the_domain_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"request.uni_match is \(True,\), of which the domain allows nothing"):
        Domain(uni_match=False).narrow(Request(uni_match=(True,)))


def test_a_domain_is_what_the_port_declares_and_the_spec_defines():
    from detr_conformance.ports.reference_port import ReferencePort
    from detr_conformance.properties.port_under_test import PortUnderTest

    port = ReferencePort()
    assert Domain.of(PortUnderTest(port)) == Domain()
    port.capabilities = frozenset({"varifocal", "denoising"})
    domain = Domain.of(PortUnderTest(port, RTDETR))
    assert (domain.classification, domain.uni_match, domain.denoising) == ({"varifocal"}, False, True)
    assert (domain.areas, domain.least_layers, domain.denoising_layers(6)) == (False, 2, 5)


def test_a_request_may_ask_for_any_number_of_layers():
    domain = Domain(least_layers=2, denoising_layers=RTDETR.layers.denoising)
    [case, *_] = drawn_cases(loss_cases(Request(layers=(10, 10), denoising="always", targets=(1, 2)), domain), 1)
    assert (case.layers, len(case.denoising.bboxes)) == (10, 9)


def on_grid(case: LossCase) -> bool:
    """Logits in quarters, boxes in sixteenths or of the tiny size."""
    boxes, tiny = case.pred_bboxes, 2.0**-9
    return bool(((boxes * 16 % 1 == 0) | (boxes <= tiny)).all() and (case.pred_scores * 4 % 1 == 0).all())


class ConditionMetError(Exception):
    """A case meets a condition."""


def smallest(condition: Callable[[LossCase], bool]) -> LossCase:
    """The first drawn case that meets the condition, shrunk as a case is that a rule fails on."""
    met = []

    def check(case: LossCase) -> None:
        if condition(case):
            met.append(case)
            raise ConditionMetError

    pool = Pool(WIDE, Domain(), number=0)
    with pytest.raises(ConditionMetError):
        pool.shrink(next(case for case in pool if condition(case)), check)
    return met[-1]


SHRUNK = {
    "anything": (lambda _case: True, (1, 1, 1, 1), (0,)),
    "a target": (lambda case: case.targets > 0, (1, 1, 1, 1), (1,)),
    "two images": (lambda case: case.images > 1, (1, 2, 1, 1), (0, 0)),
    "two images and a denoising group": (lambda case: case.images > 1 and groups(case) > 0, (1, 2, 1, 1), (0, 1)),
    "an empty image in the middle": (CORNERS["an image in the middle empty"], (1, 3, 1, 1), (1, 0, 1)),
    "more targets than queries": (CORNERS["more targets than queries"], (1, 1, 1, 1), (2,)),
    "two groups for two targets": (CORNERS["two denoising groups for two targets"], (1, 1, 1, 1), (2,)),
    "a shared matching": (lambda case: case.config.use_uni_match, (2, 1, 1, 1), (0,)),
    "a third query": (lambda case: case.queries > 2, (1, 1, 3, 1), (0,)),
}


@pytest.mark.parametrize("name", thorough_but([*SHRUNK][::3], SHRUNK))
def test_a_case_shrinks_to_the_fewest_of_everything_on_a_grid(name):
    condition, sizes, gt_groups = SHRUNK[name]
    case = smallest(condition)
    assert (case.layers, case.images, case.queries, case.config.nc) == sizes
    assert sorted(case.gt_groups) == sorted(gt_groups)
    assert case.denoising is None or case.denoising.bboxes.shape[:2] == (1, case.images)
    assert on_grid(case)


# Structure and seed shrink, the numbers follow: what depends on a number ends a little above the least.
ABOUT_NUMBERS = {
    "a large logit": (lambda case: (case.pred_scores > 5).any(), 12),
    "the last of three classes": (lambda case: 2 in case.gt_cls, 12),
    "a box turned inside out": (CORNERS["a box turned inside out"], 12),
}


def test_a_perfect_prediction_shrinks_to_a_handful_of_numbers():
    case = smallest(is_right_somewhere)
    assert case.pred_scores.size <= 12
    assert case.targets <= 2


@pytest.mark.parametrize("name", ABOUT_NUMBERS)
def test_a_condition_on_numbers_shrinks_to_a_handful_of_them(name):
    condition, most = ABOUT_NUMBERS[name]
    case = smallest(condition)
    assert case.pred_scores.size <= most
    assert case.targets <= 2
    assert on_grid(case)
    assert case.config.classification == "varifocal"
