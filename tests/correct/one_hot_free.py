"""The plain loss without labels of the logits' shape: background for all of them, and matched entries put in place."""

from __future__ import annotations

from torch.nn.functional import logsigmoid

from .plain_loss import PlainLoss, power


class OneHotFree(PlainLoss):
    """Logits are read once for the background term; only the matched ones are gathered."""

    def class_loss(self, logits, address, scores):
        number, matched = len(scores), logits[address]
        kind = "bce" if not self.use_fl else "varifocal" if self.use_vfl and number else "focal"
        background = self.background(logits, kind)
        terms = background.index_put(address, self.foreground(matched, scores.to(logits.dtype), kind))
        return self.total(terms) / (logits.shape[1] if kind == "bce" else max(number, 1))

    def background(self, x, kind):
        if kind == "bce":
            return -logsigmoid(-x)
        share = self.alpha if kind == "varifocal" else 1 - self.alpha if self.alpha > 0 else 1
        return share * power(x.sigmoid(), self.gamma) * -logsigmoid(-x)

    def foreground(self, x, score, kind):
        if kind == "focal":
            share = self.alpha if self.alpha > 0 else 1
            return share * power((-x).sigmoid(), self.gamma) * -logsigmoid(x)
        entropy = (1 - score) * x - logsigmoid(x)
        return score * entropy if kind == "varifocal" else entropy
