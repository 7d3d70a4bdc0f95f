"""The deviations of the museum as attributes of a module, with underscores in their ids."""

from __future__ import annotations

from detr_conformance.deviations import MUSEUM

DEVIATIONS = {deviation.id.replace("-", "_"): deviation for deviation in MUSEUM}


def __getattr__(name):
    if name in DEVIATIONS:
        return DEVIATIONS[name].port
    raise AttributeError(name)
