"""The backend that numba compiles for the CPU."""

from __future__ import annotations

from detr_conformance.optimized.backends.native import assignment, box_gradients, classification, costs, pairs
from detr_conformance.optimized.backends.torch import totals


class NativeBackend:
    """See `backends.protocol`."""

    assign = staticmethod(costs.assign)
    costs = staticmethod(costs.costs)
    solve_stack = staticmethod(assignment.solve_stack)
    matched_terms = staticmethod(pairs.matched_terms)
    class_terms = staticmethod(classification.class_terms)
    scale_layers = staticmethod(classification.scale_layers)
    totals = staticmethod(totals.totals)
    grad_boxes = staticmethod(box_gradients.grad_boxes)
