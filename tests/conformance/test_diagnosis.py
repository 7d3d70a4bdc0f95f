"""Where a failing port's numbers part, and which known mistake explains it: never a guess."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import chain, islice

import msgspec
import numpy as np
import pytest

from detr_conformance.diagnosis import apart, search
from detr_conformance.diagnosis.answers import QUESTIONS, Answers, AnswersOfSpec, is_answered_by
from detr_conformance.diagnosis.apart import diagnosed
from detr_conformance.diagnosis.divergence import first_divergence
from detr_conformance.diagnosis.evidence import Evidence
from detr_conformance.diagnosis.explaining import families_of, with_consequences
from detr_conformance.diagnosis.observation import Observation, has_infinite_boxes, left_open, whole
from detr_conformance.diagnosis.search import described, diagnose
from detr_conformance.diagnosis.ways import shows_in
from detr_conformance.mutants import MUSEUM
from detr_conformance.mutants.mutant import together
from detr_conformance.options import CheckOptions
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.power import MUTANT, RULE
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.judging import RuleResult
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain
from detr_conformance.reference import FAMILY, RTDETR, ULTRALYTICS, LossSpec, wrap_in
from detr_conformance.reference.spec import DESCRIBING
from detr_conformance.report import Divergence
from detr_conformance.reports.composing import entry_of
from detr_conformance.resolve import resolve

from ..thorough import thorough_but
from .every_diagnosis import diagnosis_of, divergences, names_step, pair_evidence, pairs, shows_on_one_batch, singles
from .museum_evidence import divergence, evidence

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

WIDE = Request(layers=(2, 3), targets=(0, 3), queries=(2, 6), denoising="always")
CASES = list(islice(pool(WIDE, Domain(), 0), 6))
EVERY_NTH = 10
"""Of the museum; `python -m tests.conformance.every_diagnosis` measures all of it."""
TWO_SPECS = pytest.mark.parametrize("spec", [ULTRALYTICS, RTDETR], ids=lambda spec: spec.name)
"""For what takes minutes for each."""
EVERY_SPEC = pytest.mark.parametrize(
    "spec", thorough_but([FAMILY["lwdetr"]], FAMILY.values()), ids=lambda spec: spec.name
)


class Silent:
    """Shows no decisions, as a port of somebody else's."""

    def __init__(self, port):
        self.port = port

    def __getattr__(self, name):
        if name in ("port", "spec"):
            raise AttributeError(name)
        return getattr(self.port, name)


HARD_TO_PLACE = [
    "khub-ciou-for-giou",  # calls other formulas below it
    "plausible-uni-match-from-the-end",  # calls the right ones with something else
    "plausible-denoising-detached",  # hands over the right numbers as constants
    "ul-matcher-half-precision",  # exchanges the matcher
    "plausible-noise-without-seed",  # draws right, from something else
    "dfine-ddf-key-missing",  # leaves out what is 0
    "plausible-matched-without-masks",  # leaves out a step
]


ON_ONE_BATCH = [mutant for mutant in MUSEUM[6::48] if shows_on_one_batch(mutant)]
"""Where the numbers part is looked for on one batch."""


@pytest.mark.parametrize("mutant", [*ON_ONE_BATCH, *map(MUTANT.get, HARD_TO_PLACE)], ids=lambda mutant: mutant.id)
def test_the_first_decision_that_differs_is_the_one_that_was_changed(mutant):
    assert names_step(mutant, divergence(mutant))


@pytest.mark.thorough
@pytest.mark.timeout(1800)
@TWO_SPECS
def test_nineteen_of_twenty_first_divergences_name_a_decision_that_was_changed(spec):
    wrong = divergences(spec, EVERY_NTH)
    assert len(wrong) <= 0.05 * len(MUSEUM[::EVERY_NTH]), wrong


@EVERY_SPEC
def test_a_correct_port_does_not_part_from_the_reference(spec):
    cases = list(islice(pool(WIDE, Domain.of(PortUnderTest(ReferencePort(spec))), 0), 6))
    for port in (ReferencePort(spec), Silent(ReferencePort(spec))):
        assert [first_divergence(PortUnderTest(port, spec), case) for case in cases] == [None] * len(cases)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("plausible-nearest-query", "matching"),
        ("rtdetrv3-focal-constant-alpha", "losses"),
        ("plausible-aux-detached", "gradients"),
        ("plausible-query-blind-to-itself", "denoising layout"),
    ],
)
def test_a_port_that_shows_no_decisions_is_compared_by_what_it_answers(name, step):
    port = Silent(MUTANT[name].port())
    found = [first_divergence(PortUnderTest(port), case.change(use_vfl=False)) for case in CASES]
    assert step in {each.step for each in found if each is not None}


