"""Identification of a port: every question in turn, then whether all that it answers is explained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import islice

from detr_conformance.identify.answers import Answers, Tell, alike, described, got, is_certain, predicted, share
from detr_conformance.identify.cases import WITH, CaseMaker, of_any_convention
from detr_conformance.identify.decisions import Alternative, decisions, widest_spec
from detr_conformance.identify.elimination import Hypotheses, Outcome, eliminate
from detr_conformance.identify.question import CHOICE_OF_TERM, Choice, Question, term_used
from detr_conformance.identify.questions import questions
from detr_conformance.identify.structure import fitting, keys_of_losses, plan_of_layers
from detr_conformance.numbers_by_name import gradient_name
from detr_conformance.properties import oracle
from detr_conformance.properties.case import CLASSIFICATION, LossCase
from detr_conformance.properties.port import Port, keys_of, options_of
from detr_conformance.properties.port_under_test import PortError, PortUnderTest
from detr_conformance.properties.strategies import Domain
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.reference.base_spec import NON_FINITE
from detr_conformance.reference.keys import TERMS
from detr_conformance.reference.pairing import own_per_layer, shared_from_the_last, shared_if_asked
from detr_conformance.reference.terms import Term

CASES_IN_THE_END = 8
"""So many cases of all kinds must be explained."""
ROUNDS = 3
"""So many decisions are taken again if they are not."""
ANSWERS_TO_MEND = 4
"""An alternative that explains none of so many answers that are unexplained is not looked at further."""
TOGETHER = 400
"""More hypotheses are not compared at a time: decisions are taken one by one then."""
ONLY_WHERE_ASKED = (own_per_layer, shared_if_asked, shared_from_the_last)
"""Pairings that differ only where layers are asked to share a matching."""

Wrong = tuple[LossCase, str]
"""An answer that is not explained: the case and the name."""


class Search:
    """The identification of one port.

    Args:
        port: the port.
        tell: hears what the port is about to be asked.

    Attributes:
        answers: what the port has answered.
        decisions: what there is to decide.
        left: for each decision the alternatives that are left.
        outcomes: what decided it.
        unexplained: answers that no choice explains, by case.
    """

    def __init__(self, port: Port, tell: Tell) -> None:
        """Nothing is known yet."""
        widest = widest_spec()
        self.answers = Answers(port, tell)
        self.maker = CaseMaker.of(PortUnderTest(port, widest))
        self.decisions = decisions()
        self.hypotheses = Hypotheses(self.decisions, widest)
        self.left = {path: list(range(len(each.alternatives))) for path, each in self.decisions.items()}
        self.outcomes: dict[str, Outcome] = {}
        self.unexplained: list[str] = []

    def run(self) -> Search:
        """Ask everything."""
        self.maker = fitting(self.answers, self.maker, self.hypotheses.base)
        self._decide_keys()
        for question in questions(self.answers.can, self.maker):
            self._decide(question)
        self._decide_layers()
        self._settle()
        return self

    @property
    def nearest(self) -> list[str]:
        """The members that fewest answers speak against; of these, those of whose losses the port lacks fewest."""
        against = {name: (len(self.against(spec)), self._lacking(spec)) for name, spec in FAMILY.items()}
        return [name for name, numbers in against.items() if numbers == min(against.values())]

    @property
    def choice(self) -> Choice:
        """What the nearest member of the family decides, where nothing speaks against it."""
        nearest, chosen = FAMILY[self.nearest[0]], {}
        for path, places in self.left.items():
            place = self.decisions[path].place_of(nearest)
            chosen[path] = places[0] if place is None or place not in places else place
        return chosen

    @property
    def terms(self) -> set[str]:
        """The classification losses that the port has, whatever it is asked for."""
        places = self.left[CHOICE_OF_TERM][:1] if CHOICE_OF_TERM in self.left else ()
        kinds = self.maker.domain.classification if self.outcomes else ()
        decision = self.decisions.get(CHOICE_OF_TERM)
        return {term_used(decision, place, kind) for place in places for kind in kinds if decision is not None}

    def against(self, spec: LossSpec) -> list[str]:
        """The decisions that the port takes otherwise than a spec, and the losses that it has and the spec lacks."""
        places = {path: self.decisions[path].place_of(spec) for path in self.outcomes if self.is_known(path)}
        other = [path for path, place in places.items() if place is not None and not self._may_be(path, place, spec)]
        refused = self.refused_kinds & spec.class_terms.keys()
        kinds = (f"class_terms.{name}" for name in sorted(self.terms - spec.class_terms.keys() | refused))
        extra = {name for name, term in spec.extra_terms.items() if self._is_asked(term)}
        return [*other, *kinds, *(f"extra_terms.{name}" for name in sorted(self.extra ^ extra))]

    @cached_property
    def extra(self) -> frozenset[str]:
        """The extra terms that the port has a loss of, where it is given what they read."""
        found: set[str] = set()
        for spec in FAMILY.values():
            for needs in {term.needs for term in spec.extra_terms.values() if self._is_asked(term)}:
                case = self._with_gains(WITH[needs](self.maker.unambiguous(0)), spec)
                with suppress(PortError):
                    keys = self.answers.losses(case, spec).values
                    found |= {name for name in spec.extra_terms if {f"loss_{name}", f"loss_{name}_aux"} & keys.keys()}
        return frozenset(found)

    def _with_gains(self, case: LossCase, spec: LossSpec) -> LossCase:
        """The case with the spec's own gains of extra terms, as rules ask for them; not where gains are restricted."""
        if "loss_gain" in options_of(self.answers.port):
            return case
        own = {name: term.gain for name, term in spec.extra_terms.items()}
        return case.change(loss_gain={**own, **case.config.loss_gain})

    def _is_asked(self, term: Term) -> bool:
        """Whether the port says that it has such a term, and there are cases for it."""
        return term.needs in WITH and self.answers.can(term.needs)

    def _lacking(self, spec: LossSpec) -> int:
        """How many losses of a spec the port does not declare: those cannot be told from what is not there."""
        needs = {*spec.class_terms, *(term.needs for term in spec.extra_terms.values())}
        return len(needs - self.answers.port.capabilities)

    def _may_be(self, path: str, place: int, spec: LossSpec) -> bool:
        """Whether nothing speaks against an alternative, as far as its spec defines what was asked."""
        alternatives, left = self.decisions[path].alternatives, self.left[path]
        if path == "matcher.non_finite" and NON_FINITE in spec.undefined:
            return True
        if path == "pairing" and "uni_match" in spec.undefined:  # whatever comes where layers are asked to share
            left = [each for each in range(len(alternatives)) if _paired_alike(alternatives, each, left)]
        return place in left

    @property
    def refused_kinds(self) -> set[str]:
        """Classification losses that the port declares, and does not answer with."""
        declared = CLASSIFICATION.keys() & self.answers.port.capabilities
        return {kind for kind in declared if kind not in self.maker.domain.classification}

    def is_known(self, path: str) -> bool:
        """Whether the port has answered a question about a decision."""
        return path in self.outcomes and bool(self.outcomes[path].cases) and self.is_declared(path)

    def is_declared(self, path: str) -> bool:
        """Whether the port has the classification loss that a decision is about."""
        record, _, name = path.partition(".")
        return record not in ("class_terms", "normaliser") or name in {*self.terms, *TERMS}

    def are_synonyms(self, path: str) -> bool:
        """Whether the alternatives that are left of a decision answer alike whatever anybody is asked."""
        first, *others = (self.hypotheses.spec(self.choice | {path: place}) for place in self.left[path])
        free = replace(Domain(), classification=self.maker.domain.classification)
        for question in questions(lambda _: True, replace(self.maker, domain=free)):
            if any(path in way for way in question.ways(self.decisions, self.left)):
                for case in islice(question.cases(), question.patience):
                    if not alike_on(case, question.names(case), first, others):
                        return False
        return True

    def _decide(self, question: Question) -> None:
        """Take all its decisions together, or one by one if there are too many ways to do so."""
        ways = question.ways(self.decisions, self.left)
        one_by_one = [[{path: place} for place in self.left[path]] for path in ways[0]]
        parts = one_by_one if len(ways) > TOGETHER else [ways]
        for part in parts:
            if len(part) > 1 or question.kind:
                self._note(eliminate(self.answers, self.hypotheses, self.left, part, question))

    def _note(self, outcome: Outcome) -> None:
        """Keep what is left, and with each decision the outcome that has ruled out something last."""
        for path, places in outcome.left.items():
            earlier = self.outcomes.get(path)
            if earlier is None or (outcome.cases and (not earlier.cases or places != self.left[path])):
                self.left[path], self.outcomes[path] = places, outcome

    def _decide_keys(self) -> None:
        if "keys" in self.decisions and keys_of(self.answers.port) is None:
            decision, base = self.decisions["keys"], self.hypotheses.base
            self._note(keys_of_losses(self.answers, decision, self.maker, base))

    def _decide_layers(self) -> None:
        if "layers" in self.decisions:
            left, spec = self.left["layers"], self.hypotheses.spec(self.choice)
            self._note(plan_of_layers(self.answers, self.decisions["layers"], left, self.maker, spec))

    def _settle(self) -> None:
        """See whether everything is explained, and take decisions again if it is not."""
        cases = list(islice(of_any_convention(self.maker, 0), CASES_IN_THE_END))
        wrong = self._wrong(cases, self.hypotheses.spec(self.choice))
        for _ in range(ROUNDS):
            if not wrong or not self._improve(cases, wrong):
                break
            wrong = self._wrong(cases, self.hypotheses.spec(self.choice))
        self.unexplained = [f"{name} with {described(case)}" for case, name in wrong]

    def _improve(self, cases: Sequence[LossCase], wrong: Sequence[Wrong]) -> bool:
        """Take the decision again that leaves fewest answers unexplained, if one does."""
        best, chosen = len(wrong), None
        for path, decision in self.decisions.items():
            for place in range(len(decision.alternatives)) if self.is_declared(path) else ():
                spec = self.hypotheses.spec(self.choice | {path: place})
                if any(not self._is_far(case, name, spec) for case, name in wrong[:ANSWERS_TO_MEND]):
                    number = len(self._wrong(cases, spec))
                    if number < best:
                        best, chosen = number, (path, place)
        if chosen is not None:
            self.left[chosen[0]] = [chosen[1]]
        return chosen is not None

    def _wrong(self, cases: Sequence[LossCase], spec: LossSpec) -> list[Wrong]:
        """Answers that a spec does not explain."""
        certain = (case for case in cases if is_certain(case, spec))
        return [(case, name) for case in certain for name in self._names(case, spec) if self._is_far(case, name, spec)]

    def _is_far(self, case: LossCase, name: str, spec: LossSpec) -> bool:
        if not is_certain(case, spec):
            return True
        try:
            return share(got(self.answers, case, name, spec), predicted(case, name, spec), case.dtype) > 1.0
        except PortError:
            return False  # said elsewhere

    def _names(self, case: LossCase, spec: LossSpec) -> list[str]:
        losses = oracle.expected_losses(case, spec)
        names = [key for key in losses if self.answers.can("denoising") or not key.endswith("_dn")]
        if self.answers.can("gradients"):
            names += [gradient_name(key, name) for key in names for name in losses[key].gradients]
        return names


def _paired_alike(alternatives: Sequence[Alternative], place: int, left: Sequence[int]) -> bool:
    """Whether a pairing is one of those that are left, but for what it does where layers are asked to share."""
    asked = [each for each, alternative in enumerate(alternatives) if alternative.value in ONLY_WHERE_ASKED]
    return place in left or (place in asked and not set(asked).isdisjoint(left))


def alike_on(case: LossCase, names: Sequence[str], first: LossSpec, others: Sequence[LossSpec]) -> bool:
    """Whether specs have the same answers on a case, as far as they have one."""
    certain = [each for each in (first, *others) if is_certain(case, each)]
    return all(
        alike(predicted(case, name, certain[0]), predicted(case, name, each), case.dtype)
        for each in certain[1:]
        for name in names
    )
