"""The contenders: each takes a workload's tensors and gives its losses and their gradients.

Peers are called through their public functions; what they need in a form of their own is made before the clock starts.
A peer that is not installed is absent.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import own_forms
import torch
from settings import GAINS, NO_DENOISING, SETTINGS, VARIFOCAL, Gradients, Losses, Setting, Step, installed
from stand_ins import standing_in_for
from workloads import Inputs

# Float32 sums over up to some 10^8 terms, taken in another order. A wrong target or a wrong factor is far above.
LOSS_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-4  # of the norm of the gradient with respect to all predictions


@dataclass(frozen=True)
class Contender:
    """One implementation; `prepare` raises ImportError where it is not installed."""

    name: str
    settings: tuple[Setting, ...]
    differs: str  # what it computes differently, or what its timed part holds besides
    prepare: Callable[[Inputs, Setting], Step]


def steps_of(inputs: Inputs, setting: Setting) -> tuple[dict[str, Step], dict[str, str]]:
    """The contenders for a setting, the one to compare with first; and for the absent ones the reason."""
    suited = [each for each in CONTENDERS if setting in each.settings]
    return installed({each.name: partial(each.prepare, inputs, setting) for each in suited})


def check(steps: dict[str, Step]) -> None:
    """Every contender gives the first one's losses and gradients, as far as they are the same by design.

    Raises:
        AssertionError: one does not.
    """
    (first, *others) = steps
    losses, gradients = steps[first]()
    for name in others:
        step = steps[name]
        if step.canonical is not None:
            its_losses, its_gradients = step()
            check_losses(f"{name} and {first}", step.canonical(its_losses), losses)
            if step.same_gradients:
                check_gradients(f"{name} and {first}", its_gradients, gradients)


def check_same(names: str, some: tuple[Losses, Gradients], others: tuple[Losses, Gradients]) -> None:
    """Two steps of the same contender: the same losses and gradients."""
    check_losses(names, some[0], others[0])
    check_gradients(names, some[1], others[1])


def check_losses(names: str, some: Losses, others: Losses) -> None:
    """The same keys, and values that differ by rounding; a key may be missing where the other's loss is zero."""
    for key in sorted(some.keys() | others.keys()):
        a, b = (float(losses[key].detach()) if key in losses else 0.0 for losses in (some, others))
        assert abs(a - b) <= LOSS_TOLERANCE * max(abs(a), abs(b)), f"{names} disagree in {key}: {a} and {b}"


def check_gradients(names: str, some: Gradients, others: Gradients) -> None:
    """The same gradients but for rounding."""
    for index, (a, b) in enumerate(zip(some, others, strict=True)):
        off, scale = float((a - b).norm()), float(b.norm())
        assert off <= GRADIENT_TOLERANCE * scale, f"{names} disagree in gradient {index}: {off} of {scale}"


def as_a_new_batch() -> None:
    """Forget what `optimized` keeps of a batch from one call to the next: in training the next batch is another."""
    from detr_conformance.optimized import upload

    upload._sent.cache_clear()  # no public function does it, and no user needs one


def from_nothing(step: Callable[[], object]) -> Callable[[], object]:
    """The step with what `optimized` keeps on the CPU for the next one counted in: it has kept nothing so far."""
    from detr_conformance.optimized.backends.torch import scratch

    kept = []

    def run() -> object:
        kept.append(scratch._kept)  # else its release would be counted as well
        scratch._kept = scratch._Kept()
        return step()

    return run


def optimized(inputs: Inputs, setting: Setting) -> Step:
    from detr_conformance.optimized import RTDETRDetectionLoss

    return _drop_in(RTDETRDetectionLoss, inputs, setting)


def _plain_torch(inputs: Inputs, setting: Setting) -> Step:
    from detr_conformance.optimized import RTDETRDetectionLoss

    return _drop_in(partial(RTDETRDetectionLoss, backend="torch"), inputs, setting)


def _ultralytics(inputs: Inputs, setting: Setting) -> Step:
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())  # it writes its settings at import
    with standing_in_for("cv2"):  # imported by its parts that read images
        from ultralytics.models.utils.loss import RTDETRDetectionLoss

    return _drop_in(RTDETRDetectionLoss, inputs, setting)


def _drop_in(loss_class: Callable[..., torch.nn.Module], inputs: Inputs, setting: Setting) -> Step:
    """A class with Ultralytics' signature."""
    options = {"use_vfl": setting.use_vfl, "alpha": setting.alpha, "gamma": setting.gamma, "loss_gain": GAINS}
    loss = loss_class(nc=inputs.workload.classes, **options)
    predictions = (inputs.ordinary("boxes"), inputs.ordinary("logits"))
    if not setting.denoising:
        return Step(lambda: loss(predictions, inputs.batch), predictions, dict, same_gradients=True)
    noised = {"dn_bboxes": inputs.noised("boxes"), "dn_scores": inputs.noised("logits")}

    def forward() -> Losses:
        return loss(predictions, inputs.batch, **noised, dn_meta=inputs.dn_meta)

    return Step(forward, (*predictions, *noised.values()), dict, same_gradients=True)


CONTENDERS = (
    Contender("optimized", SETTINGS, "", optimized),
    Contender("optimized, plain torch", SETTINGS, "without numba on the CPU, without Triton on CUDA", _plain_torch),
    Contender("ultralytics", SETTINGS, "", _ultralytics),
    Contender(
        "transformers",
        (VARIFOCAL,),
        "no gradient through the varifocal weight; nothing added to areas; IoU of all pairs of matched boxes, of which "
        "it uses the diagonal; its time includes building the criterion and splitting off the denoising queries",
        own_forms.transformers,
    ),
    Contender(
        "optimized, for transformers",
        (VARIFOCAL,),
        "the same as transformers, but the IoU of pairs alone; the gradients of both hold a copy, by which denoising "
        "queries are split off",
        own_forms.optimized_for_transformers,
    ),
    Contender("rfdetr", (NO_DENOISING,), "counts the wrong classes besides; no denoising", own_forms.rfdetr),
    Contender(
        "rfdetr, its default",
        (NO_DENOISING,),
        "another classification loss (IA-BCE), so its values are not compared; not compiled",
        own_forms.rfdetr_default,
    ),
)
