"""The mutants of the museum as attributes of a module, with underscores in their ids."""

from __future__ import annotations

from detr_conformance.mutants import MUSEUM

MUTANTS = {mutant.id.replace("-", "_"): mutant for mutant in MUSEUM}


def __getattr__(name):
    if name in MUTANTS:
        return MUTANTS[name].port
    raise AttributeError(name)
