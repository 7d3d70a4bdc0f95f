"""Rows of predictions: some of the layers, images and queries of an array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

Chosen = Sequence[int] | Int[np.ndarray, " chosen"] | None
"""Indices; None for all of them."""
ChosenQueries = Chosen | Int[np.ndarray, "images own"]
"""Indices, or for each image some of its own."""


def taken(
    predictions: Float[np.ndarray, "layers images queries *rest"],
    layers: Chosen = None,
    images: Chosen = None,
    queries: ChosenQueries = None,
) -> Float[np.ndarray, "_layers _images _queries *rest"]:
    """Only these layers, images and queries, in this order; by default all of them.

    Args:
        predictions: of all of them.
        layers: indices of layers.
        images: of images.
        queries: of queries.
    """
    for axis, chosen in enumerate((layers, images)):
        if chosen is not None:
            predictions = np.take(predictions, np.asarray(chosen, dtype=np.int64), axis=axis)
    if queries is None:
        return predictions
    order = np.asarray(queries, dtype=np.int64)
    if order.ndim == 1:
        return np.take(predictions, order, axis=2)
    return np.take_along_axis(predictions, order.reshape(1, *order.shape, *[1] * (predictions.ndim - 3)), axis=2)
