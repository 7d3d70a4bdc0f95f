"""DN: whose random numbers a generator of denoising queries draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.questions import makes_many_groups
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.dn_generator import NEEDS, REQUEST
from detr_conformance.properties.rules.generated import generate

POSITIVES = 64
"""So many labels that with another seed all of them are the same with a probability below `FALSE_ALARM`.

Two labels agree with a probability of at most 5/8: with two classes and cls_noise_ratio 1 a quarter of them changes.
An image with four targets has 61 positives at least, and as many negatives: (5/8)**122 is below 1e-24.
"""


@rule(
    "DN-25",
    source="reproducible training: a run is repeated by its seed",
    request=replace(REQUEST, classes=(2, 5), targets=(1, 4)),
    needs=NEEDS,
    among=makes_many_groups,
)
def the_seed_decides(port: PortUnderTest, case: LossCase) -> None:
    """Asked again with the same seed, a generator makes the same denoising queries of the same targets, also after a
    call with another seed, which makes others: no randomness comes from where the caller cannot seed it."""
    first, other, again = (
        _made_of(generate(port, _noisy(case, case.generator.seed + more)).group) for more in (0, 1, 0)
    )
    for name, array in first.items():
        assert np.array_equal(array, again[name]), (
            f"{name} of two calls with the seed {case.generator.seed} differ, first at {_first(array != again[name])}"
        )
    for name in ("labels", "boxes"):
        assert not np.array_equal(first[name], other[name]), (
            f"{name} are the same with the seeds {case.generator.seed} and {case.generator.seed + 1}"
        )


def _noisy(case: LossCase, seed: int) -> LossCase:
    """The case with noise on labels and boxes."""
    return case.change(
        generator=replace(case.generator, cls_noise_ratio=1.0, box_noise_scale=1.0, num_dn=POSITIVES, seed=seed)
    )


def _made_of(group: DenoisingGroup) -> dict[str, np.ndarray]:
    """Everything in the group that may depend on random numbers, by its name; of every group the same shapes."""
    named = () if group.gt_idx is None else group.gt_idx
    targets = np.concatenate([np.zeros(0, dtype=np.int64), *map(np.asarray, named)])
    return {"labels": group.labels, "boxes": group.boxes, "dn_gt_idx": targets}


def _first(different: np.ndarray) -> list[int]:
    return [int(axis) for axis in np.argwhere(different)[0]]
