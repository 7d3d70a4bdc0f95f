"""What a case that a user brings asks of a port, and what a spec says about it."""

from __future__ import annotations

import numpy as np

from detr_conformance.properties.case import Denoising, LossCase
from detr_conformance.properties.port import OPTIONS, options_of
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.reference import LossSpec
from detr_conformance.reference.base_spec import NO_AREA, NON_FINITE


def needs_of(case: LossCase) -> frozenset[str]:
    """Capabilities and dtypes that a port must declare to be given this case."""
    config, denoising = case.config, case.denoising
    optional = {
        "uni_match": config.use_uni_match,
        "no_aux": not config.aux_loss,
        "denoising": denoising is not None,
        "denoising_subset": denoising is not None and not _denoises_all(denoising, case),
        "matcher_options": case.changes_matcher,
        "query_groups": config.query_groups > 1,
    }
    return frozenset({case.dtype, config.classification} | {name for name, needed in optional.items() if needed})


def refusal(case: LossCase, judged: PortUnderTest) -> str:
    """Why a port cannot be given this case: what it asks for that the port does not declare. Empty if it can."""
    lacking = needs_of(case) - judged.port.capabilities - judged.port.dtypes
    if lacking:
        return f"the case needs {', '.join(sorted(lacking))}, which is not declared"
    asked = {name: getattr(case.config, name) for name in OPTIONS}
    refused = {name: value for name, value in asked.items() if not judged.may_be_asked(**{name: value})}
    taken = {name: " or ".join(map(str, options_of(judged.port)[name])) for name in refused}
    told = [f"{name} {value}, and the port's options allow only {taken[name]}" for name, value in refused.items()]
    return f"the case asks for {'; for '.join(told)}" if told else ""


def undefined(case: LossCase, spec: LossSpec) -> list[str]:
    """What the case has for which the spec defines nothing."""
    arrays, plan = case.float_arrays(), spec.layers
    boxes = [array for name, array in arrays.items() if name.endswith("bboxes")]
    found = {
        NON_FINITE: not all(np.isfinite(array).all() for array in arrays.values()),
        NO_AREA: any((array[..., 2:] <= 0).any() for array in boxes),
    }
    unknown = [what for what, present in found.items() if present and what in spec.undefined]
    if case.columns != spec.columns(case.config.nc):
        unknown.append(f"logits of {case.columns} columns for {case.config.nc} classes")
    if case.layers < plan.least:
        unknown.append(f"fewer than {plan.least} layers")
    if case.denoising is not None and plan.denoising is not None:
        wanted = plan.denoising(case.layers)
        if len(case.denoising.bboxes) != wanted:
            unknown.append(f"{len(case.denoising.bboxes)} layers of denoising queries instead of {wanted}")
    if case.denoising is not None and spec.denoising.regular and not _is_regular(case.denoising):
        unknown.append("slots of denoising queries that no group fills, or groups of several sizes")
    return unknown


def _is_regular(denoising: Denoising) -> bool:
    """Whether groups of one width, positives first and then as many negatives, take all slots."""
    width = 2 * max(map(len, denoising.gt_idx))
    starts = width * np.arange(denoising.num_group)[:, None]
    return denoising.bboxes.shape[2] == width * denoising.num_group and all(
        np.array_equal(slots, (starts + np.arange(len(own))).ravel())
        for slots, own in zip(denoising.pos_idx, denoising.gt_idx, strict=True)
    )


def _denoises_all(denoising: Denoising, case: LossCase) -> bool:
    own = (np.arange(case.targets)[case.of_image(image)] for image in range(case.images))
    return all(np.array_equal(np.sort(chosen), targets) for chosen, targets in zip(denoising.gt_idx, own, strict=True))
