"""The backend of Triton's kernels."""

from __future__ import annotations

from functools import partial

from detr_conformance.optimized.backends.by_costs import assigned
from detr_conformance.optimized.backends.triton import assignment, box_gradients, classification, costs, pairs, totals


class TritonBackend:
    """See `backends.protocol`."""

    assign = staticmethod(partial(assigned, costs.costs, assignment.solve_stack))
    costs = staticmethod(costs.costs)
    solve_stack = staticmethod(assignment.solve_stack)
    matched_terms = staticmethod(pairs.matched_terms)
    class_terms = staticmethod(classification.class_terms)
    scale_layers = staticmethod(classification.scale_layers)
    totals = staticmethod(totals.totals)
    grad_boxes = staticmethod(box_gradients.grad_boxes)
