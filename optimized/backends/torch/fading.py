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
        scaled: `multiple(gamma)` times f(x): gamma f(x), as the derivative needs it, for the usual gamma.
    """

    p: Float[Tensor, "*block"]
    power: Float[Tensor, "*block"]
    scaled: Float[Tensor, "*block"]

    @classmethod
    def like(cls, x: Float[Tensor, "*block"]) -> Fading:
        """Memory for a block of the shape and dtype of `x`."""
        return cls(*(torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in cls._fields))

    def compute(
        self,
        x: Float[Tensor, "*block"],
        gamma: float,
        weight: float,
        grad: Float[Tensor, "*block"] | None = None,
        left_out: Int64[Tensor, " matched"] | None = None,
        *,
        is_weight_live: bool = True,
    ) -> None:
        """Compute terms and derivative.

            f(x) = weight p^gamma softplus(x)
            f'(x) = (1 - p) gamma f(x) + p weight p^gamma    where the weight is live
                  = p weight p^gamma                         where it is a constant

        Args:
            x: logits, in the dtype of the arithmetic.
            gamma: exponent, >= 0.
            weight: factor.
            grad: where the derivative goes; None: it is not wanted.
            left_out: positions in the flattened block where term and derivative shall be 0; None: there are none.
            is_weight_live: whether the derivative is that of weight p^gamma, too.
        """
        torch.sigmoid(x, out=self.p)
        # A product of three is one pass instead of two, if it is added to something.
        zero = torch.zeros((), dtype=x.dtype, device=x.device)
        torch.addcmul(zero, *_factors(self.p, gamma, self.power), value=weight, out=self.power)
        if left_out is not None:
            self.power.view(-1).index_fill_(0, left_out, 0.0)
        self._log_rest(x)
        torch.addcmul(zero, self.scaled, self.power, value=-multiple(gamma), out=self.scaled)
        if grad is not None:
            self._derive(gamma if is_weight_live else 0.0, grad)

    def terms(self, gamma: float) -> Float[Tensor, "*block"]:
        """f(x)."""
        return self.scaled / multiple(gamma)

    def _derive(self, gamma: float, grad: Float[Tensor, "*block"]) -> None:
        """f'(x)."""
        if gamma == 0:
            torch.mul(self.power, self.p, out=grad)
        elif gamma == multiple(gamma):
            torch.lerp(self.scaled, self.power, self.p, out=grad)
        else:
            torch.mul(self.scaled, gamma, out=grad).lerp_(self.power, self.p)

    def _log_rest(self, x: Float[Tensor, "*block"]) -> None:
        """Compute log(1 - p) = -softplus(x), the first form in half the time where no p is near 1."""
        if x.numel() and float(self.p.amax()) <= UNSURE_ABOVE:
            torch.neg(self.p, out=self.scaled).log1p_()
        else:  # `F.softplus` has no `out`
            torch.ops.aten.softplus.out(x, 1.0, LINEAR_ABOVE, out=self.scaled).neg_()


def multiple(gamma: float) -> float:
    """Of f(x) in `scaled`; gamma, unless f(x) times it could lose its digits or leave the range."""
    return gamma if 2.0**-10 <= gamma <= 2.0**10 else 1.0


def _factors(
    p: Float[Tensor, "*block"], gamma: float, out: Float[Tensor, "*block"]
) -> tuple[Float[Tensor, "*block"], Float[Tensor, "*#block"]]:
    """Two factors of p^gamma; `pow` takes several times as long as what the usual exponents need.

    But `pow` for a root, not `sqrt`: torch leaves that to a library that is slower on some processors.
    """
    if gamma == 1.5:
        return torch.pow(p, 0.5, out=out), p
    if gamma == 2:
        return p, p
    return torch.pow(p, gamma, out=out), torch.ones((), dtype=p.dtype, device=p.device)
