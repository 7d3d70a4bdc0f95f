"""Cases in which every two values of two options, or of an option and a size, come together.

Code that is right for each option goes wrong where two of them meet: a shared matching without auxiliary losses,
denoising queries beside a single layer, a gamma that only one of two losses reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import cycle, islice
from typing import Any

import numpy as np

from detr_conformance.properties import oracle
from detr_conformance.properties.case import CLASSIFICATION, LossCase, LossConfig
from detr_conformance.properties.cases_on_targets import sizes_for
from detr_conformance.properties.covering import Row, covering_array
from detr_conformance.properties.extreme_sizes import with_matched_ones_last
from detr_conformance.properties.numbers import Numbers
from detr_conformance.properties.port import options_of
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import has_query_groups
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import Domain, assemble, by_term, denoising_queries
from detr_conformance.properties.tolerance import rounded
from detr_conformance.properties.working import domain_for
from detr_conformance.reference import LossSpec

GAMMAS = (5.0, 0.0, 2.0)
ALPHAS = (0.75, 0.01, 1.0)
GAINS = ((1.25, 3.0, 0.75), (1.0, 100.0, 0.0), (100.0, 0.0, 2.0), (0.0, 5.0, 100.0))
"""Of class, bbox and giou: each is at 0, at 100 and in between."""
MOST_IN_HALF = 10.0
"""A larger gain takes sums beyond 65504, where float16 ends."""
LAYERS, IMAGES, QUERIES, CLASSES = (7, 1, 2), (5, 1, 2), (5, 1, 9), (9, 1, 2)
"""One, few, and more than eight of them, or as many as models have. Larger ones are judged elsewhere."""
TARGETS = ("more than queries", "some", "one", "none")
DENOISING = ((9, False), (1, True), (0, False))
"""Numbers of groups, and whether they leave out some targets."""
SHARED = ("last", "first", "no")
"""The auxiliary layer whose matching all of them use."""

HALF = ("bfloat16", "float16")
"""Their budgets are so wide that much goes unseen: what meets in another dtype counts."""

ROWS_AT_SMOKE = 3
TRIES = 20
"""So often numbers are drawn anew where rounding would decide who is matched."""


def cases_of_pairs(request: Request, judged: PortUnderTest, level: str, seed: int) -> Iterator[LossCase]:
    """A case for each row of the covering array; at smoke for a few in turn.

    Args:
        request: of the rule.
        judged: the port, which is asked for nothing that it does not declare.
        level: smoke or above.
        seed: another one draws other numbers, and at smoke begins with another row.
    """
    domain = domain_for(request, judged)
    rows = rows_for(domain, judged)
    if level == "smoke":
        rows = islice(cycle(rows), ROWS_AT_SMOKE * seed, ROWS_AT_SMOKE * (seed + 1))
    for place, row in enumerate(rows):
        yield _case(tuple(row.items()), request, domain, judged.spec, (seed, place))


def rows_for(domain: Domain, judged: PortUnderTest) -> Iterator[Row]:
    """The covering array of what a port can be asked for, row by row: a rule that needs few of them stops early."""
    factors, plain = factors_of(domain, judged), _plain(domain, judged.spec)
    return covering_array(
        factors, lambda row: may_meet(row, domain.no_gamma_of_0), lambda row: without_effect(row, plain)
    )


def _plain(domain: Domain, spec: LossSpec) -> frozenset[str]:
    """The classification losses that read neither gamma nor alpha, unless there are no others."""
    plain = frozenset(name for name in domain.working if not spec.class_terms[name].reads_options)
    return plain if plain < domain.working else frozenset()


def factors_of(domain: Domain, judged: PortUnderTest) -> dict[str, tuple[Any, ...]]:
    """The options, sizes and dtypes that a port can be asked for, each with its values.

    Those that other rules see least come first: they are in the first rows, of which smoke sees a few.
    """
    asked = options_of(judged.port)
    layers = dict.fromkeys(max(count, domain.least_layers) for count in LAYERS)
    return {
        "classification": tuple(sorted(domain.working)),
        "gamma": domain.gammas if "gamma" in asked else GAMMAS,
        "alpha": domain.alphas if "alpha" in asked else ALPHAS,
        "gains": domain.gains if "loss_gain" in asked else GAINS,
        "aux_loss": (False, True) if domain.no_aux else (True,),
        "shared": SHARED if domain.uni_match else ("no",),
        "query_groups": (3, 1) if judged.can("query_groups") and has_query_groups(judged.spec) else (1,),
        "layers": tuple(layers),
        "images": IMAGES,
        "queries": QUERIES,
        "classes": CLASSES,
        "targets": TARGETS,
        "denoising": tuple(each for each in DENOISING if _denoises(domain, *each)),
        "dtype": tuple(sorted(judged.port.dtypes)),
    }


def _denoises(domain: Domain, groups: int, subset: bool) -> bool:
    return groups == 0 or (domain.denoising and (domain.denoising_subset or not subset))


def may_meet(row: Row, no_gamma_of_0: frozenset[str]) -> bool:
    """Whether some values define a loss together."""
    refused = (
        row.get("gamma") == 0.0 and row.get("classification") in no_gamma_of_0,
        row.get("layers") == 1 and row.get("shared", "no") != "no",  # no auxiliary layer has a matching
        row.get("targets") == "none" and row.get("denoising", (0,))[0] > 0,  # no generator makes such queries
        # Without auxiliary losses `transformers` has no denoising ones either.
        row.get("aux_loss") is False and row.get("denoising", (0,))[0] > 0,
        row.get("dtype") == "float16" and max(row.get("gains", (1.0,))) > MOST_IN_HALF,
    )
    return not any(refused)


def without_effect(row: Row, plain: frozenset[str]) -> Iterator[tuple[str, str]]:
    """The factors whose values do not show in a row, each with one that hides it; `plain` losses read no option."""
    if row.get("classification") in plain:
        yield from (("gamma", "classification"), ("alpha", "classification"))
    if row.get("gains", (1.0,))[0] == 0.0:
        yield from (("classification", "gains"), ("gamma", "gains"), ("alpha", "gains"))
    if row.get("aux_loss") is False:
        yield "shared", "aux_loss"
    if row.get("layers") == 1:
        yield "aux_loss", "layers"
    if row.get("targets") == "none":
        yield from (("gains", "targets"), ("shared", "targets"))
    if row.get("dtype") in HALF:
        yield from ((name, "dtype") for name in row if name != "dtype")


@lru_cache(maxsize=256)
def _case(
    items: tuple[tuple[str, Any], ...], request: Request, domain: Domain, spec: LossSpec, seed: tuple[int, int]
) -> LossCase:
    """The case of a row; the last one that was tried, where no matching is certain."""
    for attempt in range(TRIES):
        case = _drawn(dict(items), request, domain, np.random.default_rng((*seed, attempt)))
        if oracle.matching_is_certain(case, spec):
            break
    return case


def _drawn(row: Row, request: Request, domain: Domain, rng: np.random.Generator) -> LossCase:
    gt_groups = counts_of(row["targets"], row["images"], row["queries"])
    sizes = sizes_for(domain, row["layers"], row["queries"], row["classes"], gt_groups, row["query_groups"])
    numbers = Numbers(rng, grid=0, special=(), dtype=row["dtype"])
    case = assemble(sizes, _config(row), numbers, replace(request, dtype=row["dtype"]))
    # A port may cast targets to the dtype of the predictions; the sign of a difference must not depend on that.
    case = case.change(gt_bboxes=rounded(case.gt_bboxes, case.dtype))
    if domain.layers_vote:  # of so many layers that have nothing in common some would be undecided
        case = with_matched_ones_last(case, True, rng)
    groups, subset = row["denoising"]
    if groups:
        surplus = int(subset and domain.surplus)
        denoising = denoising_queries(case, sizes.denoising_layers, groups, surplus, subset, numbers)
        case = case.change(denoising=denoising)
    return case


def counts_of(targets: str, images: int, queries: int) -> tuple[int, ...]:
    """The number of targets of each image."""
    if targets == "some":
        return tuple((min(2, queries), 0, 1)[image % 3] for image in range(images))
    of_last = {"none": 0, "one": 1, "more than queries": queries + 2}[targets]
    return (*[0] * (images - 1), of_last)


def _config(row: Row) -> LossConfig:
    return LossConfig(
        nc=row["classes"],
        loss_gain=by_term(row["gains"]),
        aux_loss=row["aux_loss"],
        **CLASSIFICATION[row["classification"]],
        use_uni_match=row["shared"] != "no",
        uni_match_ind=row["layers"] - 2 if row["shared"] == "last" else 0,
        gamma=row["gamma"],
        alpha=row["alpha"],
        query_groups=row["query_groups"],
    )
