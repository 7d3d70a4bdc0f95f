"""Classification losses as their papers write them: sums over one-hot labels of every query and class.

`y` is the one-hot label of every query, `q` the same with the IoU in place of the 1.
"""

from __future__ import annotations

from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid


def focal(logits, y, _q, config):
    """Focal loss, arXiv 1708.02002, equation 5; without the balance where alpha is not above 0."""
    wrong = (config.gamma * logsigmoid((1 - 2 * y) * logits)).exp()  # (1 - p_t)^gamma, whose derivative is finite
    terms = binary_cross_entropy_with_logits(logits, y, reduction="none") * wrong
    if config.alpha > 0:
        terms = terms * (config.alpha * y + (1 - config.alpha) * (1 - y))
    return terms.sum()


def varifocal(logits, y, q, config):
    """Varifocal loss, arXiv 2008.13367, equation 2, differentiated through its weight."""
    weight = config.alpha * logits.sigmoid() ** config.gamma * (1 - y) + q
    return (weight * binary_cross_entropy_with_logits(logits, q, reduction="none")).sum()


def varifocal_of_constant_weight(logits, y, q, config):
    """The same with a weight that is a constant."""
    weight = config.alpha * logits.detach().sigmoid() ** config.gamma * (1 - y) + q
    return binary_cross_entropy_with_logits(logits, q, weight=weight, reduction="sum")


def matchability_aware(logits, y, q, config):
    """MAL, arXiv 2412.04234: the target is the IoU to the power of gamma, and a match weighs 1 however bad it is."""
    weight = logits.detach().sigmoid() ** config.gamma * (1 - y) + y
    return binary_cross_entropy_with_logits(logits, q**config.gamma * y, weight=weight, reduction="sum")


def iou_aware(logits, y, q, config):
    """IA-BCE, arXiv 2406.03459: a positive and a negative weight for every query and class."""
    p = logits.sigmoid()
    target = (p.detach() ** config.alpha * q ** (1 - config.alpha)).clamp(min=0.01)
    positive, negative = y * target, y * (1 - target) + (1 - y) * p**config.gamma
    of_one = binary_cross_entropy_with_logits(logits, y.new_ones(y.shape), reduction="none")
    of_zero = binary_cross_entropy_with_logits(logits, y.new_zeros(y.shape), reduction="none")
    return (positive * of_one + negative * of_zero).sum()


def softmax(logits, y, _q, _config):
    """DETR, arXiv 2005.12872, appendix A.4: the mean over all queries, of which no object counts a tenth."""
    weight = logits.new_ones(logits.shape[-1])
    weight[-1] = 0.1
    classes = y.argmax(dim=-1)
    return cross_entropy(logits.flatten(0, 1), classes.flatten(), weight)
