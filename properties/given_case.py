"""What a case that a user brings asks of a port, and what a profile says about it."""

from __future__ import annotations

import numpy as np

from detr_conformance.properties.case import Denoising, LossCase, MatcherConfig
from detr_conformance.properties.profiles import FREE_LAYERS, NO_AREA, NON_FINITE, Profile


def needs_of(case: LossCase) -> frozenset[str]:
    """Capabilities and dtypes that a port must declare to be given this case."""
    config, denoising = case.config, case.denoising
    optional = {
        "uni_match": config.use_uni_match,
        "no_aux": not config.aux_loss,
        "denoising": denoising is not None,
        "denoising_subset": denoising is not None and not _denoises_all(denoising, case),
        "matcher_options": case.matcher != MatcherConfig(),
    }
    return frozenset({case.dtype, config.classification} | {name for name, needed in optional.items() if needed})


def left_open(case: LossCase, profile: Profile) -> list[str]:
    """What the case has for which the profile defines nothing."""
    arrays = case.float_arrays()
    boxes = [array for name, array in arrays.items() if name.endswith("bboxes")]
    layers = case.layers if case.denoising is None else len(case.denoising.bboxes) + 1
    found = {
        NON_FINITE: not all(np.isfinite(array).all() for array in arrays.values()),
        NO_AREA: any((array[..., 2:] <= 0).any() for array in boxes),
        FREE_LAYERS: case.layers < 2 or layers != case.layers,
    }
    return [what for what, present in found.items() if present and what in profile.left_open]


def _denoises_all(denoising: Denoising, case: LossCase) -> bool:
    own = (np.arange(case.targets)[case.of_image(image)] for image in range(case.images))
    return all(np.array_equal(np.sort(chosen), targets) for chosen, targets in zip(denoising.gt_idx, own, strict=True))
