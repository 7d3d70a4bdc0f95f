"""Names of the losses, and numbers of layers: decisions that show in what a port returns or refuses, not in numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from detr_conformance.identify.answers import Answers, got
from detr_conformance.identify.cases import CaseMaker
from detr_conformance.identify.decisions import Decision
from detr_conformance.identify.elimination import Outcome
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortError, call_of
from detr_conformance.reference import LossSpec
from detr_conformance.reference.keys import KeyTable


def keys_of_losses(answers: Answers, decision: Decision, maker: CaseMaker, spec: LossSpec) -> Outcome:
    """The tables that know all keys which come, and miss none; the nearest ones if there are no such."""
    tables = [each.value for each in decision.alternatives]
    off, cases, refusal = [0] * len(tables), list[LossCase](), ""
    for case in _of_all_shapes(answers, maker):
        try:
            came = set(answers.losses(case, spec).result.losses)
        except PortError as error:
            refusal = refusal or str(error)
            continue
        cases.append(case)
        off = [number + _off(table, came, case, answers) for number, table in zip(off, tables, strict=True)]
    return _outcome("keys", off, cases, ["names of the losses"], "" if cases else refusal)


def _of_all_shapes(answers: Answers, maker: CaseMaker) -> Iterator[LossCase]:
    for kind in sorted(maker.domain.classification):
        own = replace(maker, kind=kind)
        yield own.unambiguous(0)
        if answers.can("denoising"):
            yield own.with_denoising(0)


def _off(table: KeyTable, came: set[str], case: LossCase, answers: Answers) -> int:
    """How many keys are missing or mean nothing; those of denoising queries are for ports that have such."""

    def counted(keys: frozenset[str]) -> set[str]:
        return {key for key in keys if answers.can("denoising") or "_dn" not in key}

    return min(len(counted(frozenset(came)) ^ counted(keys)) for keys in table.expected(call_of(case)))


def plan_of_layers(
    answers: Answers, decision: Decision, left: list[int], maker: CaseMaker, spec: LossSpec
) -> Outcome | None:
    """The plans that do without what the port refuses: a single layer, and as many layers of denoising queries.

    Args:
        answers: the port.
        decision: the plans that there are.
        left: those that have the port's numbers where all of them have some.
        maker: makes cases.
        spec: what the port decides as far as it is known.
    """
    single = replace(maker, layers=1).unambiguous(0)
    refused = [not _works(answers, single, "loss_bbox", spec), False]
    cases = [single]
    if answers.can("denoising"):
        cases.append(maker.with_denoising(0, layers=maker.layers))
        refused[1] = not _works(answers, cases[-1], "loss_bbox_dn", spec)
    off = [len(left)] * len(decision.alternatives)
    for place in left:
        plan = decision.alternatives[place].value
        off[place] = int(refused[0] and plan.least == 1) + int(refused[1] and plan.denoising is None)
    names = ["a single layer", "as many layers of denoising queries as of others"][: len(cases)]
    return _outcome(
        "layers", off, cases, [f"{each} {'fails' if no else 'works'}" for each, no in zip(names, refused)], ""
    )


def _works(answers: Answers, case: LossCase, name: str, spec: LossSpec) -> bool:
    """Whether a number comes."""
    try:
        value = got(answers, case, name, spec)
    except PortError:
        return False
    return value is not None and bool(np.isfinite(value))


def _outcome(path: str, off: list[int], cases: list[LossCase], names: list[str], refusal: str) -> Outcome:
    best = [place for place, number in enumerate(off) if number == min(off)]
    margin = min((float(number) for number in off if number > min(off)), default=None)
    return Outcome({path: best}, cases, names, min(off) == 0, {path: margin}, refusal)