def test_a_divergence_says_where_what_and_how_much():
    mutant = MUTANT["plausible-focal-alpha-swapped"]
    cases = [case.change(use_vfl=False, use_fl=True) for case in CASES]
    found = next(filter(None, (first_divergence(PortUnderTest(mutant.port()), case) for case in cases)))
    assert found.step == "class_terms.focal.weight"
    assert found.message.startswith("the first step that differs is class_terms.focal.weight: ")
    assert float(found.got) != float(found.expected)


PAIRS = (
    ("plausible-focal-alpha-swapped", "plausible-negatives-unlabelled"),
    ("plausible-groups-see-each-other", "plausible-targets-cached-by-count"),  # one call shows the first alone
)
SINGLES = (
    MUSEUM[0].id,
    "ul-varifocal-defaults-of-focal",  # shows in the defaults alone
    "plausible-global-seed",  # shows around the call
    "plausible-negatives-first",  # has all boxes of the reference, none where it has them
    "plausible-noise-of-one-seed",
    "ul-focal-alpha-state-leak",  # shows in the next call
    "plausible-upstream-of-the-first-loss",  # shows in backward passes alone, where other specs know none of the losses
)
OF_OTHER_KEYS = ("plausible-aux-overwritten", "plausible-class-gain-twice")


@pytest.fixture(params=thorough_but([128], [128, 8]))
def part_of_the_museum(request, monkeypatch):
    """Mistakes are looked for among a part of the museum; `every_diagnosis` looks among all of it, for minutes each."""
    wanted = {*chain.from_iterable(PAIRS), *SINGLES, *OF_OTHER_KEYS}
    chosen = [each for place, each in enumerate(MUSEUM) if each.id in wanted or place % request.param == 0]
    monkeypatch.setattr(search, "MUSEUM", tuple(chosen))


@pytest.mark.usefixtures("part_of_the_museum")
@pytest.mark.parametrize("name", thorough_but(SINGLES[1:2], SINGLES))
def test_a_mutant_is_named(name):
    mutant = MUTANT[name]
    assert [mutant.id] in diagnosis_of(mutant.port(), evidence(mutant))


class OtherDraws(ReferencePort):
    """Draws noise of its own, as every port does but the reference."""

    def denoising_group(self, case):
        return super().denoising_group(case.change(generator=replace(case.generator, seed=case.generator.seed + 1)))


def with_generator(case, **options):
    return case.change(generator=replace(case.generator, **options))


def test_noise_is_left_out_also_where_the_choice_of_targets_recurs():
    judged = PortUnderTest(OtherDraws(), ULTRALYTICS)
    several = next(case for case in CASES if max(case.gt_groups) > 1)
    without_noise = [
        with_generator(several, num_dn=1, cls_noise_ratio=0.0, box_noise_scale=0.0, seed=seed) for seed in range(8)
    ]
    seen = Evidence(judged, [*without_noise, with_generator(several, box_noise_scale=1.0)])
    assert any(not seen.unlike(place, right) for place, right in enumerate(seen.right[:8]))
    assert all("denoising boxes" not in each.numbers for each in seen.observed)


@pytest.mark.thorough
def test_a_mistake_is_named_whatever_noise_the_port_draws():
    mutant = MUTANT["plausible-class-gain-twice"]
    port = OtherDraws(mutant.of(ULTRALYTICS), profile=ULTRALYTICS)
    assert [mutant.id] in diagnosis_of(port, evidence(mutant))


@pytest.mark.thorough
@pytest.mark.usefixtures("part_of_the_museum")
@pytest.mark.parametrize("name", OF_OTHER_KEYS)
def test_a_mutant_is_named_under_a_spec_with_other_keys(name):
    mutant = MUTANT[name]
    assert [[name]] == diagnosis_of(mutant.port(RTDETR), evidence(mutant, RTDETR), RTDETR)


