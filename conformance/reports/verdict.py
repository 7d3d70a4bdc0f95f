"""What the rules of a run make of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import msgspec

from detr_conformance.properties.verdict_words import VERDICTS, Overall
from detr_conformance.report import Counts, RuleEntry


def counts_of(rules: Collection[RuleEntry]) -> Counts:
    """Number of rules for each verdict."""
    found = Counter(entry.verdict for entry in rules)
    return msgspec.convert({word: found[word] for word in VERDICTS}, Counts)


def overall(rules: Collection[RuleEntry], complete: bool) -> Overall:
    """The verdict of a run; only one that left nothing unjudged can be `conformant`.

    Args:
        rules: those that were judged.
        complete: whether these are all that apply to the port.
    """
    if any(entry.is_broken for entry in rules):
        return "non-conformant"
    return "conformant" if complete and not any(entry.is_missing for entry in rules) else "partial"
