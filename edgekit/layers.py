"""The layers of a Keras model, flattened, as facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any  # Any: keras layers, which have no types

import numpy as np

from edgekit.conversion import Layer


def keras_layers(model: Any) -> Iterator[Layer]:
    """One Layer for each Keras layer, nested models flattened; sparsity counts kernels and embeddings, not biases."""
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if getattr(layer, "_layers", None):
            continue
        weights = [np.asarray(weight) for weight in layer.weights]
        tables = [weight for weight in weights if weight.ndim >= 2]
        zeros = sum(int((table == 0).sum()) for table in tables)
        size = sum(table.size for table in tables)
        yield Layer(
            name=layer.name,
            type=type(layer).__name__,
            bytes=sum(weight.nbytes for weight in weights),
            precision=str(layer.compute_dtype),
            sparsity=zeros / size if size else None,
        )
