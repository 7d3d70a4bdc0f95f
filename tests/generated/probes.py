"""Cases on which a mutant that does not differ answers as the original: small ones, and steps as they are trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import Denoising, GeneratorConfig, LossCase, LossConfig, MatcherConfig
from detr_conformance.properties.tolerance import rounded

GAINS = {"class": 1.5, "bbox": 4.0, "giou": 2.5}
ORDINARY = "an ordinary step"
"""A step as it is trained, only smaller: a mutant that raises on it is found by whoever tries it."""


def probes() -> Iterator[tuple[str, LossCase]]:
    """Each with a name, those first that show most."""
    yield ORDINARY, step()
    yield from _options()
    yield from _sizes()
    yield from _numbers()
    yield from _generators()
    for dtype in ("float32", "float16", "bfloat16"):
        yield dtype, step(dtype=dtype)
        yield f"{dtype}, varifocal", step(dtype=dtype).change(use_vfl=True)
    yield "a step that is trained", trained_step()
    yield "a varifocal step that is trained", trained_step().change(use_vfl=True, alpha=0.75, gamma=2.0)


def _options() -> Iterator[tuple[str, LossCase]]:
    """How a loss and a matcher can be built."""
    case = step(layers=4)
    for name, options in {
        "the varifocal loss": {"use_vfl": True, "gamma": 2.0, "alpha": 0.75},
        "cross-entropy": {"use_fl": False},
        "gains": {"loss_gain": GAINS, "alpha": 0.6, "gamma": 0.5},
        "neither alpha nor gamma": {"alpha": 0.0, "gamma": 0.0},
        "a varifocal gamma of 0": {"use_vfl": True, "alpha": 0.5, "gamma": 0.0},
        "a negative alpha": {"alpha": -1.0},
        "layers share a matching": {"use_uni_match": True, "uni_match_ind": 1},
        "layers share the first matching": {"use_uni_match": True},
        "layers could share a matching": {"uni_match_ind": 1},
        "no auxiliary losses": {"aux_loss": False},
    }.items():
        yield name, case.change(**options)
    yield "another matcher", replace(case, matcher=MatcherConfig(GAINS, True, 0.4, 1.5))
    yield "softmax costs", replace(case, matcher=MatcherConfig(GAINS, False))


def _sizes() -> Iterator[tuple[str, LossCase]]:
    """How many there are of everything."""
    yield "one layer", step(layers=1).change(use_uni_match=True)
    yield "one class", step(classes=1)
    yield "more targets than queries", step(queries=3, counts=(0, 5, 2))
    yield "an image without targets last", step(counts=(3, 1, 0), groups=1)
    yield "one image", step(counts=(4,), groups=3)
    yield "a denoising group of some targets", step(skipped=1)
    empty = step(counts=(0, 0), groups=0)
    yield "no targets", empty
    yield "no targets, varifocal", empty.change(use_vfl=True)
    yield "no targets, cross-entropy", empty.change(use_fl=False)


def _numbers() -> Iterator[tuple[str, LossCase]]:
    """Boxes and logits that are hard to compute with."""
    case = step()
    yield "boxes without area", replace(case, pred_bboxes=_without_area(case.pred_bboxes))
    yield "perfect predictions", _perfect(step(queries=3, counts=(3, 0), layers=1))
    yield "saturated logits", case.change(pred_scores=case.pred_scores * 100, gamma=0.5)
    yield "logits that are no numbers", replace(case, pred_scores=_with_nonsense(case.pred_scores))


def _generators() -> Iterator[tuple[str, LossCase]]:
    """What can be asked of a generator of denoising queries."""
    case = step()
    for name, options in {
        "one group": GeneratorConfig(num_dn=4),
        "more targets than num_dn": GeneratorConfig(num_dn=2),
        "one query for denoising": GeneratorConfig(num_dn=1),
        "much noise": GeneratorConfig(num_dn=30, cls_noise_ratio=2.0, box_noise_scale=2.0),
        "no noise on labels": GeneratorConfig(num_dn=12, cls_noise_ratio=0.0),
        "no noise on boxes": GeneratorConfig(num_dn=12, box_noise_scale=0.0),
        "outside training": GeneratorConfig(training=False),
        "no denoising": GeneratorConfig(num_dn=0),
    }.items():
        yield name, replace(case, generator=options)


def step(
    layers=3, queries=7, counts=(2, 0, 3), classes=4, groups=2, skipped=0, dtype="float64", num_dn=13, seed=0
) -> LossCase:
    """A training step with denoising queries, as many groups of them as are asked for."""
    rng = np.random.default_rng(seed)
    images, targets = len(counts), sum(counts)
    kept = dtype if dtype != "float64" else "float32"

    def predicted(slots):
        shape = (layers, images, slots)
        return boxes(rng, shape, kept), rounded(rng.normal(-1.0, 2.0, (*shape, classes)), kept)

    pred_bboxes, pred_scores = predicted(queries)
    return LossCase(
        LossConfig(nc=classes),
        pred_bboxes,
        pred_scores,
        rng.integers(classes, size=targets),
        boxes(rng, (targets,), kept),
        tuple(counts),
        dtype,
        _denoising(predicted, counts, groups, skipped) if groups else None,
        generator=GeneratorConfig(num_dn=num_dn),
    )


def boxes(rng, shape, dtype):
    """Some overlap, some do not."""
    return rounded(np.concatenate([rng.uniform(0.2, 0.8, (*shape, 2)), rng.uniform(0.05, 0.6, (*shape, 2))], -1), dtype)


def _denoising(predicted, counts, groups, skipped) -> Denoising:
    """Groups that reconstruct all targets of an image, or all but the first few."""
    width = max(counts)
    firsts = np.cumsum([0, *counts])
    chosen = [
        np.arange(first + min(skipped, count), first + count) for first, count in zip(firsts, counts, strict=False)
    ]
    starts = 2 * width * np.arange(groups)[:, None]
    slots = [(starts + np.arange(len(each))).ravel() for each in chosen]
    return Denoising(*predicted(2 * width * groups), tuple(slots), tuple(chosen), groups)


def trained_step() -> LossCase:
    """Seven layers (the encoder's among them), 300 queries, 80 classes, up to 50 targets in an image, some in none."""
    counts = (0, 50, 3, 1, 0, 17, 8, 2, 30, 0, 1, 12, 5, 0, 9, 4)
    return step(layers=7, queries=300, counts=counts, classes=80, groups=2, dtype="float32", num_dn=100)


def _without_area(predicted):
    """Boxes of no width, of no size, and turned inside out."""
    changed = predicted.copy()
    changed[:, :, ::3, 2] = 0.0
    changed[:, :, 1::3, 2:] = 0.0
    changed[:, :, 2::3, 3] *= -1.0
    return changed


def _perfect(case) -> LossCase:
    """Each query of the first image lies on a target."""
    pred_bboxes = case.pred_bboxes.copy()
    pred_bboxes[:, 0] = case.gt_bboxes[::-1]
    return replace(case, pred_bboxes=pred_bboxes)


def _with_nonsense(scores):
    """NaN in one query, and infinity in another."""
    changed = scores.copy()
    changed[:, 0, 1] = np.nan
    changed[:, 1, 2, 0] = np.inf
    return changed
