"""Training steps to compute the loss of, and ways to compare two computations of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = {"focal": {}, "varifocal": {"use_vfl": True}, "bce": {"use_fl": False}}


@dataclass(frozen=True, eq=False)
class Step:
    """What one call of the loss gets; predictions are leaves that require a gradient."""

    predictions: list[Tensor]
    batch: dict
    dn_meta: dict | None

    def __call__(self, loss: Callable) -> dict[str, Tensor]:
        boxes, scores, *denoising = self.predictions
        return loss((boxes, scores), self.batch, *denoising, dn_meta=self.dn_meta)

    def with_predictions(self, change: Callable[[Tensor], Tensor]) -> Step:
        """The same step with other predictions, which are leaves again."""
        changed = [change(each.detach()).requires_grad_() for each in self.predictions]
        return Step(changed, self.batch, self.dn_meta)

    def gradients(self, loss: Callable) -> list[Tensor]:
        """Of the sum of all losses, by each prediction."""
        return self.outcome(loss)[1]

    def outcome(self, loss: Callable) -> tuple[dict[str, Tensor], list[Tensor]]:
        """All losses, and the gradient of their sum with respect to each prediction."""
        losses = self(loss)
        return losses, torch.autograd.grad(sum(losses.values()), self.predictions)


def step(
    counts: tuple[int, ...] = (3, 0, 2),
    *,
    layers: int = 3,
    queries: int = 6,
    classes: int = 4,
    groups: int = 2,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Step:
    """Random predictions and targets, always the same; without groups there are no denoising queries."""
    generator = torch.Generator().manual_seed(0)
    images, targets, width = len(counts), sum(counts), 2 * max(counts)

    def boxes(*shape: int) -> Tensor:
        return torch.rand(*shape, 4, generator=generator, dtype=torch.float64) * 0.4 + 0.2

    def logits(*shape: int) -> Tensor:
        return torch.randn(*shape, classes, generator=generator, dtype=torch.float64) * 3

    batch = {
        "cls": torch.randint(classes, (targets,), generator=generator).to(device),
        "bboxes": boxes(targets).to(device, torch.promote_types(dtype, torch.float32)),
        "gt_groups": list(counts),
    }
    shapes = [(layers, images, queries)] + ([(layers - 1, images, width * groups)] if groups else [])
    predictions = [make(*shape) for shape in shapes for make in (boxes, logits)]
    leaves = [each.to(device, dtype).requires_grad_() for each in predictions]
    starts = width * torch.arange(groups)[:, None]
    slots = [(starts + torch.arange(count)).flatten().to(device) for count in counts]
    meta = {"dn_pos_idx": slots, "dn_num_group": groups} if groups else None
    return Step(leaves, batch, meta)


def assert_same(got: Step, loss: Callable, expected: Step, other: Callable, tolerance: float) -> None:
    """Two computations agree in every loss and every gradient, relative to the largest entry."""
    __tracebackhide__ = True
    (ours, our_gradients), (theirs, their_gradients) = got.outcome(loss), expected.outcome(other)
    assert list(ours) == list(theirs)
    pairs = [(ours[key], theirs[key], key) for key in ours]
    pairs += [(a, b, "a gradient") for a, b in zip(our_gradients, their_gradients, strict=True)]
    for a, b, name in pairs:
        apart = (a.detach().cpu().double() - b.detach().cpu().double()).abs().max()
        assert apart <= tolerance * max(1e-3, float(b.detach().abs().max())), f"{name}: {apart}"
