"""Costs of every query of every layer with every target, in logarithms; blocks of them solved one by one."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from .rows_boxes import giou_loss
from .rows_classes import faded, minus_log_sigmoid, sigmoid_power


def focal_cost(x, alpha=0.25, gamma=2.0, eps=1e-8):
    """With eps inside its logarithms."""
    log_eps = x.new_tensor(math.log(eps))
    of_match = alpha * sigmoid_power(-x, gamma) * torch.logaddexp(-minus_log_sigmoid(x), log_eps)
    of_background = (1 - alpha) * sigmoid_power(x, gamma) * torch.logaddexp(-minus_log_sigmoid(-x), log_eps)
    return of_background - of_match


def exact_focal_cost(x, alpha=0.25):
    """What the focal loss of gamma 2 grows by."""
    return faded(-x, 2.0, alpha)[0] - faded(x, 2.0, 1 - alpha)[0]


def softmax_cost(x):
    return -(x - x.logsumexp(dim=-1, keepdim=True)).exp()


@torch.no_grad()
def costs(boxes, logits, targets, class_cost, gain, eps):
    """Of shape (layers, images, queries, all targets); the cost of a pair of two images means nothing."""
    apart = (boxes[..., None, :] - targets.boxes).abs().sum(dim=-1)
    terms = {
        "class": class_cost(logits)[..., targets.classes],
        "bbox": apart,
        "giou": giou_loss(boxes[..., None, :], targets.boxes, eps),
    }
    return sum(gain[name] * term for name, term in terms.items()).numpy()


def solved(cost, counts, groups=1):
    """For each layer, and in it for each image, queries and targets; these count through the batch."""
    images = list(zip(counts, np.cumsum(counts), strict=True))
    return [
        [
            of_image(own[:, end - count : end], groups, end - count)
            for own, (count, end) in zip(layer, images, strict=True)
        ]
        for layer in cost
    ]


def of_image(cost, groups, first):
    pairs = [linear_sum_assignment(own) for own in np.split(cost, groups)]
    queries = [own + group * (len(cost) // groups) for group, (own, _) in enumerate(pairs)]
    return np.concatenate(queries), np.concatenate([own for _, own in pairs]) + first


def elected(matchings, queries, targets):
    """The pairs of every layer: each query that any layer matches, with the target that most of them give it."""
    images = []
    for of_layers in zip(*matchings, strict=True):
        votes = np.zeros((queries, targets), dtype=int)
        np.add.at(votes, tuple(np.concatenate(side) for side in zip(*of_layers, strict=True)), 1)
        voters = np.flatnonzero(votes.sum(axis=1))
        images.append((voters, votes[voters].argmax(axis=1) if targets else voters))
    return [images] * len(matchings)
