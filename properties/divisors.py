"""What a spec divides the losses of a case by, in one layer of ordinary or of denoising queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.reference import Losses, LossSpec
from detr_conformance.reference.normaliser import Tally


def divisor(case: LossCase, spec: LossSpec, term: str) -> float:
    """Of `class`, `bbox`, `giou` or an extra term, for ordinary queries."""
    pairs = tuple(min(case.queries, count) for count in case.gt_groups)
    tally = Tally(pairs, case.gt_groups, case.queries, case.config.nc, case.layers)
    return _divisor(case, spec, term, replace(tally, query_groups=case.config.query_groups))


def weight(port: PortUnderTest, case: LossCase, term: str) -> float:
    """What one pair of ordinary queries counts: the gain of the term over what it is divided by."""
    return port.gain(case, term) / divisor(case, port.spec, term)


def denoising_divisor(case: LossCase, spec: LossSpec, term: str) -> float:
    """The same for the denoising queries of a case that has some."""
    assert case.denoising is not None  # noqa: S101  # callers draw such cases only
    denoising = case.denoising
    layers, _, slots, _ = denoising.bboxes.shape
    tally = Tally(
        pairs=tuple(map(len, denoising.pos_idx)),
        targets=case.gt_groups,
        queries=slots,
        classes=case.config.nc,
        layers=layers,
        groups=denoising.num_group,
        is_denoising=True,
    )
    return _divisor(case, spec, term, tally)


def _divisor(case: LossCase, spec: LossSpec, term: str, tally: Tally) -> float:
    config = spec.options(case.config)
    name = spec.choose_class_term(config, int(sum(tally.pairs))) if term == "class" else term
    return float(spec.divisor(name, tally))


def is_mean(spec: LossSpec, term: str) -> bool:
    """Whether a term is a mean over queries before it is divided by anything."""
    extra = spec.extra_terms.get(term)
    return extra is not None and extra.is_mean


def ordinary_keys(losses: Iterable[str]) -> tuple[list[str], list[str]]:
    """The canonical keys of the main and of the auxiliary losses of ordinary queries, term by term."""
    ordinary = [key for key in losses if not key.endswith("_dn")]
    return [key for key in ordinary if "_aux" not in key], [key for key in ordinary if "_aux" in key]


def term_of(key: str) -> str:
    """`class`, `bbox`, `giou` or the name of an extra term, of a canonical key."""
    return key.split("_")[1]


def keys_of(expected: Losses, term: str) -> list[str]:
    """The canonical keys of a term, of all parts of the loss that there are."""
    return [key for key in expected if term_of(key) == term]
