"""Classification losses of rows of logits in closed form: values and slopes, without one-hot labels.

Every function takes the logits of all rows, the row, column and IoU of every match, and the options; it returns one
value for each row, and the derivative with respect to each logit. A sigmoid is the exponential of its logarithm
throughout.
"""

from __future__ import annotations

import torch


def minus_log_sigmoid(x):
    """log(1 + exp(-x))."""
    return torch.logaddexp(-x, torch.zeros_like(x))


def sigmoid_power(x, exponent):
    """sigmoid(x)^exponent."""
    return (-exponent * minus_log_sigmoid(x)).exp()


class RowLosses(torch.autograd.Function):
    """A loss of this file, differentiated by its own slopes."""

    @staticmethod
    def forward(ctx, logits, loss, *others):
        values, ctx.slopes = loss(logits, *others)
        return values

    @staticmethod
    def backward(ctx, of_rows):
        return of_rows[:, None] * ctx.slopes, None, None, None, None


def put_together(background, matched, place):
    """Values and slopes of matches in the places of those that they would have as background."""
    values, slopes = (every.index_put(place, own) for every, own in zip(background, matched, strict=True))
    return values.sum(dim=1), slopes


def faded(x, gamma, weight=1.0):
    """weight p^gamma (-log(1 - p)), with the derivative through the weight."""
    fade, entropy = weight * sigmoid_power(x, gamma), minus_log_sigmoid(-x)
    return fade * entropy, fade * (gamma * sigmoid_power(-x, 1) * entropy + sigmoid_power(x, 1))


def faded_as_a_constant(x, gamma, weight=1.0):
    """The same without it."""
    fade = weight * sigmoid_power(x, gamma)
    return fade * minus_log_sigmoid(-x), fade * sigmoid_power(x, 1)


def towards(x, target, weight=1.0):
    """weight times the cross-entropy against a target from 0 to 1; both are constants."""
    entropy = target * minus_log_sigmoid(x) + (1 - target) * minus_log_sigmoid(-x)
    slope = (1 - target) * sigmoid_power(x, 1) - target * sigmoid_power(-x, 1)
    return weight * entropy, weight * slope


def focal(x, place, _iou, options):
    """The background fades with p, a match with 1 - p: its logit read from the other side."""
    right, wrong = (options.alpha, 1 - options.alpha) if options.alpha > 0 else (1.0, 1.0)
    value, slope = faded(-x[place], options.gamma, right)
    return put_together(faded(x, options.gamma, wrong), (value, -slope), place)


def varifocal(x, place, iou, options):
    background = faded(x, options.gamma, options.alpha)
    return put_together(background, towards(x[place], iou, iou), place)


def constant_varifocal(x, place, iou, options):
    background = faded_as_a_constant(x, options.gamma, options.alpha)
    return put_together(background, towards(x[place], iou, iou), place)


def matchability_aware(x, place, iou, options):
    return put_together(faded_as_a_constant(x, options.gamma), towards(x[place], iou**options.gamma), place)


def iou_aware(x, place, iou, options):
    score = sigmoid_power(x[place], options.alpha) * iou ** (1 - options.alpha)
    return put_together(faded(x, options.gamma), towards(x[place], torch.clamp(score, min=0.01)), place)


def softmax(x, place, _iou, _options):
    """-log softmax of one column of every row, the last one's a tenth."""
    rows, columns = place
    column, weight = torch.full_like(x[:, 0], x.shape[1] - 1, dtype=torch.long), torch.full_like(x[:, 0], 0.1)
    column[rows], weight[rows] = columns, 1.0
    every = torch.arange(len(x))
    log_total = torch.logsumexp(x, dim=1)
    slopes = (x - log_total[:, None]).exp()
    slopes[every, column] = torch.expm1(x[every, column] - log_total)
    return weight * (log_total - x[every, column]), weight[:, None] * slopes
