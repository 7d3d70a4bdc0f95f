"""The path of CUDA without a device: tensors without numbers, and kernels that do nothing."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from detr_conformance.optimized import detr_loss, matcher, pairing, targets, upload
from detr_conformance.optimized.backends import by_costs
from detr_conformance.optimized.backends.choice import triton_backend
from detr_conformance.optimized.backends.triton import assignment, box_gradients, classification, costs, pairs, totals

from .steps import Step, step

META = torch.device("meta")
KERNELS = {"_solve": assignment, "_classify": classification, "_scale": classification}
KERNELS |= {"_costs": costs, "_match_up": pairs, "_total": totals, "_place": box_gradients}


class NoKernel:
    """In the place of a kernel: it can be launched, which is noted, and does nothing."""

    def __init__(self, name, launched):
        self.name, self.launched = name, launched

    def __getitem__(self, grid):
        return self.launch

    def launch(self, *_, **__):
        """Only note it."""
        self.launched.append(self.name)


def not_sent():
    """In the place of `on_device`: from pinned memory nobody waits, and a tensor without numbers needs none."""
    kept = {}

    def on_device(make, *arguments, device):
        if (make, arguments) not in kept:
            kept[make, arguments] = torch.empty_like(make(*arguments), device=device)
        return kept[make, arguments]

    return on_device


def on_the_host_only(monkeypatch):
    """What is done on CUDA is done for tensors without numbers, except by the kernels: a fixture.

    Returns:
        The names of the kernels, in the order in which they are launched.
    """
    launched = []
    for kernel, module in KERNELS.items():
        monkeypatch.setattr(module, kernel, NoKernel(kernel, launched))
    sent = not_sent()
    for module in (by_costs, pairing, targets, upload):
        monkeypatch.setattr(module, "on_device", sent)
    for module in (matcher, detr_loss):
        monkeypatch.setattr(module, "backend_for", lambda device, _: triton_backend(device))
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    return launched


def without_numbers(**shape):
    """A step on the device of no numbers."""
    example = step(**shape)
    batch = example.batch | {key: example.batch[key].to(META) for key in ("cls", "bboxes")}
    leaves = [each.detach().to(META).requires_grad_() for each in example.predictions]
    if example.dn_meta is None:
        return Step(leaves, batch, None)
    return Step(
        leaves, batch, example.dn_meta | {"dn_pos_idx": [row.to(META) for row in example.dn_meta["dn_pos_idx"]]}
    )
