"""What a search has found, as structs."""

from __future__ import annotations

from collections.abc import Iterator

from detr_conformance import __version__
from detr_conformance.errors import visible
from detr_conformance.identify.answers import Answers
from detr_conformance.identify.decisions import Alternative
from detr_conformance.identify.elimination import Outcome
from detr_conformance.identify.found import Finding, Identification, Option, Told
from detr_conformance.identify.module_text import module_of
from detr_conformance.identify.searching import Search
from detr_conformance.properties.case import CLASSIFICATION
from detr_conformance.properties.port import keys_of, options_of
from detr_conformance.reference import FAMILY
from detr_conformance.report import Suite

WITHOUT = {
    "gradients": "whether the weight of a classification loss is detached: it gives no gradients",
    "match": "the matching, but for what the box losses show of it",
    "uni_match": "a matching that layers share",
    "denoising": "the losses of denoising queries",
    "denoising_group": "how denoising queries are made",
}
"""What cannot be asked about a port that lacks a capability."""


def report_of(search: Search) -> Identification:
    """Everything that was found out."""
    answers, nearest = search.answers, search.nearest
    findings = list(_findings(search))
    differences = [each for each in findings if each.differs]
    return Identification(
        suite=Suite(name="detr-conformance", version=__version__),
        port=visible(answers.port.name),
        nearest=nearest,
        is_exact=not differences and not search.unexplained,
        findings=findings,
        unexplained=search.unexplained,
        refusals=[visible(f"{reason}, asked for: {asked}") for reason, asked in answers.refusals.items()],
        not_asked=list(_not_asked(answers)),
        spec=module_of(answers.port.name, nearest[0], differences),
    )


def _findings(search: Search) -> Iterator[Finding]:
    """Field by field, as far as the port has the classification loss that a field is about."""
    against = search.against(FAMILY[search.nearest[0]])
    for path, chosen in search.choice.items():
        if not search.is_declared(path):
            continue
        alternatives, left = search.decisions[path].alternatives, search.left[path]
        outcome = search.outcomes.get(path)
        places = sorted(left, key=lambda place: place != chosen)
        yield Finding(
            field=path,
            told=_told(outcome, left),
            options=[_option(alternatives[place]) for place in places],
            evidence=_evidence(outcome, path, search.answers),
            differs=path in against,
        )


def _option(alternative: Alternative) -> Option:
    return Option(sentence=alternative.sentence, source=alternative.source, link=alternative.link)


def _told(outcome: Outcome | None, left: list[int]) -> Told:
    if outcome is None or not outcome.cases:
        return "not asked"
    if not outcome.is_explained:
        return "none fits"
    return "found" if len(left) == 1 else "several"


def _evidence(outcome: Outcome | None, path: str, answers: Answers) -> str:
    """What was looked at, and how far off the rest is; or why nothing was."""
    if outcome is None:
        return _why_not(path, answers)
    if not outcome.cases:
        return f"no answer: {visible(outcome.refusal)}" if outcome.refusal else "no case shows it"
    number = len(outcome.cases)
    looked_at = f"{', '.join(outcome.names)} in {number} case{'' if number == 1 else 's'}"
    margin = outcome.margins[path]
    if not outcome.is_explained:
        return f"{looked_at}: no known alternative explains it"
    if margin is None:
        return f"{looked_at}: none is ruled out"
    return f"{looked_at}; {_off(margin)}"


def _off(margin: float) -> str:
    if margin == float("inf"):
        return "any other answers otherwise"
    return f"any other is off by {margin:.2g} budgets or more"


def _why_not(path: str, answers: Answers) -> str:
    if path == "keys" and keys_of(answers.port) is not None:
        return "the port has keys of its own"
    capability = "denoising_group" if path.startswith("denoising.generator") else "what shows it"
    return f"the port does not declare {capability}"


def _not_asked(answers: Answers) -> Iterator[str]:
    """What the port does not declare, or restricts."""
    for kind in sorted(CLASSIFICATION):
        if not answers.can(kind):
            yield f"the {kind} loss: the port does not declare it"
    for capability, what in WITHOUT.items():
        if not answers.can(capability):
            yield f"{what} (no {capability!r} among the port's capabilities)"
    for option, values in sorted(options_of(answers.port).items()):
        yield visible(f"{option} but for {', '.join(map(str, values))}: the port restricts it")
