"""All rules, family by family."""

from __future__ import annotations

from detr_conformance.properties.rule import FAMILIES, Rule
from detr_conformance.properties.rules import (
    api,
    box,
    box_pairs,
    cls,
    cls_elements,
    constructor,
    defaults,
    dist,
    dn,
    dn_generator,
    dn_listed,
    dn_logits,
    dn_noise,
    dn_seed,
    ends,
    grad,
    grad_used,
    inv,
    inv_parts,
    layers,
    mask,
    mask_forms,
    mask_matching,
    mask_points,
    match,
    match_costs,
    match_groups,
    match_in_loss,
    match_inside,
    match_listed,
    modes,
    num,
    num_non_finite,
    num_state,
    pairs,
    rank,
    reg,
    situations,
)

_MODULES = (
    *(
        box,
        box_pairs,
        match,
        match_costs,
        match_listed,
        match_in_loss,
        match_inside,
        match_groups,
        cls,
        cls_elements,
        reg,
        ends,
        layers,
    ),
    *(mask, mask_forms, mask_points, mask_matching),
    *(
        dn,
        dn_listed,
        dn_generator,
        dn_noise,
        dn_logits,
        dn_seed,
        inv,
        inv_parts,
        dist,
        grad,
        grad_used,
        rank,
        num,
        num_non_finite,
        num_state,
        api,
        defaults,
        modes,
        situations,
        constructor,
        pairs,
    ),
)


def _collect() -> tuple[Rule, ...]:
    """Every rule of the modules, ordered by family and number.

    Raises:
        ValueError: an id is used twice, belongs to no family, or a rule has no statement.
    """
    rules = [each for module in _MODULES for each in vars(module).values() if isinstance(each, Rule)]
    ids = [each.id for each in rules]
    for each in rules:
        if ids.count(each.id) > 1 or each.family not in FAMILIES or not each.statement:
            raise ValueError(
                f"rule {each.id} ({each.title}): the id is used twice or unknown, or the statement is empty"
            )
    return tuple(sorted(rules, key=lambda each: (list(FAMILIES).index(each.family), each.id)))


if not __debug__:
    raise RuntimeError("rules are made of assert, which python -O and PYTHONOPTIMIZE take out: run without them")

RULES: tuple[Rule, ...] = _collect()
"""Every rule, ordered by family and number."""
