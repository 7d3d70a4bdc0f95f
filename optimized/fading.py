"""The term that almost every logit contributes: cross-entropy against 0 that fades out where p is small."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

LINEAR_ABOVE = 40.0
"""From here on softplus(x) is x, in float64 too."""

UNSURE_ABOVE = 0.98
"""From this p on, the rounding of p would cost -log(1 - p) more than six roundings of its own."""


class Fading(NamedTuple):
    """The terms of one block, and the memory that it takes to compute them.

    Attributes:
        p: sigmoid(x).
        power: weight p^gamma.
        negative: -f(x). The logarithm that it starts from is negative, and a pass to turn all signs would take time.
    """

    p: Float[Tensor, "*block"]
    power: Float[Tensor, "*block"]
    negative: Float[Tensor, "*block"]

    @classmethod
    def like(cls, x: Float[Tensor, "*block"]) -> Fading:
        """Memory for a block of the shape and dtype of `x`."""
        return cls(*(torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in cls._fields))

    def compute(
        self,
        x: Float[Tensor, "*block"],
        gamma: float,
        weight: float,
        slope: Float[Tensor, "*block"] | None = None,
        left_out: Int64[Tensor, " matched"] | None = None,
    ) -> None:
        """Compute terms and derivative.

            f(x) = weight p^gamma softplus(x)
            f'(x) = (1 - p) gamma f(x) + p weight p^gamma

        Args:
            x: logits, in the dtype of the arithmetic.
            gamma: exponent, >= 0.
            weight: factor.
            slope: where the derivative goes; None: it is not wanted.
            left_out: positions in the flattened block where term and derivative shall be 0; None: there are none.
        """
        torch.sigmoid(x, out=self.p)
        _power(self.p, gamma, out=self.power).mul_(weight)
        if left_out is not None:
            self.power.view(-1).index_fill_(0, left_out, 0.0)
        self._log_rest(x)
        self.negative.mul_(self.power)
        if slope is not None:
            torch.mul(self.negative, -gamma, out=slope)
            torch.lerp(slope, self.power, self.p, out=slope)

    def _log_rest(self, x: Float[Tensor, "*block"]) -> None:
        """Compute log(1 - p) = -softplus(x), the first form in half the time where no p is near 1."""
        if x.numel() and bool(self.p.amax() <= UNSURE_ABOVE):
            torch.neg(self.p, out=self.negative).log1p_()
        else:  # `F.softplus` has no `out`
            torch.ops.aten.softplus.out(x, 1.0, LINEAR_ABOVE, out=self.negative).neg_()


def _power(p: Float[Tensor, "*block"], gamma: float, out: Float[Tensor, "*block"]) -> Float[Tensor, "*block"]:
    """p^gamma; `pow` takes several times as long as what the usual exponents need."""
    if gamma == 0:
        return out.fill_(1)
    if gamma == 1.5:
        return torch.sqrt(p, out=out).mul_(p)
    if gamma == 2:
        return torch.mul(p, p, out=out)
    return torch.pow(p, gamma, out=out)
