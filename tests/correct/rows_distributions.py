"""Losses of distributions, all sides of all layers in one table of rows, with their derivatives worked out by hand."""

from __future__ import annotations

import math

import torch

SPAN, STEPS = 2.0, 16
"""Bins reach from -1 to 1; between the second outermost lie 2 (STEPS - 1) steps, each 3^(1/15) times the one before."""
GROWTH = math.log(3.0) / (STEPS - 1)


class Localised(torch.autograd.Function):
    """Cross-entropy of rows of logits with targets between bins: logsumexp(x) - sum of share x."""

    @staticmethod
    def forward(ctx, logits, shares):
        most = logits.amax(-1, keepdim=True)
        powers = (logits - most).exp()
        total = powers.sum(-1, keepdim=True)
        ctx.slope = powers / total - shares
        return total.log().squeeze(-1) - (shares * (logits - most)).sum(-1)

    @staticmethod
    def backward(ctx, of_rows):
        return of_rows[:, None] * ctx.slope, None


class Diverged(torch.autograd.Function):
    """T^2 KL of rows of logits from others, for T = 5: by x the slope is 5 (p - q)."""

    @staticmethod
    def forward(ctx, logits, taught):
        log_p, log_q = ((each / 5).log_softmax(-1) for each in (logits, taught))
        p, q = log_p.exp(), log_q.exp()
        ctx.slope = 5 * (p - q)
        return 25 * (q * (log_q - log_p)).sum(-1)

    @staticmethod
    def backward(ctx, of_rows):
        return of_rows[:, None] * ctx.slope, None


def bin_edges(like):
    """0, then outwards by growing steps, then twice as far as the last of them."""
    outward = torch.expm1(GROWTH * torch.arange(STEPS, dtype=torch.float64)) / 4
    outward = torch.cat([outward, outward[-1:] * 2])
    return torch.cat([-outward[1:].flip(0), outward]).to(like.dtype)


def shares_of(targets, references, bins):
    """Of each bin in the offset of each side: a tent around the bin, level beyond both ends."""
    middle = (targets[..., :2] - references[..., :2]) / references[..., 2:]
    growth = (targets[..., 2:] - references[..., 2:]) / references[..., 2:] / 2
    offset = torch.cat([growth - middle, growth + middle], dim=-1).clamp(bins[0], bins[-1])[..., None]
    widths = bins.diff()
    before = torch.cat([widths[:1], widths])
    after = torch.cat([widths, widths[-1:]])
    away = offset - bins
    return (1 - torch.where(away < 0, -away / before, away / after)).clamp(min=0)


def localised(logits, targets, references, ious):
    """FGL of each pair."""
    shares = shares_of(targets, references, bin_edges(logits))
    rows = Localised.apply(logits.flatten(0, 1), shares.flatten(0, 1).detach())
    return ious * rows.unflatten(0, (-1, 4)).sum(-1)


def distilled(logits, weights, is_matched, counts):
    """DDF of each layer: every row by what one query of its kind counts, learning from the last layer."""
    layers, sides = len(logits), logits.shape[-2]
    taught = logits[-1:].detach().expand_as(logits)
    rows = Diverged.apply(logits.flatten(0, -2), taught.flatten(0, -2)).view(*logits.shape[:-1]).sum(-1)
    roots = [math.sqrt(number) for number in counts]
    numbers = [each.flatten(1).to(weights.dtype).sum(1).clamp(min=1) for each in (is_matched, ~is_matched)]
    of_matched, of_other = (root / sum(roots) / (sides * own) for root, own in zip(roots, numbers, strict=True))
    each = torch.where(is_matched, of_matched.view(-1, 1, 1), of_other.view(-1, 1, 1))
    return (each * weights * rows).view(layers, -1).sum(-1)
