"""BatchNormalization's averages taken anew: what a cut model is worth before it is trained.

Li et al. 2020 ("EagleEye"): with the averages of the whole model, a cut one looks far worse than it is, and the order
of such figures says little about the order after training; with averages of its own it says much.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any  # Any: keras layers, which have no types

from edgekit.data import Data
from edgekit.loading import LoadedModel, import_keras

BATCH = 64


def recalibrate(loaded: LoadedModel, data: Data) -> None:
    """Set the averages in `loaded`, in place, to the means over these samples."""
    kinds = import_keras().layers
    layers = list(loaded.model._flatten_layers(include_self=False, recursive=True))
    norms = [layer for layer in layers if isinstance(layer, kinds.BatchNormalization)]
    if not norms:
        return
    quiet = [layer for layer in layers if isinstance(layer, kinds.Dropout)]
    for count, start in enumerate(range(0, len(data), BATCH)):
        batch = {name: array[start : start + BATCH] for name, array in data.inputs.items()}
        with ExitStack() as stack:
            for layer in quiet:  # its noise would widen the variances behind it
                stack.enter_context(_set(layer, "rate", 0.0))
            for norm in norms:  # the mean of all batches so far
                stack.enter_context(_set(norm, "momentum", count / (count + 1)))
            loaded.model(loaded.pack(batch), training=True)


@contextmanager
def _set(layer: Any, name: str, value: float) -> Iterator[None]:
    before = getattr(layer, name)
    setattr(layer, name, value)
    try:
        yield
    finally:
        setattr(layer, name, before)
