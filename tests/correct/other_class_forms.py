"""The plain loss with the classification losses written in other ways that mean the same."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from .plain_loss import PlainLoss, power


class InLogarithms(PlainLoss):
    """No probability is ever raised to a power: p^gamma = exp(gamma log p)."""

    def cross_entropy(self, logits, score):
        return -score * logsigmoid(logits) - (1 - score) * logsigmoid(-logits)

    def focal(self, logits, label):
        towards = torch.where(label > 0, logits, -logits)
        terms = -torch.exp(self.gamma * logsigmoid(-towards)) * logsigmoid(towards)
        return torch.where(label > 0, self.alpha * terms, (1 - self.alpha) * terms) if self.alpha > 0 else terms

    def varifocal(self, logits, label, score):
        weight = torch.where(label > 0, score, self.alpha * torch.exp(self.gamma * logsigmoid(logits)))
        return weight * self.cross_entropy(logits, score)


class ByProbabilityOfTruth(PlainLoss):
    """p_t as in the paper, from the cross-entropy: p_t = exp(-BCE)."""

    def focal(self, logits, label):
        entropy = self.cross_entropy(logits, label)
        terms = power(1 - torch.exp(-entropy), self.gamma) * entropy
        return (label * self.alpha + (1 - label) * (1 - self.alpha)) * terms if self.alpha > 0 else terms

    def varifocal(self, logits, label, score):
        p = 0.5 + 0.5 * torch.tanh(logits / 2)
        weight = score + (1 - label) * self.alpha * power(p, self.gamma)
        return self.cross_entropy(logits, score) * weight