def test_a_spec_that_leaves_something_open_gives_no_evidence_of_it():
    assert evidence(MUTANT["hf-nan-cost-to-largest"], RTDETR) == []


@pytest.mark.thorough
@pytest.mark.timeout(7200)
@TWO_SPECS
def test_nearly_all_mutants_are_named_and_none_is_named_wrongly(spec):
    named = singles(spec, EVERY_NTH)
    assert [name for name, found in named.items() if found and [name] not in found] == []
    assert sum(bool(found) for found in named.values()) >= 0.97 * len(named)


@pytest.mark.thorough
@pytest.mark.usefixtures("part_of_the_museum")
@pytest.mark.parametrize("names", PAIRS)
def test_two_mutants_at_once_are_named(names):
    pair = [MUTANT[name] for name in names]
    port = ReferencePort(together(pair), "two", profile=ULTRALYTICS)
    assert diagnosis_of(port, pair_evidence(pair)) == [sorted(each.id for each in pair)]


@pytest.mark.thorough
@pytest.mark.timeout(7200)
@TWO_SPECS
def test_three_in_four_random_pairs_are_named(spec):
    found = pairs(spec, count=12)
    named = sum(list(pair) in each for pair, each in found.items())
    assert named >= 0.75 * len(found), found


def larger(spec, path):
    """The spec with one of its decisions answering with a sixteenth more: a mistake that nobody has made yet."""
    return wrap_in(spec, path, lambda right: lambda *arguments: right(*arguments) * 1.0625)


@pytest.mark.parametrize("way", ["once", "in turn", "in ranks", "in passes", "in modes", "as passed", "around"])
def test_a_port_that_rounds_is_right_in_every_way_to_ask(way):
    pytest.importorskip("torch", reason="the fast loss is in PyTorch")
    judged = PortUnderTest(resolve(CheckOptions(port="optimized"))[0])
    evidence = Evidence(judged, CASES[:2], way)
    assert len(evidence.cases) == 2
    assert [evidence.unlike(*each) for each in enumerate(evidence.right)] == [set()] * 2


def answers_that_cannot_show(mutant):
    """Questions whose answers a mutant cannot change, by where its decisions are in the spec."""
    shown = [path for path in mutant.changes() if shows_in("once", path)]
    return [each for each in QUESTIONS if not any(is_answered_by(each, path) for path in shown)]


@pytest.mark.parametrize("question", thorough_but(["denoising queries"], QUESTIONS))
def test_what_a_mutant_cannot_change_stays(question):
    judged, case = PortUnderTest(ReferencePort()), CASES[0]
    right = AnswersOfSpec(ULTRALYTICS, judged, case).to(question)
    kept = [each for each in MUSEUM if each.home is ULTRALYTICS and question in answers_that_cannot_show(each)]
    assert len(kept) > 40
    for mutant in kept:
        answer = AnswersOfSpec(mutant.of(), judged, case).to(question)
        assert answer.differences(right, case.dtype) == set(), mutant.id


def test_a_mistake_that_goes_by_keys_explains_itself_under_other_keys():
    mutant = MUTANT["plausible-auxiliary-losses-unweighted"]
    judged = PortUnderTest(mutant.port(RTDETR), RTDETR)
    cases = list(islice(pool(WIDE, Domain.of(judged), 0), 2))
    passes = Evidence(judged, cases, "in passes")
    assert not passes.is_right()
    assert passes.is_explained_by(mutant.of(RTDETR))


class Rounded(ReferencePort):
    """Its losses are in single precision."""

    def loss(self, case):
        result = super().loss(case)
        return replace(result, losses={key: np.float64(np.float32(loss)) for key, loss in result.losses.items()})


def test_a_port_is_compared_with_a_spec_by_the_bounds_of_the_spec():
    case = CASES[0]
    wrong = PortUnderTest(ReferencePort(larger(ULTRALYTICS, "gain"), "larger", ULTRALYTICS))
    right = PortUnderTest(Rounded())
    assert unlike_the_spec(wrong, case) >= {"loss_class", "loss_class with respect to pred_scores"}
    assert unlike_the_spec(right, case) == set()


def unlike_the_spec(judged, case):
    """Names of what a port answers and the spec does not."""
    observed, of_spec = (
        whole(map(answers.to, QUESTIONS))
        for answers in (Answers(judged, case), AnswersOfSpec(judged.spec, judged, case))
    )
    return observed.differences(of_spec, case.dtype)


