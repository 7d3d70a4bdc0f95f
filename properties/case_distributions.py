"""The distributions of a case: where the sides of boxes lie, as logits of bins, and the boxes that they start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from detr_conformance.properties.rows import Chosen, ChosenQueries, taken
from detr_conformance.reference.distributions import BINS, SIDES
from detr_conformance.reference.validation import check_array


@dataclass(frozen=True, eq=False)
class Distributions:
    """Distributions of box sides. Those of denoising queries are in `Denoising`.

    The first layer is the encoder's, which has none: what stands there belongs to nobody.

    Attributes:
        pred_corners: logits of every bin, for left, top, right and bottom side, shape (layers, images, queries, 4, 33).
        references: the boxes that all layers start from, in centre form, of sizes above 0, shape (images, queries, 4).
    """

    pred_corners: Float[np.ndarray, "layers images queries 4 33"]
    references: Float[np.ndarray, "images queries 4"]

    def taken(
        self,
        layers: Chosen = None,
        images: Chosen = None,
        queries: ChosenQueries = None,
        targets: Chosen = None,  # noqa: ARG002  # asked of every record
    ) -> Distributions:
        """Only these layers, images and queries, in this order; by default all of them."""
        corners = taken(self.pred_corners, layers, images, queries)
        return Distributions(corners, taken(self.references[None], None, images, queries)[0])

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by the name that it goes by in a loss call."""
        return {"pred_corners": self.pred_corners, "references": self.references}


def check_distributions(name: str, given: Distributions, rows: tuple[int, ...]) -> None:
    """Distributions that fit the rest of a case.

    Args:
        name: what they are called.
        given: the distributions.
        rows: layers, images and queries.

    Raises:
        TypeError, ValueError: they do not; what is wrong is named with its value.
    """
    expected = {"pred_corners": (*rows, SIDES, BINS), "references": (*rows[1:], SIDES)}
    for field, shape in expected.items():
        array = getattr(given, field)
        check_array(f"{name}.{field}", array)
        if array.shape != shape:
            raise ValueError(f"{name}.{field} has shape {array.shape}, expected {shape}")
    wrong = given.references[..., 2:][~(given.references[..., 2:] > 0)]
    if wrong.size or not np.isfinite(given.references).all():
        what = f"the size {wrong[0]}" if wrong.size else "a centre that is not finite"
        raise ValueError(f"{name}.references has a box with {what}, expected finite boxes of sizes above 0")
