"""What a case that a user brings asks of a port, and what a spec says about it."""

from __future__ import annotations

import numpy as np

from detr_conformance.properties.case import Denoising, LossCase
from detr_conformance.properties.port import OPTIONS, options_of
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import has_masks_at_points
from detr_conformance.reference import LossSpec
from detr_conformance.reference.base_spec import NO_ALPHA, NO_AREA, NON_FINITE

ASKED = {
    "uni_match": "use_uni_match",
    "no_aux": "aux_loss off",
    "denoising": "denoising queries",
    "denoising_subset": "targets that are not denoised",
}
"""What a case has that asks for a capability, where a spec may leave that undefined."""


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
    """Why a port cannot be judged on this case: what its spec leaves open, or what it does not declare; or empty."""
    unknown = undefined(case, judged.spec)
    if unknown:
        return f"the case has {' and '.join(unknown)}, which the profile {judged.spec.name} leaves open"
    lacking = needs_of(case) - judged.capabilities - judged.port.dtypes
    if lacking:
        return f"the case needs {', '.join(sorted(lacking))}, which is not declared"
    asked = {name: getattr(case.config, name) for name in OPTIONS}
    refused = {name: value for name, value in asked.items() if not judged.may_be_asked(**{name: value})}
    taken = {name: " or ".join(map(str, options_of(judged.port)[name])) for name in refused}
    told = [f"{name} {value}, and the port's options allow only {taken[name]}" for name, value in refused.items()]
    return f"the case asks for {'; for '.join(told)}" if told else ""


def undefined(case: LossCase, spec: LossSpec) -> list[str]:
    """What the case has for which the spec defines nothing."""
    return [*_special(case, spec), *_options(case, spec), *_shapes(case, spec)]


def _special(case: LossCase, spec: LossSpec) -> list[str]:
    """Numbers, and what asks for a capability."""
    arrays = case.float_arrays()
    boxes = [array for name, array in arrays.items() if name.endswith("bboxes")]
    found = {
        NON_FINITE: not all(np.isfinite(array).all() for array in arrays.values()),
        NO_AREA: any((array[..., 2:] <= 0).any() for array in boxes),
        NO_ALPHA: case.config.alpha == 0.0,
    }
    unknown = [what for what, present in found.items() if present and what in spec.undefined]
    asked = needs_of(case)
    return unknown + [what for name, what in ASKED.items() if name in asked and name in spec.undefined]


def _options(case: LossCase, spec: LossSpec) -> list[str]:
    """A classification loss that the spec does not have, or a gamma that it does not take."""
    config = spec.options(case.config)
    term = spec.class_terms.get(config.classification)
    if term is None:
        return [f"the {config.classification} loss"]
    return [] if config.gamma > 0.0 or term.any_gamma else [f"gamma {config.gamma} in the {config.classification} loss"]


def _shapes(case: LossCase, spec: LossSpec) -> list[str]:
    """Numbers of columns, layers and slots."""
    plan, unknown = spec.layers, []
    if case.columns != spec.columns(case.config.nc):
        unknown.append(f"logits of {case.columns} columns for {case.config.nc} classes")
    if case.layers < plan.least:
        unknown.append(f"fewer than {plan.least} layers")
    if case.masks is not None and case.masks.loss_points is None and has_masks_at_points(spec):
        unknown.append("masks without points")
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
