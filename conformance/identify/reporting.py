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
    is_exact = not search.unexplained and not any(each.differs for each in findings)
    return Identification(
        suite=Suite(name="detr-conformance", version=__version__),
        port=visible(answers.port.name),
        nearest=nearest,
        is_exact=is_exact,
        findings=findings,
        unexplained=list(dict.fromkeys(search.unexplained)),
        refusals=[visible(f"{reason}, asked for: {asked}") for reason, asked in answers.refusals.items()],
        not_asked=list(_not_asked(answers)),
        spec=module_of(answers.port.name, nearest[0], findings, is_exact),
    )


def _findings(search: Search) -> Iterator[Finding]:
    """Field by field, as far as the port has the classification loss that a field is about."""
    against = search.against(FAMILY[search.nearest[0]])
    for path, chosen in search.choice.items():
        if not search.is_declared(path):
            continue
        alternatives, left = search.decisions[path].alternatives, search.left[path]
        outcome = search.outcomes.get(path)
        is_open = len(left) > 1 and not search.are_synonyms(path)
        places = sorted(left, key=lambda place: place != chosen) if is_open else [chosen]
        yield Finding(
            field=path,
            told=_told(outcome, is_open),
            options=[_option(alternatives[place]) for place in places],
            evidence=_evidence(outcome, path, search.answers),
            differs=path in against,
        )


def _option(alternative: Alternative) -> Option:
    return Option(sentence=alternative.sentence, source=alternative.source, link=alternative.link)


def _told(outcome: Outcome | None, is_open: bool) -> Told:
    if outcome is None or not outcome.cases:
        return "not asked"
    if not outcome.is_explained:
        return "none fits"
    return "several" if is_open else "found"


def _evidence(outcome: Outcome | None, path: str, answers: Answers) -> str:
    """What was looked at, and how far off the rest is; or why nothing was."""
    if outcome is None:
        return _why_not(path, answers)
    if not outcome.cases:
        return f"no answer: {visible(outcome.refusal)}" if outcome.refusal else "no case shows it"
    number, margin = len(outcome.cases), outcome.margins[path]
    looked_at = f"{outcome.about}, {number} case{'' if number == 1 else 's'}"
    if not outcome.is_explained:
        return f"{looked_at}: no known alternative explains them"
    return looked_at if margin is None else f"{looked_at}: {_off(margin)}"


def _off(margin: float) -> str:
    if margin == float("inf"):
        return "the others answer otherwise"
    return f"the others are off by {margin:,.0f} budgets or more"


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
