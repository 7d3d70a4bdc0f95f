"""The mutants of the museum as attributes of a module, with underscores in their ids."""

from __future__ import annotations

import re

from detr_conformance.mutants import MUSEUM


def attribute_of(mutant_id):
    """The id as a name in Python."""
    return re.sub(r"\W", "_", mutant_id)


MUTANTS = {attribute_of(mutant.id): mutant for mutant in MUSEUM}


def __getattr__(name):
    if name in MUTANTS:
        return MUTANTS[name].port
    raise AttributeError(name)
