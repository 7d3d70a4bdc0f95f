"""The plain loss with labels and scores in memory that one loss object keeps and uses again in every call."""

from __future__ import annotations

import torch

from .plain_loss import PlainLoss


class ReusedBuffers(PlainLoss):
    """The layers of a call have buffers of their own: the backward pass needs them all. Threads must not share it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.buffers, self.used = [], 0

    def __call__(self, *arguments, **named):
        self.used = 0
        return super().__call__(*arguments, **named)

    def zeros(self, logits):
        """The next buffer, filled with zeros, and made larger or of another dtype where it has to be."""
        if self.used == len(self.buffers):
            self.buffers.append(logits.new_empty(0))
        kept = self.buffers[self.used]
        if kept.numel() < logits.numel() or kept.dtype != logits.dtype:
            with torch.inference_mode(False):  # what is made in inference mode cannot be written into in training
                kept = self.buffers[self.used] = torch.empty(logits.numel(), dtype=logits.dtype)
        self.used += 1
        return kept[: logits.numel()].zero_().view(logits.shape)
