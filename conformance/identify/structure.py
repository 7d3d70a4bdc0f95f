"""What a port can be asked at all, the names of its losses, and numbers of layers: what shows in refusals and keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from detr_conformance.errors import UsageError, one_line
from detr_conformance.identify.answers import Answers, got
from detr_conformance.identify.cases import CaseMaker
from detr_conformance.identify.decisions import Decision
from detr_conformance.identify.elimination import Outcome
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortError, call_of
from detr_conformance.reference import LossSpec
from detr_conformance.reference.keys import Call, KeyTable


def fitting(answers: Answers, maker: CaseMaker, spec: LossSpec) -> CaseMaker:
    """The maker of cases that the port answers: of its classification losses, and of its layers of denoising queries.

    Raises:
        UsageError: it answers none.
    """
    declared = sorted(maker.domain.classification)
    kinds = [kind for kind in declared if _comes(answers, maker.of_kind(kind).unambiguous(0), spec)]
    if not kinds:
        asked = ", ".join(declared)
        raise UsageError(f"the port gives no losses, asked for {asked}: {one_line(answers.first_refusal)}")
    domain = replace(maker.domain, classification=frozenset(kinds), working=frozenset(kinds))
    maker = replace(maker, domain=domain, kind=kinds[0])
    if answers.can("denoising") and not _comes(answers, maker.with_denoising(0), spec):
        as_many = replace(maker, denoising_less=0)
        maker = as_many if _comes(answers, as_many.with_denoising(0), spec) else maker
    return maker


def _comes(answers: Answers, case: LossCase, spec: LossSpec) -> bool:
    """Whether losses come."""
    try:
        return bool(answers.losses(case, spec).result.losses)
    except PortError:
        return False


def keys_of_losses(answers: Answers, decision: Decision, maker: CaseMaker, spec: LossSpec) -> Outcome:
    """The tables that know all keys which come, and miss none; the nearest ones if there are no such.

    Raises:
        UsageError: no table knows any of them.
    """
    tables = [each.value for each in decision.alternatives]
    off, cases = [0] * len(tables), list[LossCase]()
    for case in _of_all_shapes(answers, maker):
        if _comes(answers, case, spec):
            came = set(answers.losses(case, spec).result.losses)
            _refuse_unknown(tables, came, call_of(case, spec))
            cases.append(case)
            off = [
                number + _off(table, came, call_of(case, spec), answers)
                for number, table in zip(off, tables, strict=True)
            ]
    return _outcome("keys", off, cases, "names of the losses", "" if cases else answers.first_refusal)


def _refuse_unknown(tables: Sequence[KeyTable], came: set[str], call: Call) -> None:
    if not any(table.canonical(key, call) for table in tables for key in came):
        names = one_line(", ".join(sorted(came)))
        raise UsageError(f"the port returns no loss under a name that is known, only {names}: give it a table `keys`")


def _of_all_shapes(answers: Answers, maker: CaseMaker) -> Iterator[LossCase]:
    for kind in sorted(maker.domain.classification):
        yield maker.of_kind(kind).unambiguous(0)
        if answers.can("denoising"):
            yield maker.of_kind(kind).with_denoising(0)


def _off(table: KeyTable, came: set[str], call: Call, answers: Answers) -> int:
    """How many keys are missing or mean nothing; those of denoising queries are for ports that have such."""

    def counted(keys: frozenset[str]) -> set[str]:
        return {key for key in keys if answers.can("denoising") or "dn" not in key}

    return min(len(counted(frozenset(came)) ^ counted(keys)) for keys in table.expected(call))


def plan_of_layers(answers: Answers, decision: Decision, left: list[int], maker: CaseMaker, spec: LossSpec) -> Outcome:
    """The plans that do without what the port refuses: few layers, and some numbers of layers of denoising queries.

    Args:
        answers: the port.
        decision: the plans that there are.
        left: those that have the port's numbers where all of them have some.
        maker: makes cases.
        spec: what the port decides as far as it is known.
    """
    few = {layers: replace(maker, layers=layers).unambiguous(0) for layers in (1, 2)}
    refused = [layers for layers, case in few.items() if not _works(answers, case, "loss_bbox", spec)]
    denoising = {}
    if answers.can("denoising"):
        denoising = {maker.layers - less: replace(maker, denoising_less=less).with_denoising(0) for less in (0, 1)}
    not_denoised = [layers for layers, case in denoising.items() if not _works(answers, case, "loss_bbox_dn", spec)]
    off = [len(decision.alternatives)] * len(decision.alternatives)
    for place in left:
        plan = decision.alternatives[place].value
        legal = [layers for layers in denoising if plan.denoising is None or plan.denoising(maker.layers) == layers]
        off[place] = len([each for each in refused if each >= plan.least])
        off[place] += len([each for each in legal if each in not_denoised]) * (len(not_denoised) < len(denoising))
    return _outcome("layers", off, [*few.values(), *denoising.values()], "calls with few layers", "")


def _works(answers: Answers, case: LossCase, name: str, spec: LossSpec) -> bool:
    """Whether a number comes."""
    try:
        value = got(answers, case, name, spec)
    except PortError:
        return False
    return value is not None and bool(np.isfinite(value))


def _outcome(path: str, off: list[int], cases: list[LossCase], about: str, refusal: str) -> Outcome:
    best = [place for place, number in enumerate(off) if number == min(off)]
    return Outcome({path: best}, cases, about, min(off) == 0, {path: None}, refusal)
