"""The plain loss with other orders of summation."""

from __future__ import annotations

import math

import torch

from .plain_loss import PlainLoss


class Reversed(PlainLoss):
    """One after the other, the last term first, and so are the layers."""

    def total(self, terms):
        flat = terms.flatten().flip(0)
        return torch.cat([flat.new_zeros(1), flat]).cumsum(0)[-1]

    def over_layers(self, losses, boxes):
        return sum(reversed(losses), start=self.nothing(boxes))


class Atomic(PlainLoss):
    """One after the other in a random order, another one in every call, as threads of a GPU add to one address."""

    def __init__(self, **options):
        super().__init__(**options)
        self.generator = torch.Generator()
        self.generator.seed()

    def total(self, terms):
        flat = terms.flatten()
        order = torch.randperm(len(flat), generator=self.generator)
        return torch.cat([flat.new_zeros(1), flat[order]]).cumsum(0)[-1]


class ExactSum(torch.autograd.Function):
    """The sum of all terms, rounded once."""

    @staticmethod
    def forward(ctx, terms):
        ctx.shape = terms.shape
        return terms.new_tensor(math.fsum(terms.flatten().tolist()))

    @staticmethod
    def backward(ctx, slope):
        return slope.expand(ctx.shape)


class Exact(PlainLoss):
    """Without any error of summation."""

    def total(self, terms):
        return ExactSum.apply(terms)
