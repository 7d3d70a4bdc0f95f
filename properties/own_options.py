"""The options of a case as a port gets them: in dictionaries of its own, which it may fill up as it likes."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

from detr_conformance.properties.case import LossCase


def with_own_options(case: LossCase) -> LossCase:
    """The same case, arrays included, with gains that nobody else reads."""
    own = copy(case)  # without looking at every number again
    object.__setattr__(own, "config", replace(case.config, loss_gain=dict(case.config.loss_gain)))
    object.__setattr__(own, "matcher", replace(case.matcher, cost_gain=dict(case.matcher.cost_gain)))
    return own


def changed_options(given: LossCase, case: LossCase) -> list[str]:
    """Names of gains that are no longer what they are in the case; what was added is read by nobody."""
    changed = []
    for name, after, before in (
        ("config.loss_gain", given.config.loss_gain, case.config.loss_gain),
        ("matcher.cost_gain", given.matcher.cost_gain, case.matcher.cost_gain),
    ):
        changed += [f"{name}[{term!r}]" for term, gain in before.items() if after.get(term) != gain]
    return changed