@pytest.mark.thorough
@pytest.mark.usefixtures("part_of_the_museum")
@pytest.mark.parametrize("path", ["gain", "denoising.generator.moved"])
def test_what_is_not_known_is_not_named(path):
    assert diagnose(PortUnderTest(ReferencePort(larger(ULTRALYTICS, path), "larger", ULTRALYTICS)), CASES) is None


@EVERY_SPEC
def test_what_is_right_is_not_named(spec):
    assert diagnose(PortUnderTest(ReferencePort(spec)), CASES) is None


@pytest.mark.parametrize(("spec", "other"), [(ULTRALYTICS, RTDETR), (RTDETR, ULTRALYTICS)])
def test_a_port_that_follows_another_spec_is_told_which(spec, other):
    cases = list(islice(pool(replace(WIDE, special=()), Domain.of(PortUnderTest(ReferencePort(RTDETR))), 0), 6))
    found = diagnose(PortUnderTest(ReferencePort(other), spec), cases)
    assert found.spec is other
    assert f"--profile {other.name}" in described(found).message


def test_a_diagnosis_that_breaks_off_says_so(small_case, monkeypatch):
    failed = [entry_of(RuleResult(RULE["REG-01"], "fail", "wrong", case=small_case))]
    broken = diagnosed(CheckOptions(port="no_such_module:port"), failed)
    assert broken.message == "none: the process that asked the port broke off (exit status 1)"
    monkeypatch.setattr(apart, "SECONDS", dict.fromkeys(apart.SECONDS, 0))
    assert (
        diagnosed(CheckOptions(port="reference"), failed).message == "none: mistakes were looked for no longer than 0 s"
    )


def entry(name, step):
    of_rule = entry_of(RuleResult(RULE[name], "fail", "wrong"))
    divergence = Divergence(step=step or "", what="cost", where=[0], expected="1", got="2", message="it differs")
    return msgspec.structs.replace(of_rule, divergence=None if step is None else divergence)


def test_a_rule_that_fails_only_in_consequence_says_of_which():
    entries = [entry("INV-01", "matching"), entry("MATCH-02", "matching"), entry("GRAD-02", "gradients")]
    assert [each.blocked_by for each in with_consequences(entries)] == ["MATCH-02", None, None]


def test_a_remark_explains_no_failure():
    entries = [entry("GRAD-09", "gradients"), entry("MATCH-23", "gradients")]
    assert [each.blocked_by for each in with_consequences(entries)] == [None, None]


def test_without_a_rule_that_is_about_the_step_nothing_is_blocked():
    entries = [entry("INV-01", "matching"), entry("REG-01", "box_terms.bbox"), entry("BOX-01", None)]
    assert [each.blocked_by for each in with_consequences(entries)] == [None, None, None]


def test_every_decision_has_families_that_are_about_it():
    decisions = {each.name for each in fields(LossSpec)} - {*DESCRIBING, "undefined"}
    assert {name for name in decisions if not families_of(name)} == set()


def test_a_decision_is_looked_at_by_the_families_that_are_about_it():
    assert families_of("class_terms.focal.weight") == {"CLASS"}
    assert families_of("denoising layout") == {"DN"}
    assert families_of("losses") == set()


def test_numbers_that_are_not_there_are_told():
    broken = Silent(ReferencePort())
    broken.loss = lambda case: replace(ReferencePort().loss(case), losses={"loss_class": np.array(np.nan)})
    found = first_divergence(PortUnderTest(broken), CASES[0])
    assert (found.step, found.got) == ("keys", "the port returned no loss_bbox")


@pytest.mark.parametrize(("width", "names"), [(np.nan, set()), (np.inf, {"loss_giou"})])
def test_what_an_infinite_box_makes_nan_is_held_against_nobody(width, names):
    case = next(iter(pool(replace(WIDE, special=()), Domain(), 0)))
    boxes = np.array(case.pred_bboxes)
    boxes[0, 0, 0, 2] = width
    right = Observation({"loss_giou": np.array(np.nan), "loss_class": np.array(1.0)}, {})
    assert (left_open(right) if has_infinite_boxes(case.change(pred_bboxes=boxes)) else set()) == names
