"""What failures have in common, so far as one can say without explaining them: then what is done for one is enough."""

from __future__ import annotations

import re

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.place import Raised

Kind = tuple[str, ...]

LOSS = re.compile(r"\bloss_(?!gain)[a-z]+")
"""The loss that a message is about; what layers and denoising add to its name is left out."""
MISSING = "the port returned no "


def kind_of(message: str, raised: Raised | None, answered: bool) -> Kind | None:
    """What a failure has in common with others: a line of the port, a loss, that losses are missing, or its message.

    Args:
        message: of the failure.
        raised: what the port raised, if that is why.
        answered: whether the port gave an answer, which is wrong.

    Returns:
        A kind; None where the failure is like no other.
    """
    if raised is not None:
        return "exception", raised.type, raised.place or raised.message
    if not answered:
        return "message", re.sub(r"\d[\d.,]*", "", message)
    if MISSING in message:
        return ("missing",)
    loss = LOSS.search(message)
    return ("loss", loss[0]) if loss else None


class SmallCases:
    """The cases that were made small, one for each kind of failure.

    To make a case small takes most of the time of a port that breaks many rules, and most of those for one reason.
    """

    def __init__(self) -> None:
        """Nothing has failed yet."""
        self._cases: dict[Kind, LossCase] = {}

    def of(self, kind: Kind | None) -> LossCase | None:
        """The small case of a kind; None if there is none yet."""
        return None if kind is None else self._cases.get(kind)

    def keep(self, kind: Kind | None, case: LossCase) -> None:
        """Keep the first of each kind."""
        if kind is not None:
            self._cases.setdefault(kind, case)
